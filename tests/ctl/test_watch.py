"""`cairn watch` beside a service whose events come while it looks."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from bgpd.telemetry.http import HttpOptions, StatusServer
from bgpd.telemetry.status import Severity
from tests.ctl.cairn import Done, cairn
from tests.telemetry.source import Source


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
async def url(source: Source) -> AsyncIterator[str]:
    server = StatusServer(source, HttpOptions())
    await server.start()
    yield server.url
    await server.stop()


async def watching(url: str, *options: str, seconds: float = 4.0) -> "asyncio.Task[Done]":
    words = ("watch", "--api", url, "--seconds", str(seconds), *options)
    return asyncio.create_task(asyncio.to_thread(cairn, *words))


async def test_past_events_and_those_that_come(url: str, source: Source) -> None:
    for number in range(20):
        source.ring.add(float(number), "session.up", f"past {number}", peer="rr1")
    task = await watching(url, "--past", "3", "-o", "json", seconds=6)
    for number in range(60):
        await asyncio.sleep(0.1)
        source.ring.add(100.0 + number, "session.down", f"new {number}", severity=Severity.WARNING)
    done = await task
    assert done.code == 0, done.err
    events = [json.loads(line) for line in done.out.splitlines()]
    ids = [event["id"] for event in events]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert {event["service"] for event in events} == {url}
    assert events[-1]["message"].startswith("new")


async def test_only_what_worries(url: str, source: Source) -> None:
    source.ring.add(1.0, "session.up", "rr1 is up")
    source.ring.add(2.0, "agent.fail-static", "no session is left", severity=Severity.ERROR)
    done = await (await watching(url, "--severity", "warning", seconds=0))
    assert "fail-static" in done.out
    assert "session.up" not in done.out
    assert (await (await watching(url, "--severity", "loud"))).code == 2


async def test_an_event_of_another_day_has_its_date(url: str, source: Source) -> None:
    """A quiet service's last events may be weeks old."""
    source.ring.add(907_200.0, "session.down", "then")
    source.ring.add(datetime.now(UTC).timestamp(), "session.up", "now")
    then, now = (await (await watching(url, seconds=0))).out.splitlines()
    assert then.startswith("1970-01-11 ")
    assert re.match(r"\d\d:\d\d:\d\d ", now)


async def test_nobody_there_is_exit_3() -> None:
    assert (await (await watching("http://127.0.0.1:1", seconds=0))).code == 3
