"""OPEN, NOTIFICATION, KEEPALIVE and ROUTE-REFRESH: round trips, and every error the RFCs name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.wire.capabilities import AddPath, Capabilities, Fqdn, GracefulRestart
from bgpd.wire.errors import ProtocolError
from bgpd.wire.framing import Framer
from bgpd.wire.iana import CeaseSubcode, Role
from bgpd.wire.messages import (
    Keepalive,
    Message,
    Notification,
    Open,
    RouteRefresh,
    decode,
    encode,
    negotiate,
)
from bgpd.wire.nlri import IPV4_UNICAST, IPV6_UNICAST, Family
from tests.wire.samples import outcome

octet = st.integers(0, 255)
two_octets = st.integers(0, 0xFFFF)
asns = st.integers(1, 2**32 - 1)
families = st.builds(Family, two_octets, octet)
names = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30)
KNOWN = {1, 2, 5, 6, 9, 64, 65, 69, 70, 71, 73, 75}
restarts = st.builds(
    GracefulRestart,
    st.integers(0, 4095),
    st.booleans(),
    st.booleans(),
    st.lists(st.tuples(families, st.booleans()), max_size=5).map(tuple),
)
capabilities = st.builds(
    Capabilities,
    families=st.frozensets(families, max_size=6),
    asn4=st.none() | asns,
    route_refresh=st.booleans(),
    enhanced_refresh=st.booleans(),
    extended_message=st.booleans(),
    graceful_restart=st.none() | restarts,
    long_lived=st.dictionaries(
        families, st.tuples(st.booleans(), st.integers(0, 2**24 - 1)), max_size=50
    ).map(lambda found: tuple((family, kept, time) for family, (kept, time) in found.items())),
    add_path=st.dictionaries(
        families, st.sampled_from([AddPath(1), AddPath(2), AddPath(3)]), max_size=80
    ).map(lambda found: tuple(found.items())),
    extended_next_hop=st.lists(st.tuples(families, two_octets), unique=True, max_size=60).map(tuple),
    role=st.none() | st.sampled_from(Role),
    fqdn=st.none() | st.builds(Fqdn, names, names),
    software_version=st.none() | names.filter(bool),
    unknown=st.lists(
        st.tuples(octet.filter(lambda code: code not in KNOWN), st.binary(max_size=255)), max_size=5
    ).map(tuple),
)


@st.composite
def opens(draw: st.DrawFn) -> Open:
    offered = draw(capabilities)
    asn = offered.asn4 if offered.asn4 is not None else draw(st.integers(1, 0xFFFF))
    hold_time = draw(st.just(0) | st.integers(3, 0xFFFF))
    return Open(asn, hold_time, draw(st.binary(min_size=4, max_size=4).filter(any)), offered)


messages: st.SearchStrategy[Message] = (
    opens()
    | st.builds(Notification, octet, octet, st.binary(max_size=300))
    | st.builds(Keepalive)
    | st.builds(RouteRefresh, families, octet)
)


@given(messages)
def test_decode_inverts_encode(value: Message) -> None:
    framer = Framer()
    framer.feed(encode(value))
    [(type, body)] = framer
    assert decode(type, body) == value


@given(st.integers(0, 255), st.binary(max_size=120))
def test_nothing_but_protocol_errors(type: int, body: bytes) -> None:
    value = outcome(decode, type, body)
    if isinstance(value, ProtocolError):
        assert value.code in (1, 2, 7)
    else:
        assert decode(type, value.body()) == value


@given(st.binary(max_size=120))
def test_nothing_but_protocol_errors_in_open_parameters(parameters: bytes) -> None:
    fixed = bytes.fromhex("04fde9005a0a090909")
    size = bytes((min(len(parameters), 255),))
    value = outcome(decode, 1, fixed + size + parameters)
    if isinstance(value, ProtocolError):
        assert value.code == 2
    else:
        assert decode(1, value.body()) == value


OPEN = Open(65001, 90, b"\x0a\x09\x09\x09", Capabilities(frozenset({IPV4_UNICAST}), asn4=65001)).body()


def refused(type: int, body: bytes) -> tuple[int, int, bytes]:
    with pytest.raises(ProtocolError) as caught:
        decode(type, body)
    return caught.value.code, caught.value.subcode, caught.value.data


def test_rfc4271_6_2_unsupported_version_names_ours() -> None:
    assert refused(1, b"\3" + OPEN[1:]) == (2, 1, b"\0\4")


def test_rfc4271_6_2_bad_peer_as_zero() -> None:
    assert refused(1, OPEN[:1] + b"\0\0" + OPEN[3:])[:2] == (2, 2)


@pytest.mark.parametrize("seconds", [1, 2])
def test_rfc4271_6_2_unacceptable_hold_time(seconds: int) -> None:
    assert refused(1, OPEN[:3] + bytes((0, seconds)) + OPEN[5:])[:2] == (2, 6)


@pytest.mark.parametrize("seconds", [0, 3, 65535])
def test_rfc4271_4_2_hold_time_zero_or_at_least_three(seconds: int) -> None:
    value = decode(1, OPEN[:3] + seconds.to_bytes(2, "big") + OPEN[5:])
    assert isinstance(value, Open)
    assert value.hold_time == seconds


def test_rfc6286_2_1_bgp_identifier_zero() -> None:
    assert refused(1, OPEN[:5] + bytes(4) + OPEN[9:])[:2] == (2, 3)


def test_rfc4271_6_2_unsupported_optional_parameter() -> None:
    assert refused(1, OPEN[:9] + bytes.fromhex("020100"))[:2] == (2, 4)


@pytest.mark.parametrize("tail", ["05", "02 0208", "03 020840", "04 0202 0105", "01 02", "ff", "00 02"])
def test_rfc4271_6_2_optional_parameters_that_do_not_add_up(tail: str) -> None:
    assert refused(1, OPEN[:9] + bytes.fromhex(tail))[:2] == (2, 0)


def test_rfc6793_3_asn_beyond_two_octets_is_as_trans_on_the_wire() -> None:
    value = Open(4200000001, 90, b"\1\2\3\4", Capabilities(asn4=4200000001))
    assert value.body()[1:3] == (23456).to_bytes(2, "big")
    assert decode(1, value.body()) == value


def test_rfc6793_4_1_contradicting_as_numbers() -> None:
    assert refused(1, OPEN[:1] + b"\xfd\xe8" + OPEN[3:])[:2] == (2, 2)


def test_rfc7607_2_as_zero_in_the_capability() -> None:
    assert refused(1, OPEN[:9] + bytes.fromhex("08 02 06 41 04 00000000"))[:2] == (2, 2)


def test_rfc9072_2_extended_parameters_received() -> None:
    tail = bytes.fromhex("ffff 0012 02 0006 010400010001 02 0006 41040000fde9")
    value = decode(1, OPEN[:9] + tail)
    assert value == decode(1, OPEN)


def test_rfc9072_2_non_extended_length_is_ignored_on_receipt() -> None:
    tail = bytes.fromhex("01ff 0009 02 0006 010400010001")
    value = decode(1, OPEN[:9] + tail)
    assert isinstance(value, Open)
    assert value.capabilities.families == {IPV4_UNICAST}


@pytest.mark.parametrize(
    "tail", ["ffff", "ffff00", "ffff0002", "ffff00020001", "ffff0003020001", "ffff0001ff"]
)
def test_rfc9072_2_extended_parameters_that_do_not_add_up(tail: str) -> None:
    assert refused(1, OPEN[:9] + bytes.fromhex(tail))[:2] == (2, 0)


def test_rfc9072_2_extended_form_is_used_only_where_needed() -> None:
    few = Open(65001, 90, b"\1\2\3\4", Capabilities(unknown=((200, bytes(251)),)))
    many = Open(65001, 90, b"\1\2\3\4", Capabilities(unknown=((200, bytes(252)),)))
    assert few.body()[9:12] == bytes((255, 2, 253))
    assert many.body()[9:13] == bytes.fromhex("ffff 0101")
    assert decode(1, few.body()) == few
    assert decode(1, many.body()) == many


def test_rfc5492_4_all_capabilities_share_one_parameter() -> None:
    assert OPEN[9:12] == bytes((14, 2, 12))


@pytest.mark.parametrize("body", [b"", b"\6"])
def test_rfc4271_6_1_notification_too_short(body: bytes) -> None:
    assert refused(3, body)[:2] == (1, 2)


def test_rfc4271_6_1_keepalive_with_a_body() -> None:
    assert refused(4, b"\0") == (1, 2, b"\0\x14")


def test_update_is_not_decoded_here() -> None:
    assert refused(2, bytes(4)) == (1, 3, b"\2")


@pytest.mark.parametrize("text", ["", "maintenance until 04:00", "Wartung ⌛ bis morgen", "x" * 255])
@pytest.mark.parametrize("subcode", [CeaseSubcode.ADMINISTRATIVE_SHUTDOWN, CeaseSubcode.ADMINISTRATIVE_RESET])
def test_rfc9003_2_communication_travels(text: str, subcode: CeaseSubcode) -> None:
    sent = Notification.cease(subcode, text)
    assert decode(3, sent.body()) == sent
    assert sent.communication == text


def test_rfc9003_2_communication_is_cut_between_characters() -> None:
    sent = Notification.cease(CeaseSubcode.ADMINISTRATIVE_SHUTDOWN, "ä" * 200)
    assert sent.data[0] == 254
    assert sent.communication == "ä" * 127


def test_rfc8203_2_more_than_128_octets_are_read() -> None:
    assert Notification(6, 2, bytes((200,)) + b"y" * 200).communication == "y" * 200


@pytest.mark.parametrize("data", ["814142", "04fffe80c0", "0041", "05414243"])
def test_rfc9003_3_invalid_communication_is_logged_as_hexadecimal(data: str) -> None:
    assert Notification(6, 2, bytes.fromhex(data)).communication == "0x" + data


@given(st.binary(max_size=300), octet, octet)
def test_rfc9003_3_any_communication_is_one_safe_line(data: bytes, code: int, subcode: int) -> None:
    assert Notification(code, subcode, data).communication.isprintable()


def test_rfc9003_3_control_characters_are_escaped() -> None:
    assert Notification(6, 4, b"\x05a\nb\x1bc").communication == "a\\nb\\x1bc"


def test_rfc8538_3_1_communication_inside_a_hard_reset() -> None:
    inner = Notification.cease(CeaseSubcode.ADMINISTRATIVE_SHUTDOWN, "gone")
    outer = Notification(6, CeaseSubcode.HARD_RESET, inner.body())
    assert outer.communication == "gone"


def test_rfc2918_3_route_refresh() -> None:
    assert encode(RouteRefresh(IPV6_UNICAST))[16:] == bytes.fromhex("0017 05 0002 00 01")


@pytest.mark.parametrize("subtype", [1, 2])
def test_rfc7313_5_wrong_length_of_begin_or_end_names_the_message(subtype: int) -> None:
    body = bytes((0, 1, subtype, 1, 0xFF))
    code, subcode, data = refused(5, body)
    assert (code, subcode) == (7, 1)
    assert data == b"\xff" * 16 + bytes((0, 24, 5)) + body


@pytest.mark.parametrize("subtype", [3, 255])
def test_rfc7313_5_unknown_subtypes_are_no_error(subtype: int) -> None:
    assert decode(5, bytes((0, 1, subtype, 1))) == RouteRefresh(IPV4_UNICAST, subtype)


def test_rfc5291_4_filter_behind_a_request_is_not_read() -> None:
    assert decode(5, bytes.fromhex("00010001 01400fff")) == RouteRefresh(IPV4_UNICAST)


def test_rfc4271_4_2_smaller_hold_time_is_negotiated() -> None:
    ours, theirs = Open(1, 90, b"\1\1\1\1"), Open(2, 30, b"\2\2\2\2")
    assert negotiate(ours, theirs).hold_time == 30
    assert negotiate(ours, Open(2, 0, b"\2\2\2\2")).hold_time == 0
    assert negotiate(ours, theirs).peer_bgp_identifier == b"\2\2\2\2"
