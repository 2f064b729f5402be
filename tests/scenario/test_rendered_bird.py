"""A rendered BIRD 2 beside neighbours that announce what one likes: what it puts into its kernel and tells.

::

    node 10.1.0.11, fd10:1::11   one .12, ::12   two .13, ::13
      └───────────────────────────┴───────────────┘
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from bgpd.plan import plan_node
from bgpd.plan.policy import local_pref_of
from bgpd.render import BirdOptions, bird
from bgpd.resources import (
    BGPConfiguration,
    BGPFilter,
    BGPPeer,
    BlockAffinity,
    IPPool,
    Node,
    Resource,
    ResourceSet,
    WorkloadEndpoint,
)
from tests.scenario.harness.bird import Bird, preamble
from tests.scenario.harness.world import Host, World

pytestmark = [pytest.mark.scenario, pytest.mark.peer("bird"), pytest.mark.timeout(200)]

NODE = {4: "10.1.0.11", 6: "fd10:1::11"}
ONE = {4: "10.1.0.12", 6: "fd10:1::12"}
TWO = {4: "10.1.0.13", 6: "fd10:1::13"}
WORKLOAD = {4: "10.64.9.9/32", 6: "fd64::9:9/128"}
CLUSTER: tuple[Resource, ...] = (
    Node(
        metadata={"name": "node"},
        spec={"bgp": {"ipv4Address": "10.1.0.11/24", "ipv6Address": "fd10:1::11/64"}},
    ),
    IPPool(metadata={"name": "pool4"}, spec={"cidr": "10.64.0.0/16"}),
    IPPool(metadata={"name": "pool6"}, spec={"cidr": "fd64::/48"}),
)


class Ground:
    """The node with its rendered BIRD, and the neighbours."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.segment("rack")
        self.hosts: dict[str, Host] = {}
        for name, own in (("node", NODE), ("one", ONE), ("two", TWO)):
            self.hosts[name] = world.host(name, router=True)
            world.attach("rack", self.hosts[name], "eth0", f"{own[4]}/24", f"{own[6]}/64")
        self.node = self.hosts["node"]

    def start(self, *more: Resource) -> Bird:
        """BIRD on the node, from what is declared."""
        plan = plan_node(ResourceSet.of([*CLUSTER, *more]), "node")
        return Bird(self.node, bird(plan, 2, options=BirdOptions(scan_time=1)))

    def neighbour(self, name: str, own: Mapping[int, str], asn: int = 64512) -> Bird:
        """One that announces nothing yet."""
        found = Bird(self.hosts[name], neighbour(own, asn, {}))
        self.world.wait_until(f"{name} answers", found.sessions, 30)
        return found

    def kernel(self, version: int) -> list[tuple[str, set[tuple[str, str]], int]]:
        """What the node's BIRD has in the kernel: prefix, ways, metric."""
        routes = self.node.kernel_routes(version, protocol="bird")
        return [(route.destination, set(route.next_hops), route.metric) for route in routes]

    def expect(self, version: int, *routes: tuple[str, str, int]) -> None:
        wanted = [(prefix, {(gateway, "eth0")}, metric) for prefix, gateway, metric in routes]
        self.world.wait_equal(f"IPv{version} routes", lambda: self.kernel(version), wanted, 30)

    def told(self, router: Bird, *prefixes: str) -> None:
        self.world.wait_equal("what the router is told", lambda: set(router.routes()), set(prefixes), 30)


def neighbour(own: Mapping[int, str], asn: int, priorities: Mapping[str, int]) -> str:
    """The configuration of one that announces prefixes, each with a priority."""
    text = preamble(own[4], kernel=False)
    for version in (4, 6):
        routes = {prefix: value for prefix, value in priorities.items() if (":" in prefix) == (version == 6)}
        text += f"\nprotocol static statics{version} {{ ipv{version};"
        text += "".join(
            f" route {prefix} blackhole {{ bgp_local_pref = {local_pref_of(value)}; }};"
            for prefix, value in routes.items()
        )
        text += f""" }}
protocol bgp node{version} {{
    local {own[version]} as {asn}; neighbor {NODE[version]} as 64512;
    connect delay time 1; connect retry time 2; error wait time 1, 2;
    ipv{version} {{ import all; export where source = RTS_STATIC; next hop self; }};
}}
"""
    return text


@pytest.fixture
def ground() -> Iterator[Ground]:
    with World("rendered") as world:
        yield Ground(world)


def peer_node(name: str, own: Mapping[int, str]) -> Node:
    return Node(
        metadata={"name": name}, spec={"bgp": {"ipv4Address": f"{own[4]}/24", "ipv6Address": f"{own[6]}/64"}}
    )


@pytest.mark.parametrize("version", [4, 6])
def test_no_route_stays_behind_whatever_priority_it_had(ground: Ground, version: int) -> None:
    """BIRD 2 replaces and deletes by its one metric, so no route of its may have any other."""
    ground.start(peer_node("one", ONE), peer_node("two", TWO))
    prefix, one, two = WORKLOAD[version], ground.neighbour("one", ONE), ground.neighbour("two", TWO)
    by_one, by_two = (prefix, ONE[version], 1024), (prefix, TWO[version], 1024)
    one.configure(neighbour(ONE, 64512, {prefix: 1024}))
    ground.expect(version, by_one)
    two.configure(neighbour(TWO, 64512, {prefix: 512}))  # as where a workload arrives by live migration
    ground.expect(version, by_two)
    one.configure(neighbour(ONE, 64512, {}))
    two.configure(neighbour(TWO, 64512, {prefix: 1024}))
    ground.expect(version, by_two)
    two.configure(neighbour(TWO, 64512, {prefix: 2000}))
    ground.expect(version, by_two)
    two.configure(neighbour(TWO, 64512, {}))
    ground.expect(version)


def router(name: str, address: str, **more: object) -> BGPPeer:
    return BGPPeer(metadata={"name": name}, spec={"peerIP": address, "asNumber": 65001, **more})


def endpoint(*addresses: str) -> WorkloadEndpoint:
    spec = {"node": "node", "ipNetworks": list(addresses), "interfaceName": "cali1"}
    return WorkloadEndpoint(metadata={"name": "w", "namespace": "d"}, spec=spec)


def configured(**spec: object) -> BGPConfiguration:
    return BGPConfiguration(metadata={"name": "default"}, spec=spec)


@pytest.mark.parametrize("version", [4, 6])
def test_a_session_from_any_address_leaves_the_others_their_listener(ground: Ground, version: int) -> None:
    routers = router("a", TWO[version], sourceAddress="None"), router("b", ONE[version])
    node = ground.start(configured(bindMode="NodeIP"), *routers)
    ground.neighbour("one", ONE, 65001)
    ground.neighbour("two", TWO, 65001)
    wanted = {ONE[version]: True, TWO[version]: True}
    ground.world.wait_equal("sessions", node.sessions, wanted, 30)


def test_a_raised_priority_takes_no_service_or_block_of_this_node(ground: Ground) -> None:
    service, block, other = "10.96.0.0/12", "10.64.1.0/26", "10.64.9.9/32"
    ground.start(
        peer_node("one", ONE),
        router("b", TWO[4]),
        configured(serviceClusterIPs=[{"cidr": service}]),
        BlockAffinity(spec={"node": "node", "cidr": block, "state": "confirmed"}),
    )
    two = ground.neighbour("two", TWO, 65001)
    one = ground.neighbour("one", ONE)
    one.configure(neighbour(ONE, 64512, dict.fromkeys((service, block, other), 512)))
    hole = (block, {("", "")}, 1024)
    learned = (other, {(ONE[4], "eth0")}, 1024)
    ground.world.wait_equal("kernel", lambda: sorted(ground.kernel(4)), [hole, learned], 30)
    ground.told(two, service, block)


def test_a_service_that_is_a_workloads_address_is_delivered_to_it(ground: Ground) -> None:
    address = "10.64.7.7/32"
    ground.world.link(ground.node, "cali1", ground.world.host("workload"), "eth0")
    ground.start(
        router("a", ONE[4]), configured(serviceExternalIPs=[{"cidr": address}]), endpoint("10.64.7.7")
    )
    one = ground.neighbour("one", ONE, 65001)
    ground.world.wait_equal("kernel", lambda: ground.kernel(4), [(address, {("", "cali1")}, 1024)], 30)
    ground.told(one, address)


def test_a_block_inside_another_is_announced_beside_it(ground: Ground) -> None:
    outer, inner = "10.64.0.0/24", "10.64.0.64/26"
    blocks = [
        BlockAffinity(spec={"node": "node", "cidr": cidr, "state": "confirmed"}) for cidr in (outer, inner)
    ]
    ground.start(router("a", ONE[4]), *blocks)
    one = ground.neighbour("one", ONE, 65001)
    ground.told(one, outer, inner)


def test_a_learned_route_has_no_interface(ground: Ground) -> None:
    rules = {"importV4": [{"interface": "eth0", "action": "Reject"}]}
    filtering = BGPFilter(metadata={"name": "f"}, spec=rules)
    ground.start(router("a", ONE[4], filters=["f"]), filtering)
    one = ground.neighbour("one", ONE, 65001)
    one.configure(neighbour(ONE, 65001, {"198.51.100.0/24": 1024}))
    ground.expect(4, ("198.51.100.0/24", ONE[4], 1024))
