"""What follows from a kernel event: nothing of one that moves no next hop, else only what it moves."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_network
from random import Random
from types import SimpleNamespace
from typing import cast

import pytest

from agent.forwarding import Forwarding
from agent.kernel.fib import Fib
from agent.kernel.message import RouteEntry
from agent.kernel.resolve import Resolver
from agent.kernel.route import BLACKHOLE, Hop, KernelRoute, unicast, workload
from agent.learned import Learned
from bgpd.plan.model import NodePlan, WorkloadRoute
from bgpd.wire.nlri import nlri_of
from tests.agent.telling import Cluster, peering
from tests.agent.test_forwarding import Straight

PEERS = "10.0.0.2", "10.0.0.3", "10.0.0.4"


def entry(prefix: str, route: KernelRoute, metric: int = 0) -> RouteEntry:
    return RouteEntry(2, nlri_of(ip_network(prefix)), 254, metric, 4, route)


def via(gateway: str, link: int = 5) -> KernelRoute:
    return unicast(Hop(IPv4Address(gateway).packed, link))


def on(link: int) -> KernelRoute:
    return unicast(Hop(b"", link))


class Node:
    """What is learned, next hops resolved as on a node, and what is declared to its kernel."""

    def __init__(self) -> None:
        self.resolver = Resolver(lambda family, nlri: self.forwarding.hops_of(family, nlri))  # noqa: PLW0108 (it comes later)
        self.wanted: dict[bytes, KernelRoute | None] = {}
        self.declared: list[bytes] = []
        self.interfaces: dict[str, int] = {}
        self.cluster = Cluster()
        learned = Learned(self.cluster.learned.bounds, self._cost, 30.0)
        learned.configure([peering(peer) for peer in PEERS])
        self.cluster.learned = learned
        self.forwarding = Forwarding(cast("Fib", self), learned, Straight(), lambda *_: None)
        for peer in PEERS:
            self.cluster.up(peer)

    def _cost(self, next_hop: bytes) -> int | None:
        hops = self.resolver.resolve(next_hop)
        return int(all(hop.gateway != next_hop for hop in hops)) if hops else None

    def want(
        self, family: int, nlri: bytes, route: KernelRoute | None, metric: int | None, *, soon: bool = False
    ) -> None:
        self.wanted[nlri] = route
        self.declared.append(nlri)

    def workload(self, interface: str) -> KernelRoute | None:
        return workload(self.interfaces[interface]) if interface in self.interfaces else None

    def told(self) -> None:
        self.forwarding.changed(self.cluster.learned.take_changes())

    def kernel(self, *routes: RouteEntry, up: tuple[int, ...] = (5, 6)) -> int:
        """The node's own routes and links are these now; how much was declared for it."""
        self.declared.clear()
        self.forwarding.links_changed(self.resolver.changed(routes, up))
        return len(self.declared)

    @property
    def ways(self) -> dict[bytes, KernelRoute]:
        return {nlri: route for nlri, route in self.wanted.items() if route is not None}


def test_only_the_routes_of_next_hops_that_lead_elsewhere_are_declared_again() -> None:
    node, link, other = Node(), entry("10.0.0.0/16", on(5)), entry("10.9.0.0/16", on(6))
    node.kernel(link)
    for n in range(4):
        prefixes = [f"10.{77 + n}.{m}.0/24" for m in range(100)]
        node.cluster.announce(PEERS[0], *prefixes, next_hop=f"10.0.1.{n}")
    node.told()
    plan = SimpleNamespace(
        blackholes=(),
        workloads=(WorkloadRoute(ip_network("10.70.0.1/32"), "cali1", "a test", 0),),
        originated=(),
        peerings=(),
    )
    node.forwarding.own(cast("NodePlan", plan))
    assert len(node.ways) == 400
    own = 1
    assert node.kernel(link, other) == own  # a link that no next hop is on
    assert node.kernel(link, other, entry("10.0.7.0/24", via("10.0.0.9"))) == own
    assert node.kernel(link, up=(5,)) == own
    node.interfaces["cali1"] = 6
    assert node.kernel(link) == own
    assert len(node.ways) == 401
    assert node.kernel(link, entry("10.0.1.2/32", via("10.0.0.9"))) == 100 + own
    assert set(node.ways.values()) == {
        workload(6), via("10.0.1.0"), via("10.0.1.1"), via("10.0.0.9"), via("10.0.1.3")
    }  # fmt: skip
    assert node.kernel(link, entry("10.0.1.2/32", BLACKHOLE)) == 100 + own
    assert len(node.ways) == 301
    assert node.kernel(link) == 100 + own
    assert len(node.ways) == 401
    assert node.kernel() == 400 + own
    assert len(node.ways) == 1


def test_next_hops_that_are_nobodys_any_more_are_not_resolved_for_ever() -> None:
    node, link = Node(), entry("10.0.0.0/8", on(5))
    for n in range(5000):
        node.cluster.announce(PEERS[0], "10.77.0.0/24", next_hop=f"10.1.{n >> 8}.{n & 255}")
        node.told()
        if not n % 500:
            node.kernel(link)
        assert node.resolver.asked <= 1000 + 501
    assert set(node.ways.values()) == {via("10.1.19.135")}


@pytest.mark.parametrize("seed", range(12))
def test_the_end_is_as_if_all_had_been_declared_anew(seed: int) -> None:
    """Next hops behind learned routes, those behind others, several paths; told in any order."""
    random, node = Random(seed), Node()
    near = [f"10.0.{n}.{m}" for n in range(3) for m in (1, 2)]
    far = [f"10.50.0.{m}" for m in (1, 2)]
    farther = [f"10.51.0.{m}" for m in (1, 2)]
    told = (
        (near, ["10.50.0.0/16", "10.50.0.1/32"]),
        (near + far, ["10.51.0.0/16"]),
        (near + far + farther, [f"10.77.{n}.0/24" for n in range(8)]),
    )
    routes = [
        *(entry(f"10.0.{n}.0/24", on(link), n) for n in range(3) for link in (5, 6)),
        *(entry(f"10.0.{n}.1/32", via("10.0.2.9", 6)) for n in range(2)),
        entry("10.50.0.0/24", via("10.0.0.9")),
        entry("10.0.1.2/32", BLACKHOLE),
        entry("0.0.0.0/0", via("10.0.0.254")),
    ]
    for _ in range(200):
        peer = random.choice(PEERS)
        match random.randrange(4):
            case 0 | 1:
                next_hops, prefixes = random.choice(told)
                some = random.sample(prefixes, random.randint(1, len(prefixes)))
                if random.random() < 0.7:
                    node.cluster.announce(peer, *some, next_hop=random.choice(next_hops))
                else:
                    node.cluster.withdraw(peer, *some)
                if random.random() < 0.6:  # else the kernel is heard first
                    node.told()
            case _:
                kept = [route for route in routes if random.random() < 0.6]
                node.kernel(*kept, up=random.choice(((5, 6), (5,), (6,), (5, 6))))
        if random.random() < 0.3:
            node.told()
            came = node.ways
            node.forwarding.resolved_anew()
            assert came == node.ways
