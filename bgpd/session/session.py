"""One BGP connection, sans-IO: bytes and time in, events and bytes out.

A `Session` lives as long as one TCP connection. Its owner has the socket and the clock, and does this:

    session = Session(config, now)            # initiated=True if we connected
    session.connected(now)                    # OPEN goes out
    session.receive_data(data, now)           # whatever arrived, however split
    session.handle_timer(now)                 # when session.next_timer() has passed
    write(session.data_to_send())             # after each of these
    for event in session.events(): ...        # after each of these
    session.sent(now, updates=n)              # when TCP has taken octets of ours
    session.connection_lost(now)              # end of file or reset

Once `closed`, the owner writes what `data_to_send` still gives (a NOTIFICATION) and closes the socket.

UPDATEs to send do not pass through here: the owner writes them to the socket between whole messages. It tells
`sent`, because a peer that takes nothing is found out by the send hold timer (RFC 9687), and because an
UPDATE is as good as a KEEPALIVE.

Nothing a peer sends makes a method raise: it becomes a NOTIFICATION and a `Closed` event. An exception is a
defect of this program. How much data to hand over at once is the owner's choice and its means of fairness;
the work done is in proportion to the octets given. An owner that is late should hand over what has arrived
before it asks for expired timers, so that its own delay is not taken for the peer's silence.

The state machine is `fsm.TABLE`; RFC 4271 sections 4, 6 and 8, RFC 2918, 5492, 6286, 6608, 7313, 8538, 8654,
9003, 9234 and 9687. Whether one of two crossing connections must go is asked of `arbiter`, which `Peer`
gives.
"""

from collections.abc import Callable

from bgpd.session.admission import admit, opening
from bgpd.session.config import SessionConfig
from bgpd.session.counters import SessionCounters
from bgpd.session.events import Closed, Established, Event, Opened, RefreshRequested, UpdatesReceived
from bgpd.session.fsm import COUNTING, TABLE, Action, Input, State
from bgpd.session.restart import (
    HARD_BY_DEFAULT,
    as_hard_reset,
    notifications_are_graceful,
    retained_families,
)
from bgpd.session.timers import SEND_HOLD_TIME, Jitter, SessionTimers, keepalive_interval, no_jitter
from bgpd.wire.capabilities import Negotiated
from bgpd.wire.errors import ProtocolError
from bgpd.wire.framing import STANDARD_MAX_LENGTH, Framer
from bgpd.wire.iana import (
    CeaseSubcode,
    ErrorCode,
    FsmSubcode,
    MessageType,
    OpenSubcode,
    RefreshSubtype,
    notification_words,
)
from bgpd.wire.malformed import EVERY
from bgpd.wire.messages import KEEPALIVE, Message, Notification, Open, RouteRefresh, decode, encode
from bgpd.wire.nlri import Family
from bgpd.wire.update import Told, UpdateDecoder

DecoderFactory = Callable[[Negotiated, bool], UpdateDecoder]
"""Makes the UPDATE decoder of a session from what was negotiated and whether it is internal."""

_FSM_SUBCODES = {
    State.OPENSENT: FsmSubcode.UNEXPECTED_IN_OPENSENT,
    State.OPENCONFIRM: FsmSubcode.UNEXPECTED_IN_OPENCONFIRM,
    State.ESTABLISHED: FsmSubcode.UNEXPECTED_IN_ESTABLISHED,
}
_STATE_NAMES = {
    State.OPENSENT: "OpenSent",
    State.OPENCONFIRM: "OpenConfirm",
    State.ESTABLISHED: "Established",
}
_MESSAGE_INPUTS = {
    MessageType.KEEPALIVE: Input.KEEPALIVE_MSG,
    MessageType.UPDATE: Input.UPDATE_MSG,
    MessageType.ROUTE_REFRESH: Input.ROUTE_REFRESH_MSG,
    MessageType.OPEN: Input.BGP_OPEN,
}
_ERROR_INPUTS = {
    ErrorCode.MESSAGE_HEADER: Input.BGP_HEADER_ERR,
    ErrorCode.OPEN_MESSAGE: Input.BGP_OPEN_MSG_ERR,
    ErrorCode.UPDATE_MESSAGE: Input.UPDATE_MSG_ERR,
    ErrorCode.ROUTE_REFRESH_MESSAGE: Input.ROUTE_REFRESH_MSG_ERR,
}


def _one_line(text: str) -> str:
    """`text` fit for a log: what is not printable is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _complaint(item: Input) -> Notification:
    """The NOTIFICATION of an input that brought none: an expired timer, or a stray one."""
    match item:
        case Input.HOLD_TIMER_EXPIRES:
            return Notification(ErrorCode.HOLD_TIMER_EXPIRED)
        case Input.SEND_HOLD_TIMER_EXPIRES:
            return Notification(ErrorCode.SEND_HOLD_TIMER_EXPIRED)
    return Notification(ErrorCode.FINITE_STATE_MACHINE, FsmSubcode.UNSPECIFIED)


def no_rival(_session: "Session", _now: float) -> bool:
    """The arbiter of a session that is alone: it never has to go."""
    return False


class Session:
    """A sans-IO BGP speaker for one TCP connection. See the module's text for how to drive it."""

    __slots__ = (
        "_arbiter",
        "_decoder",
        "_events",
        "_framer",
        "_malformed_told",
        "_new_decoder",
        "_out",
        "_timers",
        "closed",
        "config",
        "counters",
        "created",
        "established_since",
        "initiated",
        "negotiated",
        "peer_open",
        "state",
    )

    def __init__(
        self,
        config: SessionConfig,
        now: float,
        *,
        initiated: bool = False,
        decoder: DecoderFactory = UpdateDecoder,
        counters: SessionCounters | None = None,
        jitter: Jitter = no_jitter,
        arbiter: Callable[["Session", float], bool] = no_rival,
    ) -> None:
        """`initiated`: we opened (or are opening) the TCP connection; otherwise it was accepted.

        `decoder` lets sessions share interned attributes. `arbiter(session, now)` is asked when the peer's
        OPEN is good, and returns True if this connection has lost a collision; it may end other sessions
        meanwhile.
        """
        self.config = config
        self.created = now
        self.initiated = initiated
        self.counters = counters or SessionCounters()
        self.state = State.CONNECT if initiated else State.ACTIVE
        self.closed = False
        self.negotiated: Negotiated | None = None
        self.peer_open: Open | None = None
        self.established_since: float | None = None
        self._arbiter = arbiter
        self._new_decoder = decoder
        self._decoder: UpdateDecoder | None = None  # exists from Established on
        self._framer = Framer()
        self._malformed_told = now  # when the next may be told of
        self._timers = SessionTimers(jitter)
        self._events: list[Event] = []
        self._out: list[bytes] = []

    # The connection

    def connected(self, now: float) -> None:
        """TCP is up: send OPEN and wait for the peer's."""
        self._step(Input.TCP_CR_ACKED if self.initiated else Input.TCP_CONNECTION_CONFIRMED, now)

    def track(self, now: float) -> None:
        """TCP is up, but OPEN waits for `connected`: another session of the peer is Established.

        If nothing comes of it, it ends when the time to wait for an OPEN is over.
        """
        self._timers.wait_for_open(now, self.config.open_hold_time)

    def turn_away(self, now: float) -> None:
        """End a tracked connection: the other one stays. OPEN was never sent on this one, so that the peer
        cannot have chosen it.
        """
        notification = Notification(ErrorCode.CEASE, CeaseSubcode.CONNECTION_COLLISION_RESOLUTION)
        self._step(Input.OPEN_COLLISION_DUMP, now, reason="another session is Established")
        self._send(notification)
        self.counters.sent.notifications += 1

    def connection_lost(self, now: float, reason: str = "the TCP connection is gone") -> None:
        """TCP is down, or could not be set up. Also the way to let go of a connection without a word."""
        if not self.closed:
            self._step(Input.TCP_CONNECTION_FAILS, now, reason=reason)

    def receive_data(self, data: bytes, now: float) -> None:
        """Take octets from the peer; any split will do. The hot path: see the batch in the loop."""
        if self.state not in _FSM_SUBCODES:  # not connected, or closed
            return
        counters = self.counters
        counters.octets_received += len(data)
        framer = self._framer
        framer.feed(data)
        decoder = self._decoder
        updates: list[Told] = []
        leaving: Family | None = None  # where the last of them does nothing but withdraw
        gone: list[bytes] = []  # its items: those of more such UPDATEs in a row join them
        alive = False
        try:
            for kind, body in framer:
                if kind == 2 and decoder is not None:
                    counters.received.updates += 1
                    update = decoder.read(body)
                    if update[1] and not update[0] and len(update[1]) == 1 and not update[3]:
                        family, items = update[1][0]
                        if family is leaving:
                            gone += items
                            continue
                        leaving, gone = family, items
                    else:
                        leaving = None
                    updates.append(update)
                    continue
                if kind == 4 and decoder is not None:
                    counters.received.keepalives += 1
                    alive = True
                    continue
                if updates:
                    self._deliver(updates, now)
                    updates, leaving = [], None
                    alive = True
                self._message(kind, body, now)
                if self.closed:
                    return
                decoder = self._decoder
        except ProtocolError as error:
            if updates:
                self._deliver(updates, now)
            self.fail(error, now)
            return
        if updates:
            self._deliver(updates, now)
            alive = True
        if alive:
            self._timers.received(now)

    def sent(self, now: float, updates: int = 0) -> None:
        """TCP has taken octets of ours, among them `updates` whole UPDATEs: the peer reads."""
        self.counters.sent.updates += updates
        self._timers.sent(now)

    # Time

    def next_timer(self) -> float | None:
        """When `handle_timer` wants to be called; None: no timer runs."""
        return self._timers.next()

    def handle_timer(self, now: float) -> None:
        """Act on every timer that has expired by `now`."""
        while not self.closed and (due := self._timers.expired(now)) is not None:
            self._step(due, now)

    # Results

    def events(self) -> list[Event]:
        """What has happened since the last call, in order."""
        events = self._events
        if events:
            self._events = []
        return events

    def data_to_send(self) -> bytes:
        """Control messages to write, whole ones, since the last call."""
        out = self._out
        if not out:
            return b""
        self._out = []
        return b"".join(out)

    # The owner's will

    def shut_down(
        self,
        subcode: CeaseSubcode,
        communication: str,
        now: float,
        *,
        data: bytes = b"",
        hard: bool | None = None,
    ) -> None:
        """End the session with a Cease.

        `communication` goes to the peer with the subcodes 2 and 4 (RFC 9003), cut to 255 octets; with the
        others `data` does (RFC 4486). `hard` asks for a Hard Reset where NOTIFICATIONs are graceful (RFC
        8538); None: for those subcodes that mean a lasting end.
        """
        if self.closed:
            return
        if subcode in (CeaseSubcode.ADMINISTRATIVE_SHUTDOWN, CeaseSubcode.ADMINISTRATIVE_RESET):
            notification = Notification.cease(subcode, communication)
        else:
            notification = Notification(ErrorCode.CEASE, subcode, data)
        wanted = subcode in HARD_BY_DEFAULT if hard is None else hard
        if wanted and notifications_are_graceful(self.config.capabilities, self.negotiated):
            notification = as_hard_reset(notification)
        words = subcode.name.lower().replace("_", " ")
        reason = f"we ended it: {words}" + (f" ({_one_line(communication)})" if communication else "")
        if subcode is CeaseSubcode.ADMINISTRATIVE_SHUTDOWN:
            self._step(Input.MANUAL_STOP, now, reason=reason, notification=notification)
        elif subcode is CeaseSubcode.CONNECTION_COLLISION_RESOLUTION:
            self._step(Input.OPEN_COLLISION_DUMP, now, reason=reason, notification=notification)
        else:
            self._step(Input.AUTOMATIC_STOP, now, reason=reason, notification=notification)

    def fail(self, error: ProtocolError, now: float) -> None:
        """End the session because of the peer's `error`, with the NOTIFICATION it asks for."""
        if self.closed:
            return
        item = _ERROR_INPUTS.get(ErrorCode(error.code), Input.AUTOMATIC_STOP)
        self._step(item, now, reason=error.reason, notification=Notification.of(error))

    def send_route_refresh(self, family: Family, subtype: int = RefreshSubtype.REQUEST) -> bool:
        """Send a ROUTE-REFRESH; False, and nothing sent, where the session cannot carry it.

        That is: not Established, the family or the capability not negotiated (RFC 2918 section 4), or a
        demarcation without enhanced refresh (RFC 7313 section 4).
        """
        negotiated = self.negotiated
        if self.state is not State.ESTABLISHED or negotiated is None or family not in negotiated.families:
            return False
        if not (
            negotiated.route_refresh if subtype == RefreshSubtype.REQUEST else negotiated.enhanced_refresh
        ):
            return False
        self._send(RouteRefresh(family, subtype))
        self.counters.sent.route_refreshes += 1
        return True

    # What happens within

    def _deliver(self, updates: list[Told], now: float) -> None:
        faults = 0
        for _reach, _unreach, _end_of_rib, errors in updates:
            if errors:
                faults += len(errors)
        self._events.append(UpdatesReceived(updates))
        if not faults:
            return
        self.counters.attribute_faults += faults
        assert self._decoder is not None
        malformed, self._decoder.malformed = self._decoder.malformed, None
        if malformed is not None and now >= self._malformed_told:
            self._malformed_told = now + EVERY
            self._events.append(malformed)

    def _message(self, kind: int, body: bytes, now: float) -> None:
        """One message off the hot path: anything before Established, and all but UPDATE and KEEPALIVE
        after."""
        self.counters.received.count(kind)
        if kind == MessageType.UPDATE:  # only before Established: unexpected whatever it says
            self._unexpected(kind, Input.UPDATE_MSG, now)
            return
        try:
            message = decode(kind, body)
        except ProtocolError as error:
            item = _ERROR_INPUTS[ErrorCode(error.code)]
            if TABLE[self.state, item][0] is Action.FSM_ERROR_COUNT:
                self._unexpected(kind, item, now)
            else:
                self.fail(error, now)
            return
        if isinstance(message, Notification):
            self._notified(message, now)
        elif isinstance(message, Open) and self.state is State.OPENSENT:
            self._open(message, now)
        elif TABLE[self.state, item := _MESSAGE_INPUTS[MessageType(kind)]][0] is Action.FSM_ERROR_COUNT:
            self._unexpected(kind, item, now)
        else:
            self._step(item, now)
            if isinstance(message, RouteRefresh):
                self._refresh(message)

    def _open(self, message: Open, now: float) -> None:
        try:
            self.negotiated = admit(self.config, message)
        except ProtocolError as error:
            self.fail(error, now)
            return
        self.peer_open = message
        if self._arbiter(self, now):
            self.shut_down(CeaseSubcode.CONNECTION_COLLISION_RESOLUTION, "", now)
        elif not self.closed:
            self._step(Input.BGP_OPEN, now)

    def _notified(self, message: Notification, now: float) -> None:
        version = (message.code, message.subcode) == (ErrorCode.OPEN_MESSAGE, OpenSubcode.UNSUPPORTED_VERSION)
        item = Input.NOTIF_MSG_VER_ERR if version else Input.NOTIF_MSG
        words = message.communication
        meaning = notification_words(message.code, message.subcode)
        reason = f"the peer ended it: NOTIFICATION {message.code}/{message.subcode}, {meaning}"
        self._step(item, now, reason=f"{reason} ({words})" if words else reason, received=message)

    def _refresh(self, message: RouteRefresh) -> None:
        """Hand over what concerns a negotiated family; the rest is ignored (RFC 2918 section 4, RFC 7313
        5)."""
        negotiated = self.negotiated
        if negotiated is None or message.family not in negotiated.families:
            return
        if message.subtype == RefreshSubtype.REQUEST:
            wanted = negotiated.route_refresh
        else:
            wanted = negotiated.enhanced_refresh and message.subtype in (
                RefreshSubtype.BEGIN,
                RefreshSubtype.END,
            )
        if wanted:
            self._events.append(RefreshRequested(message.family, message.subtype))

    def _unexpected(self, kind: int, item: Input, now: float) -> None:
        """A message out of place: RFC 6608 wants its type as the NOTIFICATION's data."""
        name = MessageType(kind).name.replace("_", "-")
        reason = f"a message of type {name} is unexpected in state {_STATE_NAMES[self.state]}"
        notification = Notification(ErrorCode.FINITE_STATE_MACHINE, _FSM_SUBCODES[self.state], bytes((kind,)))
        self._step(item, now, reason=reason, notification=notification)

    def _step(
        self,
        item: Input,
        now: float,
        *,
        reason: str = "",
        notification: Notification | None = None,
        received: Notification | None = None,
    ) -> None:
        """Look the transition up, make it, and carry its action out."""
        before = self.state
        action, self.state = TABLE[before, item]
        match action:
            case Action.SEND_OPEN:
                self._timers.wait_for_open(now, self.config.open_hold_time)
                self._out.append(opening(self.config))
                self.counters.sent.opens += 1
            case Action.CONFIRM:
                self._confirm(now)
            case Action.ESTABLISH:
                self._establish(now)
            case Action.SEND_KEEPALIVE:
                self._keepalive(now)
            case Action.REFRESH_HOLD | Action.DELIVER_UPDATE:
                self._timers.received(now)
            case Action.IGNORE | Action.TRACK | Action.DELIVER_REFRESH:
                pass
            case Action.CEASE_CLEAR | Action.CEASE_COUNT | Action.NOTIFY_COUNT | Action.FSM_ERROR_COUNT:
                words = reason or item.value
                self._close(before, words, notification or _complaint(item), received, action)
            case _:
                self._close(before, reason or item.value, None, received, action)

    def _confirm(self, now: float) -> None:
        negotiated, opened = self.negotiated, self.peer_open
        assert negotiated is not None
        assert opened is not None
        config, hold_time = self.config, negotiated.hold_time
        limit = config.send_hold_time
        if limit is None:
            limit = max(SEND_HOLD_TIME, 2.0 * hold_time)
        interval = keepalive_interval(hold_time, config.keepalive_time)
        self._timers.negotiated(now, hold_time, interval, limit)
        self._framer.max_length = config.capabilities.max_length  # whatever the peer offers (RFC 8654 4)
        self._events.append(Opened(opened))
        self._keepalive(now)

    def _establish(self, now: float) -> None:
        negotiated, opened = self.negotiated, self.peer_open
        assert negotiated is not None
        assert opened is not None
        internal = negotiated.internal
        self._decoder = self._new_decoder(negotiated, internal)
        self._timers.received(now)
        self.established_since = now
        self._events.append(Established(negotiated, opened, negotiated.peer_asn, internal))

    def _keepalive(self, now: float) -> None:
        self._out.append(KEEPALIVE)
        self.counters.sent.keepalives += 1
        self._timers.schedule_keepalive(now)

    def _send(self, message: Message) -> None:
        self._out.append(encode(message))

    def _close(
        self,
        before: State,
        reason: str,
        notification: Notification | None,
        received: Notification | None,
        action: Action,
    ) -> None:
        self.closed = True
        self._decoder = None
        self._framer = Framer()
        self._timers.stop()
        if notification is not None:
            negotiated = self.negotiated
            notification = notification.cut(
                STANDARD_MAX_LENGTH if negotiated is None else negotiated.max_length
            )
        established = before is State.ESTABLISHED
        retain: frozenset[Family] = frozenset()
        if established:
            retain = retained_families(self.config.capabilities, self.negotiated, received or notification)
        # Told first: whatever becomes of the last words, the owner knows that it is over.
        self._events.append(Closed(reason, notification, received, established, retain, action in COUNTING))
        if notification is not None:
            self._send(notification)
            self.counters.sent.notifications += 1
