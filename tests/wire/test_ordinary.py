"""The recogniser of ordinary blocks says nothing that the table of attributes would not say."""

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpd.wire.attributes import encode_attributes, walk
from bgpd.wire.iana import SegmentType
from bgpd.wire.interner import Interner
from bgpd.wire.ordinary import Recogniser

NEXT_HOP = b"\x0a\x00\x00\x01"
SEQUENCE = SegmentType.AS_SEQUENCE

words = st.binary(min_size=4, max_size=4)
numbers = st.integers(0, 2**32 - 1)


@st.composite
def pieces(draw: st.DrawFn) -> bytes:
    """An attribute: often a plain one, sometimes with odd flags, a wrong length or a wrong value."""
    code = draw(st.sampled_from((1, 2, 3, 4, 5, 6, 8, 9, 10, 16, 32, 7, 99)))
    flags = draw(st.sampled_from((0x40, 0x80, 0xC0, 0x50, 0xE0)))
    usual = {1: 0x40, 2: 0x40, 3: 0x40, 5: 0x40, 6: 0x40, 4: 0x80, 9: 0x80, 10: 0x80}.get(code, 0xC0)
    value = draw(
        st.one_of(
            st.binary(max_size=24),
            st.lists(words, max_size=6).map(b"".join),
            st.sampled_from((b"", b"\0", b"\1", b"\3", NEXT_HOP, b"\xe0\0\0\1", b"\x7f\0\0\1", b"\0\0\0\1")),
            st.lists(words, min_size=1, max_size=5).map(lambda each: bytes((2, len(each))) + b"".join(each)),
        )
    )
    return bytes((draw(st.sampled_from((usual, usual, usual, flags))), code, len(value))) + value


def code_of(piece: bytes) -> int:
    return piece[1]


def in_order(each: list[bytes]) -> bytes:
    ordered = sorted(each, key=code_of)
    return b"".join(ordered)


blocks = st.lists(pieces(), max_size=8).map(in_order)


def usual(med: bool, communities: int, numbers: int = 3) -> bytes:
    """What a session's blocks look like again and again."""
    path = ((SEQUENCE, tuple(range(1, numbers + 1))),)
    return encode_attributes(
        as_path=path, next_hop=NEXT_HOP, med=7 if med else None, local_pref=100, communities=[9] * communities
    )


WELL_KNOWN = [usual(med, communities) for med in (False, True) for communities in range(4)]


@pytest.fixture(scope="module")
def versed() -> dict[tuple[bool, bool, bool], Recogniser]:
    """Recognisers that have met the usual blocks often, one for each kind of session."""
    met = {
        (internal, loopback, next_hop): Recogniser(internal=internal, loopback=loopback, next_hop=next_hop)
        for internal in (False, True)
        for loopback in (False, True)
        for next_hop in (False, True)
    }
    for (internal, _, next_hop), recogniser in met.items():
        left_out = {*(() if next_hop else (3,)), *(() if internal else (5,))}
        for block in WELL_KNOWN:
            kept = b"".join(piece for _, code, _, piece in walk(block) if code not in left_out)
            for _ in range(Recogniser.WORTHWHILE + 1):
                assert recogniser.present(kept)
        assert recogniser._expected, "the second time round they are told by their own expressions"
    return met


@given(block=blocks, internal=st.booleans(), loopback=st.booleans(), next_hop=st.booleans())
@settings(max_examples=1500, deadline=None)
def test_what_is_recognised_is_what_skimming_finds(
    versed: dict[tuple[bool, bool, bool], Recogniser],
    block: bytes,
    internal: bool,
    loopback: bool,
    next_hop: bool,
) -> None:
    present = Recogniser(internal=internal, loopback=loopback, next_hop=next_hop).present(block)
    assert versed[internal, loopback, next_hop].present(block) == present
    if present:
        assert present == Interner(True, internal, loopback)._skim(block)
        assert bool(present >> 3 & 1) == next_hop


@given(
    as_path=st.lists(st.integers(1, 2**32 - 1), max_size=24),
    med=st.none() | numbers,
    local_pref=st.none() | numbers,
    communities=st.lists(numbers, max_size=16),
    originator=st.none() | words,
    clusters=st.lists(words, max_size=8),
)
@settings(max_examples=300, deadline=None)
def test_ordinary_blocks_are_recognised(
    as_path: list[int],
    med: int | None,
    local_pref: int | None,
    communities: list[int],
    originator: bytes | None,
    clusters: list[bytes],
) -> None:
    """Otherwise the quick way would be quick for nobody."""
    block = encode_attributes(
        as_path=((SEQUENCE, tuple(as_path)),) if as_path else (),
        next_hop=NEXT_HOP,
        med=med,
        local_pref=local_pref,
        communities=communities,
        originator_id=originator,
        cluster_list=clusters,
    )
    expected = sum(1 << code for _, code, _, _ in walk(block))
    assert Recogniser(internal=True, loopback=True, next_hop=True).present(block) == expected


@pytest.mark.parametrize("count", range(1, 9))
def test_rfc8092_3_large_communities_are_ordinary_if_none_repeats(count: int) -> None:
    recogniser = Recogniser(internal=False, loopback=True, next_hop=True)
    different = [(7, 7, 7 + number) for number in range(count)]

    def present(items: list[tuple[int, int, int]]) -> int:
        path = ((SEQUENCE, (65001,)),)
        return recogniser.present(encode_attributes(as_path=path, next_hop=NEXT_HOP, large_communities=items))

    for _ in range(2):  # a selection that is new, and one that has an expression of its own
        for one, other in combinations(range(count), 2):
            assert not present([*different[:other], different[one], *different[other + 1 :]])
        for _ in range(Recogniser.WORTHWHILE + 2):
            assert present(different) >> 32 & 1


def test_a_list_of_large_communities_without_end_holds_nobody_up() -> None:
    """To compare each of these with all others would take hours."""
    path = ((SEQUENCE, (65001,)),)
    endless = b"".join(number.to_bytes(12, "big") for number in range(1_000_000))
    block = encode_attributes(as_path=path, next_hop=NEXT_HOP) + b"\xc0\x20" + endless
    assert not Recogniser(internal=False, loopback=True, next_hop=True).present(block)


@pytest.mark.parametrize("zero_at", range(3))
def test_rfc7607_2_as_0_is_not_ordinary(zero_at: int) -> None:
    numbers = [65001, 65002, 65003]
    numbers[zero_at] = 0
    block = encode_attributes(as_path=((SEQUENCE, tuple(numbers)),), next_hop=NEXT_HOP)
    assert Recogniser(internal=False, loopback=True, next_hop=True).present(block) == 0


@given(
    med=st.booleans(),
    communities=st.integers(0, 4),
    numbers=st.integers(1, 12),
    at=st.integers(0, 80),
    octet=st.integers(0, 255),
)
@settings(max_examples=1500, deadline=None)
def test_who_has_met_such_blocks_often_says_the_same_of_a_spoilt_one(
    versed: dict[tuple[bool, bool, bool], Recogniser],
    med: bool,
    communities: int,
    numbers: int,
    at: int,
    octet: int,
) -> None:
    """One octet of a usual block is another: the expression of its own must not be the laxer one."""
    block = bytearray(usual(med, communities, numbers))
    block[at % len(block)] = octet
    new = Recogniser(internal=True, loopback=False, next_hop=True)
    assert versed[True, False, True].present(bytes(block)) == new.present(bytes(block))
