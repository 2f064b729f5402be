"""Faults between resources: each found at its place, and nothing found in a cluster that is right."""

import pytest

from bgpd.resources import Severity, examine, examine_alone
from tests.plan.cluster import THREE, bgp, cluster

POOL = "kind: IPPool\nmetadata: {name: pool}\nspec: {cidr: 10.77.0.0/16, nodeSelector: all()}"
BLOCK = "kind: BlockAffinity\nmetadata: {name: b}\nspec: {node: n1, cidr: 10.77.1.0/26, state: confirmed}"
PEER = "kind: BGPPeer\nmetadata: {name: tor}\nspec: {peerIP: 192.0.2.1, asNumber: 65001, %s}"
WORKLOAD = (
    "kind: WorkloadEndpoint\nmetadata: {name: %s-k8s-%s-eth0, namespace: a}\n"
    "spec: {node: %s, orchestrator: k8s, pod: %s, endpoint: eth0, ipNetworks: [%s]}"
)
FILTER = "kind: BGPFilter\nmetadata: {name: f}\nspec: {exportV4: [{action: Accept}]}"


def found(*texts: str) -> set[tuple[str, str]]:
    """Severity and place of every finding in a cluster of three nodes and more."""
    return {(str(item.severity), item.place) for item in examine(cluster(THREE, *texts))}


def test_a_cluster_that_is_right_has_no_findings() -> None:
    assert (
        found(POOL, BLOCK, FILTER, PEER % "filters: [f]", WORKLOAD % ("n1", "p", "n1", "p", "10.77.1.5"))
        == set()
    )


def test_a_nodes_settings_may_have_the_defaults_that_calico_writes_into_all() -> None:
    spec = "{logSeverityScreen: Info, serviceLoadBalancerAggregation: Enabled, serviceExternalIPs: []}"
    assert found(f"kind: BGPConfiguration\nmetadata: {{name: node.n1}}\nspec: {spec}") == set()


CASES = {
    "filter": ([PEER % "filters: [none]"], ("error", "BGPPeer tor: spec.filters[0]")),
    "node": ([PEER % "node: n9"], ("warning", "BGPPeer tor: spec.node")),
    "selector": ([PEER % "nodeSelector: has(rack)"], ("warning", "BGPPeer tor: spec.nodeSelector")),
    "peer selector": (
        ["kind: BGPPeer\nmetadata: {name: rr}\nspec: {peerSelector: has(rr)}"],
        ("warning", "BGPPeer rr: spec.peerSelector"),
    ),
    "nobody": (
        ["kind: BGPPeer\nmetadata: {name: p}\nspec: {nodeSelector: all(), asNumber: 65001}"],
        ("error", "BGPPeer p: spec"),
    ),
    "password": ([PEER % "password: {}"], ("error", "BGPPeer tor: spec.password")),
    "secret": (
        [PEER % "password: {secretKeyRef: {name: .., key: k}}"],
        ("error", "BGPPeer tor: spec.password.secretKeyRef.name"),
    ),
    "mesh secret": (
        [
            (
                "kind: BGPConfiguration\nmetadata: {name: default}\n"
                "spec: {nodeMeshPassword: {secretKeyRef: {name: a, key: b/c}}}"
            )
        ],
        ("error", "BGPConfiguration default: spec.nodeMeshPassword.secretKeyRef.key"),
    ),
    "name": (
        ["kind: BGPConfiguration\nmetadata: {name: defualt}\nspec: {asNumber: 65000}"],
        ("warning", "BGPConfiguration defualt: metadata.name"),
    ),
    "name that calicoctl takes not": (
        ["kind: BGPFilter\nmetadata: {name: Rack_1}\nspec: {}"],
        ("warning", "BGPFilter Rack_1: metadata.name"),
    ),
    "community": (
        [
            (
                "kind: BGPConfiguration\nmetadata: {name: default}\n"
                "spec: {prefixAdvertisements: [{cidr: 10.0.0.0/8, communities: [fast]}]}"
            )
        ],
        ("error", "BGPConfiguration default: spec.prefixAdvertisements[0].communities"),
    ),
    "settings of nobody": (
        ["kind: BGPConfiguration\nmetadata: {name: node.n9}\nspec: {listenPort: 1790}"],
        ("warning", "BGPConfiguration node.n9"),
    ),
    "settings of the cluster": (
        ["kind: BGPConfiguration\nmetadata: {name: node.n1}\nspec: {listenPort: 1790, bindMode: NodeIP}"],
        ("warning", "BGPConfiguration node.n1: spec.bindMode"),
    ),
    "address twice": ([bgp("n4", 1)], ("error", "Node n4: spec.bgp.ipv4Address")),
    "pools overlap": (
        [POOL, "kind: IPPool\nmetadata: {name: inner}\nspec: {cidr: 10.77.64.0/20}"],
        ("error", "IPPool inner: spec.cidr"),
    ),
    "pool of nodes": (
        ["kind: IPPool\nmetadata: {name: p}\nspec: {cidr: 10.0.0.0/29}"],
        ("warning", "IPPool p: spec.cidr"),
    ),
    "workload at a node's address": (
        [WORKLOAD % ("n1", "p", "n1", "p", "10.0.0.2")],
        ("error", "WorkloadEndpoint a/n1-k8s-p-eth0: spec.ipNetworks[0]"),
    ),
    "pool for nobody": (
        [POOL.replace("all()", "has(gpu)")],
        ("warning", "IPPool pool: spec.nodeSelector"),
    ),
    "affinity outside": ([BLOCK], ("warning", "BlockAffinity n1/10.77.1.0/26: spec.cidr")),
    "affinity of nobody": (
        [POOL, BLOCK.replace("n1", "n9")],
        ("warning", "BlockAffinity n9/10.77.1.0/26: spec.node"),
    ),
    "affinity twice": (
        [POOL, BLOCK, BLOCK.replace("n1", "n2").replace("name: b", "name: c")],
        ("error", "BlockAffinity n2/10.77.1.0/26: spec.cidr"),
    ),
    "block outside": (
        ["kind: IPAMBlock\nmetadata: {name: b}\nspec: {cidr: 10.9.0.0/26}"],
        ("warning", "IPAMBlock 10.9.0.0/26: spec.cidr"),
    ),
    "allocations": (
        [POOL, "kind: IPAMBlock\nmetadata: {name: b}\nspec: {cidr: 10.77.1.0/30, allocations: [null]}"],
        ("error", "IPAMBlock 10.77.1.0/30: spec.allocations"),
    ),
    "workload twice": (
        [
            POOL,
            WORKLOAD % ("n1", "p", "n1", "p", "10.77.1.5"),
            WORKLOAD % ("n2", "q", "n2", "q", "10.77.1.5"),
        ],
        ("warning", "WorkloadEndpoint a/n2-k8s-q-eth0: spec.ipNetworks[0]"),
    ),
    "workload nowhere": (
        [POOL, WORKLOAD % ("n9", "p", "n9", "p", "10.77.1.5")],
        ("warning", "WorkloadEndpoint a/n9-k8s-p-eth0: spec.node"),
    ),
    "peer twice": (
        [PEER % "filters: []", (PEER % "filters: []").replace("name: tor", "name: tor-2")],
        ("warning", "BGPPeer tor-2: spec.peerIP"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_fault_is_found_at_its_place_and_nothing_else(name: str) -> None:
    texts, expected = CASES[name]
    assert found(*texts) == {expected}


def test_a_block_with_nodes_in_it_is_found_beside_the_pool_it_is_from() -> None:
    pool = "kind: IPPool\nmetadata: {name: p}\nspec: {cidr: 10.0.0.0/16}"
    assert found(pool, BLOCK.replace("10.77.1.0", "10.0.0.0"), BLOCK.replace("10.77.1.0", "10.0.0.64")) == {
        ("warning", "IPPool p: spec.cidr"),
        ("error", "BlockAffinity n1/10.0.0.0/26: spec.cidr"),
    }


def test_services_among_workloads_or_nodes_are_found() -> None:
    ranges = (
        "{serviceClusterIPs: [{cidr: 10.96.0.0/12}, {cidr: 10.77.64.0/20}],"
        " serviceExternalIPs: [{cidr: 10.0.0.2/32}],"
        " serviceLoadBalancerIPs: [{cidr: 0.0.0.0/0}]}"
    )
    assert found(POOL, f"kind: BGPConfiguration\nmetadata: {{name: default}}\nspec: {ranges}") == {
        ("warning", f"BGPConfiguration default: spec.service{name}")
        for name in ("ClusterIPs[1]", "ExternalIPs[0]", "LoadBalancerIPs[0]")
    }


def test_errors_come_first_and_every_finding_has_a_remedy() -> None:
    findings = examine(cluster(THREE, BLOCK, PEER % "filters: [none], nodeSelector: has(rack)"))
    assert [item.severity for item in findings] == [Severity.ERROR, Severity.WARNING, Severity.WARNING]
    assert all(item.remedy and item.what for item in findings)


def test_a_pool_inside_another_is_found_past_others_between_them() -> None:
    pools = "\n---\n".join(
        f"kind: IPPool\nmetadata: {{name: p{index}}}\nspec: {{cidr: {cidr}}}"
        for index, cidr in enumerate(("20.0.0.0/8", "20.1.0.0/16", "20.2.0.0/16", "21.0.0.0/8", "fd00::/48"))
    )
    assert found(pools) == {("error", "IPPool p1: spec.cidr"), ("error", "IPPool p2: spec.cidr")}


def test_of_a_part_of_a_cluster_only_what_it_shows_by_itself_counts() -> None:
    peer = PEER % "filters: [none], nodeSelector: has(rack)"
    assert examine_alone(cluster(peer)) == []
    (alone,) = examine_alone(cluster(peer, FILTER))
    assert (alone.severity, alone.place) == (Severity.WARNING, "BGPPeer tor: spec.filters[0]")
    (twice,) = examine_alone(cluster(THREE, bgp("n4", 1)))
    assert twice.severity is Severity.ERROR


def test_before_any_node_is_declared_nobody_is_sent_to_label_nodes() -> None:
    (empty,) = examine(cluster(POOL))
    assert empty.remedy == "none is declared yet; an agent declares its own when it starts"
    (unlabelled,) = examine(cluster(THREE, POOL.replace("all()", "has(rack)")))
    assert unlabelled.remedy == "label the nodes, or correct the selector"
