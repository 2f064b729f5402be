"""What peers said, and what is kept of it: graceful restart, refresh, filters, bounds, fail static."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from ipaddress import IPv4Address, ip_address, ip_network

import pytest

from agent.learned import Bounds, Learned
from bgpd.plan.model import Peering, PeeringKind
from bgpd.plan.policy import (
    CompiledFilter,
    ExportPolicy,
    ImportPolicy,
    Operator,
    PrefixMatch,
    Rule,
)
from bgpd.resources.scalars import Community
from bgpd.wire.attributes import encode_attributes
from bgpd.wire.capabilities import Capabilities, GracefulRestart
from bgpd.wire.iana import MessageType, RefreshSubtype, SegmentType, WellKnownCommunity
from bgpd.wire.messages import Notification, Open, RouteRefresh
from bgpd.wire.nlri import IPV4_UNICAST, Family, nlri_of, prefix_of
from bgpd.wire.update import encode_end_of_rib, encode_updates, encode_withdrawals

ASN = 65000
OWN = IPv4Address("10.0.0.1").packed
HEADER = 19


def peering(address: str, asn: int = ASN, **options: object) -> Peering:
    policy = options.pop("import_policy", ImportPolicy(internal=asn == ASN))
    assert isinstance(policy, ImportPolicy)
    return Peering(
        name=f"peer_{address}", kind=PeeringKind.GLOBAL, peer_address=ip_address(address), peer_port=179,
        local_address=IPv4Address("10.0.0.1"), local_asn=ASN, peer_asn=asn, families=(IPV4_UNICAST,),
        import_policy=policy, export_policy=ExportPolicy(), reason="a test", **options,  # type: ignore[arg-type]
    )  # fmt: skip


def opened(
    asn: int = ASN, *, restart: int | None = 120, kept: bool = True, refresh: bool = True, long_lived: int = 0
) -> bytes:
    graceful = None
    if restart is not None:
        graceful = GracefulRestart(restart_time=restart, families=((IPV4_UNICAST, kept),))
    capabilities = Capabilities(
        families=frozenset({IPV4_UNICAST}), asn4=asn, route_refresh=refresh, enhanced_refresh=refresh,
        graceful_restart=graceful, long_lived=((IPV4_UNICAST, True, long_lived),) if long_lived else (),
    )  # fmt: skip
    return Open(asn, 90, IPv4Address("10.0.0.9").packed, capabilities).body()


class Cluster:
    """`Learned` with a clock, and peers to speak as."""

    def __init__(self, *peerings: Peering, unreachable: Sequence[str] = (), **bounds: int | bool) -> None:
        limits = Bounds(
            OWN,
            None,
            int(bounds.get("max_routes", 1000)),
            bool(bounds.get("accept_default")),
            keep_when_lost=bool(bounds.get("keep", True)),
        )
        self.now = 0.0
        self.unreachable = {IPv4Address(text).packed for text in unreachable}
        self.learned = Learned(limits, lambda hop: None if hop in self.unreachable else 0, sync_wait=30.0)
        self.learned.configure(peerings)

    def up(self, address: str, asn: int = ASN, *, adopted: bool = False, **options: object) -> None:
        received = opened(asn, **options)  # type: ignore[arg-type]
        self.learned.session_up(address, opened(), received, adopted, self.now)

    def down(self, address: str, reason: str = "closing connection") -> None:
        self.learned.session_down(address, reason, self.now)

    def update(self, address: str, message: bytes) -> None:
        self.learned.message(address, MessageType.UPDATE, message[HEADER:], self.now)

    def announce(
        self,
        address: str,
        *prefixes: str,
        next_hop: str = "10.0.0.9",
        path: tuple[int, ...] = (),
        communities: tuple[int, ...] = (),
    ) -> None:
        attributes = encode_attributes(
            as_path=((SegmentType.AS_SEQUENCE, path),) if path else (),
            local_pref=100,
            communities=communities,
        )
        nlri = [nlri_of(ip_network(prefix)) for prefix in prefixes]
        for message in encode_updates(IPV4_UNICAST, attributes, IPv4Address(next_hop).packed, nlri):
            self.update(address, message)

    def withdraw(self, address: str, *prefixes: str) -> None:
        for message in encode_withdrawals(IPV4_UNICAST, [nlri_of(ip_network(prefix)) for prefix in prefixes]):
            self.update(address, message)

    def end(self, address: str, family: Family = IPV4_UNICAST) -> None:
        self.update(address, encode_end_of_rib(family))

    def refresh(self, address: str, subtype: int) -> None:
        body = RouteRefresh(IPV4_UNICAST, subtype).body()
        self.learned.message(address, MessageType.ROUTE_REFRESH, body, self.now)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.learned.tick(self.now)

    @property
    def routes(self) -> set[str]:
        self.learned.take_changes()
        return {str(prefix_of(nlri, IPV4_UNICAST)) for nlri in self.learned.ribs[IPV4_UNICAST].best}

    def why_not(self, prefix: str) -> str:
        self.learned.take_changes()
        [path] = self.learned.ribs[IPV4_UNICAST].candidates(nlri_of(ip_network(prefix)))
        return path.ineligible or ""


def synced(cluster: Cluster) -> bool:
    return cluster.learned.synced


def fail_static(cluster: Cluster) -> bool:
    return cluster.learned.fail_static


def unheard(cluster: Cluster) -> bool:
    return cluster.learned.unheard


P, Q, R = "10.0.0.2", "10.0.0.3", "10.0.0.4"
A, B, C = "10.77.0.0/26", "10.77.1.0/26", "10.77.2.0/26"


def test_routes_come_and_go() -> None:
    cluster = Cluster(peering(P))
    cluster.up(P)
    assert not synced(cluster)
    cluster.announce(P, A, B)
    cluster.end(P)
    assert synced(cluster)
    assert cluster.routes == {A, B}
    cluster.withdraw(P, A)
    assert cluster.routes == {B}


def test_a_restarting_peers_routes_stay_until_its_end_of_rib_rfc4724_4_2() -> None:
    cluster = Cluster(peering(P), peering(Q))
    cluster.up(P)
    cluster.up(Q)
    cluster.announce(P, A, B)
    cluster.end(P)
    cluster.down(P)
    cluster.pass_time(60)
    assert cluster.routes == {A, B}
    cluster.up(P)
    cluster.announce(P, A)
    assert cluster.routes == {A, B}
    cluster.end(P)
    assert cluster.routes == {A}


def test_a_peer_that_does_not_come_back_in_time_loses_its_routes() -> None:
    cluster = Cluster(peering(P), peering(Q))
    cluster.up(P)
    cluster.up(Q)
    cluster.announce(P, A)
    cluster.down(P)
    cluster.pass_time(119)
    assert cluster.routes == {A}
    cluster.pass_time(2)
    assert cluster.routes == set()


def test_without_graceful_restart_routes_go_with_the_session() -> None:
    cluster = Cluster(peering(P), peering(Q))
    cluster.up(P, restart=None)
    cluster.up(Q)
    cluster.announce(P, A)
    cluster.down(P)
    assert cluster.routes == set()


@pytest.mark.parametrize("reason", ["notification received (6,2)", "notification sent (6,9)"])
def test_a_notification_ends_graceful_restart_rfc4724_4(reason: str) -> None:
    cluster = Cluster(peering(P), peering(Q))
    cluster.up(P)
    cluster.up(Q)
    cluster.announce(P, A)
    cluster.down(P, reason)
    assert cluster.routes == set()


def test_a_session_that_we_close_without_a_word_is_restarted_gracefully() -> None:
    """In ExaBGP's words, which have "notification" in them."""
    cluster = Cluster(peering(P), peering(Q))
    cluster.up(P)
    cluster.up(Q)
    cluster.announce(P, A)
    cluster.down(P, "graceful restarted negotiated, closing without sending any notification")
    assert cluster.routes == {A}


def test_a_peer_that_lost_its_forwarding_state_loses_only_routes_through_itself() -> None:
    cluster = Cluster(peering(P), peering(Q))
    cluster.up(P)
    cluster.up(Q)
    cluster.announce(P, A, next_hop=P)
    cluster.announce(P, B, next_hop="10.0.0.77")
    cluster.down(P)
    assert cluster.routes == {A, B}
    cluster.up(P, kept=False)
    assert cluster.routes == {B}
    cluster.end(P)
    assert cluster.routes == set()


@pytest.mark.parametrize("restart", [120, None])
def test_our_own_exabgp_ending_takes_no_route_of_a_peer_that_never_restarted_rfc4724_4_1(
    restart: int | None,
) -> None:
    """FRR as a mere helper sends no forwarding bit: it has lost nothing, we have."""
    cluster = Cluster(peering(P), peering(Q))
    cluster.up(P, restart=restart)
    cluster.up(Q)
    cluster.announce(P, A, next_hop=P)
    cluster.announce(P, B, next_hop="10.0.0.77")
    cluster.down(P, "ExaBGP ended")
    assert cluster.routes == {A, B}
    cluster.up(P, restart=restart, kept=False)
    assert cluster.routes == {A, B}
    cluster.announce(P, A, next_hop=P)
    cluster.end(P)
    assert cluster.routes == {A}

    cluster.down(P, "ExaBGP ended")
    cluster.pass_time(119)
    assert cluster.routes == {A}
    cluster.pass_time(2)
    assert cluster.routes == set()


def test_an_end_of_rib_that_never_comes_is_not_waited_for_for_ever() -> None:
    cluster = Cluster(peering(P), peering(Q))
    cluster.up(P)
    cluster.up(Q)
    cluster.end(Q)
    cluster.announce(P, A, B)
    cluster.down(P)
    cluster.up(P)
    cluster.announce(P, A)
    cluster.pass_time(29)
    assert not synced(cluster)
    assert cluster.routes == {A, B}
    cluster.pass_time(2)
    assert synced(cluster)
    assert cluster.routes == {A}


def test_fail_static_without_any_session_everything_stays_however_long() -> None:
    cluster = Cluster(peering(P), peering(Q))
    cluster.up(P, restart=None)
    cluster.up(Q)
    cluster.announce(P, A, next_hop="10.0.0.77")
    cluster.announce(Q, A, B, next_hop="10.0.0.77")
    cluster.down(P)
    cluster.down(Q, "notification received (6,2)")
    assert fail_static(cluster)
    cluster.pass_time(100_000)
    assert cluster.routes == {A, B}


def test_fail_static_does_not_keep_routes_through_the_lost_peer_itself() -> None:
    cluster = Cluster(peering(P, 65100))
    cluster.up(P, 65100, restart=None)
    cluster.announce(P, A, next_hop=P, path=(65100,))
    cluster.announce(P, B, next_hop="10.0.0.77", path=(65100,))
    cluster.down(P)
    assert cluster.routes == {B}


def test_fail_static_ends_when_a_session_returns_and_its_word_counts() -> None:
    cluster = Cluster(peering(P), peering(Q))
    for address in (P, Q):
        cluster.up(address)
        cluster.announce(address, A, B, next_hop="10.0.0.77")
    cluster.down(P)
    cluster.down(Q)
    cluster.pass_time(1000)
    cluster.up(P)
    cluster.announce(P, A, next_hop="10.0.0.77")
    cluster.end(P)
    assert cluster.routes == {A, B}  # Q may yet return
    cluster.pass_time(121)
    assert cluster.routes == {A}


def test_fail_static_reflectors_lost_while_a_router_still_talks() -> None:
    """A top-of-rack router knows nothing of what the reflectors said."""
    cluster = Cluster(peering(P), peering(Q), peering(R, 65100))
    for address, asn in ((P, ASN), (Q, ASN), (R, 65100)):
        cluster.up(address, asn)
    cluster.announce(P, A, next_hop="10.0.0.77")
    cluster.announce(R, B, next_hop=R, path=(65100,))
    cluster.down(P)
    cluster.down(Q)
    cluster.pass_time(100_000)
    assert fail_static(cluster)
    assert cluster.routes == {A, B}
    cluster.withdraw(R, B)
    assert cluster.routes == {A}
    cluster.down(R)
    cluster.up(R, 65100)
    cluster.end(R)
    cluster.pass_time(1000)
    assert cluster.routes == {A}  # a router's return does not end the reflectors' absence
    cluster.up(Q)
    cluster.end(Q)
    cluster.pass_time(121)
    assert not fail_static(cluster)
    assert cluster.routes == set()


def test_routers_lost_while_reflectors_talk_have_their_restart_time_only() -> None:
    cluster = Cluster(peering(P), peering(R, 65100))
    cluster.up(P)
    cluster.up(R, 65100)
    cluster.announce(R, A, next_hop="10.0.0.77", path=(65100,))
    cluster.down(R)
    assert cluster.routes == {A}
    cluster.pass_time(121)
    assert cluster.routes == set()


def test_when_reflectors_lost_expire_the_restart_time_decides() -> None:
    cluster = Cluster(peering(P), keep=False)
    cluster.up(P)
    cluster.announce(P, A)
    cluster.down(P)
    assert not fail_static(cluster)
    assert cluster.routes == {A}
    cluster.pass_time(121)
    assert cluster.routes == set()


def test_when_reflectors_lost_may_be_declared_afterwards() -> None:
    cluster = Cluster(peering(P))
    cluster.up(P)
    cluster.announce(P, A)
    cluster.down(P)
    cluster.pass_time(10_000)
    cluster.learned.bounds = dataclasses.replace(cluster.learned.bounds, keep_when_lost=False)
    cluster.pass_time(1)
    assert cluster.routes == {A}
    cluster.pass_time(121)
    assert cluster.routes == set()


def test_long_lived_stale_routes_are_the_last_choice_and_go_in_the_end_rfc9494_4_2() -> None:
    cluster = Cluster(peering(P), peering(Q))
    cluster.up(P, long_lived=3600)
    cluster.up(Q)
    cluster.announce(P, A, B, next_hop="10.0.0.77")
    cluster.announce(P, C, communities=(WellKnownCommunity.NO_LLGR,))
    cluster.down(P)
    cluster.pass_time(121)
    assert cluster.routes == {A, B}
    cluster.announce(Q, A, next_hop="10.0.0.99", path=(1, 2, 3))
    assert cluster.routes == {A, B}
    a = nlri_of(ip_network(A))
    assert cluster.learned.next_hops(IPV4_UNICAST, a) == (IPv4Address("10.0.0.99").packed,)
    assert cluster.learned.next_timer() == 121 + 3600
    cluster.pass_time(3600)
    assert cluster.routes == {A}


def test_long_lived_stale_routes_are_ordinary_again_when_repeated_rfc9494_4_2() -> None:
    cluster = Cluster(peering(P), peering(Q))
    cluster.up(P, long_lived=3600)
    cluster.up(Q)
    cluster.announce(P, A, B)
    cluster.down(P)
    cluster.pass_time(121)
    cluster.up(P, long_lived=3600)
    cluster.announce(P, A)
    cluster.end(P)
    assert cluster.routes == {A}
    [path] = cluster.learned.ribs[IPV4_UNICAST].candidates(nlri_of(ip_network(A)))
    assert not path.long_lived_stale
    cluster.pass_time(10_000)
    assert cluster.routes == {A}


def test_a_node_known_dead_loses_its_stale_routes_at_once_and_only_those() -> None:
    cluster = Cluster(peering(P), peering(Q))
    cluster.up(P)
    cluster.up(Q)
    cluster.announce(P, A, next_hop="10.0.0.77")
    cluster.announce(Q, B, next_hop="10.0.0.77")
    cluster.down(P)
    cluster.learned.dead([IPv4Address("10.0.0.77").packed])
    assert cluster.routes == {B}  # Q lives, and vouches for it


def test_a_session_adopted_is_asked_again_and_what_is_not_repeated_goes() -> None:
    cluster = Cluster(peering(P))
    cluster.up(P)
    cluster.announce(P, A, B)
    cluster.end(P)
    cluster.up(P, adopted=True)
    assert not synced(cluster)
    cluster.refresh(P, 1)
    cluster.announce(P, A)
    cluster.refresh(P, 2)
    assert synced(cluster)
    assert cluster.routes == {A}


def test_a_large_table_is_waited_for_as_long_as_it_keeps_coming() -> None:
    """A peer that cannot say where it ends has told all once it is quiet; one that can, when it says so."""
    cluster = Cluster(peering("10.0.0.2"))
    cluster.up("10.0.0.2", adopted=True, refresh=False)
    for n in range(7):
        cluster.announce("10.0.0.2", f"10.1.{n}.0/24")
        cluster.pass_time(4.0)
        assert not synced(cluster)
    cluster.pass_time(4.0)
    assert synced(cluster), "syncWait is the end of it"
    cluster.up("10.0.0.2", adopted=True, refresh=False)
    cluster.announce("10.0.0.2", "10.1.0.0/24")
    cluster.pass_time(6.0)
    assert synced(cluster)
    assert cluster.routes == {"10.1.0.0/24"}
    cluster.up("10.0.0.2", adopted=True)
    cluster.refresh("10.0.0.2", RefreshSubtype.BEGIN)
    cluster.pass_time(20.0)
    assert not synced(cluster)
    cluster.refresh("10.0.0.2", RefreshSubtype.END)
    assert synced(cluster)


def test_who_is_left_can_tell_everything_or_not() -> None:
    """A router of another AS knows nothing of what the reflectors told, and they know all it did."""
    for keep in (True, False):
        cluster = Cluster(peering("10.0.0.2"), peering("10.0.0.3"), peering("10.0.0.9", 65100), keep=keep)
        assert unheard(cluster)
        cluster.up("10.0.0.9", 65100)
        assert unheard(cluster) == keep
        cluster.up("10.0.0.2")
        assert not unheard(cluster)
        cluster.down("10.0.0.9")
        assert not unheard(cluster)
    assert not unheard(Cluster())


def test_a_peer_no_longer_planned_takes_its_routes_along() -> None:
    cluster = Cluster(peering(P), peering(Q))
    cluster.up(P)
    cluster.announce(P, A)
    cluster.learned.configure([peering(Q)])
    assert cluster.routes == set()


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
    assert cluster.learned.with_room(40.0) == [P]
    cluster.announce(P, *some[1:])
    assert cluster.routes == set(some[1:3])
    assert cluster.learned.with_room(80.0) == []
    cluster.withdraw(P, *some[2:])
    assert cluster.learned.with_room(120.0) == [], "nothing was refused that is still there"
    cluster.announce(P, some[4])
    assert cluster.routes == {some[1], some[4]}


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
