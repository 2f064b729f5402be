"""Which sessions there are: Calico's rules, one test each."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.plan import NextHopMode, PeeringKind, PlanError, SecretRef, plan_node
from bgpd.plan.diff import diff_cluster
from bgpd.resources import BGPConfiguration, BGPPeer, Node, ResourceSet, load_documents
from tests.plan.cluster import MESH_OFF, THREE, bgp, cluster, node, plans, session, sessions


def peer(name: str, spec: str) -> str:
    return f"kind: BGPPeer\nmetadata: {{name: {name}}}\nspec: {spec}"


def test_without_any_configuration_there_is_a_full_mesh_in_as_64512() -> None:
    found = plans(cluster(THREE))
    assert sessions(found["n1"]) == {"10.0.0.2", "10.0.0.3"}
    assert {(item.local_asn, item.peer_asn, item.kind) for item in found["n2"].peerings} == {
        (64512, 64512, PeeringKind.MESH)
    }
    assert found["n1"].peerings[0].reason == "node-to-node mesh: n1 and n2 are no reflectors"


def test_the_mesh_is_dual_stack_where_both_ends_are() -> None:
    both = "{bgp: {ipv4Address: 10.0.0.%d/24, ipv6Address: 'fd00::%d/64'}}"
    found = plans(cluster(node("a", both % (1, 1)), node("b", both % (2, 2)), bgp("c", 3)))
    assert sessions(found["a"]) == {"10.0.0.2", "10.0.0.3", "fd00::2"}
    assert [str(family) for family in session(found["a"], "fd00::2").families] == ["ipv6-unicast"]


def test_a_node_of_two_names_has_one_session_with_each() -> None:
    """As after a reinstallation, until the former Node is deleted; its listenPort may have been another."""
    election = load_documents(
        "apiVersion: cairn.dev/v1\nkind: CairnConfiguration\nmetadata: {name: default}\n"
        "spec: {reflectors: {count: 2, nodeSelector: has(rr)}}",
        "election.yaml",
    )
    port = "kind: BGPConfiguration\nmetadata: {name: node.old}\nspec: {listenPort: 1790}"
    own = "{bgp: {ipv4Address: 10.0.0.4/24, ipv6Address: 'fd00::4/64'}}"
    nodes = bgp("n1", 1, labels="{rr: ''}"), bgp("n2", 2, labels="{rr: ''}"), bgp("new", 3), bgp("old", 3)
    mesh = cluster(*nodes, node("a", own), node("b", own), port)
    for resources in (mesh, ResourceSet.of([*mesh, *election])):
        plan = plan_node(resources, "n1")
        assert [str(item.peer_address) for item in plan.peerings] == ["10.0.0.2", "10.0.0.3", "10.0.0.4"]
        assert len({item.name for item in plan.peerings}) == 3
        assert {(item.peer_node, item.peer_port) for item in plan.peerings} >= {("new", 179), ("a", 179)}
        left = ResourceSet.of(item for item in resources if item.name not in ("old", "b"))
        assert [
            (item.node, item.sessions) for item in diff_cluster(resources, left) if item.node == "n1"
        ] == []


def test_of_two_peers_at_one_address_in_two_as_the_one_without_a_session_is_named() -> None:
    """A router's BGPPeer with the reflector's address would take every node's session with that away."""
    reflector = bgp("rr", 9, ", routeReflectorClusterID: 244.0.0.1", labels="{rr: ''}")
    everybody = peer("rrs", "{nodeSelector: '!has(rr)', peerSelector: has(rr)}")
    router = "{nodeSelector: '!has(rr)', peerIP: 10.0.0.9, asNumber: %d}"
    for asn, remarks in ((64601, 1), (65000, 0)):
        found = plans(cluster(THREE, MESH_OFF, reflector, everybody, peer("also", router % asn)))
        assert session(found["n1"], "10.0.0.9").peer_asn == asn
        assert len(found["n1"].remarks) == remarks
    found = plans(cluster(THREE, MESH_OFF, reflector, everybody, peer("also", router % 64601)))
    assert found["n1"].remarks[0].startswith("BGPPeer rrs: nodeSelector")
    assert "no session with 10.0.0.9 as AS 65000, because there is one as AS 64601" in found["n1"].remarks[0]
    routers = [
        peer(name, f"{{peerIP: 192.0.2.1, asNumber: {asn}}}") for name, asn in (("b", 64601), ("a", 64602))
    ]
    (remark,) = plan_node(cluster(THREE, MESH_OFF, *routers), "n1").remarks
    assert remark.startswith("BGPPeer b")


def test_a_reflector_is_in_no_mesh() -> None:
    found = plans(cluster(THREE, bgp("rr", 9, ", routeReflectorClusterID: 244.0.0.1")))
    assert sessions(found["rr"]) == set()
    assert sessions(found["n1"]) == {"10.0.0.2", "10.0.0.3"}


def test_the_mesh_can_be_turned_off() -> None:
    assert sessions(plans(cluster(THREE, MESH_OFF))["n1"]) == set()


def test_the_mesh_has_the_declared_password_restart_time_and_port() -> None:
    settings = """\
        kind: BGPConfiguration
        metadata: {name: default}
        spec:
          nodeMeshPassword: {secretKeyRef: {name: bgp, key: mesh}}
          nodeMeshMaxRestartTime: 5m
          listenPort: 1790
        ---
        kind: BGPConfiguration
        metadata: {name: node.n2}
        spec: {listenPort: 1791}
        """
    found = plans(cluster(THREE, settings))
    two = session(found["n1"], "10.0.0.2")
    assert (two.password, two.graceful_restart, two.peer_port) == (SecretRef("bgp", "mesh"), 300, 1791)
    assert session(found["n1"], "10.0.0.3").peer_port == 1790
    assert found["n2"].listen_port == 1791


def test_a_peer_selected_by_label_gets_the_session_too() -> None:
    found = plans(
        cluster(
            MESH_OFF,
            THREE,
            bgp("rr", 9, ", routeReflectorClusterID: 244.0.0.1", "{role: rr}"),
            peer("rrs", "{nodeSelector: role != 'rr', peerSelector: role == 'rr'}"),
        )
    )
    assert sessions(found["n1"]) == {"10.0.0.9"}
    assert sessions(found["rr"]) == {"10.0.0.1", "10.0.0.2", "10.0.0.3"}
    client = session(found["rr"], "10.0.0.1")
    assert (client.rr_client, client.kind, client.peer_node) == (True, PeeringKind.REVERSE, "n1")
    assert not session(found["n1"], "10.0.0.9").rr_client
    assert "BGPPeer rrs" in client.reason


def test_reverse_peering_manual_leaves_the_other_end_alone() -> None:
    found = plans(
        cluster(
            MESH_OFF,
            THREE,
            peer("one-way", "{node: n1, peerSelector: all(), reversePeering: Manual}"),
        )
    )
    assert sessions(found["n1"]) == {"10.0.0.2", "10.0.0.3"}
    assert sessions(found["n2"]) == set()


@pytest.mark.parametrize("near", ["{node: n1}", "{nodeSelector: all()}", "{asNumber: 65001}"])
def test_a_peer_that_names_nobody_makes_no_session(near: str) -> None:
    found = plans(cluster(MESH_OFF, THREE, peer("p", near)))
    assert [sessions(plan) for plan in found.values()] == [set(), set(), set()]


def test_a_router_whose_as_is_not_declared_has_the_clusters() -> None:
    settings = "kind: BGPConfiguration\nmetadata: {name: default}\nspec: {asNumber: 65009}"
    plan = plan_node(cluster(settings, THREE, peer("tor", "{node: n1, peerIP: 192.0.2.1}")), "n1")
    tor = session(plan, "192.0.2.1")
    assert tor.peer_asn == 65009
    assert "node n1" in tor.reason


def test_reverse_peering_manual_with_a_router_that_is_no_node() -> None:
    tor = peer("tor", "{peerIP: 192.0.2.1, asNumber: 65001, reversePeering: Manual}")
    plan = plan_node(cluster(MESH_OFF, THREE, tor), "n1")
    assert not session(plan, "192.0.2.1").passive


def test_of_two_ends_declared_by_hand_exactly_one_waits() -> None:
    found = plans(
        cluster(
            MESH_OFF,
            THREE,
            peer("there", "{node: n1, peerIP: 10.0.0.2, asNumber: 65000, reversePeering: Manual}"),
            peer("and-back", "{node: n2, peerIP: 10.0.0.1, asNumber: 65000, reversePeering: Manual}"),
        )
    )
    ends = session(found["n1"], "10.0.0.2"), session(found["n2"], "10.0.0.1")
    assert [end.passive for end in ends].count(True) == 1


def test_a_global_peer_is_every_nodes_but_its_own() -> None:
    found = plans(cluster(MESH_OFF, THREE, peer("g", "{peerIP: 10.0.0.3, asNumber: 65000}")))
    assert sessions(found["n1"]) == sessions(found["n2"]) == {"10.0.0.3"}
    assert sessions(found["n3"]) == {"10.0.0.1", "10.0.0.2"}


def test_two_nodes_of_one_address_are_named_to_them_and_to_reflectors() -> None:
    reflector = node("rr", "{bgp: {ipv4Address: 10.0.0.9/24, routeReflectorClusterID: 10.0.0.9}}")
    found = plans(cluster(THREE, reflector, bgp("n8", 2)))
    remark = (
        "10.0.0.2 is the address of Node n2 and of Node n8: there is one session with it; "
        "give every node an address of its own"
    )
    assert {name for name, plan in found.items() if plan.remarks} == {"n2", "n8", "rr"}
    assert {plan.remarks for plan in found.values()} == {(), (remark,)}


def test_global_beats_node_specific_for_the_same_address_and_port() -> None:
    found = plans(
        cluster(
            MESH_OFF,
            THREE,
            peer("a-node", "{node: n1, peerIP: 192.0.2.1, asNumber: 65002}"),
            peer("b-global", "{peerIP: 192.0.2.1, asNumber: 65001}"),
            peer("c-other-port", "{node: n1, peerIP: '192.0.2.1:1790', asNumber: 65003}"),
        )
    )
    chosen = {item.peer_port: (item.peer_asn, item.kind) for item in found["n1"].peerings}
    assert chosen == {179: (65001, PeeringKind.GLOBAL), 1790: (65003, PeeringKind.NODE)}


def test_explicit_beats_the_implicit_other_end() -> None:
    found = plans(
        cluster(
            MESH_OFF,
            THREE,
            peer("a", "{node: n1, peerIP: 10.0.0.2, asNumber: 65000, keepaliveTime: 7s}"),
            peer("z", "{node: n2, peerIP: 10.0.0.1, asNumber: 65000, keepaliveTime: 9s}"),
        )
    )
    assert session(found["n1"], "10.0.0.2").keepalive_time == 7
    assert session(found["n2"], "10.0.0.1").keepalive_time == 9


def test_of_two_implicit_other_ends_the_one_counts_that_counts_there() -> None:
    found = plans(
        cluster(
            MESH_OFF,
            THREE,
            peer("a-node", "{node: n1, peerIP: 10.0.0.2, password: {secretKeyRef: {name: a, key: k}}}"),
            peer("b-global", "{peerIP: 10.0.0.2, password: {secretKeyRef: {name: b, key: k}}}"),
        )
    )
    assert session(found["n1"], "10.0.0.2").password == SecretRef("b", "k")
    assert session(found["n2"], "10.0.0.1").password == SecretRef("b", "k")


def test_an_explicit_peering_takes_the_place_of_the_meshs() -> None:
    found = plans(
        cluster(THREE, peer("a", "{node: n1, peerIP: 10.0.0.2, asNumber: 64512, maxRestartTime: 9s}"))
    )
    assert session(found["n1"], "10.0.0.2").graceful_restart == 9
    assert session(found["n2"], "10.0.0.1").graceful_restart == 9
    assert sessions(found["n1"]) == {"10.0.0.2", "10.0.0.3"}


def test_two_reflectors_of_one_cluster_are_no_clients_of_each_other() -> None:
    found = plans(
        cluster(
            MESH_OFF,
            bgp("r1", 1, ", routeReflectorClusterID: 244.0.0.1"),
            bgp("r2", 2, ", routeReflectorClusterID: 244.0.0.1"),
            bgp("r3", 3, ", routeReflectorClusterID: 244.0.0.3"),
            peer("all", "{nodeSelector: all(), peerSelector: all()}"),
            peer("tor", "{node: r1, peerIP: 192.0.2.1, asNumber: 65000}"),
            peer("ebgp", "{node: r1, peerIP: 192.0.2.2, asNumber: 65001}"),
        )
    )
    clients = {str(item.peer_address): item.rr_client for item in found["r1"].peerings}
    assert clients == {"10.0.0.2": False, "10.0.0.3": True, "192.0.2.1": True, "192.0.2.2": False}


def test_every_term_of_a_bgp_peer_reaches_the_session() -> None:
    found = plans(
        cluster(
            MESH_OFF,
            THREE,
            peer(
                "tor",
                "{node: n1, peerIP: 192.0.2.1, asNumber: 65001, localASNumber: 65100, nextHopMode: Keep, "
                "password: {secretKeyRef: {name: s, key: k}}, sourceAddress: None, maxRestartTime: 30s, "
                "keepaliveTime: 20s, numAllowedLocalASNumbers: 2, ttlSecurity: 1, reachableBy: 10.0.0.254}",
            ),
        )
    )
    tor = session(found["n1"], "192.0.2.1")
    assert (tor.local_asn, tor.peer_asn, tor.internal) == (65100, 65001, False)
    assert (tor.next_hop_mode, tor.password, tor.local_address) == (
        NextHopMode.KEEP,
        SecretRef("s", "k"),
        None,
    )
    assert (tor.graceful_restart, tor.keepalive_time, tor.hold_time) == (30, 20, 60)
    assert (tor.allowed_own_as, tor.ttl_security, tor.multihop) == (2, 1, 1)
    assert str(tor.reachable_by) == "10.0.0.254"
    assert not tor.passive


def test_the_other_end_of_a_local_as_expects_it() -> None:
    found = plans(
        cluster(
            MESH_OFF, THREE, peer("a", "{node: n1, peerIP: 10.0.0.2, asNumber: 65000, localASNumber: 65100}")
        )
    )
    here, there = session(found["n1"], "10.0.0.2"), session(found["n2"], "10.0.0.1")
    assert (here.local_asn, here.peer_asn) == (65100, 65000)
    assert (there.local_asn, there.peer_asn) == (65000, 65100)


def test_keeping_the_next_hop_the_old_way_is_for_other_ases_only() -> None:
    found = plans(
        cluster(
            MESH_OFF,
            THREE,
            peer("e", "{node: n1, peerIP: 192.0.2.1, asNumber: 65001, keepOriginalNextHop: true}"),
            peer("i", "{node: n1, peerIP: 192.0.2.2, asNumber: 65000, keepOriginalNextHop: true}"),
        )
    )
    assert session(found["n1"], "192.0.2.1").next_hop_mode is NextHopMode.KEEP
    assert session(found["n1"], "192.0.2.2").next_hop_mode is NextHopMode.AUTO


def test_a_session_of_a_family_the_node_has_not_is_left_out_with_a_remark() -> None:
    plan = plan_node(cluster(MESH_OFF, THREE, peer("v6", "{peerIP: 'fd00::1', asNumber: 65001}")), "n1")
    assert sessions(plan) == set()
    assert plan.remarks == ("BGPPeer v6: no session with fd00::1: node n1 has no IPv6 address",)


def test_a_filter_that_does_not_exist_is_remarked_on() -> None:
    plan = plan_node(
        cluster(MESH_OFF, THREE, peer("t", "{peerIP: 192.0.2.1, asNumber: 65001, filters: [nope]}")), "n1"
    )
    assert plan.remarks == ("BGPPeer t: BGPFilter nope does not exist; it filters nothing",)


def test_so_is_one_of_a_peering_that_selects_this_node_too() -> None:
    plan = plan_node(cluster(MESH_OFF, THREE, peer("t", "{peerSelector: all(), filters: [nope]}")), "n1")
    assert sessions(plan) == {"10.0.0.2", "10.0.0.3"}
    assert plan.remarks == ("BGPPeer t: BGPFilter nope does not exist; it filters nothing",)


def test_a_node_that_is_not_declared_cannot_be_planned() -> None:
    with pytest.raises(PlanError, match="Node ghost: is not declared"):
        plan_node(cluster(THREE), "ghost")
    with pytest.raises(PlanError, match="has neither"):
        plan_node(cluster(node("bare", "{}")), "bare")


def test_the_reflector_waits_for_its_clients() -> None:
    for reflector_at, client_at in pairwise((1, 9, 1)):
        found = plans(
            cluster(
                MESH_OFF,
                bgp("rr", reflector_at, ", routeReflectorClusterID: 244.0.0.1", "{role: rr}"),
                bgp("c", client_at),
                peer("p", "{nodeSelector: '!has(role)', peerSelector: has(role)}"),
            )
        )
        assert found["rr"].peerings[0].passive
        assert not found["rr"].peerings[0].patient
        assert not found["c"].peerings[0].passive


@pytest.mark.parametrize(("reflector_at", "client_at"), [(1, 2), (2, 1)])
@pytest.mark.parametrize("named", [True, False])
def test_a_reflector_that_a_global_peer_names_waits_for_a_while_where_calicos_bird_waits(
    reflector_at: int, client_at: int, named: bool
) -> None:
    other_end = (
        f"{{peerIP: 10.0.0.{reflector_at}, asNumber: 65000}}" if named else "{peerSelector: has(role)}"
    )
    found = plans(
        cluster(
            MESH_OFF,
            bgp("rr", reflector_at, ", routeReflectorClusterID: 244.0.0.1", "{role: rr}"),
            bgp("c", client_at),
            peer("p", other_end),
        )
    )
    assert found["rr"].peerings[0].passive
    assert found["rr"].peerings[0].patient == (named and reflector_at > client_at)
    assert not found["c"].peerings[0].passive


def test_nobody_waits_for_a_node_that_has_no_session_back() -> None:
    one_way = peer("p", "{node: n1, peerIP: 10.0.0.2, reversePeering: Manual}")
    assert not session(plans(cluster(MESH_OFF, THREE, one_way))["n1"], "10.0.0.2").passive
    other_way = peer("q", "{node: n2, peerIP: 10.0.0.1, reversePeering: Manual}")
    of_itself = peer("r", "{node: n1, peerSelector: all()}")
    for more in (), (other_way,), (of_itself,):
        meshed = plans(cluster(*([MESH_OFF, *more] if more else []), THREE, one_way))
        assert session(meshed["n1"], "10.0.0.2").passive
        assert not session(meshed["n2"], "10.0.0.1").passive


names = st.sampled_from([f"n{index}" for index in range(6)])


@st.composite
def clusters(draw: st.DrawFn) -> ResourceSet:
    """Nodes with random cluster IDs and labels, and BGPPeers between them."""
    resources: list[Node | BGPPeer | BGPConfiguration] = []
    for index in range(draw(st.integers(1, 6))):
        spec: dict[str, object] = {"ipv4Address": f"10.0.{index * 3 % 7}.{index + 1}/16"}
        if draw(st.booleans()):
            spec["ipv6Address"] = f"fd00::{index + 1}/64"
        if draw(st.integers(0, 3)) == 0:
            spec["routeReflectorClusterID"] = draw(st.sampled_from(["244.0.0.1", "244.0.0.2"]))
        if draw(st.integers(0, 2)) == 0:
            spec["asNumber"] = draw(st.sampled_from([65001, 65002]))
        labels = {"rack": draw(st.sampled_from("ab"))}
        resources.append(Node(metadata={"name": f"n{index}", "labels": labels}, spec={"bgp": spec}))
    mesh = draw(st.booleans())
    resources.append(BGPConfiguration(metadata={"name": "default"}, spec={"nodeToNodeMeshEnabled": mesh}))
    selectors = st.sampled_from(["all()", "rack == 'a'", "rack == 'b'", "!has(rack)"])
    for index in range(draw(st.integers(0, 4))):
        peer_spec: dict[str, object] = {"peerSelector": draw(selectors)}
        where = draw(st.integers(0, 2))
        if where == 1:
            peer_spec["nodeSelector"] = draw(selectors)
        elif where == 2:
            peer_spec["node"] = draw(names)
        resources.append(BGPPeer(metadata={"name": f"p{index}"}, spec=peer_spec))
    return ResourceSet.of(resources)


@given(clusters())
def test_both_ends_agree_and_exactly_one_opens_the_connection(resources: ResourceSet) -> None:
    found = plans(resources)
    ends = {
        (name, str(item.local_address), str(item.peer_address)): item
        for name, plan in found.items()
        for item in plan.peerings
    }
    for (name, local, remote), here in ends.items():
        assert here.peer_node is not None
        there = ends[here.peer_node, remote, local]
        assert there.peer_node == name
        assert here.passive != there.passive
        assert (here.local_asn, here.peer_asn) == (there.peer_asn, there.local_asn)
        assert here.peer_port == found[here.peer_node].listen_port
        assert not (here.rr_client and found[name].cluster_id is None)


@given(clusters())
def test_no_address_and_port_has_two_sessions_and_no_name_is_used_twice(resources: ResourceSet) -> None:
    for plan in plans(resources).values():
        places = [(item.peer_address, item.peer_port) for item in plan.peerings]
        assert len(set(places)) == len(places)
        listed = [item.name for item in plan.peerings]
        assert listed == sorted(set(listed))


@given(clusters(), st.randoms())
def test_the_order_of_declarations_does_not_matter(resources: ResourceSet, random: object) -> None:
    shuffled = list(resources)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis' own Random
    assert plans(ResourceSet.of(shuffled)) == plans(resources)
