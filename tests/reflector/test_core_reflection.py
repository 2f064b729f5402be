"""Who is told what, and in which words, through a whole core."""

from ipaddress import ip_network
from typing import Any

import pytest

from bgpd.plan.policy import CompiledFilter, Operator, PrefixMatch, Rule
from bgpd.rib import decision
from bgpd.rib.path import Cost, Path, SourceKind
from bgpd.wire.attributes import encode_attributes
from bgpd.wire.iana import Role, SegmentType, WellKnownCommunity
from bgpd.wire.update import encode_updates
from reflector.core import Reflector
from reflector.member import MemberOptions
from tests.reflector.simulated import (
    ASN,
    BOTH,
    V4,
    SimulatedPeer,
    address,
    graceful,
    key,
    path_of,
    reflector,
    settle,
    speaker,
)

CLIENT, NON_CLIENT, EXTERNAL = SourceKind.CLIENT, SourceKind.NON_CLIENT, SourceKind.EXTERNAL
P, Q, R = "10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24"
P6 = "2001:db8:1::/48"


def external(core: Reflector, number: int, asn: int, **options: Any) -> SimulatedPeer:
    chosen = MemberOptions(EXTERNAL, **options)
    return SimulatedPeer(core, number, EXTERNAL, asn, chosen)


def why(core: Reflector, prefix: str) -> str:
    core.flush()
    (path,) = core.ribs[V4].candidates(key(prefix))
    return path.ineligible or ""


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


# RFC 4271, eBGP


def test_rfc4271_5_1_attributes_towards_another_as() -> None:
    core = reflector()
    a, x = SimulatedPeer(core, 1).up(), external(core, 5, 65100, own_next_hop=True).up()
    a.announce(P, local_pref=300, as_path=path_of(65200), med=4, originator_id=address("10.9.9.9"))
    settle(x)
    told = x.told(P)
    assert told.as_path == path_of(ASN, 65200)
    assert told.local_pref is None
    assert told.med is None
    assert told.originator_id is None
    assert told.cluster_list == ()
    assert told.next_hop == address("192.0.2.254")


def test_rfc4271_5_1_4_and_5_1_6_a_med_stays_inside_and_what_was_aggregated_stays_so() -> None:
    """A MED of our own AS's route is told, one from another AS is not; ATOMIC_AGGREGATE always stays."""
    core = reflector()
    a, b = SimulatedPeer(core, 1).up(), SimulatedPeer(core, 2).up()
    x, y = external(core, 5, 65100).up(), external(core, 6, 65101).up()
    aggregator = (65100, address("10.9.9.9"))
    a.announce(P, med=4, atomic_aggregate=True)
    x.announce(Q, med=7, atomic_aggregate=True, aggregator=aggregator)
    settle(b, y)
    assert [told.med for told in (b.told(P), b.told(Q), y.told(P), y.told(Q))] == [4, 7, 4, None]
    for told in (b.told(P), b.told(Q), y.told(P), y.told(Q)):
        assert told.atomic_aggregate
    assert b.told(Q).aggregator == y.told(Q).aggregator == aggregator


def test_rfc5065_4_confederation_segments_stay_inside() -> None:
    core = reflector()
    a, b, x = SimulatedPeer(core, 1).up(), SimulatedPeer(core, 2).up(), external(core, 5, 65100).up()
    confederate = (SegmentType.AS_CONFED_SEQUENCE, (65001, 65002))
    a.announce(P, as_path=(confederate, *path_of(65200)))
    settle(b, x)
    assert b.told(P).as_path == (confederate, *path_of(65200))
    assert x.told(P).as_path == path_of(ASN, 65200)


def test_rfc4360_6_and_rfc7311_3_2_what_is_internal_stays_inside() -> None:
    core = reflector()
    a, b, x = SimulatedPeer(core, 1).up(), SimulatedPeer(core, 2).up(), external(core, 5, 65100).up()
    transitive, internal = bytes.fromhex("0002fde800000001"), bytes.fromhex("4004fde800000001")
    aigp = (0x80, 26, bytes.fromhex("01000b0000000000000018"))
    prefix_sid = (0xC0, 40, bytes.fromhex("01000700000000000000"[:20]))
    a.announce(P, extended_communities=(transitive, internal), unknown=(aigp, prefix_sid))
    a.announce(Q, extended_communities=(internal,))
    settle(b, x)
    assert b.told(P).extended_communities == (transitive, internal)
    assert b.told(P).value(26) == aigp[2]
    assert x.told(P).extended_communities == (transitive,)
    assert x.told(P).value(26) is x.told(P).value(40) is None
    assert not x.told(Q).extended_communities


def test_rfc4271_5_1_5_local_pref_is_added_for_internal_peers() -> None:
    core = reflector()
    a, x = SimulatedPeer(core, 1).up(), external(core, 5, 65100).up()
    x.announce(P, med=9)
    settle(a)
    assert (a.told(P).local_pref, a.told(P).med) == (100, 9)
    assert a.told(P).next_hop == x.next_hop
    assert a.told(P).originator_id is None


def test_rfc4271_9_1_2_own_as_in_the_path_unless_allowed() -> None:
    core = reflector()
    x = external(core, 5, 65100).up()
    x.announce(P, as_path=path_of(65100, ASN))
    assert "AS loop" in why(core, P)
    y = external(core, 6, 65101, allowed_own_as=1).up()
    y.announce(Q, as_path=path_of(65101, ASN))
    assert not why(core, Q)
    y.announce(Q, as_path=path_of(65101, ASN, ASN))
    assert "AS loop" in why(core, Q)


def test_rfc4271_6_3_our_own_address_as_next_hop_is_ineligible() -> None:
    core = reflector()
    x = external(core, 5, 65100).up()
    x.announce(P, next_hop=address("192.0.2.254"))
    assert "own address" in why(core, P)


def test_rfc4271_6_3_a_path_of_another_as_begins_with_that_as() -> None:
    """Where it does not, it is ineligible and takes its predecessor away; a route server is spared."""
    core = reflector()
    strict, server = external(core, 5, 65100).up(), external(core, 6, 65101, enforce_first_as=False).up()
    a = SimulatedPeer(core, 1).up()
    strict.announce(P)
    server.announce(Q, as_path=path_of(65200))
    settle(a)
    assert a.prefixes == {P, Q}
    aggregate = (SegmentType.AS_SET, (65100, 65200))
    for path in (path_of(65200), path_of(65200, 65100), (aggregate,), (aggregate, *path_of(65100))):
        strict.announce(P, as_path=path)
        settle(a)
        assert a.prefixes == {Q}
        assert "does not begin with the peer's AS 65100" in why(core, P)
        strict.announce(P, as_path=path_of(65100, 65200))
        settle(a)
        assert a.prefixes == {P, Q}
    old = external(core, 7, 65107)
    old.capabilities["asn4"] = None
    old.up().announce(R, as_path=path_of(65107, 4200000001))
    settle(a)
    assert a.prefixes == {P, Q, R}


def test_local_as_towards_one_peer() -> None:
    """A peer that knows us as another AS sees that number only, and may not bring it back."""
    core = reflector()
    a, x = SimulatedPeer(core, 1).up(), external(core, 5, 65100, local_asn=64999).up()
    a.announce(P)
    settle(x)
    assert x.told(P).as_path == path_of(64999)
    x.announce(Q, as_path=path_of(65100, 64999))
    assert "AS loop" in why(core, Q)


def test_rfc6793_4_2_a_two_octet_peer_gets_as_trans_and_as4_path() -> None:
    core = reflector()
    a = SimulatedPeer(core, 1).up()
    old = SimulatedPeer(core, 2, capabilities={"asn4": None}).up()
    a.announce(P, as_path=path_of(4200000001, 65100))
    settle(old)
    assert old.told(P).as_path == path_of(4200000001, 65100)  # put together again by the receiver
    old.announce(Q, as_path=path_of(65100))
    settle(a)
    assert a.told(Q).as_path == path_of(65100)


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


# RFC 9234


@pytest.mark.parametrize(
    ("role", "otc", "leaked"),
    [
        (Role.PROVIDER, 65100, True),
        (Role.ROUTE_SERVER, 65100, True),
        (Role.PEER, 65100, False),
        (Role.PEER, 65101, True),
        (Role.CUSTOMER, 65101, False),
        (Role.ROUTE_SERVER_CLIENT, 65101, False),
        (Role.PROVIDER, None, False),
    ],
)
def test_rfc9234_5_leaks_are_ineligible(role: Role, otc: int | None, leaked: bool) -> None:
    core = reflector()
    x = external(core, 5, 65100, role=role).up()
    x.announce(P, otc=otc)
    assert ("route leak" in why(core, P)) is leaked


@pytest.mark.parametrize(
    ("role", "otc"),
    [
        (Role.CUSTOMER, 65100),
        (Role.ROUTE_SERVER_CLIENT, 65100),
        (Role.PEER, 65100),
        (Role.PROVIDER, None),
        (Role.ROUTE_SERVER, None),
        (None, None),
    ],
)
def test_rfc9234_5_ingress_marks_what_came_from_above_or_beside(role: Role | None, otc: int | None) -> None:
    core = reflector()
    a, x = SimulatedPeer(core, 1).up(), external(core, 5, 65100, role=role).up()
    x.announce(P)
    x.announce(P6)
    settle(a)
    assert a.told(P).otc == a.told(P6).otc == otc
    assert a.told(P6).next_hop == x.next_hop6


@pytest.mark.parametrize(
    ("role", "unmarked", "marked"),
    [
        (Role.PROVIDER, ASN, 65200),
        (Role.ROUTE_SERVER, ASN, 65200),
        (Role.PEER, ASN, None),
        (Role.CUSTOMER, 0, None),
        (Role.ROUTE_SERVER_CLIENT, 0, None),
    ],
)
def test_rfc9234_5_egress(role: Role, unmarked: int, marked: int | None) -> None:
    """`unmarked`: what is attached (0: nothing); `marked`: what a marked route carries (None: not told)."""
    core = reflector()
    a, x = SimulatedPeer(core, 1).up(), external(core, 5, 65100, role=role).up()
    a.announce(P)
    a.announce(Q, otc=65200)
    settle(x)
    assert (x.told(P).otc or 0) == unmarked
    assert (x.told(Q).otc if Q in x.prefixes else None) == marked


# Filters, and their change under a session


def filters(accept: bool, prefix: str = P) -> tuple[CompiledFilter, ...]:
    network = ip_network(prefix)
    match = PrefixMatch(network, Operator.IN, network.prefixlen, 32)
    return (CompiledFilter("some", (Rule("a rule", accept, match),)),)


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


# Add-path


def test_rfc7911_every_path_of_a_prefix_and_withdraw_exactly_one() -> None:
    core = reflector()
    a = SimulatedPeer(core, 1, sends_paths=True).up()
    b = SimulatedPeer(core, 2).up()
    c = SimulatedPeer(core, 3, options=MemberOptions(CLIENT, add_path_limit=3), takes_paths=True).up()
    plain = SimulatedPeer(core, 4).up()
    for path_id in (1, 2, 3):
        a.announce(P, path_id=path_id, med=path_id)
    b.announce(P, med=9)
    settle(c, plain)
    assert sorted(path.med or 0 for path in c.paths(P)) == [1, 2, 3]
    assert plain.told(P).med == 1
    a.withdraw(P, path_id=2)
    settle(c, plain)
    assert sorted(path.med or 0 for path in c.paths(P)) == [1, 3, 9]
    a.down()
    settle(c, plain)
    assert [path.med for path in c.paths(P)] == [9]
    assert plain.told(P).med == 9


def test_thousands_of_paths_of_one_prefix_are_not_put_in_order_for_the_sake_of_two() -> None:
    core = reflector()
    a = SimulatedPeer(core, 1, options=MemberOptions(CLIENT, path_limit=4000), sends_paths=True).up()
    c = SimulatedPeer(core, 3, options=MemberOptions(CLIENT, add_path_limit=2), takes_paths=True).up()
    for path_id in range(1, 3000):
        a.announce(P, path_id=path_id, med=path_id % 1500)
    calls = 0
    real = decision.best

    def counted(paths: list[Path], cost: Cost | None = None) -> Path | None:
        nonlocal calls
        calls += 1
        return real(paths, cost)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decision, "best", counted)
        settle(c)
    assert [path.med for path in c.paths(P)] == [0, 1]
    assert calls < 10


def test_path_identifiers_do_not_add_up() -> None:
    core = reflector()
    c = SimulatedPeer(core, 3, options=MemberOptions(CLIENT, add_path_limit=3), takes_paths=True).up()
    for number in range(60):
        a = SimulatedPeer(core, 1, sends_paths=True).up()
        for path_id in range(number * 10, number * 10 + 10):
            a.announce(P, path_id=path_id)
            settle(c)
            a.withdraw(P, path_id=path_id)
        a.announce(P, path_id=7)
        settle(c)
        assert len(c.paths(P)) == 1
        a.down()
        settle(c)
        assert not c.prefixes
    assert len(core._identifiers[V4]) == 0
    assert len(core._identifiers[V4]._uses) < 10


def test_rfc7911_3_identifiers_we_send_are_our_own_and_stay_with_their_path() -> None:
    """Two peers use the same one for one prefix: whoever hears of both is told two, and which one is gone."""
    core = reflector()
    a, b = SimulatedPeer(core, 1, sends_paths=True).up(), SimulatedPeer(core, 2, sends_paths=True).up()
    c = SimulatedPeer(core, 3, options=MemberOptions(CLIENT, add_path_limit=4), takes_paths=True).up()
    a.announce(P, path_id=7, med=1)
    b.announce(P, path_id=7, med=2)
    settle(c)

    def told() -> dict[int | None, bytes]:
        return {each.attributes.med: item[:4] for item, each in c.view[V4].items()}

    before = told()
    assert set(before) == {1, 2}
    assert before[1] != before[2]
    b.announce(P, path_id=7, med=3)
    settle(c)
    assert told() == {1: before[1], 3: before[2]}, "the same path with other attributes"
    a.withdraw(P, path_id=7)
    settle(c)
    assert told() == {3: before[2]}


def test_of_one_prefix_a_peer_has_so_many_paths_and_no_more() -> None:
    """Known ones may change, other prefixes come; once there is room the peer is to be asked again."""
    core = reflector()
    options = MemberOptions(CLIENT, path_limit=3)
    a = SimulatedPeer(core, 1, options=options, sends_paths=True).up()
    other = SimulatedPeer(core, 2, options=options, sends_paths=True).up()
    b = SimulatedPeer(core, 3, options=MemberOptions(CLIENT, add_path_limit=64), takes_paths=True).up()
    next_hop = a.next_hop
    flood = [number.to_bytes(4, "big") + key(P) for number in range(10_000)]
    a.say(*encode_updates(V4, encode_attributes(next_hop=next_hop, local_pref=100), next_hop, flood, 4096))
    for path_id in range(3):
        other.announce(P, path_id=path_id)
    settle(b)
    assert len(core.ribs[V4].candidates(key(P))) == len(b.paths(P)) == 6
    assert core.paths_refused == 9_997
    assert a.member is not None
    assert not a.member.wanted_again
    a.announce(P, path_id=2, med=5)
    a.announce(Q, path_id=9_000)
    settle(b)
    assert [told.med for told in b.paths(P)].count(5) == 1
    assert Q in b.prefixes
    a.withdraw(P, path_id=0)
    assert a.member.wanted_again == {V4}
    a.announce(P, P6, path_id=77)
    a.announce(P, path_id=78)
    settle(b)
    assert len(b.paths(P)) == 6
    assert core.paths_refused == 9_998


def test_paths_of_before_a_restart_do_not_count() -> None:
    core = reflector()
    options = MemberOptions(CLIENT, path_limit=2)
    a = SimulatedPeer(core, 1, options=options, sends_paths=True)
    a.capabilities["graceful_restart"] = a.ours["graceful_restart"] = graceful()
    a.up()
    for path_id in (1, 2):
        a.announce(P, path_id=path_id)
    a.down(1.0, BOTH)
    a.up(2.0)
    for path_id in (3, 4, 5):
        a.announce(P, path_id=path_id)
    a.end_of_rib()
    assert {path.path_id for path in core.ribs[V4].candidates(key(P))} == {3, 4}
    assert core.paths_refused == 1


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
