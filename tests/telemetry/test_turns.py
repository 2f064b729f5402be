"""A crowd that asks what takes long: the service's own work comes in between."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from bgpd.telemetry import http
from bgpd.telemetry.http import HttpOptions, StatusServer
from bgpd.telemetry.status import PeerStatus, RoutePage, RouteQuery
from tests.telemetry.source import Source, peer

TAKES = 0.05
CROWD = 12
AT_ONCE = 2  # a report is an answer too


class Slow(Source):
    """Whose every answer holds the loop, and is counted."""

    made = 0

    def peers(self) -> list[PeerStatus]:
        self._hold()
        return [peer("rr1")]

    def routes(self, query: RouteQuery) -> RoutePage:
        self._hold()
        return super().routes(query)

    def _hold(self) -> None:
        self.made += 1
        time.sleep(TAKES)


@asynccontextmanager
async def turns_of_the_loop(source: Slow) -> AsyncIterator[list[int]]:
    """How many answers were made in each turn of the loop."""
    counts: list[int] = []

    async def turn() -> None:
        while True:
            before = source.made
            await asyncio.sleep(0)
            counts.append(source.made - before)

    turning = asyncio.create_task(turn())
    try:
        yield counts
    finally:
        turning.cancel()


@pytest.mark.parametrize(
    "path", ["/api/v1/routes", "/routes/table/master4", "/api/v1/status", "/metrics", "/readyz"]
)
async def test_answers_that_take_long_leave_the_loop_to_others_in_between(path: str) -> None:
    source = Slow()
    server = StatusServer(source, HttpOptions())
    await server.start()
    async with aiohttp.ClientSession(server.url) as client:
        async with client.get("/healthz"), turns_of_the_loop(source) as turns:
            answers = await asyncio.gather(*(client.get(path) for _ in range(CROWD)))
        assert all(answer.status in (200, 503) for answer in answers)
        for answer in answers:
            answer.release()
    await server.stop()
    assert max(turns) <= AT_ONCE


async def test_a_search_that_would_have_to_wait_for_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_SEARCHES", 3)
    server = StatusServer(Slow(), HttpOptions())
    await server.start()
    async with aiohttp.ClientSession(server.url) as client:
        answers = await asyncio.gather(*(client.get("/api/v1/routes") for _ in range(CROWD)))
        refused = [await answer.json() for answer in answers if answer.status == 503]
        assert len(refused) < CROWD
        assert refused[0]["error"] == "3 such answers are awaited; ask again"
        async with client.get("/api/v1/status") as answer:
            assert answer.status == 200
    await server.stop()
