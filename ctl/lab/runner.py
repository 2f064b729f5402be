"""Runs a lab: makes the ground, starts real services, plays the script, waits for the truth, leaves no trace.

Every step is measured the same way: the clock starts when the changed resources are about to be written to
the datastore (for a killed node: when its power goes), and stops for each member when its routes are
exactly those the script demands. On namespaces the step is done once pings from workload to workload get
through as well.
"""

import asyncio
import contextlib
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import ParamSpec

from bgpd.datastore import Datastore, DatastoreError, open_datastore
from ctl.lab import declared, netns
from ctl.lab.daemons import DaemonError, Daemons, last_words
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
from ctl.lab.sessions import SessionWatch
from ctl.lab.store import Declarations
from ctl.services import Service, Unreachable

P = ParamSpec("P")
PATIENCE = 45.0  # seconds that a step may take to reach the last member
START_PATIENCE = 60.0
PING_EVERY = 0.1
PAINT_EVERY = 0.2


_LAB = re.compile(r"lab[a-z0-9]*-\d+-\d+")


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


class LabRun:
    """One lab from beginning to end: `async with run.prepared():`, and within it `play` step after step.

    `etcd` is the program to keep the declared state in; None keeps it in a directory.
    """

    def __init__(
        self, layout: Layout, ports: Ports, etcd: str | None, sink: Sink, log_level: str = "info"
    ) -> None:
        self.layout = layout
        self.sink = sink
        self.results: list[StepResult] = []
        self.held = False  # the story is over and the cluster is kept for exploration
        self.cluster = Cluster.of(layout)
        self.ground = NamespaceGround(layout) if layout.mode is Mode.NAMESPACES else LoopbackGround()
        self.directory = Path(tempfile.gettempdir()) / f"cairn-{self.ground.name}"
        self._etcd = etcd
        self._etcd_address = IPv4Address("127.0.0.1")
        if layout.mode is Mode.NAMESPACES:
            self._etcd_address = layout.of(Role.ROUTER)[0].address
        self._resources = self.directory / "resources"
        store = str(self._resources)
        if etcd is not None:
            store = f"etcd://{self._etcd_address}:{ports.etcd}"
        self.recipes = Recipes(layout, ports, self.directory, store, log_level)
        self.sessions = SessionWatch(layout, self._service, self._is_alive, self._tell_session)
        self.observer: KernelObserver | AgentObserver = (
            KernelObserver(self._tell_routes, self.ground.namespace, self.ground.environment)
            if isinstance(self.ground, NamespaceGround)
            else AgentObserver(self._tell_routes, self._routes_of_agent)
        )
        self._daemons = Daemons(self.directory, self.ground.environment)
        self._store: Datastore | None = None
        self._declarations: Declarations | None = None

    @asynccontextmanager
    async def prepared(self) -> AsyncIterator[None]:
        """Make everything and start everything; afterwards take everything away, whatever happened."""
        self.directory.mkdir(mode=0o700)
        following: list[asyncio.Task[None]] = []
        try:
            following.append(asyncio.create_task(self._paint()))
            await self._start()
            following.append(asyncio.create_task(self.sessions.follow()))
            yield
        finally:
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)
            await self._end()

    async def _start(self) -> None:
        what = f"{len(self.layout.of(Role.NODE))} nodes, {len(self.layout.of(Role.REFLECTOR))} reflector(s)"
        self._say("lab.begun", f"{what}, on {self.layout.mode}; declared state in {self.recipes.store}")
        for member in sorted(self.layout, key=lambda member: member.role is not Role.ROUTER):
            await _in_thread(self.ground.make, member)
        if self._etcd is None:
            self._resources.mkdir()
        else:
            if isinstance(self.ground, NamespaceGround):  # from here on, this process talks to etcd itself
                enter(self.ground.namespace(self.layout.of(Role.ROUTER)[0].name).name)
            await self._daemons.start("etcd", self.recipes.etcd(self._etcd, self._etcd_address))
        self._store = open_datastore(self.recipes.store, {})
        self._declarations = Declarations(self._store)
        async with asyncio.timeout(START_PATIENCE):
            await self._declarations.begin(
                declared.of_cluster(self.layout, self.recipes.ports.bgp), self._check
            )
        for member in self.layout:
            await self._start_service(member)
        await self._wait_for_sessions()

    async def _start_service(self, member: Member) -> None:
        await self._daemons.start(member.name, self.ground.argv(member, *self.recipes.service(member)))
        if member.role is not Role.REFLECTOR:
            self.observer.watch(member)

    async def _wait_for_sessions(self) -> None:
        wanted = len(self.layout.of(Role.REFLECTOR))
        deadline = time.monotonic() + START_PATIENCE
        while True:
            await self.sessions.ask()
            missing = [m.name for m in self.layout.learners if len(self.sessions.of(m).up) < wanted]
            if not missing:
                break
            if time.monotonic() > deadline:
                logs = "\n".join(last_words(self.directory / f"{name}.log") for name in missing[:2])
                raise LabError(
                    f"no session with every reflector in {START_PATIENCE:.0f} s: {', '.join(missing)}\n{logs}"
                )
            self._check()
            await asyncio.sleep(PING_EVERY)
        self._say(
            "lab.ready",
            f"{len(self.layout.learners)} agents have their sessions with {wanted} reflector(s)",
            members=[member.name for member in self.layout],
            mode=self.layout.mode,
            store=self.recipes.store,
        )

    async def _end(self) -> None:
        await self.observer.close()
        if self._store is not None:
            with contextlib.suppress(DatastoreError):
                await self._store.close()
        await _in_thread(self.ground.remove)
        await self._daemons.bury()
        shutil.rmtree(self.directory, ignore_errors=True)

    # What happens

    async def play(self, step: Step) -> StepResult:
        """Carry out a step and wait until it has reached everyone; the result also says if it did not."""
        assert self._declarations is not None, "use `async with prepared()`"
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
            await self._declarations.workloads(declared.of_workloads(self.cluster))
        result = await self._until_reached(step, begun)
        self.results.append(result)
        self._tell_result(result)
        return result

    async def _prepare(self, change: Change) -> None:
        """Make what has to be there before the datastore says so: workloads where they will be."""
        if isinstance(change, AddWorkload | MoveWorkload):
            await _in_thread(self.ground.unwire, change.name)
            await self._wire(self.cluster.after(change).workloads[change.name])

    async def _wire(self, workload: Workload) -> None:
        await _in_thread(self.ground.wire, workload)

    async def _carry_out(self, change: Change) -> None:
        match change:
            case RemoveWorkload(name):
                await _in_thread(self.ground.unwire, name)
            case KillNode(node):
                await self._power_off(self.layout.member(node))
            case ReviveNode(node):
                await self._power_on(self.layout.member(node))
            case AddWorkload() | MoveWorkload():
                pass  # the declaration is all that is left to do

    async def _power_off(self, member: Member) -> None:
        self._daemons.expect_end(member.name)
        self.observer.forget(member)
        for workload in self.cluster.on(member.name):
            self.ground.unwire(workload.name)
        self.ground.power_off(member)
        await self._daemons.kill(member.name)
        self.sessions.forget(member)

    async def _power_on(self, member: Member) -> None:
        await _in_thread(self.ground.power_on, member)
        for workload in self.cluster.on(member.name):
            await self._wire(workload)
        await self._start_service(member)

    # What is seen

    async def _until_reached(self, step: Step, begun: float) -> StepResult:
        reached: dict[str, float] = {}
        pinged: float | None = None
        while True:
            self.observer.changed.clear()
            waiting = unmet(self.observer, self.cluster, self.layout)
            self._note_reached(reached, waiting, begun)
            if not waiting and self.ground.real_kernel:
                pinged = await self._ping_all(begun)
            if not waiting and (pinged is not None or not self.ground.real_kernel):
                return StepResult(step, reached, pinged)
            if time.monotonic() > begun + PATIENCE:
                return StepResult(step, reached, pinged, _missing(waiting))
            self._check()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PING_EVERY):
                    await self.observer.changed.wait()

    def _note_reached(self, reached: dict[str, float], waiting: dict[str, list[str]], begun: float) -> None:
        """Enter the members that are there by now; one that fell behind again is struck out."""
        for member in self.layout.learners:
            if member.name in waiting:
                reached.pop(member.name, None)
            elif self._is_alive(member) and member.name not in reached:
                seconds = max(0.0, self.observer.since.get(member.name, begun) - begun)
                reached[member.name] = seconds
                text = f"{member.name} is as it should be after {seconds:.3f} s"
                self._say("member.reached", text, member=member.name, seconds=round(seconds, 4))

    async def _ping_all(self, begun: float) -> float | None:
        """Ping from every running workload to the next, and from the router to each; seconds, or None."""
        running = self.cluster.running()
        pairs = [
            (running[index - 1].name, target) for index, target in enumerate(running) if len(running) > 1
        ]
        pairs += [(router.name, target) for router in self.layout.of(Role.ROUTER) for target in running]
        answers = await asyncio.gather(*(self.ground.ping(source, target) for source, target in pairs))
        return time.monotonic() - begun if all(answers) else None

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

    def _is_alive(self, member: Member) -> bool:
        return member.role is not Role.NODE or member.name in self.cluster.alive

    def _check(self) -> None:
        try:
            self._daemons.check()
        except DaemonError as error:
            raise LabError(str(error)) from error

    # What is told

    async def _paint(self) -> None:
        while True:
            waiting = unmet(self.observer, self.cluster, self.layout)
            self.sink.picture([self._pictured(member, waiting) for member in self.layout])
            await asyncio.sleep(PAINT_EVERY)

    def _pictured(self, member: Member, waiting: dict[str, list[str]]) -> MemberPicture:
        sessions = self.sessions.of(member)
        seen = sorted(self.observer.seen.get(member.name, {}).items())
        return MemberPicture(
            member.name,
            member.role,
            str(member.address),
            self._is_alive(member),
            f"{len(sessions.up)}/{sessions.total}" if sessions.total else "starting",
            [f"{prefix} {route}" for prefix, route in seen],
            member.name not in waiting,
        )

    def _tell_result(self, result: StepResult) -> None:
        data: dict[str, Value] = {
            "step": result.step.title,
            "seconds": round(result.seconds, 4),
            "last": result.last,
            "reached": {name: round(seconds, 4) for name, seconds in result.reached.items()},
            "pinged": None if result.pinged is None else round(result.pinged, 4),
        }
        title = result.step.title
        if result.failure:
            self._say(
                "step.failed", f"{title}: not everywhere: {result.failure}", **data, failure=result.failure
            )
            return
        pings = "" if result.pinged is None else f", pings get through after {result.pinged:.2f} s"
        self._say("step.done", f"{title}: everywhere after {result.seconds:.3f} s{pings}", **data)

    def _tell_routes(self, member: str, before: Routes, now: Routes) -> None:
        """One event for each route of a member that came, went or changed."""
        verb = "has" if self.ground.real_kernel else "would write"
        for prefix in sorted({*before, *now}):
            if before.get(prefix) == now.get(prefix):
                continue
            text = f"{member} {verb} {prefix} {now[prefix]}" if prefix in now else f"{member} drops {prefix}"
            self._say("route.changed", text, member=member, prefix=str(prefix), route=now.get(prefix))

    def _tell_session(self, member: str, peer: str, up: bool) -> None:
        word = "up" if up else "down"
        self._say(f"session.{word}", f"{member}: session with {peer} {word}", member=member, peer=peer)

    def _say(self, kind: str, text: str, **data: Value) -> None:
        self.sink.event(event(kind, text, **data))


async def _in_thread(work: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
    """Do slow work on the network beside the loop.

    Interrupted, it is still done to its end: what is half made would escape the clean-up.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait((running,))
        raise


def _missing(waiting: dict[str, list[str]]) -> str:
    if not waiting:
        return "routes are right, but not every ping gets through"
    return "; ".join(f"{name}: {', '.join(found[:3])}" for name, found in waiting.items())


def sweep() -> list[str]:
    """Remove what earlier labs left behind because they were killed; their names."""
    swept = set(netns.clean_abandoned())
    for place in Path(tempfile.gettempdir()).glob("cairn-lab*-*-*"):
        name = place.name.removeprefix("cairn-")
        if place.is_dir() and _LAB.fullmatch(name) and not netns.owner_alive(name):
            shutil.rmtree(place, ignore_errors=True)
            swept.add(name)
    return sorted(swept)
