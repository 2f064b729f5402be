"""The decision process step by step: each step decides where all before it tie, and says that it did."""

import gc
import sys
from itertools import permutations
from typing import Any

import pytest

from bgpd.rib.decision import Reason, best, explain
from bgpd.rib.path import Cost, Path, Source, SourceKind
from bgpd.wire.attributes import AttributeSet, encode_attributes
from bgpd.wire.iana import Origin, SegmentType

CLIENT, EXTERNAL, LOCAL = SourceKind.CLIENT, SourceKind.EXTERNAL, SourceKind.LOCAL
NEAR, FAR = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))


def sequence(*numbers: int) -> tuple[tuple[SegmentType, tuple[int, ...]], ...]:
    return ((SegmentType.AS_SEQUENCE, numbers),)


def path(
    number: int = 5, kind: SourceKind = CLIENT, *, address: int | None = None, path_id: int = 0, **more: Any
) -> Path:
    """A path of a peer with the identifier 10.0.0.`number`, by default on 192.0.2.`number`."""
    given: dict[str, Any] = {"next_hop": NEAR, "local_pref": 100, "as_path": sequence(65001, 65002)}
    source = Source(kind, f"192.0.2.{address or number}", bytes((10, 0, 0, number)), 65000)
    return Path(source, AttributeSet.of(encode_attributes(**(given | more))), None, path_id)


def decided(winner: Path, loser: Path, reason: Reason, cost: Cost | None = None) -> None:
    for order in ([winner, loser], [loser, winner]):
        assert best(order, cost) is winner
        assert explain(order, cost) == [(winner, reason), (loser, reason)]


def test_rfc4271_9_1_1_the_degree_of_preference_of_internal_paths_is_local_pref() -> None:
    """It comes before everything the paths have themselves; without it a path counts as preferred by 100."""
    decided(path(local_pref=200, as_path=sequence(1, 2, 3, 4)), path(4), Reason.LOCAL_PREF)
    decided(path(local_pref=None), path(4, local_pref=99), Reason.LOCAL_PREF)


def test_rfc9494_4_3_a_stale_path_comes_last_and_what_is_our_own_first() -> None:
    stale = Path(path(4, LOCAL).source, path(local_pref=200).attributes, long_lived_stale=True)
    decided(path(), stale, Reason.LONG_LIVED_STALE)
    decided(path(5, LOCAL), path(4, local_pref=200), Reason.LOCAL_ORIGIN)


def test_rfc4271_9_1_2_2_a_the_shorter_path_and_a_set_counts_as_one() -> None:
    long = (*sequence(65001), (SegmentType.AS_SET, (1, 2, 3, 4)), *sequence(65003))
    decided(path(origin=Origin.INCOMPLETE), path(4, as_path=sequence(1, 2, 3)), Reason.AS_PATH_LENGTH)
    decided(path(as_path=long), path(4, as_path=sequence(1, 2, 3, 4)), Reason.AS_PATH_LENGTH)


def test_rfc4271_9_1_2_2_b_the_lowest_origin() -> None:
    decided(path(origin=Origin.IGP, med=9), path(4, origin=Origin.EGP, med=1), Reason.ORIGIN)
    decided(path(origin=Origin.EGP), path(4, origin=Origin.INCOMPLETE), Reason.ORIGIN)


def test_rfc4271_9_1_2_2_c_the_lowest_med_of_one_neighbouring_as_and_a_missing_one_is_zero() -> None:
    decided(path(5, CLIENT, med=1), path(4, EXTERNAL, med=2), Reason.MED)
    decided(path(med=None), path(4, med=1), Reason.MED)


def test_rfc4271_9_1_2_2_c_med_is_not_compared_between_ases_and_order_does_not_matter() -> None:
    """The well-known three: by pairs each beats another in a circle, by elimination there is one answer."""
    high = path(3, as_path=sequence(65001, 7), med=20)
    low = path(9, as_path=sequence(65001, 7), med=10)
    other = path(6, as_path=sequence(65009, 7), med=500)
    assert best([high, other]) is high
    assert best([other, low]) is other
    assert best([low, high]) is low
    for order in permutations((high, low, other)):
        assert best(order) is other
        assert dict(explain(order)) == {
            other: Reason.BGP_IDENTIFIER, low: Reason.BGP_IDENTIFIER, high: Reason.MED,
        }  # fmt: skip


def test_rfc4271_9_1_2_2_d_external_before_internal() -> None:
    costs: Cost = {NEAR: 1, FAR: 9}.get
    decided(path(5, EXTERNAL, next_hop=FAR), path(4), Reason.EXTERNAL, costs)


def test_rfc4271_9_1_2_2_e_the_nearest_next_hop_and_an_unreachable_one_not_at_all() -> None:
    decided(path(next_hop=NEAR), path(4, next_hop=FAR), Reason.INTERIOR_COST, {NEAR: 1, FAR: 9}.get)
    near, far = path(local_pref=1), path(4, next_hop=FAR)
    assert best([near, far], {NEAR: 1}.get) is near
    assert explain([near, far], {NEAR: 1}.get)[1] == (far, Reason.NEXT_HOP_UNREACHABLE)
    assert best([near, far], lambda _: None) is None


def test_rfc4271_9_1_2_2_f_the_lowest_identifier() -> None:
    decided(path(4, address=9), path(5, address=1), Reason.BGP_IDENTIFIER)


def test_rfc4456_9_the_originators_identifier_counts_in_place_of_the_peers() -> None:
    reflected = path(9, originator_id=bytes((10, 0, 0, 1)), cluster_list=(bytes(4), NEAR))
    decided(reflected, path(4), Reason.BGP_IDENTIFIER)


def test_rfc4456_9_the_shorter_cluster_list_before_the_address() -> None:
    origin = bytes((10, 0, 0, 1))
    short = path(9, address=9, originator_id=origin, cluster_list=(NEAR,))
    decided(
        short, path(8, address=1, originator_id=origin, cluster_list=(NEAR, FAR)), Reason.CLUSTER_LIST_LENGTH
    )


def test_rfc4271_9_1_2_2_g_the_lowest_peer_address_as_a_number() -> None:
    decided(path(5, address=9), path(5, address=10), Reason.PEER_ADDRESS)


@pytest.mark.parametrize("kind", [CLIENT, EXTERNAL])
def test_rfc7911_3_paths_of_one_peer_tie_until_their_identifiers(kind: SourceKind) -> None:
    decided(path(5, kind, path_id=1), path(5, kind, path_id=2), Reason.PATH_IDENTIFIER)


def test_who_lost_last_is_explained_first() -> None:
    only, second, low = path(4), path(5), path(3, local_pref=50)
    refused = Path(only.source, only.attributes, "AS loop")
    assert explain([refused, only]) == [(only, Reason.ONLY_PATH), (refused, Reason.INELIGIBLE)]
    assert explain([refused, low, second, only]) == [
        (only, Reason.BGP_IDENTIFIER),
        (second, Reason.BGP_IDENTIFIER),
        (low, Reason.LOCAL_PREF),
        (refused, Reason.INELIGIBLE),
    ]


def test_a_path_that_was_explained_is_kept_by_nobody() -> None:
    """Not until garbage is collected either, which a reflector does once in a million objects."""
    gc.disable()
    try:
        one = path(4)
        before = sys.getrefcount(one)
        explain([one, path(5)], lambda _: 1)
        assert sys.getrefcount(one) == before
    finally:
        gc.enable()
