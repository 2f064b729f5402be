"""The manifests of Calico's documentation: each is taken as it stands and means what its page says.

`published/` holds every complete manifest of a kind of ours on Calico's pages, as data; `...` separates them.
Left out is what nobody can apply: placeholders (`<ToR IP>`, `x.x.x.x/16`), fragments to be merged into
something else, patches. Two nodes of racks 1 and 2 are there unless a test brings its own.
"""

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from bgpd.plan import NextHopMode, PeeringKind, RouteFacts, SecretRef, plan_node
from bgpd.plan.model import Encapsulation
from bgpd.resources import ResourceSet, Severity, decode, dump_documents, encode, examine, load_documents
from tests.plan.cluster import announced, bgp, cluster, documents, plans, session, sessions

NODES = """\
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: rack1-host1, labels: {rack: rack-1}}
spec: {bgp: {ipv4Address: 10.0.0.1/24}}
---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: rack2-host1, labels: {rack: rack-2}}
spec: {bgp: {ipv4Address: 10.0.0.2/24}}
"""


PUBLISHED = {
    page.stem: page.read_text().split("\n...\n")
    for page in sorted(Path(__file__).with_name("published").glob("*.yaml"))
}


@pytest.mark.parametrize(
    ("page", "number"), [(page, number) for page, found in PUBLISHED.items() for number in range(len(found))]
)
def test_a_published_manifest_is_taken_unchanged(page: str, number: int) -> None:
    found = load_documents(PUBLISHED[page][number], f"{page}.yaml")
    resources = declared(PUBLISHED[page][number])
    assert [str(finding) for finding in examine(resources) if finding.severity is Severity.ERROR] == []
    assert len(plans(resources)) == len(resources.nodes)
    assert load_documents(dump_documents(found), "again") == found
    assert [decode(item.key, encode(item)) for item in found] == found


def declared(*texts: str) -> ResourceSet:
    return ResourceSet.of(
        item for number, text in enumerate((NODES, *texts)) for item in load_documents(text, f"{number}.yaml")
    )


def test_a_global_peer_is_every_nodes() -> None:
    found = plans(declared(PUBLISHED["bgp"][0]))
    for plan in found.values():
        peering = session(plan, "192.20.30.40")
        assert (peering.peer_asn, peering.local_asn, peering.kind) == (64567, 64512, PeeringKind.GLOBAL)


def test_a_peer_of_a_rack_is_that_racks_nodes() -> None:
    found = plans(declared(PUBLISHED["bgp"][1]))
    assert sessions(found["rack1-host1"]) == {"192.20.30.40", "10.0.0.2"}
    assert sessions(found["rack2-host1"]) == {"10.0.0.1"}


def test_the_references_peer_is_one_nodes() -> None:
    found = plans(declared(PUBLISHED["reference"][1]))
    assert session(found["rack1-host1"], "192.168.1.1").peer_asn == 63400
    assert "192.168.1.1" not in sessions(found["rack2-host1"])


def test_reflectors_peer_with_one_another_and_with_everybody() -> None:
    found = plans(
        declared(
            PUBLISHED["bgp"][2],
            """\
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata: {name: default}
spec: {nodeToNodeMeshEnabled: false, asNumber: "64513"}
---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: my-node, labels: {route-reflector: "true"}}
spec: {bgp: {ipv4Address: 10.0.0.9/24, routeReflectorClusterID: 244.0.0.1}}
---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: my-other-node, labels: {route-reflector: "true"}}
spec: {bgp: {ipv4Address: 10.0.0.10/24, routeReflectorClusterID: 244.0.0.1}}
""",
        )
    )
    reflector = found["my-node"]
    assert (str(reflector.cluster_id), reflector.asn) == ("244.0.0.1", 64513)
    assert {str(item.peer_address): item.rr_client for item in reflector.peerings} == {
        "10.0.0.1": True,
        "10.0.0.2": True,
        "10.0.0.10": False,
    }
    assert sessions(found["rack1-host1"]) == {"10.0.0.9", "10.0.0.10"}


def test_a_reflector_leaves_the_mesh_at_once() -> None:
    found = plans(
        declared("""\
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: my-node}
spec: {bgp: {ipv4Address: 10.0.0.9/24, routeReflectorClusterID: 244.0.0.1}}
""")
    )
    assert sessions(found["my-node"]) == set()
    assert sessions(found["rack1-host1"]) == {"10.0.0.2"}


def test_a_node_of_another_as() -> None:
    found = plans(
        declared("""\
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: node-1}
spec: {bgp: {ipv4Address: 10.0.0.3/24, asNumber: "64514"}}
""")
    )
    assert found["node-1"].asn == 64514
    peering = session(found["rack1-host1"], "10.0.0.3")
    assert (peering.local_asn, peering.peer_asn) == (64512, 64514)


def test_the_references_configuration() -> None:
    resources = declared(
        PUBLISHED["reference"][0],
        "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: p}\nspec: {cidr: 172.218.4.0/22}",
    )
    plan = plan_node(resources, "rack1-host1")
    assert (plan.asn, plan.listen_port) == (63400, 178)
    assert [str(address) for address in plan.listen_addresses] == ["10.0.0.1"]
    (peering,) = plan.peerings
    assert (peering.peer_port, peering.graceful_restart, peering.peer_asn) == (178, 120, 63400)
    announced = [str(route.prefix) for route in plan.originated]
    assert announced == ["10.96.0.0/12", "104.244.42.129/32", "172.217.3.0/24"]
    decide = plan.export_rules.decide
    for prefix, expected in (("172.218.4.0/28", {"63400:300:100", "63400:120"}), ("172.218.5.0/26", set())):
        found = decide(RouteFacts(ip_network(prefix), 1024)).communities
        assert {str(community) for community in found} == expected


def test_the_first_filter_that_decides_decides() -> None:
    resources = declared(
        PUBLISHED["bgp"][4],
        """\
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: filtered, labels: {filter-bgp: ""}}
spec: {bgp: {ipv4Address: 10.0.0.3/24, ipv6Address: "fd00::3/64"}}
---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: v6, labels: {}}
spec: {bgp: {ipv6Address: "fd00::4/64"}}
""",
    )
    plan = plan_node(resources, "rack1-host1")
    peering = session(plan, "10.0.0.3")
    assert [item.name for item in peering.import_policy.filters] == ["first-bgp-filter", "second-bgp-filter"]

    def taken(prefix: str) -> bool:
        return peering.import_policy.decide(RouteFacts(ip_network(prefix), 1024, remote=True)).accept

    assert (taken("44.0.1.0/24"), taken("45.0.0.0/24")) == (True, False)

    def let_out(prefix: str, **more: object) -> bool:
        facts = RouteFacts(ip_network(prefix), 1024, **more)  # type: ignore[arg-type]  # by field name
        return peering.export_policy.decide(facts, plan.export_rules).accept

    assert let_out("77.0.1.0/24", remote=True)
    assert let_out("77.0.1.0/24", interface="x.calico")
    assert not let_out("77.0.1.0/24")  # no filter decides, and it is in no pool of the cluster's
    six = session(plan_node(resources, "v6"), "fd00::3")
    decide = six.import_policy.decide
    assert decide(RouteFacts(ip_network("5000::/64"), 1024, remote=True)).accept
    assert not decide(RouteFacts(ip_network("5001::/64"), 1024, remote=True)).accept


@pytest.mark.parametrize(
    ("prefix", "accepted"),
    [("55.0.0.0/30", True), ("55.0.0.0/24", False), ("44.0.0.0/24", True), ("9.9.9.0/24", False)],
)
def test_the_references_filter_on_the_way_in(prefix: str, accepted: bool) -> None:
    resources = declared(
        PUBLISHED["reference"][2],
        """\
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: outside}
spec: {peerIP: 192.0.2.1, asNumber: 65001, filters: [my-filter]}
""",
    )
    peering = session(plan_node(resources, "rack1-host1"), "192.0.2.1")
    facts = RouteFacts(ip_network(prefix), 1024, remote=True)
    assert peering.import_policy.decide(facts).accept is accepted


def test_secrets_restart_times_and_next_hops_of_peers() -> None:
    resources = declared("""\
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: secured}
spec:
  peerIP: 192.0.2.9
  asNumber: 64567
  password: {secretKeyRef: {name: bgp-secrets, key: rr-password}}
  maxRestartTime: 10s
  keepOriginalNextHop: true
  sourceAddress: None
""")
    peering = session(plan_node(resources, "rack1-host1"), "192.0.2.9")
    assert peering.password == SecretRef("bgp-secrets", "rr-password")
    assert (peering.graceful_restart, peering.next_hop_mode) == (10, NextHopMode.KEEP)
    assert peering.local_address is None
    # Nothing of what was declared is lost on the way through our hands.
    assert load_documents(dump_documents(list(resources)), "again") == list(resources)


def test_the_references_node_and_pool() -> None:
    resources = declared(PUBLISHED["reference"][4], PUBLISHED["reference"][3])
    plan = plan_node(resources, "node-hostname")
    assert (plan.asn, str(plan.router_id)) == (64512, "10.244.0.1")
    assert str(plan.ipv6) == "2001:db8:85a3::8a2e:370:7334/120"
    (pool,) = plan.pools
    # Encapsulated only where a packet leaves the node's own subnet; its routes are announced.
    assert (pool.encapsulation, pool.cross_subnet, pool.exported) == (Encapsulation.IPIP, True, True)
    assert plan.is_direct(ip_address("10.244.0.200"))
    assert not plan.is_direct(ip_address("10.244.1.1"))
    (end,) = plan_node(resources, "rack1-host1").tunnel_ends
    assert (end.node, str(end.underlay), str(end.tunnel_address)) == (
        "node-hostname",
        "10.244.0.1",
        "192.168.0.1",
    )
    assert examine(resources) == []


@pytest.mark.parametrize(
    ("number", "encapsulation", "cross_subnet"),
    [
        (0, Encapsulation.IPIP, True),
        (1, Encapsulation.IPIP, False),
        (2, Encapsulation.VXLAN, True),
        (3, Encapsulation.VXLAN, False),
        (15, Encapsulation.NONE, False),
    ],
)
def test_how_pools_are_encapsulated(number: int, encapsulation: Encapsulation, cross_subnet: bool) -> None:
    (pool,) = plan_node(declared(PUBLISHED["pools"][number]), "rack1-host1").pools
    assert (pool.encapsulation, pool.cross_subnet) == (encapsulation, cross_subnet)


def test_disabling_a_pool_changes_nothing_for_what_it_has_given_out() -> None:
    """Both steps of the move to another pool, by a list without a kind as `calicoctl get` shows it."""
    affinity = """\
apiVersion: projectcalico.org/v3
kind: BlockAffinity
metadata: {name: one}
spec: {node: rack1-host1, cidr: 192.0.7.0/26, state: confirmed}
"""
    before = ResourceSet.of(
        load_documents("\n---\n".join((NODES, affinity, PUBLISHED["pools"][10])), "list.yaml")
    )
    after = declared(affinity, PUBLISHED["pools"][9], PUBLISHED["pools"][11])
    assert [pool.name for pool in before.pools] == [pool.name for pool in after.pools]
    for resources in (before, after):
        assert announced(plan_node(resources, "rack1-host1")) == {"192.0.7.0/26"}


def test_the_guides_reflectors_leave_each_node_three_sessions() -> None:
    nodes = [bgp(f"n{host}", host) for host in (11, 12)]
    nodes += [
        bgp(f"r{host}", host, ", routeReflectorClusterID: 224.0.0.1", "{calico-route-reflector: ''}")
        for host in (13, 14, 15)
    ]
    five = [item for text in nodes for item in documents(text)]
    guide = [
        item for number in (0, 1, 2) for item in load_documents(PUBLISHED["hardway"][number], "guide.yaml")
    ]
    found = plans(ResourceSet.of([*five, *guide]))
    assert {name: len(plan.peerings) for name, plan in found.items()} == {
        "n11": 3, "n12": 3, "r13": 4, "r14": 4, "r15": 4,
    }  # fmt: skip
    assert sessions(found["n11"]) == {"10.0.0.13", "10.0.0.14", "10.0.0.15"}


def test_service_addresses_are_every_nodes_unless_it_is_excluded() -> None:
    resources = declared(
        PUBLISHED["services"][0],
        """\
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: control-plane-01, labels: {node.kubernetes.io/exclude-from-external-load-balancers: true}}
spec: {bgp: {ipv4Address: 10.0.0.7/24}}
""",
    )
    found = plans(resources)
    assert announced(found["rack1-host1"]) == {"10.96.0.0/16", "fd00:1234::/112"}
    assert announced(found["control-plane-01"]) == set()


@pytest.mark.parametrize("number", [0, 1])
def test_passwords_of_a_peer_and_of_the_mesh(number: int) -> None:
    plan = plan_node(declared(PUBLISHED["secure-bgp"][number]), "rack1-host1")
    protected = session(plan, ("192.20.30.40", "10.0.0.2")[number])
    assert {peering for peering in plan.peerings if peering.password is not None} == {protected}
    assert protected.password == SecretRef("bgp-secrets", "rr-password")


def test_a_moving_machines_route_keeps_its_priority_from_one_as_to_another() -> None:
    tor = """\
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: node-tor-peer}
spec: {peerIP: 192.0.2.1, asNumber: 65001, filters: [kubevirt-live-migration]}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: p}
spec: {cidr: 10.1.0.0/16}
"""
    plan = plan_node(declared(*PUBLISHED["live-migration-bgp"], tor), "rack1-host1")
    peering = session(plan, "192.0.2.1")
    machine = ip_network("10.1.0.5/32")

    def sent(priority: int) -> set[str]:
        decision = peering.export_policy.decide(RouteFacts(machine, priority), plan.export_rules)
        assert decision.accept
        return {str(community) for community in decision.communities}

    assert (sent(512), sent(1024)) == ({"65000:100"}, set())
    heard = peering.import_policy.decide
    assert heard(RouteFacts(machine, 1024, remote=True, communities=[(65000, 100)])).priority == 512
    assert heard(RouteFacts(machine, 1024, remote=True)).priority == 1024


def test_what_nested_clusters_announce_goes_on_to_the_router_and_nothing_comes_back() -> None:
    peers = """\
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: node-tor-peer}
spec: {peerIP: 192.0.2.1, asNumber: 65001, filters: [export-to-tor]}
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: peer-to-nested}
spec: {peerIP: 192.0.2.2, asNumber: 65002, filters: [no-export, accept-nested-ip-pools]}
"""
    plan = plan_node(declared(*PUBLISHED["bgp-to-workload"], peers), "rack1-host1")

    def passes(peer: str, prefix: str) -> bool:
        route = RouteFacts(ip_network(prefix), 1024, remote=True)
        return session(plan, peer).export_policy.decide(route, plan.export_rules).accept

    assert passes("192.0.2.1", "10.123.4.0/26")
    assert not passes("192.0.2.1", "10.124.4.0/26")
    assert not passes("192.0.2.2", "10.123.4.0/26")


def test_the_references_endpoint_is_a_route_of_its_node() -> None:
    resources = declared(
        PUBLISHED["reference"][7],
        """\
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: node1}
spec: {bgp: {ipv4Address: 10.0.0.3/24}}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: p}
spec: {cidr: 192.168.0.0/16}
""",
    )
    plan = plan_node(resources, "node1")
    assert announced(plan) == {"192.168.0.0/32"}
    (endpoint,) = resources.endpoints.values()
    assert (endpoint.spec.interface_name, endpoint.spec.container_id) == (
        "cali0ef24ba",
        "1337495556942031415926535",
    )


def test_a_peers_port_is_its_listen_port_unless_another_is_given() -> None:
    resources = declared("""\
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata: {name: node.rack2-host1}
spec: {listenPort: 178}
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: to-a-node}
spec: {node: rack1-host1, peerIP: 10.0.0.2}
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: to-a-router}
spec: {node: rack1-host1, peerIP: "10.0.0.254:1790", asNumber: "1.10"}
""")
    plan = plan_node(resources, "rack1-host1")
    assert session(plan, "10.0.0.2").peer_port == 178
    router = session(plan, "10.0.0.254")
    assert (router.peer_port, router.peer_asn) == (1790, 65546)  # AS numbers may be written with a dot


def test_pools_whose_routes_stay_inside() -> None:
    resources = declared("""\
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: inside}
spec: {cidr: 10.2.0.0/16, vxlanMode: Always, disableBGPExport: true, blockSize: 28}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: outside}
spec: {cidr: "fd00:2::/64", vxlanMode: CrossSubnet}
---
apiVersion: projectcalico.org/v3
kind: BlockAffinity
metadata: {name: one}
spec: {node: rack1-host1, cidr: 10.2.0.16/28, state: confirmed}
---
apiVersion: projectcalico.org/v3
kind: BlockAffinity
metadata: {name: two}
spec: {node: rack1-host1, cidr: "fd00:2::40/122", state: confirmed}
""")
    plan = plan_node(resources, "rack1-host1")
    assert [str(route.prefix) for route in plan.originated] == ["fd00:2::40/122"]
    assert [item.reason for item in plan.rejected] == ["IPPool inside: disableBGPExport"]


TWO_PORTS = """\
kind: BGPPeer
metadata: {name: bgppeer-1}
spec: {peerIP: 10.192.0.3, asNumber: 64567, sourceAddress: None}
---
kind: BGPPeer
metadata: {name: bgppeer-2}
spec: {peerIP: "10.192.0.%d:166", asNumber: 64567}
---
kind: BGPPeer
metadata: {name: bgppeer-3}
spec: {peerIP: 10.192.0.%d, asNumber: 64567, numAllowedLocalASNumbers: 1}
"""
BY_SELECTOR = """\
kind: BGPPeer
metadata: {name: p}
spec: {nodeSelector: all(), peerSelector: route-reflector == 'true', reversePeering: %s}
"""


@pytest.mark.parametrize(
    ("listen_port", "third", "peers", "expected"),
    [
        (150, 5, TWO_PORTS % (4, 4), {"10_192_0_3_port_150", "10_192_0_4", "10_192_0_4_port_166"}),
        (150, 1, TWO_PORTS % (1, 1), {"10_192_0_3_port_150", "10_192_0_1_port_150", "10_192_0_1_port_166"}),
        (179, 4, BY_SELECTOR % "Auto", {"10_192_0_3", "10_192_0_4"}),
        (179, 4, BY_SELECTOR % "Manual", set()),
    ],
)
def test_sessions_are_those_of_calicos_own_template_tests(
    listen_port: int, third: int, peers: str, expected: set[str]
) -> None:
    """Clusters of the tests of Calico's BIRD templates, and their first node's sessions by name."""
    configuration = "kind: BGPConfiguration\nmetadata: {name: default}\n"
    configuration += f"spec: {{nodeToNodeMeshEnabled: false, asNumber: 64567, listenPort: {listen_port}}}"
    nodes = "\n---\n".join(
        f"kind: Node\nmetadata: {{name: {name}, labels: {{{label}}}}}\n"
        f"spec: {{bgp: {{ipv4Address: 10.192.0.{host}/16}}}}"
        for name, host, label in (
            ("kube-master", 2, "route-reflector: yes"), ("kube-node-1", 3, ""), ("kube-node-2", third, ""),
        )
    )  # fmt: skip
    found = plan_node(cluster(configuration, nodes, peers), "kube-master")
    assert {peering.name.partition("_")[2] for peering in found.peerings} == expected
    unbound = {str(peering.peer_address) for peering in found.peerings if peering.local_address is None}
    assert unbound == ({"10.192.0.3"} if listen_port == 150 else set())
