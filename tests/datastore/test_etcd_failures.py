"""What may befall a watch, done to a real etcd. Afterwards the view equals etcd: nothing lost or invented.

`Follower` complains about anything told twice or deleted without having been there.
"""

import asyncio
import gc
import re
import signal
import urllib.request
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bgpd.datastore import (
    EVERYTHING,
    Conflict,
    Create,
    Datastore,
    Delete,
    Denied,
    Interests,
    Unavailable,
    etcd_listing,
    etcd_watch,
)
from bgpd.datastore.etcd_client import EtcdClient
from bgpd.datastore.etcd_options import Endpoint, EtcdOptions, Tls
from bgpd.datastore.etcd_ranges import layout
from bgpd.datastore.etcd_store import EtcdStore
from bgpd.datastore.etcd_watch import EtcdWatch
from bgpd.resources import Metadata, load_documents
from tests.datastore.etcd_server import FAST, IMPATIENT, Etcd, Relay, needs_etcd
from tests.datastore.follower import following, node, until
from tests.ports import free_port

pytestmark = needs_etcd

NODES = "/calico/resources/v3/projectcalico.org/nodes/"


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    etcd = Etcd(tmp_path / "data")
    etcd.start()
    yield etcd
    etcd.kill()


@asynccontextmanager
async def opened(options: EtcdOptions) -> AsyncIterator[EtcdStore]:
    store = EtcdStore(options)
    try:
        yield store
    finally:
        await store.close()


def value(name: str) -> str:
    return f'{{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{{"name":"{name}"}},"spec":{{}}}}'


async def change_all(etcd: Etcd) -> None:
    """From {a, b, c} to {a (changed), c, d}, seen by etcd alone."""
    await asyncio.to_thread(etcd.put, f"{NODES}a", value("a"))
    await asyncio.to_thread(etcd.delete, f"{NODES}b")
    await asyncio.to_thread(etcd.put, f"{NODES}d", value("d"))


async def fill(store: Datastore) -> None:
    for name in ("a", "b", "c"):
        await store.create(node(name))


async def test_killed_and_restarted(etcd: Etcd) -> None:
    async with opened(etcd.options()) as store:
        await fill(store)
        async with following(store) as follower:
            await until(lambda: store.health().current)
            etcd.kill()
            await until(lambda: not store.health().current)
            assert store.health().reason.startswith(f"etcd at {etcd.endpoint}: ")
            with pytest.raises(Unavailable):
                await store.list()
            await asyncio.to_thread(etcd.start)
            await change_all(etcd)
            await follower.until("a", "c", "d")
            await follower.until_equal(store)
            await until(lambda: store.health().current)
            assert store.health().resyncs == 0  # resumed, not listed again


async def test_a_watch_that_failed_keeps_no_connection(etcd: Etcd) -> None:
    client = EtcdClient(etcd.options())
    watch = EtcdWatch(client, layout(EVERYTHING))

    async def follow() -> None:
        async for _ in watch.updates():
            pass

    following = asyncio.create_task(follow())
    await until(lambda: watch.report.current)
    async with client.connection() as connection:
        used = weakref.ref(connection)
    del connection
    gc.disable()  # the services collect rarely
    try:
        etcd.kill()
        await until(lambda: used() is None)
    finally:
        gc.enable()
        following.cancel()
        await asyncio.wait({following})
        await client.close()


async def test_killed_and_compacted_before_we_are_back(etcd: Etcd) -> None:
    relay = Relay(etcd.port)
    await relay.start()
    timing = replace(IMPATIENT, backoff_first=0.5, backoff_limit=0.5)
    async with opened(replace(etcd.options(timing), endpoints=(Endpoint("127.0.0.1", relay.port),))) as store:
        await fill(store)
        async with following(store) as follower:
            await until(lambda: store.health().current)
            relay.swallow()
            await change_all(etcd)
            await asyncio.to_thread(etcd.compact)
            await until(lambda: not store.health().current)
            relay.forward()
            await follower.until("a", "c", "d")
            await until(lambda: store.health().current)
            await follower.until_equal(store)
            assert store.health().resyncs >= 1
    await relay.stop()


async def test_frozen_for_a_while(etcd: Etcd) -> None:
    async with opened(etcd.options(IMPATIENT)) as store:
        await fill(store)
        async with following(store) as follower:
            await until(lambda: store.health().current)
            etcd.signal(signal.SIGSTOP)
            await until(lambda: not store.health().current)
            await until(lambda: store.health().reconnects >= 2)
            etcd.signal(signal.SIGCONT)
            await change_all(etcd)
            await follower.until("a", "c", "d")
            await follower.until_equal(store)


async def test_black_hole(etcd: Etcd) -> None:
    relay = Relay(etcd.port)
    await relay.start()
    async with opened(
        replace(etcd.options(IMPATIENT), endpoints=(Endpoint("127.0.0.1", relay.port),))
    ) as store:
        await fill(store)
        async with following(store) as follower:
            await until(lambda: store.health().current)
            relay.swallow()
            await change_all(etcd)
            await until(lambda: not store.health().current)
            with pytest.raises(Unavailable):
                await store.get(node("a").key)
            relay.forward()
            await follower.until("a", "c", "d")
            await follower.until_equal(store)
    await relay.stop()


async def test_black_hole_with_another_endpoint(etcd: Etcd) -> None:
    relay = Relay(etcd.port)
    await relay.start()
    endpoints = (Endpoint("127.0.0.1", relay.port), Endpoint("127.0.0.1", free_port()), etcd.endpoint)
    async with opened(replace(etcd.options(IMPATIENT), endpoints=endpoints)) as store:
        await fill(store)
        async with following(store) as follower:
            await until(lambda: store.health().current)
            relay.swallow()
            await change_all(etcd)
            await follower.until("a", "c", "d")
            await follower.until_equal(store)
            assert store.health().endpoint == str(etcd.endpoint)
    await relay.stop()


async def test_first_endpoint_is_down_from_the_start(etcd: Etcd) -> None:
    endpoints = (Endpoint("127.0.0.1", free_port()), etcd.endpoint)
    async with opened(replace(etcd.options(), endpoints=endpoints)) as store:
        await fill(store)
        assert len((await store.list()).entries) == 3


async def test_how_long_an_outage_lasts_does_not_hang_on_which_endpoint_was_tried_last(
    etcd: Etcd, caplog: pytest.LogCaptureFixture
) -> None:
    endpoints = (etcd.endpoint, *(Endpoint("127.0.0.1", free_port()) for _ in range(2)))
    async with opened(replace(etcd.options(), endpoints=endpoints)) as store, following(store):
        await until(lambda: store.health().current)
        await store.hold("n1", ttl=1.0)
        etcd.kill()
        await until(lambda: not store.health().current)
        since, reasons = store.health().since, set()

        def seen() -> int:
            reasons.add(store.health().reason)
            return store.health().reconnects

        await until(lambda: seen() > 20 and len(reasons) > 2)
        assert store.health().since == since
        told = [record.message for record in caplog.records if record.levelname == "WARNING"]
        assert 1 < len(told) == len(set(told))


async def test_a_lease_that_is_kept_is_not_counted_as_failed_calls(etcd: Etcd) -> None:
    """An alert that comes with etcd is about their share of the calls of a method."""

    def calls() -> dict[str, float]:
        url = f"http://127.0.0.1:{etcd.port}/metrics"
        lines = urllib.request.urlopen(url).read().decode().splitlines()
        found = (
            re.match(r'grpc_server_handled_total{grpc_code="(\w+)".*LeaseKeepAlive', each) for each in lines
        )
        return {match[1]: number for match in found if match and (number := float(match.string.split()[-1]))}

    async with opened(etcd.options()) as store:
        await store.hold("n1", ttl=1.0)
        await until(lambda: sum(calls().values()) > 2)
    assert calls().keys() == {"OK"}


async def test_wiped(etcd: Etcd) -> None:
    async with opened(etcd.options()) as store:
        await fill(store)
        async with following(store) as follower:
            await until(lambda: store.health().current)
            etcd.kill()
            await until(lambda: not store.health().current)
            etcd.wipe()
            await asyncio.to_thread(etcd.start)
            await asyncio.to_thread(etcd.put, f"{NODES}a", value("a"))
            await follower.until("a")
            await follower.until_equal(store)
            await asyncio.to_thread(etcd.put, f"{NODES}z", value("z"))
            await follower.until("a", "z")


async def test_restored_and_gone_on_beyond_what_we_know(etcd: Etcd, tmp_path: Path) -> None:
    """Other changes than ours have the revisions we know by the time we are back."""
    relay = Relay(etcd.port)
    await relay.start()
    options = replace(etcd.options(IMPATIENT), endpoints=(Endpoint("127.0.0.1", relay.port),))
    async with opened(options) as store, opened(etcd.options()) as other:
        await fill(other)
        etcd.kill()
        etcd.save(tmp_path / "yesterday")
        await asyncio.to_thread(etcd.start)
        async with following(store) as follower:
            await until(lambda: store.health().current)
            await other.create(node("lost"))
            await other.create(node("today", "10.0.0.2/24"))
            await follower.until("a", "b", "c", "lost", "today")
            relay.swallow()
            etcd.kill()
            etcd.restore(tmp_path / "yesterday")
            await asyncio.to_thread(etcd.start)
            await other.create(node("new"))
            await other.create(node("today", "10.0.0.3/24"))  # at the revision it had with another address
            await until(lambda: not store.health().current)
            relay.forward()
            await follower.until("a", "b", "c", "new", "today")
            await follower.until_equal(other)
            await until(lambda: store.health().current)
            await other.create(node("later"))
            await follower.until("a", "b", "c", "later", "new", "today")
            follower.complaints.clear()  # what was the same yesterday is told again
    await relay.stop()


async def test_an_address_without_a_route_is_told_as_that() -> None:
    nowhere = EtcdOptions((Endpoint("224.0.0.1", 2379),))  # a group, to which TCP never connects
    async with opened(nowhere) as store:
        with pytest.raises(Unavailable, match=r"^etcd at 224\.0\.0\.1:2379: no route leads there$"):
            await store.list()


async def test_a_member_that_has_lost_the_others_is_told_as_that(etcd: Etcd) -> None:
    absent = f"--peer-urls=http://127.0.0.1:{free_port()}"
    async with opened(etcd.options()) as store, following(store):
        await until(lambda: store.health().current)
        etcd.control("member", "add", "two", absent)
        await until(lambda: "knows of no leader" in store.health().reason)


async def test_a_learner_is_told_as_that(etcd: Etcd, tmp_path: Path) -> None:
    learner = Etcd(tmp_path / "learner", "--initial-cluster-state", "existing", "--name", "two")
    peer = f"http://127.0.0.1:{learner._peer_port}"
    etcd.control("member", "add", "two", "--learner", f"--peer-urls={peer}")
    learner._settings += ("--initial-cluster", f"one=http://127.0.0.1:{etcd._peer_port},two={peer}")
    learner.start(wait=False)
    try:
        async with opened(learner.options()) as store, opened(etcd.options()) as other:
            said = ""
            while not (said := await refusal(store)).endswith("promote it, or name other endpoints"):
                assert "nothing listens there" in said or "SETTINGS" in said
            assert await refusal(other) == ""
    finally:
        learner.kill()


async def refusal(store: EtcdStore) -> str:
    try:
        await store.list()
    except Unavailable as error:
        return str(error)
    return ""


async def test_watching_starts_before_etcd_does(tmp_path: Path) -> None:
    etcd = Etcd(tmp_path / "data")
    async with opened(etcd.options()) as store:
        with pytest.raises(Unavailable, match="nothing listens there"):
            await store.list()
        starting = asyncio.create_task(asyncio.to_thread(etcd.start))
        try:
            async with following(store) as follower:
                await starting
                await store.create(node("a"))
                await follower.until("a")
        finally:
            await starting
            etcd.kill()


async def test_a_silent_watch_is_kept_while_etcd_answers(etcd: Etcd) -> None:
    async with opened(etcd.options(replace(FAST, silence=2.0))) as store, following(store):
        await asyncio.sleep(5.0)
        assert store.health().current
        assert store.health().reconnects == 0


async def test_comparison_repairs_what_the_watch_lost(etcd: Etcd, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(etcd.options(replace(FAST, compare_every=0.2, settle=0.05))) as store:
        await fill(store)
        async with following(store, Interests(kinds=frozenset({"Node"}))) as follower:
            watch = store._watches[0]
            await until(lambda: store.health().current)
            with monkeypatch.context() as deaf:
                deaf.setattr(watch, "_apply", lambda *_: [])
                await change_all(etcd)
                await until(lambda: store.health().repairs >= 1)
            await follower.until("a", "c", "d")
            await follower.until_equal(store)


async def test_what_one_transaction_changes_is_told_at_once(
    etcd: Etcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kind is a watch of its own; half of a change may be another AS."""
    monkeypatch.setattr(etcd_watch, "_TOGETHER", 0.5)
    monkeypatch.setattr(etcd_watch, "_LONGEST_TOGETHER", 0.5)
    settings = (
        "apiVersion: projectcalico.org/v3\nkind: BGPConfiguration\nmetadata: {name: default}\nspec: {}\n"
        "---\napiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: p}\nspec: {cidr: 10.77.0.0/16}"
    )
    async with opened(etcd.options()) as store, following(store) as follower:
        await until(lambda: store.health().current)
        resources = [node("a"), node("b"), *load_documents(settings, "test")]
        await store.commit([Create(resource) for resource in resources])
        await follower.until("a", "b")
        await store.commit([Delete(resource.key) for resource in resources])
        await follower.until()
    assert [len(update.changes) for update in follower.updates] == [4, 4]


async def test_large_values_over_a_slow_link_are_listed_in_small_pages(
    etcd: Etcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = node("x").model_copy(update={"metadata": Metadata(name="x", annotations={"x": 100_000 * "x"})})
    async with opened(etcd.options()) as store:
        for number in range(80):
            name = f"n{number:02}"
            metadata = large.metadata.model_copy(update={"name": name})
            await store.create(large.model_copy(update={"metadata": metadata}))
        monkeypatch.setattr(etcd_listing, "_FIRST", 5)
        answers: list[int] = []
        request = store._client.request

        async def counted(message: Any) -> Any:
            answer = await request(message)
            answers.append(answer.message.ByteSize())
            return answer

        monkeypatch.setattr(store._client, "request", counted)
        assert len((await store.list(Interests(frozenset({"Node"})))).entries) == 80
    assert max(answers) < 3_000_000 < sum(answers)


async def test_lost_lease_is_taken_again(etcd: Etcd) -> None:
    async with opened(etcd.options()) as store, following(store) as follower:
        hold = await store.hold("n1", ttl=1.0)
        await follower.until("n1", kind="NodeLease")
        lease = await asyncio.to_thread(lambda: etcd.control("lease", "list").stdout.split()[-1])
        await asyncio.to_thread(etcd.control, "lease", "revoke", lease)
        await follower.until(kind="NodeLease")
        await follower.until("n1", kind="NodeLease")
        await until(lambda: hold.held)
        await hold.release()
        await follower.until(kind="NodeLease")


async def test_two_holders_of_one_name_are_told_of_and_the_end_of_one_is_not_the_others(
    etcd: Etcd, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(etcd.options()) as store, opened(etcd.options()) as clone, following(store) as follower:
        hold = await store.hold("n1", ttl=1.0)
        other = await clone.hold("n1", ttl=1.0)
        await until(lambda: "a second machine of this name" in caplog.text)
        await other.release()
        await follower.until(kind="NodeLease")
        await follower.until("n1", kind="NodeLease")
        await hold.release()
        await follower.until(kind="NodeLease")
    assert caplog.text.count("a second machine of this name") == 1


async def test_liveness_that_somebody_made_last_for_ever_ends_with_its_holder_again(etcd: Etcd) -> None:
    """A key put back without its lease: a dead node would count as alive."""
    lease = "/cairn/v1/leases/n1"
    async with opened(etcd.options()) as store:
        hold = await store.hold("n1", ttl=1.0)
        await asyncio.to_thread(etcd.put, lease, etcd.control("get", lease, "--print-value-only").stdout)
        await until(lambda: '"Lease" : 0' not in etcd.control("get", lease, "--write-out", "fields").stdout)
        await hold.release()


async def test_liveness_goes_on_when_etcd_is_there_again(
    etcd: Etcd, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(etcd.options()) as store:
        hold = await store.hold("n1", ttl=1.0)
        etcd.kill()
        await until(lambda: "cannot be refreshed" in caplog.text)
        await asyncio.to_thread(etcd.start)
        await asyncio.to_thread(etcd.delete, "/cairn/v1/leases/n1")
        async with following(store) as follower:
            await follower.until("n1", kind="NodeLease")
        await hold.release()


async def test_liveness_ends_with_its_holder(etcd: Etcd) -> None:
    async with opened(etcd.options()) as watcher, following(watcher) as follower:
        async with opened(etcd.options()) as holder:
            await holder.hold("n1", ttl=3.0)
            await follower.until("n1", kind="NodeLease")
            await asyncio.sleep(4.0)
            assert [key.name for key in follower.view] == ["n1"]
        await follower.until(kind="NodeLease")


async def test_credentials_for_a_cluster_without_users_do_no_harm(etcd: Etcd) -> None:
    async with opened(replace(etcd.options(), user="root", password="x")) as store:
        await store.create(node("a"))


async def test_tls_to_a_plaintext_server_is_explained(etcd: Etcd) -> None:
    async with opened(replace(etcd.options(), tls=Tls())) as store:
        with pytest.raises(Denied, match="speak TLS"):
            await store.list()


def endpoint(namespace: str, name: str) -> str:
    return f"/calico/resources/v3/projectcalico.org/workloadendpoints/{namespace}/{name}"


async def test_an_agent_is_not_sent_other_nodes_endpoints(
    etcd: Etcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[bytes] = []
    apply = EtcdWatch._apply

    def spy(self: EtcdWatch, watched: Any, events: Any) -> Any:
        received.extend(event.kv.key for event in events)
        return apply(self, watched, events)

    monkeypatch.setattr(EtcdWatch, "_apply", spy)
    ours = Interests(kinds=frozenset({"WorkloadEndpoint"}), node="a")
    body = '{"spec":{"node":"%s","orchestrator":"k8s","pod":"p","endpoint":"e","interfaceName":"cali1"}}'
    await asyncio.to_thread(etcd.put, endpoint("old", "b-k8s-p-e"), body % "b")
    async with opened(etcd.options()) as store, following(store, ours) as follower:
        await until(lambda: store.health().current)
        for name, other in (("b-k8s-q-e", "b"), ("b-k8s-r-e", "b"), ("a--b-k8s-p-e", "a-b")):
            await asyncio.to_thread(etcd.put, endpoint("old", name), body % other)
        await asyncio.to_thread(etcd.put, endpoint("new", "b-k8s-p-e"), body % "b")
        await asyncio.to_thread(etcd.put, endpoint("new", "a-k8s-p-e"), body % "a")
        await follower.until("a-k8s-p-e", kind="WorkloadEndpoint")
        await asyncio.to_thread(etcd.put, endpoint("new", "b-k8s-q-e"), body % "b")
        await asyncio.to_thread(etcd.delete, endpoint("new", "a-k8s-p-e"))
        await follower.until(kind="WorkloadEndpoint")
    sent = [key.decode().rpartition("workloadendpoints/")[2] for key in received]
    # Of other nodes only the one endpoint that revealed a namespace; what a split repeats is not told twice.
    assert sent[0] == "new/b-k8s-p-e"
    assert set(sent[1:]) == {"new/a-k8s-p-e"}


async def test_more_namespaces_than_are_watched_one_by_one(
    etcd: Etcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is listed anew for them, and those that are gone are not counted for ever."""
    monkeypatch.setattr(etcd_watch, "SPREAD_LIMIT", 3)
    ours = Interests(kinds=frozenset({"WorkloadEndpoint"}), node="a")
    body = '{"spec":{"node":"%s","orchestrator":"k8s","pod":"p","endpoint":"e","interfaceName":"cali1"}}'
    timing = replace(FAST, compare_every=0.5, settle=0.05)
    async with opened(etcd.options(timing)) as store, following(store, ours) as follower:
        (watch,) = store._watches
        for number in range(6):
            await asyncio.to_thread(etcd.put, endpoint(f"n{number}", "a-k8s-p-e"), body % "a")
            await asyncio.to_thread(etcd.put, endpoint(f"n{number}", "b-k8s-p-e"), body % "b")
        await follower.until(*["a-k8s-p-e"] * 6, kind="WorkloadEndpoint")
        await until(lambda: len(watch._watched) == 1)  # all as one
        for number in (5, 3, 1):
            await asyncio.to_thread(etcd.delete, "--prefix", endpoint(f"n{number}", ""))
        await follower.until(*["a-k8s-p-e"] * 3, kind="WorkloadEndpoint")
        await until(lambda: len(watch._watched) == 7)  # those left, and what is between them
        for number in range(6):
            await asyncio.to_thread(
                etcd.put, endpoint(f"n{number}", "a-k8s-q-e"), body.replace('"p"', '"q"') % "a"
            )
        await follower.until(*["a-k8s-p-e"] * 3, *["a-k8s-q-e"] * 6, kind="WorkloadEndpoint")
        await follower.until_equal(store, ours)
        health = store.health()
        assert (health.resyncs, health.repairs, health.reconnects) == (0, 0, 0)


async def test_values_that_are_no_resources(etcd: Etcd) -> None:
    await asyncio.to_thread(etcd.put, f"{NODES}bad", "{")
    await asyncio.to_thread(etcd.put, "/calico/resources/v3/projectcalico.org/profiles/x", "{")
    async with opened(etcd.options()) as store, following(store) as follower:
        assert [invalid.place for invalid in follower.invalid] == [f"{NODES}bad"]
        await store.create(node("a", "10.0.0.1/24"))
        await follower.until("a")
        await asyncio.to_thread(etcd.put, f"{NODES}a", '{"spec":{"bgp":{"ipv4Address":"nonsense"}}}')
        await until(lambda: len(follower.invalid) == 2)
        assert follower.view[node("a").key].resource == node("a", "10.0.0.1/24")  # the last good one
        await asyncio.to_thread(etcd.put, f"{NODES}a", value("a"))
        await asyncio.to_thread(etcd.delete, f"{NODES}bad")
        await until(lambda: len(follower.invalid) == 4)
        assert [invalid.reason for invalid in follower.invalid[2:]] == [None, None]
        await asyncio.to_thread(etcd.put, f"{NODES}deep", "[" * 100_000)
        await until(lambda: len(follower.invalid) == 5)
        await asyncio.to_thread(etcd.put, f"{NODES}b", value("b"))
        await follower.until("a", "b")


async def test_lost_answer_to_a_write_is_no_conflict(etcd: Etcd) -> None:
    """The transaction was carried out, its answer swallowed; the repeated one must not report a Conflict."""
    relay = Relay(etcd.port)
    await relay.start()
    endpoints = (Endpoint("127.0.0.1", relay.port), etcd.endpoint)
    async with opened(replace(etcd.options(IMPATIENT), endpoints=endpoints)) as store:
        await store.list()
        relay.swallow_answers()
        created = await store.create(node("a"))
        assert (await store.get(node("a").key)) is not None
        assert created.resource == node("a")
        with pytest.raises(Conflict):
            await store.create(node("a"))
    await relay.stop()
