"""A durable peer over disposable connections, sans-IO.

A `Session` ends with its TCP connection; a `Peer` is what an operator configured and outlives all of them. It
asks for connections and retries (ConnectRetryTimer), takes those that come in, keeps a flapping peer waiting
(IdleHoldTimer, RFC 4271 section 8.1.1), sees that of two connections one remains (section 6.8), and can be
shut down and enabled. The owner has the sockets:

    peer = Peer(config, now); peer.enable(now)
    session = peer.accepted(now)                  # a Session, or the Notification to refuse with
    session = peer.connected(attempt, now)        # an attempt of ours is up; None: no longer wanted
    peer.connect_failed(attempt, reason, now)
    peer.receive_data(session, data, now); peer.connection_lost(session, now)
    peer.handle_timer(now)                        # when peer.next_timer() has passed
    for event in peer.events(): ...               # after each of these: ConnectRequested, ConnectCancelled,
                                                  # SessionEvent(session, event)
    write(session.data_to_send())                 # after each of these: for all of peer.sessions, and for
                                                  # each that a Closed event names; then close that socket

Before a connection exists the peer itself walks `fsm.TABLE` (Idle, Connect, Active); from OpenSent on each
session does, and when the last one ends, the peer goes on from the state it ended in.

Collisions. RFC 4271 section 6.8 lets both sides decide by comparing BGP Identifiers (AS numbers where those
are equal, RFC 6286): the connection opened by the greater survives. Taken literally there is a race in which
each side closes what the other keeps, because one of them already reached Established. These rules leave
exactly one connection whatever the timing, and are the RFC's wherever it is unambiguous:

* While a session is Established, a new connection is tracked and our OPEN held back, so that the other side
  never counts on it. The peer's OPEN ends it; if the old session ends first (its end of file was only behind
  the new connection in the queue), our OPEN goes out. Exception: graceful restart was negotiated (RFC 4724
  section 4.2), then it may be the peer come anew; it is let in, and takes the old one's place once it is
  Established itself.
* Two connections that crossed (both sides sent OPEN on both) are decided by the identifiers, also if one of
  them was faster; but one that may be Established over there (we sent KEEPALIVE) ends only when its successor
  is Established here. BIRD and FRR give up every connection beside an Established one, whatever the
  identifiers say; were we to end that one already, none would be left.
* Of two opened by the same side the newer survives: the older was given up there.

Idle hold grows whenever the last connection of a peer ends in Idle, whatever ended it (RFC 4271 spares some
ends; a peer that answers every OPEN with "unsupported version" would then be tried without pause). The loser
of a collision is not the last one and counts for nothing. A peer that refuses us (Cease 6/5 or 6/7) is in
idle hold itself or has another connection: that is no flap, and we listen and retry by ConnectRetryTimer;
were we to go Idle too, two peers could refuse each other in turn for ever.
"""

from dataclasses import dataclass, replace
from math import inf
from typing import NamedTuple

from bgpd.session.config import PeerConfig
from bgpd.session.counters import PeerCounters
from bgpd.session.events import Closed, Established, Event, Opened
from bgpd.session.fsm import TABLE, Action, Input, State
from bgpd.session.session import DecoderFactory, Session
from bgpd.session.timers import Jitter, PeerTimers, no_jitter
from bgpd.wire.errors import ProtocolError
from bgpd.wire.iana import CeaseSubcode, ErrorCode
from bgpd.wire.messages import Notification
from bgpd.wire.nlri import Family
from bgpd.wire.update import UpdateDecoder


@dataclass(frozen=True, slots=True)
class ConnectRequested:
    """Open a TCP connection and report its fate under this number."""

    attempt: int


@dataclass(frozen=True, slots=True)
class ConnectCancelled:
    """This attempt is not wanted any more: drop it and report nothing."""

    attempt: int


class SessionEvent(NamedTuple):
    """Something happened on one of the peer's sessions."""

    session: Session
    event: Event


PeerEvent = ConnectRequested | ConnectCancelled | SessionEvent

_COLLISION = (ErrorCode.CEASE, CeaseSubcode.CONNECTION_COLLISION_RESOLUTION)


_REJECTED = (ErrorCode.CEASE, CeaseSubcode.CONNECTION_REJECTED)


def _is_not_now(closed: Closed) -> bool:
    """The peer refused the connection for a reason of its own: idle hold, or it has another one."""
    last = closed.received
    return (
        last is not None and not closed.established and (last.code, last.subcode) in (_REJECTED, _COLLISION)
    )


def _lost_collision(closed: Closed) -> bool:
    last = closed.received or closed.sent
    return last is not None and (last.code, last.subcode) == _COLLISION


class Peer:
    """One configured peer. See the module's text for how to drive it."""

    __slots__ = (
        "_attempt",
        "_attempts",
        "_decoder",
        "_events",
        "_flaps",
        "_idle_hold",
        "_jitter",
        "_late",
        "_lone",
        "_sessions",
        "_timers",
        "_up",
        "config",
        "counters",
        "enabled",
    )

    def __init__(
        self,
        config: PeerConfig,
        *,
        decoder: DecoderFactory = UpdateDecoder,
        jitter: Jitter = no_jitter,
    ) -> None:
        """A peer that is not enabled yet: Idle, refusing everybody."""
        self.config = config
        self.counters = PeerCounters()
        self.enabled = False
        self._decoder = decoder
        self._jitter = jitter
        self._timers = PeerTimers(jitter)
        self._lone = State.IDLE  # the machine of the attempt, or of waiting for one: Idle, Connect or Active
        self._attempt: int | None = None  # the one under way
        self._attempts = 0
        self._sessions: list[Session] = []
        self._late: set[Session] = set()  # sessions begun while another was Established
        self._up: Session | None = None
        self._flaps = 0  # ConnectRetryCounter
        self._idle_hold: float | None = None  # decided by the owner for the next time
        self._events: list[PeerEvent] = []

    # What there is

    @property
    def state(self) -> State:
        """The furthest state of any connection, or of the attempt."""
        sessions = self._sessions
        if len(sessions) == 1:
            return sessions[0].state
        return max((session.state for session in sessions), key=_progress, default=self._lone)

    @property
    def session(self) -> Session | None:
        """The Established session."""
        return self._up

    @property
    def sessions(self) -> tuple[Session, ...]:
        """All live sessions, oldest first; more than one only during a collision."""
        return tuple(self._sessions)

    @property
    def flaps(self) -> int:
        """Failures in a row: what idle hold grows by (ConnectRetryCounter)."""
        return self._flaps

    def events(self) -> list[PeerEvent]:
        """What has happened since the last call, in order."""
        events = self._events
        if events:
            self._events = []
        return events

    def next_timer(self) -> float | None:
        """When `handle_timer` wants to be called; None: no timer runs."""
        due = [deadline for session in self._sessions if (deadline := session.next_timer()) is not None]
        if (own := self._timers.next()) is not None:
            due.append(own)
        return min(due, default=None)

    # The operator's will

    def enable(self, now: float) -> None:
        """Start, or start again at once: also ends an idle hold and forgets the flaps."""
        self.enabled = True
        self._flaps = 0
        if self._lone is State.IDLE and not self._sessions:
            self._timers.stop()
            passive = self.config.session.passive
            self._feed(Input.MANUAL_START_PASSIVE if passive else Input.MANUAL_START, now)

    def disable(
        self,
        now: float,
        communication: str = "",
        subcode: CeaseSubcode = CeaseSubcode.ADMINISTRATIVE_SHUTDOWN,
        *,
        hard: bool | None = None,
    ) -> None:
        """End everything with a Cease and stay Idle, refusing connections, until enabled."""
        self.enabled = False
        self._end_all(subcode, communication, now, hard=hard)
        self._feed(Input.MANUAL_STOP, now)
        self._timers.stop()
        self._flaps = 0

    def leave(self, now: float, communication: str = "") -> None:
        """End everything for a restart of ours and stay Idle; peers that can shall keep our routes meanwhile.

        Where NOTIFICATIONs are graceful a Cease says why (RFC 8538 3), with graceful restart alone TCP ends
        without one (RFC 4724 4.2), and without it the Cease ends our routes there.
        """
        self.enabled = False
        ours = self.config.session.capabilities.graceful_restart
        for session in self.sessions:
            theirs = session.negotiated.graceful_restart if session.negotiated is not None else None
            if ours is None or theirs is None or (ours.notification and theirs.notification):
                session.shut_down(CeaseSubcode.ADMINISTRATIVE_RESET, communication, now, hard=False)
            else:
                session.connection_lost(now, f"we ended it without a word: {communication}")
            self._follow(session, now)
        self._feed(Input.MANUAL_STOP, now)
        self._timers.stop()
        self._flaps = 0

    def reset(
        self,
        now: float,
        communication: str = "",
        subcode: CeaseSubcode = CeaseSubcode.ADMINISTRATIVE_RESET,
        *,
        hard: bool | None = None,
    ) -> None:
        """End the connections with a Cease and start again at once; no flap.

        Without any, what is being tried is given up for a new attempt; a peer held idle stays so.
        """
        if self._sessions:
            self._idle_hold = 0.0
            self._end_all(subcode, communication, now, hard=hard)
            self._idle_hold = None
        elif self.state is not State.IDLE:
            self._start_again(now)

    def configure(self, config: PeerConfig, now: float, *, keep: bool = False) -> None:
        """Take a new configuration.

        A changed session part resets the connections (Cease 6/6), unless `keep` says that it shall count from
        the next connection on (as the restart flag of graceful restart does). Without a connection, who is to
        open one counts at once all the same: both ends might wait. Nothing changed, nothing happens.
        """
        before, self.config = self.config.session, config
        if before == config.session or not self.enabled:
            return
        if keep:
            if (
                not self._sessions
                and self.state is not State.IDLE
                and before.passive != config.session.passive
            ):
                self._start_again(now)
        elif self._sessions:
            self.reset(now, subcode=CeaseSubcode.OTHER_CONFIGURATION_CHANGE)
        else:
            self._start_again(now)

    def _start_again(self, now: float) -> None:
        self._feed(Input.MANUAL_STOP, now)
        self._timers.stop()
        self._start(now)

    def exceed_prefix_limit(
        self, family: Family, limit: int, now: float, restart: float | None = None
    ) -> None:
        """The peer sent more than `limit` prefixes: Cease 6/1 (RFC 4486), then Idle for `restart` seconds.

        None: Idle until `enable`.
        """
        self._idle_hold = inf if restart is None else restart
        data = family.afi.to_bytes(2, "big") + bytes((family.safi,)) + limit.to_bytes(4, "big")
        self._end_all(
            CeaseSubcode.MAXIMUM_PREFIXES_REACHED, f"{family}: more than {limit} prefixes", now, data=data
        )
        self._idle_hold = None

    # Connections

    def accepted(self, now: float) -> Session | Notification:
        """TCP accepted a connection of this peer: its session; or the Cease to refuse it with, when Idle."""
        if self._lone is State.IDLE:
            self.counters.refused += 1
            return Notification(ErrorCode.CEASE, CeaseSubcode.CONNECTION_REJECTED)
        unopened = (State.ACTIVE, State.OPENSENT)
        abandoned = [s for s in self._sessions if not s.initiated and s.state in unopened]
        session = self._begin(False, now)
        for older in abandoned:  # the peer has only one attempt at a time: it gave this one up
            self._dump(older, now)
        return session

    def connected(self, attempt: int, now: float) -> Session | None:
        """Our attempt is up: its session, OPEN sent. None: close it, it is not wanted any more."""
        if attempt != self._attempt:
            return None
        self._attempt = None
        self._timers.connect_retry = inf
        self._lone = State.ACTIVE  # the attempt's machine goes on as the session's; here we listen
        return self._begin(True, now)

    def connect_failed(self, attempt: int, reason: str, now: float) -> None:
        """Our attempt came to nothing. Listen, and try again when ConnectRetryTimer expires."""
        if attempt != self._attempt:
            return
        self._attempt = None
        self.counters.failures += 1
        self.counters.last_error, self.counters.last_error_at = reason, now
        self._feed(Input.TCP_CONNECTION_FAILS, now)
        self._feed(Input.AUTOMATIC_START_PASSIVE, now)

    def receive_data(self, session: Session, data: bytes, now: float) -> None:
        """Octets arrived on `session`."""
        if session.state is State.ACTIVE and data and not session.closed:  # tracked: this must be its OPEN
            session.turn_away(now)
            self.counters.refused += 1
        else:
            session.receive_data(data, now)
        self._follow(session, now)

    def connection_lost(
        self, session: Session, now: float, reason: str = "the TCP connection is gone"
    ) -> None:
        """The TCP connection of `session` is down."""
        session.connection_lost(now, reason)
        self._follow(session, now)

    def fail(self, session: Session, error: ProtocolError, now: float) -> None:
        """End `session` with a NOTIFICATION for an error of the peer's that the owner has found."""
        session.fail(error, now)
        self._follow(session, now)

    def handle_timer(self, now: float) -> None:
        """Act on every timer that has expired by `now`."""
        for session in self.sessions:
            session.handle_timer(now)
            self._follow(session, now)
        while (due := self._timers.expired(now)) is not None:
            self._feed(due, now)

    # The sessions within

    def _begin(self, initiated: bool, now: float) -> Session:
        session = Session(
            self.config.session,
            now,
            initiated=initiated,
            decoder=self._decoder,
            counters=self.counters.messages,
            jitter=self._jitter,
            arbiter=self._must_go,
        )
        self._sessions.append(session)
        if self._up is not None:
            self._late.add(session)
            if not _may_come_anew(self._up):
                session.track(now)
                return session
        session.connected(now)
        return session

    def _follow(self, session: Session, now: float) -> None:
        """Act on what happened on `session`, then pass it on."""
        for event in session.events():
            if isinstance(event, Opened):
                self._cancel_attempt()
                self._timers.connect_retry = inf
                self._lone = State.ACTIVE
            elif isinstance(event, Established):
                self._rise(session, now)
            if isinstance(event, Closed):
                known = replace(event, crossed=True) if self._crossed(session) else event
                self._events.append(SessionEvent(session, known))
                self._ended(session, event, now)
            else:
                self._events.append(SessionEvent(session, event))

    def _crossed(self, session: Session) -> bool:
        """Whether `session` met another connection before it was Established, and that one lives on."""
        return session is self._up and any(
            other is not session
            and other not in self._late
            and other.state in (State.OPENCONFIRM, State.ESTABLISHED)
            for other in self._sessions
        )

    def _rise(self, session: Session, now: float) -> None:
        """`session` is Established: an Established predecessor ends, and its end is told first."""
        before = self._up
        if before is not None:
            if _may_come_anew(before):
                before.connection_lost(now, "the peer opened a new connection")
                self._follow(before, now)
            else:
                self._dump(before, now)
        self._up = session
        for other in self.sessions:
            if other.state is State.OPENCONFIRM and self._later(session, other) is session:
                self._dump(other, now)
        self._late.discard(session)
        self.counters.established += 1
        self.counters.established_since = now

    def _must_go(self, session: Session, now: float) -> bool:
        """The arbiter: the peer's OPEN on `session` is good; has it lost against another connection?"""
        rivals = [
            other
            for other in self._sessions
            if other is not session and other.state in (State.OPENCONFIRM, State.ESTABLISHED)
        ]
        late = session in self._late  # then the Established one is not asked: it goes if this one gets so far
        for other in rivals:
            if not (late and other is self._up) and self._survivor(session, other) is other:
                return True
        for other in rivals:
            if other.state is State.OPENCONFIRM and other.initiated == session.initiated:
                self._dump(other, now)
        return False

    def _later(self, one: Session, other: Session) -> Session:
        """The survivor of two, whichever began first."""
        newer = max(one, other, key=self._sessions.index)
        return self._survivor(newer, other if newer is one else one)

    def _survivor(self, newer: Session, older: Session) -> Session:
        """RFC 4271 section 6.8 with RFC 6286 section 2.3."""
        remote, known = newer.peer_open, older.peer_open
        assert remote is not None
        assert known is not None
        if newer.initiated == older.initiated or remote.bgp_identifier != known.bgp_identifier:
            return newer
        ours = self.config.session
        dominant = (ours.bgp_identifier, ours.local_asn) > (remote.bgp_identifier, remote.asn)
        return newer if newer.initiated == dominant else older

    def _dump(self, session: Session, now: float) -> None:
        session.shut_down(CeaseSubcode.CONNECTION_COLLISION_RESOLUTION, "", now)
        self._follow(session, now)

    def _end_all(
        self,
        subcode: CeaseSubcode,
        communication: str,
        now: float,
        *,
        data: bytes = b"",
        hard: bool | None = None,
    ) -> None:
        for session in self.sessions:
            session.shut_down(subcode, communication, now, data=data, hard=hard)
            self._follow(session, now)

    def _ended(self, session: Session, closed: Closed, now: float) -> None:
        """A session is over: count, and if it was the last one go on from the state it ended in."""
        self._sessions.remove(session)
        self._late.discard(session)
        counters = self.counters
        if closed.established or self._up is None:  # a stranger's end says nothing of a peer that is up
            counters.last_error, counters.last_error_at = closed.reason, now
        lost_collision = _lost_collision(closed)
        if lost_collision:
            counters.collisions += 1
        elif not closed.established:
            counters.failures += 1
        if closed.established:
            counters.closed += 1
            counters.last_closed = now
            since = session.established_since
            if since is not None and now - since >= self.config.stable_time:
                self._flaps = 0
        if session is self._up:
            self._up = None
            counters.established_since = None
            for tracked in self._sessions:
                if tracked.state is State.ACTIVE:
                    self._late.discard(tracked)
                    tracked.connected(now)
        if self._sessions:
            self._keep_trying(now)
            return
        if session.state is State.IDLE:
            not_now = _is_not_now(closed) and self._idle_hold is None
            if not not_now and self._idle_hold is None:
                self._flaps += 1
            self._cancel_attempt()
            self._timers.stop()
            self._lone = State.IDLE
            if self.enabled:
                self._feed(Input.AUTOMATIC_START_PASSIVE if not_now else Input.AUTOMATIC_START_DAMPED, now)
        else:
            self._keep_trying(now)

    # Attempts and waiting

    def _keep_trying(self, now: float) -> None:
        """Let ConnectRetryTimer run unless we have, or are getting, a connection of our own, or a good
        one."""
        seconds = self.config.retry_time
        if self._timers.connect_retry != inf or seconds is None:  # it runs while there is an attempt
            return
        if not any(session.initiated or session.state is not State.OPENSENT for session in self._sessions):
            self._timers.retry_after(now, seconds)

    def _start(self, now: float) -> None:
        passive = self.config.session.passive
        self._feed(Input.AUTOMATIC_START_PASSIVE if passive else Input.AUTOMATIC_START, now)

    def _feed(self, item: Input, now: float) -> None:
        """Take the peer's own machine through one transition."""
        action, self._lone = TABLE[self._lone, item]
        match action:
            case Action.START | Action.CONNECT_AGAIN:
                self._cancel_attempt()
                self._timers.retry_after(now, self.config.retry_time or self.config.connect_retry_time)
                self._attempts += 1
                self._attempt = self._attempts
                self.counters.attempts += 1
                self._events.append(ConnectRequested(self._attempt))
            case Action.LISTEN:
                self._keep_trying(now)
            case Action.HOLD_IDLE:
                self._hold_idle(now)
            case Action.RESTART:
                self._start(now)
            case Action.RELEASE | Action.RELEASE_CLEAR:
                self._cancel_attempt()
                self._timers.connect_retry = inf
            case _:
                assert action is Action.IGNORE, (action, item)

    def _hold_idle(self, now: float) -> None:
        seconds = self._idle_hold
        if seconds is None:
            seconds = self.config.idle_hold(self._flaps) * self._jitter()
        if seconds > 0:
            self._timers.hold_idle(now, seconds)
        else:
            self._feed(Input.IDLE_HOLD_TIMER_EXPIRES, now)

    def _cancel_attempt(self) -> None:
        if self._attempt is not None:
            self._events.append(ConnectCancelled(self._attempt))
            self._attempt = None


def _progress(state: State) -> int:
    return state.value


def _may_come_anew(session: Session) -> bool:
    """Graceful restart was negotiated with at least one family: a new connection may be the peer
    restarted."""
    negotiated = session.negotiated
    return negotiated is not None and bool(
        negotiated.graceful_restart and negotiated.graceful_restart.families
    )
