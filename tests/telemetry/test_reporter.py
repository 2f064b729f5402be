"""A service that is seen and asked through a real etcd, by `Reporter` and by `cairn` as a process."""

import asyncio
import json
import re
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from bgpd.datastore import Datastore, open_datastore
from bgpd.resources import Key, Node, ResourceError, ServiceAnswer, ServiceQuestion, ServiceReport, etcd_key
from bgpd.telemetry import reporter as reporting
from bgpd.telemetry.reporter import Reporter
from bgpd.telemetry.status import RoutePage, RouteQuery
from ctl import afar
from tests.ctl.cairn import Done, cairn, clean_environment
from tests.datastore.etcd_server import Etcd
from tests.telemetry.source import Source, peer
from tests.telemetry.test_turns import AT_ONCE, CROWD, Slow, turns_of_the_loop

pytestmark = [
    pytest.mark.etcd,
    pytest.mark.skipif(shutil.which("etcd") is None, reason="etcd is not installed"),
]


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    server = Etcd(tmp_path / "etcd")
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def store(etcd: Etcd) -> AsyncIterator[Datastore]:
    store = open_datastore(f"etcd://127.0.0.1:{etcd.port}", {})
    yield store
    await store.close()


@pytest.fixture
def source() -> Source:
    source = Source()
    source.store = None
    source.started_at = time.time() - 100
    source.health = (True, "healthy")
    source.peer_list = [peer("rr1", kind="global"), peer("rr2", kind="global", address="10.0.0.9")]
    return source


@asynccontextmanager
async def reporting_for(store: Datastore, source: Source, node: str) -> AsyncIterator[Reporter]:
    reporter = Reporter(store, source, node)
    task = asyncio.create_task(reporter.run())
    try:
        yield reporter
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_a_report_that_cannot_be_read_is_written_anew(
    etcd: Etcd, store: Datastore, source: Source
) -> None:
    key = etcd_key(Key("ServiceReport", "agent.n1"))
    await asyncio.to_thread(etcd.put, key, '{"spec": {"service": 5}}')  # of another release, say
    async with reporting_for(store, source, "n1"):
        async with asyncio.timeout(30):
            while True:
                with suppress(ResourceError):
                    await report_of(store, "n1", lambda report: report.spec.node == "n1")
                    break
                await asyncio.sleep(0.05)


async def report_of(store: Datastore, node: str, wanted: Callable[[ServiceReport], bool]) -> ServiceReport:
    async with asyncio.timeout(20):
        while True:
            entry = await store.get(Key("ServiceReport", f"agent.{node}"))
            if entry is not None and isinstance(entry.resource, ServiceReport) and wanted(entry.resource):
                return entry.resource
            await asyncio.sleep(0.02)


async def command(*words: str) -> Done:
    return await asyncio.to_thread(cairn, *words)


async def declare(store: Datastore, *nodes: str) -> None:
    for node in nodes:
        await store.create(Node.model_validate({"metadata": {"name": node}}))


async def test_a_report_follows_what_happens(
    store: Datastore, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "_PACE", 0.05)
    async with reporting_for(store, source, "n1") as reporter:
        first = await report_of(store, "n1", lambda _: True)
        assert (first.spec.status["ready"], first.spec.down) == (True, [])
        assert first.spec.numbers["prefixes_received"] == 20
        source.peer_list[1] = peer("rr2", "ACTIVE", address="10.0.0.9", last_reason="connection refused")
        source.ring.add(1.0, "session.down", "rr2 is down")
        then = await report_of(store, "n1", lambda found: bool(found.spec.down))
        assert [(each["name"], each["last_reason"]) for each in then.spec.down] == [
            ("rr2", "connection refused")
        ]
        assert then.spec.since == first.spec.since
        source.health = (False, "ExaBGP is not attached")
        source.ring.add(1.0, "plan.failed", "something else")
        ill = await report_of(store, "n1", lambda found: not found.spec.status["ready"])
        assert ill.spec.since > first.spec.since
        await reporter.forget()
        assert await store.get(first.key) is None


async def test_questions_are_answered_and_removed(
    store: Datastore, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "EVERY", 0.3)
    monkeypatch.setattr(reporting, "_PACE", 0.1)

    async def ask(name: str, what: str, **query: str) -> ServiceQuestion:
        spec = {"service": "agent", "node": "n1", "what": what, "query": query}
        question = ServiceQuestion.model_validate({"metadata": {"name": name}, "spec": spec}, by_alias=True)
        await store.create(question)
        async with asyncio.timeout(20):
            while True:
                entry = await store.get(question.key)
                if entry is not None and isinstance(entry.resource, ServiceQuestion):
                    question = entry.resource
                if entry is None or question.status is not None:
                    return question
                await asyncio.sleep(0.01)

    async with reporting_for(store, source, "n1"):
        good = await ask("n1.agent.1", "routes", direction="out", peer="rr1")
        assert good.status is not None
        assert good.status.document is not None
        assert (good.status.document["total"], source.queries[-1].peer) == (7, "rr1")
        bad = await ask("n1.agent.2", "peers", sort="colour")
        assert bad.status is not None
        assert bad.status.failure is not None
        assert "sort is one of" in bad.status.failure
        monkeypatch.setattr(reporting, "MOST_OCTETS", 10)
        large = await ask("n1.agent.3", "status")
        assert large.status is not None
        assert large.status.failure == "the answer is too large for the datastore; ask for less of it"
        async with asyncio.timeout(20):
            while await store.get(good.key) is not None:  # noqa: ASYNC110 - a datastore sets no event
                await asyncio.sleep(0.05)


async def test_many_questions_leave_the_loop_to_others_in_between(
    store: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "MOST_ASKED", CROWD - 2)
    spec = {"service": "agent", "node": "n1", "what": "routes"}
    for number in range(CROWD):
        document = {"metadata": {"name": f"n1.agent.{number}"}, "spec": spec}
        await store.create(ServiceQuestion.model_validate(document, by_alias=True))
    source = Slow()
    async with turns_of_the_loop(source) as turns, reporting_for(store, source, "n1"):
        answers: list[ServiceAnswer] = []
        async with asyncio.timeout(30):
            while len(answers) < CROWD:
                entry = await store.get(Key("ServiceQuestion", f"n1.agent.{len(answers)}"))
                if (
                    entry is not None
                    and isinstance(entry.resource, ServiceQuestion)
                    and entry.resource.status
                ):
                    answers.append(entry.resource.status)
                await asyncio.sleep(0.01)
    assert max(turns) <= AT_ONCE
    assert [answer.failure for answer in answers if answer.failure] == [
        f"{CROWD - 2} such answers are awaited; ask again"
    ] * 2


async def test_the_whole_cluster_from_afar(store: Datastore, etcd: Etcd, source: Source) -> None:
    at = ("--datastore", f"etcd://127.0.0.1:{etcd.port}")
    await declare(store, "n1", "n2", "n3")
    for node in ("n1", "n2"):
        await store.hold(node)
    other = Source()
    other.store, other.started_at = None, source.started_at
    gone = {
        "address": "10.0.0.9",
        "node": "n3",
        "since": time.time() - 600,
        "last_reason": "hold timer expired",
    }
    tor = {**gone, "address": "10.0.0.77", "node": None, "last_reason": "connection refused"}
    other.peer_list = [peer("Mesh_10_0_0_9", "ACTIVE", **gone), peer("tor", "IDLE", **tor)]
    async with reporting_for(store, source, "n1"), reporting_for(store, other, "n2"):
        await report_of(store, "n1", lambda _: True)
        await report_of(store, "n2", lambda _: True)
        status = await command("status", *at)
        assert status.code == 1, (status.out, status.err)
        first, dead, missing, *_ = status.out.splitlines()
        assert first.startswith("DEGRADED (2): 2 of 3 nodes alive; 1 of 2 services ready; 2 of 4 sessions up")
        assert dead.startswith("  node n3: no agent holds its lease, for 10m")
        assert missing.startswith("  agent on n2: no session with 10.0.0.77: connection refused, for 10m")
        document = (await command("status", *at, "-o", "json")).json
        assert [finding["what"].partition(":")[0] for finding in document["findings"]] == [
            "node n3",
            "agent on n2",
        ]
        assert document["findings"][0]["since"] is not None

        everybody = await command("peers", "--node", "n*", *at, "-o", "json")
        assert everybody.code == 1, everybody.err
        assert [(each["service"], each["name"]) for each in everybody.json["peers"]] == [
            ("agent n1", "rr1"), ("agent n1", "rr2"), ("agent n2", "Mesh_10_0_0_9"),
            ("agent n2", "tor"),
        ]  # fmt: skip
        routes = await command("routes", "in", "10.1.0.0/26", "--node", "n1", "--peer", "rr1", *at)
        assert (routes.code, "10.1.0.0/26" in routes.out) == (0, True), routes.err
        assert source.queries[-1].direction == "in"
        nobody = await command("peers", "--node", "n9", *at)
        assert (nobody.code, "cairn get reports" in nobody.err) == (3, True), nobody
    questions = await store.list()
    assert not [entry for entry in questions.entries if entry.key.kind == "ServiceQuestion"]


async def test_top_and_watch_from_afar(
    store: Datastore, etcd: Etcd, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "_PACE", 0.05)
    at = ("--datastore", f"etcd://127.0.0.1:{etcd.port}")
    nobody = await command("top", "--once", *at)
    assert (nobody.code, "cairn get reports" in nobody.err) == (3, True), nobody
    await declare(store, "n1", "n2", "n3")
    for node in ("n1", "n2"):
        await store.hold(node)
    other = Source()
    other.store, other.started_at = None, source.started_at
    other.peer_list = [peer("tor", "IDLE", since=time.time() - 600, last_reason="connection refused")]
    other.ring.add(time.time() - 3600, "session.up", "long ago")
    other.ring.add(time.time(), "route.originated", "one of many")
    source.ring.add(time.time(), "session.up", "rr1 is up")
    async with reporting_for(store, source, "n1"), reporting_for(store, other, "n2"):
        async with reporting_for(store, Source(), "n3"):
            await report_of(store, "n3", lambda _: True)
        for node in ("n1", "n2"):
            await report_of(store, node, lambda _: True)
        top = await command("top", "--once", *at)
        assert top.code == 0, top.err
        lines = [line for line in top.out.splitlines() if line.strip()]
        assert lines[1].startswith("agent n3, last heard of "), top.out  # holds no lease
        assert "0/1" in lines[2]
        assert "2/2" in lines[3]
        assert re.match(r"tor +node-a +Idle +1\dm .*connection refused$", lines[5].rstrip())

        watching = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ctl", "watch", "--node", "n?", *at, "-o", "json", "--past", "5",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=clean_environment(),
        )  # fmt: skip
        events: list[dict[str, Any]] = []
        try:
            assert watching.stdout is not None
            async with asyncio.timeout(120):
                while len(events) < 10:  # at most five of each of two are past ones
                    line = asyncio.create_task(watching.stdout.readline())
                    while not line.done():
                        await asyncio.wait({line}, timeout=0.1)
                        other.ring.add(time.time(), "session.down", f"tor {len(events)}")
                    events.append(json.loads(line.result()))
        finally:
            watching.terminate()
            _, errors = await watching.communicate()
    assert b"agent n3 is silent: no report since" in errors
    assert {"agent n1", "agent n2"} == {event["service"] for event in events}
    assert "rr1 is up" in [event["message"] for event in events]
    ids = [event["id"] for event in events if event["service"] == "agent n2"]
    assert ids == sorted(set(ids))


async def test_one_that_does_not_answer_and_one_that_fails_are_told(
    store: Datastore, etcd: Etcd, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: RouteQuery) -> RoutePage:
        raise RuntimeError("a defect")

    await declare(store, "n1", "n2", "n3")
    for node in ("n1", "n2", "n3"):
        await store.hold(node)
    failing = Source()
    failing.routes = broken  # type: ignore[method-assign,assignment]  # a service with a defect
    monkeypatch.setattr(afar, "PATIENCE", 1.0)
    async with reporting_for(store, source, "n1"):
        await report_of(store, "n1", lambda _: True)
    async with reporting_for(store, Source(), "n2"), reporting_for(store, failing, "n3"):
        await report_of(store, "n2", lambda _: True)
        await report_of(store, "n3", lambda _: True)
        answers = await afar.ask_through(f"etcd://127.0.0.1:{etcd.port}", "n?", "routes", {})
        again = await afar.ask_through(f"etcd://127.0.0.1:{etcd.port}", "n3", "status", {})
    assert [(each.location, each.failure) for each in answers] == [
        ("agent n1", "agent n1: no answer within 1 s"),
        ("agent n2", ""),
        ("agent n3", "agent n3: the service failed at this question; its log says how"),
    ]
    assert answers[1].document is not None
    assert answers[1].document["total"] == 7
    assert [each.failure for each in again] == [""]
