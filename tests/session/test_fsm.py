"""Every cell of state x input, against an expectation written from the RFCs and not from the table."""

import pytest

from bgpd.session.fsm import COUNTING, TABLE, Action, Input, State

# One line per input (its name in the RFC), one column per state: what RFC 4271 section 8.2.2 says happens.
#   .            ignored, state kept                     N   NOTIFICATION of the error, counts, Idle
#   S C A        start and connect / listen, new state   F   NOTIFICATION FSM error (RFC 6608), counts, Idle
#   H R          idle hold begins / is over              K k NOTIFICATION Cease, counting / cleared, Idle
#   X            connect (again)                         D d drop silently, counter counting / cleared, Idle
#   O            OPEN sent, OpenSent                     r   drop silently, counter as it is, Idle
#   P            KEEPALIVE sent, OpenConfirm             L   drop, listen again, Active
#   E            Established                             T   second connection, tracked, state kept
#   k+           KEEPALIVE sent                          h   hold timer restarts
#   u            UPDATE delivered                        f   ROUTE-REFRESH delivered
EXPECTED = """
                                                                     Idle Conn Act  OpSt OpCf Estb
ManualStart                                                          S    .    .    .    .    .
ManualStop                                                           .    d    d    k    k    k
AutomaticStart                                                       S    .    .    .    .    .
ManualStart_with_PassiveTcpEstablishment                             A    .    .    .    .    .
AutomaticStart_with_PassiveTcpEstablishment                          A    .    .    .    .    .
AutomaticStart_with_DampPeerOscillations                             H    .    .    .    .    .
AutomaticStart_with_DampPeerOscillations_and_PassiveTcpEstablishment H    .    .    .    .    .
AutomaticStop                                                        .    D    D    K    K    K
ConnectRetryTimer_Expires                                            .    X    X    F    F    F
HoldTimer_Expires                                                    .    D    D    N    N    N
KeepaliveTimer_Expires                                               .    D    D    F    k+   k+
IdleHoldTimer_Expires                                                R    D    D    F    F    F
SendHoldTimer_Expires                                                .    D    D    N    N    N
Tcp_CR_Acked                                                         .    O    O    T    T    T
TcpConnectionConfirmed                                               .    O    O    T    T    T
TcpConnectionFails                                                   .    r    D    L    D    D
BGPOpen                                                              .    D    D    P    F    F
BGPHeaderErr                                                         .    D    D    N    N    N
BGPOpenMsgErr                                                        .    D    D    N    N    F
OpenCollisionDump                                                    .    D    D    K    K    K
NotifMsgVerErr                                                       .    D    D    r    r    D
NotifMsg                                                             .    D    D    D    D    D
KeepAliveMsg                                                         .    D    D    F    E    h
UpdateMsg                                                            .    D    D    F    F    u
UpdateMsgErr                                                         .    D    D    F    F    N
RouteRefreshMsg                                                      .    D    D    F    F    f
RouteRefreshMsgErr                                                   .    D    D    F    F    N
"""
KEPT = None
MEANING: dict[str, tuple[Action, State | None]] = {
    ".": (Action.IGNORE, KEPT),
    "S": (Action.START, State.CONNECT),
    "A": (Action.LISTEN, State.ACTIVE),
    "H": (Action.HOLD_IDLE, State.IDLE),
    "R": (Action.RESTART, State.IDLE),
    "X": (Action.CONNECT_AGAIN, State.CONNECT),
    "O": (Action.SEND_OPEN, State.OPENSENT),
    "P": (Action.CONFIRM, State.OPENCONFIRM),
    "E": (Action.ESTABLISH, State.ESTABLISHED),
    "k+": (Action.SEND_KEEPALIVE, KEPT),
    "h": (Action.REFRESH_HOLD, State.ESTABLISHED),
    "u": (Action.DELIVER_UPDATE, State.ESTABLISHED),
    "f": (Action.DELIVER_REFRESH, State.ESTABLISHED),
    "T": (Action.TRACK, KEPT),
    "L": (Action.LISTEN_AGAIN, State.ACTIVE),
    "r": (Action.RELEASE, State.IDLE),
    "d": (Action.RELEASE_CLEAR, State.IDLE),
    "D": (Action.RELEASE_COUNT, State.IDLE),
    "k": (Action.CEASE_CLEAR, State.IDLE),
    "K": (Action.CEASE_COUNT, State.IDLE),
    "N": (Action.NOTIFY_COUNT, State.IDLE),
    "F": (Action.FSM_ERROR_COUNT, State.IDLE),
}
STATES = [State.IDLE, State.CONNECT, State.ACTIVE, State.OPENSENT, State.OPENCONFIRM, State.ESTABLISHED]
CELLS = [
    (state, Input(name), symbol)
    for name, *symbols in (line.split() for line in EXPECTED.strip().splitlines()[1:])
    for state, symbol in zip(STATES, symbols, strict=True)
]


@pytest.mark.parametrize(("state", "item", "symbol"), CELLS, ids=lambda value: getattr(value, "name", value))
def test_every_cell_is_what_the_rfc_says(state: State, item: Input, symbol: str) -> None:
    action, following = MEANING[symbol]
    assert TABLE[state, item] == (action, state if following is None else following)


def test_the_expectation_and_the_table_cover_the_whole_product() -> None:
    product = {(state, item) for state in State for item in Input}
    assert {(state, item) for state, item, _ in CELLS} == product
    assert set(TABLE) == product


def test_rfc4271_8_2_2_idle_refuses_and_changes_nothing_but_on_a_start() -> None:
    leaving = {item for item in Input if TABLE[State.IDLE, item][1] is not State.IDLE}
    assert leaving == {
        Input.MANUAL_START,
        Input.AUTOMATIC_START,
        Input.MANUAL_START_PASSIVE,
        Input.AUTOMATIC_START_PASSIVE,
    }


def test_rfc4271_8_2_2_established_is_entered_by_a_keepalive_in_openconfirm_only() -> None:
    entering = {
        cell
        for cell, (_, following) in TABLE.items()
        if following is State.ESTABLISHED and cell[0] is not following
    }
    assert entering == {(State.OPENCONFIRM, Input.KEEPALIVE_MSG)}


def test_every_counting_end_goes_to_idle() -> None:
    assert all(following is State.IDLE for action, following in TABLE.values() if action in COUNTING)
