"""Export towards other ASes: the quick way and the careful way must agree."""

from hypothesis import given, settings
from hypothesis import strategies as st

from bgpd.rib.path import Path, Source, SourceKind
from bgpd.rib.reflection import Speaker, Target, export_to, told_to
from bgpd.wire.attributes import AttributeSet, rewrite
from bgpd.wire.examination import encode_attribute
from bgpd.wire.iana import AttributeCode, Role, SegmentType, WellKnownCommunity
from bgpd.wire.nlri import IPV4_UNICAST, IPV6_UNICAST, Family

AS_PATH, NEXT_HOP, MED = AttributeCode.AS_PATH, AttributeCode.NEXT_HOP, AttributeCode.MULTI_EXIT_DISC
LOCAL_PREF, COMMUNITIES, AIGP = AttributeCode.LOCAL_PREF, AttributeCode.COMMUNITIES, AttributeCode.AIGP
TOLD = 0xC0  # a flag octet: optional, transitive

numbers = st.one_of(st.lists(st.integers(1, 70000), max_size=4), st.just(list(range(1, 63))))
numbers |= st.one_of(st.just(list(range(1, 64))), st.just(list(range(1, 256))))


@st.composite
def blocks(draw: st.DrawFn) -> list[tuple[int, bytes]]:
    """Attributes with their encoding, mostly in the order of their codes."""
    segments = draw(st.lists(st.tuples(st.sampled_from([1, 2, 2, 2, 3]), numbers), max_size=2))
    path = b"".join(
        bytes((kind, len(path))) + b"".join(number.to_bytes(4, "big") for number in path)
        for kind, path in segments
        if path
    )
    flags = draw(st.sampled_from([0x40, 0x40, 0x50]))  # some speakers give a short path two octets of length
    pieces: list[tuple[int, bytes]] = [
        (AttributeCode.ORIGIN, encode_attribute(AttributeCode.ORIGIN, 0x40, b"\0")),
        (AS_PATH, encode_attribute(AS_PATH, 0x40, path)),
        (NEXT_HOP, encode_attribute(NEXT_HOP, 0x40, bytes((192, 0, 2, 9)))),
    ]
    if flags == 0x50 and len(path) < 256:
        pieces[1] = (AS_PATH, b"\x50\x02" + len(path).to_bytes(2, "big") + path)
    optional: list[tuple[int, bytes]] = [
        (MED, encode_attribute(MED, 0x80, bytes((0, 0, 0, 7)))),
        (LOCAL_PREF, encode_attribute(LOCAL_PREF, 0x40, bytes((0, 0, 0, 200)))),
        (AttributeCode.ATOMIC_AGGREGATE, encode_attribute(AttributeCode.ATOMIC_AGGREGATE, 0x40, b"")),
        (COMMUNITIES, encode_attribute(COMMUNITIES, TOLD, bytes((1, 2, 3, 4)))),
        (AIGP, encode_attribute(AIGP, 0x80, b"\1\0\x0b" + bytes(8))),
        (99, encode_attribute(99, 0xE0, b"unknown")),
    ]
    pieces += [piece for piece in optional if draw(st.booleans())]
    return list(draw(st.permutations(pieces))) if draw(st.integers(0, 4)) == 0 else pieces


@settings(deadline=None, max_examples=600)
@given(
    block=blocks(),
    kind=st.sampled_from([SourceKind.CLIENT, SourceKind.EXTERNAL]),
    next_hop=st.sampled_from([None, bytes((192, 0, 2, 1)), b"\x20\x01" + bytes(14)]),
)
def test_what_another_as_is_told_is_the_same_by_the_quick_way_and_the_careful_one(
    block: list[tuple[int, bytes]], kind: SourceKind, next_hop: bytes | None
) -> None:
    asn = 4200000000
    attributes = AttributeSet.of(b"".join(piece for _code, piece in block))
    path = Path(Source(kind, "192.0.2.7", bytes((10, 0, 0, 7)), 65007), attributes)
    target = Target(SourceKind.EXTERNAL, local_asn=asn, next_hop=next_hop)
    told = export_to(target, Speaker(65000, bytes(4), bytes(4)), IPV4_UNICAST)(path)
    if told is None:  # the path has no room for one AS more
        return
    kept = [(kind, numbers) for kind, numbers in attributes.as_path if kind != SegmentType.AS_CONFED_SEQUENCE]
    if kept and kept[0][0] == SegmentType.AS_SEQUENCE and len(kept[0][1]) < 255:
        kept[0] = (SegmentType.AS_SEQUENCE, (asn, *kept[0][1]))
    else:
        kept.insert(0, (SegmentType.AS_SEQUENCE, (asn,)))
    value = b"".join(
        bytes((kind, len(numbers))) + b"".join(number.to_bytes(4, "big") for number in numbers)
        for kind, numbers in kept
    )
    changes: dict[int, bytes | None] = {AS_PATH: value, LOCAL_PREF: None, AIGP: None}
    if next_hop is not None:
        changes[NEXT_HOP] = next_hop if len(next_hop) == 4 else None
        assert told[1] == next_hop
    if attributes.as_path:
        changes[MED] = None
    assert told[0] == rewrite(attributes.raw, changes)


OUTSIDE = [
    b"",
    bytes(16),
    b"\xfe\x80" + bytes(14),
    b"\x20\x01" + bytes(14),
    bytes(16) + b"\xfe\x80" + bytes(14),
]


@settings(deadline=None, max_examples=600)
@given(
    block=blocks(),
    community=st.sampled_from([None, *WellKnownCommunity]),
    otc=st.booleans(),
    padding=st.sampled_from([0, 0, 2000, 65000]),
    outside=st.sampled_from(OUTSIDE),
    kinds=st.tuples(st.sampled_from(SourceKind), st.sampled_from(SourceKind)),
    family=st.sampled_from([IPV4_UNICAST, IPV6_UNICAST]),
    asn4=st.booleans(),
    long_lived=st.tuples(st.booleans(), st.booleans()),
    extended=st.booleans(),
    role=st.sampled_from([None, *Role]),
    next_hop=st.sampled_from([None, bytes((192, 0, 2, 1)), b"\x20\x01" + bytes(14)]),
)
def test_whether_a_path_is_told_is_the_same_with_what_is_told_and_without(
    block: list[tuple[int, bytes]],
    community: int | None,
    otc: bool,
    padding: int,
    outside: bytes,
    kinds: tuple[SourceKind, SourceKind],
    family: Family,
    asn4: bool,
    long_lived: tuple[bool, bool],
    extended: bool,
    role: Role | None,
    next_hop: bytes | None,
) -> None:
    pieces = [piece for code, piece in block if not (outside and code == NEXT_HOP) and code != COMMUNITIES]
    if community is not None:
        pieces.append(encode_attribute(COMMUNITIES, TOLD, int(community).to_bytes(4, "big")))
    if otc:
        pieces.append(encode_attribute(AttributeCode.ONLY_TO_CUSTOMER, TOLD, bytes((0, 0, 0, 7))))
    if padding:
        pieces.append(encode_attribute(100, TOLD, bytes(padding)))
    source = Source(kinds[0], "192.0.2.7", bytes((10, 0, 0, 7)), 65007)
    attributes = AttributeSet.of(b"".join(pieces), outside)
    path = Path(source, attributes, long_lived_stale=long_lived[0])
    target = Target(kinds[1], asn4, 65000, next_hop, long_lived[1], extended, role)
    export = export_to(target, Speaker(65000, bytes(4), bytes((10, 0, 0, 1))), family)
    assert told_to(target, family, export)(path) is (export(path) is not None)
