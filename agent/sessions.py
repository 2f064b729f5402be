"""Which ExaBGP processes there are, and what each of their peers shall be told.

A peering that was declared by itself has a process of its own: a stalled or reconfigured peer then disturbs
nobody, and no reload is ever needed. The mesh, which may be a hundred sessions, shares one, as do sessions
the other side opens (one process can listen at an address). Processes are known by their run directories;
one that a former agent left and nobody wants any more is ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from agent.announcements import Announcements, kind_of
from agent.config import AgentConfig
from agent.exabgp.events import EXABGP_ENDED
from agent.exabgp.process import Process, on_the_wire, run_line
from agent.exabgp.speaker import Listener, Speaker
from bgpd.datastore import Secrets
from bgpd.plan.model import NodePlan, Peering, PeeringKind, SecretRef
from bgpd.render import RenderError
from bgpd.render.exabgp import (
    addresses_of,
    configuration,
    sessions_in,
    unprotected,
    with_sessions,
    without_sessions,
)
from bgpd.telemetry.aside import aside

SHARED = "mesh"
log = structlog.get_logger("agent.sessions")


@dataclass(slots=True)
class _Running:
    """``reconfiguring`` is under way; ``next``, when its time comes, takes what is wanted then: changes that
    come faster than ExaBGP takes them are one.
    """

    speaker: Speaker
    task: asyncio.Task[None]
    configuration: str  # as last wanted, with its peers; the speaker's follow
    addresses: list[str]
    former: list[asyncio.Task[None]] = field(default_factory=list)  # to be over before ``next``
    reconfiguring: asyncio.Task[None] | None = None
    next: asyncio.Task[None] | None = None

    @property
    def changing(self) -> asyncio.Task[None] | None:
        """What makes of the speaker what is wanted now."""
        return self.next or self.reconfiguring

    async def halt(self) -> None:
        """End what tends ExaBGP, whatever became of it; ExaBGP goes on."""
        for task in (self.task, self.reconfiguring, self.next):
            if task is not None:
                task.cancel()
                await asyncio.wait((task,))


def process_of(peering: Peering) -> str:
    """The name of the ExaBGP process that carries a peering."""
    if peering.kind is PeeringKind.MESH or peering.passive:
        return SHARED
    return f"peer-{peering.peer_address}".replace(":", "_")


def _secrets_of(plan: NodePlan) -> list[SecretRef]:
    return [peering.password for peering in plan.peerings if peering.password is not None]


def one_per_address(plan: NodePlan) -> dict[str, Peering]:
    """The sessions an agent can have: all its dealings with a peer go by the peer's address."""
    return {str(peering.peer_address): peering for peering in plan.peerings}


def configurations(
    plan: NodePlan, passwords: Mapping[SecretRef, str], run_directory: Path
) -> dict[str, tuple[str | RenderError, list[Peering]]]:
    """Every process of a node's agent: its configuration, or why it can have none, and its peerings.

    Peerings whose password is not known are left out, those of an address that has another, and a process
    that would have none.
    """
    groups: dict[str, list[Peering]] = {}
    left_out = unprotected(plan.peerings, passwords)
    for peering in one_per_address(plan).values():
        if peering not in left_out:
            groups.setdefault(process_of(peering), []).append(peering)
    found: dict[str, tuple[str | RenderError, list[Peering]]] = {}
    for name, peerings in groups.items():
        try:
            text = configuration(
                peerings,
                router_id=plan.router_id,
                helper_command=run_line(run_directory / name),
                passwords=passwords,
                host_name=plan.node,
                listen_port=plan.listen_port,
                addresses=[plan.address(4), plan.address(6)],
            )
        except RenderError as error:
            found[name] = error, peerings
        else:
            found[name] = text, peerings
    return found


class Sessions:
    """The speakers of this node."""

    def __init__(self, config: AgentConfig, listener: Listener, secrets: Secrets) -> None:
        self._config = config
        self._listener = listener
        self._running: dict[str, _Running] = {}
        self._by_peer: dict[str, Speaker] = {}
        self._swept = False
        self.unread = False  # there may be peers that the plan does not have
        self.sparing = False  # there may be workloads that the plan does not have
        self.left_alone: list[str] = []  # processes and sessions of a former agent that may be theirs
        self._spared: dict[str, str] = {}  # those sessions, of the shared process, by their peers
        self._shared: tuple[str, list[str]] = "", []  # what that process has besides
        self.problems: dict[str, str] = {}  # peering → why it has no session
        self._passwords: Mapping[SecretRef, str] = {}  # of the sessions planned, as last read
        self._secrets = secrets
        self.withdrawing = False
        self._ending: dict[asyncio.Task[None], frozenset[str]] = {}  # → the process's name and its peers
        self._starting = asyncio.Lock()
        self.parted: Callable[[], None] = lambda: None  # an end is over
        self._announcements: dict[tuple[object, ...], Announcements] = {}  # by kind: a mesh is told the same

    # what shall be

    def configure(self, plan: NodePlan) -> None:
        """Processes and configurations as the plan wants them; peers that stay are not disturbed."""
        passwords, missing = self._secrets.read_all(_secrets_of(plan))
        self._passwords = passwords
        self.problems = {
            peering.name: missing[peering.password]
            for peering in plan.peerings
            if peering.password in missing
        }
        kept = one_per_address(plan)
        self.problems |= {
            peering.name: f"an agent has one session with an address, here {other.name}"
            for peering in plan.peerings
            if (other := kept[str(peering.peer_address)]).name != peering.name
        }
        wanted: dict[str, tuple[str, list[Peering]]] = {}
        for name, (text, peerings) in configurations(
            plan, passwords, self._config.exabgp.run_directory
        ).items():
            if isinstance(text, RenderError):
                self.problems |= {peering.name: str(text) for peering in peerings}
            else:
                wanted[name] = text, peerings
        kept_addresses = {str(each.peer_address) for _, peerings in wanted.values() for each in peerings}
        for name in self._running.keys() - wanted.keys():
            self._end(name, kept_addresses, kept.keys())
        for name in sorted(wanted, key=lambda name: (name not in self._running, name != SHARED)):
            text, addresses = wanted[name][0], [str(each.peer_address) for each in wanted[name][1]]
            if name == SHARED:
                self._shared = text, addresses
                text, addresses = self._with_spared(kept.keys())
            self._ensure(name, text, addresses)  # who lets go of peers, first
        self._by_peer = {
            str(peering.peer_address): self._running[name].speaker
            for name, (_, peerings) in wanted.items()
            for peering in peerings
        }
        for problem in self.problems.items():
            log.error("a session cannot be set up", peering=problem[0], reason=problem[1])
        if not self._swept:
            self.sweep()

    def sweep(self) -> None:
        """End what a former agent left running and the plan does not have, unless a peer that cannot be read
        may be its: such a session goes on as it is, and nobody listens.
        """
        left = self._leftovers(self._running) if not self._swept else []
        alone = [directory.name for directory in left if self.unread and _lives(directory)]
        for name in sorted({*alone} - {*self.left_alone}):
            log.error("an ExaBGP is left alone: its peer may be one that cannot be read", process=name)
        if self._spared and not self.unread and SHARED in self._running:
            self._ensure(SHARED, *self._with_spared(()))
        self.left_alone = [*alone, *self._spared]
        if not alone:
            self._swept = True
            for directory in left:
                self._spawn(end_leftover(directory), frozenset((directory.name,)))

    def _with_spared(self, planned: Collection[str]) -> tuple[str, list[str]]:
        """What the shared process shall have, with its sessions of a former agent that may be of a peer that
        cannot be read, and the peers of both.
        """
        text, addresses = self._shared
        before = self._spared
        if SHARED not in self._running:
            before = sessions_in(self._left(self._config.exabgp.run_directory / SHARED, text))
        spared = {peer: session for peer, session in before.items() if self.unread and peer not in planned}
        for peer in sorted(spared.keys() - self._spared.keys()):
            log.error("a session is left alone: its peer may be one that cannot be read", peer=peer)
        self._spared = spared
        return (with_sessions(text, spared.values()) if spared else text), [*addresses, *spared]

    async def fetch_passwords(self, plan: NodePlan) -> None:
        """Have those passwords at hand that only the datastore may have."""
        await self._secrets.fetch(_secrets_of(plan), asyncio.get_running_loop().time())

    def passwords_changed(self, plan: NodePlan) -> bool:
        """Whether a password reads otherwise than before (`configure` then takes it)."""
        return self._secrets.read_all(_secrets_of(plan))[0] != self._passwords

    def _ensure(self, name: str, text: str, addresses: list[str]) -> None:
        running = self._running.get(name)
        if running is None:
            directory = self._config.exabgp.run_directory / name
            left = self._left(directory, text)
            peers = {*addresses_of(left), *addresses}  # it may have any, where its last reload was cut short
            speaker = Speaker(directory, left or text, sorted(peers), self._listener)
            task = aside(self._succeed(speaker, self._former(name, addresses)), f"exabgp {name}")
            running = self._running[name] = _Running(speaker, task, text, addresses)
            if left:
                speaker.process.doubtful = True
                running.next = aside(self._take_over(name, running), f"other peers of exabgp {name}")
        elif Process.digest_of(running.configuration) != Process.digest_of(text):
            running.configuration, running.addresses = text, addresses
            running.former += self._former(name, addresses)
            if running.next is None:
                work = self._reconfigure(name, running)
                running.next = aside(work, f"another configuration of exabgp {name}")

    def _left(self, directory: Path, text: str) -> str:
        """What the shared process of a former agent runs with, or was about to, where it is to have other
        peers and nothing else: it is taken over so, and then reconfigured.
        """
        if self._swept or directory.name != SHARED:
            return ""
        process = Process(directory)
        left = process.configuration_left()
        common = without_sessions(on_the_wire(left)) == without_sessions(on_the_wire(text))
        return left if common and not process.fits(text) else ""

    def _former(self, name: str, addresses: Sequence[str]) -> list[asyncio.Task[None]]:
        """What has to be over before this process may have these peers: the end of others that have them, and
        changes by which others let go of them.
        """
        concerned = {name, *addresses}
        ending = [task for task, has in self._ending.items() if has & concerned]
        changing = [
            running.changing
            for other, running in self._running.items()
            if running.changing is not None and other != name and running.speaker.peers & concerned
        ]
        return ending + changing

    async def _succeed(self, speaker: Speaker, former: list[asyncio.Task[None]]) -> None:
        if former:
            await asyncio.wait(former)
        async with self._starting:  # one a turn of the loop: hundreds at once are seconds without any other
            await asyncio.sleep(0)
        await speaker.run()

    async def _take_over(self, name: str, running: _Running) -> None:
        await running.speaker.begun.wait()
        await self._reconfigure(name, running)

    async def _reconfigure(self, name: str, running: _Running) -> None:
        if running.reconfiguring is not None:
            await asyncio.wait((running.reconfiguring,))
        while running.former:
            await asyncio.wait((running.former.pop(),))
        running.reconfiguring, running.next = running.next, None
        # From here to what the speaker does first nothing else runs: what it drops, nobody wants by now.
        if name == SHARED:
            await running.speaker.reconfigure(running.configuration, running.addresses)
        else:
            await running.speaker.replace(running.configuration, running.addresses)

    def _end(self, name: str, kept: Collection[str] = (), planned: Collection[str] = ()) -> None:
        """`kept`: peers that have a session from now on; `planned`: those too that have none for now."""
        running = self._running.pop(name)
        taken_over = running.speaker.peers.intersection(kept)
        task = self._finish(running, taken_over, frozenset(planned))
        self._spawn(task, running.speaker.peers | {name})

    def _spawn(self, coroutine: Coroutine[None, None, None], concerned: frozenset[str]) -> None:
        task = aside(coroutine, "end of exabgp processes")
        self._ending[task] = concerned
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        del self._ending[task]
        self.parted()

    @property
    def parting(self) -> frozenset[str]:
        """The peers (and names) of processes that are about to end, and have perhaps something to say yet."""
        return frozenset().union(*self._ending.values())

    async def _finish(self, running: _Running, taken_over: frozenset[str], planned: frozenset[str]) -> None:
        """End a process for good, its routes withdrawn first: graceful restart would keep them alive. That
        is what is wanted of peers that another process takes over. What planned peers have told is kept for
        a while: they are told anew, or have to be set up first (a password that is nowhere).
        """
        await self._withdraw(running.speaker, taken_over)
        await running.halt()
        await running.speaker.stop()
        for peer in sorted(running.speaker.established & planned):
            self._listener.session_down(peer, EXABGP_ENDED)
        running.speaker.process.clear()

    async def _withdraw(self, speaker: Speaker, but: frozenset[str]) -> None:
        leaving = [peer for address, peer in speaker.outbox.peers.items() if address not in but]
        for peer in leaving:
            peer.spare(None)
            for prefix in list(peer.wanted):
                peer.want(prefix, None)
        if leaving:
            await speaker.settle(5.0)

    def _leftovers(self, wanted: Collection[str]) -> list[Path]:
        """Directories of processes a former agent may have left running that the plan does not have."""
        root = self._config.exabgp.run_directory
        if not root.is_dir():
            return []
        return sorted(path for path in root.iterdir() if path.is_dir() and path.name not in wanted)

    # what shall be told

    def announce(self, plan: NodePlan, superseded: frozenset[str] = frozenset()) -> None:
        """Everything every peer shall have, as of this plan, but for addresses that others took over."""
        former, self._announcements = self._announcements, {}
        for peering in plan.peerings:
            address = str(peering.peer_address)
            speaker = self._by_peer.get(address)
            if speaker is None:
                continue
            routes: Mapping[str, str] = {}
            telling = not self.withdrawing and not self._config.learn_only
            if telling:
                kind = kind_of(peering)
                made = self._announcements.setdefault(kind, former.get(kind) or Announcements())
                routes = made.of(plan, peering)
            peer = speaker.outbox.peer(address)
            wanted = peer.wanted
            for prefix in [prefix for prefix in wanted if prefix not in routes or prefix in superseded]:
                peer.want(prefix, None)
            for prefix in [prefix for prefix, told in routes.items() if wanted.get(prefix) != told]:
                if prefix not in superseded:
                    peer.want(prefix, routes[prefix])
            peer.spare(superseded if self.sparing and telling else None)
        for running in self._running.values():
            running.speaker.push()

    def refresh(self, address: str, families: Sequence[str]) -> None:
        """Ask a peer to say everything again."""
        speaker = self._by_peer.get(address)
        if speaker is not None:
            for family in families:
                speaker.request(f"neighbor {address} announce route-refresh {family}")

    def reset(self, address: str) -> None:
        """End a session that cannot go on; ExaBGP begins it anew."""
        speaker = self._by_peer.get(address)
        if speaker is not None:
            speaker.request(f"neighbor {address} teardown 4")

    def tell_again(self, addresses: Iterable[str]) -> None:
        """These peers are known again; a session that did not end meanwhile is told of."""
        for address in addresses:
            speaker = self._by_peer.get(address)
            if speaker is not None:
                speaker.tell_again(address)

    # the end

    @property
    def speakers(self) -> Mapping[str, Speaker]:
        return {name: running.speaker for name, running in self._running.items()}

    @property
    def told(self) -> bool:
        """Whether ExaBGP has confirmed everything that the peers which are up are to be told."""
        return all(speaker.outbox.settled for speaker in self.speakers.values())

    def speaker_of(self, address: str) -> Speaker | None:
        return self._by_peer.get(address)

    async def leave(self) -> None:
        """The agent ends, ExaBGP and its sessions stay."""
        for running in self._running.values():
            await running.halt()
            running.speaker.release()
        self._running.clear()
        await self._settle_ending()

    async def stop(self) -> None:
        """The node leaves: everything withdrawn, then every ExaBGP ended, also what a former agent left."""
        for name in list(self._running):
            self._end(name)
        await self._settle_ending()
        for directory in self._leftovers(()):
            self._spawn(end_leftover(directory), frozenset((directory.name,)))
        await self._settle_ending()

    async def _settle_ending(self) -> None:
        if self._ending:
            await asyncio.gather(*self._ending, return_exceptions=True)


def _lives(directory: Path) -> bool:
    process = Process(directory)
    try:
        return process.adopt()
    finally:
        process.close()


async def end_leftover(directory: Path) -> None:
    """End the ExaBGP of a run directory, if there is one, whether process.json tells of it or not."""
    process = Process(directory)
    if process.adopt():
        log.info("an ExaBGP nobody wants any more is ended", process=directory.name, pid=process.pid)
        await process.stop()
    process.close()
    await asyncio.to_thread(process.make_room)
    process.clear()
