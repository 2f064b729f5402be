"""Next hops resolved through the node's routes and through learned ones."""

from __future__ import annotations

import socket
from ipaddress import ip_address, ip_network

from agent.kernel.message import RouteEntry
from agent.kernel.resolve import Resolver, truncate
from agent.kernel.route import BLACKHOLE, Hop, KernelRoute, unicast


def packed(text: str) -> bytes:
    return ip_address(text).packed


def entry(prefix: str, route: KernelRoute, metric: int = 0) -> RouteEntry:
    network = ip_network(prefix)
    family = socket.AF_INET if network.version == 4 else socket.AF_INET6
    nlri = truncate(network.network_address.packed, network.prefixlen)
    return RouteEntry(family, nlri, 254, metric, 2, route)


def link(index: int) -> KernelRoute:
    return unicast(Hop(b"", index))


def via(gateway: str, index: int) -> KernelRoute:
    return unicast(Hop(packed(gateway), index))


class Routes:
    """Learned routes by prefix."""

    def __init__(self, **_: str) -> None:
        self.known: dict[bytes, tuple[bytes, ...]] = {}

    def add(self, prefix: str, *next_hops: str) -> bytes:
        network = ip_network(prefix)
        nlri = truncate(network.network_address.packed, network.prefixlen)
        self.known[nlri] = tuple(packed(each) for each in next_hops)
        return nlri

    def __call__(self, family: int, nlri: bytes) -> tuple[bytes, ...] | None:
        return self.known.get(nlri)


def resolver(
    *entries: RouteEntry, up: tuple[int, ...] = (1, 2), default_route: bool = True
) -> tuple[Resolver, Routes]:
    learned = Routes()
    made = Resolver(learned, default_route=default_route)
    made.changed(entries, up, (packed("10.0.0.1"),))
    return made, learned


def test_on_the_link_the_next_hop_is_the_gateway() -> None:
    made, _ = resolver(entry("10.0.0.0/24", link(1)))
    assert made.resolve(packed("10.0.0.2")) == (Hop(packed("10.0.0.2"), 1),)


def test_behind_a_router_the_router_is_the_gateway_and_the_longest_prefix_decides() -> None:
    made, _ = resolver(
        entry("0.0.0.0/0", via("10.0.0.254", 1)),
        entry("10.0.0.0/24", link(1)),
        entry("10.1.0.0/16", via("10.0.0.253", 1)),
    )
    assert made.resolve(packed("10.1.2.3")) == (Hop(packed("10.0.0.253"), 1),)
    assert made.resolve(packed("192.0.2.1")) == (Hop(packed("10.0.0.254"), 1),)


def test_the_default_route_can_be_forbidden() -> None:
    made, _ = resolver(entry("0.0.0.0/0", via("10.0.0.254", 1)), default_route=False)
    assert made.resolve(packed("192.0.2.1")) == ()


def test_links_that_are_down_do_not_carry_and_the_next_shorter_prefix_does() -> None:
    made, _ = resolver(entry("0.0.0.0/0", via("10.9.0.254", 2)), entry("10.0.0.0/24", link(1)), up=(2,))
    assert made.resolve(packed("10.0.0.2")) == (Hop(packed("10.9.0.254"), 2),)


def test_a_multipath_route_gives_every_usable_hop() -> None:
    route = unicast(Hop(packed("10.0.0.253"), 1), Hop(packed("10.9.0.253"), 2), Hop(packed("10.8.0.1"), 3))
    made, _ = resolver(entry("10.1.0.0/16", route))
    assert made.resolve(packed("10.1.0.1")) == (Hop(packed("10.0.0.253"), 1), Hop(packed("10.9.0.253"), 2))


def test_the_lower_metric_is_the_route() -> None:
    made, _ = resolver(
        entry("10.1.0.0/16", via("10.0.0.9", 1), metric=20),
        entry("10.1.0.0/16", via("10.0.0.8", 1), metric=10),
    )
    assert made.resolve(packed("10.1.0.1")) == (Hop(packed("10.0.0.8"), 1),)


def test_a_blackhole_is_an_answer() -> None:
    made, _ = resolver(entry("0.0.0.0/0", via("10.0.0.254", 1)), entry("10.1.0.0/16", BLACKHOLE))
    assert made.resolve(packed("10.1.0.1")) == ()


def test_our_own_address_is_no_next_hop_rfc4271_5_1_3() -> None:
    made, _ = resolver(entry("10.0.0.0/24", link(1)))
    assert made.resolve(packed("10.0.0.1")) == ()


def test_a_learned_route_carries_a_next_hop_of_another_rack() -> None:
    made, learned = resolver(entry("10.0.0.0/24", link(1)))
    nlri = learned.add("10.1.0.0/24", "10.0.0.253", "10.0.0.252")
    assert made.resolve(packed("10.1.0.5")) == ()
    assert made.learned_changed(socket.AF_INET, nlri)
    assert made.resolve(packed("10.1.0.5")) == (Hop(packed("10.0.0.252"), 1), Hop(packed("10.0.0.253"), 1))


def test_learned_routes_that_lead_through_each_other_end_nowhere() -> None:
    made, learned = resolver()
    for nlri in (learned.add("10.1.0.0/24", "10.2.0.1"), learned.add("10.2.0.0/24", "10.1.0.1")):
        made.learned_changed(socket.AF_INET, nlri)
    assert made.resolve(packed("10.1.0.5")) == ()


def test_a_learned_route_is_not_resolved_through_itself() -> None:
    made, learned = resolver(entry("0.0.0.0/0", via("10.0.0.254", 1)))
    made.learned_changed(socket.AF_INET, learned.add("10.1.0.0/24", "10.1.0.5"))
    assert made.resolve(packed("10.1.0.5")) == (Hop(packed("10.0.0.254"), 1),)


class Several:
    """Learned routes of which those next hops count that can be reached: of several paths of a prefix."""

    def __init__(self, *entries: RouteEntry, up: tuple[int, ...] = (1, 2)) -> None:
        self.known: dict[bytes, tuple[bytes, ...]] = {}
        self.resolver = Resolver(self.of)
        self.resolver.changed(entries, up)

    def add(self, prefix: str, *next_hops: str) -> None:
        network = ip_network(prefix)
        nlri = truncate(network.network_address.packed, network.prefixlen)
        self.known[nlri] = tuple(packed(each) for each in next_hops)
        family = socket.AF_INET if network.version == 4 else socket.AF_INET6
        self.resolver.learned_changed(family, nlri)

    def of(self, family: int, nlri: bytes) -> tuple[bytes, ...] | None:
        reached = (each for each in self.known.get(nlri, ()) if self.resolver.resolve(each))
        return tuple(reached) or None


def test_to_ask_for_the_next_hops_of_a_learned_route_may_be_to_resolve_them() -> None:
    """Two routers tell of the subnet they are in."""
    several = Several(entry("10.0.0.0/24", link(1)), entry("0.0.0.0/0", via("10.0.0.254", 2)))
    several.add("10.50.0.0/16", "10.50.0.1", "10.50.0.2")
    way = (Hop(packed("10.0.0.254"), 2),)
    assert several.resolver.resolve(packed("10.50.0.1")) == way
    assert several.resolver.resolve(packed("10.50.0.3")) == way
    several.add("10.60.0.0/16", "10.61.0.1", "10.0.0.9")  # one by way of the other and back
    several.add("10.61.0.0/16", "10.60.0.1", "10.0.0.8")
    gateways = {hop.gateway for hop in several.resolver.resolve(packed("10.60.0.1"))}
    assert gateways >= {packed("10.0.0.9")}


def test_several_may_tell_that_a_gateway_is_behind_itself() -> None:
    several = Several(entry("2001:db8::/64", link(1)))
    several.add("2001:db8::2/128", "2001:db8::2", "2001:db8::3")
    assert several.resolver.resolve(packed("2001:db8::3")) == (Hop(packed("2001:db8::3"), 1),)
    assert several.resolver.resolve(packed("2001:db8::2"))


def test_a_learned_route_that_covers_no_next_hop_changes_nothing() -> None:
    made, learned = resolver(entry("10.0.0.0/24", link(1)))
    made.resolve(packed("10.0.0.2"))
    assert not made.learned_changed(socket.AF_INET, learned.add("10.77.0.0/26", "10.0.0.2"))


def test_a_route_to_each_of_two_neighbours_counts_for_it() -> None:
    made, learned = resolver(entry("10.0.0.0/24", link(1)))
    for address in ("10.0.0.2", "10.0.0.3"):
        made.resolve(packed(address))
    for address in ("10.0.0.2", "10.0.0.3"):
        assert made.learned_changed(socket.AF_INET, learned.add(f"{address}/32", "10.0.0.9"))


def test_a_router_on_the_link_that_announces_its_own_address_is_still_on_the_link() -> None:
    gateway = packed("2001:db8::1")
    made, learned = resolver(entry("2001:db8::/64", link(1)), entry("::/0", via("2001:db8::1", 1)))
    assert made.resolve(packed("2001:db8:9::9")) == (Hop(gateway, 1),)
    assert made.learned_changed(socket.AF_INET6, learned.add("2001:db8::1/128", "2001:db8::5"))
    assert made.resolve(packed("2001:db8:9::9")) == (Hop(gateway, 1, onlink=True),)


def test_a_learned_route_that_leads_nowhere_leaves_the_next_hop_to_a_shorter_one() -> None:
    made, learned = resolver(entry("0.0.0.0/0", via("10.0.0.254", 1)), entry("10.2.0.0/16", BLACKHOLE))
    made.learned_changed(socket.AF_INET, learned.add("10.1.0.0/24", "10.2.0.1"))
    assert made.resolve(packed("10.1.0.5")) == (Hop(packed("10.0.0.254"), 1),)


def test_of_next_hops_that_nobody_asks_for_any_more_nothing_is_known() -> None:
    made, learned = resolver(entry("10.0.0.0/24", link(1)), entry("2001:db8::/64", link(2)))
    gone = {socket.AF_INET: "10.0.0.2", socket.AF_INET6: "2001:db8::2"}
    for family, address in gone.items():
        made.resolve(packed(address))
        assert made.learned_changed(family, learned.add(address, address))
    made.forget()
    for family, address in gone.items():
        assert not made.learned_changed(family, learned.add(address, address))


def test_what_a_next_hop_leads_by_way_of_is_asked_for_with_it() -> None:
    made, learned = resolver(entry("10.0.0.0/24", link(1)))
    made.learned_changed(socket.AF_INET, learned.add("10.1.0.0/24", "10.2.0.1"))
    made.forget()
    assert made.resolve(packed("10.1.0.5")) == ()
    assert made.learned_changed(socket.AF_INET, learned.add("10.2.0.0/24", "10.0.0.253"))
    assert made.resolve(packed("10.1.0.5")) == (Hop(packed("10.0.0.253"), 1),)


def test_ipv6_and_the_global_half_of_a_next_hop_of_32_octets() -> None:
    made, _ = resolver(entry("2001:db8::/64", link(2)))
    both = packed("2001:db8::2") + packed("fe80::2")
    assert made.resolve(both) == (Hop(packed("2001:db8::2"), 2),)


def test_rfc2545_3_a_link_local_next_hop_is_on_the_link_of_the_peer_who_told_it() -> None:
    links = (entry("fe80::/64", link(1)), entry("fe80::/64", link(2)), entry("::/0", via("fe80::1", 1)))
    made, learned = resolver(*links, entry("2001:db8::/64", link(2)))
    next_hop = packed("fe80::9") + packed("2001:db8::9")
    assert made.resolve(next_hop) == (Hop(packed("fe80::9"), 2),)
    assert made.resolve(packed("fe80::9") + packed("2001:db8:1::9")) == ()  # the peer is behind a router
    learned.known[nlri := truncate(packed("2001:db8:7::"), 48)] = (next_hop,)
    made.learned_changed(socket.AF_INET6, nlri)
    assert made.resolve(packed("2001:db8:7::7")) == (Hop(packed("fe80::9"), 2),)
    assert made.changed([*links, entry("2001:db8::/64", link(1))], (1, 2)) >= {next_hop}
    assert made.resolve(next_hop) == (Hop(packed("fe80::9"), 1),)
