"""CalicoNodeStatus: who asks gets this node's status, in Calico's words, as often as asked."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent.node_status import NodeStatusWriter, report
from bgpd.datastore import Conflict, Datastore, Unavailable, open_datastore
from bgpd.resources import CalicoNodeStatus, Key, load_documents, to_document
from bgpd.resources.node_status import NodeStatusReport
from tests.telemetry.source import Source, peer


def request(
    name: str, node: str = "node-a", period: int = 1, classes: str = "[Agent, BGP, Routes]"
) -> CalicoNodeStatus:
    text = (
        "apiVersion: projectcalico.org/v3\nkind: CalicoNodeStatus\n"
        f"metadata: {{name: {name}, annotations: {{mine: kept}}}}\n"
        f"spec: {{node: {node}, classes: {classes}, updatePeriodSeconds: {period}}}\n"
    )
    [found] = load_documents(text, "test")
    assert isinstance(found, CalicoNodeStatus)
    return found


@pytest.fixture
def source() -> Source:
    source = Source()
    source.peer_list = [
        peer("rr1", kind="global"),
        peer("node-b", "ACTIVE", kind="mesh", address="10.0.0.7"),
        peer("six", "OPENSENT", kind="node", address="2001:db8::1"),
    ]
    return source


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Datastore]:
    store = open_datastore(str(tmp_path / "store"), {})
    yield store
    await store.close()


@asynccontextmanager
async def writing(store: Datastore, source: Source) -> AsyncIterator[None]:
    task = asyncio.create_task(NodeStatusWriter(store, source, "node-a", clock=lambda: 1110.0).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def status_of(store: Datastore, name: str) -> CalicoNodeStatus:
    entry = await store.get(Key("CalicoNodeStatus", name))
    assert entry is not None
    assert isinstance(entry.resource, CalicoNodeStatus)
    return entry.resource


async def until(store: Datastore, name: str, wanted: Callable[[NodeStatusReport], bool]) -> CalicoNodeStatus:
    async with asyncio.timeout(20):
        while True:
            found = await status_of(store, name)
            if found.status is not None and wanted(found.status):
                return found
            await asyncio.sleep(0.02)


async def answered(store: Datastore, name: str) -> CalicoNodeStatus:
    return await until(store, name, lambda _: True)


def is_unwell(status: NodeStatusReport) -> bool:
    daemon = status.agent.bird_v4 if status.agent else None
    return daemon is not None and daemon.state == "NotReady"


def test_the_words_are_calicos(source: Source) -> None:
    status = report(source, ("Agent", "BGP", "Routes"), 1110.0)
    document = status.model_dump(by_alias=True, exclude_none=True)
    assert document["lastUpdated"] == "1970-01-01T00:18:30.000Z"
    assert document["agent"]["birdV4"] == {
        "state": "Ready",
        "version": "cairn 1.2.3",
        "routerID": "10.0.0.1",
        "lastBootTime": "1970-01-01T00:16:40.000Z",
        "lastReconfigurationTime": "1970-01-01T00:16:40.000Z",
    }
    bgp = document["bgp"]
    assert (bgp["numberEstablishedV4"], bgp["numberNotEstablishedV4"]) == (1, 1)
    assert (bgp["numberEstablishedV6"], bgp["numberNotEstablishedV6"]) == (0, 1)
    assert [each["type"] for each in bgp["peersV4"]] == ["GlobalPeer", "NodeMesh"]
    assert bgp["peersV6"][0]["state"] == "OpenSent"
    assert document["routes"]["routesV4"][0] == {
        "type": "FIB",
        "destination": "10.1.0.0/26",
        "gateway": "10.0.0.2",
        "learnedFrom": {"sourceType": "BGPPeer", "peerIP": "10.0.0.2"},
    }
    only = report(source, ("BGP",), 1110.0).model_dump(exclude_none=True)
    assert set(only) == {"lastUpdated", "bgp"}


async def test_only_requests_for_this_node_are_answered(store: Datastore, source: Source) -> None:
    await store.create(request("mine"))
    await store.create(request("others", node="node-b"))
    await store.create(request("never", period=0))
    async with writing(store, source):
        found = await answered(store, "mine")
        await store.create(request("later", classes="[Agent]"))
        later = await answered(store, "later")
    assert to_document(found)["metadata"]["annotations"] == {"mine": "kept"}
    assert later.status is not None
    assert later.status.bgp is None
    assert (await status_of(store, "others")).status is None
    assert (await status_of(store, "never")).status is None


async def test_it_is_written_again_and_an_edit_is_not_lost(store: Datastore, source: Source) -> None:
    await store.create(request("mine"))
    async with writing(store, source):
        await answered(store, "mine")
        source.health = (False, "exabgp does not answer")
        await until(store, "mine", is_unwell)
        edited = request("mine", period=3600, classes="[BGP]")
        while True:
            entry = await store.get(Key("CalicoNodeStatus", "mine"))
            assert entry is not None
            try:
                await store.update(edited, entry.revision)
            except Conflict:
                continue
            break
        found = await until(store, "mine", lambda status: status.agent is None and status.bgp is not None)
    assert found.spec == edited.spec


async def test_a_deleted_request_stays_deleted(store: Datastore, source: Source) -> None:
    await store.create(request("mine"))
    async with writing(store, source):
        await answered(store, "mine")
        await store.delete(Key("CalicoNodeStatus", "mine"))
        await asyncio.sleep(2.5)
        assert await store.get(Key("CalicoNodeStatus", "mine")) is None


async def test_why_it_cannot_be_written_is_said_once(
    store: Datastore, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And again when it could be written in between."""
    tries = asyncio.Semaphore(0)

    async def refuse(*_: object) -> None:
        tries.release()
        raise Unavailable("no room")

    await store.create(request("mine"))
    with capture_logs() as logs:
        async with writing(store, source):
            for times in (1, 2):
                with monkeypatch.context() as patch:
                    patch.setattr(store, "update", refuse)
                    for _ in range(2):
                        await tries.acquire()
                assert [entry["reason"] for entry in logs] == ["no room"] * times
                source.health = (times == 2, "exabgp does not answer")
                await until(store, "mine", is_unwell if times == 1 else lambda status: not is_unwell(status))
