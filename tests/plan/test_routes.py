"""What a node announces, what not, and the reason of each."""

from ipaddress import ip_address, ip_network

import pytest

from bgpd.plan import Needed, OriginKind, plan_node
from bgpd.resources import Key, ResourceSet, WorkloadEndpoint
from tests.plan.cluster import THREE, announced, bgp, cluster, node, plans

POOLS = """\
kind: IPPool
metadata: {name: main}
spec: {cidr: 10.1.0.0/16}
---
kind: IPPool
metadata: {name: hidden}
spec: {cidr: 10.2.0.0/16, disableBGPExport: true}
---
kind: IPPool
metadata: {name: six}
spec: {cidr: 'fd00:1::/64'}"""
WITHHELD = "kind: IPPool\nmetadata: {name: a}\nspec: {cidr: 10.1.0.0/16, disableBGPExport: true}"


def block(node: str, cidr: str, state: str = "confirmed") -> str:
    return f"kind: BlockAffinity\nspec: {{node: {node}, cidr: '{cidr}', state: {state}}}"


def endpoint(node: str, pod: str, addresses: str, created: str = "", interface: str = "cali1") -> str:
    stamp = f", creationTimestamp: '{created}'" if created else ""
    return (
        f"kind: WorkloadEndpoint\nmetadata: {{namespace: d{stamp}}}\n"
        f"spec: {{node: {node}, orchestrator: k8s, pod: {pod}, endpoint: eth0, "
        f"ipNetworks: {addresses}, interfaceName: {interface}}}"
    )


def reasons(resources: ResourceSet, name: str) -> dict[str, str]:
    return {str(item.prefix): item.reason for item in plan_node(resources, name).rejected}


def test_only_confirmed_blocks_are_announced_and_blackholed() -> None:
    resources = cluster(
        THREE,
        POOLS,
        block("n1", "10.1.0.0/26"),
        block("n1", "10.1.0.64/26", "pending"),
        block("n1", "10.1.0.128/26", "pendingDeletion"),
        block("n1", "fd00:1::/122"),
        block("n2", "10.1.1.0/26"),
    )
    plan = plan_node(resources, "n1")
    assert announced(plan) == {"10.1.0.0/26", "fd00:1::/122"}
    assert {str(hole.prefix) for hole in plan.blackholes} == announced(plan)
    assert reasons(resources, "n1") == {
        "10.1.0.64/26": "the affinity of block 10.1.0.64/26 to n1 is pending",
        "10.1.0.128/26": "the affinity of block 10.1.0.128/26 to n1 is pendingDeletion",
    }
    assert plan.originated[0].reason == "block 10.1.0.0/26, affinity to n1 confirmed"


def test_a_block_with_a_nodes_address_in_it_cuts_nobody_off() -> None:
    resources = cluster(
        THREE,
        node("n6", "{bgp: {ipv6Address: 'fd00:1::7/64'}}"),
        block("n1", "10.0.0.0/26"),
        block("n1", "10.0.0.64/26"),
        block("n1", "10.0.0.0/8"),
        block("n1", "fd00:1::/122"),
        endpoint("n1", "web", "[10.0.0.40/32]"),
        "kind: IPPool\nmetadata: {name: all}\nspec: {cidr: 10.0.0.0/8}",
    )
    plan = plan_node(resources, "n1")
    assert announced(plan) == {"10.0.0.64/26", "10.0.0.40/32"}
    assert {str(hole.prefix) for hole in plan.blackholes} == {"10.0.0.64/26"}
    assert reasons(resources, "n1") == {
        "10.0.0.0/26": "10.0.0.1 in block 10.0.0.0/26 is the address of Node n1",
        "10.0.0.0/8": "10.0.0.1 in block 10.0.0.0/8 is the address of Node n1",
        "fd00:1::/122": "fd00:1::7 in block fd00:1::/122 is the address of Node n6",
    }
    assert (
        "10.0.0.1 in block 10.0.0.0/26 is the address of Node n1: the block is not announced; release it"
        in plan.remarks
    )
    moved = resources.with_changes(
        dict.fromkeys(Key("Node", f"n{number}") for number in (2, 3))
        | {Key("Node", "n1"): cluster(bgp("n1", 71)).nodes["n1"]}
    )
    assert announced(plan_node(moved, "n1")) == {"10.0.0.0/26"}


def test_a_workload_with_an_address_that_nodes_need_cuts_nobody_off() -> None:
    peers = [
        f"kind: BGPPeer\nmetadata: {{name: {name}}}\nspec: {{peerIP: {address}, asNumber: 64601}}"
        for name, address in (("tor", "10.0.0.254"), ("far", "10.9.0.254"))
    ]
    resources = cluster(
        THREE,
        *peers,
        block("n1", "10.0.0.192/26"),
        block("n1", "10.9.0.192/26"),
        *(
            endpoint("n1", pod, f"[{address}/32]", interface=f"cali{pod}")
            for pod, address in {
                "node": "10.0.0.2",
                "tor": "10.0.0.254",
                "far": "10.9.0.254",
                "etcd": "10.7.0.2",
                "gateway": "10.0.0.99",
                "router": "10.0.0.98",
                "good": "10.0.0.97",
            }.items()
        ),
        "kind: IPPool\nmetadata: {name: all}\nspec: {cidr: 10.0.0.0/8}",
    )
    needed = (
        Needed(ip_address("10.7.0.2"), "etcd"),
        Needed(ip_address("10.0.0.98"), "a gateway on calirouter", "calirouter"),
        Needed(ip_address("10.0.0.99"), "a gateway on eth0", "eth0"),
    )
    plan = plan_node(resources, "n1", (), needed)
    assert announced(plan) == {"10.0.0.97/32", "10.0.0.98/32", "10.9.0.192/26"}
    workloads = {str(route.prefix) for route in plan.workloads}
    assert workloads == {"10.0.0.97/32", "10.0.0.98/32", "10.9.0.254/32"}
    assert [str(hole.prefix) for hole in plan.blackholes] == ["10.9.0.192/26"]
    unannounced = "the block is not announced; release it"
    said = "neither announced nor routed to; give it another"
    assert plan.remarks == (
        f"10.0.0.254 in block 10.0.0.192/26 is the address of BGPPeer tor: {unannounced}",
        f"WorkloadEndpoint d/n1-k8s-node-eth0: 10.0.0.2 is the address of Node n2: {said}",
        f"WorkloadEndpoint d/n1-k8s-gateway-eth0: 10.0.0.99 is the address of a gateway on eth0: {said}",
        f"WorkloadEndpoint d/n1-k8s-tor-eth0: 10.0.0.254 is the address of BGPPeer tor: {said}",
        f"WorkloadEndpoint d/n1-k8s-etcd-eth0: 10.7.0.2 is the address of etcd: {said}",
    )
    free = resources.with_changes({Key("BGPPeer", "tor"): None, Key("Node", "n2"): None})
    free_plan = plan_node(free, "n1")
    assert free_plan.remarks == ()
    assert announced(free_plan) - announced(plan) == {
        "10.0.0.2/32",
        "10.0.0.99/32",
        "10.7.0.2/32",
        "10.0.0.192/26",
    }
    assert {str(route.prefix) for route in free_plan.workloads} - workloads == {
        "10.0.0.2/32",
        "10.0.0.99/32",
        "10.7.0.2/32",
        "10.0.0.254/32",
    }


def test_the_affinity_says_whose_a_block_is_and_not_the_block() -> None:
    """As in Calico: agents hear of no IPAMBlock, and what is planned is what they do."""
    other = "kind: IPAMBlock\nspec: {cidr: 10.1.0.0/26, affinity: 'host:n2'}"
    resources = cluster(THREE, POOLS, block("n1", "10.1.0.0/26"), other)
    assert announced(plan_node(resources, "n1")) == {"10.1.0.0/26"}
    assert announced(plan_node(resources, "n2")) == set()


def test_addresses_inside_the_block_are_routed_here_and_not_announced() -> None:
    resources = cluster(THREE, POOLS, block("n1", "10.1.0.0/26"), endpoint("n1", "p", "[10.1.0.5]"))
    plan = plan_node(resources, "n1")
    assert announced(plan) == {"10.1.0.0/26"}
    assert [(str(route.prefix), route.interface) for route in plan.workloads] == [("10.1.0.5/32", "cali1")]


def test_borrowed_addresses_are_announced_as_host_routes() -> None:
    resources = cluster(
        THREE,
        POOLS,
        block("n1", "10.1.0.0/26"),
        block("n2", "10.1.1.0/26"),
        endpoint("n1", "p", "[10.1.1.7, 'fd00:1::99']"),
    )
    plan = plan_node(resources, "n1")
    assert announced(plan) == {"10.1.0.0/26", "10.1.1.7/32", "fd00:1::99/128"}
    borrowed = next(item for item in plan.originated if item.kind is OriginKind.ENDPOINT)
    assert borrowed.interface == "cali1"
    assert borrowed.reason == "WorkloadEndpoint d/n1-k8s-p-eth0: outside the blocks of n1"


def test_addresses_in_a_pending_block_are_announced_as_host_routes() -> None:
    resources = cluster(
        THREE, POOLS, block("n1", "10.1.0.0/26", "pending"), endpoint("n1", "p", "[10.1.0.5]")
    )
    assert announced(plan_node(resources, "n1")) == {"10.1.0.5/32"}


def test_addresses_in_no_pool_or_in_one_without_export_stay() -> None:
    resources = cluster(
        THREE, POOLS, block("n1", "10.2.0.0/26"), endpoint("n1", "p", "[192.0.2.1, 10.2.9.9]")
    )
    assert announced(plan_node(resources, "n1")) == set()
    assert reasons(resources, "n1") == {
        "10.2.0.0/26": "IPPool hidden: disableBGPExport",
        "10.2.9.9/32": "IPPool hidden: disableBGPExport",
        "192.0.2.1/32": "in no IPPool, block or service CIDR",
    }


def test_the_newer_of_two_owners_has_the_address() -> None:
    old = endpoint("n1", "p", "[10.1.9.9]", "2026-01-01T00:00:00Z")
    new = endpoint("n2", "p", "[10.1.9.9]", "2026-01-01T00:00:01Z")
    for resources in (cluster(THREE, POOLS, old, new), cluster(THREE, POOLS, new, old)):
        found = plans(resources)
        assert announced(found["n1"]) == set()
        assert found["n1"].workloads == ()
        assert announced(found["n2"]) == {"10.1.9.9/32"}
        assert reasons(resources, "n1") == {
            "10.1.9.9/32": "WorkloadEndpoint d/n1-k8s-p-eth0: the newer WorkloadEndpoint "
            "d/n2-k8s-p-eth0 on n2 has it"
        }


def test_a_node_that_cannot_see_its_rival_yields_by_the_age_in_the_med() -> None:
    old = cluster(THREE, POOLS, endpoint("n1", "p", "[10.1.9.9]", "2026-01-01T00:00:00Z"))
    new = cluster(THREE, POOLS, endpoint("n2", "p", "[10.1.9.9]", "2026-01-01T00:00:01Z"))
    (older,), (newer,) = plan_node(old, "n1").originated, plan_node(new, "n2").originated
    assert older.med is not None
    assert newer.med is not None
    assert newer.med < older.med


@pytest.mark.parametrize("stamp", ["", "yesterday", "2026-01-01T00:00:00"])
def test_owners_of_unknown_age_are_told_apart_all_the_same(stamp: str) -> None:
    resources = cluster(
        THREE, POOLS, endpoint("n1", "p", "[10.1.9.9]", stamp), endpoint("n2", "p", "[10.1.9.9]", stamp)
    )
    found = plans(resources)
    assert [announced(found[name]) for name in ("n1", "n2")] == [set(), {"10.1.9.9/32"}]


def test_of_two_owners_of_one_age_the_one_without_uid_yields() -> None:
    bare = endpoint("n2", "p", "[10.1.9.9]", "2026-01-01T00:00:00Z")
    known = endpoint("n1", "p", "[10.1.9.9]", "2026-01-01T00:00:00Z")
    found = plans(cluster(THREE, POOLS, bare, known.replace("namespace: d", "namespace: d, uid: a")))
    assert [announced(found[name]) for name in ("n1", "n2")] == [{"10.1.9.9/32"}, set()]


def test_a_single_address_block_is_announced_with_its_workload() -> None:
    empty = cluster(THREE, POOLS, block("n1", "10.1.3.3/32"))
    assert announced(plan_node(empty, "n1")) == set()
    used = cluster(THREE, POOLS, block("n1", "10.1.3.3/32"), endpoint("n1", "p", "[10.1.3.3]"))
    plan = plan_node(used, "n1")
    assert announced(plan) == {"10.1.3.3/32"}
    assert plan.blackholes == ()


def test_a_single_address_blocks_route_is_its_workloads() -> None:
    """With its interface, which filters look at, and its age: another node may have the address by now."""
    claims = endpoint("n1", "p", "[10.1.3.3]", "2026-01-01T00:00:00Z")
    old = plan_node(cluster(THREE, POOLS, block("n1", "10.1.3.3/32"), claims), "n1")
    newer = endpoint("n2", "p", "[10.1.3.3]", "2026-01-01T00:00:01Z")
    new = plan_node(cluster(THREE, POOLS, newer), "n2")
    (before,), (after,) = old.originated, new.originated
    assert (before.kind, before.interface) == (OriginKind.BLOCK, "cali1")
    assert before.med is not None
    assert after.med is not None
    assert after.med < before.med


def test_a_single_address_block_keeps_its_communities_where_a_filter_lets_its_workload_out() -> None:
    settings = """\
        kind: BGPConfiguration
        metadata: {name: default}
        spec: {prefixAdvertisements: [{cidr: 10.1.0.0/16, communities: ['65000:3']}]}
        ---
        kind: BGPPeer
        metadata: {name: tor}
        spec: {peerIP: 10.0.0.99, asNumber: 65000, filters: [f]}
        ---
        kind: BGPFilter
        metadata: {name: f}
        spec: {exportV4: [{action: Accept, interface: cali1}]}
        """
    resources = cluster(THREE, POOLS, settings, block("n1", "10.1.3.3/32"), endpoint("n1", "p", "[10.1.3.3]"))
    (route,) = plan_node(resources, "n1").originated
    assert route.kind is OriginKind.BLOCK
    assert [str(item) for item in route.communities] == ["65000:3"]


def test_service_cidrs_are_announced_by_every_node_not_excluded() -> None:
    services = """\
        kind: BGPConfiguration
        metadata: {name: default}
        spec:
          serviceClusterIPs: [{cidr: 10.96.0.0/12}]
          serviceExternalIPs: [{cidr: 192.0.2.0/24}]
          serviceLoadBalancerIPs: [{cidr: 198.51.100.0/24}]
        """
    excluded = bgp("n4", 4, "", "{node.kubernetes.io/exclude-from-external-load-balancers: 'true'}")
    control_plane = bgp("n5", 5, "", "{node.kubernetes.io/exclude-from-external-load-balancers: ''}")
    found = plans(cluster(THREE, excluded, control_plane, services))
    assert announced(found["n1"]) == {"10.96.0.0/12", "192.0.2.0/24", "198.51.100.0/24"}
    assert announced(found["n4"]) == set()
    assert announced(found["n5"]) == announced(found["n1"])
    single = services.replace("spec:", "spec:\n          serviceLoadBalancerAggregation: Disabled")
    assert announced(plan_node(cluster(THREE, single), "n1")) == {"10.96.0.0/12", "192.0.2.0/24"}
    address = single.replace("198.51.100.0/24", "198.51.100.7/32")
    assert "198.51.100.7/32" in announced(plan_node(cluster(THREE, address), "n1"))
    assert plan_node(cluster(THREE, address), "n1").rejected == ()


def test_communities_come_from_the_nodes_own_configuration_or_else_the_clusters() -> None:
    settings = """\
        kind: BGPConfiguration
        metadata: {name: default}
        spec:
          communities: [{name: blue, value: '65000:1:2'}]
          prefixAdvertisements:
          - {cidr: 10.1.0.0/16, communities: [blue, '65000:3']}
          - {cidr: 10.1.0.0/17, communities: [nameless, '65000:4', '65000:3']}
        ---
        kind: BGPConfiguration
        metadata: {name: node.n2}
        spec: {prefixAdvertisements: [{cidr: 10.1.0.0/16, communities: [blue]}]}
        """
    resources = cluster(THREE, POOLS, settings, block("n1", "10.1.0.0/26"), block("n2", "10.1.1.0/26"))
    one, two = plan_node(resources, "n1"), plan_node(resources, "n2")
    assert [str(item) for item in one.originated[0].communities] == ["65000:1:2", "65000:3", "65000:4"]
    assert [str(item) for item in one.originated[0].large_communities] == ["65000:1:2"]
    assert [str(item) for item in two.originated[0].communities] == ["65000:1:2"]
    assert any("no community is named 'nameless'" in remark for remark in one.remarks)


def test_a_learn_only_node_announces_nothing() -> None:
    plain = node("srv", "{bgp: {ipv4Address: 10.0.0.8/24}}", annotations="{cairn.dev/learn-only: 'true'}")
    plan = plan_node(cluster(THREE, POOLS, plain, block("srv", "10.1.0.0/26")), "srv")
    assert plan.learn_only
    assert announced(plan) == set()
    assert len(plan.peerings) == 3


def test_static_routes_of_the_agent_are_announced() -> None:
    resources = cluster(THREE)
    prefix = next(iter(cluster(block("n1", "192.0.2.0/24")).affinities.values())).cidr
    plan = plan_node(resources, "n1", (prefix,))
    assert [(str(item.prefix), item.kind) for item in plan.originated] == [
        ("192.0.2.0/24", OriginKind.STATIC)
    ]


@pytest.mark.parametrize("declared", [4, 6])
def test_routes_have_the_declared_priority(declared: int) -> None:
    spec = f"{{ipv{declared}NormalRoutePriority: 2000}}"
    settings = f"kind: BGPConfiguration\nmetadata: {{name: default}}\nspec: {spec}"
    resources = cluster(THREE, POOLS, settings, block("n1", "10.1.0.0/26"), block("n1", "fd00:1::/122"))
    for route in plan_node(resources, "n1").originated:
        wanted = (2000, 2147481647) if route.prefix.version == declared else (1024, 2147482623)
        assert (route.priority, route.local_pref) == wanted


def test_tunnels_are_planned_where_a_pool_wants_them() -> None:
    pool = "kind: IPPool\nmetadata: {name: v}\nspec: {cidr: 10.5.0.0/16, vxlanMode: CrossSubnet}"
    far = (
        "kind: Node\nmetadata: {name: far}\nspec: {bgp: {ipv4Address: 10.9.0.9/24}, "
        "ipv4VXLANTunnelAddr: 10.5.0.1, vxlanTunnelMACAddr: '66:00:00:00:00:01'}"
    )
    assert plan_node(cluster(THREE, far, POOLS), "n1").tunnel_ends == ()
    plan = plan_node(cluster(THREE, far, pool), "n1")
    (end,) = plan.tunnel_ends
    assert (end.node, str(end.underlay), str(end.tunnel_address), end.mac) == (
        "far",
        "10.9.0.9",
        "10.5.0.1",
        "66:00:00:00:00:01",
    )
    assert plan.pools[0].cross_subnet
    assert not plan.is_direct(end.underlay)
    assert plan.is_direct(plan_node(cluster(THREE), "n2").peerings[0].peer_address)


@pytest.mark.parametrize(
    ("address", "more", "told"),
    [
        ("10.1.0.5", (block("n1", "10.1.0.0/26"),), set()),
        ("10.1.1.5", (block("n2", "10.1.1.0/26"),), {"10.1.1.5/32"}),
        ("10.1.1.5", (block("n1", "10.1.1.0/26", "pending"),), {"10.1.1.5/32"}),
        ("10.1.1.5", (block("n1", "10.1.1.5/32"),), {"10.1.1.5/32"}),
        ("10.1.1.5", (WITHHELD,), set()),
        ("10.9.1.5", (), set()),
        ("10.0.0.3", (), set()),
    ],
    ids=["in a block", "borrowed", "pending", "a block of one", "not for export", "in no pool", "a Node's"],
)
@pytest.mark.parametrize("mode", ["vxlanMode", "ipipMode"])
def test_a_tunnel_address_outside_the_nodes_blocks_is_announced(
    mode: str, address: str, more: tuple[str, ...], told: set[str]
) -> None:
    """The answers to what the node itself sends through the tunnel have no other way."""
    bgp = f"{{ipv4Address: 10.0.0.9/24, ipv4IPIPTunnelAddr: {address}}}"
    near = node("near", f"{{bgp: {bgp}, ipv4VXLANTunnelAddr: {address}}}")
    pools = [
        f"kind: IPPool\nmetadata: {{name: {name}}}\nspec: {{cidr: {cidr}, {mode}: Always}}"
        for name, cidr in (("a", "10.1.0.0/16"), ("b", "10.0.0.0/24"))
    ]
    plan = plan_node(cluster(THREE, near, *pools, *(part.replace("n1", "near") for part in more)), "near")
    found = {item.prefix for item in plan.originated if item.kind is OriginKind.TUNNEL}
    assert found == {ip_network(prefix) for prefix in told}
    assert plan_node(cluster(THREE, near, *more), "near").near_ends == ()


def test_every_node_has_the_tunnel_ends_of_all_others() -> None:
    pools = (
        "kind: IPPool\nmetadata: {name: v}\nspec: {cidr: 10.5.0.0/16, vxlanMode: Always}",
        "kind: IPPool\nmetadata: {name: i}\nspec: {cidr: 10.6.0.0/16, ipipMode: Always}",
    )

    def tunnelled(name: str, host: int) -> str:
        ipip = f"ipv4IPIPTunnelAddr: 10.6.0.{host}"
        bgp = f"{{ipv4Address: 10.0.0.{host}/24, {ipip}}}"
        return node(name, f"{{bgp: {bgp}, ipv4VXLANTunnelAddr: 10.5.0.{host}}}")

    def ends(resources: ResourceSet) -> dict[str, list[str]]:
        return {name: [end.node for end in plan.tunnel_ends] for name, plan in plans(resources).items()}

    before = cluster(THREE, tunnelled("n11", 11), tunnelled("n2", 2), tunnelled("a", 4), *pools)
    assert ends(before) == {
        "a": ["n11", "n11", "n2", "n2"],
        "n1": ["a", "a", "n11", "n11", "n2", "n2"],
        "n11": ["a", "a", "n2", "n2"],
        "n2": ["a", "a", "n11", "n11"],
        "n3": ["a", "a", "n11", "n11", "n2", "n2"],
    }
    moved = cluster(tunnelled("n3", 3)).nodes["n3"]
    after = before.with_changes({moved.key: moved, Key("Node", "a"): None})
    assert ends(after) == ends(ResourceSet.of(list(after)))
    assert ends(after)["n11"] == ["n2", "n2", "n3", "n3"]


def test_a_plan_after_a_change_is_the_plan_of_the_changed_state() -> None:
    before = cluster(THREE, POOLS, block("n1", "10.1.0.0/26"))
    plans(before)
    added = WorkloadEndpoint(
        metadata={"name": "w", "namespace": "d"},
        spec={"node": "n1", "ipNetworks": ["10.1.9.9/32"], "interfaceName": "cali9"},
    )
    after = before.with_changes({added.key: added, Key("Node", "n3"): None})
    fresh = ResourceSet.of(list(after))
    assert plans(after) == plans(fresh)
    assert announced(plan_node(after, "n1")) == {"10.1.0.0/26", "10.1.9.9/32"}


def test_a_filter_lets_out_what_the_nodes_rules_hold_back_and_nothing_else_does() -> None:
    released = (
        "kind: BGPFilter\nmetadata: {name: f}\nspec: {exportV4: [{action: Accept, interface: 'cali7'}, %s]}"
    )
    tor = "kind: BGPPeer\nmetadata: {name: tor}\nspec: {peerIP: 10.0.0.99, asNumber: 65000, filters: [f]}"
    state = (
        *(THREE, POOLS, tor, block("n1", "10.1.0.0/26"), block("n1", "10.2.0.0/26")),
        block("n1", "10.1.9.0/26", "pending"),
        *(endpoint("n1", "w", "[10.1.0.7]", interface="cali7"), endpoint("n1", "v", "[10.1.0.8]")),
    )
    hidden = "{action: Accept, matchOperator: In, cidr: 10.2.0.0/16}"
    resources = cluster(*state, released % hidden)
    plan = plan_node(resources, "n1")
    assert announced(plan) == {"10.1.0.0/26", "10.1.0.7/32", "10.2.0.0/26"}
    reasons = {str(route.prefix): route.reason for route in plan.originated}
    assert reasons["10.1.0.7/32"].endswith("inside the blocks of n1; BGPFilter f exportV4[0]: Accept")
    assert [str(item.prefix) for item in plan.rejected] == ["10.1.9.0/26"]
    for peering in plan.peerings:
        told = {
            str(route.prefix)
            for route in plan.originated
            if peering.export_policy.decide(route.facts, plan.export_rules).accept
        }
        assert told == (announced(plan) if peering.name == "Global_10_0_0_99" else {"10.1.0.0/26"})
    narrower = cluster(*state, released % "{action: Reject}")
    changed = resources.with_changes({item.key: item for item in narrower})
    assert plan_node(changed, "n1") == plan_node(narrower, "n1")
    assert announced(plan_node(changed, "n1")) == {"10.1.0.0/26", "10.1.0.7/32"}
    learner = node("n1", "{bgp: {ipv4Address: 10.0.0.1/24}}", annotations="{cairn.dev/learn-only: 'true'}")
    silent = cluster(learner, *state[1:], released % hidden)
    assert announced(plan_node(silent, "n1")) == set()
