"""A session under arbitrary input: no exception, no hang, no growth; no split of the stream matters."""

from hypothesis import given, settings
from hypothesis import strategies as st

from bgpd.session.events import Closed, Event, UpdatesReceived
from bgpd.session.fsm import State
from bgpd.session.session import Session
from bgpd.wire.iana import CeaseSubcode, MessageType
from bgpd.wire.malformed import Malformed
from bgpd.wire.messages import KEEPALIVE, MARKER, Notification, encode, message
from bgpd.wire.nlri import IPV4_UNICAST
from tests.session.speakers import (
    LOCAL_ASN,
    NOW,
    announcement,
    config,
    established,
    graceful,
    offer,
    openconfirm,
    opensent,
    peer_open,
    refresh,
    sent,
)

OFFER = offer(LOCAL_ASN, extended_message=True, graceful_restart=graceful(notification=True))
GOOD = [
    KEEPALIVE,
    announcement(1),
    announcement(2),
    message(MessageType.UPDATE, bytes(4)),
    refresh(),
    refresh(subtype=1),
    refresh(subtype=2),
    peer_open(),
    peer_open(capabilities=OFFER),
    encode(Notification.cease(CeaseSubcode.ADMINISTRATIVE_RESET, "bye")),
]


@st.composite
def bent(draw: st.DrawFn) -> bytes:
    """A good message with some octets behind the marker replaced, cut out or put in."""
    data = bytearray(draw(st.sampled_from(GOOD)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(16, max(16, len(data) - 1)))
        match draw(st.integers(0, 2)):
            case 0 if at < len(data):
                data[at] = draw(st.integers(0, 255))
            case 1:
                del data[at : at + draw(st.integers(1, 8))]
            case _:
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
    if draw(st.booleans()) and len(data) >= 19:  # an honest length, so that what is inside gets read
        data[16:18] = len(data).to_bytes(2, "big")
    return bytes(data)


framed = st.builds(
    lambda kind, body: MARKER + (19 + len(body)).to_bytes(2, "big") + bytes((kind,)) + body,
    st.integers(0, 6),
    st.binary(max_size=80),
)
streams = st.lists(st.one_of(st.sampled_from(GOOD), bent(), framed, st.binary(max_size=40)), max_size=12).map(
    b"".join
)
starts = st.sampled_from([opensent, openconfirm, established])


def start(make: object) -> Session:
    ours = config(OFFER)
    if make is opensent:
        return opensent(ours)
    return (openconfirm if make is openconfirm else established)(ours, peer_open(capabilities=OFFER))


def told(events: list[Event]) -> list[object]:
    """Events with the batches of UPDATEs taken apart, so that streams cut differently compare equal."""
    found: list[object] = []
    malformed: list[object] = []  # follow a whole batch
    for event in events:
        if isinstance(event, UpdatesReceived):
            assert event.updates
            for reach, unreach, end_of_rib, errors in event.updates:
                come = [(family, a.raw, a.next_hop, list(nlri)) for family, a, nlri, _raw in reach]
                if come or end_of_rib or errors or not unreach:
                    gone = [(family, list(nlri)) for family, nlri in unreach]
                    found.append((come, gone, end_of_rib, list(errors)))
                else:  # those in a row may be one
                    found += [(family, item) for family, nlri in unreach for item in nlri]
        else:
            (malformed if isinstance(event, Malformed) else found).append(event)
    return found + malformed


def check(session: Session, events: list[Event]) -> None:
    """What must hold of a session at any time, and of all that it has told so far."""
    ends = [event for event in events if isinstance(event, Closed)]
    assert len(ends) == session.closed
    if session.closed:
        assert events[-1] is ends[0]
        assert session.next_timer() is None
        assert session.state in (State.IDLE, State.ACTIVE)
        assert ends[0].reason.isprintable()
    assert session._framer.pending < 65535


@settings(max_examples=200, deadline=None)
@given(make=starts, stream=streams, data=st.data())
def test_the_split_of_the_stream_never_matters(make: object, stream: bytes, data: st.DataObject) -> None:
    whole, pieces = start(make), start(make)
    whole.receive_data(stream, NOW)
    at = 0
    while at < len(stream):
        size = data.draw(st.integers(1, 60))
        pieces.receive_data(stream[at : at + size], NOW)
        at += size
    events, others = whole.events(), pieces.events()
    check(whole, events)
    check(pieces, others)
    assert told(events) == told(others)
    assert whole.data_to_send() == pieces.data_to_send()
    assert whole.state is pieces.state
    assert whole.counters.received == pieces.counters.received


@settings(max_examples=200, deadline=None)
@given(make=starts, data=st.data())
def test_anything_in_any_order_raises_nothing(make: object, data: st.DataObject) -> None:
    session = start(make)
    now = NOW
    events: list[Event] = []
    for _ in range(data.draw(st.integers(1, 30))):
        match data.draw(st.integers(0, 9)):
            case 0:
                due = session.next_timer()
                now = max(now, due) if due is not None and data.draw(st.booleans()) else now + 1
                session.handle_timer(now)
            case 1 if data.draw(st.integers(0, 9)) == 0:
                session.connection_lost(now)
            case 2 if data.draw(st.integers(0, 9)) == 0:
                session.shut_down(
                    data.draw(st.sampled_from(CeaseSubcode)), data.draw(st.text(max_size=300)), now
                )
            case 3:
                session.send_route_refresh(IPV4_UNICAST, data.draw(st.integers(0, 2)))
            case 4:
                session.sent(now, 1)
            case _:
                session.receive_data(data.draw(st.one_of(st.sampled_from(GOOD), streams)), now)
        events += session.events()
        check(session, events)
        sent(session.data_to_send())


@settings(max_examples=150, deadline=None)
@given(body=st.binary(max_size=300))
def test_any_open_is_accepted_or_answered(body: bytes) -> None:
    session = opensent()
    session.receive_data(message(MessageType.OPEN, b"\4" + body), NOW)
    assert session.closed == (session.state is not State.OPENCONFIRM)
    assert len(sent(session.data_to_send())) == 1


def test_a_long_stream_leaves_nothing_behind() -> None:
    session = established()
    piece = announcement(1) * 50 + KEEPALIVE + refresh() + announcement(2)[:30]
    rest = announcement(2)[30:]
    for _ in range(200):
        session.receive_data(piece, NOW)
        session.receive_data(rest, NOW)
        session.events()
    assert session._framer.pending == 0
    assert session.events() == []
    assert session.data_to_send() == b""
    assert session.counters.received.updates == 200 * 51
