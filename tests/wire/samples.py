"""What the codec's tests build on: whole UPDATE bodies from readable parts, and decoders to feed them to."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from bgpd.wire.capabilities import Negotiated
from bgpd.wire.errors import ProtocolError
from bgpd.wire.interner import Interner
from bgpd.wire.nlri import IPV4_UNICAST, IPV6_UNICAST, Family
from bgpd.wire.update import Update, UpdateDecoder

P = ParamSpec("P")
T = TypeVar("T")

ORIGIN = bytes.fromhex("40010100")
AS_PATH = bytes.fromhex("40020602010000fde9")
EMPTY_AS_PATH = bytes.fromhex("400200")
NEXT_HOP = bytes.fromhex("4003040a000002")
LOCAL_PREF = bytes.fromhex("40050400000064")
MANDATORY = ORIGIN + AS_PATH + NEXT_HOP
PREFIX = bytes.fromhex("18c63364")
"""198.51.100.0/24"""
PREFIX6 = bytes.fromhex("2020010db8")
"""2001:db8::/32"""
NEXT_HOP6 = bytes.fromhex("20010db8000000000000000000000001")
BOTH = (IPV4_UNICAST, IPV6_UNICAST)


def attribute(flags: int, code: int, value: bytes) -> bytes:
    """One attribute with a one-octet length."""
    return bytes((flags, code, len(value))) + value


def body(block: bytes = b"", nlri: bytes = b"", withdrawn: bytes = b"") -> bytes:
    """An UPDATE without header."""
    return len(withdrawn).to_bytes(2, "big") + withdrawn + len(block).to_bytes(2, "big") + block + nlri


def mp_reach(
    nlri: bytes = PREFIX6, next_hop: bytes = NEXT_HOP6, family: Family = IPV6_UNICAST, flags: int = 0x80
) -> bytes:
    """An MP_REACH_NLRI attribute."""
    return attribute(flags, 14, family.encode() + bytes((len(next_hop),)) + next_hop + b"\0" + nlri)


def mp_unreach(nlri: bytes = PREFIX6, family: Family = IPV6_UNICAST, flags: int = 0x80) -> bytes:
    """An MP_UNREACH_NLRI attribute."""
    return attribute(flags, 15, family.encode() + nlri)


def decoder(
    internal: bool = False,
    *,
    asn4: bool = True,
    families: tuple[Family, ...] = BOTH,
    add_path: bool = False,
    extended_next_hop: bool = False,
    loopback: bool = True,
) -> UpdateDecoder:
    """A decoder with an interner of its own."""
    some = frozenset(families)
    negotiated = Negotiated(
        families=some,
        asn4=asn4,
        add_path_receive=some if add_path else frozenset(),
        extended_next_hop=frozenset({IPV4_UNICAST}) if extended_next_hop else frozenset(),
    )
    return UpdateDecoder(negotiated, internal, Interner(asn4, internal, loopback))


def outcome(decode: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | ProtocolError:
    """What decoding gives, or the protocol error it raises; any other exception is a failure."""
    try:
        return decode(*args, **kwargs)
    except ProtocolError as error:
        return error


def announced(update: Update) -> list[tuple[Family, bytes]]:
    """What an UPDATE announces, flat."""
    return [(reach.family, item) for reach in update.reach for item in reach.nlri]


def withdrawn(update: Update) -> list[tuple[Family, bytes]]:
    """What an UPDATE withdraws, flat."""
    return [(unreach.family, item) for unreach in update.unreach for item in unreach.nlri]
