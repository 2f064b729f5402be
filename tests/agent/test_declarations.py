"""What follows from the plan without any I/O: announcements, the Node's declaration, tunnels."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, ip_address, ip_network
from typing import Any

import pytest

from agent.announcements import Announcements, kind_of, with_disputed
from agent.config import AgentConfig
from agent.dead import Leases, addresses_of, addresses_of_the_dead
from agent.kernel.route import Hop
from agent.registration import registered
from agent.tunnels import Tunnels, link_local, mac_of
from bgpd.plan import NodePlan, plan_node
from bgpd.plan.routes import is_learn_only
from bgpd.resources import MODELS, Node, Resource, ResourceSet, to_document
from bgpd.wire.nlri import IPV4_UNICAST, IPV6_UNICAST, nlri_of


def resource(kind: str, name: str, spec: dict[str, Any], **metadata: str) -> Resource:
    document = {
        "apiVersion": "cairn.dev/v1" if kind == "NodeLease" else "projectcalico.org/v3",
        "kind": kind,
        "metadata": {"name": name, **metadata},
        "spec": spec,
    }
    return MODELS[kind].model_validate(document, by_alias=True, by_name=False)


def node(name: str, address: str, **spec: Any) -> Resource:
    return resource("Node", name, {"bgp": {"ipv4Address": address}, **spec})


def plan_of(*resources: Resource) -> NodePlan:
    base = (
        node("a", "10.0.0.1/24"),
        resource("IPPool", "p", {"cidr": "10.77.0.0/16"}),
        resource("BlockAffinity", "a-b", {"node": "a", "cidr": "10.77.0.0/26", "state": "confirmed"}),
    )
    return plan_node(ResourceSet.of((*base, *resources)), "a")


def told(plan: NodePlan, peer: str) -> dict[str, str]:
    [peering] = [each for each in plan.peerings if str(each.peer_address) == peer]
    return dict(Announcements().of(plan, peering))


def test_blocks_are_announced_with_this_node_as_next_hop() -> None:
    found = told(plan_of(node("b", "10.0.0.2/24")), "10.0.0.2")
    assert list(found) == ["10.77.0.0/26"]
    assert found["10.77.0.0/26"].split()[:2] == ["next-hop", "self"]


def test_sessions_of_one_kind_are_told_the_same_and_others_are_of_another() -> None:
    plan = plan_of(
        node("b", "10.0.0.2/24"),
        node("c", "10.0.0.3/24"),
        resource("BGPPeer", "t", {"peerIP": "10.0.0.9", "asNumber": 65100}),
        resource("BGPPeer", "u", {"peerIP": "10.0.0.8", "asNumber": 65100, "filters": ["f"]}),
        resource("BGPFilter", "f", {"exportV4": [{"action": "Reject"}]}),
    )
    kinds = {str(each.peer_address): kind_of(each) for each in plan.peerings}
    assert len(kinds) == 4
    assert kinds["10.0.0.2"] == kinds["10.0.0.3"]
    assert told(plan, "10.0.0.2") == told(plan, "10.0.0.3")
    assert len(set(kinds.values())) == 3


def test_local_preference_stays_within_the_as() -> None:
    plan = plan_of(
        node("b", "10.0.0.2/24"), resource("BGPPeer", "t", {"peerIP": "10.0.0.9", "asNumber": 65100})
    )
    assert "local-preference" in told(plan, "10.0.0.2")["10.77.0.0/26"]
    assert "local-preference" not in told(plan, "10.0.0.9")["10.77.0.0/26"]


def test_communities_of_both_sizes_are_written_as_exabgp_reads_them() -> None:
    communities = ["64512:7", "64512:1:2"]
    configuration = resource(
        "BGPConfiguration",
        "default",
        {"prefixAdvertisements": [{"cidr": "10.77.0.0/16", "communities": communities}]},
    )
    clause = told(plan_of(node("b", "10.0.0.2/24"), configuration), "10.0.0.2")["10.77.0.0/26"]
    assert clause.endswith("community [ 64512:7 ] large-community [ 64512:1:2 ]")


def test_a_prepended_path_out_of_the_as_begins_with_our_own_number() -> None:
    rule = {"action": "Accept", "operations": [{"prependASPath": {"prefix": [65001, 65001]}}]}
    plan = plan_of(
        resource("BGPFilter", "f", {"exportV4": [rule]}),
        resource("BGPPeer", "t", {"peerIP": "10.0.0.9", "asNumber": 65100, "filters": ["f"]}),
    )
    assert "as-path [ 64512 65001 65001 ]" in told(plan, "10.0.0.9")["10.77.0.0/26"]


def test_what_a_filter_lets_out_is_told_where_the_filter_is_and_what_is_disputed_everywhere() -> None:
    workload = {"node": "a", "ipNetworks": ["10.77.0.7/32"], "interfaceName": "cali7"}
    plan = plan_of(
        node("b", "10.0.0.2/24"),
        resource("BGPFilter", "f", {"exportV4": [{"action": "Accept"}]}),
        resource("BGPPeer", "t", {"peerIP": "10.0.0.9", "asNumber": 65100, "filters": ["f"]}),
        resource("WorkloadEndpoint", "w", workload, namespace="d"),
    )
    block, both = {"10.77.0.0/26"}, {"10.77.0.0/26", "10.77.0.7/32"}
    assert told(plan, "10.0.0.2").keys() == block
    assert told(plan, "10.0.0.9").keys() == both
    disputed = with_disputed(plan, {"10.77.0.7/32"})
    assert told(disputed, "10.0.0.2").keys() == told(disputed, "10.0.0.9").keys() == both


def test_a_session_is_told_the_routes_of_its_own_family_and_no_others() -> None:
    both = {"ipv4Address": "10.0.0.1/24", "ipv6Address": "fd00::1/64"}
    plan = plan_of(
        resource("Node", "a", {"bgp": both}),
        resource("Node", "b", {"bgp": {"ipv4Address": "10.0.0.2/24", "ipv6Address": "fd00::2/64"}}),
        resource("IPPool", "six", {"cidr": "fd00:1::/64"}),
        resource("BlockAffinity", "a-6", {"node": "a", "cidr": "fd00:1::/122", "state": "confirmed"}),
    )
    assert told(plan, "10.0.0.2").keys() == {"10.77.0.0/26"}
    assert told(plan, "fd00::2").keys() == {"fd00:1::/122"}


def test_an_age_or_a_declared_priority_is_the_med_towards_another_as() -> None:
    workload = {"node": "a", "ipNetworks": ["10.77.9.7/32"], "interfaceName": "cali7"}
    rule = {"action": "Accept", "operations": [{"setPriority": {"value": 77}}]}
    plan = plan_of(
        node("b", "10.0.0.2/24"),
        resource("BGPFilter", "f", {"exportV4": [rule]}),
        resource("BGPPeer", "t", {"peerIP": "10.0.0.9", "asNumber": 65100}),
        resource("BGPPeer", "u", {"peerIP": "10.0.0.8", "asNumber": 65100, "filters": ["f"]}),
        resource("BGPPeer", "v", {"peerIP": "10.0.0.7", "filters": ["f"]}),
        resource("WorkloadEndpoint", "w", workload, namespace="d", creationTimestamp="2026-01-01T00:00:00Z"),
    )
    age = f"med {4294967295 - 1767225600}"
    block, host = "10.77.0.0/26", "10.77.9.7/32"
    normal, set_to = (f"local-preference {2147483647 - priority}" for priority in (1024, 77))
    clauses = {peer: told(plan, f"10.0.0.{peer}") for peer in (2, 9, 8, 7)}
    assert {peer: (told[block], told[host]) for peer, told in clauses.items()} == {
        2: (f"next-hop self {normal}", f"next-hop self {normal} {age}"),
        9: ("next-hop self", f"next-hop self {age}"),
        8: ("next-hop self med 77", "next-hop self med 77"),
        7: (f"next-hop self {set_to}", f"next-hop self {set_to} {age}"),
    }


def test_a_node_under_another_name_is_not_dead() -> None:
    nodes = (node("b", "10.0.0.2/24"), node("c", "10.0.0.3/24"), node("c2", "10.0.0.3/24"))
    leases = (resource("NodeLease", name, {}) for name in ("a", "c2"))
    seen = {"a", "b", "c", "c2", "gone"}
    assert addresses_of_the_dead(ResourceSet.of((*nodes, *leases)), seen) == {bytes((10, 0, 0, 2))}


def test_leases_that_went_with_etcd_or_with_ones_own_tell_of_no_death() -> None:
    """etcd that stood still ends them all at once, perhaps while all reflectors are away."""
    nodes = [node(name, f"10.0.0.{number}/24") for number, name in enumerate("abc", 1)]
    leases, b, c = Leases("a", 15.0), bytes((10, 0, 0, 2)), bytes((10, 0, 0, 3))

    def dead(live: str, now: float, *, current: bool = True) -> set[bytes]:
        held = (resource("NodeLease", name, {}) for name in live)
        return leases.dead(ResourceSet.of((*nodes, *held)), current, now)

    assert dead("b", 0.0) == set()
    assert dead("", 1.0) == {b}  # to a node that may write no lease too
    assert dead("abc", 2.0) == set()
    assert dead("ab", 3.0) == {c}
    assert dead("ab", 10.0, current=False) == set()
    assert dead("a", 24.9) == set()
    assert leases.doubted
    assert dead("a", 25.0) == {b, c}
    assert dead("bc", 30.0) == set()
    assert dead("", 50.0) == set()
    assert dead("a", 64.9) == set()
    assert dead("ab", 65.0) == {c}
    assert not leases.doubted


def test_what_else_is_written_into_a_node_leaves_its_addresses_as_they_are() -> None:
    before = ResourceSet.of((node("b", "10.0.0.2/24"), node("c", "10.0.0.3/24")))
    known = addresses_of(before)
    labelled = node("c", "10.0.0.3/24", labels={"rack": "a"})
    after = before.with_changes({labelled.key: labelled})
    assert after.nodes["c"] is labelled
    assert addresses_of(after) is known
    elsewhere = after.with_changes({labelled.key: node("c", "10.0.0.4/24")})
    assert addresses_of(elsewhere) == {**known, "c": (bytes((10, 0, 0, 4)),)}
    assert addresses_of(elsewhere.with_changes({labelled.key: None})).keys() == {"b"}


def config(**values: Any) -> AgentConfig:
    return AgentConfig(node="a", **values)


def test_a_new_node_is_declared_from_the_configuration_or_from_what_was_found() -> None:
    made = registered(config(ipv4=IPv4Interface("10.0.0.1/24"), asn=65001), None, {})
    assert made is not None
    assert (str(made.ipv4), made.bgp.as_number) == ("10.0.0.1/24", 65001)
    made = registered(config(), None, {4: "192.0.2.5/25"})
    assert made is not None
    assert str(made.ipv4) == "192.0.2.5/25"


def test_a_node_that_is_right_is_left_alone_and_what_others_declared_stays() -> None:
    bgp = {"ipv4Address": "10.0.0.1/24", "routeReflectorClusterID": "1.0.0.1"}
    known = resource("Node", "a", {"bgp": bgp, "somethingNew": {"x": 1}})
    assert isinstance(known, Node)
    assert registered(config(ipv4=IPv4Interface("10.0.0.1/24")), known, {}) is None
    assert registered(config(), known, {4: "192.0.2.5/25"}) is None  # declared beats found
    made = registered(config(ipv4=IPv4Interface("10.0.0.7/24")), known, {})
    assert made is not None
    assert str(made.ipv4) == "10.0.0.7/24"
    assert made.is_reflector
    assert made.model_dump(by_alias=True)["spec"]["somethingNew"] == {"x": 1}


def test_a_plain_server_says_that_it_only_learns() -> None:
    made = registered(config(learn_only=True, ipv4=IPv4Interface("10.0.0.1/24")), None, {})
    assert made is not None
    assert is_learn_only(made)
    assert registered(config(learn_only=True), made, {}) is None


def test_what_an_agent_said_of_learning_it_takes_back_and_what_was_declared_stays() -> None:
    said = registered(config(learn_only=True, ipv4=IPv4Interface("10.0.0.1/24")), None, {})
    assert said is not None
    no_longer = registered(config(), said, {})
    assert no_longer is not None
    assert not is_learn_only(no_longer)
    document = to_document(said)
    document["metadata"]["annotations"] = {"cairn.dev/learn-only": "true"}
    declared = Node.model_validate(document, by_alias=True)
    for learn_only in (False, True):
        assert registered(config(learn_only=learn_only), declared, {}) is None


def test_a_tunnelled_node_declares_its_end() -> None:
    made = registered(config(ipv4=IPv4Interface("10.0.0.1/24")), None, {}, frozenset({4}), mac_of("a"))
    assert made is not None
    assert str(made.spec.ipv4_vxlan_tunnel_addr) == "10.0.0.1"
    assert made.spec.vxlan_tunnel_mac_addr == mac_of("a")


@pytest.mark.parametrize(("mode", "near"), [("Always", True), ("CrossSubnet", False)])
def test_tunnels_carry_what_the_pool_says(mode: str, near: bool) -> None:
    base = [
        node(name, address, ipv4VXLANTunnelAddr=address.partition("/")[0], vxlanTunnelMACAddr=mac_of(name))
        for name, address in (("b", "10.0.0.2/24"), ("c", "10.0.9.2/24"))
    ]
    plan = plan_of(*base, resource("IPPool", "p", {"cidr": "10.77.0.0/16", "vxlanMode": mode}))
    tunnels = Tunnels()
    assert tunnels.planned(plan)
    assert not tunnels.planned(plan)
    assert tunnels.versions == {4}
    inside, outside = nlri_of(ip_network("10.77.5.0/26")), nlri_of(ip_network("192.0.2.0/24"))
    b, c = IPv4Address("10.0.0.2").packed, IPv4Address("10.0.9.2").packed
    assert tunnels.hop(IPV4_UNICAST, inside, c) is None  # no device yet
    tunnels.links_changed({"vxlan.cairn": 7}, {7})
    assert tunnels.hop(IPV4_UNICAST, inside, c) == Hop(c, 7, onlink=True)
    assert tunnels.hop(IPV4_UNICAST, inside, b) == (Hop(b, 7, onlink=True) if near else None)
    assert tunnels.hop(IPV4_UNICAST, outside, c) is None
    assert tunnels.hop(IPV4_UNICAST, inside, ip_address("10.0.9.9").packed) is None
    [device] = tunnels.wanted()
    assert (device.local, device.mac) == ("10.0.0.1", mac_of("a"))
    assert {(far.inside, far.mac, far.underlay) for far in device.far} == {
        ("10.0.0.2", mac_of("b"), "10.0.0.2"),
        ("10.0.9.2", mac_of("c"), "10.0.9.2"),
    }


@pytest.mark.parametrize(
    ("outer", "inner"), [("Always", "Never"), ("Never", "Always"), ("Always", "CrossSubnet")]
)
@pytest.mark.parametrize("names", ["pq", "qp"])
def test_of_pools_in_one_another_the_inmost_counts(outer: str, inner: str, names: str) -> None:
    tunnels = Tunnels()
    tunnels.links_changed({"vxlan.cairn": 7}, {7})
    pools = [("10.77.0.0/16", outer), ("10.77.16.0/20", inner)]
    tunnels.planned(
        plan_of(
            node("b", "10.0.0.2/24", ipv4VXLANTunnelAddr="10.0.0.2"),
            *(
                resource("IPPool", name, {"cidr": cidr, "vxlanMode": mode})
                for name, (cidr, mode) in zip(names, pools, strict=True)
            ),
        )
    )
    b = ip_address("10.0.0.2").packed
    ways = [
        tunnels.hop(IPV4_UNICAST, nlri_of(ip_network(block)), b) is not None
        for block in ("10.77.1.0/26", "10.77.16.0/26")
    ]
    assert ways == [outer == "Always", inner == "Always"]


@pytest.mark.parametrize("encapsulation", ["vxlanMode", "ipipMode"])
@pytest.mark.parametrize(("mode", "near"), [("Always", True), ("CrossSubnet", False)])
def test_while_nodes_cannot_be_read_nothing_that_may_be_theirs_goes_straight(
    encapsulation: str, mode: str, near: bool
) -> None:
    own = "10.0.0.2"
    ends = {"ipv4VXLANTunnelAddr": own, "bgp": {"ipv4Address": f"{own}/24", "ipv4IPIPTunnelAddr": own}}
    pool = resource("IPPool", "p", {"cidr": "10.77.0.0/16", encapsulation: mode})
    tunnels = Tunnels()
    tunnels.planned(plan_of(resource("Node", "b", ends), pool))
    inside, outside = nlri_of(ip_network("10.77.5.0/26")), nlri_of(ip_network("192.0.2.0/24"))
    known, close, far = (ip_address(text).packed for text in (own, "10.0.0.9", "10.0.9.9"))
    for unread in (False, True, False):
        tunnels.unread = unread
        assert tunnels.doubtful(IPV4_UNICAST, inside, far) is unread
        assert tunnels.doubtful(IPV4_UNICAST, inside, close) is (unread and near)
        assert not tunnels.doubtful(IPV4_UNICAST, inside, known)
        assert not tunnels.doubtful(IPV4_UNICAST, outside, far)


def test_a_node_that_is_declared_with_ends_of_its_own_has_its_devices_so() -> None:
    spec = {"ipv4VXLANTunnelAddr": "10.77.0.1", "vxlanTunnelMACAddr": "66:11:22:33:44:55"}
    bgp = {"ipv4Address": "10.0.0.1/24", "ipv4IPIPTunnelAddr": "10.77.0.2"}
    declared = resource("Node", "a", {"bgp": bgp, **spec})
    tunnels = Tunnels()
    tunnels.planned(
        plan_of(declared, resource("IPPool", "p", {"cidr": "10.77.0.0/16", "vxlanMode": "Always"}))
    )
    [device] = tunnels.wanted()
    assert (device.local, device.inside, device.mac) == ("10.0.0.1", "10.77.0.1", "66:11:22:33:44:55")
    assert tunnels.planned(plan_of(resource("IPPool", "p", {"cidr": "10.77.0.0/16", "vxlanMode": "Always"})))
    assert tunnels.wanted()[0].mac == mac_of("a")
    tunnels.planned(
        plan_of(declared, resource("IPPool", "p", {"cidr": "10.77.0.0/16", "ipipMode": "Always"}))
    )
    assert tunnels.wanted_ipip() == ("10.0.0.1", "10.77.0.2")
    assert isinstance(declared, Node)
    assert registered(config(), declared, {}, frozenset({4}), mac_of("a")) is None


def test_a_node_with_empty_parts_is_registered() -> None:
    for spec in (None, {"bgp": None}):
        known = Node.model_validate(
            {"metadata": {"name": "a"}, **({"spec": spec} if spec else {})}, by_alias=True
        )
        made = registered(config(ipv4=IPv4Interface("10.0.0.7/24")), known, {})
        assert made is not None
        assert str(made.ipv4) == "10.0.0.7/24"


def test_an_ipv6_tunnel_leads_to_the_far_devices_link_local_address() -> None:
    far = resource(
        "Node", "b",
        {
            "bgp": {"ipv4Address": "10.0.0.2/24", "ipv6Address": "fd10:9::2/64"},
            "ipv6VXLANTunnelAddr": "fd10:9::2", "vxlanTunnelMACAddrV6": "66-00-00-00-0A-02",
        },
    )  # fmt: skip
    plan = plan_of(far, resource("IPPool", "p6", {"cidr": "fd77::/48", "vxlanMode": "CrossSubnet"}))
    tunnels = Tunnels()
    tunnels.planned(plan)
    tunnels.links_changed({"vxlan6.cairn": 7}, {7})
    inside, gateway = nlri_of(ip_network("fd77::/122")), ip_address("fe80::6400:ff:fe00:a02").packed
    assert tunnels.hop(IPV6_UNICAST, inside, ip_address("fd10:9::2").packed) == Hop(gateway, 7)
    assert link_local("00:11:22:33:44:55") == ip_address("fe80::211:22ff:fe33:4455")


def test_the_mac_of_a_node_is_as_calico_derives_it() -> None:
    assert mac_of("node1").startswith("66:")
    assert mac_of("node1") != mac_of("node2")


@pytest.mark.parametrize(("mode", "near"), [("Always", True), ("CrossSubnet", False)])
def test_ipip_leads_to_the_far_nodes_own_address(mode: str, near: bool) -> None:
    base = [
        resource("Node", name, {"bgp": {"ipv4Address": f"{address}/24", "ipv4IPIPTunnelAddr": address}})
        for name, address in (("b", "10.0.0.2"), ("c", "10.0.9.2"))
    ]
    plan = plan_of(*base, resource("IPPool", "p", {"cidr": "10.77.0.0/16", "ipipMode": mode}))
    tunnels = Tunnels()
    assert tunnels.planned(plan)
    assert tunnels.versions == frozenset()
    assert tunnels.wanted() == []
    assert tunnels.wanted_ipip() == ("10.0.0.1", "10.0.0.1")
    inside, outside = nlri_of(ip_network("10.77.5.0/26")), nlri_of(ip_network("192.0.2.0/24"))
    b, c = IPv4Address("10.0.0.2").packed, IPv4Address("10.0.9.2").packed
    assert tunnels.hop(IPV4_UNICAST, inside, c) is None  # the kernel has none
    tunnels.links_changed({"ipip.cairn": 9}, {9})
    assert tunnels.hop(IPV4_UNICAST, inside, c) == Hop(c, 9, onlink=True)
    assert tunnels.hop(IPV4_UNICAST, inside, b) == (Hop(b, 9, onlink=True) if near else None)
    assert tunnels.hop(IPV4_UNICAST, outside, c) is None
    assert tunnels.hop(IPV4_UNICAST, inside, ip_address("10.0.9.1").packed) is None  # a router
    assert tunnels.planned(plan_of(*base))
    assert tunnels.wanted_ipip() is None


def test_a_node_of_an_ipip_pool_declares_its_end_and_keeps_a_declared_one() -> None:
    made = registered(config(ipv4=IPv4Interface("10.0.0.1/24")), None, {}, ipip=True)
    assert made is not None
    assert str(made.bgp.ipv4_ipip_tunnel_addr) == "10.0.0.1"
    declared = {"ipv4Address": "10.0.0.1/24", "ipv4IPIPTunnelAddr": "10.77.0.1"}
    known = resource("Node", "a", {"bgp": declared})
    assert isinstance(known, Node)
    assert registered(config(ipv4=IPv4Interface("10.0.0.1/24")), known, {}, ipip=True) is None
