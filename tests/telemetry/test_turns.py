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


class Slow(Source):
    """Whose every answer holds the loop."""

    def peers(self) -> list[PeerStatus]:
        time.sleep(TAKES)
        return [peer("rr1")]

    def routes(self, query: RouteQuery) -> RoutePage:
        time.sleep(TAKES)
        return super().routes(query)


@asynccontextmanager
async def turns_of_the_loop() -> AsyncIterator[list[float]]:
    """How long the turns of the loop took, in seconds."""
    took: list[float] = []

    async def turn() -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(0)
            now = time.monotonic()
            took.append(now - last)
            last = now

    turning = asyncio.create_task(turn())
    try:
        yield took
    finally:
        turning.cancel()


@pytest.mark.parametrize(
    "path", ["/api/v1/routes", "/routes/table/master4", "/api/v1/status", "/metrics", "/readyz"]
)
async def test_answers_that_take_long_leave_the_loop_to_others_in_between(path: str) -> None:
    server = StatusServer(Slow(), HttpOptions())
    await server.start()
    async with aiohttp.ClientSession(server.url) as client:
        async with client.get("/healthz"), turns_of_the_loop() as turns:
            answers = await asyncio.gather(*(client.get(path) for _ in range(CROWD)))
        assert all(answer.status in (200, 503) for answer in answers)
        for answer in answers:
            answer.release()
    await server.stop()
    assert max(turns) < TAKES * CROWD / 2


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
