"""RFC 7606 and its continuations: each malformed attribute gets exactly the severity its RFC asks for."""

import pytest

from bgpd.wire.errors import ErrorAction, ProtocolError
from bgpd.wire.nlri import IPV4_UNICAST, IPV6_UNICAST, Family
from tests.wire.samples import (
    AS_PATH,
    EMPTY_AS_PATH,
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
    mp_unreach,
    withdrawn,
)
from tests.wire.verdicts import assert_discarded, assert_kept, assert_reset, assert_withdrawn


def test_rfc7606_3_a_attributes_overrunning_the_update_reset() -> None:
    whole = body(MANDATORY, PREFIX)
    assert_reset(whole[:2] + b"\x00\xdc" + whole[4:], 1)


def test_rfc7606_3_b_withdrawn_routes_overrunning_the_update_reset() -> None:
    assert_reset(b"\x0f\xa0" + body(MANDATORY, PREFIX)[2:], 1)
    assert_reset(b"\xff\xff\xff\xff", 1)
    assert_reset(b"\x00\x02\x00\x00", 1)


@pytest.mark.parametrize("size", range(4))
def test_rfc7606_3_update_too_short_for_its_lengths_resets(size: int) -> None:
    assert_reset(bytes(size), 1)


WELL_KNOWN = {1: b"\0", 2: bytes.fromhex("02010000fde9"), 3: bytes.fromhex("0a000002"), 5: bytes(4), 6: b""}
OPTIONAL = {4: bytes(4), 9: bytes(4), 10: bytes(4)}
OPTIONAL_TRANSITIVE = {
    7: bytes.fromhex("0000fde90a000001"),
    8: bytes(4),
    16: bytes(8),
    17: bytes.fromhex("02010000fde9"),
    18: bytes.fromhex("0000fde90a000001"),
    22: bytes(5),
    23: bytes.fromhex("00070000"),
    25: bytes(20),
    32: bytes(12),
    35: bytes.fromhex("0000fde9"),
}


def replaced(code: int, piece: bytes) -> bytes:
    """The mandatory attributes with one of them replaced, or with another one behind."""
    parts = {1: ORIGIN, 2: AS_PATH, 3: NEXT_HOP} | {code: piece}
    return b"".join(parts.values())


@pytest.mark.parametrize(
    ("code", "flags", "value"),
    [(code, flags, value) for code, value in WELL_KNOWN.items() for flags in (0x00, 0x80, 0xC0, 0x60)]
    + [(code, flags, value) for code, value in OPTIONAL.items() for flags in (0x00, 0x40, 0xC0, 0xA0)]
    + [(code, flags, value) for code, value in OPTIONAL_TRANSITIVE.items() for flags in (0x00, 0x40, 0x80)],
)
@pytest.mark.parametrize("internal", [False, True])
def test_rfc7606_3_c_flags_in_conflict_treat_as_withdraw(
    code: int, flags: int, value: bytes, internal: bool
) -> None:
    assert_withdrawn(replaced(code, attribute(flags, code, value)), code, 4, internal)


@pytest.mark.parametrize(("code", "value"), [(14, mp_reach()[3:]), (15, mp_unreach()[3:])])
def test_rfc7606_3_c_flags_of_multiprotocol_attributes_treat_as_withdraw(code: int, value: bytes) -> None:
    update = decoder().decode(body(attribute(0xC0, code, value) + MANDATORY, PREFIX))
    assert announced(update) == []
    assert set(withdrawn(update)) == {(IPV4_UNICAST, PREFIX), (IPV6_UNICAST, PREFIX6)}


@pytest.mark.parametrize(
    ("block", "code"), [(AS_PATH + NEXT_HOP, 1), (ORIGIN + NEXT_HOP, 2), (ORIGIN + AS_PATH, 3)]
)
def test_rfc7606_3_d_missing_well_known_attribute_treat_as_withdraw(block: bytes, code: int) -> None:
    assert_withdrawn(block, code, 3)


def test_rfc7606_3_d_no_attributes_at_all_treat_as_withdraw() -> None:
    assert_withdrawn(b"", 1, 3)


def test_rfc7606_3_d_next_hop_is_not_missing_beside_mp_reach() -> None:
    update = decoder().decode(body(mp_reach() + ORIGIN + AS_PATH))
    assert announced(update) == [(IPV6_UNICAST, PREFIX6)]


@pytest.mark.parametrize("attributes", [mp_reach() * 2, mp_unreach() * 2])
def test_rfc7606_3_g_multiprotocol_attribute_twice_resets(attributes: bytes) -> None:
    assert_reset(body(attributes + ORIGIN + AS_PATH), 1)


def test_rfc7606_3_g_first_of_duplicates_is_kept() -> None:
    first, second = attribute(0x80, 4, bytes((0, 0, 0, 10))), attribute(0x80, 4, bytes((0, 0, 0, 20)))
    update = decoder().decode(body(MANDATORY + first + second, PREFIX))
    assert announced(update) == [(IPV4_UNICAST, PREFIX)]
    assert list(update.errors) == []
    assert update.reach[0].attributes.raw == MANDATORY + first


def test_rfc7606_3_g_a_malformed_duplicate_is_not_looked_at() -> None:
    assert_kept(MANDATORY + attribute(0x80, 4, bytes(4)) + attribute(0x80, 4, b"\1"), 4, bytes(4))


def test_rfc7606_3_h_strongest_action_wins() -> None:
    both = attribute(0x40, 6, b"\1") + attribute(0x80, 4, b"\1")
    update = decoder().decode(body(MANDATORY + both, PREFIX))
    assert {fault.action for fault in update.errors} == {
        ErrorAction.ATTRIBUTE_DISCARD,
        ErrorAction.TREAT_AS_WITHDRAW,
    }
    assert announced(update) == []


def test_rfc7606_3_i_unparsable_withdrawn_routes_reset() -> None:
    assert_reset(body(withdrawn=bytes.fromhex("21c633640180")), 10)


def test_rfc7606_3_j_unparsable_nlri_reset() -> None:
    assert_reset(body(MANDATORY, bytes.fromhex("21c633640180")), 10)
    assert_reset(body(MANDATORY, bytes.fromhex("18c633")), 10)


def test_rfc7606_3_j_malformed_attribute_and_unparsable_nlri_reset() -> None:
    assert_reset(body(attribute(0x40, 1, b"\3") + AS_PATH + NEXT_HOP, b"\x21"), 10)


@pytest.mark.parametrize("tail", ["40", "4001", "500800", "5008", "c0084000 01", "d0230400 00000000"])
def test_rfc7606_4_attribute_overrunning_the_block_treat_as_withdraw(tail: str) -> None:
    update = decoder().decode(body(MANDATORY + bytes.fromhex(tail), PREFIX))
    assert announced(update) == []
    assert withdrawn(update) == [(IPV4_UNICAST, PREFIX)]
    assert [fault.subcode for fault in update.errors] == [1]


@pytest.mark.parametrize("tail", ["4003", "400304", "400304 c00002", "500300", "50030004 c00002"])
def test_rfc7606_4_a_next_hop_overrunning_the_block_counts_beside_mp_reach_too(tail: str) -> None:
    block = ORIGIN + AS_PATH + mp_reach() + bytes.fromhex(tail)
    update = decoder().decode(body(block))
    assert announced(update) == []
    assert withdrawn(update) == [(IPV6_UNICAST, PREFIX6)]
    assert [(fault.code, fault.subcode) for fault in update.errors] == [(3, 1)]
    assert_reset(body(ORIGIN + AS_PATH + mp_reach(b"") + bytes.fromhex(tail)), 1)


def test_rfc7606_5_1_mp_reach_is_accepted_at_any_place() -> None:
    for block in (
        mp_reach() + ORIGIN + AS_PATH,
        ORIGIN + mp_reach() + AS_PATH,
        ORIGIN + AS_PATH + mp_reach(),
    ):
        update = decoder().decode(body(block))
        assert announced(update) == [(IPV6_UNICAST, PREFIX6)]
        assert update.reach[0].attributes.raw == ORIGIN + AS_PATH


@pytest.mark.parametrize("tail", [b"", mp_unreach()])
def test_rfc7606_5_2_malformed_attribute_without_reachable_nlri_resets(tail: bytes) -> None:
    assert_reset(body(attribute(0x40, 1, b"\3") + tail), 6)
    assert_reset(body(bytes.fromhex("40012000")), 1)
    assert_reset(body(attribute(0x40, 1, b"\3") + tail, withdrawn=PREFIX), 6)


@pytest.mark.parametrize("flags", [0xC0, 0x40, 0xA0, 0xF0])
@pytest.mark.parametrize("field", [b"", PREFIX])
def test_rfc7606_5_2_withdrawals_alone_do_not_reset_for_their_flags(flags: int, field: bytes) -> None:
    value = IPV6_UNICAST.encode() + PREFIX6
    piece = bytes((flags, 15)) + len(value).to_bytes(2 if flags & 0x10 else 1, "big") + value
    update = decoder().decode(body(piece, withdrawn=field))
    assert announced(update) == []
    assert set(withdrawn(update)) == {(IPV6_UNICAST, PREFIX6), *([(IPV4_UNICAST, field)] if field else [])}
    assert [(fault.code, fault.subcode) for fault in update.errors] == [(15, 4)]
    assert_reset(body(piece + ORIGIN, withdrawn=field), 4)
    assert_reset(body(piece + bytes.fromhex("4001"), withdrawn=field), 4)
    assert_reset(body(piece[:-1], withdrawn=field), 1)


@pytest.mark.parametrize(
    ("wrong", "subcode"),
    [
        (attribute(0xC0, 1, b"\0"), 4),
        (attribute(0x80, 4, b"\0"), 5),
        (attribute(0x40, 1, b"\3"), 6),
        (attribute(0x40, 3, bytes(4)), 8),
        (attribute(0x80, 15, b"\0"), 9),
        (mp_unreach(b"\x81"), 9),
    ],
)
def test_rfc4271_6_3_an_error_that_resets_returns_the_attribute(wrong: bytes, subcode: int) -> None:
    for block in (wrong, AS_PATH + wrong, AS_PATH + wrong + bytes.fromhex("400120")):
        with pytest.raises(ProtocolError) as caught:
            decoder().decode(body(block))
        assert (caught.value.code, caught.value.subcode, caught.value.data) == (3, subcode, wrong)


def test_rfc7606_5_2_discarded_attribute_without_reachable_nlri_does_not_reset() -> None:
    update = decoder().decode(body(attribute(0x40, 6, b"\1"), withdrawn=PREFIX))
    assert withdrawn(update) == [(IPV4_UNICAST, PREFIX)]


@pytest.mark.parametrize("size", range(5))
def test_rfc7606_5_3_mp_reach_too_short_resets(size: int) -> None:
    assert_reset(body(attribute(0x80, 14, bytes.fromhex("0002010000")[:size]) + ORIGIN + AS_PATH), 1)


@pytest.mark.parametrize("size", range(3))
def test_rfc7606_5_3_mp_unreach_too_short_resets(size: int) -> None:
    assert_reset(body(attribute(0x80, 15, bytes.fromhex("000201")[:size])), 9)


@pytest.mark.parametrize("nlri", ["81", "40 20010db8", "7f"])
def test_rfc7606_5_3_unparsable_multiprotocol_nlri_reset(nlri: str) -> None:
    assert_reset(body(mp_reach(bytes.fromhex(nlri)) + ORIGIN + AS_PATH), 9)
    assert_reset(body(mp_unreach(bytes.fromhex(nlri))), 9)


@pytest.mark.parametrize("value", [b"", b"\0\0", b"\3", b"\xff"])
@pytest.mark.parametrize("internal", [False, True])
def test_rfc7606_7_1_origin_length_or_value(value: bytes, internal: bool) -> None:
    assert_withdrawn(attribute(0x40, 1, value) + AS_PATH + NEXT_HOP, 1, internal=internal)


@pytest.mark.parametrize(
    "value",
    [
        "0501 0000fde9",
        "0001 0000fde9",
        "02ff 0000fde9",
        "0200",
        "02",
        "0201 0000fd",
        "0201 0000fde9 02",
        "0102 0000fde9",
    ],
)
@pytest.mark.parametrize("internal", [False, True])
def test_rfc7606_7_2_as_path_malformed(value: str, internal: bool) -> None:
    assert_withdrawn(ORIGIN + attribute(0x40, 2, bytes.fromhex(value)) + NEXT_HOP, 2, 11, internal)


@pytest.mark.parametrize("size", [0, 1, 3, 5, 16])
def test_rfc7606_7_3_next_hop_length(size: int) -> None:
    assert_withdrawn(ORIGIN + AS_PATH + attribute(0x40, 3, b"\x0a" * size), 3, 5)


@pytest.mark.parametrize("size", [0, 3, 5])
def test_rfc7606_7_4_multi_exit_disc_length(size: int) -> None:
    assert_withdrawn(MANDATORY + attribute(0x80, 4, bytes(size)), 4, 5)


@pytest.mark.parametrize("size", [0, 3, 5])
def test_rfc7606_7_5_local_pref_length(size: int) -> None:
    assert_withdrawn(MANDATORY + attribute(0x40, 5, bytes(size)), 5, 5, internal=True)


@pytest.mark.parametrize("size", [0, 3, 4])
def test_rfc7606_7_5_local_pref_from_external_peer_is_discarded(size: int) -> None:
    assert_discarded(MANDATORY + attribute(0x40, 5, bytes(size)), 5)


@pytest.mark.parametrize("internal", [False, True])
def test_rfc7606_7_6_atomic_aggregate_length(internal: bool) -> None:
    assert_discarded(MANDATORY + attribute(0x40, 6, b"\0"), 6, internal)


@pytest.mark.parametrize("size", [0, 6, 7, 9])
def test_rfc7606_7_7_aggregator_length(size: int) -> None:
    assert_discarded(MANDATORY + attribute(0xC0, 7, b"\1" * size), 7)


def test_rfc7606_7_7_aggregator_length_of_old_speaker() -> None:
    old = ORIGIN + attribute(0x40, 2, bytes.fromhex("0201fde9")) + NEXT_HOP
    update = decoder(asn4=False).decode(body(old + attribute(0xC0, 7, b"\1" * 8), PREFIX))
    assert [(fault.code, fault.action) for fault in update.errors] == [(7, ErrorAction.ATTRIBUTE_DISCARD)]
    assert update.reach[0].attributes.aggregator is None


@pytest.mark.parametrize("size", [0, 1, 5])
def test_rfc7606_7_8_communities_length(size: int) -> None:
    assert_withdrawn(MANDATORY + attribute(0xC0, 8, bytes(size)), 8, 5)


@pytest.mark.parametrize("size", [0, 3, 5])
def test_rfc7606_7_9_originator_id(size: int) -> None:
    piece = attribute(0x80, 9, bytes(size))
    assert_withdrawn(MANDATORY + piece, 9, 5, internal=True)
    assert_discarded(MANDATORY + piece, 9)


@pytest.mark.parametrize("size", [0, 3, 5])
def test_rfc7606_7_10_cluster_list(size: int) -> None:
    piece = attribute(0x80, 10, bytes(size))
    assert_withdrawn(MANDATORY + piece, 10, 5, internal=True)
    assert_discarded(MANDATORY + piece, 10)


@pytest.mark.parametrize("size", [0, 4, 9, 15, 17, 24, 31, 33])
def test_rfc7606_7_11_mp_reach_next_hop_length(size: int) -> None:
    assert_reset(body(mp_reach(next_hop=b"\x20" * size) + ORIGIN + AS_PATH), 1)


def test_rfc7606_7_11_mp_reach_next_hop_overruns() -> None:
    value = bytes.fromhex("000201 40") + NEXT_HOP6 + b"\0"
    assert_reset(body(attribute(0x80, 14, value) + ORIGIN + AS_PATH), 1)


@pytest.mark.parametrize("size", [0, 7, 9])
def test_rfc7606_7_14_extended_communities_length(size: int) -> None:
    assert_withdrawn(MANDATORY + attribute(0xC0, 16, bytes(size)), 16, 5)


@pytest.mark.parametrize("size", [0, 8, 21])
def test_rfc7606_7_15_ipv6_extended_communities_length(size: int) -> None:
    assert_withdrawn(MANDATORY + attribute(0xC0, 25, bytes(size)), 25, 5)


@pytest.mark.parametrize("size", [0, 11, 13])
def test_rfc8092_6_large_communities_length(size: int) -> None:
    assert_withdrawn(MANDATORY + attribute(0xC0, 32, bytes(size)), 32, 5)


@pytest.mark.parametrize("count", [1, 2, 20, 400])
@pytest.mark.parametrize("multiprotocol", [False, True])
def test_rfc8092_3_a_large_community_that_repeats_is_removed(count: int, multiprotocol: bool) -> None:
    items = [bytes.fromhex("0000fde9 00000001") + number.to_bytes(4, "big") for number in range(count)]
    once = b"".join(items)
    block, nlri = (ORIGIN + AS_PATH + mp_reach(), b"") if multiprotocol else (MANDATORY, PREFIX)
    for value in (items[0] + once, once + once, once + items[-1], once):
        piece = b"\xd0\x20" + len(value).to_bytes(2, "big") + value
        one = decoder()
        for _ in range(3):
            update = one.decode(body(block + piece, nlri))
            assert list(update.errors) == []
            assert update.reach[0].attributes.value(32) == once
            assert update.reach[0].attributes.raw.endswith(once)


@pytest.mark.parametrize("size", [0, 3, 5])
def test_rfc9234_5_only_to_customer_length(size: int) -> None:
    assert_withdrawn(MANDATORY + attribute(0xC0, 35, bytes(size)), 35, 5)


def test_rfc7607_2_as_zero_in_only_to_customer_treat_as_withdraw() -> None:
    assert_withdrawn(MANDATORY + attribute(0xC0, 35, bytes(4)), 35, 9)


@pytest.mark.parametrize("path", ["0202 0000fde9 00000000", "0101 00000000"])
def test_rfc7607_2_as_zero_in_as_path_treat_as_withdraw(path: str) -> None:
    assert_withdrawn(ORIGIN + attribute(0x40, 2, bytes.fromhex(path)) + NEXT_HOP, 2, 11)


def test_rfc7607_2_four_zero_octets_across_as_numbers_are_no_as_zero() -> None:
    value = bytes.fromhex("0202 01000000 00000001")
    assert_kept(ORIGIN + attribute(0x40, 2, value) + NEXT_HOP, 2, value)


def test_rfc7607_2_as_zero_in_as4_path_is_discarded() -> None:
    assert_discarded(MANDATORY + attribute(0xC0, 17, bytes.fromhex("0201 00000000")), 17)


@pytest.mark.parametrize("code", [7, 18])
def test_rfc7607_2_as_zero_in_aggregator_is_discarded(code: int) -> None:
    assert_discarded(MANDATORY + attribute(0xC0, code, bytes.fromhex("000000000a000001")), code)


@pytest.mark.parametrize("segment", [3, 4])
def test_rfc5065_5_confederation_segment_from_external_peer_treat_as_withdraw(segment: int) -> None:
    value = bytes((segment, 1)) + bytes.fromhex("0000fde9")
    assert_withdrawn(ORIGIN + attribute(0x40, 2, value) + NEXT_HOP, 2, 11)
    assert_kept(ORIGIN + attribute(0x40, 2, value) + NEXT_HOP, 2, value, internal=True)


def test_rfc4271_5_1_2_empty_as_path_is_for_internal_peers_only() -> None:
    assert_withdrawn(ORIGIN + EMPTY_AS_PATH + NEXT_HOP, 2, 11)
    assert_kept(ORIGIN + EMPTY_AS_PATH + NEXT_HOP, 2, b"", internal=True)


@pytest.mark.parametrize("next_hop", ["00000000", "00010203", "e0000001", "efffffff", "ff000001", "ffffffff"])
def test_rfc4271_6_3_next_hop_that_is_no_host(next_hop: str) -> None:
    assert_withdrawn(ORIGIN + AS_PATH + attribute(0x40, 3, bytes.fromhex(next_hop)), 3, 8)


def test_a_next_hop_in_reserved_space_is_a_host() -> None:
    block = ORIGIN + AS_PATH + attribute(0x40, 3, bytes((240, 0, 0, 1)))
    assert announced(decoder().decode(body(block, PREFIX))) == [(IPV4_UNICAST, PREFIX)]


def test_rfc4271_6_3_loopback_next_hop_only_among_speakers_of_one_machine() -> None:
    block = ORIGIN + AS_PATH + attribute(0x40, 3, bytes((127, 0, 0, 1)))
    assert announced(decoder(loopback=True).decode(body(block, PREFIX))) == [(IPV4_UNICAST, PREFIX)]
    assert withdrawn(decoder(loopback=False).decode(body(block, PREFIX))) == [(IPV4_UNICAST, PREFIX)]


@pytest.mark.parametrize("next_hop", [b"\xff\x02" + bytes(13) + b"\1", bytes(15) + b"\1"])
def test_rfc4271_6_3_ipv6_next_hop_that_is_no_host(next_hop: bytes) -> None:
    update = decoder(loopback=False).decode(body(mp_reach(next_hop=next_hop) + ORIGIN + AS_PATH))
    assert withdrawn(update) == [(IPV6_UNICAST, PREFIX6)]
    assert announced(update) == []


def test_rfc4271_6_3_unrecognized_well_known_attribute_resets() -> None:
    piece = attribute(0x40, 126, b"\0")
    with pytest.raises(ProtocolError) as caught:
        decoder().decode(body(MANDATORY + piece, PREFIX))
    assert (caught.value.code, caught.value.subcode, caught.value.data) == (3, 2, piece)


def test_rfc4271_4_3_reserved_flag_bits_are_ignored() -> None:
    value = bytes.fromhex("0000fde90a000001")
    update = decoder().decode(body(MANDATORY + attribute(0xCF & 0xEF, 7, value), PREFIX))
    assert list(update.errors) == []
    assert update.reach[0].attributes.raw == MANDATORY + attribute(0xC0, 7, value)


def test_rfc4271_5_unknown_transitive_attribute_passes_with_partial() -> None:
    update = decoder().decode(body(MANDATORY + attribute(0xC0, 254, b"\xde\xad"), PREFIX))
    assert update.reach[0].attributes.unknown == ((0xE0, 254, b"\xde\xad"),)
    assert list(update.errors) == []


def test_rfc4271_5_unknown_non_transitive_attribute_is_dropped() -> None:
    update = decoder().decode(body(MANDATORY + attribute(0x80, 253, b"\xde\xad"), PREFIX))
    assert update.reach[0].attributes.raw == MANDATORY
    assert list(update.errors) == []


def test_rfc7606_5_attribute_type_zero_treat_as_withdraw() -> None:
    assert_withdrawn(MANDATORY + attribute(0xC0, 0, b""), 0)


def test_rfc6793_6_as4_path_of_wrong_length_is_discarded() -> None:
    assert_discarded(MANDATORY + attribute(0xC0, 17, bytes.fromhex("02ff0001")), 17)
    assert_discarded(MANDATORY + attribute(0xC0, 17, b""), 17)


def test_rfc6793_6_as4_aggregator_of_wrong_length_is_discarded() -> None:
    assert_discarded(MANDATORY + attribute(0xC0, 18, bytes(9)), 18)


def test_rfc6793_4_1_as4_attributes_from_a_new_speaker_are_not_kept() -> None:
    as4 = attribute(0xC0, 17, bytes.fromhex("02010000fde9")) + attribute(
        0xC0, 18, bytes.fromhex("0000fde90a000001")
    )
    update = decoder().decode(body(MANDATORY + as4, PREFIX))
    assert update.reach[0].attributes.raw == MANDATORY
    assert list(update.errors) == []


def test_rfc4760_7_families_not_negotiated_are_ignored() -> None:
    strange = Family(16388, 72)
    block = mp_reach(b"\xaa\xbb", bytes(4), strange) + ORIGIN + AS_PATH
    assert announced(decoder().decode(body(block))) == []
    assert withdrawn(decoder().decode(body(mp_unreach(b"\xaa", strange)))) == []
    only_v6 = decoder(families=(IPV6_UNICAST,))
    assert announced(only_v6.decode(body(MANDATORY, PREFIX))) == []
    assert withdrawn(only_v6.decode(body(withdrawn=PREFIX))) == []


def test_rfc4760_3_next_hop_attribute_beside_mp_reach_is_ignored() -> None:
    for next_hop in (NEXT_HOP, attribute(0x40, 3, bytes(4)), attribute(0x40, 3, b"")):
        update = decoder().decode(body(mp_reach() + ORIGIN + AS_PATH + next_hop))
        assert announced(update) == [(IPV6_UNICAST, PREFIX6)]
        assert update.reach[0].attributes.raw == ORIGIN + AS_PATH
        assert list(update.errors) == []


def test_mp_unreach_is_honoured_where_the_rest_is_treated_as_withdraw() -> None:
    update = decoder().decode(body(mp_unreach(), PREFIX))
    assert set(withdrawn(update)) == {(IPV4_UNICAST, PREFIX), (IPV6_UNICAST, PREFIX6)}


def test_a_malformed_block_is_judged_again_each_time() -> None:
    one = decoder(internal=True)
    bad = body(MANDATORY + LOCAL_PREF + attribute(0x80, 4, b"\1"), PREFIX)
    for _ in range(3):
        assert withdrawn(one.decode(bad)) == [(IPV4_UNICAST, PREFIX)]


def test_a_remembered_block_reports_its_faults_each_time() -> None:
    one = decoder()
    odd = body(MANDATORY + LOCAL_PREF, PREFIX)
    updates = [one.decode(odd) for _ in range(3)]
    assert [[fault.code for fault in update.errors] for update in updates] == [[5], [5], [5]]
    assert len({update.reach[0].attributes for update in updates}) == 1
