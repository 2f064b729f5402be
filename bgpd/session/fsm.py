"""The finite state machine of RFC 4271 section 8, as a table.

`TABLE[state, input]` is `(action, next state)` for every state and every input: the full product, so that
nothing a peer or a clock can do is left to chance. The table decides *what* happens; `Session` (one TCP
connection, from its establishment to its end) and `Peer` (the attempts around it) carry the actions out.

Inputs bear the names of RFC 4271 section 8.1, with RFC 9687's SendHoldTimer_Expires and two of our own for
ROUTE-REFRESH (RFC 2918, RFC 7313). Used of the optional ones: PassiveTcpEstablishment, DampPeerOscillations
with IdleHoldTimer, AutomaticStart and AutomaticStop, OpenCollisionDump in every state.

Left out, on purpose:

* DelayOpen (events 12 and 20): OPEN is always sent at once, so the states Connect and Active have no branch
  for a running DelayOpenTimer.
* TcpConnection_Valid and Tcp_CR_Invalid (14 and 15): who may connect is decided where connections are
  accepted, before a state machine exists.

Where the table departs from the letter of RFC 4271, and why:

* NotifMsg in OpenSent closes the connection without an answer. The RFC's "any other event" clause would send
  an FSM error to a peer that has just said why it closes.
* BGPOpen on a connection in OpenConfirm or Established is an unexpected message, RFC 6608 subcodes 2 and 3.
  The RFC's collision branches for that event speak of *another* connection of the same peer; here every
  connection has a machine of its own and the loser is told by OpenCollisionDump.
* BGPHeaderErr in Established is answered with the header's own error, as section 6.1 demands, and not with
  the FSM error of section 8.2.2.
"""

from collections.abc import Iterator, Mapping
from enum import Enum, auto
from types import MappingProxyType


class State(Enum):
    """The six states of RFC 4271 section 8.2.2, in order of progress."""

    IDLE = 0
    CONNECT = 1
    ACTIVE = 2
    OPENSENT = 3
    OPENCONFIRM = 4
    ESTABLISHED = 5


class Input(Enum):
    """What a state machine is told. The value is the RFC's own name of the event."""

    # 8.1.2, administrative
    MANUAL_START = "ManualStart"
    MANUAL_STOP = "ManualStop"
    AUTOMATIC_START = "AutomaticStart"
    MANUAL_START_PASSIVE = "ManualStart_with_PassiveTcpEstablishment"
    AUTOMATIC_START_PASSIVE = "AutomaticStart_with_PassiveTcpEstablishment"
    AUTOMATIC_START_DAMPED = "AutomaticStart_with_DampPeerOscillations"
    AUTOMATIC_START_DAMPED_PASSIVE = "AutomaticStart_with_DampPeerOscillations_and_PassiveTcpEstablishment"
    AUTOMATIC_STOP = "AutomaticStop"
    # 8.1.3, timers
    CONNECT_RETRY_TIMER_EXPIRES = "ConnectRetryTimer_Expires"
    HOLD_TIMER_EXPIRES = "HoldTimer_Expires"
    KEEPALIVE_TIMER_EXPIRES = "KeepaliveTimer_Expires"
    IDLE_HOLD_TIMER_EXPIRES = "IdleHoldTimer_Expires"
    SEND_HOLD_TIMER_EXPIRES = "SendHoldTimer_Expires"
    # 8.1.4, the TCP connection
    TCP_CR_ACKED = "Tcp_CR_Acked"
    TCP_CONNECTION_CONFIRMED = "TcpConnectionConfirmed"
    TCP_CONNECTION_FAILS = "TcpConnectionFails"
    # 8.1.5, messages
    BGP_OPEN = "BGPOpen"
    BGP_HEADER_ERR = "BGPHeaderErr"
    BGP_OPEN_MSG_ERR = "BGPOpenMsgErr"
    OPEN_COLLISION_DUMP = "OpenCollisionDump"
    NOTIF_MSG_VER_ERR = "NotifMsgVerErr"
    NOTIF_MSG = "NotifMsg"
    KEEPALIVE_MSG = "KeepAliveMsg"
    UPDATE_MSG = "UpdateMsg"
    UPDATE_MSG_ERR = "UpdateMsgErr"
    ROUTE_REFRESH_MSG = "RouteRefreshMsg"
    ROUTE_REFRESH_MSG_ERR = "RouteRefreshMsgErr"


class Action(Enum):
    """What to do on a transition. "Counts" means: ConnectRetryCounter + 1, which is what idle hold grows
    by."""

    IGNORE = auto()
    # before a connection: carried out by Peer
    START = auto()  # counter = 0 when started by hand; ConnectRetryTimer runs, connect, listen
    LISTEN = auto()  # the same without connecting
    HOLD_IDLE = auto()  # IdleHoldTimer runs
    RESTART = auto()  # idle hold is over: start again
    CONNECT_AGAIN = auto()  # drop the attempt under way, if any; ConnectRetryTimer runs, connect, listen
    # with a connection: carried out by Session
    SEND_OPEN = auto()  # HoldTimer at its large value
    CONFIRM = auto()  # the OPEN is good: KEEPALIVE, negotiated timers run
    ESTABLISH = auto()
    SEND_KEEPALIVE = auto()
    REFRESH_HOLD = auto()  # HoldTimer restarts
    DELIVER_UPDATE = auto()  # HoldTimer restarts, the UPDATE goes to the owner
    DELIVER_REFRESH = auto()
    TRACK = auto()  # a second connection: gets a machine of its own
    # ends
    LISTEN_AGAIN = auto()  # drop TCP; ConnectRetryTimer runs
    RELEASE = auto()  # drop TCP
    RELEASE_CLEAR = auto()  # drop TCP, counter = 0
    RELEASE_COUNT = auto()  # drop TCP, counts
    CEASE_CLEAR = auto()  # NOTIFICATION Cease, drop TCP, counter = 0
    CEASE_COUNT = auto()  # NOTIFICATION Cease, drop TCP, counts
    NOTIFY_COUNT = auto()  # NOTIFICATION of the error found, drop TCP, counts
    FSM_ERROR_COUNT = auto()  # NOTIFICATION FSM error with the state's subcode (RFC 6608), drop TCP, counts


COUNTING = frozenset(
    {Action.RELEASE_COUNT, Action.CEASE_COUNT, Action.NOTIFY_COUNT, Action.FSM_ERROR_COUNT},
)
"""The actions that add one to ConnectRetryCounter."""

_Cell = tuple[Action, State]


def _cells(
    state: State, *rows: tuple[tuple[Input, ...], Action, State]
) -> Iterator[tuple[tuple[State, Input], _Cell]]:
    for inputs, action, following in rows:
        for item in inputs:
            yield (state, item), (action, following)


_STARTS = (
    Input.MANUAL_START,
    Input.AUTOMATIC_START,
    Input.MANUAL_START_PASSIVE,
    Input.AUTOMATIC_START_PASSIVE,
    Input.AUTOMATIC_START_DAMPED,
    Input.AUTOMATIC_START_DAMPED_PASSIVE,
)
_CONNECTED = (Input.TCP_CR_ACKED, Input.TCP_CONNECTION_CONFIRMED)
# Nothing of this can reach a machine without a connection in working order; should it, RFC 4271 lets go of
# everything and counts ("in response to any other event").
_OUT_OF_PLACE = (
    Input.AUTOMATIC_STOP,
    Input.HOLD_TIMER_EXPIRES,
    Input.KEEPALIVE_TIMER_EXPIRES,
    Input.IDLE_HOLD_TIMER_EXPIRES,
    Input.SEND_HOLD_TIMER_EXPIRES,
    Input.BGP_OPEN,
    Input.BGP_HEADER_ERR,
    Input.BGP_OPEN_MSG_ERR,
    Input.OPEN_COLLISION_DUMP,
    Input.NOTIF_MSG_VER_ERR,
    Input.NOTIF_MSG,
    Input.KEEPALIVE_MSG,
    Input.UPDATE_MSG,
    Input.UPDATE_MSG_ERR,
    Input.ROUTE_REFRESH_MSG,
    Input.ROUTE_REFRESH_MSG_ERR,
)
_STRAY_TIMERS = (Input.CONNECT_RETRY_TIMER_EXPIRES, Input.IDLE_HOLD_TIMER_EXPIRES)


def _rows() -> Iterator[tuple[tuple[State, Input], _Cell]]:
    idle, connect, active = State.IDLE, State.CONNECT, State.ACTIVE
    opensent, openconfirm, established = State.OPENSENT, State.OPENCONFIRM, State.ESTABLISHED

    yield from _cells(
        idle,
        ((Input.MANUAL_START, Input.AUTOMATIC_START), Action.START, connect),
        ((Input.MANUAL_START_PASSIVE, Input.AUTOMATIC_START_PASSIVE), Action.LISTEN, active),
        ((Input.AUTOMATIC_START_DAMPED, Input.AUTOMATIC_START_DAMPED_PASSIVE), Action.HOLD_IDLE, idle),
        ((Input.MANUAL_STOP, Input.AUTOMATIC_STOP), Action.IGNORE, idle),
        ((Input.IDLE_HOLD_TIMER_EXPIRES,), Action.RESTART, idle),
        ((Input.CONNECT_RETRY_TIMER_EXPIRES, *_CONNECTED, Input.TCP_CONNECTION_FAILS), Action.IGNORE, idle),
        ((Input.HOLD_TIMER_EXPIRES, Input.KEEPALIVE_TIMER_EXPIRES), Action.IGNORE, idle),
        ((Input.SEND_HOLD_TIMER_EXPIRES,), Action.IGNORE, idle),
        ((Input.BGP_OPEN, Input.BGP_HEADER_ERR, Input.BGP_OPEN_MSG_ERR), Action.IGNORE, idle),
        ((Input.OPEN_COLLISION_DUMP, Input.NOTIF_MSG_VER_ERR, Input.NOTIF_MSG), Action.IGNORE, idle),
        ((Input.KEEPALIVE_MSG, Input.UPDATE_MSG, Input.UPDATE_MSG_ERR), Action.IGNORE, idle),
        ((Input.ROUTE_REFRESH_MSG, Input.ROUTE_REFRESH_MSG_ERR), Action.IGNORE, idle),
    )
    yield from _cells(
        connect,
        (_STARTS, Action.IGNORE, connect),
        ((Input.MANUAL_STOP,), Action.RELEASE_CLEAR, idle),
        ((Input.CONNECT_RETRY_TIMER_EXPIRES,), Action.CONNECT_AGAIN, connect),
        (_CONNECTED, Action.SEND_OPEN, opensent),
        ((Input.TCP_CONNECTION_FAILS,), Action.RELEASE, idle),
        (_OUT_OF_PLACE, Action.RELEASE_COUNT, idle),
    )
    yield from _cells(
        active,
        (_STARTS, Action.IGNORE, active),
        ((Input.MANUAL_STOP,), Action.RELEASE_CLEAR, idle),
        ((Input.CONNECT_RETRY_TIMER_EXPIRES,), Action.CONNECT_AGAIN, connect),
        (_CONNECTED, Action.SEND_OPEN, opensent),
        ((Input.TCP_CONNECTION_FAILS,), Action.RELEASE_COUNT, idle),
        (_OUT_OF_PLACE, Action.RELEASE_COUNT, idle),
    )
    yield from _cells(
        opensent,
        (_STARTS, Action.IGNORE, opensent),
        ((Input.MANUAL_STOP,), Action.CEASE_CLEAR, idle),
        ((Input.AUTOMATIC_STOP, Input.OPEN_COLLISION_DUMP), Action.CEASE_COUNT, idle),
        ((Input.HOLD_TIMER_EXPIRES, Input.SEND_HOLD_TIMER_EXPIRES), Action.NOTIFY_COUNT, idle),
        (_CONNECTED, Action.TRACK, opensent),
        ((Input.TCP_CONNECTION_FAILS,), Action.LISTEN_AGAIN, active),
        ((Input.BGP_OPEN,), Action.CONFIRM, openconfirm),
        ((Input.BGP_HEADER_ERR, Input.BGP_OPEN_MSG_ERR), Action.NOTIFY_COUNT, idle),
        ((Input.NOTIF_MSG_VER_ERR,), Action.RELEASE, idle),
        ((Input.NOTIF_MSG,), Action.RELEASE_COUNT, idle),
        ((*_STRAY_TIMERS, Input.KEEPALIVE_TIMER_EXPIRES), Action.FSM_ERROR_COUNT, idle),
        ((Input.KEEPALIVE_MSG, Input.UPDATE_MSG, Input.UPDATE_MSG_ERR), Action.FSM_ERROR_COUNT, idle),
        ((Input.ROUTE_REFRESH_MSG, Input.ROUTE_REFRESH_MSG_ERR), Action.FSM_ERROR_COUNT, idle),
    )
    yield from _cells(
        openconfirm,
        (_STARTS, Action.IGNORE, openconfirm),
        ((Input.MANUAL_STOP,), Action.CEASE_CLEAR, idle),
        ((Input.AUTOMATIC_STOP, Input.OPEN_COLLISION_DUMP), Action.CEASE_COUNT, idle),
        ((Input.HOLD_TIMER_EXPIRES, Input.SEND_HOLD_TIMER_EXPIRES), Action.NOTIFY_COUNT, idle),
        ((Input.KEEPALIVE_TIMER_EXPIRES,), Action.SEND_KEEPALIVE, openconfirm),
        (_CONNECTED, Action.TRACK, openconfirm),
        ((Input.TCP_CONNECTION_FAILS, Input.NOTIF_MSG), Action.RELEASE_COUNT, idle),
        ((Input.NOTIF_MSG_VER_ERR,), Action.RELEASE, idle),
        ((Input.BGP_HEADER_ERR, Input.BGP_OPEN_MSG_ERR), Action.NOTIFY_COUNT, idle),
        ((Input.KEEPALIVE_MSG,), Action.ESTABLISH, established),
        ((*_STRAY_TIMERS, Input.BGP_OPEN), Action.FSM_ERROR_COUNT, idle),
        ((Input.UPDATE_MSG, Input.UPDATE_MSG_ERR), Action.FSM_ERROR_COUNT, idle),
        ((Input.ROUTE_REFRESH_MSG, Input.ROUTE_REFRESH_MSG_ERR), Action.FSM_ERROR_COUNT, idle),
    )
    yield from _cells(
        established,
        (_STARTS, Action.IGNORE, established),
        ((Input.MANUAL_STOP,), Action.CEASE_CLEAR, idle),
        ((Input.AUTOMATIC_STOP, Input.OPEN_COLLISION_DUMP), Action.CEASE_COUNT, idle),
        ((Input.HOLD_TIMER_EXPIRES, Input.SEND_HOLD_TIMER_EXPIRES), Action.NOTIFY_COUNT, idle),
        ((Input.KEEPALIVE_TIMER_EXPIRES,), Action.SEND_KEEPALIVE, established),
        (_CONNECTED, Action.TRACK, established),
        ((Input.TCP_CONNECTION_FAILS, Input.NOTIF_MSG), Action.RELEASE_COUNT, idle),
        ((Input.NOTIF_MSG_VER_ERR,), Action.RELEASE_COUNT, idle),
        ((Input.KEEPALIVE_MSG,), Action.REFRESH_HOLD, established),
        ((Input.UPDATE_MSG,), Action.DELIVER_UPDATE, established),
        ((Input.ROUTE_REFRESH_MSG,), Action.DELIVER_REFRESH, established),
        ((Input.BGP_HEADER_ERR, Input.UPDATE_MSG_ERR), Action.NOTIFY_COUNT, idle),
        ((Input.ROUTE_REFRESH_MSG_ERR,), Action.NOTIFY_COUNT, idle),
        ((*_STRAY_TIMERS, Input.BGP_OPEN, Input.BGP_OPEN_MSG_ERR), Action.FSM_ERROR_COUNT, idle),
    )


TABLE: Mapping[tuple[State, Input], tuple[Action, State]] = MappingProxyType(dict(_rows()))
"""`(state, input) -> (action, next state)`, complete over `State` x `Input`."""
