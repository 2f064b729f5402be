"""Reflectors of an elected cluster, each following one store: who runs is a candidate, and the role moves."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from bgpd.datastore import open_datastore
from bgpd.rib.path import SourceKind
from reflector.config import ReflectorConfig
from reflector.following import Following
from reflector.spec import ReflectorSpec

DECLARED = """\
apiVersion: cairn.dev/v1
kind: CairnConfiguration
metadata: {name: default}
spec: {reflectors: {count: 2, nodeSelector: has(rr), clusterID: 244.0.0.5}}
"""
NODE = """\
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: %s, labels: {%s}}
spec: {bgp: {ipv4Address: 10.0.0.%d/24}}
"""


class Running:
    """A reflector's following, and the last spec it carried out."""

    def __init__(self, store: Path, node: str) -> None:
        config = ReflectorConfig.model_validate({"datastore": str(store), "node": node})
        self.spec: ReflectorSpec | None = None
        self.times, self.refusing = 0, False
        self.refused: list[str] = []
        self.following = Following(config, {}, self._carry_out, self.refused.append)

    def _carry_out(self, spec: ReflectorSpec) -> None:
        self.times += 1
        if self.refusing:
            raise ValueError("not now")
        self.spec = spec

    @property
    def clients(self) -> set[str]:
        peers = self.spec.peers if self.spec is not None else ()
        return {str(peer.network.network_address) for peer in peers if peer.member.kind is SourceKind.CLIENT}


@asynccontextmanager
async def running(store: Path, node: str) -> AsyncIterator[Running]:
    it = Running(store, node)
    task = asyncio.create_task(it.following.run())
    try:
        yield it
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await it.following.close()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110  the store is polled by its own reader; there is no event to wait for
            await asyncio.sleep(0.05)


def declare(store: Path) -> None:
    (store / "cairn.yaml").write_text(DECLARED)
    for host, name in enumerate(("n1", "n2"), start=1):
        (store / f"{name}.yaml").write_text(NODE % (name, "", host))
    for host, name in enumerate(("r1", "r2", "r3"), start=11):
        (store / f"{name}.yaml").write_text(NODE % (name, 'rr: ""', host))


async def test_those_that_run_are_elected_and_the_role_moves_with_an_orderly_end(tmp_path: Path) -> None:
    declare(tmp_path)
    async with running(tmp_path, "r1") as r1, running(tmp_path, "r2") as r2:
        # Both live candidates are elected; the third, which nobody runs, is their client.
        await until(lambda: r1.clients == r2.clients == {"10.0.0.1", "10.0.0.2", "10.0.0.13"})
        assert r1.spec is not None
        assert r1.spec.speaker.cluster_id == bytes((244, 0, 0, 5))
        async with running(tmp_path, "r3") as r3:
            await until(lambda: sum(bool(each.clients) for each in (r1, r2, r3)) == 2)
            await until(lambda: r3.spec is not None)
        # r3 let its lease go at once, so the first two have the role again.
        await until(lambda: r1.clients == r2.clients == {"10.0.0.1", "10.0.0.2", "10.0.0.13"})
    assert not r1.refused + r2.refused + r3.refused


async def test_a_node_that_was_alive_and_is_not_is_dead_and_one_that_never_was_is_not(tmp_path: Path) -> None:
    declare(tmp_path)
    store = open_datastore(str(tmp_path), {})
    async with running(tmp_path, "r1") as r1:
        hold = await store.hold("n1", 60.0)
        await until(lambda: r1.spec is not None and "10.0.0.2" in r1.spec.absent)
        assert r1.spec is not None
        assert not r1.spec.dead
        await hold.release()
        await until(lambda: r1.spec is not None and r1.spec.dead == {"10.0.0.1"})
        hold = await store.hold("n1", 60.0)
        await until(lambda: r1.spec is not None and not r1.spec.dead)
        await hold.release()
        await until(lambda: r1.spec is not None and r1.spec.dead == {"10.0.0.1"})
        (tmp_path / "n1.yaml").unlink()
        await until(lambda: "10.0.0.1" not in r1.clients)
        (tmp_path / "n1.yaml").write_text(NODE % ("n1", "", 1))  # it may run another speaker now
        await until(lambda: "10.0.0.1" in r1.clients)
        assert not r1.spec.dead
    await store.close()


async def test_what_changes_nothing_of_the_reflector_is_not_carried_out(tmp_path: Path) -> None:
    declare(tmp_path)
    labelled = tmp_path / "n1.yaml"
    async with running(tmp_path, "r1") as r1:
        await until(lambda: r1.spec is not None and len(r1.clients) == 3)
        assert r1.spec is not None
        before, times = r1.spec, r1.times
        labelled.write_text(NODE % ("n1", "touched: one", 1))
        (tmp_path / "n2.yaml").write_text(NODE % ("n2", "", 3))
        await until(lambda: "10.0.0.3" in r1.clients)
        assert r1.times == times + 1
        former = {id(peer) for peer in before.peers}
        assert [peer.name for peer in r1.spec.peers if id(peer) not in former] == ["Elected_10_0_0_3"]
        r1.refusing = True
        (tmp_path / "n2.yaml").write_text(NODE % ("n2", "", 4))
        await until(lambda: bool(r1.refused))
        r1.refusing = False
        labelled.write_text(NODE % ("n1", "touched: two", 1))  # and what was refused is tried again
        await until(lambda: "10.0.0.4" in r1.clients)


PROTECTED = """\
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata: {name: default}
spec: {nodeMeshPassword: {secretKeyRef: {name: mesh, key: password}}}
"""


async def test_without_its_password_a_session_is_left_out_and_with_it_it_comes(tmp_path: Path) -> None:
    store, secret = tmp_path / "store", tmp_path / "secrets" / "mesh" / "password"
    store.mkdir()
    secret.parent.mkdir(parents=True)
    declare(store)
    (store / "bgp.yaml").write_text(PROTECTED)
    async with running(store, "r1") as r1:
        r1.following.config = r1.following.config.model_copy(update={"secrets": tmp_path / "secrets"})
        await until(lambda: r1.spec is not None and "mesh/password is nowhere" in str(r1.following.problems))
        assert r1.clients == set()
        await asyncio.to_thread(secret.write_text, "s3cret\n")
        await until(lambda: len(r1.clients) == 3)  # all but the second reflector, which nobody runs
        assert r1.spec is not None
        assert {peer.password for peer in r1.spec.peers} == {"s3cret"}
        assert "s3cret" not in f"{r1.spec}{r1.following.problems}{r1.following.plan()}"
        await asyncio.to_thread(secret.write_text, "another\n")
        await until(lambda: r1.spec is not None and {peer.password for peer in r1.spec.peers} == {"another"})
        await asyncio.to_thread(secret.unlink)
        await asyncio.sleep(3)
        assert {peer.password for peer in r1.spec.peers} == {"another"}
