"""A storm of changes with everybody looking: memory stays bounded, and all end up with exactly everything.

Timings are told, not asserted: `CAIRN_STORM_SECONDS=20 pytest -s` compares the convergence without and with a
page, a Prometheus, two event feeds and a broker. Two reflectors run side by side, one of them bare, and the
storm blows at them in turn, slice by slice: what else the machine does meets both, and the ratio of each pair
of slices is what counts.
"""

import asyncio
import json
import math
import os
import statistics
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from bgpd.wire.nlri import nlri_of
from tests.ports import free_port
from tests.reflector.clients import Client, until
from tests.reflector.looking import LOOKS
from tests.reflector.test_process import Program
from tests.telemetry.broker import Broker

SECONDS = float(os.environ.get("CAIRN_STORM_SECONDS", "2"))
ROUNDS = max(2, int(SECONDS / 5))  # slices of 5 s, so that everybody looks as often as in life
TOP = Path(__file__).resolve().parents[2]
WITNESSED = "10.9.9.9/32"
CLIENTS, PER_CLIENT, RATE = 20, 10, 1000


def resident(pid: int) -> int:
    """Octets in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Storm:
    """One client changes its routes; another sees each change: how long did it take?"""

    def __init__(self, clients: list[Client]) -> None:
        self.clients = clients
        self.delays: list[float] = []
        self.told = 0

    async def blow(self, seconds: float) -> list[float]:
        """Blow for so long; the delays of the changes measured meanwhile."""
        loop = asyncio.get_running_loop()
        self.delays, first = [], self.told
        begun = loop.time()
        while loop.time() < begun + seconds:
            due = first + int((loop.time() - begun) * RATE)
            for number in range(self.told, due):
                client = self.clients[number % CLIENTS]
                client.announce(f"10.1.{number % CLIENTS}.{number // CLIENTS % PER_CLIENT}/32", med=number)
            if due > self.told and due % 10 < due - self.told:
                await self._measure(due)
            self.told = max(self.told, due)
            await asyncio.sleep(0.002)
        return self.delays

    async def _measure(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        wanted = (1_000_000 + number).to_bytes(4, "big")
        begun = loop.time()
        self.clients[0].announce(WITNESSED, med=1_000_000 + number)
        while wanted not in self.clients[-1].view.get(nlri_of(ip_network(WITNESSED)), b""):
            assert loop.time() < begun + 60, "a change did not arrive"
            await asyncio.sleep(0)
        self.delays.append(loop.time() - begun)


@asynccontextmanager
async def looking(url: str) -> AsyncIterator[Counter[str]]:
    """Everybody looks, from another process; afterwards counts of answers per path."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.reflector.looking", url, stdout=asyncio.subprocess.PIPE, cwd=TOP
    )
    assert process.stdout is not None
    answers: Counter[str] = Counter()
    try:
        assert await process.stdout.readline() == b"looking\n"
        yield answers
    finally:
        process.terminate()
        said, _ = await process.communicate()
    answers.update(json.loads(said))


@asynccontextmanager
async def reflector(folder: Path, **config: Any) -> AsyncIterator[tuple[Program, Storm]]:
    """A reflector and the storm that is to blow at it; in the end all clients have exactly everything."""
    program = Program(folder)
    program.configure(**config)
    await program.start()
    clients = [await Client(number, program.port).up() for number in range(CLIENTS)]
    try:
        wind = Storm(clients)
        await wind.blow(min(1.0, SECONDS))
        yield program, wind
        expected = {prefix for client in clients for prefix in client.said}
        await until(agreed(clients, expected), "everybody has everything")
    finally:
        for client in clients:
            if client.sock is not None:
                await client.stall()
                client.sock.close()
        assert program.process is not None
        program.process.terminate()
        await program.process.wait()
        await program.reading


def agreed(clients: list[Client], expected: set[str]) -> Callable[[], bool]:
    return lambda: all(len(client.view) == len(expected - set(client.said)) for client in clients)


def percentile(delays: list[float], which: int) -> float:
    if len(delays) < 2:  # a machine so busy that nothing can be said
        return sum(delays) or math.nan
    return statistics.quantiles(delays, n=100)[which - 1]


@pytest.mark.peer("mosquitto")
async def test_a_storm_with_everybody_looking(tmp_path: Path) -> None:
    bare, full = tmp_path / "bare", tmp_path / "full"
    for folder in (bare, full):
        folder.mkdir()
    broker = Broker(tmp_path)
    broker.start()
    try:
        port = free_port()
        http, mqtt = {"address": "127.0.0.1", "port": port}, {"host": "127.0.0.1", "port": broker.port}
        async with (
            reflector(bare) as (_, still),
            reflector(full, http=http, mqtt=mqtt) as (program, seen),
        ):
            assert program.process is not None
            before = resident(program.process.pid)
            alone, watched = [], []
            answers: Counter[str] = Counter()
            for _ in range(ROUNDS):
                alone.append(await still.blow(SECONDS / ROUNDS))
                async with looking(f"http://127.0.0.1:{port}") as told:
                    watched.append(await seen.blow(SECONDS / ROUNDS))
                answers.update(told)
            grown = resident(program.process.pid) - before
    finally:
        broker.kill()
    assert set(LOOKS) <= set(answers)
    assert grown < 32 << 20
    for which in (50, 99):
        pairs = [percentile(b, which) / percentile(a, which) for a, b in zip(alone, watched, strict=True)]
        typical = [statistics.median(percentile(each, which) for each in side) for side in (alone, watched)]
        print(
            f"{which} %: {typical[0] * 1e3:.2f} ms alone, {typical[1] * 1e3:.2f} ms watched; "
            f"of {ROUNDS} pairs the median ratio is {statistics.median(pairs):.3f}"
        )
    print(f"grown by {grown >> 10} KiB; answers {dict(answers)}")
