"""A storm of changes with everybody looking: memory stays bounded, and all end up with exactly everything.

Timings are told, not asserted: `CAIRN_STORM_SECONDS=20 pytest -s` on a quiet machine compares the convergence
without and with a page, a Prometheus, two event feeds and a broker.
"""

import asyncio
import os
import statistics
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bgpd.wire.nlri import nlri_of
from tests.reflector.clients import Client, until
from tests.reflector.test_process import Program
from tests.telemetry.broker import Broker, free_port

SECONDS = float(os.environ.get("CAIRN_STORM_SECONDS", "2"))
WITNESSED = "10.9.9.9/32"
CLIENTS, PER_CLIENT, RATE = 20, 10, 1000
LOOKS = {
    "/metrics": 5.0, "/api/v1/status": 5.0, "/api/v1/peers?limit=50": 5.0, "/api/v1/graph": 5.0,
    "/api/v1/samples": 2.0,
}  # fmt: skip


def resident(pid: int) -> int:
    """Octets in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Storm:
    """One client changes its routes; another sees each change: how long did it take?"""

    def __init__(self, clients: list[Client]) -> None:
        self.clients = clients
        self.delays: list[float] = []

    async def blow(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        begun, told = loop.time(), 0
        while loop.time() < begun + seconds:
            due = int((loop.time() - begun) * RATE)
            for number in range(told, due):
                client = self.clients[number % CLIENTS]
                client.announce(f"10.1.{number % CLIENTS}.{number // CLIENTS % PER_CLIENT}/32", med=number)
            if due > told and due % 10 < due - told:
                await self._measure(due)
            told = max(told, due)
            await asyncio.sleep(0.002)

    async def _measure(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        wanted = (1_000_000 + number).to_bytes(4, "big")
        begun = loop.time()
        self.clients[0].announce(WITNESSED, med=1_000_000 + number)
        while wanted not in self.clients[-1].view.get(nlri_of(ip_network(WITNESSED)), b""):
            assert loop.time() < begun + 20, "a change did not arrive"
            await asyncio.sleep(0)
        self.delays.append(loop.time() - begun)


@asynccontextmanager
async def looking(url: str) -> AsyncIterator[dict[str, int]]:
    """Everybody looks: counts of answers per path."""
    answers: dict[str, int] = {}

    async def look(client: aiohttp.ClientSession, path: str, every: float) -> None:
        while True:
            async with client.get(path) as answer:
                assert answer.status == 200
                await answer.read()
            answers[path] = answers.get(path, 0) + 1
            await asyncio.sleep(every)

    async def follow(client: aiohttp.ClientSession) -> None:
        async with client.get("/api/v1/events", headers={"Accept": "text/event-stream"}) as feed:
            async for _ in feed.content:
                answers["events"] = answers.get("events", 0) + 1

    async with aiohttp.ClientSession(url) as client:
        tasks = [asyncio.create_task(look(client, *each)) for each in LOOKS.items()]
        tasks += [asyncio.create_task(follow(client)) for _ in range(2)]
        try:
            yield answers
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task


async def storm(folder: Path, watched: bool, **config: Any) -> tuple[list[float], int, dict[str, int]]:
    program = Program(folder)
    program.configure(**config)
    await program.start()
    assert program.process is not None
    clients = [await Client(number, program.port).up() for number in range(CLIENTS)]
    answers: dict[str, int] = {}
    try:
        wind = Storm(clients)
        await wind.blow(min(1.0, SECONDS))
        wind.delays.clear()
        before = resident(program.process.pid)
        if watched:
            async with looking(f"http://127.0.0.1:{config['http']['port']}") as answers:
                await wind.blow(SECONDS)
        else:
            await wind.blow(SECONDS)
        grown = resident(program.process.pid) - before
        expected = {prefix for client in clients for prefix in client.said}
        await until(agreed(clients, expected), "everybody has everything")
        return wind.delays, grown, answers
    finally:
        for client in clients:
            if client.sock is not None:
                await client.stall()
                client.sock.close()
        program.process.terminate()
        await program.process.wait()
        await program.reading


def agreed(clients: list[Client], expected: set[str]) -> Callable[[], bool]:
    return lambda: all(len(client.view) == len(expected - set(client.said)) for client in clients)


@pytest.mark.peer("mosquitto")
async def test_a_storm_with_everybody_looking(tmp_path: Path) -> None:
    alone, quiet, _ = await storm(tmp_path, watched=False)
    broker = Broker(tmp_path)
    broker.start()
    try:
        port = free_port()
        http, mqtt = {"address": "127.0.0.1", "port": port}, {"host": "127.0.0.1", "port": broker.port}
        seen, grown, answers = await storm(tmp_path, watched=True, http=http, mqtt=mqtt)
    finally:
        broker.kill()
    assert set(LOOKS) <= set(answers)
    assert grown < 32 << 20
    for name, delays in (("alone", alone), ("watched", seen)):
        cuts = statistics.quantiles(delays, n=100)
        print(f"{name}: {len(delays)} changes, median {cuts[49] * 1e3:.2f} ms, 99 % {cuts[98] * 1e3:.2f} ms")
    print(f"grown by {quiet >> 10} KiB alone, {grown >> 10} KiB watched; answers {answers}")
