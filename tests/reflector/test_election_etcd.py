"""An elected cluster for real: leases in etcd, reflectors as processes, a client that follows the plan.

What the election promises is watched the whole time: the client, which does what its plan says and nothing
else, is never without an established session with a reflector (make before break).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from bgpd.datastore import Changes, Interests, Snapshot
from bgpd.datastore.etcd_store import EtcdStore
from bgpd.plan import plan_node
from bgpd.resources import ResourceSet, load_documents
from tests.datastore.etcd_server import Etcd
from tests.reflector.clients import PATIENCE, Client
from tests.reflector.test_process import Program

pytestmark = pytest.mark.etcd

ADDRESSES = {"n1": "127.0.0.2", "r1": "127.0.0.21", "r2": "127.0.0.22", "r3": "127.0.0.23"}
ELECTION = """\
apiVersion: cairn.dev/v1
kind: CairnConfiguration
metadata: {name: default}
spec: {reflectors: {count: 2, nodeSelector: has(rr)}}
"""
NODE = """\
---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: %s, labels: {%s}}
spec: {bgp: {ipv4Address: %s/24, asNumber: 64512}}
"""


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    server = Etcd(tmp_path / "etcd")
    server.start()
    yield server
    server.kill()


class Follower:
    """Node n1: a session with every reflector its plan names, begun and ended as the plan changes."""

    def __init__(self, programs: dict[str, Program]) -> None:
        self._programs = programs
        self.clients: dict[str, Client] = {}
        self.changed = asyncio.Event()
        self._resources = ResourceSet.of()

    async def follow(self, store: EtcdStore) -> None:
        interests = Interests(frozenset({"Node", "NodeLease", "CairnConfiguration"}))
        async with aclosing(store.watch(interests)) as updates:
            async for update in updates:
                if isinstance(update, Snapshot):
                    self._resources = ResourceSet.of(entry.resource for entry in update.entries)
                elif isinstance(update, Changes):
                    self._resources = self._resources.with_changes(
                        {c.key: c.entry.resource if c.entry else None for c in update.changes}
                    )
                self.changed.set()

    async def carry_out(self) -> None:
        """Go by the newest plan, and begin again what is down."""
        while True:
            wanted: set[str] = set()
            if "n1" in self._resources.nodes:
                wanted = {str(peering.peer_node) for peering in plan_node(self._resources, "n1").peerings}
            for name in self.clients.keys() - wanted:
                await self.clients.pop(name).close()
            for name in sorted(wanted):
                client = self.clients.get(name)
                if client is None or (not client.established and client.closed is not None):
                    await self._begin(name)
            self.changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.changed.wait(), 0.2)

    async def _begin(self, name: str) -> None:
        client = Client(0, self._programs[name].port, asn=64512)
        client.config = replace(client.config, hold_time=0)  # it says nothing by itself
        with contextlib.suppress(OSError, TimeoutError):
            await client.connect()
            client.begin()
            self.clients[name] = client

    @property
    def up(self) -> dict[str, Client]:
        return {name: client for name, client in self.clients.items() if client.established}


async def until_up(follower: Follower, wanted: set[str]) -> None:
    async with asyncio.timeout(PATIENCE):
        while set(follower.up) != wanted:  # noqa: ASYNC110  sessions are seen from outside
            await asyncio.sleep(0.02)


@asynccontextmanager
async def cluster(etcd: Etcd, folder: Path) -> AsyncIterator[tuple[Follower, dict[str, Program]]]:
    store = EtcdStore(etcd.options())
    text = ELECTION + "".join(
        NODE % (name, "rr: ''" if name.startswith("r") else "", address)
        for name, address in ADDRESSES.items()
    )
    for resource in load_documents(text, "cluster.yaml"):
        await store.create(resource)
    programs: dict[str, Program] = {}
    for name in ("r1", "r2", "r3"):
        (folder / name).mkdir()
        programs[name] = Program(folder / name)
        listen = {"address": "127.0.0.1", "port": 0}
        document = {"datastore": f"etcd://127.0.0.1:{etcd.port}", "node": name, "listen": listen}
        programs[name].configure(yaml.safe_dump(document))
    await asyncio.gather(*(program.start() for program in programs.values()))
    follower = Follower(programs)
    tasks = [asyncio.create_task(follower.follow(store)), asyncio.create_task(follower.carry_out())]
    try:
        yield follower, programs
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in follower.clients.values():
            await client.close()
        for program in programs.values():
            await program.stop()
        await store.close()


async def test_a_node_is_never_without_a_reflector(etcd: Etcd, tmp_path: Path) -> None:
    async with cluster(etcd, tmp_path) as (follower, programs):
        async with asyncio.timeout(PATIENCE):
            while len(follower.up) != 2:  # noqa: ASYNC110  sessions are seen from outside
                await asyncio.sleep(0.02)
        await asyncio.sleep(2)  # all three have shown themselves alive, whoever was first
        first = set(follower.up)
        assert len(first) == 2
        gaps: list[float] = []

        async def watch() -> None:
            while True:
                if not follower.up:
                    gaps.append(asyncio.get_running_loop().time())
                await asyncio.sleep(0.005)

        watching = asyncio.create_task(watch())
        dead, staying = sorted(first)
        kept = follower.up[staying]
        process = programs[dead].process
        assert process is not None
        process.kill()
        (third,) = {"r1", "r2", "r3"} - first
        await until_up(follower, {staying, third})  # the lease ran out, and the next has the role
        programs[dead].port = 0
        await programs[dead].start()
        await until_up(follower, first)  # whose place it is has it again
        watching.cancel()
        assert gaps == []
        assert follower.up[staying] is kept  # never touched
