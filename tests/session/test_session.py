"""One connection from OPEN to its end: messages in and out, errors, refresh, what the owner can do."""

from collections.abc import Callable

import pytest

from bgpd.session.counters import SessionCounters
from bgpd.session.decoders import Decoders
from bgpd.session.events import Closed, Established, RefreshRequested, UpdatesReceived
from bgpd.session.fsm import State
from bgpd.session.session import Session
from bgpd.wire.attributes import AttributeSet
from bgpd.wire.errors import ProtocolError
from bgpd.wire.iana import CeaseSubcode, MessageType
from bgpd.wire.malformed import Malformed
from bgpd.wire.messages import KEEPALIVE, MARKER, Keepalive, Notification, RouteRefresh, encode, message
from bgpd.wire.nlri import IPV4_UNICAST, IPV6_UNICAST, Family
from bgpd.wire.update import Told, encode_withdrawals

from .speakers import (
    BROKEN_UPDATE,
    LOCAL_ASN,
    NOW,
    announcement,
    closing,
    complaint,
    config,
    established,
    graceful,
    kinds,
    offer,
    openconfirm,
    opensent,
    peer_open,
    refresh,
    sent,
)

IN_STATE: dict[State, Callable[..., Session]] = {
    State.OPENSENT: opensent,
    State.OPENCONFIRM: openconfirm,
    State.ESTABLISHED: established,
}
SUBCODE = {State.OPENSENT: 1, State.OPENCONFIRM: 2, State.ESTABLISHED: 3}


def announced(update: Told) -> dict[bytes, AttributeSet]:
    """What an UPDATE makes reachable."""
    return {item: attributes for _family, attributes, nlri, _raw in update[0] for item in nlri}


def test_rfc4271_8_2_2_keepalive_in_openconfirm_establishes() -> None:
    session = openconfirm()
    session.receive_data(KEEPALIVE, NOW + 1)
    assert session.state is State.ESTABLISHED
    assert session.established_since == NOW + 1
    (event,) = session.events()
    assert isinstance(event, Established)
    assert event.asn == LOCAL_ASN
    assert event.internal


def test_an_external_session_says_so() -> None:
    session = openconfirm(theirs=peer_open(65001))
    session.receive_data(KEEPALIVE, NOW)
    (event,) = session.events()
    assert isinstance(event, Established)
    assert (event.asn, event.internal) == (65001, False)


def test_everything_in_one_piece_comes_out_in_order() -> None:
    session = opensent()
    session.receive_data(
        peer_open()
        + KEEPALIVE
        + announcement(1)
        + announcement(2)
        + KEEPALIVE
        + refresh()
        + announcement(3)
        + BROKEN_UPDATE,
        NOW,
    )
    events = session.events()
    assert kinds(events) == [
        "Opened",
        "Established",
        "UpdatesReceived",
        "RefreshRequested",
        "UpdatesReceived",
        "Closed",
    ]
    first, second = (event for event in events if isinstance(event, UpdatesReceived))
    assert [list(announced(update)) for update in first.updates] == [
        [b"\x18\x0a\x09\x01"],
        [b"\x18\x0a\x09\x02"],
    ]
    assert [list(announced(update)) for update in second.updates] == [[b"\x18\x0a\x09\x03"]]


def test_withdrawals_in_a_row_are_one_and_each_is_counted() -> None:
    """What lies between two of them keeps them apart, unless it says nothing of routes."""
    session = established()
    one, two, three, four = ([bytes((24, 10, 9, n))] for n in range(4))
    unreachable = [encode_withdrawals(IPV4_UNICAST, nlri)[0] for nlri in (one, two, three, four)]
    session.receive_data(
        unreachable[0] + KEEPALIVE + unreachable[1] + announcement(1) + unreachable[2] + refresh(), NOW
    )
    session.receive_data(unreachable[3], NOW)
    batches = [event.updates for event in session.events() if isinstance(event, UpdatesReceived)]
    assert [[(list(announced(update)), list(update[1])) for update in batch] for batch in batches] == [
        [([], [(IPV4_UNICAST, one + two)]), (two, []), ([], [(IPV4_UNICAST, three)])],
        [([], [(IPV4_UNICAST, four)])],
    ]
    assert session.counters.received.updates == 5


@pytest.mark.parametrize("step", [1, 2, 3, 18, 19, 20, 37])
def test_any_split_of_the_stream_gives_the_same(step: int) -> None:
    stream = peer_open() + KEEPALIVE + b"".join(announcement(n) for n in range(9)) + refresh() + KEEPALIVE
    session = opensent()
    for start in range(0, len(stream), step):
        session.receive_data(stream[start : start + step], NOW)
    events = session.events()
    prefixes = [
        nlri
        for event in events
        if isinstance(event, UpdatesReceived)
        for update in event.updates
        for nlri in announced(update)
    ]
    assert prefixes == [bytes((24, 10, 9, n)) for n in range(9)]
    assert kinds(events)[-1] == "RefreshRequested"
    received = session.counters.received
    assert (received.opens, received.keepalives, received.updates, received.route_refreshes) == (1, 2, 9, 1)
    assert received.total == 13
    assert session.counters.octets_received == len(stream)


def test_sessions_of_one_kind_share_attributes() -> None:
    decoders = Decoders()
    found: list[AttributeSet] = []
    for _ in range(2):
        session = established(decoder=decoders)
        session.receive_data(announcement(1), NOW)
        (event,) = session.events()
        assert isinstance(event, UpdatesReceived)
        found += announced(event.updates[0]).values()
    assert found[0] is found[1]


@pytest.mark.parametrize("state", [State.OPENSENT, State.OPENCONFIRM, State.ESTABLISHED])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\xfe" + MARKER[1:] + b"\0\x13\4", (1, 1)),
        (MARKER + b"\0\x12\4", (1, 2)),
        (MARKER + b"\xff\xff\2", (1, 2)),
        (MARKER + b"\x10\x01\2", (1, 2)),
        (MARKER + b"\0\x14\4\0", (1, 2)),
        (MARKER + b"\0\x14\3\6", (1, 2)),
        (MARKER + b"\0\x13\0", (1, 3)),
        (MARKER + b"\0\x13\x09", (1, 3)),
    ],
    ids=[
        "marker",
        "length 18",
        "length 65535",
        "length 4097",
        "KEEPALIVE 20",
        "NOTIFICATION 20",
        "type 0",
        "type 9",
    ],
)
def test_rfc4271_6_1_header_errors_must_be_answered_1_x(
    state: State, data: bytes, expected: tuple[int, int]
) -> None:
    session = IN_STATE[state]()
    session.receive_data(data, NOW)
    assert complaint(session) == expected


def test_rfc4271_6_1_a_bad_length_is_returned_as_data() -> None:
    session = established()
    session.receive_data(MARKER + b"\0\x14\4\0", NOW)
    assert closing(session).sent == Notification(1, 2, b"\0\x14")


def test_rfc4271_6_1_a_bad_type_is_returned_as_data() -> None:
    session = established()
    session.receive_data(MARKER + b"\0\x13\x2a", NOW)
    assert closing(session).sent == Notification(1, 3, b"\x2a")


def test_rfc4271_6_3_an_update_beyond_repair_is_answered_3_x_after_those_before_it() -> None:
    session = established()
    session.receive_data(announcement(1) + BROKEN_UPDATE + announcement(2), NOW)
    received, closed = session.events()
    assert isinstance(received, UpdatesReceived)
    assert len(received.updates) == 1
    assert isinstance(closed, Closed)
    assert closed.sent is not None
    assert (closed.sent.code, closed.sent.subcode) == (3, 1)
    assert session.counters.received.updates == 2


def test_rfc7606_2_a_malformed_attribute_ends_nothing() -> None:
    attributes = bytes.fromhex("400101074002004003040a00000240050400000064")  # ORIGIN 7
    body = b"\0\0" + len(attributes).to_bytes(2, "big") + attributes + b"\x18\x0a\x09\x01"
    session = established()
    session.receive_data(message(MessageType.UPDATE, body), NOW)
    event, _ = session.events()
    assert isinstance(event, UpdatesReceived)
    _reach, unreach, _end_of_rib, _errors = event.updates[0]
    assert list(unreach) == [(IPV4_UNICAST, [b"\x18\x0a\x09\x01"])]
    assert session.state is State.ESTABLISHED
    assert session.counters.attribute_faults == 1


def test_rfc7606_8_the_log_is_given_the_nlri_and_the_whole_message_once_in_a_minute() -> None:
    attributes = bytes.fromhex("400101074002004003040a00000240050400000064")  # ORIGIN 7
    body = b"\0\0" + len(attributes).to_bytes(2, "big") + attributes + b"\x18\x0a\x09\x01\x10\x0a\x08"
    session = established()
    told = []
    for at in (NOW, NOW, NOW + 59.0, NOW + 60.0):
        session.receive_data(message(MessageType.UPDATE, body), at)
        told.append([event for event in session.events() if isinstance(event, Malformed)])
    assert [len(found) for found in told] == [1, 0, 0, 1]
    assert told[0][0].facts == {
        "reason": "ORIGIN: the value 7 (treated as withdrawn)",
        "prefixes": ["10.9.1.0/24", "10.8.0.0/16"],
        "message": message(MessageType.UPDATE, body).hex(),
    }
    assert session.counters.attribute_faults == 4


@pytest.mark.parametrize(
    ("state", "data"),
    [
        (State.OPENSENT, KEEPALIVE),
        (State.OPENSENT, announcement()),
        (State.OPENSENT, BROKEN_UPDATE),
        (State.OPENSENT, refresh()),
        (State.OPENSENT, refresh(subtype=1, more=b"x")),
        (State.OPENCONFIRM, peer_open()),
        (State.OPENCONFIRM, announcement()),
        (State.OPENCONFIRM, refresh()),
        (State.ESTABLISHED, peer_open()),
        (State.ESTABLISHED, peer_open()[:-4] + b"\1\2\3\4"),
        (State.ESTABLISHED, message(MessageType.OPEN, b"\3\0\1\0\x5a\1\2\3\4\0")),
    ],
)
def test_rfc6608_4_unexpected_messages_are_answered_5_x_with_their_type(state: State, data: bytes) -> None:
    session = IN_STATE[state]()
    session.receive_data(data, NOW)
    assert closing(session).sent == Notification(5, SUBCODE[state], data[18:19])


@pytest.mark.parametrize("state", [State.OPENSENT, State.OPENCONFIRM, State.ESTABLISHED])
def test_rfc4271_6_4_a_notification_closes_and_is_never_answered(state: State) -> None:
    session = IN_STATE[state]()
    session.receive_data(
        encode(Notification.cease(CeaseSubcode.ADMINISTRATIVE_RESET, "maintenance")) + KEEPALIVE, NOW
    )
    assert session.data_to_send() == b""
    closed = closing(session)
    assert closed.sent is None
    assert closed.received is not None
    assert closed.received.communication == "maintenance"
    assert closed.reason == "the peer ended it: NOTIFICATION 6/4, administrative reset (maintenance)"
    assert closed.established == (state is State.ESTABLISHED)


def test_rfc4271_8_2_2_a_version_error_does_not_count() -> None:
    session = opensent()
    session.receive_data(encode(Notification(2, 1, b"\0\4")), NOW)
    assert not closing(session).counts


@pytest.mark.parametrize(
    ("data", "shown"),
    [(b"\x81AB", "0x814142"), (b"\4\xff\xfe\x80\xc0", "0x04fffe80c0"), (b"\4a\nb\0", "a\\nb\\x00")],
)
def test_rfc9003_3_a_broken_shutdown_communication_is_shown_safely(data: bytes, shown: str) -> None:
    session = established()
    session.receive_data(message(MessageType.NOTIFICATION, b"\6\2" + data), NOW)
    reason = closing(session).reason
    assert shown in reason
    assert reason.isprintable()


@pytest.mark.parametrize("state", [State.OPENSENT, State.OPENCONFIRM, State.ESTABLISHED])
@pytest.mark.parametrize(
    ("subcode", "counts"),
    [(CeaseSubcode.ADMINISTRATIVE_SHUTDOWN, False), (CeaseSubcode.ADMINISTRATIVE_RESET, True)],
)
def test_rfc9003_2_we_end_a_session_with_a_communication(
    state: State, subcode: CeaseSubcode, counts: bool
) -> None:
    session = IN_STATE[state]()
    session.shut_down(subcode, "moving house", NOW)
    closed = closing(session)
    assert closed.sent is not None
    assert (closed.sent.code, closed.sent.subcode) == (6, subcode)
    assert closed.sent.communication == "moving house"
    assert closed.counts == counts
    assert sent(session.data_to_send()) == [closed.sent]


def test_rfc9003_2_a_long_communication_is_cut_between_characters() -> None:
    session = established()
    session.shut_down(CeaseSubcode.ADMINISTRATIVE_SHUTDOWN, "é" * 200, NOW)
    notification = closing(session).sent
    assert notification is not None
    assert notification.data == bytes((254,)) + ("é" * 127).encode()


def test_rfc4486_4_other_ceases_carry_no_text() -> None:
    session = established()
    session.shut_down(CeaseSubcode.OTHER_CONFIGURATION_CHANGE, "not for the peer", NOW)
    assert closing(session).sent == Notification(6, 6)


def test_rfc8538_3_1_a_lasting_end_is_a_hard_reset_where_notifications_are_graceful() -> None:
    restart = offer(LOCAL_ASN, graceful_restart=graceful(notification=True))
    session = established(config(restart), peer_open(capabilities=restart))
    session.shut_down(CeaseSubcode.ADMINISTRATIVE_SHUTDOWN, "bye", NOW)
    closed = closing(session)
    assert closed.sent == Notification(6, 9, b"\6\2\3bye")
    assert closed.sent.communication == "bye"
    assert closed.retain == frozenset()


def test_the_owners_complaint_becomes_a_notification() -> None:
    session = established()
    session.fail(ProtocolError(3, 10, "a prefix of our own", b"x"), NOW)
    assert closing(session).sent == Notification(3, 10, b"x")


def test_after_the_end_nothing_more_happens() -> None:
    session = established()
    session.receive_data(encode(Notification(6, 2)), NOW)
    closing(session)
    session.receive_data(KEEPALIVE + announcement(), NOW)
    session.connection_lost(NOW)
    session.shut_down(CeaseSubcode.ADMINISTRATIVE_SHUTDOWN, "", NOW)
    session.fail(ProtocolError(3, 1, "late"), NOW)
    session.sent(NOW)
    session.handle_timer(NOW + 1e9)
    assert session.next_timer() is None
    assert session.events() == []
    assert session.data_to_send() == b""
    assert not session.send_route_refresh(IPV4_UNICAST)


def test_before_the_connection_data_means_nothing_and_an_end_says_nothing() -> None:
    session = Session(config(), NOW, initiated=True)
    session.receive_data(KEEPALIVE, NOW)
    assert session.events() == []
    session.shut_down(CeaseSubcode.ADMINISTRATIVE_SHUTDOWN, "", NOW)
    assert session.data_to_send() == b""
    assert closing(session).sent is None


@pytest.mark.parametrize(
    ("make", "state", "counts"),
    [(opensent, State.ACTIVE, False), (openconfirm, State.IDLE, True), (established, State.IDLE, True)],
)
def test_rfc4271_8_2_2_a_lost_connection(make: Callable[..., Session], state: State, counts: bool) -> None:
    session = make()
    session.connection_lost(NOW, "reset by peer")
    closed = closing(session)
    assert session.state is state
    assert (closed.reason, closed.sent, closed.received, closed.counts) == (
        "reset by peer",
        None,
        None,
        counts,
    )


def test_rfc2918_4_a_refresh_is_handed_over_for_negotiated_families_only() -> None:
    session = established()
    session.receive_data(refresh(IPV6_UNICAST) + refresh(Family(99, 99)) + refresh(Family(1, 128)), NOW)
    assert session.events() == [RefreshRequested(IPV6_UNICAST, 0)]


def test_rfc2918_4_a_refresh_must_not_be_sent_without_the_capability() -> None:
    session = established(theirs=peer_open(capabilities=offer(LOCAL_ASN, route_refresh=False)))
    assert not session.send_route_refresh(IPV4_UNICAST)
    assert session.data_to_send() == b""


def test_rfc2918_4_a_refresh_is_sent_for_negotiated_families_only() -> None:
    session = established()
    assert session.send_route_refresh(IPV6_UNICAST)
    assert not session.send_route_refresh(Family(25, 70))
    assert sent(session.data_to_send()) == [RouteRefresh(IPV6_UNICAST, 0)]
    assert not opensent().send_route_refresh(IPV4_UNICAST)


@pytest.mark.parametrize("octets", [4096, 65535])
def test_rfc7313_5_what_is_given_back_of_a_long_refresh_fits_a_message(octets: int) -> None:
    """The whole of it would be too long, for a message of this session or for any."""
    able = offer(LOCAL_ASN, extended_message=octets > 4096)
    session = established(config(able), peer_open(capabilities=able))
    session.receive_data(refresh(subtype=1, more=bytes(octets - 23)), NOW)
    [last] = sent(session.data_to_send())
    assert isinstance(last, Notification)
    assert (last.code, last.subcode, len(encode(last))) == (7, 1, octets)
    assert last.data == refresh(subtype=1, more=bytes(octets - 23))[: octets - 21]
    assert closing(session).sent == last


@pytest.mark.plain
def test_the_end_is_told_whatever_becomes_of_the_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_message: object) -> bytes:
        raise OverflowError

    session = established()
    monkeypatch.setattr("bgpd.session.session.encode", fails)
    with pytest.raises(OverflowError):
        session.receive_data(BROKEN_UPDATE, NOW)
    assert closing(session).established


def test_rfc7313_4_demarcation_needs_enhanced_refresh() -> None:
    enhanced = established()
    assert enhanced.send_route_refresh(IPV4_UNICAST, 1)
    assert enhanced.send_route_refresh(IPV4_UNICAST, 2)
    assert sent(enhanced.data_to_send()) == [RouteRefresh(IPV4_UNICAST, 1), RouteRefresh(IPV4_UNICAST, 2)]
    plain = established(theirs=peer_open(capabilities=offer(LOCAL_ASN, enhanced_refresh=False)))
    assert not plain.send_route_refresh(IPV4_UNICAST, 1)
    plain.receive_data(refresh(subtype=1) + refresh(subtype=2), NOW)
    assert plain.events() == []


def test_rfc7313_4_begin_and_end_are_handed_over_in_order_with_the_updates() -> None:
    session = established()
    session.receive_data(refresh(subtype=1) + announcement() + refresh(subtype=2), NOW)
    assert kinds(session.events()) == ["RefreshRequested", "UpdatesReceived", "RefreshRequested"]


@pytest.mark.parametrize("subtype", [3, 4, 255])
def test_rfc7313_5_an_unknown_subtype_must_be_ignored(subtype: int) -> None:
    session = established()
    session.receive_data(refresh(subtype=subtype), NOW)
    assert session.events() == []
    assert session.state is State.ESTABLISHED


@pytest.mark.parametrize("subtype", [1, 2])
def test_rfc7313_5_a_demarcation_of_wrong_length_is_answered_7_1_with_the_message(subtype: int) -> None:
    data = refresh(subtype=subtype, more=b"\xff")
    session = established()
    session.receive_data(data, NOW)
    assert closing(session).sent == Notification(7, 1, data)


@pytest.mark.parametrize("theirs", [False, True])
def test_rfc8654_4_long_messages_only_where_we_offered_to_take_them(theirs: bool) -> None:
    """A peer may send them whether it takes them itself or not."""
    long = message(MessageType.NOTIFICATION, b"\6\2" + bytes(5000))
    peer = peer_open(capabilities=offer(LOCAL_ASN, extended_message=theirs))
    session = established(config(), peer)
    session.receive_data(long, NOW)
    assert complaint(session) == (1, 2)
    session = established(config(offer(LOCAL_ASN, extended_message=True)), peer)
    session.receive_data(long, NOW)
    assert closing(session).received is not None


def test_rfc8654_4_open_and_keepalive_are_never_long() -> None:
    extended = offer(LOCAL_ASN, extended_message=True)
    session = opensent(config(extended))
    session.receive_data(MARKER + b"\x10\x01\1", NOW)
    assert complaint(session) == (1, 2)
    session = established(config(extended), peer_open(capabilities=extended))
    session.receive_data(MARKER + b"\x10\x01\4", NOW)
    assert complaint(session) == (1, 2)


def test_counters_can_outlive_a_session() -> None:
    counters = SessionCounters()
    for _ in range(2):
        session = established(counters=counters)
        session.sent(NOW, updates=5)
        session.shut_down(CeaseSubcode.ADMINISTRATIVE_RESET, "", NOW)
    assert (counters.sent.opens, counters.sent.updates, counters.sent.notifications) == (2, 10, 2)
    assert (counters.received.opens, counters.received.keepalives) == (2, 2)
    assert counters.sent.keepalives == 2


def test_the_answer_to_an_open_is_a_keepalive_and_nothing_else() -> None:
    session = opensent()
    session.receive_data(peer_open() + KEEPALIVE, NOW)
    assert sent(session.data_to_send()) == [Keepalive()]
