"""The recogniser of ordinary blocks says nothing that the table of attributes would not say."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpd.wire.attributes import encode_attributes, walk
from bgpd.wire.iana import SegmentType
from bgpd.wire.interner import Interner
from bgpd.wire.ordinary import recogniser

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


@given(block=blocks, internal=st.booleans(), loopback=st.booleans(), next_hop=st.booleans())
@settings(max_examples=1500, deadline=None)
def test_what_is_recognised_is_what_skimming_finds(
    block: bytes, internal: bool, loopback: bool, next_hop: bool
) -> None:
    present = recogniser(internal=internal, loopback=loopback, next_hop=next_hop)(block)
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
    assert recogniser(internal=True, loopback=True, next_hop=True)(block) == expected


@pytest.mark.parametrize("zero_at", range(3))
def test_rfc7607_2_as_0_is_not_ordinary(zero_at: int) -> None:
    numbers = [65001, 65002, 65003]
    numbers[zero_at] = 0
    block = encode_attributes(as_path=((SEQUENCE, tuple(numbers)),), next_hop=NEXT_HOP)
    assert recogniser(internal=False, loopback=True, next_hop=True)(block) == 0
