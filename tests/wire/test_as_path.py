"""AS paths, and RFC 6793 between speakers of two and of four octets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.wire import as_path
from bgpd.wire.as_path import AsPath
from bgpd.wire.attributes import AttributeSet, encode_attributes, for_old_speaker
from bgpd.wire.errors import ErrorAction
from bgpd.wire.iana import AttributeCode, SegmentType
from bgpd.wire.nlri import IPV4_UNICAST
from tests.wire.samples import NEXT_HOP, ORIGIN, PREFIX, announced, attribute, body, decoder, withdrawn

SEQUENCE, SET = SegmentType.AS_SEQUENCE, SegmentType.AS_SET
CONFED_SEQUENCE, CONFED_SET = SegmentType.AS_CONFED_SEQUENCE, SegmentType.AS_CONFED_SET
BIG = 4200000001

numbers = st.integers(1, 2**32 - 1)


def paths(kinds: st.SearchStrategy[SegmentType]) -> st.SearchStrategy[AsPath]:
    segments = st.tuples(kinds, st.lists(numbers, min_size=1, max_size=6).map(tuple))
    return st.lists(segments, max_size=4).map(tuple)


any_paths = paths(st.sampled_from(SegmentType))
plain_paths = paths(st.sampled_from([SEQUENCE, SET]))


@given(any_paths)
def test_decode_inverts_encode(path: AsPath) -> None:
    value = as_path.encode(path)
    assert as_path.fault_of(value) is None
    assert as_path.fits(value)
    assert as_path.decode(value) == path


@given(st.binary(max_size=40), st.sampled_from([2, 4]))
def test_what_has_no_fault_can_be_decoded_and_encoded(value: bytes, width: int) -> None:
    if as_path.fault_of(value, width) is None:
        assert as_path.encode(as_path.decode(value, width), width) == value


def test_a_sequence_of_more_than_255_becomes_several_segments() -> None:
    long = tuple(range(1, 767))
    path = as_path.decode(as_path.encode(((SEQUENCE, long),)))
    assert [len(segment[1]) for segment in path] == [255, 255, 255, 1]
    assert sum((segment[1] for segment in path), ()) == long


@pytest.mark.parametrize(
    ("path", "length"),
    [
        ((), 0),
        (((SEQUENCE, (1, 2, 3)),), 3),
        (((SEQUENCE, (1, 2)), (SET, (3, 4, 5))), 3),
        (((CONFED_SEQUENCE, (1, 2)), (CONFED_SET, (9,)), (SEQUENCE, (3,))), 1),
    ],
)
def test_rfc4271_9_1_2_2_length_counts_a_set_as_one(path: AsPath, length: int) -> None:
    assert as_path.length_of(path) == length


def received(path: AsPath, *extra: bytes) -> AttributeSet:
    """The set an old speaker's UPDATE becomes."""
    short = attribute(0x40, 2, as_path.encode(path, width=2))
    update = decoder(internal=True, asn4=False).decode(
        body(ORIGIN + short + NEXT_HOP + b"".join(extra), PREFIX)
    )
    assert announced(update) == [(IPV4_UNICAST, PREFIX)]
    return update.reach[0].attributes


def as4_path(path: AsPath) -> bytes:
    return attribute(0xC0, 17, as_path.encode(path))


@given(plain_paths)
def test_rfc6793_4_2_2_what_an_old_speaker_is_told_comes_back_whole(path: AsPath) -> None:
    raw = encode_attributes(as_path=path, next_hop=b"\x0a\0\0\1")
    old = for_old_speaker(raw)
    update = decoder(internal=True, asn4=False).decode(body(old, PREFIX))
    assert flat(update.reach[0].attributes.as_path) == flat(path)
    codes = [code for _flags, code, _value in AttributeSet.of(old).items()]
    assert codes == sorted(codes)
    assert (17 in codes) is any(number > 0xFFFF for _kind, some in path for number in some)


def flat(path: AsPath) -> list[tuple[SegmentType, tuple[int, ...]]]:
    """Sequences that meet, joined: where a sequence was cut carries no meaning."""
    joined: list[tuple[SegmentType, tuple[int, ...]]] = []
    for kind, some in path:
        if joined and kind == joined[-1][0] == SEQUENCE:
            joined[-1] = (kind, joined[-1][1] + some)
        else:
            joined.append((kind, some))
    return joined


@given(plain_paths)
def test_rfc6793_4_2_2_an_old_speakers_own_as_stays_in_front(path: AsPath) -> None:
    old = as_path.decode(as_path.encode(path, width=2), width=2)
    prepended: AsPath = ((SEQUENCE, (64999,)), *old)
    assert flat(received(prepended, as4_path(path)).as_path) == flat(((SEQUENCE, (64999,)), *path))


def test_rfc6793_4_2_3_as4_path_longer_than_as_path_is_ignored() -> None:
    path: AsPath = ((SEQUENCE, (64999, 23456)),)
    assert received(path, as4_path(((SEQUENCE, (1, 2, BIG)),))).as_path == path


def test_rfc6793_4_2_3_sets_count_one() -> None:
    path: AsPath = ((SEQUENCE, (64999, 23456)), (SET, (23456, 3)))
    assert received(path, as4_path(((SEQUENCE, (BIG,)), (SET, (BIG, 3))))).as_path == (
        (SEQUENCE, (64999, BIG)),
        (SET, (BIG, 3)),
    )


def test_rfc6793_4_2_3_aggregator_of_a_real_as_voids_as4_attributes() -> None:
    path: AsPath = ((SEQUENCE, (64999, 23456)),)
    found = received(
        path,
        attribute(0xC0, 7, bytes.fromhex("fde8 0a000001")),
        as4_path(((SEQUENCE, (BIG,)),)),
        attribute(0xC0, 18, BIG.to_bytes(4, "big") + b"\x0a\0\0\2"),
    )
    assert found.as_path == path
    assert found.aggregator == (65000, b"\x0a\0\0\1")
    assert found.value(18) is None


def test_rfc6793_4_2_3_an_aggregator_of_a_real_as_alone_voids_nothing() -> None:
    """AS4_AGGREGATOR is sent only beside AS_TRANS: an ordinary aggregate has a real AS and AS4_PATH."""
    raw = encode_attributes(
        as_path=((SEQUENCE, (64999, BIG)),), next_hop=NEXT_HOP[3:], aggregator=(64999, b"\x0a\0\0\1")
    )
    found = decoder(internal=True, asn4=False).decode(body(for_old_speaker(raw), PREFIX)).reach[0].attributes
    assert found.as_path == ((SEQUENCE, (64999, BIG)),)
    assert found.aggregator == (64999, b"\x0a\0\0\1")


@pytest.mark.parametrize(("segments", "fits"), [(64, True), (65, False)])
def test_rfc7606_7_2_a_path_too_long_in_four_octets_is_withdrawn(segments: int, fits: bool) -> None:
    """With extended messages an old speaker can say twice what an attribute of ours holds."""
    value = as_path.encode(((SEQUENCE, (64999,) * 255),) * segments, width=2)
    long = bytes((0x50, 2)) + len(value).to_bytes(2, "big") + value
    update = decoder(internal=True, asn4=False).decode(body(ORIGIN + long + NEXT_HOP, PREFIX))
    assert (announced(update), withdrawn(update)) == (
        ([(IPV4_UNICAST, PREFIX)], []) if fits else ([], [(IPV4_UNICAST, PREFIX)])
    )
    assert [(fault.code, fault.action) for fault in update.errors] == (
        [] if fits else [(AttributeCode.AS_PATH, ErrorAction.TREAT_AS_WITHDRAW)]
    )


def test_rfc6793_4_2_3_as4_aggregator_replaces_as_trans() -> None:
    path: AsPath = ((SEQUENCE, (64999, 23456)),)
    found = received(
        path,
        attribute(0xC0, 7, bytes.fromhex("5ba0 0a000001")),
        as4_path(((SEQUENCE, (BIG,)),)),
        attribute(0xC0, 18, BIG.to_bytes(4, "big") + b"\x0a\0\0\1"),
    )
    assert found.as_path == ((SEQUENCE, (64999, BIG)),)
    assert found.aggregator == (BIG, b"\x0a\0\0\1")


def test_rfc6793_4_2_3_leading_and_adjacent_confederation_segments_are_prepended() -> None:
    path: AsPath = (
        (CONFED_SEQUENCE, (65100,)),
        (SEQUENCE, (64999,)),
        (CONFED_SET, (65101,)),
        (SEQUENCE, (23456,)),
    )
    assert received(path, as4_path(((SEQUENCE, (BIG,)),))).as_path == (
        (CONFED_SEQUENCE, (65100,)),
        (SEQUENCE, (64999,)),
        (CONFED_SET, (65101,)),
        (SEQUENCE, (BIG,)),
    )


def test_rfc6793_3_confederation_segments_in_as4_path_are_discarded() -> None:
    path: AsPath = ((SEQUENCE, (64999, 23456)),)
    broken = as4_path(((CONFED_SEQUENCE, (65100,)), (SEQUENCE, (BIG,))))
    assert received(path, broken).as_path == ((SEQUENCE, (64999, BIG)),)


@pytest.mark.parametrize(
    "value", ["", "02", "0201 0000", "02ff 0000fde9", "0200", "0701 0000fde9", "0201 00000000"]
)
def test_rfc6793_6_malformed_as4_path_is_discarded(value: str) -> None:
    path: AsPath = ((SEQUENCE, (64999, 23456)),)
    assert received(path, attribute(0xC0, 17, bytes.fromhex(value))).as_path == path


@pytest.mark.parametrize("value", ["", "0000fde9 0a0000", "0000fde9 0a000001 00"])
def test_rfc6793_6_malformed_as4_aggregator_is_discarded(value: str) -> None:
    path: AsPath = ((SEQUENCE, (64999, 23456)),)
    found = received(
        path,
        attribute(0xC0, 7, bytes.fromhex("5ba0 0a000001")),
        attribute(0xC0, 18, bytes.fromhex(value)),
    )
    assert found.aggregator == (23456, b"\x0a\0\0\1")


def test_rfc6793_4_2_2_aggregator_for_an_old_speaker() -> None:
    raw = encode_attributes(as_path=((SEQUENCE, (65001,)),), aggregator=(BIG, b"\x0a\0\0\1"))
    old = {code: value for _flags, code, value in AttributeSet.of(for_old_speaker(raw)).items()}
    assert old[AttributeCode.AGGREGATOR] == bytes.fromhex("5ba0 0a000001")
    assert old[AttributeCode.AS4_AGGREGATOR] == BIG.to_bytes(4, "big") + b"\x0a\0\0\1"
    assert AttributeCode.AS4_PATH not in old


def test_rfc6793_3_as4_path_is_sent_without_confederation_segments() -> None:
    raw = encode_attributes(as_path=((CONFED_SEQUENCE, (65100,)), (SEQUENCE, (BIG,))))
    old = {code: value for _flags, code, value in AttributeSet.of(for_old_speaker(raw)).items()}
    assert as_path.decode(old[AttributeCode.AS4_PATH]) == ((SEQUENCE, (BIG,)),)
