"""One ExaBGP, kept alive and kept told: process, pipes and Adj-RIB-Out joined.

A `Speaker` adopts the ExaBGP a former agent left in its run directory or starts one, attaches to its pipes,
finds out what it knows (which peers are up, which prefixes it has been told) and from then on carries the
wishes of its `Outbox` out and the peers' messages in. When ExaBGP ends it is started again, with a back-off;
when only its API process ended, the pipes of the next one are attached.

An ExaBGP that is frozen would lose its sessions when the peers' hold timers expire, and with a NOTIFICATION,
which takes the routes along. So it is asked for a sign of life now and then, and one that is silent for a
third of the shortest hold time when asked is killed: a connection that just ends is what graceful restart is
for.

Attaching to an ExaBGP that was someone else's: the last agent may have died between two octets of a command.
A word that makes any unfinished line nonsense goes first, so that a shortened prefix is never announced;
then a question nobody else asks, whose answer marks where the former agent's acknowledgements end.

Left out: what to announce, what messages mean, retention of routes (all the owner's, see `Listener`).
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import structlog

from agent.exabgp.adj_rib_out import LIMIT, WINDOW, Command, Outbox, Purpose, Refused
from agent.exabgp.channel import Channel
from agent.exabgp.events import (
    EXABGP_ENDED,
    OPEN,
    ROUTE_REFRESH,
    UPDATE,
    Answer,
    Packet,
    StateChanged,
    Text,
    is_end_of_rib,
    parse,
    parse_peers,
    parse_route,
    prefixes_of,
)
from agent.exabgp.process import RELEASE, ExaBGPError, Process
from agent.exabgp.troubles import Troubles
from bgpd.render.exabgp import mark_of

PATIENCE = 60.0  # seconds of silence with a command unanswered, at most
_SHORTEST_PATIENCE = 2.0  # for a busy machine, whatever the hold time
_LOOK_EVERY = 1.0
_SIGN_OF_LIFE = "version"
_SHORTEST_WAIT, _LONGEST_WAIT = 0.2, 30.0  # seconds between starts
_SHORTEST_START, _LONGEST_START = 15.0, 240.0  # seconds one may take; twice as long after one that was slower
_RELOAD_TRIES = 5
_HINDERED = 1 / 3  # of a try: one that had to be made while routes were pending
_PENDING = 5.0  # seconds a change waits for what is still to be sent
_BEGINNING = 15.0  # and, after ExaBGP's start, for a session to come about
_NONSENSE = " abandoned-by-its-writer"
_MARKER = "show neighbor summary"
_MARKER_ANSWER = "Peer            AS "
_SHOW_ROUTES = "show adj-rib out"
_SHOW_PEERS = "show neighbor json"
_SHOW_CONFIGURATION = "show neighbor configuration"
_ADMINISTRATIVE_RESET = 4  # RFC 4486

log = structlog.get_logger("agent.exabgp")


class Listener(Protocol):
    """Whoever owns a speaker. All calls come from the event loop and must return at once."""

    def session_up(self, peer: str, sent: bytes, received: bytes, adopted: bool) -> Sequence[str]:
        """Both OPEN bodies; returns the session's families as ExaBGP names them ("ipv4 unicast").

        ``adopted``: the session was up before this agent attached, so UPDATEs may have been missed.
        """

    def session_down(self, peer: str, reason: str) -> None: ...

    def message_received(self, peer: str, type: int, body: bytes) -> None: ...

    def refused(self, routes: Refused) -> None: ...

    def progressed(self) -> None:
        """Something moved: `Outbox.settled` may have changed."""


class Speaker:
    """The ExaBGP process of one run directory and the peers configured in it.

    ``configuration`` is the complete text of exabgp.conf; ``peers`` the addresses it configures.
    """

    def __init__(
        self,
        directory: Path,
        configuration: str,
        peers: Sequence[str],
        listener: Listener,
        environment: dict[str, str] | None = None,
        *,
        window: int = WINDOW,
        limit: int = LIMIT,
    ) -> None:
        self.name = directory.name
        self.configuration = configuration
        self.peers: frozenset[str] = frozenset()
        self.listener = listener
        self.process = Process(directory, environment)
        self.outbox = Outbox(window, limit)
        self.restarts = 0
        self._start_patience = _SHORTEST_START
        self.attachments = 0  # to the present process
        self.attached = False  # whether ExaBGP's pipes are ours
        self.begun = asyncio.Event()  # the first was attached to, or could not be
        self.last_error = ""
        self._channel: Channel | None = None
        self._marked = False
        self._learning = False
        self._states: dict[str, bool] = {}
        self._reported: dict[str, Sequence[str]] = {}  # peers the listener believes up, and their families
        self._troubles = Troubles()
        self._witnessed: set[str] = set()  # peers that came up while we were still learning
        self._opens: dict[tuple[str, bool], str] = {}  # (peer, sent) → the line
        self._begun: dict[str, tuple[str, str]] = {}  # the OPENs, sent and received, of the sessions reported
        self._hold_times: dict[str, int] = {}  # as negotiated, of the peers that are up
        self._cache: dict[str, list[str]] = {}
        self._doubted: set[str] = set()  # peers whose routes ExaBGP may have forgotten with a reload
        self._lost = asyncio.Event()
        self._heard = 0.0
        self._wanted_end = self._mark_seen = False
        self._started_at = -_BEGINNING
        self._detached_at = asyncio.get_running_loop().time()
        self._configuration_shown: asyncio.Future[bool] | None = None
        self._take(peers)

    @property
    def detached_for(self) -> float:
        """Seconds since the pipes were last ours; 0 while they are."""
        return 0.0 if self.attached else asyncio.get_running_loop().time() - self._detached_at

    @property
    def established(self) -> frozenset[str]:
        return frozenset(self._reported)

    def trouble(self, peer: str) -> tuple[str, float] | None:
        """Why a peer was last seen not to come up, and how many seconds ago; None while it is up."""
        now = asyncio.get_running_loop().time()
        known = self._troubles.of(peer, now) if self.attached else None
        return (known[0], now - known[1]) if known else None

    # life

    async def run(self) -> None:
        """Until cancelled. Cancelling leaves ExaBGP running for the next agent; see `stop`."""
        wait = _SHORTEST_WAIT
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            try:
                await self._live()
            except (ExaBGPError, OSError) as error:
                self.last_error = f"{error}: {self.process.last_words()}"
                log.error("exabgp failed", process=self.name, error=self.last_error)
                await self.process.stop()
            finally:
                self._detach()
            if self._wanted_end:
                self._wanted_end = False
                continue
            if loop.time() - begun > _LONGEST_WAIT:
                wait = _SHORTEST_WAIT
            self.restarts += 1
            self.begun.set()
            log.warning("exabgp ended", process=self.name, pid=self.process.pid, again_in=wait)
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)

    async def _live(self) -> None:
        """One process from adoption or start to its end."""
        self.attachments = 0
        if not self.process.running:
            adopted = self.process.adopt()
            if adopted and not self.process.fits(self.configuration):
                ours = self.process.release == RELEASE
                why = "exabgp has an older configuration" if ours else "exabgp is of another release"
                log.info(why, process=self.name, pid=self.process.pid, release=self.process.release)
                await self.process.stop()
                adopted = False
            if not adopted:
                self.process.start(self.configuration)
                self._started_at = asyncio.get_running_loop().time()
            how = "exabgp adopted" if adopted else "exabgp started"
            log.info(how, process=self.name, pid=self.process.pid)
        while self.process.running:
            self._prepare()
            channel = Channel(self._received, self._lost.set)
            attaching = asyncio.ensure_future(channel.attach(self.process.socket, self._start_patience))
            ending = asyncio.ensure_future(self.process.ended.wait())
            try:
                await asyncio.wait((attaching, ending), return_when=asyncio.FIRST_COMPLETED)
                if not attaching.done():
                    if self.attachments or self._wanted_end:
                        return
                    raise ExaBGPError("exabgp ended at once")
                self._start_patience = min(2 * self._start_patience, _LONGEST_START)
                self._attached(channel, attaching.result())  # or the reason why there is none
                self._start_patience = _SHORTEST_START
                await self._watch(ending)
            finally:
                attaching.cancel()
                ending.cancel()
                self._detach()
                channel.close()  # which may just have been attached, and nobody's yet

    @property
    def patience(self) -> float:
        """Seconds of silence after which a question is taken to stay unanswered."""
        return min([PATIENCE, *(max(_SHORTEST_PATIENCE, hold / 3) for hold in self._hold_times.values())])

    async def _watch(self, ending: asyncio.Future[Literal[True]]) -> None:
        loop = asyncio.get_running_loop()
        lost = asyncio.ensure_future(self._lost.wait())
        asked = None  # since when an answer is awaited
        try:
            while True:
                pause = min(_LOOK_EVERY, self.patience / 4)
                looked = loop.time()
                done, _ = await asyncio.wait(
                    (ending, lost), timeout=pause, return_when=asyncio.FIRST_COMPLETED
                )
                if done:
                    return
                self.process.tend()
                now = loop.time()
                if now - looked > 2 * pause:
                    self._heard = now  # it was we who did not run; what was said is still to be read
                silent = now - self._heard
                if asked is None or self._heard > asked:
                    asked = None
                    if silent > self.patience / 4:
                        asked = now
                        if self.outbox.oldest is None:
                            self.request(_SIGN_OF_LIFE)
                elif now - asked > self.patience:
                    self.process.send(signal.SIGKILL)
                    raise ExaBGPError(f"exabgp was silent for {silent:.0f} s and is ended")
        finally:
            lost.cancel()

    def _prepare(self) -> None:
        """Before attaching: all that was believed of ExaBGP's answers is void."""
        self._lost.clear()
        self._marked, self._learning = False, True
        self._cache = {}
        self._witnessed.clear()
        self.outbox.restarted()
        self.outbox.request(_SHOW_ROUTES)
        self.outbox.request(_SHOW_PEERS)

    def _attached(self, channel: Channel, kept: list[str]) -> None:
        self.attachments += 1
        self._channel = channel
        self.attached = True
        self.begun.set()
        self._heard = asyncio.get_running_loop().time()
        self._troubles.listening(self.peers, self._heard, pausing=self._started_at < self._heard - _PENDING)
        for line in kept:
            self._keep(line)
        for line in self._opens.values():
            channel.remember(line)
        channel.begin()
        channel.write(_NONSENSE)
        channel.write(_MARKER)

    def _keep(self, line: str) -> None:
        """What was said while nobody of ours listened is newer than what we know."""
        event = parse(line)
        if isinstance(event, Packet) and event.type == OPEN and event.peer in self.peers:
            self._opens[event.peer, event.sent] = line
            self._heed_hold_time(event.peer)
        elif isinstance(event, StateChanged) and event.state == "down":
            self._forget_opens(event.peer)

    def _heed_hold_time(self, peer: str) -> None:
        """Also of an ExaBGP that has not said yet whether the session is up: it may be frozen."""
        sent, received = map(parse, self._opens_of(peer))
        if not isinstance(sent, Packet) or not isinstance(received, Packet):
            return
        if hold := min(int.from_bytes(packet.body[3:5]) for packet in (sent, received)):
            self._hold_times[peer] = hold

    def _forget_opens(self, peer: str) -> None:
        self._hold_times.pop(peer, None)
        for sent in (True, False):
            self._opens.pop((peer, sent), None)

    def _detach(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
            self._detached_at = asyncio.get_running_loop().time()
        self.attached = False
        if self._configuration_shown is not None:
            self._configuration_shown.set_result(False)
            self._configuration_shown = None
        self.outbox.restarted()
        self._states.clear()
        self._witnessed.clear()
        if not self.process.running:
            self._opens.clear()
            self._hold_times.clear()
            for peer in sorted(self._reported):
                self._down(peer, EXABGP_ENDED)

    async def stop(self) -> None:
        """End ExaBGP. Peers that negotiated graceful restart keep their routes for that long."""
        self._detach()
        await self.process.stop()
        self.process.close()

    def release(self) -> None:
        """Let go of ExaBGP and leave it running."""
        self._detach()
        self.process.close()

    # lines in

    def _received(self, lines: list[str]) -> None:
        self._heard = asyncio.get_running_loop().time()
        for line in lines:
            event = parse(line)
            if event is None:
                continue
            if isinstance(event, Packet):
                self._packet(event, line)
            elif isinstance(event, StateChanged):
                self._state(event)
            elif not self._marked:
                if isinstance(event, Text) and event.line.startswith(_MARKER_ANSWER):
                    self._marked = True
                    self.outbox.asked(Command(_MARKER, Purpose.REQUEST))
            elif isinstance(event, Answer):
                self._answered(event.done)
            else:
                self._text(event.line)
        self._pump()
        self.listener.progressed()

    def _packet(self, packet: Packet, line: str) -> None:
        if packet.type == OPEN and packet.peer in self.peers:
            self._opens[packet.peer, packet.sent] = line
        elif packet.sent:
            if packet.type == UPDATE and is_end_of_rib(packet.body):
                self.outbox.end_of_rib_sent(packet.peer)
            elif packet.type == UPDATE:
                self.outbox.sent(packet.peer, prefixes_of(packet.body))
        elif packet.peer in self._reported:
            if packet.type == ROUTE_REFRESH:
                self.outbox.refresh_asked(packet.peer)
            self.listener.message_received(packet.peer, packet.type, packet.body)

    def _state(self, change: StateChanged) -> None:
        if change.peer not in self.peers:
            return
        if change.state == "connected":
            self._troubles.connected(change.peer)
            return
        up = change.state == "up"
        self._states[change.peer] = up
        if not up:
            self._forget_opens(change.peer)
            was_up = change.peer in self._reported
            if self._troubles.down(change.peer, change.reason, self._heard, was_up=was_up) and not was_up:
                log.warning("a session does not come up", peer=change.peer, reason=change.reason)
            self._down(change.peer, EXABGP_ENDED if self.process.stopping else change.reason)
        else:
            if change.peer in self._reported:
                if self._begun[change.peer] == self._opens_of(change.peer):
                    return  # the answer of `show neighbor` was faster than this line
                self._down(change.peer, "reconnected unseen")
            if self._learning:
                self._witnessed.add(change.peer)
            self._up(change.peer, adopted=False)

    def _opens_of(self, peer: str) -> tuple[str, str]:
        return self._opens.get((peer, True), ""), self._opens.get((peer, False), "")

    def _up(self, peer: str, adopted: bool) -> None:
        opens = self._opens_of(peer)
        sent, received = map(parse, opens)
        if not isinstance(sent, Packet) or not isinstance(received, Packet):
            # Nobody remembers what was negotiated: a session that cannot be read is begun anew.
            log.warning("session without known OPENs is reset", process=self.name, peer=peer)
            self.outbox.request(f"neighbor {peer} teardown {_ADMINISTRATIVE_RESET}")
            return
        self._heed_hold_time(peer)
        self._troubles.forget(peer)
        families = self.listener.session_up(peer, sent.body, received.body, adopted)
        self._reported[peer] = families
        self._begun[peer] = opens
        if not self._learning:
            self.outbox.session_up(peer, families)
        if peer in self._doubted:
            self._doubted.discard(peer)
            self.outbox.request(f"{_SHOW_ROUTES} {peer}")

    def tell_again(self, peer: str) -> None:
        """The listener had forgotten this peer, and knows it again: tell it of a session that never ended.

        (It was undeclared for so short a time that ExaBGP heard nothing of it.)
        """
        if peer in self._reported:
            self._up(peer, adopted=True)

    def _down(self, peer: str, reason: str) -> None:
        self.outbox.session_down(peer)
        self._hold_times.pop(peer, None)
        self._witnessed.discard(peer)
        if peer in self._reported:
            del self._reported[peer], self._begun[peer]
            self.listener.session_down(peer, reason)

    def _answered(self, done: bool) -> None:
        command = self.outbox.oldest
        refused = self.outbox.acknowledged(done)
        if refused is not None:
            log.error(
                "exabgp refused routes",
                process=self.name,
                routes=len(refused.routes),
                first=refused.routes[0],
            )
            self.listener.refused(refused)
        shown = self._configuration_shown
        if command is not None and command.text.startswith(_SHOW_CONFIGURATION) and shown is not None:
            self._configuration_shown = None
            shown.set_result(self._mark_seen)
        if command is not None and command.text.startswith(f"{_SHOW_ROUTES} "):
            peer = command.text.split()[-1]
            if peer in self.outbox.peers:
                self.outbox.peer(peer).remembered(self._cache.get(peer, ()))
            self._cache = {}
        if command is not None and command.text == _SHOW_ROUTES and self._learning:
            for peer, prefixes in self._cache.items():
                if peer in self.peers:
                    self.outbox.peer(peer).adopt(prefixes)
            self._cache = {}
        if command is not None and command.text == _SHOW_PEERS and self._learning:
            self._learning = False
            for peer, up in list(self._states.items()):
                if up and peer in self._witnessed and peer in self._reported:
                    self.outbox.session_up(peer, self._reported[peer])
                elif up and peer in self.peers:
                    self._up(peer, adopted=True)
            for peer in sorted(self._reported):
                if not self._states.get(peer) and peer not in self._witnessed:
                    self._down(peer, "went down unseen")
            self._witnessed.clear()

    def _text(self, line: str) -> None:
        command = self.outbox.oldest
        if command is None:
            return
        if command.text.startswith(_SHOW_ROUTES) and (route := parse_route(line)):
            self._cache.setdefault(route[0], []).append(route[1])
        elif command.text == _SHOW_PEERS:
            try:
                states = parse_peers(line)
            except (ValueError, KeyError, TypeError):
                return
            if self._learning:
                self._states |= {peer: up for peer, up in states.items() if peer in self.peers}
        elif command.text.startswith(_SHOW_CONFIGURATION):
            self._mark_seen = self._mark_seen or mark_of(self.configuration) in line

    # lines out

    def _pump(self) -> None:
        if self._channel is None or not self._marked:
            return
        for command in self.outbox.commands():
            self._channel.write(command.text)

    def push(self) -> None:
        """After changing wishes in the `outbox`: send what may be sent now."""
        if not self._learning:
            self._pump()

    def request(self, text: str) -> None:
        """Another command ("neighbor 192.0.2.1 announce route-refresh ipv4 unicast"), in its turn."""
        self.outbox.request(text)
        self.push()

    async def settle(self, seconds: float) -> bool:
        """Wait until every peer that is up has everything on the wire; False if that took too long."""
        deadline = asyncio.get_running_loop().time() + seconds
        for peer in self.outbox.peers.values():
            peer.confirm()
        self.push()
        while self.attached and (self._learning or not self.outbox.settled):
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(0.01)
        return self.attached

    # reconfiguration

    async def reconfigure(self, configuration: str, peers: Sequence[str]) -> None:
        """Give a running ExaBGP other peers without touching those that stay; verified, or restarted.

        ExaBGP drops a reload silently while routes are pending, and after one bad reload refuses every
        later one, so what is pending may go out first, the outcome is looked at and the reload repeated; the
        last resort is a restart. A peer with another router ID, AS or source address is another to it, and
        what it was told of the former is forgotten; so each that comes up from now on is looked at.
        """
        if configuration == self.configuration and self.process.digest:
            return
        new = frozenset(peers) - self.peers
        self._troubles.listening(new, asyncio.get_running_loop().time(), pausing=True)
        self.configuration = configuration
        self._take(peers)
        if not self.process.running:
            return
        await self.process.write_when_possible(configuration)
        self._doubted = set(peers)
        pid, tries = self.process.pid, 0.0
        while tries < _RELOAD_TRIES:
            if not await self._has_pipes_of(pid):
                return  # the next one begins with this configuration
            settled = await self.settle(_PENDING)
            self.request("reload")
            await asyncio.sleep(0.3)
            if not self.attached:
                continue  # what was asked is forgotten
            tries += 1 if settled else _HINDERED
            if await self._has_read_it(min(peers)):
                self.process.remember(configuration)
                return
        log.error("exabgp does not take its configuration and is restarted", process=self.name)
        await self.process.stop()

    async def replace(self, configuration: str, peers: Sequence[str]) -> None:
        """Start ExaBGP anew with another configuration: for a process whose only peer changed."""
        if configuration == self.configuration:
            return
        await self._begin()
        await self.process.write_when_possible(configuration)
        await self.settle(_PENDING)
        self.configuration = configuration
        self._take(peers)
        self._wanted_end = self.process.running
        await self.process.stop()

    async def _begin(self) -> None:
        """Let sessions come about that may do so yet: what a peer kept for us over one restart of ExaBGP it
        forgets at the next, if it had no End-of-RIB in between (RFC 4724 4.2).
        """
        while (age := asyncio.get_running_loop().time() - self._started_at) < _BEGINNING:
            failed = [self.trouble(peer) for peer in self.peers - self.established]
            if all(each is not None and each[1] <= age for each in failed):
                return
            await asyncio.sleep(0.01)

    def _take(self, peers: Sequence[str]) -> None:
        """These from now on; of others nothing is remembered: a cluster's nodes may come and go for years."""
        self.peers = frozenset(peers)
        for address in self.outbox.peers.keys() - self.peers:
            self._down(address, "no longer configured")
            self._forget_opens(address)
            self._states.pop(address, None)
            self._troubles.forget(address)
            self.outbox.drop_peer(address)
        for address in peers:
            self.outbox.peer(address)

    async def _has_pipes_of(self, pid: int) -> bool:
        """Wait until this process's pipes are ours, which they may not be for a moment; False if it ends."""
        while not self.attached:
            if not self.process.running or self.process.pid != pid:
                return False
            await asyncio.sleep(0.05)
        return self.process.pid == pid

    async def _has_read_it(self, peer: str) -> bool:
        self._mark_seen = False
        shown = self._configuration_shown = asyncio.get_running_loop().create_future()
        self.request(f"{_SHOW_CONFIGURATION} {peer}")
        await asyncio.wait((shown,), timeout=PATIENCE)
        return shown.done() and shown.result()
