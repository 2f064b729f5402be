"""The Loc-RIB: the fast way and the careful way must agree, and nothing depends on history."""

import itertools
from ipaddress import ip_network

from hypothesis import example, given, settings
from hypothesis import strategies as st

from bgpd.rib.decision import Reason, best
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.path import Source, SourceKind
from bgpd.rib.reflection import Speaker, Target, export_to, ineligibility, long_lived_stale
from bgpd.rib.update_group import UpdateGroup
from bgpd.wire.attributes import AttributeSet, encode_attributes
from bgpd.wire.iana import SegmentType, WellKnownCommunity
from bgpd.wire.nlri import IPV4_UNICAST, nlri_of

K, L = (nlri_of(ip_network(text)) for text in ("10.1.0.0/24", "10.2.0.0/24"))


def attributes(local_pref: int = 100, communities: tuple[int, ...] = ()) -> AttributeSet:
    return AttributeSet.of(
        encode_attributes(next_hop=bytes((192, 0, 2, 9)), local_pref=local_pref, communities=communities)
    )


def source(n: int, kind: SourceKind = SourceKind.CLIENT) -> Source:
    return Source(kind, f"192.0.2.{n}", bytes((10, 0, 0, n)), 65000)


GOOD, BETTER = attributes(), attributes(200)
A, B, C = source(1), source(2), source(3)


def test_an_implicit_withdrawal_replaces_the_path() -> None:
    rib = LocRib(IPV4_UNICAST)
    rib.announce(A, GOOD, [K])
    rib.announce(A, BETTER, [K])
    assert [path.attributes for path in rib.candidates(K)] == [BETTER]


def test_the_same_again_changes_nothing() -> None:
    rib = LocRib(IPV4_UNICAST)
    rib.announce(A, GOOD, [K, L])
    rib.take_changes()
    rib.announce(A, GOOD, [K, L])
    assert not rib.take_changes()


def test_rfc4456_8_an_ineligible_path_replaces_its_predecessor() -> None:
    """A looped route withdraws what the same peer had sent, and stays visible with its reason."""
    rib = LocRib(IPV4_UNICAST)
    rib.announce(A, GOOD, [K])
    rib.take_changes()
    rib.announce(A, BETTER, [K], ineligible="loop")
    changes = rib.take_changes()
    assert K in changes.moved
    assert K not in rib.best
    assert rib.explain(K)[0][1] is Reason.INELIGIBLE
    rib.announce(A, GOOD, [K])
    assert K in rib.take_changes().moved


def test_the_result_does_not_depend_on_the_order() -> None:
    operations = [(A, GOOD), (B, BETTER), (C, GOOD), (A, BETTER)]
    results = set()
    for order in itertools.permutations(operations):
        rib = LocRib(IPV4_UNICAST)
        last = {}
        for who, what in order:
            rib.announce(who, what, [K])
            last[who] = what
        rib.take_changes()
        if last[A] is BETTER:
            results.add(rib.best[K].source)
    assert results == {A}


def said(
    first: int, med: int | None, originator: int = 0, pref: int = 100, clusters: int = 0
) -> AttributeSet:
    return AttributeSet.of(
        encode_attributes(
            next_hop=bytes((192, 0, 2, 9)),
            as_path=((SegmentType.AS_SEQUENCE, (65000 + first,)),) if first else (),
            med=med,
            local_pref=pref,
            originator_id=bytes((10, 0, 0, originator)) if originator else None,
            cluster_list=(bytes(4),) * clusters,
        )
    )


SAID = st.builds(
    said,
    st.integers(0, 2),
    st.sampled_from((None, 0, 1, 2)),
    st.sampled_from((0, 0, 2, 3)),
    st.sampled_from((100, 100, 100, 200)),
    st.integers(0, 2),
)
STEPS = st.lists(st.tuples(st.integers(1, 6), st.none() | SAID | SAID | SAID, st.booleans()), max_size=25)


@settings(deadline=None, max_examples=400)
@given(STEPS)
@example([(6, said(1, 1), True), (4, said(2, 0), True), (2, said(1, 2), True)])  # lower, yet out by its MED
@example([(2, said(1, 2), True), (4, said(2, 0), True), (6, said(1, 1), True)])  # higher, puts the best out
def test_every_shortcut_ends_where_elimination_does(
    steps: list[tuple[int, AttributeSet | None, bool]],
) -> None:
    """Six peers, half of them external, one prefix; decided after some of the steps."""
    rib = LocRib(IPV4_UNICAST)
    peers = [source(n, SourceKind.EXTERNAL if n % 2 else SourceKind.CLIENT) for n in range(7)]
    held: dict[int, AttributeSet] = {}
    for peer, what, decide in steps:
        if what is None:
            rib.withdraw(peers[peer], [K])
            held.pop(peer, None)
        else:
            rib.announce(peers[peer], what, [K])
            held[peer] = what
        if decide:
            rib.take_changes()
            candidates = rib.candidates(K)
            assert {(path.source, path.attributes) for path in candidates} == {
                (peers[peer], what) for peer, what in held.items()
            }
            assert rib.best.get(K) is best(candidates)


def test_announced_and_withdrawn_within_one_turn_leaves_no_trace() -> None:
    """A's path; withdrawn; B's instead; withdrawn: A itself must be told to forget B's, if it heard of it."""
    rib = LocRib(IPV4_UNICAST)
    group = UpdateGroup(
        rib, export_to(Target(SourceKind.CLIENT), Speaker(65000, bytes(4), bytes(4)), IPV4_UNICAST)
    )
    cursor = group.join(A)
    rib.announce(A, GOOD, [K])
    group.apply(rib.take_changes())
    assert cursor.take(1000) == []
    rib.withdraw(A, [K])
    rib.announce(B, GOOD, [K], raw=K)
    rib.withdraw(B, [K])
    changes = rib.take_changes()
    assert not changes.fresh
    group.apply(changes)
    assert cursor.take(1000) == []


def test_dropping_a_source_leaves_the_others() -> None:
    rib = LocRib(IPV4_UNICAST)
    rib.announce(A, BETTER, [K, L])
    rib.announce(B, GOOD, [K])
    rib.take_changes()
    rib.drop(A)
    rib.take_changes()
    assert {nlri: path.source for nlri, path in rib.best.items()} == {K: B}
    assert not rib.received(A)
    assert rib.candidates(L) == []


def test_rfc4724_4_2_stale_paths_are_swept_unless_announced_again() -> None:
    rib = LocRib(IPV4_UNICAST)
    rib.announce(A, GOOD, [K, L])
    rib.mark_stale(A)
    rib.announce(A, GOOD, [K])
    assert rib.sweep_stale(A) == 1
    rib.take_changes()
    assert list(rib.best) == [K]


def test_rfc9494_4_3_long_lived_stale_is_least_preferred() -> None:
    rib = LocRib(IPV4_UNICAST)
    rib.announce(A, BETTER, [K])
    rib.announce(B, GOOD, [K])
    rib.take_changes()
    rib.mark_stale(A)
    rib.revise(A, long_lived_stale, stale_only=True)
    rib.take_changes()
    assert rib.best[K].source is B
    stale = next(path for path in rib.candidates(K) if path.source is A)
    assert stale.attributes.has_community(WellKnownCommunity.LLGR_STALE)
    rib.announce(A, BETTER, [K])
    rib.take_changes()
    assert rib.best[K].source is A


def test_what_is_learned_together_is_taken_in_to_the_last() -> None:
    """Whichever way its prefixes go: unknown, known of another, known of the same, both."""
    for known_of in itertools.product(((), (A,), (B,), (A, B)), repeat=2):
        rib = LocRib(IPV4_UNICAST)
        for item, sources in zip((K, L), known_of, strict=True):
            for who in sources:
                rib.announce(who, GOOD, [item])
        rib.learn(B, [(attributes(med), [item], b"", None) for med, item in ((50, K), (60, L))])
        rib.take_changes()
        assert [rib.received(B)[item].attributes.local_pref for item in (K, L)] == [50, 60]
        assert all(B in {path.source for path in rib.candidates(item)} for item in (K, L))


def test_a_stale_path_that_is_taken_out_is_not_counted_any_more() -> None:
    rib = LocRib(IPV4_UNICAST)
    rib.announce(A, GOOD, [K, L])
    rib.mark_stale(A)
    rib.announce(A, GOOD, [K])
    assert rib.stale_count(A) == 1
    rib.revise(A, lambda _: None)
    assert rib.stale_count(A) == 0


def test_rfc9494_4_2_no_llgr_is_dropped() -> None:
    rib = LocRib(IPV4_UNICAST)
    rib.announce(A, attributes(communities=(WellKnownCommunity.NO_LLGR,)), [K])
    rib.mark_stale(A)
    rib.revise(A, long_lived_stale, stale_only=True)
    rib.take_changes()
    assert not rib.best


def test_rfc7911_2_paths_of_one_source_are_told_apart_by_identifier() -> None:
    rib = LocRib(IPV4_UNICAST)
    one, two = (n.to_bytes(4, "big") + K for n in (1, 2))
    rib.announce(A, GOOD, [one], add_path=True)
    rib.announce(A, BETTER, [two], add_path=True)
    rib.take_changes()
    assert len(rib.candidates(K)) == 2
    assert rib.best[K].path_id == 2
    rib.withdraw(A, [two], add_path=True)
    rib.take_changes()
    assert [path.path_id for path in rib.candidates(K)] == [1]


def test_costs_choose_and_refuse() -> None:
    """Unreachable next hops are not eligible; the nearer one wins (RFC 4271 9.1.2.1, 9.1.2.2 e)."""
    near = AttributeSet.of(encode_attributes(next_hop=bytes((192, 0, 2, 1)), local_pref=100))
    far = AttributeSet.of(encode_attributes(next_hop=bytes((192, 0, 2, 2)), local_pref=100))
    costs: dict[bytes, int | None] = {near.next_hop: 1, far.next_hop: 5}
    rib = LocRib(IPV4_UNICAST, costs.get)
    rib.announce(A, far, [K])
    rib.announce(B, near, [K])
    rib.take_changes()
    assert rib.best[K].source is B
    costs[near.next_hop] = None
    rib.reconsider()
    rib.take_changes()
    assert rib.best[K].source is A
    costs[far.next_hop] = None
    rib.reconsider([K])
    assert K in rib.take_changes().moved
    assert K not in rib.best


def test_prefixes_that_come_and_go_leave_nothing_in_the_log() -> None:
    """Each is new when it is announced, so only its withdrawal shows that it is garbage."""
    rib = LocRib(IPV4_UNICAST)
    group = UpdateGroup(
        rib, export_to(Target(SourceKind.CLIENT), Speaker(65000, bytes(4), bytes(4)), IPV4_UNICAST)
    )
    group.log._slack = 1000
    cursor = group.join(B)
    for n in range(5000):
        nlri = bytes((32, 10, n >> 16, n >> 8 & 255, n & 255))
        rib.announce(A, GOOD, [nlri], raw=nlri)
        group.apply(rib.take_changes())
        rib.withdraw(A, [nlri])
        group.apply(rib.take_changes())
        cursor.take(10_000)
    assert group.log.octets < 5000
    assert len(group.log) < 100


def test_what_is_said_twice_in_an_update_is_told_once() -> None:
    """Else a peer makes the log as long as it likes: its withdrawal counts for one of them."""
    rib = LocRib(IPV4_UNICAST)
    group = UpdateGroup(
        rib, export_to(Target(SourceKind.CLIENT), Speaker(65000, bytes(4), bytes(4)), IPV4_UNICAST)
    )
    group.log._slack = 1000
    group.join(B)
    for _ in range(100):
        rib.announce(A, GOOD, [K, L, *[K] * 900], raw=K + L + K * 900)
        changes = rib.take_changes()
        assert [items for _path, items, _raw in changes.fresh] == [[K, L]]
        group.apply(changes)
        assert len(rib.received(A)) == len(rib) == 2
        rib.withdraw(A, [K, L])
        group.apply(rib.take_changes())
    assert group.log.octets < 5000


def test_rfc4271_5_1_3_an_unspecified_next_hop_makes_a_path_ineligible() -> None:
    """Recorded tables have them; a link-local address beside it is somewhere to go (RFC 2545 3)."""
    speaker = Speaker(65000, bytes((10, 0, 0, 254)), bytes((10, 0, 0, 254)))
    block, link_local = encode_attributes(local_pref=100), bytes.fromhex("fe80") + bytes(13) + b"\1"
    for next_hop, reason in (
        (bytes(16), "the next hop is ::"),
        (bytes(32), "the next hop is ::"),
        (bytes(16) + link_local, None),
        (link_local, None),
    ):
        assert ineligibility(AttributeSet.of(block, next_hop), speaker) == reason
