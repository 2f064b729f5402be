"""The reflector's sockets and clock: connections in and out, timers, and the turn of the loop.

One turn of the loop: every readable connection hands over what arrived, UPDATEs go into the RIBs, and
then, once, `_flush` decides, appends to the logs and lets every idle connection write. So the work of a
burst is done per turn and not per message.

Strangers cost nothing lasting: an address nobody declared is closed at once; the number of connections
that have not said a good OPEN is bounded, and when there is no room left the oldest of them goes, or new
ones wait in the kernel's queue; each has `openTimeout` to say it. What is remembered of a client that
nobody named is forgotten when it has been away for a while.

A change of the configuration resets a session only if the session itself would be another. Policies change
under it (see `core`), and so does a TCP MD5 key: the session that is up keeps the key it was made with.
"""

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address

import structlog

from bgpd.session.config import PeerConfig as PeerTimes
from bgpd.session.decoders import Decoders
from bgpd.session.events import Closed, Established, Opened, RefreshRequested, UpdatesReceived
from bgpd.session.fsm import State
from bgpd.session.peer import ConnectCancelled, ConnectRequested, Peer, SessionEvent
from bgpd.session.session import Session
from bgpd.telemetry.distribution import Distribution
from bgpd.telemetry.status import EventRing, PeerVerb
from bgpd.wire.iana import CeaseSubcode
from bgpd.wire.malformed import Malformed
from bgpd.wire.messages import Notification, encode
from reflector import sockets
from reflector.config import IPNetwork
from reflector.core import FAMILIES, Reflector
from reflector.dialling import Dialling
from reflector.entry import Entry, Recalled, another, forgettable, needs_connection, same_session
from reflector.journal import SessionJournal
from reflector.link import Link
from reflector.listening import Listening
from reflector.pace import Pace
from reflector.prefix_limit import check_limit
from reflector.recall import Recall
from reflector.spec import PeersByAddress, PeerSpec, ReflectorSpec, times

TICK = 0.25  # seconds between two looks at the timers
SEEK_AFTER = 2.0  # seconds after the start when we connect to clients of before that are not there yet
ABSENT_AFTER = 15.0  # seconds after the start when a peer that we cannot connect to counts as absent
UNIDENTIFIED_AGE = 0.25  # seconds after which a connection without an OPEN makes room for another
DEFECT = "defect while serving a peer; its session ends"
PRUNING = 10.0  # seconds between two looks at them, and at who is to be asked for more

log = structlog.get_logger(__name__)  # compiled there is no frame to read it from


class Server:
    """Listens, connects, and carries octets between sockets, sessions and the RIBs."""

    def __init__(
        self,
        spec: ReflectorSpec,
        loop: asyncio.AbstractEventLoop,
        events: EventRing,
        clock: Callable[[], float],
        recall: Recall | None = None,
    ) -> None:
        """`clock` gives the wall time of events for people; `recall` keeps clients through a restart."""
        self._loop = loop
        self._clock = clock
        self._recall = recall or Recall(None)
        self._recalled: dict[str, IPv4Address | IPv6Address] = {}
        self._peers = PeersByAddress()
        self._keys: dict[IPNetwork, str] = {}
        self._pace = Pace(loop, self._flush)
        self._dialling = Dialling(loop, self._link, self._follow)
        self._listening = Listening(loop, take=self._take, has_room=self._has_room)
        self._decoders = Decoders()
        self._unidentified: dict[Link, float] = {}  # with the time of their coming, oldest first
        self._next_pruning = loop.time() + PRUNING
        self._updated_at: float | None = None  # when the first UPDATE came that no flush has seen yet
        self.decision = Distribution(
            "decision_seconds", "From the first UPDATE of a turn to its decisions and encoding."
        )
        self.convergence = Distribution(
            "received_to_wire_seconds", "From the first UPDATE of a turn to every peer's socket."
        )
        self._ticking: asyncio.TimerHandle | None = None
        self._resumed: list[Link] = []
        self._random = random.Random()  # noqa: S311 - spreads timers, keeps no secret
        self.events = events
        self.spec = spec
        self._journal = SessionJournal(events, clock)
        self.reflector = Reflector(
            spec.speaker,
            started=loop.time(),
            deferral=spec.limits.end_of_rib_wait,
            unexpected_clients=any(not peer.single for peer in spec.peers),
        )
        self.entries: dict[str, Entry] = {}
        self._kept_out: set[str] = set()  # by the operator, whatever is declared meanwhile
        self.established: set[Link] = set()
        self.strangers = 0
        self.stopping = False

    # Starting, changing, stopping

    def start(self) -> None:
        """Listen and connect; raises SocketError when an address cannot be had."""
        self._listening.open(self.spec.listen)
        self._absent_from = self._loop.time() + ABSENT_AFTER
        self._recalled = self._recall.read()
        self._apply(self.spec)
        self._listening.begin()
        self._loop.call_later(SEEK_AFTER, self._seek)
        self._ticking = self._loop.call_later(TICK, self._tick)

    @property
    def ports(self) -> list[int]:
        """The ports listened on, in the order of the spec."""
        return self._listening.ports

    def configure(self, spec: ReflectorSpec) -> None:
        """Become `spec`, touching only the sessions that it changes.

        Raises ValueError, and changes nothing, for what needs a restart.
        """
        if spec.speaker != self.spec.speaker:
            raise ValueError(
                "asn, routerId and clusterId are fixed while the reflector runs; restart it to change them"
            )
        if spec.listen != self.spec.listen:
            raise ValueError("listen is fixed while the reflector runs; restart it to change it")
        self._apply(spec)

    def _times(self, spec: PeerSpec, recalled: Recalled = None) -> PeerTimes:
        """The peer's times and session; after our own start, OPEN says that we restart (RFC 4724 4.1)."""
        chosen = times(spec)
        if recalled is not None:
            chosen = replace(chosen, session=replace(chosen.session, passive=False))
        restart = chosen.session.capabilities.graceful_restart
        if restart is None or self.reflector.deferral.until is None:
            return chosen
        offered = replace(chosen.session.capabilities, graceful_restart=replace(restart, restarting=True))
        return replace(chosen, session=replace(chosen.session, capabilities=offered))

    def _apply(self, spec: ReflectorSpec) -> None:
        keys = {peer.network: peer.password for peer in spec.peers if peer.password is not None}
        changes = [
            (network, self._keys.get(network), keys.get(network)) for network in {**self._keys, **keys}
        ]
        self._listening.change_keys(changes)
        self.spec, self._keys = spec, keys
        self._peers = PeersByAddress(spec.peers)
        now = self._loop.time()
        self._recalled = {a: ours for a, ours in self._recalled.items() if self._peers.find(a) is not None}
        single = [(str(peer.network.network_address), peer) for peer in spec.peers if peer.single]
        self.reflector.deferral.expected = {address for address, _ in single} | self._recalled.keys()
        self.reflector.deferral.incomplete = spec.incomplete
        for entry in list(self.entries.values()):
            wanted = self._peers.find(entry.address)
            # One whom an operator keeps out stays out; it has nothing that this could change.
            if wanted is None or (another(entry.spec, wanted) and entry.peer.enabled):
                self._shut(entry, "no longer configured", CeaseSubcode.PEER_DECONFIGURED)
                self.entries.pop(entry.address, None)
            elif wanted != entry.spec:
                self._change(entry, wanted, now)
        for address, peer in single:
            if address not in self.entries:
                self._enter(peer, address)
        for address in spec.dead.intersection(self.reflector.members):
            member = self.reflector.members[address]
            if not member.established:
                log.warning("a dead node's routes are withdrawn", peer=address)
                self.reflector.forget(member)
        self._pace.ask()

    def _change(self, entry: Entry, wanted: PeerSpec, now: float) -> None:
        old, entry.spec = entry.spec, wanted
        peer = entry.peer
        same = same_session(old.session, wanted.session)
        peer.configure(self._times(wanted, entry.recalled), now, keep=same)
        fresh = needs_connection(old) != needs_connection(wanted) or (wanted.password and not old.password)
        if wanted.password != old.password and not any(link.member for link in entry.links.values()):
            fresh = True  # what is being tried has the old key
        if fresh:
            for link in entry.links.values():
                if link.member is None:
                    sockets.end_at_once(link.sock)
            peer.reset(now, subcode=CeaseSubcode.OTHER_CONFIGURATION_CHANGE)
        if old.prefix_limit != wanted.prefix_limit and peer.enabled and peer.state is State.IDLE:
            peer.enable(now)  # it may be waiting for ever because of the old limit
        self._follow(entry)
        member = self.reflector.members.get(entry.name)
        if member is not None and old.member != wanted.member:
            again = self.reflector.change(member, wanted.member)
            if again and (session := peer.session) is not None:
                asked = [session.send_route_refresh(family) for family in FAMILIES]
                if not any(asked):
                    peer.reset(now, subcode=CeaseSubcode.OTHER_CONFIGURATION_CHANGE)
        if member is not None and member.established:
            check_limit(entry, member, self.reflector.ribs, self._journal, now)
        self._follow(entry)
        self._settle(entry)

    def stop(self, communication: str, *, restarting: bool = False) -> None:
        """Stop listening and end every session with a Cease that says why.

        `restarting`: we come back, so peers that know graceful restart shall keep our routes.
        """
        self.stopping = True
        if self._ticking is not None:
            self._ticking.cancel()
        if restarting:
            self._remember()
        else:
            self._recall.write({})
        self._listening.close()
        now = self._loop.time()
        for entry in list(self.entries.values()):
            if restarting:
                entry.peer.leave(now, communication)
            else:
                entry.peer.disable(now, communication)
            self._follow(entry)
        self._journal.tick()

    def drain(self, draining: bool = True) -> None:
        """Move traffic away before stopping: everything is told again as the last resort (RFC 8326).

        With False it comes back.
        """
        if self.reflector.draining is draining:
            return
        self.reflector.drain(draining)
        self._pace.ask()
        self._journal.drained(draining)

    def operate(self, entry: Entry, verb: PeerVerb, reason: str) -> None:
        """What an operator wants of one peer; it lasts until told otherwise, or our own end."""
        peer, now = entry.peer, self._loop.time()
        match verb:
            case PeerVerb.ENABLE:
                self._kept_out.discard(entry.address)
                peer.enable(now)
            case PeerVerb.DISABLE:
                self._kept_out.add(entry.address)
                self._shut(entry, reason, CeaseSubcode.ADMINISTRATIVE_SHUTDOWN)
            case PeerVerb.RESET:
                peer.reset(now, reason)
                if peer.enabled and peer.state is State.IDLE:
                    peer.enable(now)
            case PeerVerb.REFRESH:
                member = self.reflector.members.get(entry.name)
                if peer.session is not None and member is not None:
                    for family in FAMILIES:
                        peer.session.send_route_refresh(family)
                    self.reflector.tell_again(member)
                    self._pace.ask()
        self._journal.operated(entry.address, verb, reason)
        self._follow(entry)
        self._settle(entry)

    # Peers

    def _enter(self, spec: PeerSpec, address: str, recalled: Recalled = None) -> Entry:
        now = self._loop.time()
        times = self._times(spec, recalled)
        decoder = self._decoders.of(loopback=ip_address(address.partition("%")[0]).is_loopback)
        peer = Peer(times, decoder=decoder, jitter=self._jitter)
        entry = Entry(spec, address, peer, since=self._clock(), parted=now, recalled=recalled)
        self.entries[address] = entry
        if address not in self._kept_out:
            peer.enable(now)
        self._follow(entry)
        return entry

    def _shut(self, entry: Entry, reason: str, subcode: CeaseSubcode) -> None:
        """End a peer's sessions for good, and with them what is kept for its restart."""
        entry.peer.disable(self._loop.time(), reason, subcode)
        self._follow(entry)
        member = self.reflector.members.get(entry.name)
        if member is not None:
            self.reflector.forget(member)
            self._pace.ask()

    def _remember(self) -> None:
        """Keep the clients that nobody named, for our next start."""
        self._recall.write(
            {
                address: ip_address(member.local_address)
                for address, member in self.reflector.members.items()
                if member.local_address and not self.entries[address].spec.single
            }
        )

    def _seek(self) -> None:
        """Connect to the clients of before that did not come by themselves.

        Most do, and the two connections would meet: what is lost by that may be an Established session.
        """
        if self.stopping or self.reflector.deferral.until is None:
            return
        for address, ours in self._recalled.items():
            found = self._peers.find(address)
            if found is not None and address not in self.entries:
                self._enter(found, address, ours)

    def _settle_down(self, now: float) -> None:
        """Our start is over: OPEN says nothing of it any more, and nobody is looked for who did not come."""
        self._recalled = {}
        for entry in list(self.entries.values()):
            entry.recalled = None
            entry.peer.configure(self._times(entry.spec), now, keep=True)
            self._follow(entry)  # by which it is no entry any more if nothing is known of it

    def _jitter(self) -> float:
        return 0.75 + self._random.random() / 4  # RFC 4271 10

    # Connections in

    def _has_room(self) -> bool:
        """Whether another connection may come: if need be the oldest without an OPEN ends, once it has had
        some time. What has arrived of it counts first: our own delay is not its silence.

        OPEN comes right behind the handshake, so that time is short: as fast as silent connections go, those
        behind them in the kernel's queue get their turn, and while it is full clients find no way in.
        """
        while len(self._unidentified) >= self.spec.limits.unidentified_connections:
            oldest, since = next(iter(self._unidentified.items()))
            if since + UNIDENTIFIED_AGE > self._loop.time():
                return False
            self._read(oldest)
            if self._unidentified.pop(oldest, None) is not None:
                self._lost(self.entries[oldest.remote], oldest, "it made room for a newer connection")
        return True

    def _take(self, sock: socket.socket, address: str) -> None:
        entry = self.entries.get(address) or self.entries.get(address.partition("%")[0])
        spec = entry.spec if entry is not None else self._peers.find(address)
        if spec is None or not (spec.single or self._listening.is_ample(sock)):
            self.strangers += 1
            sock.close()
            return
        entry = entry or self._enter(spec, address)
        sock.setblocking(False)
        sockets.set_ttl(sock, security_hops=spec.ttl_security, multihop=spec.multihop, external=spec.external)
        sockets.forget_what_came_from_afar(sock, spec.ttl_security)
        answer = entry.peer.accepted(self._loop.time())
        self.entries[entry.address] = entry  # one without a connection had no right to stay
        if isinstance(answer, Notification):
            self._refuse(sock, answer)
        else:
            self._link(entry, sock, answer)
        self._follow(entry)

    @staticmethod
    def _refuse(sock: socket.socket, notification: Notification) -> None:
        with contextlib.suppress(OSError):  # the peer may have gone already: then there is nobody to be told
            sock.send(encode(notification))
        sock.close()

    def _link(self, entry: Entry, sock: socket.socket, session: Session) -> None:
        link = Link(
            self._loop,
            sock,
            session,
            self.reflector,
            entry.address,
            inbox=lambda link, data: self._inbox(entry, link, data),
            lost=lambda link, reason: self._lost(entry, link, reason),
            resume=self._resume,
        )
        entry.links[session] = link
        if not session.initiated:  # whom we connect to is declared, and does not have to make room
            self._unidentified[link] = self._loop.time()
        link.start(self._read)
        link.write()

    # One turn

    def _read(self, link: Link) -> None:
        self._attempt(link, link.read, self._pace.read_octets)

    def _attempt(self, link: Link, step: Callable[..., object], *octets: int) -> None:
        """Read or write; a defect of ours shall cost this session, not the whole reflector."""
        try:
            step(*octets)
        except Exception:
            log.exception(DEFECT, peer=link.remote)
            self._let_go(link)

    def _let_go(self, link: Link) -> None:
        entry = self.entries.get(link.remote)
        if entry is not None and link.session in entry.links:
            self._lost(entry, link, "internal error")
        else:
            link.close()

    def _inbox(self, entry: Entry, link: Link, data: bytes) -> None:
        entry.peer.receive_data(link.session, data, self._loop.time())
        self._follow(entry)

    def _lost(self, entry: Entry, link: Link, reason: str) -> None:
        link.close()
        entry.peer.connection_lost(link.session, self._loop.time(), reason)
        self._follow(entry)

    def _follow(self, entry: Entry) -> None:
        """Act on what a peer reports, until it has nothing more to report."""
        quiet = True
        while events := entry.peer.events():
            for event in events:
                if isinstance(event, SessionEvent):
                    quiet = self._session_event(entry, event) and quiet
                elif isinstance(event, ConnectRequested):
                    self._dialling.connect(entry, event.attempt)
                elif isinstance(event, ConnectCancelled):
                    self._dialling.cancel(entry, event.attempt)
                    quiet = False
        if not quiet or entry.peer.state is not State.ESTABLISHED:
            self._settle(entry)

    def _settle(self, entry: Entry) -> None:
        """Write what the sessions have to say, and note when the peer's next timer is due."""
        for link in list(entry.links.values()):
            self._attempt(link, link.write)
        entry.deadline = entry.peer.next_timer() or float("inf")
        waiting = entry.recalled is None and entry.peer.state is State.ACTIVE
        if not entry.links and not entry.spec.single and waiting:
            member = self.reflector.members.get(entry.name)
            if member is None and not entry.peer.flaps:
                self.entries.pop(entry.address, None)

    def _session_event(self, entry: Entry, item: SessionEvent) -> bool:
        """Act on one event; whether it needs nothing to be written."""
        session, event = item
        link = entry.links.get(session)
        if link is None:
            return isinstance(event, UpdatesReceived)
        if isinstance(event, UpdatesReceived):
            if (member := link.member) is not None:
                if self._updated_at is None:
                    self._updated_at = self._loop.time()
                self.reflector.update(member, event.updates)
                if member.overfull or entry.spec.max_prefixes is not None:
                    check_limit(entry, member, self.reflector.ribs, self._journal, self._loop.time())
                self._pace.ask()
            return True
        if isinstance(event, Opened):
            self._unidentified.pop(link, None)
        elif isinstance(event, Established):
            self._up(entry, link, event)
        elif isinstance(event, Malformed):
            self._journal.malformed(entry.address, event)
        elif isinstance(event, RefreshRequested) and link.member is not None:
            self.reflector.refresh(link.member, event.family, event.subtype, self._loop.time())
            self._pace.ask()
        elif isinstance(event, Closed):
            del entry.links[session]
            self._down(entry, link, event)
        return False

    def _up(self, entry: Entry, link: Link, event: Established) -> None:
        ours = link.sock.getsockname()[0].partition("%")[0]
        link.member = self.reflector.established(
            entry.name,
            entry.spec.member,
            entry.address,
            event,
            self._loop.time(),
            socket.inet_pton(socket.AF_INET6 if ":" in ours else socket.AF_INET, ours),
        )
        self.established.add(link)
        self._pace.stir(len(self.established))
        entry.since = self._clock()
        entry.warned, entry.overfull = None, False
        self._pace.ask()
        identifier = event.open.bgp_identifier
        self._journal.up(entry.address, event.asn, entry.spec.kind, identifier)

    def _down(self, entry: Entry, link: Link, event: Closed) -> None:
        self.established.discard(link)
        self._unidentified.pop(link, None)
        entry.parted = self._loop.time()
        member, link.member = link.member, None
        if member is not None:
            self._pace.stir(len(self.established))
            retain = () if entry.name in self.spec.dead else event.retain
            self.reflector.closed(member, retain, self._loop.time(), crossed=event.crossed)
            self._pace.ask()
            entry.since = self._clock()
            entry.went_down = event.reason
            self._journal.down(entry.address, event.reason)
        link.finish()

    def _ask_again(self) -> None:
        """Ask for what was not taken in, of those who have withdrawn something since."""
        for link in tuple(self.established):  # one may turn out to be gone
            member = link.member
            if member is not None and member.wanted_again:
                for family in member.wanted_again:
                    link.session.send_route_refresh(family)
                member.wanted_again.clear()
                link.write()

    def _flush(self) -> None:
        self.reflector.flush()
        updated_at, self._updated_at = self._updated_at, None
        if updated_at is not None:
            self.decision.observe(self._loop.time() - updated_at)
        if self.reflector.defects:
            self._end_defective()
        for link in tuple(self.established):
            try:
                link.push()
            except Exception:  # as in `_attempt`, without whose call a thousand clients are told sooner
                log.exception(DEFECT, peer=link.remote)
                self._let_go(link)
        if updated_at is not None:
            self.convergence.observe(self._loop.time() - updated_at)

    def _end_defective(self) -> None:
        """Let go of the peers who cannot be told what changed: they come back and are told everything."""
        defects = dict(self.reflector.defects)
        for link in tuple(self.established):
            defect = defects.get(link.member.name) if link.member is not None else None
            if defect is not None:
                log.error(DEFECT, peer=link.remote, exc_info=defect)
                self._let_go(link)

    def _resume(self, link: Link) -> None:
        """A link used up its turn: it goes on in the next one."""
        if not self._resumed:
            self._loop.call_soon(self._resume_all)
        self._resumed.append(link)

    def _resume_all(self) -> None:
        resumed, self._resumed = self._resumed, []
        for link in resumed:
            self._attempt(link, link.write)

    # Time

    def _tick(self) -> None:
        self._ticking = self._loop.call_later(TICK, self._tick)
        now = self._loop.time()
        for entry in [e for e in self.entries.values() if e.deadline <= now]:
            try:
                self._expire(entry, now)
            except Exception:  # as above, and the timers of the others go on
                log.exception(DEFECT, peer=entry.address)
                for link in list(entry.links.values()):
                    self._let_go(link)
        for link in self.established:
            if link.wrote:
                link.wrote = False
                link.session.sent(now)
        deferring = self.reflector.deferral.until is not None
        if deferring and now >= self._absent_from:
            gone = {entry.name for entry in self.entries.values() if entry.unreached and not entry.links}
            self.reflector.deferral.absent = gone | self.spec.absent
        if self.reflector.tick(now):
            self._pace.ask()
        for member in self.reflector.forget_guests():
            log.warning("too many clients are away; the routes of one are withdrawn", peer=member.name)
            self._pace.ask()
        if deferring and self.reflector.deferral.until is None:
            self._settle_down(now)
        if now >= self._next_pruning:
            self._next_pruning = now + PRUNING
            for entry in forgettable(self.entries.values(), self.reflector.members, now):
                del self.entries[entry.address]
            self._remember()
            self._ask_again()
        self._journal.tick()

    def _expire(self, entry: Entry, now: float) -> None:
        """Act on the timers of a peer. What has arrived meanwhile counts first: our own delay is not its
        silence.
        """
        for link in list(entry.links.values()):
            self._read(link)
        entry.peer.handle_timer(now)
        self._follow(entry)
        self._settle(entry)

    # What can be asked

    def live(self) -> Iterator[tuple[Entry, Link]]:
        """Every Established connection with its peer."""
        for entry in self.entries.values():
            for link in entry.links.values():
                if link.member is not None:
                    yield entry, link
