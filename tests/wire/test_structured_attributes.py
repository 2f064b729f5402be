"""Attributes with TLVs inside, malformed and not, each by its own RFC."""

import pytest

from tests.wire.samples import MANDATORY, attribute
from tests.wire.verdicts import assert_discarded, assert_kept, assert_withdrawn


@pytest.mark.parametrize(
    "value", ["", "01", "01000500 00", "0a000b" + "00" * 8, "01000b" + "00" * 8 + "01000a"]
)
def test_rfc7311_3_1_malformed_aigp_is_discarded(value: str) -> None:
    assert_discarded(MANDATORY + attribute(0x80, 26, bytes.fromhex(value)), 26, internal=True)


def test_rfc7311_3_1_transitive_aigp_is_discarded() -> None:
    assert_discarded(MANDATORY + attribute(0xC0, 26, bytes.fromhex("01000b") + bytes(8)), 26, internal=True)


def test_rfc7311_3_2_aigp_is_not_taken_from_external_peers() -> None:
    value = bytes.fromhex("01000b") + bytes(8)
    assert_kept(MANDATORY + attribute(0x80, 26, value), 26, value, internal=True)
    assert_discarded(MANDATORY + attribute(0x80, 26, value), 26)


@pytest.mark.parametrize("value", ["", "00" * 21, "0500ff0001", "010000", "0100", "030003000000"])
def test_rfc8669_6_malformed_prefix_sid_is_discarded(value: str) -> None:
    assert_discarded(MANDATORY + attribute(0xC0, 40, bytes.fromhex(value)), 40, internal=True)
    assert_discarded(MANDATORY + attribute(0xC0, 40, bytes.fromhex(value)), 40)


def tlv(kind: int, *content: bytes) -> bytes:
    """A TLV of RFC 8669 or RFC 9252."""
    value = b"".join(content)
    return bytes((kind,)) + len(value).to_bytes(2, "big") + value


SID = b"\0" + bytes.fromhex("20010db8").ljust(16, b"\0") + bytes.fromhex("00001300")
STRUCTURE = tlv(1, bytes.fromhex("202010100000"))
SHORT = tlv(5, b"\0\0\1")  # a sub-TLV without length


@pytest.mark.parametrize(
    "value",
    [
        tlv(5),  # the reserved octet is missing
        SHORT,
        tlv(1, bytes(7)) + SHORT,
        tlv(6, b"\0", tlv(1)),
        tlv(5, b"\0", tlv(1, SID[:20])),
        tlv(5, b"\0", tlv(1, SID, b"\0")),
        tlv(5, b"\0", tlv(1, SID)[:-1]),
        tlv(5, b"\0", tlv(1, SID, tlv(1))),
        tlv(5, b"\0", tlv(1, SID, STRUCTURE[:-1])),
    ],
)
def test_rfc9252_7_malformed_srv6_service_treat_as_withdraw(value: bytes) -> None:
    assert_withdrawn(MANDATORY + attribute(0xC0, 40, value), 40, internal=True)


@pytest.mark.parametrize(
    "value",
    [
        tlv(5, b"\0"),
        tlv(6, b"\0", tlv(1, SID)),
        tlv(5, b"\0", tlv(1, SID, STRUCTURE), tlv(7, b"?")),  # of an unknown type is not malformed
        tlv(5, b"\0", tlv(1, SID, tlv(9), STRUCTURE)),
    ],
)
def test_rfc9252_7_srv6_service_passes(value: bytes) -> None:
    assert_kept(MANDATORY + attribute(0xC0, 40, value), 40, value, internal=True)


def test_rfc8669_5_prefix_sid_is_not_taken_from_external_peers() -> None:
    value = bytes.fromhex("010007") + bytes(7)
    assert_kept(MANDATORY + attribute(0xC0, 40, value), 40, value, internal=True)
    assert_discarded(MANDATORY + attribute(0xC0, 40, value), 40)


@pytest.mark.parametrize(
    "value",
    [
        "00000000",
        "00ff0000000a000002",
        "007f000000",
        "0008000000 0a000002",
        "0006000000 0a00",
        "0001000000 00",
    ],
)
def test_rfc6514_5_malformed_pmsi_tunnel_treat_as_withdraw(value: str) -> None:
    assert_withdrawn(MANDATORY + attribute(0xC0, 22, bytes.fromhex(value)), 22)


def test_rfc6514_5_pmsi_tunnel_passes() -> None:
    value = bytes.fromhex("00060000000a000002")
    assert_kept(MANDATORY + attribute(0xC0, 22, value), 22, value)


@pytest.mark.parametrize(
    "value", ["", "0007000401", "0007", "00080003 01ff00", "00080002 8000", "00080003 800001"]
)
def test_rfc9012_13_malformed_tunnel_encapsulation_treat_as_withdraw(value: str) -> None:
    assert_withdrawn(MANDATORY + attribute(0xC0, 23, bytes.fromhex(value)), 23)


def test_rfc9012_2_tunnel_encapsulation_passes() -> None:
    value = bytes.fromhex("00080008 0102aabb 80000101 00070000")
    assert_kept(MANDATORY + attribute(0xC0, 23, value), 23, value)


@pytest.mark.parametrize("value", ["040000ff00", "0400"])
def test_rfc9552_8_2_2_malformed_link_state_is_discarded(value: str) -> None:
    assert_discarded(MANDATORY + attribute(0x80, 29, bytes.fromhex(value)), 29)


@pytest.mark.parametrize("value", ["00", "00ff010001000100", "0001010400", "000101040a0000020001 00ff"])
def test_draft_nhc_malformed_next_hop_capabilities_are_discarded(value: str) -> None:
    assert_discarded(MANDATORY + attribute(0xC0, 39, bytes.fromhex(value)), 39)


def test_draft_nhc_next_hop_capabilities_pass() -> None:
    value = bytes.fromhex("000101040a000002 00010000")
    assert_kept(MANDATORY + attribute(0xC0, 39, value), 39, value)
