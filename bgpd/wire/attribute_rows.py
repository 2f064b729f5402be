"""One row per path attribute: its flags, its syntax, and how severe a mistake in it is.

This is the table of RFC 7606 §7 continued for the attributes of later RFCs. A row's `check` looks at the
value alone and says what is wrong with it; severities are data, so that the policy can be read down the
table:

* `malformed`: the severity of a value that `check` refuses;
* `bad_flags`: the severity of Optional and Transitive bits that contradict the row (RFC 7606 §3 (c):
  treat-as-withdraw unless the attribute's own RFC says otherwise). Partial may be set on optional transitive
  attributes only.
* `internal_only`: from an external peer the attribute is discarded, well-formed or not (RFC 7606 §7.5, §7.9,
  §7.10; RFC 7311 §3.2; RFC 8669 §5). Its flags are judged all the same.
* `distinct`: the octets of an item where items that repeat an earlier one are to be removed (RFC 8092 §3).

What this project does not act on (PMSI, tunnel encapsulation, BGP-LS, prefix SID, AIGP, next-hop
capabilities) is checked as far as a peer further on could be harmed by it, and passed on as bytes. One
malformed attribute of these once took both reflectors of a site down, which is why none of them is decoded
further here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from . import as_path
from .errors import ErrorAction
from .iana import AttributeCode, AttributeFlag, UpdateSubcode
from .nlri import Family, is_prefix_family


class Fault(NamedTuple):
    """What is wrong with a value: an UPDATE error subcode, one line, and a severity where it is not the
    row's.
    """

    subcode: UpdateSubcode
    reason: str
    action: ErrorAction | None = None


_WELL_KNOWN: Final = int(AttributeFlag.TRANSITIVE)
_OPTIONAL: Final = int(AttributeFlag.OPTIONAL)
_OPTIONAL_TRANSITIVE: Final = int(AttributeFlag.OPTIONAL | AttributeFlag.TRANSITIVE)


@dataclass(frozen=True, slots=True)
class Context:
    """What a value's syntax depends on: octets per AS number, and which side of the AS border the peer is on.

    `loopback` allows next hops in 127.0.0.0/8 and ::1, which make sense only between speakers of one machine.
    """

    asn4: bool = True
    internal: bool = False
    loopback: bool = True

    @property
    def width(self) -> int:
        """Octets per AS number in AS_PATH and AGGREGATOR."""
        return 4 if self.asn4 else 2


Check = Callable[[bytes, Context], Fault | None]


@dataclass(frozen=True, slots=True)
class Row:
    """What is known about one attribute; see the module for what the fields mean."""

    code: AttributeCode
    flags: int
    check: Check
    malformed: ErrorAction = ErrorAction.TREAT_AS_WITHDRAW
    bad_flags: ErrorAction = ErrorAction.TREAT_AS_WITHDRAW
    internal_only: bool = False
    distinct: int = 0

    @property
    def name(self) -> str:
        """The attribute's name as in its RFC."""
        return self.code.name

    def without_repeats(self, value: bytes) -> bytes:
        """A faultless value with each item once, the first in its place, if the attribute wants that."""
        size = self.distinct
        if len(value) <= size or not size:
            return value
        return b"".join(dict.fromkeys(value[start : start + size] for start in range(0, len(value), size)))


def _length(size: int) -> Fault:
    return Fault(UpdateSubcode.ATTRIBUTE_LENGTH, f"a value of {size} octets")


def exactly(size: int) -> Check:
    """A value of one length, whatever it holds."""

    def check(value: bytes, _context: Context) -> Fault | None:
        return None if len(value) == size else _length(len(value))

    return check


def multiple_of(size: int) -> Check:
    """One or more items of one length."""

    def check(value: bytes, _context: Context) -> Fault | None:
        return None if value and len(value) % size == 0 else _length(len(value))

    return check


def _origin(value: bytes, _context: Context) -> Fault | None:
    if len(value) != 1:
        return _length(len(value))
    return Fault(UpdateSubcode.INVALID_ORIGIN, f"the value {value[0]}") if value[0] > 2 else None


def _as_path(value: bytes, context: Context) -> Fault | None:
    if not value:
        if context.internal:
            return None
        return Fault(UpdateSubcode.MALFORMED_AS_PATH, "an empty path from an external peer")
    if (
        context.asn4
        and len(value) > 2
        and len(value) == 2 + 4 * value[1]
        and value[0] == 2
        and _AS_ZERO not in value
    ):
        return None  # by far the most frequent shape: one sequence, and no AS 0 by any alignment
    reason = as_path.fault_of(value, context.width, confederation=context.internal)
    return Fault(UpdateSubcode.MALFORMED_AS_PATH, reason) if reason else None


_AS_ZERO: Final = bytes(4)


def _as4_path(value: bytes, context: Context) -> Fault | None:
    """RFC 6793 §6 has a malformed AS4_PATH discarded, and that is so for every mistake of an old speaker, for
    every wrong length and for AS 0 (RFC 7607 §2). A four-octet speaker has no business sending it at all; one
    that adds up, and yet names a segment type nobody defined, throws doubt on the whole path.
    """
    if not value or not as_path.fits(value):
        return Fault(UpdateSubcode.ATTRIBUTE_LENGTH, "segments do not fill the attribute")
    reason = as_path.fault_of(value)
    if reason is None:
        return None
    severe = context.asn4 and reason != as_path.AS_ZERO_FOUND
    return Fault(UpdateSubcode.MALFORMED_AS_PATH, reason, ErrorAction.TREAT_AS_WITHDRAW if severe else None)


def next_hop_fault(value: bytes, loopback: bool) -> str | None:
    """What is wrong with a next hop of 4, 16 or 32 octets as an address (RFC 4271 §6.3); None if nothing
    is.
    """
    if len(value) == 4:
        first = value[0]
        if first in (0, 255) or first & 0xF0 == 0xE0 or (first == 127 and not loopback):
            return f"the next hop {'.'.join(map(str, value))}"
        return None
    address = value[:16]
    if address[0] == 0xFF or (address == _LOOPBACK6 and not loopback):
        return f"the next hop {address.hex(':', 2)}"
    return None


_LOOPBACK6: Final = bytes(15) + b"\1"


def _next_hop(value: bytes, context: Context) -> Fault | None:
    if len(value) != 4:
        return _length(len(value))
    reason = next_hop_fault(value, context.loopback)
    return Fault(UpdateSubcode.INVALID_NEXT_HOP, reason) if reason else None


def _aggregator(value: bytes, context: Context) -> Fault | None:
    if len(value) != context.width + 4:
        return _length(len(value))
    if not any(value[: context.width]):
        return Fault(UpdateSubcode.OPTIONAL_ATTRIBUTE, "the AS number 0")
    return None


def _as4_aggregator(value: bytes, _context: Context) -> Fault | None:
    if len(value) != 8:
        return _length(len(value))
    return Fault(UpdateSubcode.OPTIONAL_ATTRIBUTE, "the AS number 0") if value[:4] == bytes(4) else None


def _pmsi(value: bytes, _context: Context) -> Fault | None:
    """RFC 6514 §5, where an undefined tunnel type is malformed: some end a session over one. Types defined
    since are for families of their own.
    """
    if len(value) < 5:
        return _length(len(value))
    kind, identifier = value[1], len(value) - 5
    if kind > 7:
        return Fault(UpdateSubcode.OPTIONAL_ATTRIBUTE, f"tunnel type {kind}")
    expected = _PMSI_IDENTIFIERS.get(kind)
    if expected is not None and identifier not in expected:
        return Fault(
            UpdateSubcode.OPTIONAL_ATTRIBUTE, f"tunnel type {kind} with an identifier of {identifier} octets"
        )
    return None


# Tunnel type -> lengths of its identifier, IPv4 and IPv6, where RFC 6514 §5 fixes them.
_PMSI_IDENTIFIERS: Final = {0: (0,), 1: (12, 24), 3: (8, 32), 4: (8, 32), 5: (8, 32), 6: (4, 16)}


def _tlvs(value: bytes, type_size: int, length_size: int) -> list[tuple[int, bytes]] | None:
    """Cut type-length-value triples, the length counting the value only; None if they do not fill it
    exactly.
    """
    found = []
    position, end, header = 0, len(value), type_size + length_size
    while position < end:
        start = position + header
        if start > end:
            return None
        stop = start + int.from_bytes(value[position + type_size : start], "big")
        if stop > end:
            return None
        found.append((int.from_bytes(value[position : position + type_size], "big"), value[start:stop]))
        position = stop
    return found


def _tunnel_encapsulation(value: bytes, _context: Context) -> Fault | None:
    """RFC 9012 §2: tunnels of type and two-octet length, holding sub-TLVs whose length has one octet below
    type 128 and two from there on.
    """
    tunnels = _tlvs(value, 2, 2)
    if not tunnels:
        return Fault(UpdateSubcode.OPTIONAL_ATTRIBUTE, "tunnel TLVs do not fill the attribute")
    for kind, tunnel in tunnels:
        position = 0
        while position < len(tunnel):
            header = 2 if tunnel[position] < 128 else 3
            start = position + header
            length = int.from_bytes(tunnel[position + 1 : start], "big")
            if start > len(tunnel) or start + length > len(tunnel):
                return Fault(
                    UpdateSubcode.OPTIONAL_ATTRIBUTE, f"a sub-TLV overruns its tunnel of type {kind}"
                )
            position = start + length
    return None


def _aigp(value: bytes, _context: Context) -> Fault | None:
    """RFC 7311 §3: TLVs whose length counts their header too; the AIGP TLV (type 1) has 11 octets."""
    metric = False
    position = 0
    while position < len(value):
        if position + 3 > len(value):
            return Fault(UpdateSubcode.OPTIONAL_ATTRIBUTE, "a TLV header is cut short")
        length = value[position + 1] << 8 | value[position + 2]
        if length < 3 or position + length > len(value):
            return Fault(UpdateSubcode.OPTIONAL_ATTRIBUTE, f"a TLV of length {length}")
        if value[position] == 1:
            if length != 11:
                return Fault(UpdateSubcode.OPTIONAL_ATTRIBUTE, f"an AIGP TLV of length {length}")
            metric = True
        position += length
    return None if metric else Fault(UpdateSubcode.OPTIONAL_ATTRIBUTE, "no AIGP TLV")


def _bgp_ls(value: bytes, _context: Context) -> Fault | None:
    """RFC 9552 §8.2.2: whether the TLVs fill the attribute is all a propagating speaker judges."""
    if _tlvs(value, 2, 2) is None:
        return Fault(UpdateSubcode.OPTIONAL_ATTRIBUTE, "TLVs do not fill the attribute")
    return None


def _prefix_sid(value: bytes, _context: Context) -> Fault | None:
    """RFC 8669 §3 and §6; SRv6 service TLVs by RFC 9252 §7, which has their routes withdrawn."""
    tlvs = _tlvs(value, 1, 2)
    if not tlvs:
        return Fault(UpdateSubcode.OPTIONAL_ATTRIBUTE, "TLVs do not fill the attribute")
    for kind, content in tlvs:
        size = len(content)
        if kind == 0 or (kind == 1 and size != 7) or (kind == 3 and (size < 8 or (size - 2) % 6)):
            return Fault(UpdateSubcode.OPTIONAL_ATTRIBUTE, f"a TLV of type {kind} and {size} octets")
    for kind, content in tlvs:
        if kind in _SRV6_SERVICES and not _is_srv6_service(content):
            reason = f"a malformed SRv6 service TLV of type {kind}"
            return Fault(UpdateSubcode.OPTIONAL_ATTRIBUTE, reason, ErrorAction.TREAT_AS_WITHDRAW)
    return None


_SRV6_SERVICES: Final = (5, 6)  # for layer 3 and for layer 2


def _is_srv6_service(content: bytes) -> bool:
    """A reserved octet, then sub-TLVs; a SID (type 1) has 21 octets and then sub-sub-TLVs, of which the SID's
    structure (type 1) has six.
    """
    parts = _tlvs(content[1:], 1, 2) if content else None
    if parts is None:
        return False
    for kind, part in parts:
        details = _tlvs(part[21:], 1, 2) if kind == 1 else []
        if (kind == 1 and len(part) < 21) or details is None:
            return False
        if any(detail == 1 and len(structure) != 6 for detail, structure in details):
            return False
    return True


def _only_to_customer(value: bytes, _context: Context) -> Fault | None:
    """RFC 9234 §6. AS 0 is nobody's (RFC 7607 §2), and some end a session over it."""
    if len(value) != 4:
        return _length(len(value))
    return Fault(UpdateSubcode.OPTIONAL_ATTRIBUTE, "the AS number 0") if not any(value) else None


def _next_hop_capabilities(value: bytes, _context: Context) -> Fault | None:
    """draft-ietf-idr-nhc: AFI, SAFI, a counted next hop, then TLVs of two-octet type and length."""
    if len(value) < 4 or 4 + value[3] > len(value):
        return _length(len(value))
    family, size = Family(value[0] << 8 | value[1], value[2]), value[3]
    if not is_prefix_family(family) and family.afi not in (1, 2, 25):
        return Fault(UpdateSubcode.OPTIONAL_ATTRIBUTE, f"the family {family}")
    if size not in (4, 16, 32):
        return Fault(UpdateSubcode.OPTIONAL_ATTRIBUTE, f"a next hop of {size} octets")
    if _tlvs(value[4 + size :], 2, 2) is None:
        return Fault(UpdateSubcode.OPTIONAL_ATTRIBUTE, "TLVs do not fill the attribute")
    return None


_DISCARD: Final = ErrorAction.ATTRIBUTE_DISCARD

ROWS: Final[dict[int, Row]] = {
    row.code: row
    for row in (
        Row(AttributeCode.ORIGIN, _WELL_KNOWN, _origin),
        Row(AttributeCode.AS_PATH, _WELL_KNOWN, _as_path),
        Row(AttributeCode.NEXT_HOP, _WELL_KNOWN, _next_hop),
        Row(AttributeCode.MULTI_EXIT_DISC, _OPTIONAL, exactly(4)),
        Row(AttributeCode.LOCAL_PREF, _WELL_KNOWN, exactly(4), internal_only=True),
        Row(AttributeCode.ATOMIC_AGGREGATE, _WELL_KNOWN, exactly(0), malformed=_DISCARD),
        Row(AttributeCode.AGGREGATOR, _OPTIONAL_TRANSITIVE, _aggregator, malformed=_DISCARD),
        Row(AttributeCode.COMMUNITIES, _OPTIONAL_TRANSITIVE, multiple_of(4)),
        Row(AttributeCode.ORIGINATOR_ID, _OPTIONAL, exactly(4), internal_only=True),
        Row(AttributeCode.CLUSTER_LIST, _OPTIONAL, multiple_of(4), internal_only=True),
        Row(AttributeCode.EXTENDED_COMMUNITIES, _OPTIONAL_TRANSITIVE, multiple_of(8)),
        Row(AttributeCode.AS4_PATH, _OPTIONAL_TRANSITIVE, _as4_path, malformed=_DISCARD),
        Row(AttributeCode.AS4_AGGREGATOR, _OPTIONAL_TRANSITIVE, _as4_aggregator, malformed=_DISCARD),
        Row(AttributeCode.PMSI_TUNNEL, _OPTIONAL_TRANSITIVE, _pmsi),
        Row(AttributeCode.TUNNEL_ENCAPSULATION, _OPTIONAL_TRANSITIVE, _tunnel_encapsulation),
        Row(AttributeCode.IPV6_EXTENDED_COMMUNITIES, _OPTIONAL_TRANSITIVE, multiple_of(20)),
        Row(AttributeCode.AIGP, _OPTIONAL, _aigp, malformed=_DISCARD, bad_flags=_DISCARD, internal_only=True),
        Row(AttributeCode.BGP_LS, _OPTIONAL, _bgp_ls, malformed=_DISCARD, bad_flags=_DISCARD),
        Row(AttributeCode.LARGE_COMMUNITIES, _OPTIONAL_TRANSITIVE, multiple_of(12), distinct=12),
        Row(AttributeCode.ONLY_TO_CUSTOMER, _OPTIONAL_TRANSITIVE, _only_to_customer),
        Row(
            AttributeCode.NEXT_HOP_CAPABILITIES,
            _OPTIONAL_TRANSITIVE,
            _next_hop_capabilities,
            malformed=_DISCARD,
            bad_flags=_DISCARD,
        ),
        Row(
            AttributeCode.PREFIX_SID,
            _OPTIONAL_TRANSITIVE,
            _prefix_sid,
            malformed=_DISCARD,
            bad_flags=_DISCARD,
            internal_only=True,
        ),
    )
}
"""Every attribute with a meaning of its own, except MP_REACH_NLRI and MP_UNREACH_NLRI, which carry NLRI."""
