"""Which of the routes that peers tell count: loops, filters, bounds, and which are used together."""

from __future__ import annotations

import dataclasses
from ipaddress import IPv4Address, ip_address, ip_network

from bgpd.plan.policy import (
    CompiledFilter,
    ImportPolicy,
    Operator,
    PrefixMatch,
    Rule,
)
from bgpd.resources.scalars import Community
from bgpd.wire.attributes import encode_attributes
from bgpd.wire.iana import MessageType, RefreshSubtype
from bgpd.wire.messages import Notification
from bgpd.wire.nlri import IPV4_UNICAST, nlri_of
from bgpd.wire.update import encode_updates
from tests.agent.telling import ASN, OWN, A, B, Cluster, P, Q, peering


def test_loops_are_stored_but_not_used_rfc4271_9_1_2() -> None:
    cluster = Cluster(peering(P, 65100), peering(Q, 65100, allowed_own_as=1))
    cluster.up(P, 65100)
    cluster.up(Q, 65100)
    cluster.announce(P, A, path=(65100, ASN))
    assert cluster.routes == set()
    assert "our AS" in cluster.why_not(A)
    cluster.announce(Q, A, path=(65100, ASN))
    assert cluster.routes == {A}


def test_our_own_route_reflected_back_is_not_used_rfc4456_8() -> None:
    cluster = Cluster(peering(P))
    cluster.up(P)
    attributes = encode_attributes(origin=0, as_path=(), local_pref=100, originator_id=OWN)
    [message] = encode_updates(IPV4_UNICAST, attributes, OWN, [nlri_of(ip_network(A))])
    cluster.update(P, message)
    assert cluster.routes == set()
    assert "ORIGINATOR_ID" in cluster.why_not(A)


def test_a_reflected_route_is_used_by_a_node_of_no_cluster_and_not_in_the_cluster_it_has_been_through() -> (
    None
):
    through = IPv4Address("244.0.0.1").packed
    for cluster_id, used in ((None, {A}), (through, set()), (IPv4Address("244.0.0.2").packed, {A})):
        cluster = Cluster(peering(P))
        cluster.learned.bounds = dataclasses.replace(cluster.learned.bounds, cluster_id=cluster_id)
        cluster.up(P)
        attributes = encode_attributes(local_pref=100, originator_id=b"\x0a\0\0\x09", cluster_list=(through,))
        for message in encode_updates(IPV4_UNICAST, attributes, b"\x0a\0\0\x09", [nlri_of(ip_network(A))]):
            cluster.update(P, message)
        assert cluster.routes == used


def test_a_router_without_a_filter_has_the_ordinary_priority() -> None:
    """Less than one whose filter says a higher number, more than one with a lower."""
    for priority, chosen in ((2000, P), (512, Q)):
        rule = CompiledFilter("f", (Rule("f", True, set_priority=priority),))
        filtered = ImportPolicy((rule,), internal=False)
        cluster = Cluster(peering(P, 65100), peering(Q, 65100, import_policy=filtered))
        for address in (P, Q):
            cluster.up(address, 65100)
            cluster.announce(address, A, next_hop=address, path=(65100,))
        cluster.learned.take_changes()
        assert cluster.learned.next_hops(IPV4_UNICAST, nlri_of(ip_network(A))) == (ip_address(chosen).packed,)


def test_a_default_route_only_if_declared() -> None:
    for accepted in (False, True):
        cluster = Cluster(peering(P), accept_default=accepted)
        cluster.up(P)
        cluster.announce(P, "0.0.0.0/0", A)
        assert cluster.routes == ({"0.0.0.0/0", A} if accepted else {A})


def test_a_leaked_table_stops_at_the_limit_and_known_prefixes_still_change() -> None:
    cluster = Cluster(peering(P), peering(Q), max_routes=3)
    cluster.up(P)
    cluster.up(Q)
    cluster.announce(P, *(f"192.0.{n}.0/24" for n in range(10)))
    assert len(cluster.routes) == 3
    assert cluster.learned.peers[P].over_limit
    cluster.announce(P, *(f"192.0.{n}.0/24" for n in range(10)), next_hop="10.0.0.8")
    assert len(cluster.routes) == 3
    cluster.announce(Q, *cluster.routes, next_hop="10.0.0.50")
    assert len(cluster.routes) == 3


def test_what_was_too_much_of_a_peer_is_asked_for_again_when_there_is_room() -> None:
    some = [f"192.0.{n}.0/24" for n in range(5)]
    cluster = Cluster(peering(P, max_prefixes=2))
    cluster.up(P)
    cluster.announce(P, *some)
    assert cluster.routes == set(some[:2])
    assert cluster.learned.with_room(0.0) == []
    cluster.announce(P, *some, next_hop="10.0.0.8")
    assert cluster.routes == set(some[:2])
    cluster.withdraw(P, some[0])
    assert cluster.learned.with_room(20.0) == [], "not all the time"
    cluster.learned.peers[P].up = False
    assert cluster.learned.with_room(40.0) == [], "there is nobody to ask"
    cluster.learned.peers[P].up = True
    assert cluster.learned.with_room(40.0) == [P]
    cluster.announce(P, *some[1:])
    assert cluster.routes == set(some[1:3])
    assert cluster.learned.with_room(80.0) == []
    cluster.withdraw(P, *some[2:])
    assert cluster.learned.with_room(120.0) == [], "nothing was refused that is still there"
    cluster.announce(P, some[4])
    assert cluster.routes == {some[1], some[4]}


def test_a_prefix_told_twice_in_one_update_counts_once() -> None:
    cluster = Cluster(peering(P, max_prefixes=2))
    cluster.up(P)
    cluster.announce(P, A, A)
    cluster.announce(P, B, B)
    assert cluster.routes == {A, B}


def test_another_way_to_a_known_prefix_is_not_too_many() -> None:
    cluster = Cluster(peering(P), peering(Q), max_routes=1)
    for peer in (P, Q):
        cluster.up(peer)
        cluster.announce(peer, A, next_hop=peer)
    cluster.down(P, "notification received (6,2)")
    assert cluster.routes == {A}


def test_what_is_rejected_or_swept_does_not_count_against_the_limit() -> None:
    rejecting = Rule("f", False, prefix=PrefixMatch(ip_network("10.65.0.0/16"), Operator.IN, 16, 32))
    policy = ImportPolicy((CompiledFilter("f", (rejecting, Rule("rest", True))),), internal=True)
    cluster = Cluster(peering(P, max_prefixes=3, import_policy=policy))
    cluster.up(P)
    cluster.announce(P, *(f"10.65.{n}.0/24" for n in range(4)))
    some = [f"10.64.{n}.0/24" for n in range(5)]
    cluster.announce(P, *some)
    assert cluster.routes == set(some[:3])
    cluster.end(P)
    cluster.refresh(P, RefreshSubtype.BEGIN)
    cluster.announce(P, *some[3:])
    assert cluster.routes == set(some[:3])
    cluster.refresh(P, RefreshSubtype.END)
    assert cluster.routes == set()
    cluster.announce(P, *some[1:])
    assert cluster.routes == set(some[1:4])


def test_other_bounds_of_a_peer_are_applied_to_what_it_has_said() -> None:
    was = peering(P, 65100, max_prefixes=1)
    for now in (
        dataclasses.replace(was, max_prefixes=9),
        dataclasses.replace(was, allowed_own_as=1),
    ):
        cluster = Cluster(was)
        cluster.up(P, 65100)
        assert cluster.learned.configure([was]) == []
        assert cluster.learned.configure([now]) == [P]
        cluster.learned.bounds = dataclasses.replace(cluster.learned.bounds, normal_priority=(2000, 1024))
        assert cluster.learned.configure([now, peering(Q)]) == [P], "its routes were given the other priority"
        assert cluster.learned.configure([now, peering(Q)]) == []


def test_an_unreachable_next_hop_makes_room_for_the_next_best() -> None:
    cluster = Cluster(peering(P), peering(Q), unreachable=["10.0.0.7"])
    cluster.up(P)
    cluster.up(Q)
    cluster.announce(P, A, next_hop="10.0.0.7")
    assert cluster.routes == set()
    cluster.announce(Q, A, next_hop="10.0.0.8")
    assert cluster.routes == {A}
    assert cluster.learned.next_hops(IPV4_UNICAST, nlri_of(ip_network(A))) == (
        IPv4Address("10.0.0.8").packed,
    )


def test_equal_paths_are_all_used() -> None:
    cluster = Cluster(peering(P), peering(Q))
    for address in (P, Q):
        cluster.up(address)
        cluster.announce(address, A, next_hop=address)
    cluster.learned.take_changes()
    hops = cluster.learned.next_hops(IPV4_UNICAST, nlri_of(ip_network(A)))
    assert hops == (IPv4Address(P).packed, IPv4Address(Q).packed)


def test_what_a_peer_that_is_away_said_does_not_share_with_what_one_that_is_up_says() -> None:
    """A block moves from one node to another while one of two reflectors is dead."""
    cluster = Cluster(peering(P), peering(Q))
    for address in (P, Q):
        cluster.up(address)
        cluster.announce(address, A, next_hop="10.0.0.7")
    cluster.learned.take_changes()
    cluster.down(P)
    cluster.announce(Q, A, next_hop="10.0.0.8")
    changes = cluster.learned.take_changes()[IPV4_UNICAST]
    nlri = nlri_of(ip_network(A))
    assert nlri in changes.moved
    assert cluster.learned.next_hops(IPV4_UNICAST, nlri) == (IPv4Address("10.0.0.8").packed,)
    cluster.down(Q)
    assert nlri in cluster.learned.take_changes()[IPV4_UNICAST].moved
    assert len(cluster.learned.next_hops(IPV4_UNICAST, nlri)) == 2


def test_import_filters_decide_and_change() -> None:
    inside = PrefixMatch(ip_network("10.77.0.0/16"), Operator.IN, 16, 32)
    community = Community((65000, 7))
    rules = (
        Rule("only pools", True, prefix=inside, add_communities=(community,), set_priority=512),
        Rule("nothing else", False),
    )
    policy = ImportPolicy((CompiledFilter("f", rules),))
    cluster = Cluster(peering(P, import_policy=policy))
    cluster.up(P)
    cluster.announce(P, A, "192.0.2.0/24")
    assert cluster.routes == {A}
    assert cluster.why_not("192.0.2.0/24") == "nothing else"
    attributes = cluster.learned.ribs[IPV4_UNICAST].best[nlri_of(ip_network(A))].attributes
    assert attributes.local_pref == 2147483647 - 512
    assert attributes.communities == (65000 << 16 | 7,)


def test_a_changed_filter_asks_for_everything_again() -> None:
    cluster = Cluster(peering(P), peering(Q))
    policy = ImportPolicy((CompiledFilter("f", (Rule("no", False),)),))
    assert cluster.learned.configure([peering(P, import_policy=policy), peering(Q)]) == [P]


def test_the_last_notification_is_remembered() -> None:
    cluster = Cluster(peering(P))
    cluster.up(P)
    body = Notification(6, 2, b"\x03bye").body()
    cluster.learned.message(P, MessageType.NOTIFICATION, body, 0.0)
    assert cluster.learned.peers[P].last_notification == Notification(6, 2, b"\x03bye")
