"""What the log is told of an UPDATE with attributes at fault (RFC 7606 §8)."""

from ipaddress import IPv4Address, ip_network

from bgpd.wire.capabilities import Negotiated
from bgpd.wire.malformed import PREFIXES
from bgpd.wire.nlri import IPV4_UNICAST, IPV6_UNICAST, Family, nlri_of
from bgpd.wire.update import UpdateDecoder

ORIGIN_7, AS_PATH, LOCAL_PREF = (bytes.fromhex(text) for text in ("40010107", "400200", "40050400000064"))
NEXT_HOP = b"\x40\x03\x04" + IPv4Address("192.0.2.1").packed
SHORT_MED = bytes.fromhex("80040300000a")
BAD_AGGREGATOR = bytes.fromhex("c007020001")


def body_of(attributes: bytes, nlri: bytes) -> bytes:
    return b"\0\0" + len(attributes).to_bytes(2, "big") + attributes + nlri


def decoder(add_path_receive: frozenset[Family] = frozenset()) -> UpdateDecoder:
    families = frozenset({IPV4_UNICAST, IPV6_UNICAST})
    negotiated = Negotiated(families=families, asn4=True, add_path_receive=add_path_receive)
    return UpdateDecoder(negotiated, internal=True)


def test_rfc7606_8_every_fault_is_named_with_what_came_of_it() -> None:
    nlri = nlri_of(ip_network("10.9.1.0/24"))
    reading = decoder()
    body = body_of(ORIGIN_7 + AS_PATH + NEXT_HOP + SHORT_MED + LOCAL_PREF, nlri)
    assert reading.decode(body).unreach
    assert reading.malformed is not None
    reason = reading.malformed.reason
    assert "ORIGIN" in reason
    assert "MULTI_EXIT_DISC" in reason
    assert reason.endswith("(treated as withdrawn)")
    reading = decoder()
    body = body_of(bytes.fromhex("40010100") + AS_PATH + NEXT_HOP + LOCAL_PREF + BAD_AGGREGATOR, nlri)
    assert reading.decode(body).reach
    assert reading.malformed is not None
    assert "AGGREGATOR" in reading.malformed.reason
    assert reading.malformed.reason.endswith("(attribute discarded)")
    assert reading.malformed.facts["prefixes"] == ["10.9.1.0/24"]


def test_rfc7606_8_path_identifiers_are_told_too_and_a_line_has_a_length() -> None:
    reading = decoder(add_path_receive=frozenset({IPV4_UNICAST}))
    items = [(7).to_bytes(4, "big") + nlri_of(ip_network(f"10.{n >> 8}.{n & 255}.0/24")) for n in range(150)]
    body = body_of(ORIGIN_7 + AS_PATH + NEXT_HOP + LOCAL_PREF, b"".join(items))
    reading.decode(body)
    assert reading.malformed is not None
    facts = reading.malformed.facts
    assert facts["prefixes"][:2] == ["10.0.0.0/24 path 7", "10.0.1.0/24 path 7"]
    assert len(facts["prefixes"]) == PREFIXES
    assert bytes.fromhex(str(facts["message"]))[19:] == body


def test_a_faultless_update_leaves_nothing_to_tell() -> None:
    reading = decoder()
    reading.decode(body_of(bytes.fromhex("40010100") + AS_PATH + NEXT_HOP + LOCAL_PREF, b"\x08\x0a"))
    assert reading.malformed is None
