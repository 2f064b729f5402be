"""The examples of Calico's documentation: each is taken as it stands and means what the page says.

Field values are those of the pages on configuring BGP peering and of the reference of each resource; the text
around them is ours. Two nodes of racks 1 and 2 are there unless an example brings its own.
"""

from ipaddress import ip_address, ip_network

import pytest

from bgpd.plan import NextHopMode, PeeringKind, RouteFacts, SecretRef, plan_node
from bgpd.plan.model import Encapsulation
from bgpd.resources import ResourceSet, dump_documents, examine, load_documents
from tests.plan.cluster import plans, session, sessions

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


def declared(*texts: str) -> ResourceSet:
    return ResourceSet.of(
        item for number, text in enumerate((NODES, *texts)) for item in load_documents(text, f"{number}.yaml")
    )


def test_a_global_peer_is_every_nodes() -> None:
    found = plans(
        declared("""\
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata:
  name: my-global-peer
spec:
  peerIP: 192.20.30.40
  asNumber: 64567
""")
    )
    for plan in found.values():
        peering = session(plan, "192.20.30.40")
        assert (peering.peer_asn, peering.local_asn, peering.kind) == (64567, 64512, PeeringKind.GLOBAL)


def test_a_peer_of_a_rack_is_that_racks_nodes() -> None:
    found = plans(
        declared("""\
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata:
  name: rack1-tor
spec:
  peerIP: 192.20.30.40
  asNumber: 64567
  nodeSelector: rack == 'rack-1'
""")
    )
    assert sessions(found["rack1-host1"]) == {"192.20.30.40", "10.0.0.2"}
    assert sessions(found["rack2-host1"]) == {"10.0.0.1"}


def test_the_references_peer_is_one_nodes() -> None:
    found = plans(
        declared("""\
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata:
  name: some.name
spec:
  node: rack1-host1
  peerIP: 192.168.1.1
  asNumber: 63400
""")
    )
    assert session(found["rack1-host1"], "192.168.1.1").peer_asn == 63400
    assert "192.168.1.1" not in sessions(found["rack2-host1"])


def test_reflectors_peer_with_one_another_and_with_everybody() -> None:
    found = plans(
        declared(
            """\
kind: BGPPeer
apiVersion: projectcalico.org/v3
metadata:
  name: peer-with-route-reflectors
spec:
  nodeSelector: all()
  peerSelector: route-reflector == 'true'
""",
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
        """\
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata:
  name: default
spec:
  logSeverityScreen: Info
  nodeToNodeMeshEnabled: true
  nodeMeshMaxRestartTime: 120s
  asNumber: 63400
  serviceClusterIPs:
  - cidr: 10.96.0.0/12
  serviceExternalIPs:
  - cidr: 104.244.42.129/32
  - cidr: 172.217.3.0/24
  listenPort: 178
  bindMode: NodeIP
  communities:
  - name: bgp-large-community
    value: 63400:300:100
  prefixAdvertisements:
  - cidr: 172.218.4.0/26
    communities:
    - bgp-large-community
    - 63400:120
""",
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
    resources = declared("""\
kind: BGPFilter
apiVersion: projectcalico.org/v3
metadata:
  name: first-bgp-filter
spec:
  exportV4:
    - action: Accept
      matchOperator: In
      cidr: 77.0.0.0/16
      source: RemotePeers
  importV4:
    - action: Reject
      matchOperator: NotIn
      cidr: 44.0.0.0/16
  exportV6:
    - action: Reject
      interface: '*.calico'
  importV6:
    - action: Accept
      matchOperator: Equal
      cidr: 5000::0/64
---
kind: BGPFilter
apiVersion: projectcalico.org/v3
metadata:
  name: second-bgp-filter
spec:
  exportV4:
    - action: Accept
      matchOperator: In
      cidr: 77.0.0.0/16
      interface: '*.calico'
  importV4:
    - action: Reject
      matchOperator: NotIn
      cidr: 44.0.0.0/16
  exportV6:
    - action: Reject
      source: RemotePeers
  importV6:
    - action: Reject
---
kind: BGPPeer
apiVersion: projectcalico.org/v3
metadata:
  name: peer-with-filter
spec:
  peerSelector: has(filter-bgp)
  filters:
    - first-bgp-filter
    - second-bgp-filter
---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: filtered, labels: {filter-bgp: ""}}
spec: {bgp: {ipv4Address: 10.0.0.3/24, ipv6Address: "fd00::3/64"}}
---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: v6, labels: {}}
spec: {bgp: {ipv6Address: "fd00::4/64"}}
""")
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
    resources = declared("""\
apiVersion: projectcalico.org/v3
kind: BGPFilter
metadata:
  name: my-filter
spec:
  exportV4:
    - action: Accept
      matchOperator: In
      cidr: 77.0.0.0/16
      source: RemotePeers
    - action: Reject
      interface: '*.calico'
  importV4:
    - action: Accept
      matchOperator: In
      cidr: 55.0.0.0/16
      prefixLength:
        min: 30
    - action: Reject
      matchOperator: NotIn
      cidr: 44.0.0.0/16
  exportV6:
    - action: Reject
      source: RemotePeers
    - action: Reject
      interface: '*.calico'
  importV6:
    - action: Accept
      matchOperator: Equal
      cidr: 5000::0/64
    - action: Reject
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: outside}
spec: {peerIP: 192.0.2.1, asNumber: 65001, filters: [my-filter]}
""")
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
    resources = declared("""\
apiVersion: projectcalico.org/v3
kind: Node
metadata:
  name: host-7
spec:
  bgp:
    asNumber: 64512
    ipv4Address: 10.0.0.7/24
    ipv6Address: fd00:0:0:1::7/120
    ipv4IPIPTunnelAddr: 10.1.7.1
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata:
  name: pods-1
spec:
  cidr: 10.1.0.0/16
  ipipMode: CrossSubnet
  natOutgoing: true
  disabled: false
  nodeSelector: all()
  allowedUses:
    - Workload
    - Tunnel
  assignmentMode: Automatic
""")
    plan = plan_node(resources, "host-7")
    assert (plan.asn, str(plan.router_id), str(plan.ipv6)) == (64512, "10.0.0.7", "fd00:0:0:1::7/120")
    (pool,) = plan.pools
    # Encapsulated only where a packet leaves the node's own subnet; its routes are announced.
    assert (pool.encapsulation, pool.cross_subnet, pool.exported) == (Encapsulation.IPIP, True, True)
    assert plan.is_direct(ip_address("10.0.0.200"))
    assert not plan.is_direct(ip_address("10.0.1.1"))
    (end,) = plan_node(resources, "rack1-host1").tunnel_ends
    assert (end.node, str(end.underlay), str(end.tunnel_address)) == ("host-7", "10.0.0.7", "10.1.7.1")
    assert examine(resources) == []


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
