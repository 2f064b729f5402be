"""Attribute sets: immutable, interned (see `interner`), and decoded no further than somebody asks.

A route's path attributes are kept as the bytes they travel in. Routes with equal attributes share one
`AttributeSet` and are compared by identity. What the bytes mean is decoded when first asked for, and what
the decision process compares is kept; a reflector that passes a route on asks for almost nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from mypy_extensions import mypyc_attr

from . import as_path as paths
from .as_path import AsPath
from .attribute_rows import ROWS
from .examination import encode_attribute
from .iana import AS_TRANS, AttributeCode, AttributeFlag, Origin, SegmentType

_EXTENDED: Final = int(AttributeFlag.EXTENDED_LENGTH)
_PARTIAL: Final = int(AttributeFlag.PARTIAL)

NEXT_HOP_BIT: Final = 1 << AttributeCode.NEXT_HOP
_MED_BIT: Final = 1 << AttributeCode.MULTI_EXIT_DISC
_LOCAL_PREF_BIT: Final = 1 << AttributeCode.LOCAL_PREF
_AS_SEQUENCE: Final = int(SegmentType.AS_SEQUENCE)
_REFLECTED: Final = 1 << AttributeCode.ORIGINATOR_ID | 1 << AttributeCode.CLUSTER_LIST


def walk(raw: bytes) -> Iterator[tuple[int, int, bytes, bytes]]:
    """The attributes of a valid block: (flags, code, value, the whole attribute)."""
    position, end = 0, len(raw)
    while position < end:
        if raw[position] & _EXTENDED:
            start = position + 4
            stop = start + (raw[position + 2] << 8 | raw[position + 3])
        else:
            start = position + 3
            stop = start + raw[position + 2]
        yield raw[position], raw[position + 1], raw[start:stop], raw[position:stop]
        position = stop


class Compared(NamedTuple):
    """What the decision process compares of an attribute set. `med` and `local_pref` are None where absent.

    All of it is small, for it is kept as long as the set. `first_as` is the AS the route came from: the first
    of the AS path's leading sequence, 0 where the path is empty or begins otherwise.
    """

    origin: int
    as_path_length: int
    first_as: int
    med: int | None
    local_pref: int | None
    originator_id: bytes | None
    cluster_list_length: int


@mypyc_attr(acyclic=True)  # compiled, it needs no room for the garbage collector
class AttributeSet:
    """The path attributes of a route.

    `raw` are the accepted attributes in four-octet AS form, without MP_REACH_NLRI and MP_UNREACH_NLRI, in
    the order received; NEXT_HOP is among them for IPv4 routes with an IPv4 next hop, and only there.
    `present` has bit n set where attribute n is in `raw`. `next_hop` is the next hop's 4, 16 or 32 octets.

    What is compared is decoded on first use and kept; everything else is decoded whenever it is asked for.
    """

    __slots__ = ("_compared", "_next_hop", "present", "raw")

    def __init__(self, raw: bytes, present: int, next_hop: bytes | None = None) -> None:
        """`next_hop` is needed where `raw` holds none."""
        self.raw = raw
        self.present = present
        self._next_hop = next_hop
        self._compared: Compared | None = None

    @classmethod
    def of(cls, raw: bytes, next_hop: bytes = b"") -> "AttributeSet":
        """A set outside any interner, of valid canonical bytes; for routes of our own and for tests.

        `next_hop` is needed where `raw` holds none.
        """
        present = 0
        for _flags, code, _value, _piece in walk(raw):
            present |= 1 << code
        return cls(raw, present, next_hop or None)

    def __repr__(self) -> str:
        return f"<AttributeSet {self.raw.hex()}>"

    @property
    def compared(self) -> Compared:
        """All that the decision process compares, decoded in one pass: it asks for one, then for the rest."""
        known = self._compared
        if known is None:
            origin, as_path_length, first_as, med, local_pref = _plain(self.raw, self.present)
            if origin < 0:
                known = _compare(self.raw)
            else:
                some = (
                    origin,
                    as_path_length,
                    first_as,
                    None if med < 0 else med,
                    None if local_pref < 0 else local_pref,
                    None,
                    0,
                )
                known = _new(Compared, some)
            self._compared = known
        return known

    def compared_first(self) -> tuple[int, int, int]:
        """ORIGIN, AS_PATH length and LOCAL_PREF, -1 where absent: mostly they are all that is compared.

        So they are kept only along with the rest.
        """
        known = self._compared
        if known is None:
            origin, as_path_length, _first_as, _med, local_pref = _plain(self.raw, self.present)
            if origin >= 0:
                return origin, as_path_length, local_pref
            known = self.compared
        return known.origin, known.as_path_length, -1 if known.local_pref is None else known.local_pref

    @property
    def next_hop(self) -> bytes:
        """4, 16 or 32 octets; none where the set has no next hop."""
        known = self._next_hop
        if known is None:
            known = self._next_hop = self.value(AttributeCode.NEXT_HOP) or b""
        return known

    @property
    def origin(self) -> int:
        """ORIGIN."""
        return self.compared.origin

    @property
    def med(self) -> int | None:
        """MULTI_EXIT_DISC."""
        return self.compared.med

    @property
    def local_pref(self) -> int | None:
        """LOCAL_PREF."""
        return self.compared.local_pref

    @property
    def originator_id(self) -> bytes | None:
        """ORIGINATOR_ID."""
        return self.compared.originator_id

    @property
    def cluster_list(self) -> tuple[bytes, ...]:
        """CLUSTER_LIST."""
        return _pieces(self.value(AttributeCode.CLUSTER_LIST), 4)

    @property
    def cluster_list_length(self) -> int:
        """How many CLUSTER_IDs are in CLUSTER_LIST."""
        return self.compared.cluster_list_length

    def passed(self, cluster_id: bytes) -> bool:
        """Whether CLUSTER_LIST contains a CLUSTER_ID. Cheap where it does not, as `has_community`."""
        return self._lists(AttributeCode.CLUSTER_LIST, cluster_id)

    @property
    def as_path(self) -> AsPath:
        """Segments: type and AS numbers."""
        return paths.decode(self.value(AttributeCode.AS_PATH) or b"")

    @property
    def communities(self) -> tuple[int, ...]:
        """Communities (RFC 1997)."""
        return _numbers(self.value(AttributeCode.COMMUNITIES))

    def value(self, code: int) -> bytes | None:
        """The value of one attribute, None where absent."""
        if not self.present >> code & 1:
            return None
        return next((value for _flags, found, value, _piece in walk(self.raw) if found == code), None)

    def items(self) -> Iterator[tuple[int, int, bytes]]:
        """(flags, code, value) of each attribute, in the order received."""
        return ((flags, code, value) for flags, code, value, _piece in walk(self.raw))

    def contains_as(self, asn: int) -> bool:
        """Whether an AS number is anywhere in the AS path. Cheap where it is not."""
        return asn.to_bytes(4, "big") in self.raw and any(asn in numbers for _kind, numbers in self.as_path)

    def count_as(self, asn: int) -> int:
        """How often an AS number is in the AS path."""
        if asn.to_bytes(4, "big") not in self.raw:
            return 0
        path = paths.decode(self.value(AttributeCode.AS_PATH) or b"")  # not kept: it is looked at once
        return sum(numbers.count(asn) for _kind, numbers in path)

    @property
    def atomic_aggregate(self) -> bool:
        """Whether ATOMIC_AGGREGATE is present."""
        return bool(self.present >> AttributeCode.ATOMIC_AGGREGATE & 1)

    @property
    def aggregator(self) -> tuple[int, bytes] | None:
        """AS number and BGP Identifier of the aggregating speaker."""
        value = self.value(AttributeCode.AGGREGATOR)
        return None if value is None else (int.from_bytes(value[:4], "big"), value[4:])

    @property
    def extended_communities(self) -> tuple[bytes, ...]:
        """Eight octets each (RFC 4360 §2)."""
        return _pieces(self.value(AttributeCode.EXTENDED_COMMUNITIES), 8)

    @property
    def ipv6_extended_communities(self) -> tuple[bytes, ...]:
        """Twenty octets each (RFC 5701 §2)."""
        return _pieces(self.value(AttributeCode.IPV6_EXTENDED_COMMUNITIES), 20)

    @property
    def large_communities(self) -> tuple[tuple[int, int, int], ...]:
        """Global administrator and two local data parts each (RFC 8092 §3)."""
        numbers = _numbers(self.value(AttributeCode.LARGE_COMMUNITIES))
        return tuple(zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True))

    @property
    def otc(self) -> int | None:
        """The AS number of ONLY_TO_CUSTOMER (RFC 9234 §5)."""
        return _number(self.value(AttributeCode.ONLY_TO_CUSTOMER))

    @property
    def unknown(self) -> tuple[tuple[int, int, bytes], ...]:
        """(flags, code, value) of the transitive attributes passed on without being understood."""
        return tuple(item for item in self.items() if item[1] not in ROWS)

    def has_community(self, community: int) -> bool:
        """Whether a community is attached. Cheap where it is not; and nothing is decoded that would stay:
        typed, a long list takes ten times the memory of its octets.
        """
        return self._lists(AttributeCode.COMMUNITIES, community.to_bytes(4, "big"))

    def _lists(self, code: int, octets: bytes) -> bool:
        """Whether these four octets are an item of an attribute."""
        if octets not in self.raw:
            return False
        value = self.value(code) or b""
        at = value.find(octets)
        while at & 3 and at > 0:
            at = value.find(octets, at + 1)
        return at >= 0

    def rewritten(self, changes: Mapping[int, bytes | None]) -> bytes:
        """`raw` with attributes replaced, added (in the order of their codes) or, for None, removed.

        The values are those of known attributes and valid.
        """
        return rewrite(self.raw, changes)

    def reflected(self, bgp_identifier: bytes, cluster_id: bytes) -> bytes:
        """`raw` as a reflector passes it on (RFC 4456 §8): ORIGINATOR_ID set to `bgp_identifier`, the
        identifier of the peer it came from, unless it is there already, and `cluster_id` put before the
        CLUSTER_LIST.
        """
        if not self.present & _REFLECTED:
            return b"%b\x80\x09\x04%b\x80\x0a\x04%b" % (self.raw, bgp_identifier, cluster_id)
        return rewrite(
            self.raw,
            {
                AttributeCode.ORIGINATOR_ID: self.originator_id or bgp_identifier,
                AttributeCode.CLUSTER_LIST: cluster_id + (self.value(AttributeCode.CLUSTER_LIST) or b""),
            },
        )


def _number(value: bytes | None) -> int | None:
    return None if value is None else int.from_bytes(value, "big")


def _pieces(value: bytes | None, size: int) -> tuple[bytes, ...]:
    value = value or b""
    return tuple(value[start : start + size] for start in range(0, len(value), size))


def _numbers(value: bytes | None) -> tuple[int, ...]:
    return tuple(int.from_bytes(piece, "big") for piece in _pieces(value, 4))


def _first_as(path: AsPath) -> int:
    for kind, numbers in path:
        if kind not in (SegmentType.AS_CONFED_SEQUENCE, SegmentType.AS_CONFED_SET):
            return numbers[0] if kind == SegmentType.AS_SEQUENCE else 0
    return 0


def _compare(raw: bytes) -> Compared:
    """`Compared` of any valid block."""
    origin = as_path_length = first_as = cluster_list_length = 0
    med = local_pref = originator_id = None
    for _flags, code, value, _piece in walk(raw):
        if code == AttributeCode.AS_PATH:
            path = paths.decode(value)
            as_path_length, first_as = paths.length_of(path), _first_as(path)
        elif code == AttributeCode.ORIGIN:
            origin = value[0]
        elif code == AttributeCode.MULTI_EXIT_DISC:
            med = int.from_bytes(value, "big")
        elif code == AttributeCode.LOCAL_PREF:
            local_pref = int.from_bytes(value, "big")
        elif code == AttributeCode.ORIGINATOR_ID:
            originator_id = value
        elif code == AttributeCode.CLUSTER_LIST:
            cluster_list_length = len(value) >> 2
    return Compared(origin, as_path_length, first_as, med, local_pref, originator_id, cluster_list_length)


_IRREGULAR: Final = (-1, 0, 0, -1, -1)


def _plain(raw: bytes, present: int) -> tuple[int, int, int, int, int]:
    """What is compared: ORIGIN, AS_PATH length, first AS, MED and LOCAL_PREF, -1 where absent.

    At half the cost, where it leads and stands in order, as nearly always; else ORIGIN is -1.
    """
    if present & _REFLECTED or raw[:3] != b"\x40\x01\x01" or raw[5:6] != b"\x02":
        return _IRREGULAR
    if raw[4] == 0x40:
        start, octets = 7, raw[6]
    else:
        start, octets = 8, raw[6] << 8 | raw[7]  # some speakers have it for short paths too
    as_path_length = first_as = 0
    at = start + octets
    if octets:
        as_path_length = raw[start + 1]
        if raw[start] != _AS_SEQUENCE or 2 + 4 * as_path_length != octets:
            return _IRREGULAR
        first_as = int.from_bytes(raw[start + 2 : start + 6])
    med = local_pref = -1
    if present & NEXT_HOP_BIT:
        if raw[at + 1 : at + 3] != b"\x03\x04":
            return _IRREGULAR
        at += 7
    if present & _MED_BIT:
        if raw[at + 1 : at + 3] != b"\x04\x04":
            return _IRREGULAR
        med = int.from_bytes(raw[at + 3 : at + 7])
        at += 7
    if present & _LOCAL_PREF_BIT:
        if raw[at + 1 : at + 3] != b"\x05\x04":
            return _IRREGULAR
        local_pref = int.from_bytes(raw[at + 3 : at + 7])
    return raw[3], as_path_length, first_as, med, local_pref


_new: Final = tuple.__new__  # a named tuple made directly: half the cost


def rewrite(raw: bytes, changes: Mapping[int, bytes | None]) -> bytes:
    """A valid block with attributes replaced, added (before the first of a higher code) or, for None,
    removed. Partial stays set where it was (RFC 4271 §5).
    """
    codes: list[int] = []
    pieces: list[bytes] = []
    for flags, code, _value, piece in walk(raw):
        if code not in changes:
            codes.append(code)
            pieces.append(piece)
        elif (value := changes[code]) is not None:
            codes.append(code)
            pieces.append(encode_attribute(code, ROWS[code].flags | flags & _PARTIAL, value))
    for code, value in changes.items():
        if value is not None and code not in codes:
            at = next((index for index, found in enumerate(codes) if found > code), len(codes))
            codes.insert(at, code)
            pieces.insert(at, encode_attribute(code, ROWS[code].flags, value))
    return b"".join(pieces)


def encode_attributes(
    *,
    origin: int = Origin.IGP,
    as_path: AsPath = (),
    next_hop: bytes = b"",
    med: int | None = None,
    local_pref: int | None = None,
    atomic_aggregate: bool = False,
    aggregator: tuple[int, bytes] | None = None,
    communities: Sequence[int] = (),
    originator_id: bytes | None = None,
    cluster_list: Sequence[bytes] = (),
    extended_communities: Sequence[bytes] = (),
    ipv6_extended_communities: Sequence[bytes] = (),
    large_communities: Sequence[tuple[int, int, int]] = (),
    otc: int | None = None,
    unknown: Sequence[tuple[int, int, bytes]] = (),
) -> bytes:
    """A block of typed values, in the order of their codes; the inverse of `AttributeSet`'s attributes.

    NEXT_HOP is put in where `next_hop` has four octets. `unknown` holds (flags, code, value), codes
    ascending.
    """
    values: dict[AttributeCode, bytes | None] = {
        AttributeCode.ORIGIN: bytes((origin,)),
        AttributeCode.AS_PATH: paths.encode(as_path),
        AttributeCode.NEXT_HOP: next_hop if len(next_hop) == 4 else None,
        AttributeCode.MULTI_EXIT_DISC: _four(med),
        AttributeCode.LOCAL_PREF: _four(local_pref),
        AttributeCode.ATOMIC_AGGREGATE: b"" if atomic_aggregate else None,
        AttributeCode.AGGREGATOR: aggregator and aggregator[0].to_bytes(4, "big") + aggregator[1],
        AttributeCode.COMMUNITIES: b"".join(c.to_bytes(4, "big") for c in communities) or None,
        AttributeCode.ORIGINATOR_ID: originator_id,
        AttributeCode.CLUSTER_LIST: b"".join(cluster_list) or None,
        AttributeCode.EXTENDED_COMMUNITIES: b"".join(extended_communities) or None,
        AttributeCode.IPV6_EXTENDED_COMMUNITIES: b"".join(ipv6_extended_communities) or None,
        AttributeCode.LARGE_COMMUNITIES: b"".join(
            part.to_bytes(4, "big") for community in large_communities for part in community
        )
        or None,
        AttributeCode.ONLY_TO_CUSTOMER: _four(otc),
    }
    known = [
        encode_attribute(code, ROWS[code].flags, value) for code, value in values.items() if value is not None
    ]
    return b"".join(known + [encode_attribute(code, flags, value) for flags, code, value in unknown])


def _four(value: int | None) -> bytes | None:
    return None if value is None else value.to_bytes(4, "big")


def for_old_speaker(raw: bytes) -> bytes:
    """A block as a two-octet speaker must get it (RFC 6793 §4.2.2).

    AS_PATH and AGGREGATOR shrink to two octets per AS number; where that loses anything, AS4_PATH (without
    confederation segments) and AS4_AGGREGATOR carry it along.
    """
    parts: list[tuple[int, bytes]] = []
    for flags, code, value, piece in walk(raw):
        if code == AttributeCode.AS_PATH:
            path = paths.decode(value)
            parts.append((code, encode_attribute(code, flags, paths.encode(path, width=2))))
            true_path = paths.without_confederation(path)
            if any(number > 0xFFFF for _kind, numbers in true_path for number in numbers):
                extra = AttributeCode.AS4_PATH
                parts.append((extra, encode_attribute(extra, ROWS[extra].flags, paths.encode(true_path))))
        elif code == AttributeCode.AGGREGATOR:
            asn = int.from_bytes(value[:4], "big")
            short = (asn if asn <= 0xFFFF else AS_TRANS).to_bytes(2, "big")
            parts.append((code, encode_attribute(code, flags, short + value[4:])))
            if asn > 0xFFFF:
                extra = AttributeCode.AS4_AGGREGATOR
                parts.append((extra, encode_attribute(extra, ROWS[extra].flags, value)))
        else:
            parts.append((code, piece))
    return b"".join(piece for _code, piece in sorted(parts, key=lambda part: part[0]))
