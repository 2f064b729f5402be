"""The same suite for every store: what `store.Datastore` promises."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random

import pytest

from bgpd.datastore import (
    Changes,
    Conflict,
    Create,
    Datastore,
    DatastoreError,
    Delete,
    Interests,
    TooLarge,
    Update,
    Write,
    open_datastore,
)
from bgpd.resources import Key, Resource, endpoint_name, load_documents
from tests.datastore.etcd_server import FAST, Etcd, needs_etcd
from tests.datastore.follower import following, node


@pytest.fixture(params=[pytest.param("etcd", marks=needs_etcd), "directory"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "directory":
        yield str(tmp_path / "resources")
        return
    etcd = Etcd(tmp_path / "data")
    etcd.start()
    yield f"etcd://{etcd.endpoint}"
    etcd.kill()


@pytest.fixture
async def store(location: str) -> AsyncIterator[Datastore]:
    store = open_datastore(location, {}, timing=FAST)
    yield store
    await store.close()


@pytest.fixture
async def other(location: str) -> AsyncIterator[Datastore]:
    """Another client of the same store."""
    store = open_datastore(location, {}, timing=FAST)
    yield store
    await store.close()


def endpoint(node: str, pod: str, namespace: str = "default") -> Resource:
    name = endpoint_name(node, "k8s", pod, "eth0")
    text = (
        "{apiVersion: projectcalico.org/v3, kind: WorkloadEndpoint, "
        f"metadata: {{name: {name}, namespace: {namespace}}}, "
        f"spec: {{orchestrator: k8s, node: {node}, pod: {pod}, endpoint: eth0, ipNetworks: [10.1.0.5/32], "
        "interfaceName: cali1}}"
    )
    (resource,) = load_documents(text, "test")
    return resource


def affinity(node: str, cidr: str) -> Resource:
    text = "{apiVersion: projectcalico.org/v3, kind: BlockAffinity, "
    text += f"spec: {{node: {node}, cidr: {cidr}, state: confirmed}}}}"
    (resource,) = load_documents(text, "test")
    return resource


async def test_create_get_update_delete(store: Datastore) -> None:
    key = Key("Node", "a")
    await store.create(node("seed"))
    assert await store.get(key) is None
    created = await store.create(node("a"))
    assert await store.get(key) == created
    with pytest.raises(Conflict) as twice:
        await store.create(node("a"))
    assert (twice.value.expected, twice.value.found) == (None, created.revision)
    updated = await store.update(node("a", "10.0.0.2/24"), created.revision)
    assert updated.revision != created.revision
    assert (await store.get(key)) == updated
    with pytest.raises(Conflict, match="changed by somebody else"):
        await store.update(node("a", "10.0.0.3/24"), created.revision)
    with pytest.raises(Conflict):
        await store.delete(key, created.revision)
    assert (await store.get(key)) == updated
    assert await store.delete(key, updated.revision) is True
    assert await store.get(key) is None
    assert await store.delete(key) is False
    with pytest.raises(Conflict, match="does not exist any more"):
        await store.update(node("a"), updated.revision)


async def test_commit_is_all_or_nothing(store: Datastore, other: Datastore) -> None:
    first = await store.create(node("a"))
    second = await store.create(node("b"))
    async with following(other) as follower:
        good = node("a", "10.0.0.9/24")
        with pytest.raises(Conflict) as conflict:
            await store.commit([Update(good, first.revision), Create(node("c")), Create(node("b"))])
        assert conflict.value.key == Key("Node", "b")
        writes: list[Write] = [
            Update(good, first.revision),
            Create(node("c")),
            Delete(Key("Node", "b"), second.revision),
            Delete(Key("Node", "never"), None),
        ]
        await store.commit(writes)
        await follower.until("a", "c")
        # Seen as one: no reader ever had a state between before and after.
        (update,) = follower.updates
        assert sorted(change.key.name for change in update.changes) == ["a", "b", "c"]
    with pytest.raises(DatastoreError, match="twice"):
        await store.commit([Create(node("x")), Delete(Key("Node", "x"))])


async def test_large_commits(store: Datastore, location: str) -> None:
    writes = [Create(node(f"n{number:03}")) for number in range(300)]
    if location.startswith("etcd"):
        with pytest.raises(TooLarge, match="300 writes"):
            await store.commit(writes)
        assert (await store.list()).entries == ()
    await store.commit(writes, atomic=False)
    assert len((await store.list()).entries) == 300
    late = [*(Create(node(f"m{number:03}")) for number in range(200)), Create(node("n000"))]
    with pytest.raises(Conflict) as conflict:
        await store.commit(late, atomic=False)
    assert conflict.value.committed == (128 if location.startswith("etcd") else 0)
    assert len((await store.list()).entries) == 300 + conflict.value.committed


async def test_interests(store: Datastore, other: Datastore) -> None:
    ours = Interests(kinds=frozenset({"Node", "WorkloadEndpoint", "BlockAffinity"}), node="a")
    await store.commit([Create(endpoint("a", "first")), Create(endpoint("a-b", "first"))])
    await store.commit([Create(affinity("a", "10.1.0.0/26")), Create(affinity("a-b", "10.1.0.64/26"))])
    async with following(other, ours) as follower:
        assert len(follower.view) == 2
        await store.create(endpoint("a", "web-1", "new"))  # a namespace nobody has seen before
        await store.create(endpoint("b", "web-1", "newer"))
        await store.create(endpoint("a-b", "web-1", "new"))
        await store.create(endpoint("a", "web-2", "newer"))
        await store.create(endpoint("a", "web-3", "default"))
        await store.delete(endpoint("a", "first").key)
        await store.create(affinity("a", "10.1.0.128/26"))
        await store.create(affinity("b", "10.1.0.192/26"))
        await store.create(node("b"))
        await follower.until("b")
        names = [endpoint("a", f"web-{number}").key.name for number in (1, 2, 3)]
        await follower.until(*names, kind="WorkloadEndpoint")
        await follower.until("a/10.1.0.0/26", "a/10.1.0.128/26", kind="BlockAffinity")
        await follower.until_equal(other, ours)
        told = {change.key for update in follower.updates for change in update.changes}
        assert all(ours.wants(key) for key in told)


async def test_hold(store: Datastore, other: Datastore) -> None:
    await store.create(node("seed"))
    async with following(other, Interests(kinds=frozenset({"NodeLease"}))) as follower:
        hold = await store.hold("n1", ttl=30)
        assert hold.held
        await follower.until("n1", kind="NodeLease")
        await hold.release()
        assert await other.get(Key("NodeLease", "n1")) is None  # now, and not after the TTL
        await follower.until(kind="NodeLease")


async def test_liveness_outlives_close_until_its_ttl(store: Datastore, other: Datastore) -> None:
    await other.create(node("seed"))
    async with following(other, Interests(kinds=frozenset({"NodeLease"}))) as follower:
        await store.hold("n1", ttl=3)
        await follower.until("n1", kind="NodeLease")
        await asyncio.sleep(4)
        assert len(follower.view) == 1  # refreshed
        await store.close()
        await follower.until(kind="NodeLease")


async def test_health_is_current_while_watching(store: Datastore) -> None:
    await store.create(node("a"))
    async with following(store):
        async with asyncio.timeout(60):
            while not store.health().current:  # noqa: ASYNC110 - a watch needs a moment to stand
                await asyncio.sleep(0.01)
        assert store.health().reason == ""


@pytest.mark.parametrize("seed", range(3))
async def test_random_operations_by_two_writers_and_readers(
    store: Datastore, other: Datastore, seed: int
) -> None:
    """Compare-and-swap by a model; at the end both readers have what the model has, in whatever steps."""
    random = Random(seed)
    model: dict[Key, tuple[Resource, int]] = {}
    await store.create(node("seed"))
    await store.delete(Key("Node", "seed"))
    async with following(store) as here, following(other) as there:
        for step in range(150):
            writer = random.choice([store, other])
            resource = node(random.choice("abcdef"), f"10.{step % 250}.{random.randrange(250)}.1/24")
            present = model.get(resource.key)
            match random.randrange(4):
                case 0:
                    if present is None:
                        model[resource.key] = (resource, (await writer.create(resource)).revision)
                    else:
                        with pytest.raises(Conflict):
                            await writer.create(resource)
                case 1 if present is not None:
                    model[resource.key] = (resource, (await writer.update(resource, present[1])).revision)
                case 2:
                    with pytest.raises(Conflict):
                        await writer.update(resource, 987_654_321)
                case _:
                    assert await writer.delete(resource.key) is (model.pop(resource.key, None) is not None)
            if random.random() < 0.05:
                await asyncio.sleep(0.05)
        listed = await store.list()
        assert {entry.key: (entry.resource, entry.revision) for entry in listed.entries} == model
        await here.until_equal(store)
        await there.until_equal(other)
    assert all(isinstance(update, Changes) for update in here.updates)
