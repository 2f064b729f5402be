"""Attribute sets: what they hold, what they decode, and that they are shared and let go."""

import tracemalloc
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpd.wire.attributes import AttributeSet, encode_attributes, rewrite, walk
from bgpd.wire.capabilities import Negotiated
from bgpd.wire.iana import AttributeCode, Origin, SegmentType, WellKnownCommunity
from bgpd.wire.interner import Interner
from bgpd.wire.nlri import IPV4_UNICAST, IPV6_UNICAST, Family
from bgpd.wire.update import UpdateDecoder
from tests.wire.samples import (
    AS_PATH,
    BOTH,
    LOCAL_PREF,
    MANDATORY,
    NEXT_HOP,
    NEXT_HOP6,
    ORIGIN,
    PREFIX,
    PREFIX6,
    announced,
    attribute,
    body,
    decoder,
    mp_reach,
)

NEGOTIATED = Negotiated(families=frozenset(BOTH))
SEQUENCE = SegmentType.AS_SEQUENCE
number = st.integers(0, 2**32 - 1)
identifiers = st.binary(min_size=4, max_size=4)


def several(item: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(item, max_size=70).map(tuple)


typed = st.fixed_dictionaries(
    {
        "origin": st.sampled_from(Origin),
        "as_path": st.lists(
            st.tuples(
                st.sampled_from(SegmentType),
                st.lists(st.integers(1, 2**32 - 1), min_size=1, max_size=5).map(tuple),
            ),
            max_size=3,
        ).map(tuple),
        "next_hop": st.just(b"\x0a\0\0\1"),
        "med": st.none() | number,
        "local_pref": st.none() | number,
        "atomic_aggregate": st.booleans(),
        "aggregator": st.none() | st.tuples(st.integers(1, 2**32 - 1), identifiers),
        "communities": several(number),
        "originator_id": st.none() | identifiers,
        "cluster_list": several(identifiers),
        "extended_communities": several(st.binary(min_size=8, max_size=8)),
        "ipv6_extended_communities": several(st.binary(min_size=20, max_size=20)),
        "large_communities": st.lists(st.tuples(number, number, number), max_size=70, unique=True).map(tuple),
        "otc": st.none() | st.integers(1, 2**32 - 1),
        "unknown": st.lists(
            st.tuples(st.just(0xE0), st.integers(200, 254), st.binary(max_size=200)),
            unique_by=lambda item: item[1],
        ).map(lambda found: tuple(sorted(found, key=lambda item: item[1]))),
    }
)


@given(typed)
def test_typed_values_survive_the_wire(values: dict[str, Any]) -> None:
    update = decoder(internal=True).decode(body(encode_attributes(**values), PREFIX))
    assert announced(update) == [(IPV4_UNICAST, PREFIX)]
    assert list(update.errors) == []
    found = update.reach[0].attributes
    assert {name: getattr(found, name) for name in values} == values
    assert found.raw == encode_attributes(**values)


@given(typed)
def test_quick_and_careful_reading_agree(values: dict[str, Any]) -> None:
    block = encode_attributes(**values)
    quick, careful = Interner(internal=True), decoder(internal=True)
    made = quick.admit(block)
    assert made is not None
    withdrawn_too = careful.decode(body(block + attribute(0x80, 250, b""), PREFIX)).reach[0].attributes
    assert (made.raw, made.present) == (withdrawn_too.raw, withdrawn_too.present)


def test_rfc7606_4_what_ends_within_an_attribute_is_left_to_careful_reading() -> None:
    mandatory = encode_attributes(next_hop=NEXT_HOP[3:])
    others = [
        attribute(0x40, 5, bytes(4)),
        attribute(0xC0, 8, bytes(range(8))),
        attribute(0xE0, 99, b"unknown"),
        b"\xf0\x62\0\4long",
    ]
    block = mandatory + b"".join(others)
    ends = {len(mandatory + b"".join(others[:count])) for count in range(len(others) + 1)}
    met = Interner(internal=True)
    assert met.admit(block) is not None
    for end in range(len(block)):
        for interner in (met, Interner(internal=True)):
            assert (interner.admit(block[:end]) is not None) == (end in ends)


def test_absent_attributes_read_as_none_or_empty() -> None:
    bare = AttributeSet.of(ORIGIN + attribute(0x40, 2, b""), next_hop=NEXT_HOP6)
    assert (bare.med, bare.local_pref, bare.otc, bare.aggregator, bare.originator_id) == (None,) * 5
    assert (bare.communities, bare.cluster_list, bare.large_communities, bare.unknown) == ((),) * 4
    assert (bare.as_path, bare.compared.as_path_length, bare.compared.first_as, bare.atomic_aggregate) == (
        (),
        0,
        0,
        False,
    )
    assert bare.next_hop == NEXT_HOP6
    assert AttributeSet.of(MANDATORY).next_hop == NEXT_HOP[3:]


def test_an_attribute_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'weight'"):
        getattr(AttributeSet.of(MANDATORY), "weight")  # noqa: B009  (what is spelled out, mypy refuses)


@dataclass
class Case:
    path: tuple[tuple[SegmentType, tuple[int, ...]], ...]
    first: int


@pytest.mark.parametrize(
    "case",
    [
        Case(((SEQUENCE, (65001, 65002)),), 65001),
        Case(((SegmentType.AS_SET, (65001,)), (SEQUENCE, (65002,))), 0),
        Case(((SegmentType.AS_CONFED_SEQUENCE, (65100,)), (SEQUENCE, (65001,))), 65001),
        Case(((SegmentType.AS_CONFED_SEQUENCE, (65100,)),), 0),
        Case((), 0),
    ],
)
def test_rfc4271_9_1_2_2_first_as(case: Case) -> None:
    assert AttributeSet.of(encode_attributes(as_path=case.path)).compared.first_as == case.first


sequences = st.lists(st.integers(1, 2**32 - 1), max_size=70).map(
    lambda path: ((SEQUENCE, tuple(path)),) * bool(path)
)
plain = st.builds(
    lambda values, path: {**values, "as_path": path, "originator_id": None, "cluster_list": ()},
    typed,
    sequences,
)


@settings(max_examples=300)
@given(plain | plain | typed, st.randoms(use_true_random=False), st.integers(0, 2))
def test_what_is_compared_is_the_same_in_any_order_and_form(
    values: dict[str, Any], random: Random, swaps: int
) -> None:
    """The plain form is read by position, any other attribute by attribute."""
    plain = AttributeSet.of(encode_attributes(**values))
    wanted = plain.compared
    assert (wanted.origin, wanted.med, wanted.local_pref, wanted.originator_id, plain.cluster_list) == tuple(
        values[name] for name in ("origin", "med", "local_pref", "originator_id", "cluster_list")
    )
    assert wanted.cluster_list_length == plain.cluster_list_length == len(values["cluster_list"])
    pieces = [piece for _flags, _code, _value, piece in walk(plain.raw)]
    for _ in range(swaps):
        at = random.randrange(len(pieces) - 1)
        pieces[at : at + 2] = reversed(pieces[at : at + 2])
    long = [
        bytes((piece[0] | 0x10, piece[1], 0)) + piece[2:]
        if not piece[0] & 0x10 and random.random() < 0.3
        else piece
        for piece in pieces
    ]
    assert AttributeSet.of(b"".join(long)).compared == wanted


def test_rfc4271_9_1_2_contains_as_is_exact() -> None:
    path = ((SEQUENCE, (65001, 0x00010000, 7)), (SegmentType.AS_SET, (9, 9)))
    attributes = AttributeSet.of(encode_attributes(as_path=path, med=65002))
    assert [attributes.contains_as(asn) for asn in (65001, 0x00010000, 7, 9)] == [True] * 4
    assert not attributes.contains_as(65002)  # the same octets, but in MULTI_EXIT_DISC
    assert not attributes.contains_as(0xFDE90001)  # the same octets, but across two AS numbers
    assert [attributes.count_as(asn) for asn in (9, 7, 65002, 1)] == [2, 1, 0, 0]


def test_rfc1997_well_known_communities_are_found() -> None:
    attributes = AttributeSet.of(
        encode_attributes(communities=(1, WellKnownCommunity.NO_EXPORT), med=WellKnownCommunity.NO_ADVERTISE)
    )
    assert attributes.has_community(WellKnownCommunity.NO_EXPORT)
    assert not attributes.has_community(WellKnownCommunity.NO_ADVERTISE)


def test_rfc4456_8_reflection_sets_originator_and_cluster_once() -> None:
    first = AttributeSet.of(MANDATORY + LOCAL_PREF).reflected(b"\1\1\1\1", b"\x0a\0\0\x0a")
    once = AttributeSet.of(first)
    assert first.startswith(MANDATORY + LOCAL_PREF)
    assert (once.originator_id, once.cluster_list) == (b"\1\1\1\1", (b"\x0a\0\0\x0a",))
    twice = AttributeSet.of(once.reflected(b"\2\2\2\2", b"\x0a\0\0\x0b"))
    assert (twice.originator_id, twice.cluster_list) == (b"\1\1\1\1", (b"\x0a\0\0\x0b", b"\x0a\0\0\x0a"))
    assert twice.raw.startswith(MANDATORY + LOCAL_PREF)


def test_rfc4456_8_a_cluster_id_is_found_only_where_one_begins() -> None:
    found = AttributeSet.of(encode_attributes(cluster_list=(b"\x0a\0\0\x0a", b"\0\0\x0a\0"), med=0x01020304))
    assert [found.passed(each) for each in (b"\x0a\0\0\x0a", b"\0\0\x0a\0")] == [True, True]
    assert [found.passed(each) for each in (b"\0\0\x0a\0"[1:] + b"\0", b"\0\x0a\0\0", b"\1\2\3\4")] == [
        False
    ] * 3
    assert not AttributeSet.of(MANDATORY).passed(b"\0\0\0\1")


def test_a_long_cluster_list_is_kept_as_its_octets_only() -> None:
    """Typed it takes fifteen times as much, and it would stay as long as the route."""
    identifiers = [number.to_bytes(4, "big") for number in range(15_000)]
    attributes = AttributeSet.of(encode_attributes(cluster_list=identifiers))
    tracemalloc.start()
    assert attributes.passed(identifiers[-1])
    assert attributes.compared.cluster_list_length == len(identifiers)
    kept, _peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 10_000


def test_rfc4456_8_reflection_with_only_one_of_the_two_present() -> None:
    half = AttributeSet.of(MANDATORY + attribute(0x80, 9, b"\3\3\3\3"))
    found = AttributeSet.of(half.reflected(b"\1\1\1\1", b"\x0a\0\0\x0a"))
    assert (found.originator_id, found.cluster_list) == (b"\3\3\3\3", (b"\x0a\0\0\x0a",))


def test_rewriting_replaces_adds_in_order_and_removes() -> None:
    raw = encode_attributes(
        as_path=((SEQUENCE, (1,)),), next_hop=b"\x0a\0\0\1", local_pref=100, communities=(5,)
    )
    changed = rewrite(raw, {AttributeCode.LOCAL_PREF: None, AttributeCode.MULTI_EXIT_DISC: bytes(4)})
    assert [code for _flags, code, _value in AttributeSet.of(changed).items()] == [1, 2, 3, 4, 8]
    assert rewrite(changed, {AttributeCode.MULTI_EXIT_DISC: b"\0\0\0\7"}) == changed.replace(
        b"\x80\x04\x04" + bytes(4), b"\x80\x04\x04\0\0\0\7"
    )
    assert rewrite(raw, {AttributeCode.MULTI_EXIT_DISC: None}) == raw
    assert AttributeSet.of(raw).rewritten({AttributeCode.LOCAL_PREF: None}).find(b"\x40\x05") < 0


def test_rfc4271_5_partial_stays_where_an_attribute_is_replaced() -> None:
    raw = MANDATORY + bytes.fromhex("e00804fde80001")
    assert rewrite(raw, {AttributeCode.COMMUNITIES: bytes(8)}) == MANDATORY + b"\xe0\x08\x08" + bytes(8)
    assert rewrite(MANDATORY, {AttributeCode.COMMUNITIES: bytes(4)}) == MANDATORY + b"\xc0\x08\x04" + bytes(4)
    assert rewrite(raw, {AttributeCode.COMMUNITIES: bytes(256)})[len(MANDATORY)] == 0xF0


def test_equal_attributes_are_one_object() -> None:
    one = decoder()
    first = one.decode(body(MANDATORY, PREFIX)).reach[0].attributes
    assert one.decode(body(MANDATORY, b"\x18\x0a\1\1")).reach[0].attributes is first
    assert one.decode(body(MANDATORY + attribute(0x80, 253, b""), PREFIX)).reach[0].attributes is first
    assert one.decode(body(MANDATORY + attribute(0x80, 4, bytes(4)), PREFIX)).reach[0].attributes is not first


def test_equal_attributes_are_one_object_among_sessions_of_a_context() -> None:
    interner = Interner()
    from_one, from_other = (
        UpdateDecoder(NEGOTIATED, False, interner).decode(body(MANDATORY, PREFIX)).reach[0].attributes
        for _session in range(2)
    )
    assert from_one is from_other


def test_mp_reach_does_not_count_among_the_attributes() -> None:
    one = decoder()
    sets = {
        one.decode(body(block)).reach[0].attributes
        for block in (
            mp_reach(PREFIX6) + ORIGIN + AS_PATH,
            mp_reach(b"\x20\x20\x01\x0d\xb9") + ORIGIN + AS_PATH,
            ORIGIN + mp_reach() + AS_PATH,
            ORIGIN + AS_PATH + NEXT_HOP + mp_reach(),
        )
    }
    assert [(found.raw, found.next_hop) for found in sets] == [(ORIGIN + AS_PATH, NEXT_HOP6)]
    other = one.decode(body(mp_reach(next_hop=NEXT_HOP6[:-1] + b"\2") + ORIGIN + AS_PATH)).reach[0].attributes
    assert other not in sets


def test_an_ipv4_next_hop_in_mp_reach_gives_the_same_set_as_next_hop() -> None:
    one = decoder()
    classic = one.decode(body(MANDATORY + LOCAL_PREF[:0], PREFIX)).reach[0].attributes
    in_mp_reach = one.decode(body(mp_reach(PREFIX, NEXT_HOP[3:], IPV4_UNICAST) + ORIGIN + AS_PATH))
    assert announced(in_mp_reach) == [(IPV4_UNICAST, PREFIX)]
    assert in_mp_reach.reach[0].attributes is classic
    assert classic.next_hop == NEXT_HOP[3:]


def test_an_interner_of_another_context_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        UpdateDecoder(NEGOTIATED, True, Interner(internal=False))


def block_with(number: int) -> bytes:
    return MANDATORY + attribute(0x80, 4, number.to_bytes(4, "big"))


def test_a_sweep_drops_only_what_nobody_holds() -> None:
    one = decoder()
    held = [one.decode(body(block_with(n), PREFIX)).reach[0].attributes for n in range(10)]
    for n in range(10, 30):
        one.decode(body(block_with(n), PREFIX))
    one.decode(body(mp_reach() + ORIGIN + AS_PATH))
    assert len(one.interner) == 31
    assert one.interner.sweep() == 21
    assert len(one.interner) == 10
    again = [one.decode(body(block_with(n), PREFIX)).reach[0].attributes for n in range(10)]
    assert all(a is b for a, b in zip(held, again, strict=True))


def test_a_peer_that_never_repeats_itself_cannot_grow_the_interner() -> None:
    one = decoder()
    long = b"".join(attribute(0xE0, code, bytes(250)) for code in range(200, 212))
    for n in range(5000):
        one.decode(body(block_with(n) + long, PREFIX))
    held = sum(len(key) for key in one.interner.sets)
    assert held <= Interner.SWEEP_FLOOR


def test_lookups_of_attributes_and_odd_blocks_stay_bounded() -> None:
    one = decoder()
    for n in range(Interner.FACTS + 100):
        one.decode(body(block_with(n), PREFIX))
        if n < Interner.MEMOS + 100:
            one.decode(body(block_with(n) + LOCAL_PREF, PREFIX))
    assert len(one.interner._facts) <= Interner.FACTS
    assert len(one.interner._memos) <= Interner.MEMOS


def test_two_octet_sessions_do_not_take_a_block_for_its_four_octet_twin() -> None:
    old = decoder(internal=True, asn4=False)
    wide = ORIGIN + attribute(0x40, 2, bytes.fromhex("0201 0000fde9")) + NEXT_HOP
    narrow = ORIGIN + attribute(0x40, 2, bytes.fromhex("0201 fde9")) + NEXT_HOP
    for _ in range(2):
        found = old.decode(body(narrow, PREFIX)).reach[0].attributes
        assert found.raw == wide
        assert [fault.code for fault in old.decode(body(wide, PREFIX)).errors] == [2]


@pytest.mark.parametrize(("family", "nlri"), [(IPV4_UNICAST, PREFIX), (IPV6_UNICAST, PREFIX6)])
@pytest.mark.parametrize("next_hop", [NEXT_HOP6, NEXT_HOP6 + bytes.fromhex("fe80") + bytes(13) + b"\1"])
def test_rfc8950_3_sets_know_their_next_hop(family: Family, nlri: bytes, next_hop: bytes) -> None:
    update = decoder(extended_next_hop=True).decode(body(mp_reach(nlri, next_hop, family) + ORIGIN + AS_PATH))
    assert announced(update) == [(family, nlri)]
    assert update.reach[0].attributes.next_hop == next_hop
    assert update.reach[0].attributes.raw == ORIGIN + AS_PATH


def test_an_interner_of_two_octets_admits_nothing_verbatim() -> None:
    old = Interner(asn4=False)
    assert old.admit(ORIGIN + attribute(0x40, 2, bytes.fromhex("0201 fde9")) + NEXT_HOP) is None
    assert old.admit(MANDATORY) is None
