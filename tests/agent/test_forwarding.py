"""From paths to kernel routes: where a learned route's priority puts it."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_network
from typing import Any, cast

from agent.forwarding import Forwarding
from agent.kernel.fib import Fib
from agent.kernel.route import Hop, KernelRoute
from bgpd.plan.policy import (
    CompiledFilter,
    ImportPolicy,
    Operator,
    PrefixMatch,
    Rule,
    local_pref_of,
)
from bgpd.wire.attributes import encode_attributes
from bgpd.wire.nlri import IPV4_UNICAST, nlri_of
from bgpd.wire.update import encode_updates
from tests.agent.test_learned import Cluster, peering

A, B, C, P = "10.77.0.0/26", "10.77.1.0/26", "10.77.2.0/26", "10.0.0.2"


class Wishes:
    """Stands for `Fib`: every next hop is on link 5, and what is wanted is written down."""

    def __init__(self) -> None:
        self.resolver = self
        self.metrics: dict[str, int | None] = {}

    def resolve(self, address: bytes) -> tuple[Hop, ...]:
        return (Hop(address, 5),)

    def learned_changed(self, family: int, nlri: bytes) -> bool:
        return False

    def want(self, family: int, nlri: bytes, route: KernelRoute | None, metric: int | None = None) -> None:
        prefix = str(ip_network((nlri[1:].ljust(4, b"\0"), nlri[0])))
        if route is None:
            self.metrics.pop(prefix, None)
        else:
            self.metrics[prefix] = metric


class Straight:
    """No tunnels."""

    def hop(self, *_: Any) -> Hop | None:
        return None


def announced(cluster: Cluster, prefix: str, local_pref: int | None) -> None:
    attributes = encode_attributes(local_pref=local_pref)
    hop = IPv4Address("10.0.0.9").packed
    for message in encode_updates(IPV4_UNICAST, attributes, hop, [nlri_of(ip_network(prefix))]):
        cluster.update(P, message)


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
