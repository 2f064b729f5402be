"""From paths to kernel routes: where a learned route's priority puts it."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, ip_network
from types import SimpleNamespace
from typing import Any, cast

from agent.forwarding import AF, Forwarding
from agent.kernel.fib import Fib
from agent.kernel.message import RouteEntry
from agent.kernel.resolve import Resolver
from agent.kernel.route import Hop, KernelRoute, unicast, workload
from agent.learned import Learned
from bgpd.plan.model import NodePlan, WorkloadRoute
from bgpd.plan.policy import (
    CompiledFilter,
    ImportPolicy,
    Operator,
    PrefixMatch,
    Rule,
    local_pref_of,
)
from bgpd.wire.attributes import encode_attributes
from bgpd.wire.nlri import IPV4_UNICAST, Family, nlri_of
from bgpd.wire.update import encode_updates, encode_withdrawals
from tests.agent.telling import Cluster, Q, peering

A, B, C, P = "10.77.0.0/26", "10.77.1.0/26", "10.77.2.0/26", "10.0.0.2"


class Wishes:
    """Stands for `Fib`: every next hop is on link 5, and what is wanted is written down."""

    def __init__(self) -> None:
        self.resolver = self
        self.metrics: dict[str, int | None] = {}
        self.routes: dict[str, KernelRoute] = {}
        self.soon: dict[str, bool] = {}
        self.router = b""  # by way of which every next hop is reached, if any

    def resolve(self, address: bytes) -> tuple[Hop, ...]:
        return (Hop(self.router or address, 5),)

    def learned_changed(self, family: int, nlri: bytes) -> bool:
        return False

    def forget(self) -> None:
        pass

    @property
    def asked(self) -> int:
        return 0

    def want(
        self,
        family: int,
        nlri: bytes,
        route: KernelRoute | None,
        metric: int | None = None,
        *,
        soon: bool = False,
    ) -> None:
        prefix = str(ip_network((nlri[1:].ljust(4, b"\0"), nlri[0])))
        self.soon[prefix] = soon
        if route is None:
            self.metrics.pop(prefix, None)
            self.routes.pop(prefix, None)
        else:
            self.routes[prefix] = route
            self.metrics[prefix] = metric

    def workload(self, interface: str) -> KernelRoute | None:
        return workload(77)


class Straight:
    """No tunnels that can be read."""

    doubt: bool | bytes = False
    """Of all next hops, or of one."""

    def doubtful(self, _family: Family, _nlri: bytes, next_hop: bytes) -> bool:
        return self.doubt in (True, next_hop)

    def hop(self, *_: Any) -> Hop | None:
        return None


def announced(cluster: Cluster, prefix: str, local_pref: int | None, med: int | None = None) -> None:
    attributes = encode_attributes(local_pref=local_pref, med=med)
    hop = IPv4Address("10.0.0.9").packed
    for message in encode_updates(IPV4_UNICAST, attributes, hop, [nlri_of(ip_network(prefix))]):
        cluster.update(P, message)


def test_what_may_have_to_go_through_a_tunnel_that_cannot_be_read_has_no_way_of_its_own() -> None:
    cluster, wishes, tunnels = Cluster(peering(P)), Wishes(), Straight()
    forwarding = Forwarding(cast("Fib", wishes), cluster.learned, tunnels, lambda *_: None)
    cluster.up(P)
    tunnels.doubt = True
    announced(cluster, A, 100)
    forwarding.changed(cluster.learned.take_changes())
    assert not wishes.routes
    tunnels.doubt = False
    forwarding.resolved_anew()
    assert set(wishes.routes) == {A}
    cluster.learned.configure((peering(P), peering(Q)))
    cluster.up(Q)
    for peer in (P, Q):
        cluster.announce(peer, A, next_hop=peer)
    tunnels.doubt = IPv4Address(Q).packed
    forwarding.changed(cluster.learned.take_changes())
    assert len(cluster.learned.next_hops(IPV4_UNICAST, nlri_of(ip_network(A)))) == 2
    assert not wishes.routes, "one way of two may have to"


def test_what_is_one_of_few_does_not_wait_for_many() -> None:
    cluster, wishes = Cluster(peering(P)), Wishes()
    forwarding = Forwarding(cast("Fib", wishes), cluster.learned, Straight(), lambda *_: None)
    cluster.up(P)
    for number in range(501):
        announced(cluster, f"11.0.{number // 256}.{number % 256}/32", 100)
    forwarding.changed(cluster.learned.take_changes())
    announced(cluster, A, 100)
    forwarding.changed(cluster.learned.take_changes())
    assert {prefix for prefix, soon in wishes.soon.items() if soon} == {A}
    assert len(wishes.soon) == 502


def test_a_priority_that_is_not_the_ordinary_one_is_the_metric() -> None:
    rule = Rule("f", True, prefix=PrefixMatch(ip_network(C), Operator.EQUAL, 26, 26), set_priority=300)
    policy = ImportPolicy((CompiledFilter("f", (rule, Rule("rest", True))),))
    cluster, wishes = Cluster(peering(P, import_policy=policy)), Wishes()
    forwarding = Forwarding(cast("Fib", wishes), cluster.learned, Straight(), lambda *_: None)
    cluster.up(P)

    def metrics() -> dict[str, int | None]:
        forwarding.changed(cluster.learned.take_changes())
        return wishes.metrics

    for prefix in (A, B, C):
        announced(cluster, prefix, local_pref_of(1024))
    assert metrics() == {A: None, B: None, C: 300}
    announced(cluster, A, local_pref_of(512))  # raised by the node that announces it
    announced(cluster, B, 100)  # a router's own scale
    assert metrics() == {A: 512, B: None, C: 300}
    announced(cluster, A, None)
    announced(cluster, B, 0xFFFFFFFF)
    assert metrics() == {A: None, B: None, C: 300}


MOVED = "10.77.0.9/32"
FAR = IPv4Address("10.0.0.9").packed  # the next hop of what is `announced`
ROUTER = IPv4Address("10.0.0.1").packed
AGE = 0xFFFFFFFF - 1_800_000_000  # the MED of an endpoint made then


class Moving:
    """A node with one workload of a certain age, and what it has put off until later."""

    def __init__(self, router: bytes) -> None:
        self.cluster, self.wishes = Cluster(peering(P)), Wishes()
        self.wishes.router = router
        self.later: list[Callable[[], None]] = []
        self.forwarding = Forwarding(
            cast("Fib", self.wishes),
            self.cluster.learned,
            Straight(),
            lambda _, call: self.later.append(call),
        )
        self.cluster.up(P)
        self.own(WorkloadRoute(ip_network(MOVED), "cali1", "a test", AGE))

    def own(self, *workloads: WorkloadRoute) -> None:
        plan = SimpleNamespace(blackholes=(), workloads=workloads, originated=(), peerings=())
        self.forwarding.own(cast("NodePlan", plan))

    def announced(self, med: int) -> None:
        announced(self.cluster, MOVED, None, med)
        self.forwarding.changed(self.cluster.learned.take_changes())

    def withdrawn(self) -> None:
        for message in encode_withdrawals(IPV4_UNICAST, [nlri_of(ip_network(MOVED))]):
            self.cluster.update(P, message)
        self.forwarding.changed(self.cluster.learned.take_changes())

    @property
    def route(self) -> KernelRoute | None:
        return self.wishes.routes.get(MOVED)


def test_the_older_of_two_owners_stands_back_and_is_the_owner_again_when_the_newer_goes() -> None:
    node = Moving(router=b"")
    assert node.route == workload(77)
    assert node.forwarding.disputed == frozenset()
    node.announced(AGE + 1)
    assert (node.route, node.forwarding.superseded) == (workload(77), frozenset())
    assert node.forwarding.disputed == {MOVED}
    node.announced(AGE - 1)
    assert (node.route, node.forwarding.superseded) == (unicast(Hop(FAR, 5)), frozenset({MOVED}))
    node.announced(AGE + 1)
    assert (node.route, node.forwarding.superseded) == (workload(77), frozenset())
    assert not node.forwarding.settle(MOVED), "the other is heard"
    node.withdrawn()
    assert node.forwarding.disputed == {MOVED}, "the other would come forward again"
    assert node.forwarding.silent_rivals() == {MOVED: FAR}
    assert not node.later
    assert node.forwarding.settle(MOVED)
    assert node.forwarding.disputed == frozenset()
    node.announced(AGE + 1)
    assert node.forwarding.disputed == {MOVED}
    assert node.forwarding.silent_rivals() == {}
    node.own()
    assert node.forwarding.disputed == frozenset()


def test_a_routers_own_med_tells_no_age() -> None:
    node = Moving(router=b"")
    for med in (0, 20, 1_000_000):
        node.announced(med)
        assert (node.route, node.forwarding.superseded) == (workload(77), frozenset())


def test_an_address_that_left_is_delivered_here_until_the_routers_between_have_heard() -> None:
    node, away = Moving(ROUTER), unicast(Hop(ROUTER, 5))
    node.announced(AGE - 1)
    assert (node.route, node.forwarding.superseded) == (workload(77), frozenset({MOVED}))
    node.forwarding.resolved_anew()
    assert node.route == workload(77)
    node.later.pop()()
    assert (node.route, node.later) == (away, [])
    node.announced(AGE + 1)
    assert node.route == workload(77)
    node.own()  # its endpoint has gone before anybody else is known to have it
    assert node.route == workload(77)
    node.own(WorkloadRoute(ip_network(MOVED), "cali1", "a test", AGE))
    node.later.pop()()
    assert node.route == workload(77), "it came back meanwhile"


class Resolving:
    """Two peers, and next hops that are found by routes of the node's own and by what they tell."""

    def __init__(self, *entries: RouteEntry) -> None:
        self.ways: dict[bytes, KernelRoute | None] = {}
        resolver = Resolver(lambda family, nlri: self.forwarding.hops_of(family, nlri))  # noqa: PLW0108 (it comes later)
        resolver.changed(entries, (5,))
        fib = SimpleNamespace(
            resolver=resolver, want=lambda _, nlri, route, *_others, **_more: self.ways.update({nlri: route})
        )
        self.cluster = Cluster()
        bounds = self.cluster.learned.bounds
        learned = self.cluster.learned = Learned(
            bounds, lambda hop: 1 if resolver.resolve(hop) else None, 30.0
        )
        learned.configure((peering(P), peering(Q)))
        self.forwarding = Forwarding(cast("Fib", fib), learned, Straight(), lambda *_: None)
        for peer in (P, Q):
            self.cluster.up(peer)

    def changed(self) -> None:
        self.forwarding.changed(self.cluster.learned.take_changes())


LINK = RouteEntry(AF[IPV4_UNICAST], b"\x18\x0a\0\0", 254, 0, 2, unicast(Hop(b"", 5)))


def test_two_may_tell_of_the_subnet_their_next_hop_is_in() -> None:
    """It is found by the default route, and whichever path is asked about never through the prefix itself."""
    default = RouteEntry(AF[IPV4_UNICAST], b"\0", 254, 0, 4, unicast(Hop(ROUTER, 5)))
    node = Resolving(LINK, default)
    for peer in (P, Q):
        node.cluster.announce(peer, "10.50.0.0/16", "10.77.0.0/26", next_hop="10.50.0.1")
    node.changed()
    node.forwarding.resolved_anew()
    assert set(node.ways.values()) == {unicast(Hop(ROUTER, 5))}
    assert len(node.ways) == 2


def test_rfc4271_9_1_2_1_a_path_is_not_the_best_once_the_route_to_its_next_hop_has_gone() -> None:
    node = Resolving(LINK)
    node.cluster.announce(P, "10.50.0.0/16", next_hop="10.0.0.7")
    node.cluster.announce(P, A, next_hop="10.50.0.1")
    node.cluster.announce(Q, A, next_hop="10.0.0.8", path=(65001,))
    nlri = nlri_of(ip_network(A))
    for next_hop, gateway in (("10.50.0.1", "10.0.0.7"), ("10.0.0.8", "10.0.0.8")):
        node.changed()
        best = node.cluster.learned.ribs[IPV4_UNICAST].best[nlri]
        assert best.attributes.next_hop == IPv4Address(next_hop).packed
        assert node.ways[nlri] == unicast(Hop(IPv4Address(gateway).packed, 5))
        node.cluster.withdraw(P, "10.50.0.0/16")


def test_what_went_in_the_moment_in_which_everything_is_resolved_anew_is_gone() -> None:
    cluster, wishes = Cluster(peering(P)), Wishes()
    forwarding = Forwarding(cast("Fib", wishes), cluster.learned, Straight(), lambda *_: None)
    cluster.up(P)
    announced(cluster, A, 100)
    announced(cluster, B, 100)
    forwarding.changed(cluster.learned.take_changes())
    cluster.update(P, *encode_withdrawals(IPV4_UNICAST, [nlri_of(ip_network(A))]))
    forwarding.resolved_anew()
    assert set(wishes.routes) == {B}
    cluster.learned.configure(())
    forwarding.resolved_anew()
    forwarding.changed(cluster.learned.take_changes())
    assert not wishes.routes
