"""Runs a lab: makes the ground, starts real services, plays the script, waits for the truth, leaves no trace.

Every step is measured the same way: the clock starts when the changed resources are written to the
datastore (for a killed node: when its power goes), and stops for each member when its routes are exactly
those the script demands. On namespaces the step is done once pings from workload to workload get through as
well.
"""

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from bgpd.datastore import Create, Datastore, DatastoreError, Delete, Update, Write, open_datastore
from bgpd.resources import Key, Resource
from ctl.lab import declared, netns
from ctl.lab.daemons import DaemonError, Daemons
from ctl.lab.ground import LoopbackGround, NamespaceGround
from ctl.lab.layout import Layout, Member, Mode, Role
from ctl.lab.observer import AgentObserver, KernelObserver, Routes, unmet
from ctl.lab.places import enter, sockets_in
from ctl.lab.recipes import Ports, Recipes
from ctl.lab.report import MemberPicture, Sink, Value, event
from ctl.lab.script import (
    AddWorkload,
    Change,
    Cluster,
    KillNode,
    MoveWorkload,
    RemoveWorkload,
    ReviveNode,
    Step,
    Workload,
)
from ctl.services import Service, Unreachable

PATIENCE = 45.0  # seconds that a step may take to reach the last member
START_PATIENCE = 60.0
PING_EVERY = 0.1


class LabError(Exception):
    """The lab cannot go on; the text says why."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """How a step went: seconds until each member had it and until pings got through, or why they did not.

    `pinged` is None on loopback, where nobody can be pinged.
    """

    step: Step
    reached: dict[str, float]
    pinged: float | None
    failure: str = ""

    @property
    def seconds(self) -> float:
        """Seconds until the last member had it."""
        return max(self.reached.values(), default=0.0)

    @property
    def last(self) -> str:
        """The member that had it last."""
        return max(self.reached, key=lambda name: self.reached[name], default="")


@dataclass(slots=True)
class Sessions:
    """What a member's service says about its sessions."""

    established: int = 0
    total: int = 0
    up: frozenset[str] = frozenset()


@dataclass(slots=True)
class LabRun:
    """One lab from beginning to end. `prepared` is the context in which `play` may be called."""

    layout: Layout
    ports: Ports
    etcd: str | None  # the program; None for the directory store
    sink: Sink
    log_level: str = "info"
    results: list[StepResult] = field(default_factory=list)
    cluster: Cluster = field(init=False)
    sessions: dict[str, Sessions] = field(default_factory=dict)
    ground: LoopbackGround | NamespaceGround = field(init=False)
    directory: Path = field(init=False)
    recipes: Recipes = field(init=False)
    daemons: Daemons = field(init=False)
    store: Datastore = field(init=False)
    observer: KernelObserver | AgentObserver = field(init=False)
    written: dict[Key, Resource] = field(default_factory=dict)

    @asynccontextmanager
    async def prepared(self) -> AsyncIterator[None]:
        """Make everything and start everything; afterwards take everything away, whatever happened."""
        self.cluster = Cluster.of(self.layout)
        self.ground = (
            NamespaceGround(self.layout) if self.layout.mode is Mode.NAMESPACES else LoopbackGround()
        )
        self.directory = Path(tempfile.gettempdir()) / f"cairn-{self.ground.name}"
        self.directory.mkdir(mode=0o700)
        helpers: list[asyncio.Task[None]] = []
        try:
            await self._start()
            helpers += [asyncio.create_task(self._follow_sessions()), asyncio.create_task(self._paint())]
            yield
        finally:
            for task in helpers:
                task.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            await self._end()

    async def _start(self) -> None:
        routers_first = sorted(self.layout, key=lambda member: member.role is not Role.ROUTER)
        for member in routers_first:
            self.ground.make(member)
        self.daemons = Daemons(self.directory, self.ground.environment())
        if isinstance(self.ground, NamespaceGround):
            self.observer = KernelObserver(
                self._tell_routes, self.ground.namespace, self.ground.environment()
            )
        else:
            self.observer = AgentObserver(self._tell_routes, self._routes_of_agent)
        self.recipes = Recipes(
            self.layout, self.ports, self.directory, await self._make_store(), self.log_level
        )
        self.store = open_datastore(self.recipes.store, {})
        await self._declare(declared.of_cluster(self.layout, self.ports.bgp))
        for member in self.layout:
            await self._start_service(member)
        await self._wait_for_sessions()

    async def _make_store(self) -> str:
        """Make the datastore; where it is."""
        if self.etcd is None:
            place = self.directory / "resources"
            place.mkdir()
            return str(place)
        address = IPv4Address("127.0.0.1")
        argv_of = list[str]
        if isinstance(self.ground, NamespaceGround):
            router = self.layout.of(Role.ROUTER)[0]
            address = router.address
            enter(self.ground.namespace(router.name).name)  # from here on, this process talks to etcd itself
        recipes = Recipes(self.layout, self.ports, self.directory, "", self.log_level)
        await self.daemons.start("etcd", argv_of(recipes.etcd(self.etcd, address)))
        location = f"etcd://{address}:{self.ports.etcd}"
        self._say("store.started", f"etcd started at {location}")
        return location

    async def _start_service(self, member: Member) -> None:
        await self.daemons.start(member.name, self.ground.argv(member, *self.recipes.service(member)))
        if member.role is not Role.REFLECTOR:
            self.observer.watch(member)

    async def _end(self) -> None:
        if hasattr(self, "observer"):
            await self.observer.close()
        if hasattr(self, "store"):
            with contextlib.suppress(DatastoreError):
                await self.store.close()
        await asyncio.to_thread(self.ground.remove)
        if hasattr(self, "daemons"):
            await self.daemons.bury()
        shutil.rmtree(self.directory, ignore_errors=True)

    # What happens

    async def play(self, step: Step) -> StepResult:
        """Carry out a step and wait until it has reached everyone; the result also says if it did not."""
        self._say("step.begun", step.title, step=step.title)
        for change in step.changes:
            await self._prepare(change)
        before = self.cluster
        for change in step.changes:
            self.cluster = self.cluster.after(change)
        begun = time.monotonic()
        for change in step.changes:
            await self._carry_out(change)
        if self.cluster.workloads != before.workloads:
            await self._declare(declared.of_workloads(self.cluster))
        result = await self._until_reached(step, begun)
        self.results.append(result)
        self._tell(result)
        return result

    async def _prepare(self, change: Change) -> None:
        """Make what has to be there before the datastore says so."""
        if isinstance(change, AddWorkload):
            await self._to_thread_wire(self.cluster.after(change).workloads[change.name])
        elif isinstance(change, MoveWorkload):
            await asyncio.to_thread(self.ground.unwire, change.name)
            await self._to_thread_wire(self.cluster.after(change).workloads[change.name])

    async def _to_thread_wire(self, workload: Workload) -> None:
        await asyncio.to_thread(self.ground.wire, workload)

    async def _carry_out(self, change: Change) -> None:
        match change:
            case RemoveWorkload(name):
                await asyncio.to_thread(self.ground.unwire, name)
            case KillNode(node):
                await self._power_off(self.layout.member(node))
            case ReviveNode(node):
                await self._power_on(self.layout.member(node))
            case AddWorkload() | MoveWorkload():
                pass  # the declaration is all that is left to do

    async def _power_off(self, member: Member) -> None:
        self.daemons.running[member.name].ending = True
        self.observer.forget(member)
        for workload in self.cluster.on(member.name):
            self.ground.unwire(workload.name)
        self.ground.power_off(member)
        await self.daemons.kill(member.name)

    async def _power_on(self, member: Member) -> None:
        await asyncio.to_thread(self.ground.power_on, member)
        for workload in self.cluster.on(member.name):
            await self._to_thread_wire(workload)
        await self._start_service(member)

    async def _declare(self, wanted: list[Resource]) -> None:
        """Make the datastore hold these workloads' resources in one transaction, beside the cluster's own."""
        kinds = {"WorkloadEndpoint", "BlockAffinity"} if self.written else None
        async with asyncio.timeout(START_PATIENCE):
            while True:
                try:
                    present = {entry.key: entry for entry in (await self.store.list()).entries}
                    break
                except DatastoreError:
                    self.daemons.check()
                    await asyncio.sleep(0.1)
        fresh = {resource.key: resource for resource in wanted}
        writes: list[Write] = [
            Create(resource) if key not in present else Update(resource, present[key].revision)
            for key, resource in fresh.items()
            if key not in present or self.written.get(key) != resource
        ]
        if kinds is not None:
            writes += [
                Delete(key, entry.revision)
                for key, entry in present.items()
                if key.kind in kinds and key not in fresh
            ]
        await self.store.commit(writes, atomic=len(writes) <= 100)
        self.written = fresh if kinds is None else {**self.written, **fresh}

    # What is seen

    async def _until_reached(self, step: Step, begun: float) -> StepResult:
        reached: dict[str, float] = {}
        pinged: float | None = None
        deadline = begun + PATIENCE
        while True:
            self.observer.changed.clear()
            waiting = unmet(self.observer, self.cluster, self.layout)
            for member in self.layout.learners:
                if member.name in waiting:
                    reached.pop(member.name, None)
                elif self._is_alive(member) and member.name not in reached:
                    at = max(0.0, self.observer.since.get(member.name, begun) - begun)
                    reached[member.name] = at
                    self._say(
                        "route.reached",
                        f"{member.name} has it after {at:.3f} s",
                        member=member.name,
                        seconds=round(at, 4),
                    )
            if not waiting and self.ground.real_kernel and pinged is None:
                pinged = await self._ping_all(begun)
            if not waiting and (pinged is not None or not self.ground.real_kernel):
                return StepResult(step, reached, pinged)
            if time.monotonic() > deadline:
                return StepResult(step, reached, pinged, self._what_is_missing(waiting))
            self._check()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.observer.changed.wait(), PING_EVERY if not waiting else 0.5)

    async def _ping_all(self, begun: float) -> float | None:
        """Ping from every running workload to the next, and from the router to each; seconds, or None."""
        running = self.cluster.running()
        pairs = [
            (running[index - 1].name, target) for index, target in enumerate(running) if len(running) > 1
        ]
        pairs += [(router.name, target) for router in self.layout.of(Role.ROUTER) for target in running]
        answers = await asyncio.gather(*(self.ground.ping(source, target) for source, target in pairs))
        return time.monotonic() - begun if all(answers) else None

    def _what_is_missing(self, waiting: dict[str, list[str]]) -> str:
        if not waiting:
            return "routes are right, but not every ping gets through"
        return "; ".join(f"{name}: {', '.join(found[:3])}" for name, found in waiting.items())

    async def _wait_for_sessions(self) -> None:
        wanted = len(self.layout.of(Role.REFLECTOR))
        deadline = time.monotonic() + START_PATIENCE
        while True:
            await self._ask_sessions()
            missing = [
                member.name
                for member in self.layout.learners
                if self.sessions.get(member.name, Sessions()).established < wanted
            ]
            if not missing:
                break
            if time.monotonic() > deadline:
                logs = "\n".join(self._log_of(name) for name in missing[:2])
                raise LabError(
                    f"no session with every reflector in {START_PATIENCE:.0f} s: {', '.join(missing)}\n{logs}"
                )
            self._check()
            await asyncio.sleep(0.1)
        self._say(
            "lab.ready",
            f"{len(self.layout.learners)} members have their sessions with {wanted} reflector(s)",
            members=[member.name for member in self.layout],
            mode=self.layout.mode,
            store=self.recipes.store,
        )

    def _log_of(self, name: str) -> str:
        log = self.directory / f"{name}.log"
        return f"last words of {name}:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-10:])

    async def _follow_sessions(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            await self._ask_sessions()

    async def _ask_sessions(self) -> None:
        await asyncio.gather(*(self._ask_member(member) for member in self.layout if self._is_alive(member)))

    async def _ask_member(self, member: Member) -> None:
        try:
            async with self._service(member) as service:
                peers = (await service.get("peers"))["peers"]
        except (Unreachable, OSError):
            return
        up = frozenset(peer["name"] for peer in peers if peer["established"])
        before = self.sessions.get(member.name, Sessions()).up
        self.sessions[member.name] = Sessions(len(up), len(peers), up)
        for name in sorted(up - before):
            self._say("session.up", f"{member.name}: session with {name} up", member=member.name, peer=name)
        for name in sorted(before - up):
            self._say(
                "session.down", f"{member.name}: session with {name} down", member=member.name, peer=name
            )

    def _service(self, member: Member) -> Service:
        factory = None
        if isinstance(self.ground, NamespaceGround):
            factory = sockets_in(self.ground.namespace(member.name).name)
        return Service(self.recipes.status_url(member), socket_factory=factory)

    async def _routes_of_agent(self, member: Member) -> Routes | None:
        """The kernel routes that an agent would write, from its status; None while it does not answer.

        Its own routes are those of its plan, the learned ones the best of its Loc-RIB; own ones come first.
        """
        try:
            async with self._service(member) as service:
                plan = (await service.get("plan"))["plan"]
                best = await service.get("routes", direction="best", family="ipv4-unicast", limit="1000")
        except (Unreachable, OSError):
            return None
        learned = {r["prefix"]: f"via {r['next_hop']}" for r in best["routes"] if r["best"]}
        own = {route["prefix"]: "blackhole" for route in plan.get("blackholes", ())}
        workloads = {route["prefix"]: f"dev {route['interface']}" for route in plan.get("workloads", ())}
        return {IPv4Network(prefix): words for prefix, words in (learned | own | workloads).items()}

    async def _paint(self) -> None:
        while True:
            waiting = unmet(self.observer, self.cluster, self.layout)
            self.sink.picture([self._pictured(member, waiting) for member in self.layout])
            await asyncio.sleep(0.2)

    def _pictured(self, member: Member, waiting: dict[str, list[str]]) -> MemberPicture:
        sessions = self.sessions.get(member.name, Sessions())
        routes = [
            f"{prefix} {route}" for prefix, route in sorted(self.observer.seen.get(member.name, {}).items())
        ]
        return MemberPicture(
            member.name,
            member.role,
            str(member.address),
            self._is_alive(member),
            f"{sessions.established}/{sessions.total}",
            routes,
            member.name not in waiting,
        )

    def _is_alive(self, member: Member) -> bool:
        return member.role is not Role.NODE or member.name in self.cluster.alive

    def _check(self) -> None:
        try:
            self.daemons.check()
        except DaemonError as error:
            raise LabError(str(error)) from error

    # What is told

    def _tell(self, result: StepResult) -> None:
        data: dict[str, Value] = {
            "step": result.step.title,
            "seconds": round(result.seconds, 4),
            "last": result.last,
            "reached": {name: round(seconds, 4) for name, seconds in result.reached.items()},
            "pinged": None if result.pinged is None else round(result.pinged, 4),
        }
        if result.failure:
            self._say(
                "step.failed",
                f"{result.step.title}: not everywhere: {result.failure}",
                **data,
                failure=result.failure,
            )
            return
        pings = "" if result.pinged is None else f", pings get through after {result.pinged:.2f} s"
        self._say("step.done", f"{result.step.title}: everywhere after {result.seconds:.3f} s{pings}", **data)

    def _tell_routes(self, member: str, before: Routes, now: Routes) -> None:
        """One event for each route of a member that came, went or changed."""
        verb = "has" if self.ground.real_kernel else "would write"
        for prefix in sorted({*before, *now}):
            if before.get(prefix) == now.get(prefix):
                continue
            if prefix in now:
                text = f"{member} {verb} {prefix} {now[prefix]}"
            else:
                text = f"{member} {'has' if self.ground.real_kernel else 'would have'} no route to {prefix}"
            self._say("route.changed", text, member=member, prefix=str(prefix), route=now.get(prefix))

    def _say(self, kind: str, text: str, **data: Value) -> None:
        self.sink.event(event(kind, text, **data))


def sweep() -> list[str]:
    """Remove what earlier labs left behind because they were killed; their names."""
    swept = set(netns.clean_abandoned())
    for place in Path(tempfile.gettempdir()).glob("cairn-lab*-*-*"):
        name = place.name.removeprefix("cairn-")
        if place.is_dir() and name.count("-") == 2 and not netns.owner_alive(name):
            shutil.rmtree(place, ignore_errors=True)
            swept.add(name)
    return sorted(swept)
