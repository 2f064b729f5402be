"""What the lab sees: the routes of every member, as they are and not as they should be.

On namespaces the kernels are asked: `ip monitor` in each says that something changed, and `ip route` then
says what there is. Without root there are no kernel routes to see, so the agents are asked what they would
write. Either way a member's routes are a mapping of prefix to a short text (`via 10.200.1.1`, `dev
caliweb1`, `blackhole`), and `expected` puts what the script demands into the same words.
"""

import asyncio
import contextlib
import json
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import IPv4Network
from typing import Protocol

from ctl.lab.layout import POOL, Layout, Member, Role
from ctl.lab.netns import Namespace
from ctl.lab.script import Blackhole, Cluster, Local, Via, routes_at

Routes = Mapping[IPv4Network, str]
Tell = Callable[[str, Routes, Routes], None]  # of a member: its routes before, and now


def expected(cluster: Cluster, layout: Layout, at: Member) -> Routes:
    """The routes that a living member must have, in the observers' words."""
    words: dict[IPv4Network, str] = {}
    for prefix, route in routes_at(cluster, at).items():
        match route:
            case Local(interface):
                words[prefix] = f"dev {interface}"
            case Blackhole():
                words[prefix] = "blackhole"
            case Via(node):
                words[prefix] = f"via {layout.gateway_of(at, node)}"
    return words


def kernel_routes(listing: str) -> Routes:
    """The routes to workload addresses in the output of `ip -j route`."""
    seen: dict[IPv4Network, str] = {}
    for route in json.loads(listing or "[]"):
        if route["dst"] == "default":
            continue
        prefix = IPv4Network(route["dst"])
        if not prefix.subnet_of(POOL):
            continue
        hops = route.get("nexthops") or [route]
        words = sorted(
            f"via {hop['gateway']}" if "gateway" in hop else f"dev {hop.get('dev')}" for hop in hops
        )
        seen[prefix] = route["type"] if "type" in route else " + ".join(words)
    return seen


def differences(seen: Routes, wanted: Routes) -> list[str]:
    """How what is seen differs from what is wanted, as lines; none if it does not.

    A host route that leads where its block leads is no difference: a node announces an address by itself
    after another node has, until the workload leaves it.
    """
    return [
        f"{prefix}: {seen.get(prefix, 'no route')}, wanted {wanted.get(prefix, 'no route')}"
        for prefix in sorted({*seen, *wanted})
        if seen.get(prefix) != wanted.get(prefix)
        and not (prefix not in wanted and _is_redundant(prefix, seen))
    ]


def _is_redundant(prefix: IPv4Network, seen: Routes) -> bool:
    """Whether packets to a single address go the same way without its route."""
    blocks = [other for other in seen if other != prefix and prefix.subnet_of(other)]
    longest = max(blocks, key=lambda block: block.prefixlen, default=None)
    return prefix.prefixlen == 32 and longest is not None and seen[longest] == seen[prefix]


class Observer(Protocol):
    """Watches members; `changed` is notified whenever `seen` is another."""

    seen: dict[str, Routes]
    since: dict[str, float]
    changed: asyncio.Event

    def watch(self, member: Member) -> None:
        """Begin to watch a member that is alive."""

    def forget(self, member: Member) -> None:
        """Stop watching a member."""

    async def close(self) -> None:
        """Stop watching everything."""


class _Watching:
    """What both observers share: a task for each member, and what they saw."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self.seen: dict[str, Routes] = {}
        self.since: dict[str, float] = {}
        self.changed = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def _begin(self, member: Member, work: Awaitable[None]) -> None:
        self._tasks[member.name] = asyncio.ensure_future(_to_the_end(work))

    def _saw(self, member: str, routes: Routes, at: float) -> None:
        before = self.seen.get(member, {})
        if member not in self.seen or before != routes:
            self._tell(member, before, routes)
            self.seen[member] = routes
            self.since[member] = at
            self.changed.set()

    def forget(self, member: Member) -> None:
        """Stop watching a member."""
        if (task := self._tasks.pop(member.name, None)) is not None:
            task.cancel()
        self.seen.pop(member.name, None)

    async def close(self) -> None:
        """Stop watching everything."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _to_the_end(work: Awaitable[None]) -> None:
    await work


class KernelObserver(_Watching):
    """Sees the kernel routes of namespaces."""

    def __init__(
        self,
        tell: Tell,
        namespace_of: Callable[[str], Namespace],
        environment: Callable[[], Mapping[str, str]],
    ) -> None:
        super().__init__(tell)
        self._namespace_of = namespace_of
        self._environment = environment

    def watch(self, member: Member) -> None:
        """Begin to watch a member's kernel."""
        self._begin(member, self._follow(member.name, self._namespace_of(member.name).name))

    async def _follow(self, member: str, namespace: str) -> None:
        monitor = await self._run("ip", "-n", namespace, "monitor", "route")
        assert monitor.stdout is not None
        try:
            await self._look(member, namespace, time.monotonic())
            while await monitor.stdout.readline():
                at = time.monotonic()
                with contextlib.suppress(TimeoutError):  # take what comes in one go as one change
                    while True:
                        async with asyncio.timeout(0.005):
                            if not await monitor.stdout.readline():
                                break
                await self._look(member, namespace, at)
        finally:
            with contextlib.suppress(ProcessLookupError):
                monitor.kill()
            await monitor.wait()

    async def _look(self, member: str, namespace: str, at: float) -> None:
        listing = await self._run("ip", "-n", namespace, "-j", "route", "show", "table", "main")
        output, _ = await listing.communicate()
        if listing.returncode == 0:
            self._saw(member, kernel_routes(output.decode()), at)

    async def _run(self, *argv: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=dict(self._environment())
        )


class AgentObserver(_Watching):
    """Sees the routes that agents would write, by asking them again and again."""

    def __init__(
        self, tell: Tell, ask: Callable[[Member], Awaitable[Routes | None]], every: float = 0.05
    ) -> None:
        super().__init__(tell)
        self._ask = ask
        self._every = every

    def watch(self, member: Member) -> None:
        """Begin to ask a member's agent."""
        self._begin(member, self._follow(member))

    async def _follow(self, member: Member) -> None:
        while True:
            at = time.monotonic()
            routes = await self._ask(member)
            if routes is not None:
                self._saw(member.name, routes, at)
            await asyncio.sleep(self._every)


def unmet(observer: Observer, cluster: Cluster, layout: Layout) -> dict[str, list[str]]:
    """The living members whose routes are not (yet) what they must be, each with the differences."""
    waiting = {}
    for member in layout.learners:
        if member.role is Role.NODE and member.name not in cluster.alive:
            continue
        if found := differences(observer.seen.get(member.name, {}), expected(cluster, layout, member)):
            waiting[member.name] = found
    return waiting
