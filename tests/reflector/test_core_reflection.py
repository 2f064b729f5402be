"""Who is told what, and in which words, through a whole core."""

import random
from ipaddress import ip_network
from typing import Any

import pytest

from bgpd.plan.policy import CompiledFilter, Operator, PrefixMatch, Rule, local_pref_of
from bgpd.rib.path import SourceKind
from bgpd.wire.attributes import encode_attributes
from bgpd.wire.iana import SegmentType, WellKnownCommunity
from bgpd.wire.messages import MARKER
from bgpd.wire.update import encode_updates, encode_withdrawals
from reflector.member import MemberOptions
from tests.reflector.simulated import (
    ASN,
    V4,
    V6,
    SimulatedPeer,
    address,
    external,
    key,
    path_of,
    reflector,
    settle,
    speaker,
    tick,
    why,
)

CLIENT, NON_CLIENT, EXTERNAL = SourceKind.CLIENT, SourceKind.NON_CLIENT, SourceKind.EXTERNAL
P, Q, R = "10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24"
P6 = "2001:db8:1::/48"


def test_what_a_turn_brings_means_the_same_in_one_piece_and_message_by_message() -> None:
    """Withdrawals in a row are taken out together, never before what was announced ahead of them."""
    rng = random.Random(7)
    block = encode_attributes(next_hop=bytes((192, 0, 2, 1)), local_pref=100)

    def message() -> bytes:
        gone = b"".join(key(prefix) for prefix in rng.sample([P, Q, R], rng.randrange(3)))
        new = b"".join(key(prefix) for prefix in rng.sample([P, Q, R], rng.randrange(3)))
        six = rng.randrange(8)
        if not six:
            return encode_withdrawals(V6, [key(P6)])[0]
        if six == 1:
            return encode_updates(V6, block, bytes.fromhex("20010db8") + bytes(12), [key(P6)])[0]
        told = block if new else b""
        body = len(gone).to_bytes(2, "big") + gone + len(told).to_bytes(2, "big") + told + new
        return MARKER + (19 + len(body)).to_bytes(2, "big") + b"\x02" + body

    for _ in range(200):
        messages = [message() for _ in range(rng.randrange(1, 7))]
        views = []
        for pieces in ([messages], [[each] for each in messages]):
            core = reflector()
            a, b = SimulatedPeer(core, 1).up(), SimulatedPeer(core, 2).up()
            for piece in pieces:
                a.say(*piece)
            settle(b)
            views.append(b.prefixes)
        assert views[0] == views[1]


# RFC 4456


def test_rfc4456_6_routes_of_clients_go_to_everybody_those_of_non_clients_to_clients() -> None:
    core = reflector()
    a, b = SimulatedPeer(core, 1).up(), SimulatedPeer(core, 2).up()
    m, n = SimulatedPeer(core, 3, NON_CLIENT).up(), SimulatedPeer(core, 4, NON_CLIENT).up()
    x = external(core, 5, 65100).up()
    a.announce(P)
    m.announce(Q)
    x.announce(R)
    settle(a, b, m, n, x)
    assert a.prefixes == {Q, R}
    assert b.prefixes == {P, Q, R}
    assert m.prefixes == n.prefixes == {P, R}
    assert x.prefixes == {P, Q}


def test_rfc4456_8_originator_and_cluster_list_are_set_and_nothing_else_is_touched() -> None:
    core = reflector()
    a, b = SimulatedPeer(core, 1).up(), SimulatedPeer(core, 2).up()
    a.announce(P, med=7, local_pref=200, as_path=path_of(65100), next_hop=address("198.51.100.9"))
    settle(b)
    told = b.told(P)
    assert told.originator_id == address("10.0.0.1")
    assert told.cluster_list == (core.speaker.cluster_id,)
    assert (told.med, told.local_pref, told.as_path) == (7, 200, path_of(65100))
    assert told.next_hop == address("198.51.100.9")


def test_rfc4456_8_originator_is_kept_and_cluster_id_is_prepended() -> None:
    core = reflector()
    a, b = SimulatedPeer(core, 1, NON_CLIENT).up(), SimulatedPeer(core, 2).up()
    a.announce(P, originator_id=address("10.9.9.9"), cluster_list=(address("10.8.8.8"),))
    settle(b)
    assert b.told(P).originator_id == address("10.9.9.9")
    assert b.told(P).cluster_list == (core.speaker.cluster_id, address("10.8.8.8"))


@pytest.mark.parametrize("more", [{}, {"originator_id": address("10.9.9.9")}])
def test_rfc4271_5_1_5_local_pref_is_added_where_an_internal_peer_left_it_out(more: dict[str, Any]) -> None:
    """There it must not be missing: FRR takes such a route for withdrawn."""
    core = reflector()
    a, b, n = (
        SimulatedPeer(core, 1).up(),
        SimulatedPeer(core, 2).up(),
        SimulatedPeer(core, 3, NON_CLIENT).up(),
    )
    old, x = SimulatedPeer(core, 4, capabilities={"asn4": None}).up(), external(core, 5, 65100).up()
    a.announce(P, local_pref=None, **more)
    n.announce(Q, local_pref=None, **more)
    settle(b, n, old, x)
    for peer in (b, old):
        assert peer.told(P).local_pref == peer.told(Q).local_pref == 100
    assert n.told(P).local_pref == 100
    assert x.told(P).local_pref is None
    codes = [code for _flags, code, _value in b.told(P).items()]
    assert codes == sorted(codes)
    assert core.ribs[V4].best[key(P)].attributes.local_pref is None


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"originator_id": speaker().bgp_identifier}, "ORIGINATOR_ID"),
        ({"cluster_list": (address("10.8.8.8"), speaker().cluster_id)}, "CLUSTER_LIST"),
        ({"as_path": path_of(65100, ASN)}, "AS loop"),
    ],
)
def test_rfc4456_8_a_loop_is_ineligible_and_withdraws_its_predecessor(
    attributes: dict[str, Any], reason: str
) -> None:
    core = reflector()
    a, b = SimulatedPeer(core, 1, NON_CLIENT).up(), SimulatedPeer(core, 2).up()
    a.announce(P)
    settle(b)
    assert b.prefixes == {P}
    a.announce(P, **attributes)
    settle(b)
    assert not b.prefixes
    assert reason in why(core, P)


def test_rfc4456_9_the_shorter_cluster_list_wins() -> None:
    core = reflector()
    a, b = SimulatedPeer(core, 1, NON_CLIENT).up(), SimulatedPeer(core, 2, NON_CLIENT).up()
    c = SimulatedPeer(core, 3).up()
    same = address("10.9.9.9")
    a.announce(P, originator_id=same, cluster_list=(address("10.8.8.8"), address("10.8.8.7")))
    b.announce(P, originator_id=same, cluster_list=(address("10.8.8.6"),))
    settle(c)
    assert c.told(P).cluster_list[1:] == (address("10.8.8.6"),)


# Communities


@pytest.mark.parametrize(
    ("community", "internal", "outside"),
    [
        (WellKnownCommunity.NO_ADVERTISE, False, False),
        (WellKnownCommunity.NO_EXPORT, True, False),
        (WellKnownCommunity.NO_EXPORT_SUBCONFED, True, False),
        (0x0000FFFF, True, True),
    ],
)
def test_rfc1997_well_known_communities(community: int, internal: bool, outside: bool) -> None:
    core = reflector()
    a, b = SimulatedPeer(core, 1).up(), SimulatedPeer(core, 2).up()
    x = external(core, 5, 65100).up()
    a.announce(P, communities=(community,))
    settle(b, x)
    assert (P in b.prefixes, P in x.prefixes) == (internal, outside)


def test_rfc8212_without_a_policy_nothing_goes_in_or_out() -> None:
    core = reflector()
    a = SimulatedPeer(core, 1).up()
    x = external(core, 5, 65100, accepts=False, tells=False).up()
    a.announce(P)
    x.announce(Q)
    settle(a, x)
    assert not x.prefixes
    assert not a.prefixes
    assert "RFC 8212" in why(core, Q)
    assert x.messages == ["eor", "eor"], "it must not wait for End-of-RIB for ever"


# RFC 8950


def test_rfc8950_4_ipv6_next_hops_only_for_peers_that_know_them() -> None:
    core = reflector()
    extended = {"extended_next_hop": ((V4, 2),)}
    a = SimulatedPeer(core, 1, capabilities=extended, ours=extended).up()
    b = SimulatedPeer(core, 2, capabilities=extended, ours=extended).up()
    old = SimulatedPeer(core, 3, ours=extended).up()
    selfish = SimulatedPeer(core, 4, options=MemberOptions(CLIENT, own_next_hop=True)).up()
    a.announce(P, next_hop=a.next_hop6)
    settle(a, b, old, selfish)
    assert b.told(P).next_hop == a.next_hop6
    assert not old.prefixes
    assert selfish.told(P).next_hop == address("192.0.2.254")
    a.announce(P)
    settle(old)
    assert old.told(P).next_hop == a.next_hop
    a.announce(P, next_hop=a.next_hop6)
    settle(old)
    assert not old.prefixes


@pytest.mark.parametrize("extended", [False, True])
def test_our_own_next_hop_is_our_address_of_the_session_where_the_family_carries_it(extended: bool) -> None:
    more = {"extended_next_hop": ((V4, 2),)} if extended else {}
    options = MemberOptions(CLIENT, own_next_hop=True)
    b = SimulatedPeer(reflector(), 2, options=options, capabilities=more, ours=more).up()
    assert b.member is not None
    ours = b.member.local_address
    assert (b.member.own_next_hop(V4), b.member.own_next_hop(V6)) == (ours, None)
    b.member.local_address = b.next_hop6
    assert (b.member.own_next_hop(V4), b.member.own_next_hop(V6)) == (
        b.next_hop6 if extended else None,
        b.next_hop6,
    )


@pytest.mark.parametrize("kind", [CLIENT, EXTERNAL])
def test_a_next_hop_that_changes_is_no_news_for_who_is_told_ours(kind: SourceKind) -> None:
    core = reflector()
    asn = 65100 if kind is EXTERNAL else ASN
    a = SimulatedPeer(core, 1).up()
    b = SimulatedPeer(core, 2, kind, asn, MemberOptions(kind, own_next_hop=True)).up()
    a.announce(P)
    settle(b)
    assert b.told(P).next_hop == address("192.0.2.254")
    b.messages.clear()
    a.announce(P, next_hop=address("192.0.2.77"))
    settle(b)
    assert b.messages == []


# RFC 8654


def test_rfc8654_4_what_does_not_fit_is_withdrawn() -> None:
    core = reflector()
    a = SimulatedPeer(core, 1, capabilities={"extended_message": True}, ours={"extended_message": True}).up()
    big = SimulatedPeer(
        core, 2, capabilities={"extended_message": True}, ours={"extended_message": True}
    ).up()
    small = SimulatedPeer(core, 3).up()
    plus = SimulatedPeer(
        core,
        4,
        options=MemberOptions(CLIENT, add_path_limit=2),
        takes_paths=True,
    ).up()
    a.announce(P, P6)
    settle(big, small, plus)
    assert small.prefixes == plus.prefixes == {P, P6}
    many = tuple(range(0x10000, 0x10000 + 1100))
    a.announce(P, P6, communities=many)
    settle(big, small, plus)
    assert big.told(P).communities == big.told(P6).communities == many
    assert not small.prefixes
    assert not plus.prefixes
    a.announce(P)
    settle(small, plus)
    assert small.prefixes == plus.prefixes == {P}


# Filters, and their change under a session


def filters(accept: bool, prefix: str = P) -> tuple[CompiledFilter, ...]:
    network = ip_network(prefix)
    match = PrefixMatch(network, Operator.IN, network.prefixlen, 32)
    return (CompiledFilter("some", (Rule("a rule", accept, match),)),)


@pytest.mark.parametrize("adding", [False, True])
def test_an_import_filter_judges_the_prefix_without_its_path_identifier(adding: bool) -> None:
    core = reflector()
    options = MemberOptions(CLIENT, import_filters=filters(False))
    a = SimulatedPeer(core, 1, options=options, sends_paths=adding).up()
    b = SimulatedPeer(core, 2).up()
    a.announce(P, Q, path_id=1 if adding else None)
    settle(b)
    assert b.prefixes == {Q}


def test_an_import_filter_that_changes_asks_for_everything_again() -> None:
    core = reflector()
    a, b = SimulatedPeer(core, 1).up(), SimulatedPeer(core, 2).up()
    a.announce(P, Q)
    settle(b)
    assert a.member is not None
    assert core.change(a.member, MemberOptions(CLIENT, import_filters=filters(False)))
    a.announce(P, Q)
    settle(b)
    assert b.prefixes == {Q}
    assert "rejected on import" in why(core, P)
    assert core.change(a.member, MemberOptions(CLIENT))
    a.announce(P, Q)
    settle(b)
    assert b.prefixes == {P, Q}


@pytest.mark.parametrize("adding", [False, True])
@pytest.mark.parametrize("lazy", [False, True])
def test_an_export_filter_that_changes_moves_the_difference_only(adding: bool, lazy: bool) -> None:
    core = reflector()
    a = SimulatedPeer(core, 1).up()
    limit = 2 if adding else 0
    old = MemberOptions(CLIENT, add_path_limit=limit)
    new = MemberOptions(CLIENT, add_path_limit=limit, export_filters=filters(False))
    b = SimulatedPeer(core, 2, options=old, takes_paths=adding).up()
    c = SimulatedPeer(core, 3, options=old, takes_paths=adding).up()
    a.announce(P, Q, P6)
    if not lazy:
        settle(b, c)
    assert b.member is not None
    assert not core.change(b.member, new)
    a.announce(R)
    a.withdraw(Q)
    settle(b, c)
    assert b.prefixes == {R, P6}
    assert c.prefixes == {P, R, P6}
    assert not core.change(b.member, old)
    settle(b, c)
    assert b.prefixes == c.prefixes == {P, R, P6}
    assert not core.change(b.member, MemberOptions(CLIENT, add_path_limit=limit, tells=False))
    settle(b, c)
    assert not b.prefixes
    a.announce(Q)
    assert not core.change(b.member, old)
    settle(b, c)
    assert b.prefixes == c.prefixes == {P, Q, R, P6}
    assert b.messages.count("eor") == 2


@pytest.mark.parametrize("adding", [False, True])
def test_what_is_told_through_another_export_filter_too_is_not_withdrawn_meanwhile(adding: bool) -> None:
    core = reflector()
    a = SimulatedPeer(core, 1).up()
    limit = 2 if adding else 0
    b = SimulatedPeer(core, 2, options=MemberOptions(CLIENT, add_path_limit=limit), takes_paths=adding).up()
    a.announce(P, Q)
    settle(b)
    assert b.member is not None
    core.change(b.member, MemberOptions(CLIENT, add_path_limit=limit, export_filters=filters(False)))
    withdrawn = []
    while buffers := core.take(b.member):
        b.framer.feed(b"".join(buffers))
        withdrawn += [
            item for _, body in b.framer for unreach in b.learns.decode(body).unreach for item in unreach.nlri
        ]
    assert [item[-len(key(P)) :] for item in withdrawn] == [key(P)]


def test_news_of_the_moment_are_told_before_a_peer_moves_to_another_export_filter() -> None:
    core = reflector()
    a, b = SimulatedPeer(core, 1).up(), SimulatedPeer(core, 2).up()
    a.announce(P, Q, R)
    settle(b)
    assert b.member is not None
    core.change(b.member, MemberOptions(CLIENT, export_filters=filters(False)))
    a.withdraw(Q)
    assert b.read().prefixes == {R}


def test_rfc4724_2_end_of_rib_comes_also_to_who_moves_to_another_export_filter_meanwhile() -> None:
    core = reflector(deferral=60.0)
    core.deferral.expected = {"192.0.2.9"}
    a, c = SimulatedPeer(core, 1).up(), SimulatedPeer(core, 3).up()
    for med in range(9):
        a.announce(P, Q, med=med)
        settle(c)
    b = SimulatedPeer(core, 2).up()
    assert b.member is not None
    core.change(b.member, MemberOptions(CLIENT, export_filters=filters(False)))
    settle(b)
    assert "eor" not in b.messages
    tick(core, 60.0)
    settle(b)
    assert b.messages[-2:] == ["eor", "eor"]
    assert b.prefixes == {Q}


def test_what_a_filter_kept_from_a_peer_is_not_withdrawn_from_it() -> None:
    core = reflector()
    a = SimulatedPeer(core, 1).up()
    b = SimulatedPeer(core, 2, options=MemberOptions(CLIENT, export_filters=filters(False))).up()
    settle(b)
    told = list(b.messages)
    a.announce(P)
    settle(b)
    a.withdraw(P)
    settle(b)
    assert b.messages == told


def test_a_policy_that_lets_a_peer_be_told_again_tells_it_the_families_of_its_session() -> None:
    core = reflector()
    a = SimulatedPeer(core, 1).up()
    b = SimulatedPeer(core, 2, options=MemberOptions(CLIENT, tells=False)).up(families=frozenset({V4}))
    a.announce(P, P6)
    settle(b)
    assert not b.prefixes
    assert b.member is not None
    core.change(b.member, MemberOptions(CLIENT))
    settle(b)
    assert b.prefixes == {P}


def test_what_an_export_filter_says_of_the_priority_is_told_within_the_as_and_out_of_it() -> None:
    core = reflector()
    a = SimulatedPeer(core, 1).up()
    raising = (CompiledFilter("some", (Rule("a rule", True, set_priority=77, prepend=(65200,)),)),)
    prepending = (CompiledFilter("some", (Rule("a rule", True, prepend=(65200,)),)),)
    b = SimulatedPeer(core, 2, options=MemberOptions(CLIENT, export_filters=raising)).up()
    x = SimulatedPeer(core, 3, asn=65100, options=MemberOptions(EXTERNAL, export_filters=raising)).up()
    y = SimulatedPeer(core, 4, asn=65100, options=MemberOptions(EXTERNAL, export_filters=prepending)).up()
    a.announce(P, med=5, local_pref=200)
    a.announce(Q, med=6, as_path=path_of(65300))
    a.announce(R, communities=(WellKnownCommunity.NO_EXPORT,))
    settle(b, x, y)
    assert (b.prefixes, x.prefixes, y.prefixes) == ({P, Q, R}, {P, Q}, {P, Q})
    assert (b.told(P).local_pref, b.told(P).med) == (local_pref_of(77), 5)
    assert {told.local_pref for told in (x.told(P), x.told(Q), y.told(P), y.told(Q))} == {None}
    assert (x.told(P).med, x.told(Q).med) == (77, 77)
    assert (y.told(P).med, y.told(Q).med) == (5, None)
    assert y.told(P).as_path == path_of(ASN, 65200)


def test_groups_without_readers_are_forgotten() -> None:
    core = reflector()
    for number in range(1, 20):
        peer = SimulatedPeer(
            core, number, options=MemberOptions(CLIENT, export_filters=filters(False, f"10.{number}.0.0/16"))
        )
        peer.up()
        peer.announce(P)
        settle(peer)
        peer.down()
    core.flush()
    assert not core.groups
    assert not core.members
    assert not len(core.ribs[V4])


# Drain


def test_rfc8326_4_drain_tells_everything_again_as_the_last_resort() -> None:
    core = reflector()
    a, b, x = SimulatedPeer(core, 1).up(), SimulatedPeer(core, 2).up(), external(core, 5, 65100).up()
    c = SimulatedPeer(core, 3, options=MemberOptions(CLIENT, add_path_limit=3), takes_paths=True).up()
    a.announce(P, local_pref=500)
    settle(b, c, x)
    core.drain()
    settle(b, c, x)
    late = SimulatedPeer(core, 6).up()
    settle(late)
    for told in (b.told(P), *c.paths(P), late.told(P)):
        assert told.local_pref == 0
        assert WellKnownCommunity.GRACEFUL_SHUTDOWN in told.communities
    assert len(c.paths(P)) == 1
    assert WellKnownCommunity.GRACEFUL_SHUTDOWN in x.told(P).communities
    assert x.told(P).local_pref is None


def test_rfc8326_4_drain_with_a_two_octet_speaker() -> None:
    """What it gets is in two-octet form when it is marked; read as four-octet form, two segments are none."""
    core = reflector()
    a, b = SimulatedPeer(core, 1).up(), SimulatedPeer(core, 2).up()
    old = SimulatedPeer(core, 3, capabilities={"asn4": None}).up()
    path = ((SegmentType.AS_SEQUENCE, (64999,)), (SegmentType.AS_SET, (65010, 65011, 65012, 65013, 65014)))
    a.announce(P, as_path=path)
    settle(b, old)
    core.drain()
    a.announce(Q, as_path=path)
    settle(b, old)
    for told in (b.told(P), b.told(Q), old.told(P), old.told(Q)):
        assert (told.local_pref, told.as_path) == (0, path)
        assert WellKnownCommunity.GRACEFUL_SHUTDOWN in told.communities


def test_rfc8326_4_what_another_as_marks_is_the_last_resort_here() -> None:
    """As an operator would write it into the import policy of every eBGP session; it can be left out."""
    core = reflector()
    going, staying = external(core, 5, 65100).up(), external(core, 6, 65101).up()
    a = SimulatedPeer(core, 1).up()
    mark = (WellKnownCommunity.GRACEFUL_SHUTDOWN,)
    going.announce(P, P6)
    staying.announce(P, as_path=path_of(65101, 65300, 65301))
    settle(a)
    assert a.told(P).as_path == path_of(65100)
    going.announce(P, P6, communities=mark)
    settle(a)
    assert a.told(P).as_path == path_of(65101, 65300, 65301)
    assert (a.told(P6).local_pref, a.told(P6).communities) == (0, mark), "better than none"
    going.announce(P)
    settle(a)
    assert a.told(P).as_path == path_of(65100)
    indifferent = external(core, 7, 65102, honour_graceful_shutdown=False).up()
    indifferent.announce(Q, communities=mark)
    inside = SimulatedPeer(core, 2).up()
    inside.announce(R, local_pref=500, communities=mark)
    settle(a)
    assert (a.told(Q).local_pref, a.told(R).local_pref) == (100, 500)


def test_a_drain_taken_back_tells_everything_as_it_is() -> None:
    core = reflector()
    filtered = MemberOptions(CLIENT, export_filters=filters(False, Q))
    a, b = SimulatedPeer(core, 1).up(), SimulatedPeer(core, 2).up()
    f = SimulatedPeer(core, 4, options=filtered).up()
    a.announce(P, Q, local_pref=500)
    settle(b, f)
    before = b.told(P).raw
    for _ in range(2):
        core.drain()
        settle(b, f)
        assert b.told(P).local_pref == f.told(P).local_pref == 0
        core.drain(False)
        settle(b, f)
        assert b.told(P).raw == f.told(P).raw == before
        assert (b.prefixes, f.prefixes) == ({P, Q}, {P})
