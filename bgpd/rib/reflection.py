"""Who may hear of a path, and with which attributes.

RFC 4456: 6 (who is told), 8 (ORIGINATOR_ID, CLUSTER_LIST, and what must stay untouched). RFC 4271: 5.1
(attributes towards other ASes), 9.1.2 (AS loops). RFC 1997 (well-known communities), RFC 9494 4.3
(long-lived stale routes), RFC 6793 (peers with 2-octet AS numbers), RFC 8950 (IPv4 routes with IPv6 next
hops, only for peers that know them), RFC 9234 5 (route leaks and ONLY_TO_CUSTOMER).

Everything here is pure, and cheap for the ordinary case: between clients, reflecting a path is one
concatenation. `ineligibility` looks for our own numbers in the raw attribute bytes first; only where
they occur does it decode anything.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from bgpd.rib.path import DEFAULT_LOCAL_PREF, Path, Source, SourceKind
from bgpd.wire.as_path import without_confederation
from bgpd.wire.attribute_rows import ROWS
from bgpd.wire.attributes import NEXT_HOP_BIT, AttributeSet, for_old_speaker, rewrite
from bgpd.wire.errors import UnsendableError
from bgpd.wire.iana import AttributeCode, Role, SegmentType, WellKnownCommunity
from bgpd.wire.nlri import IPV4_UNICAST, Family

# Said once, because looking them up costs more than comparing with them.
_CLIENT, _NON_CLIENT = SourceKind.CLIENT, SourceKind.NON_CLIENT
_LOCAL_PREF_BIT: Final = 1 << AttributeCode.LOCAL_PREF
_COMMUNITIES_BIT: Final = 1 << AttributeCode.COMMUNITIES
_REFLECTION_BITS: Final = 1 << AttributeCode.ORIGINATOR_ID | 1 << AttributeCode.CLUSTER_LIST
_SETTLED: Final = _REFLECTION_BITS | _LOCAL_PREF_BIT
_LOCAL_PREF: Final = DEFAULT_LOCAL_PREF.to_bytes(4, "big")
_NOWHERE, _LINK_LOCAL = bytes(16), b"\xfe\x80"
_WELL_KNOWN: Final = b"\xff\xff"  # how well-known communities begin
_INTERNAL: dict[int, bytes | None] = {code: None for code, row in ROWS.items() if row.internal_only}
_NON_TRANSITIVE = 0x40  # of the first octet of an extended community
_AS_SEQUENCE: Final = int(SegmentType.AS_SEQUENCE)
_MED_BIT: Final = 1 << AttributeCode.MULTI_EXIT_DISC
_EXTENDED_BITS: Final = 1 << AttributeCode.EXTENDED_COMMUNITIES | 1 << AttributeCode.IPV6_EXTENDED_COMMUNITIES
_PLAIN_BITS: Final = sum(
    1 << code
    for code in (
        AttributeCode.ORIGIN,
        AttributeCode.AS_PATH,
        AttributeCode.NEXT_HOP,
        AttributeCode.MULTI_EXIT_DISC,
        AttributeCode.LOCAL_PREF,
        AttributeCode.ATOMIC_AGGREGATE,
        AttributeCode.AGGREGATOR,
        AttributeCode.COMMUNITIES,
        AttributeCode.LARGE_COMMUNITIES,
    )
)
_PLAIN_SEQUENCE: Final = 62  # AS numbers in a path that fits into 255 octets with one more
_ROOMY: Final = 1024  # octets of attributes of which none gets too long by what is changed or put in
_OTC_BIT: Final = 1 << AttributeCode.ONLY_TO_CUSTOMER
# RFC 9234 5, by our own role: whose routes carry the mark already or get it here, and who is told what.
_DOWNSTREAM = frozenset({Role.PROVIDER, Role.ROUTE_SERVER})
_FROM_ABOVE_OR_BESIDE = frozenset({Role.CUSTOMER, Role.ROUTE_SERVER_CLIENT, Role.PEER})
_TO_BELOW_OR_BESIDE = frozenset({Role.PROVIDER, Role.ROUTE_SERVER, Role.PEER})


@dataclass(frozen=True, slots=True)
class Speaker:
    """This speaker: its AS number, BGP Identifier and CLUSTER_ID (4 octets each; empty: in no cluster)."""

    asn: int
    bgp_identifier: bytes
    cluster_id: bytes
    asn_octets: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "asn_octets", self.asn.to_bytes(4, "big"))


@dataclass(frozen=True, slots=True)
class Target:
    """What the encoding of a path for a peer depends on, besides the path.

    `next_hop` replaces the path's next hop (4, 16 or 32 octets); None keeps it. `local_asn` is our AS
    number towards this peer. `long_lived`: the peer knows long-lived graceful restart.
    `extended_next_hop`: it takes IPv4 routes with IPv6 next hops. `role` is ours towards it.
    """

    kind: SourceKind
    asn4: bool = True
    local_asn: int = 0
    next_hop: bytes | None = None
    long_lived: bool = False
    extended_next_hop: bool = False
    role: Role | None = None


Advert: TypeAlias = tuple[bytes, bytes]
"""A path as it is sent: path attributes without MP_REACH_NLRI, and the next hop.

The next hop is empty where NEXT_HOP is among the attributes.
"""

Export = Callable[[Path], Advert | None]


def ineligibility(attributes: AttributeSet, speaker: Speaker, allowed_own_as: int = 0) -> str | None:
    """Why a received path must not be used, or None (RFC 4271 9.1.2, RFC 4456 8)."""
    # `find`: for `in`, bytes first raise and catch a TypeError, which takes longer than the search.
    if attributes.raw.find(speaker.asn_octets) >= 0 and attributes.count_as(speaker.asn) > allowed_own_as:
        return f"AS loop: AS_PATH contains our AS {speaker.asn}"
    if attributes.present & _REFLECTION_BITS:
        if attributes.originator_id == speaker.bgp_identifier:
            return "ORIGINATOR_ID is our own BGP Identifier"
        own = speaker.cluster_id
        if own and attributes.raw.find(own) >= 0 and attributes.passed(own):
            return "CLUSTER_LIST contains our CLUSTER_ID"
    if not attributes.present & NEXT_HOP_BIT and _is_nowhere(attributes.next_hop):
        return "the next hop is ::"
    return None


def _is_nowhere(next_hop: bytes) -> bool:
    """Whether an IPv6 next hop is `::`; of two, some leave out the global one and mean the link-local one."""
    return next_hop.startswith(_NOWHERE) and next_hop[16:18] != _LINK_LOCAL


def leak(attributes: AttributeSet, role: Role, asn: int) -> str | None:
    """Why a path from a peer of AS `asn` is a route leak, or None; `role` is ours (RFC 9234 5)."""
    if not attributes.present & _OTC_BIT:
        return None
    if role in _DOWNSTREAM:
        return f"route leak: ONLY_TO_CUSTOMER {attributes.otc} from a customer (RFC 9234 5)"
    if role is Role.PEER and attributes.otc != asn:
        return f"route leak: ONLY_TO_CUSTOMER {attributes.otc} from a peer of AS {asn} (RFC 9234 5)"
    return None


def only_to_customer(attributes: AttributeSet, role: Role, asn: int) -> AttributeSet:
    """The attributes with ONLY_TO_CUSTOMER, where a peer of this kind should have set it (RFC 9234 5)."""
    if attributes.present & _OTC_BIT or role not in _FROM_ABOVE_OR_BESIDE:
        return attributes
    marked = attributes.rewritten({AttributeCode.ONLY_TO_CUSTOMER: asn.to_bytes(4, "big")})
    return AttributeSet.of(marked, b"" if attributes.present & NEXT_HOP_BIT else attributes.next_hop)


def long_lived_stale(path: Path) -> Path | None:
    """A path after the restart time: marked and least preferred, or gone if marked NO_LLGR (RFC 9494 4.2), or
    if the mark has no room.
    """
    attributes = path.attributes
    if attributes.has_community(WellKnownCommunity.NO_LLGR):
        return None
    if path.long_lived_stale:
        return path
    communities = dict.fromkeys((*attributes.communities, WellKnownCommunity.LLGR_STALE))
    value = b"".join(int(c).to_bytes(4, "big") for c in communities)
    try:
        raw = attributes.rewritten({AttributeCode.COMMUNITIES: value})
    except UnsendableError:
        return None
    marked = AttributeSet.of(raw, attributes.next_hop)
    return Path(path.source, marked, path.ineligible, path.path_id, long_lived_stale=True)


def least_preferred(attributes: AttributeSet) -> AttributeSet:
    """The attributes of a path with LOCAL_PREF 0: its sender is about to go (RFC 8326 4)."""
    lowered = attributes.rewritten({AttributeCode.LOCAL_PREF: bytes(4)})
    return AttributeSet.of(lowered, b"" if attributes.present & NEXT_HOP_BIT else attributes.next_hop)


def last_resort(raw: bytes) -> bytes:
    """A block marked GRACEFUL_SHUTDOWN, with the lowest LOCAL_PREF where there is one (RFC 8326 4).

    Its AS numbers may have two octets or four.
    """
    attributes = AttributeSet.of(raw)
    communities = dict.fromkeys((*attributes.communities, WellKnownCommunity.GRACEFUL_SHUTDOWN))
    changes: dict[int, bytes | None] = {
        AttributeCode.COMMUNITIES: b"".join(int(c).to_bytes(4, "big") for c in communities)
    }
    if attributes.present & _LOCAL_PREF_BIT:
        changes[AttributeCode.LOCAL_PREF] = bytes(4)
    return rewrite(raw, changes)


def _forbidden(attributes: AttributeSet, target: Target) -> bool:
    """Whether a well-known community keeps the path from this peer (RFC 1997, RFC 9494 4.3)."""
    has = attributes.has_community
    return (
        has(WellKnownCommunity.NO_ADVERTISE)
        or (not target.long_lived and has(WellKnownCommunity.LLGR_STALE))
        or (
            target.kind is SourceKind.EXTERNAL
            and (has(WellKnownCommunity.NO_EXPORT) or has(WellKnownCommunity.NO_EXPORT_SUBCONFED))
        )
    )


def _prepended(attributes: AttributeSet, asn: int) -> bytes:
    """AS_PATH with `asn` in front (RFC 4271 5.1.2 b), as an attribute value.

    Segments of a confederation stay within it (RFC 5065 4).
    """
    value = attributes.value(AttributeCode.AS_PATH) or b""
    # Mostly one sequence is all there is.
    if value and value[0] == _AS_SEQUENCE and value[1] < 255 and len(value) == 2 + 4 * value[1]:
        return b"%c%c%b%b" % (_AS_SEQUENCE, value[1] + 1, asn.to_bytes(4, "big"), value[2:])
    segments = list(without_confederation(attributes.as_path))
    if segments and segments[0][0] == SegmentType.AS_SEQUENCE and len(segments[0][1]) < 255:
        segments[0] = (SegmentType.AS_SEQUENCE, (asn, *segments[0][1]))
    else:
        segments.insert(0, (SegmentType.AS_SEQUENCE, (asn,)))
    return b"".join(
        bytes((kind, len(numbers))) + b"".join(n.to_bytes(4, "big") for n in numbers)
        for kind, numbers in segments
    )


def _transitive_only(attributes: AttributeSet) -> dict[int, bytes | None]:
    """The attributes of extended communities that must change before they leave our AS, as for `rewrite`."""
    changes: dict[int, bytes | None] = {}
    for code, communities in (
        (AttributeCode.EXTENDED_COMMUNITIES, attributes.extended_communities),
        (AttributeCode.IPV6_EXTENDED_COMMUNITIES, attributes.ipv6_extended_communities),
    ):
        if any(community[0] & _NON_TRANSITIVE for community in communities):
            kept = b"".join(community for community in communities if not community[0] & _NON_TRANSITIVE)
            changes[code] = kept or None
    return changes


def _external(path: Path, target: Target, always: dict[int, bytes | None]) -> bytes:
    """Attributes for another AS: our AS in front, nothing that is internal to ours (RFC 4271 5.1.3 to 5.1.5).

    Internal are also AIGP and Prefix-SID (RFC 7311 3.2, RFC 8669 5) and communities that are not transitive
    (RFC 4360 6, RFC 5701 2).

    A MED that came from another AS stays here; one of our own AS's routes is told (RFC 4271 5.1.4).
    """
    attributes = path.attributes
    plain = _external_plain(attributes, target, always.get(AttributeCode.NEXT_HOP, b""))
    if plain:
        return plain
    changes: dict[int, bytes | None] = {
        **always,
        AttributeCode.AS_PATH: _prepended(attributes, target.local_asn),
    }
    if attributes.present & _EXTENDED_BITS:
        changes |= _transitive_only(attributes)
    if attributes.present & _MED_BIT and attributes.as_path:
        changes[AttributeCode.MULTI_EXIT_DISC] = None
    if target.role in _TO_BELOW_OR_BESIDE and not attributes.present & _OTC_BIT:
        changes[AttributeCode.ONLY_TO_CUSTOMER] = target.local_asn.to_bytes(4, "big")
    return attributes.rewritten(changes)


def _external_plain(attributes: AttributeSet, target: Target, next_hop: bytes | None) -> bytes:
    """The same where what must change leads and stands in order, at a fraction of the cost; else nothing.

    `next_hop` takes the place of NEXT_HOP if it has four octets; there must be none if it is None.
    """
    raw, present = attributes.raw, attributes.present
    if (
        present & ~_PLAIN_BITS
        or target.role is not None
        or raw[:3] != b"\x40\x01\x01"
        or raw[4:6] != b"\x40\x02"
    ):
        return b""
    octets = raw[6]
    at = 7 + octets
    count = 0
    if octets:
        count = raw[8]
        if raw[7] != _AS_SEQUENCE or octets != 2 + 4 * count or count > _PLAIN_SEQUENCE:
            return b""
    hop = b""
    if present & NEXT_HOP_BIT:
        hop = raw[at : at + 7]
        if next_hop is None or hop[:3] != b"\x40\x03\x04":
            return b""
        at += 7
        if next_hop:
            hop = b"\x40\x03\x04" + next_hop
    elif next_hop:
        return b""
    med = b""
    if present & _MED_BIT:
        if raw[at + 1 : at + 3] != b"\x04\x04":
            return b""
        if not octets:
            med = raw[at : at + 7]
        at += 7
    if present & _LOCAL_PREF_BIT:
        if raw[at + 1 : at + 3] != b"\x05\x04":
            return b""
        at += 7
    head = b"\x40\x02%c\x02%c" % (6 + 4 * count, count + 1)
    path = raw[9 : 9 + 4 * count]
    return b"".join((raw[:4], head, target.local_asn.to_bytes(4, "big"), path, hop, med, raw[at:]))


def _takes_outside(target: Target, family: Family) -> bool:
    """Whether next hops outside NEXT_HOP may be told: an IPv4 route's only where the peer takes them."""
    return family != IPV4_UNICAST or target.extended_next_hop or target.next_hop is not None


def _withheld(path: Path, target: Target, outside: bool) -> bool:
    """Whether a path may not be told, whatever it would look like."""
    attributes = path.attributes
    present = attributes.present
    if (
        present & _COMMUNITIES_BIT
        and attributes.raw.find(_WELL_KNOWN) >= 0
        and _forbidden(attributes, target)
    ):
        return True
    if path.long_lived_stale and not target.long_lived:
        return True
    if present & _OTC_BIT and target.role in _FROM_ABOVE_OR_BESIDE:
        return True
    if not present & NEXT_HOP_BIT and not outside:
        return True
    return path.source.kind is _NON_CLIENT and target.kind is _NON_CLIENT


def told_to(target: Target, family: Family, export: Export) -> Callable[[Path], bool]:
    """Whether `export` gives anything for a path: mostly that is plain without what it gives."""
    internal = target.kind is not SourceKind.EXTERNAL
    outside = _takes_outside(target, family)

    def told(path: Path) -> bool:
        if _withheld(path, target, outside):
            return False
        attributes = path.attributes
        if (internal or attributes.present & NEXT_HOP_BIT) and len(attributes.raw) <= _ROOMY:
            return True
        return export(path) is not None

    return told


def export_to(target: Target, speaker: Speaker, family: Family) -> Export:
    """The export function of all peers that `target` describes.

    RFC 4456 6: everything goes to clients and to other ASes, a non-client's routes not to non-clients. What
    would get an attribute longer than there can be goes to nobody (RFC 8654 4).
    """
    internal = target.kind is not SourceKind.EXTERNAL
    cluster_id = speaker.cluster_id
    plain = target.next_hop is None and target.asn4
    outside = _takes_outside(target, family)
    always = _own_next_hop(target.next_hop, family)
    if not internal:
        always = {**_INTERNAL, **always}
    last: Source | None = None
    tail = b""  # ORIGINATOR_ID and CLUSTER_LIST of its routes

    def export(path: Path) -> Advert | None:
        nonlocal last, tail
        attributes, source = path.attributes, path.source
        raw, present, kind = attributes.raw, attributes.present, source.kind
        if _withheld(path, target, outside):
            return None
        inside = present & NEXT_HOP_BIT
        # Mostly: a route with LOCAL_PREF that nobody has reflected before.
        if internal and present & _SETTLED == _LOCAL_PREF_BIT and (kind is _CLIENT or kind is _NON_CLIENT):
            if source is not last:  # mostly many routes of one source follow each other
                last, tail = source, b"\x80\x09\x04%b\x80\x0a\x04%b" % (source.bgp_identifier, cluster_id)
            raw += tail
        else:
            unusual = _unusual(path, target, cluster_id, always)
            if unusual is None:
                return None
            raw = unusual
        if plain and inside:
            return raw, b""
        next_hop = attributes.next_hop
        if not internal and not inside and target.next_hop is None:
            next_hop = next_hop[:16]  # a link of our AS says nothing to another one (RFC 2545 3)
            if next_hop == _NOWHERE or next_hop.startswith(_LINK_LOCAL):
                return None
        if plain:
            return raw, next_hop
        return _adapted(raw, next_hop, target, always)

    return export


def _unusual(path: Path, target: Target, cluster_id: bytes, always: dict[int, bytes | None]) -> bytes | None:
    """The attributes of any path for a peer, in four-octet form; None where one would get too long.

    `always`: what is changed of each path for another AS.
    """
    attributes, source = path.attributes, path.source
    try:
        if target.kind is SourceKind.EXTERNAL:
            return _external(path, target, always)
        raw = attributes.raw
        if source.kind is _CLIENT or source.kind is _NON_CLIENT:
            raw = attributes.reflected(source.bgp_identifier, cluster_id)
        if not attributes.present & _LOCAL_PREF_BIT:  # some peers take a route without it for withdrawn
            raw = rewrite(raw, {AttributeCode.LOCAL_PREF: _LOCAL_PREF})
        return raw
    except UnsendableError:
        return None


def _own_next_hop(next_hop: bytes | None, family: Family) -> dict[int, bytes | None]:
    """What a next hop of ours changes among the attributes, as for `rewrite`."""
    if next_hop is None or family != IPV4_UNICAST:
        return {}
    return {AttributeCode.NEXT_HOP: next_hop if len(next_hop) == 4 else None}


def _adapted(raw: bytes, next_hop: bytes, target: Target, always: dict[int, bytes | None]) -> Advert | None:
    """The same for a peer whose next hop or AS numbers are others; None as above."""
    if target.next_hop is not None:
        next_hop = target.next_hop
        if always and target.kind is not SourceKind.EXTERNAL:  # for those it is done
            raw = rewrite(raw, always)
    try:
        return raw if target.asn4 else for_old_speaker(raw), next_hop
    except UnsendableError:
        return None
