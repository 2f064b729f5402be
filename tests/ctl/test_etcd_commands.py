"""The resource commands on a real etcd, named in every way an operator may name it."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bgpd.datastore import Create
from bgpd.resources import load_documents
from ctl import state
from ctl.exits import Failure
from tests.ctl.cairn import cairn
from tests.ctl.test_trial import on_trial
from tests.datastore.etcd_server import Etcd, Relay

pytestmark = pytest.mark.etcd
POOL = """\
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: default-ipv4-ippool}
spec: {cidr: 10.77.0.0/16}
"""


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    server = Etcd(tmp_path / "etcd")
    server.start()
    yield server
    server.kill()


def test_apply_get_delete_at_calicos_keys(etcd: Etcd) -> None:
    location = f"etcd://127.0.0.1:{etcd.port}"
    applied = cairn("apply", "-f", "-", "--datastore", location, stdin=POOL)
    assert applied.code == 0, applied.err
    stored = subprocess.run(
        ["etcdctl", f"--endpoints=127.0.0.1:{etcd.port}", "get", "--prefix", "--keys-only", "/calico"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert stored == ["/calico/resources/v3/projectcalico.org/ippools/default-ipv4-ippool"]

    for environment in (
        {"CAIRN_DATASTORE": location},
        {"ETCD_ENDPOINTS": f"http://127.0.0.1:{etcd.port}", "DATASTORE_TYPE": "etcdv3"},
    ):
        got = cairn("get", "pools", "-o", "json", environment=environment)
        assert got.code == 0, got.err
        assert [item["spec"]["cidr"] for item in got.json["items"]] == ["10.77.0.0/16"]

    deleted = cairn("delete", "ippool", "default-ipv4-ippool", "--datastore", location)
    assert deleted.code == 0, deleted.err
    assert cairn("get", "pools", "-o", "json", "--datastore", location).json["items"] == []


def test_the_version_of_a_resource_is_that_of_its_key(etcd: Etcd, tmp_path: Path) -> None:
    """So that what calicoctl has read can be applied here, and the other way round."""
    location = f"etcd://127.0.0.1:{etcd.port}"
    cairn("apply", "-f", "-", "--datastore", location, stdin=POOL)
    read = cairn("get", "pool", "default-ipv4-ippool", "-o", "yaml", "--datastore", location).out
    key = "/calico/resources/v3/projectcalico.org/ippools/default-ipv4-ippool"
    [found] = json.loads(etcd.control("get", key, "-w", "json").stdout)["kvs"]
    assert f"resourceVersion: '{found['mod_revision']}'" in read.replace('"', "'")
    changed = tmp_path / "changed.yaml"
    changed.write_text(read.replace("spec:", "spec:\n  natOutgoing: true"))
    assert cairn("apply", "-f", changed, "--datastore", location).code == 0
    changed.write_text(read.replace("spec:", "spec:\n  natOutgoing: false"))
    trial = ("--confirm-within", "60s")
    for words in ((), trial):
        refused = cairn("apply", "-f", changed, "--datastore", location, *words, stdin="yes\n")
        assert (refused.code, "IPPool default-ipv4-ippool was changed" in refused.err) == (1, True), refused
    changed.write_text(POOL)
    assert cairn("apply", "-f", changed, "--datastore", location, *trial, stdin="yes\n").code == 0


async def test_more_changes_than_one_transaction_takes_go_in_several(etcd: Etcd, tmp_path: Path) -> None:
    location = f"etcd://127.0.0.1:{etcd.port}"
    peer = "kind: BGPPeer\napiVersion: projectcalico.org/v3\nmetadata: {name: p%03d}\nspec: %s\n"
    spec = "{peerIP: 192.0.2.1, asNumber: 65001}"
    many = tmp_path / "many.yaml"
    many.write_text("---\n".join(peer % (number, spec) for number in range(200)))
    refused = cairn("apply", "-f", many, "--confirm-within", "60s", "--datastore", location, stdin="yes\n")
    assert (refused.code, "200 writes do not fit one transaction" in refused.err) == (4, True), refused
    for words, told in ((("apply",), "200 created"), (("delete", "--yes"), "deleted: 200")):
        done = cairn(*words, "-f", many, "--datastore", location)
        assert (done.code, told in done.out) == (0, True), done
    [there, *others] = load_documents(many.read_text(), "many")
    async with state.opened(location) as store:
        await store.create(there)
        with pytest.raises(Failure, match="128 earlier writes") as failure, state.failures():
            await state.commit(store, [*map(Create, others), Create(there)])
    assert "what was written stays" in failure.value.remedy


def test_what_cannot_be_read_is_replaced_or_deleted(etcd: Etcd) -> None:
    location = f"etcd://127.0.0.1:{etcd.port}"
    key = "/calico/resources/v3/projectcalico.org/ippools/default-ipv4-ippool"
    for verb in ("apply", "delete"):
        subprocess.run(
            ["etcdctl", f"--endpoints=127.0.0.1:{etcd.port}", "put", key, '{"kind": "IPPool", "spec": {}}'],
            check=True, capture_output=True,
        )  # fmt: skip
        assert cairn("diff", "-q", "-f", "-", "--datastore", location, stdin=POOL).code == 1
        done = cairn(verb, "-f", "-", "--datastore", location, stdin=POOL)
        assert done.code == 0, done
        assert f"not readable: {key}" in done.err
        got = cairn("get", "pools", "-o", "json", "--datastore", location)
        assert (got.err, len(got.json["items"])) == ("", verb == "apply")


AFFINITY = """\
apiVersion: projectcalico.org/v3
kind: BlockAffinity
metadata: {name: node-1-10-77-1-0-26}
spec: {node: node-1, cidr: 10.77.1.0/26, state: %s}
"""


def test_a_change_on_trial_is_taken_back_as_it_was(etcd: Etcd, tmp_path: Path) -> None:
    location = f"etcd://127.0.0.1:{etcd.port}"
    first = cairn("apply", "-f", "-", "--datastore", location, stdin=AFFINITY % "confirmed")
    assert first.code == 0, first.err
    file = tmp_path / "change.yaml"
    file.write_text(f"{AFFINITY % 'pending'}---\n{POOL}")
    refused = cairn("apply", "-f", file, "--datastore", location, "--confirm-within", "60s", stdin="no\n")
    assert (refused.code, "everything was taken back" in refused.err) == (1, True), refused
    got = cairn("get", "affinities", "-o", "json", "--datastore", location)
    assert [item["spec"]["state"] for item in got.json["items"]] == ["confirmed"]
    assert cairn("get", "pools", "-o", "json", "--datastore", location).json["items"] == []


def test_a_change_on_trial_is_taken_back_when_etcd_is_there_again(etcd: Etcd, tmp_path: Path) -> None:
    file = tmp_path / "change.yaml"
    file.write_text(POOL)
    location = f"etcd://127.0.0.1:{etcd.port}"
    process = on_trial(location, file)
    etcd.kill()
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write("no\n")
    process.stdin.flush()
    assert "taken back as soon as the datastore answers" in process.stderr.readline()
    etcd.start()
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, "everything was taken back" in errors) == (1, True), errors
    assert cairn("get", "pools", "-o", "json", "--datastore", location).json["items"] == []


class LosesOneAnswer(Relay):
    """Breaks the connection once etcd has carried out the first write of a pool, before it can say so."""

    def __init__(self, etcd: Etcd) -> None:
        super().__init__(etcd.port)
        self.lost = False
        self._etcd = etcd
        self._written = False

    def _has_it(self) -> bool:
        return "10.77.0.0/16" in self._etcd.control("get", "--prefix", "/calico").stdout

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, open: asyncio.Event
    ) -> None:
        forth = open is self._open
        while data := await reader.read(65536):
            self._written |= forth and b"10.77.0.0/16" in data
            if not forth and self._written and not self.lost:
                while not await asyncio.to_thread(self._has_it):  # noqa: ASYNC110 - etcd sets no event
                    await asyncio.sleep(0.01)
                self.lost = True
                break
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError


async def test_a_change_on_trial_that_etcd_did_not_confirm_is_taken_back(etcd: Etcd, tmp_path: Path) -> None:
    relay = LosesOneAnswer(etcd)
    await relay.start()
    file = tmp_path / "change.yaml"
    file.write_text(POOL)
    words = ("apply", "-f", file, "--datastore", f"etcd://127.0.0.1:{relay.port}", "--confirm-within", "60s")
    try:
        done = await asyncio.to_thread(cairn, *words, stdin="yes\n")
    finally:
        await relay.stop()
    assert relay.lost
    assert (done.code, "it is taken back" in done.err, "nothing was applied" in done.err) == (
        3,
        True,
        True,
    ), done.err
    location = f"etcd://127.0.0.1:{etcd.port}"
    assert cairn("get", "pools", "-o", "json", "--datastore", location).json["items"] == []


def test_an_etcd_that_goes_away_is_exit_3(etcd: Etcd) -> None:
    etcd.kill()
    gone = cairn("get", "pools", "--datastore", f"etcd://127.0.0.1:{etcd.port}")
    assert (gone.code, str(etcd.port) in gone.err) == (3, True)
