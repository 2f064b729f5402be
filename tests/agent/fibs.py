"""A running `Fib`, and what the kernel and a test call a route."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Set
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Any

from agent.kernel.fib import Fib
from agent.kernel.message import Place
from agent.kernel.route import KernelRoute, unicast
from tests.agent.ground import eventually, sh

PLACE = Place(254, 1024, 179)
V4, V6 = int(socket.AF_INET), int(socket.AF_INET6)


def nlri(text: str) -> bytes:
    network = ip_network(text)
    return bytes((network.prefixlen,)) + network.network_address.packed[: network.prefixlen + 7 >> 3]


def routes(name: str, what: str = "proto 179", family: str = "-4") -> dict[str, dict[str, Any]]:
    listed = json.loads(sh(f"ip -n {name} -j {family} route show {what}") or "[]")
    return {route["dst"]: route for route in listed}


class Owner:
    """A running `Fib` and how often next hops had to be resolved anew."""

    def __init__(self, place: Place, dry_run: bool) -> None:
        self.changes = 0
        self.learned: dict[bytes, tuple[bytes, ...]] = {}  # NLRI → next hops
        self.fib = Fib(
            place,
            lambda family, nlri: self.learned.get(nlri),
            self.changed,
            dry_run=dry_run,
            compare_every=3600,
        )

    def changed(self, moved: Set[bytes]) -> None:
        self.changes += 1

    def via(self, gateway: str) -> KernelRoute:
        hops = self.fib.resolver.resolve(socket.inet_pton(V6 if ":" in gateway else V4, gateway))
        assert hops
        return unicast(*hops)

    async def settled(self) -> None:
        await eventually(lambda: self.fib.settled)


@asynccontextmanager
async def running(place: Place = PLACE, *, dry_run: bool = False) -> AsyncIterator[Owner]:
    owner = Owner(place, dry_run)
    task = asyncio.create_task(owner.fib.run())
    try:
        await owner.fib.ready.wait()
        yield owner
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        owner.fib.close()
