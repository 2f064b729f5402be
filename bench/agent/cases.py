"""The pieces of work a node is measured by.

Every case runs once per contender and repetition on a fresh pair of nodes; etcd and the reflector stay. What
a case returns is figure → value.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bench.agent.contenders import Node, peak_memory, processor_time
from bench.agent.feeder import Feeder, hosts
from bench.agent.ground import ASN, CORE, FEEDER, SECOND, Ground, resource
from bench.agent.kernel import Kernel
from bench.agent.mesh import measure as join_mesh
from bench.agent.mesh import together as begin_mesh
from bench.agent.packets import measure
from bench.agent.store import measure as store_load
from bench.figures import Figure

Results = dict[str, float]
Make = Callable[[str, int], Node]  # (node name, number) → a contender there


@dataclass(frozen=True, slots=True)
class Case:
    """``run`` gets the ground and a maker of nodes. ``figures`` name what comes out."""

    name: str
    figures: tuple[Figure, ...]
    run: Callable[[Ground, Make], Awaitable[Results]]
    rivals: bool = True


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def destination(address: str) -> tuple[int, bytes]:
    return 32, socket.inet_aton(address)


def addresses(first: str, count: int) -> list[str]:
    start = int(ipaddress.ip_address(first))
    return [str(ipaddress.ip_address(start + number)) for number in range(count)]


@asynccontextmanager
async def running(*nodes: Node) -> AsyncIterator[None]:
    try:
        for node in nodes:
            await node.start()
        yield
    finally:
        for node in nodes:
            await node.stop()


@asynccontextmanager
async def feeding(ground: Ground) -> AsyncIterator[Feeder]:
    feeder = Feeder(ground.core.name, FEEDER, CORE, ASN)
    await feeder.start()
    try:
        yield feeder
    finally:
        await feeder.stop()


def single_changes(count: int) -> Case:
    """One change after the other: told to node a, timed in the kernel of node b."""

    async def run(ground: Ground, make: Make) -> Results:  # noqa: ARG001  a case's signature
        a, b = make("a", 1), make("b", 2)
        probe, subjects = "10.64.200.1", addresses("10.64.0.1", count // 2)
        took: list[float] = []
        with Kernel(b.place.name) as kernel:
            async with running(a, b):
                try:
                    await a.announce([probe])
                    await kernel.shown(destination(probe), True, 60)
                    await asyncio.sleep(3)
                    for address in subjects:
                        for present in (True, False):
                            begun = time.monotonic()
                            await (a.announce if present else a.withdraw)([address])
                            took.append(await kernel.shown(destination(address), present, 10) - begun)
                            await asyncio.sleep(0.02)
                finally:
                    await a.withdraw([probe])
        return {"change-p50": percentile(took, 0.5) * 1e3, "change-p99": percentile(took, 0.99) * 1e3}

    figures = (
        Figure("change-p50", f"one change, store → far kernel, p50 of {count}", "ms", bar=1.0, limit=20),
        Figure("change-p99", f"one change, store → far kernel, p99 of {count}", "ms", bar=1.0, limit=60),
    )
    return Case("change", figures, run)


def cluster(nodes: int, blocks: int) -> dict[bytes, list[bytes]]:
    """A cluster's routes: next hop → its blocks."""
    hops = [socket.inet_aton(each) for each in addresses("10.0.4.1", nodes)]
    start = int(ipaddress.ip_address("10.64.0.0"))
    return {
        hop: [
            b"\x1a" + (start + (number * blocks + block) * 64).to_bytes(4, "big") for block in range(blocks)
        ]
        for number, hop in enumerate(hops)
    }


def join(nodes: int, blocks: int) -> Case:
    """A node joins a cluster: from its start until the last route is in its kernel."""
    total = nodes * blocks

    async def run(ground: Ground, make: Make) -> Results:
        a = make("a", 1)
        async with feeding(ground) as feeder:
            await feeder.announce(cluster(nodes, blocks))
            await asyncio.sleep(1)
            with Kernel(a.place.name) as kernel:
                begun = time.monotonic()
                async with running(a):
                    took = await kernel.until(total, 120) - begun
                    await asyncio.sleep(2)
                    return {"join": took, "join-memory": peak_memory(a.pids())}

    figures = (
        Figure("join", f"join {nodes:,} nodes × {blocks} blocks: start → last route", "s", limit=3),
        Figure("join-memory", f"memory with {total:,} routes, all processes", "MB", limit=150),
    )
    return Case("join", figures, run)


def table(count: int) -> Case:
    """Many routes at once into the kernel, then all of them by way of another next hop."""

    async def run(ground: Ground, make: Make) -> Results:
        a = make("a", 1)
        nlri = list(hosts("10.64.0.0", count))
        probe = b"\x20" + socket.inet_aton("10.127.255.1")
        first, second = socket.inet_aton("10.0.4.1"), socket.inet_aton("10.0.4.2")
        async with feeding(ground) as feeder:
            await feeder.announce({first: [probe]})
            with Kernel(a.place.name) as kernel:
                async with running(a):
                    await kernel.shown((32, probe[1:]), True, 60)
                    await asyncio.sleep(1)
                    results = {}
                    for name, hop in (("table", first), ("table-moved", second)):
                        kernel.forget()
                        begun = time.monotonic()
                        await feeder.announce({hop: nlri})
                        results[name] = await kernel.until(count, 300) - begun
                        await asyncio.sleep(1)
                    return results

    figures = (
        Figure("table", f"{count:,} routes into the kernel", "s", limit=10),
        Figure("table-moved", f"the next hop of {count:,} routes changed", "s", limit=10),
    )
    return Case("table", figures, run)


def endpoints(count: int) -> Case:
    """A node with many endpoints starts: until the last of them is in another node's kernel."""

    async def run(ground: Ground, make: Make) -> Results:  # noqa: ARG001  a case's signature
        a, b = make("a", 1), make("b", 2)
        await a.announce(addresses("10.64.0.1", count))
        with Kernel(b.place.name) as kernel:
            async with running(b):
                await asyncio.sleep(5)
                begun = time.monotonic()
                async with running(a):
                    last = await kernel.until(count, 120)
                    first = min(kernel.since.values())
                    return {"endpoints": last - first, "endpoints-start": last - begun}

    figures = (
        Figure("endpoints", f"{count:,} endpoints announced: first → last in the far kernel", "s", limit=2),
        Figure("endpoints-start", f"{count:,} endpoints: start of the agent → last", "s"),
    )
    return Case("endpoints", figures, run)


def idle(seconds: float) -> Case:
    """A node with nothing to do and two peers: its processor time."""

    async def run(ground: Ground, make: Make) -> Results:
        a = make("a", 1)
        ground.reflector("second", SECOND)
        await ground.declare(resource("BGPPeer", "second", {"peerIP": SECOND, "asNumber": ASN}))
        async with feeding(ground) as feeder:
            await feeder.announce({socket.inet_aton("10.0.4.1"): list(hosts("10.64.0.0", 1))})
            with Kernel(a.place.name) as kernel:
                async with running(a):
                    await kernel.until(1, 60)
                    await asyncio.sleep(10)
                    before, begun = processor_time(a.pids()), time.monotonic()
                    await asyncio.sleep(seconds)
                    used = processor_time(a.pids()) - before
                    return {"idle": used / (time.monotonic() - begun) * 100}

    figures = (Figure("idle", "idle with two peers: processor time, all processes", "% of a core", limit=2),)
    return Case("idle", figures, run, rivals=False)


def packets(rounds: int, seconds: float) -> Case:
    """Round trips; the ratios are to the hosts, and to routes by hand, measured at the same time."""

    async def run(ground: Ground, make: Make) -> Results:  # noqa: ARG001  a case's signature
        took = await measure(ground, rounds, seconds)
        again = took.pop("hosts-again")
        results = {f"trip-{name}": value for name, value in took.items()}
        for name in ("routed", "by-hand", "bridge", "vxlan"):
            results[f"rate-{name}"] = took[name] / (again if name == "vxlan" else took["hosts"])
        results["added"] = took["routed"] / took["by-hand"]
        return results

    titles = {"hosts": "between hosts", "routed": "workloads, routed", "by-hand": "workloads, routes by hand",
              "bridge": "workloads, Linux bridge", "vxlan": "workloads, VXLAN"}  # fmt: skip
    figures = [Figure(f"trip-{name}", f"a round trip {title}", "µs") for name, title in titles.items()]
    figures += [
        Figure(f"rate-{name}", f"{titles[name]}: time of a round trip ÷ hosts'", "×",
               limit=round(1 / 0.95, 3) if name == "routed" else None)
        for name in ("routed", "by-hand", "bridge", "vxlan")
    ]  # fmt: skip
    figures.append(
        Figure("added", "workloads, routed: time of a round trip ÷ routes by hand", "×", limit=1.05)
    )
    return Case("packets", tuple(figures), run, rivals=False)


def store(agents: int, rate: float, seconds: float) -> Case:
    """What the agents of a whole cluster cost etcd."""

    async def run(ground: Ground, make: Make) -> Results:  # noqa: ARG001  a case's signature
        return await store_load(ground, agents, rate, seconds)

    figures = (
        Figure("store-watches", "etcd: watches of one agent", "-"),
        Figure("store-events", "etcd: agents told of one workload's change", "-", limit=1),
        Figure("store-memory", f"etcd: memory for {agents:,} agents", "MB"),
        Figure("store-idle", f"etcd: processor time with {agents:,} agents at rest", "% of a core"),
        Figure("store-change", "etcd: processor time for one workload's change", "ms"),
    )
    return Case("store", figures, run, rivals=False)


def mesh(nodes: int) -> Case:
    """One node joins a full mesh."""

    async def run(ground: Ground, make: Make) -> Results:  # noqa: ARG001  a case's signature
        return await join_mesh(ground, nodes, 60)

    title = f"mesh of {nodes}: one node's start → all its sessions up, kernel and peers exact"
    return Case("mesh", (Figure("mesh", title, "s", limit=30),), run, rivals=False)


def together(nodes: int) -> Case:
    """All nodes of a full mesh start at once."""

    async def run(ground: Ground, make: Make) -> Results:  # noqa: ARG001  a case's signature
        return await begin_mesh(ground, nodes, 300)

    title = f"mesh of {nodes} agents started at once"
    figures = (
        Figure("together", f"{title} → every kernel exact", "s"),
        Figure("together-cpu", f"{title}: processor time of one, until then", "s"),
        Figure("together-idle", f"{title}: one at rest", "% of a core"),
    )
    return Case("together", figures, run, rivals=False)


def standard() -> list[Case]:
    return [
        single_changes(500), join(1000, 10), table(100_000), endpoints(5000), idle(30), packets(20, 0.4),
        mesh(100), together(30), store(1000, 100, 10),
    ]  # fmt: skip


def quick() -> list[Case]:
    return [
        single_changes(40), join(100, 10), table(5000), endpoints(500), idle(10), packets(5, 0.3),
        mesh(20), together(5), store(50, 40, 3),
    ]  # fmt: skip
