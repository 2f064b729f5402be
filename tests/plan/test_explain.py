"""A route's way by declaration, checked over a mesh, reflectors and filters that stop it."""

from ipaddress import ip_network

from bgpd.plan.explain import Step, explain
from bgpd.resources import ResourceSet
from tests.plan.cluster import MESH_OFF, THREE, bgp, cluster

POOL = "kind: IPPool\nmetadata: {name: pool}\nspec: {cidr: 10.77.0.0/16}"
BLOCK = "kind: BlockAffinity\nmetadata: {name: b}\nspec: {node: n1, cidr: 10.77.1.0/26, state: confirmed}"
REFLECTED = (
    MESH_OFF,
    bgp("n1", 1),
    bgp("n2", 2),
    bgp("r1", 11, ", routeReflectorClusterID: 244.0.0.1", "{rr: a}"),
    bgp("r2", 12, ", routeReflectorClusterID: 244.0.0.2", "{rr: b}"),
    'kind: BGPPeer\nmetadata: {name: a}\nspec: {nodeSelector: "!has(rr)", peerSelector: has(rr)}',
    "kind: BGPPeer\nmetadata: {name: b}\nspec: {nodeSelector: has(rr), peerSelector: has(rr)}",
)


def told(resources: ResourceSet, prefix: str = "10.77.1.5") -> list[tuple[str, Step, str]]:
    return [(item.node, item.step, item.other) for item in explain(resources, ip_network(prefix))]


def test_in_a_mesh_everybody_learns_it_from_its_origin() -> None:
    steps = told(cluster(THREE, POOL, BLOCK))
    assert steps == [
        ("n1", Step.ORIGINATES, "block"),
        ("n1", Step.ANNOUNCES, "n2"),
        ("n2", Step.LEARNS, "n1"),
        ("n1", Step.ANNOUNCES, "n3"),
        ("n3", Step.LEARNS, "n1"),
    ]
    assert told(cluster(THREE, POOL, BLOCK), "10.99.0.0/16") == []


def test_a_reflector_passes_a_clients_route_on_and_nobody_hears_it_twice() -> None:
    steps = told(cluster(*REFLECTED, POOL, BLOCK))
    assert steps.count(("r1", Step.REFLECTS, "n2")) == 1
    learned = [node for node, step, _ in steps if step is Step.LEARNS]
    assert sorted(learned) == ["n2", "r1", "r2"]
    assert not any(step is Step.REFLECTS and other == "n1" for _, step, other in steps)


def test_an_export_rule_that_stops_it_is_named() -> None:
    resources = cluster(
        THREE,
        POOL,
        BLOCK,
        "kind: BGPPeer\nmetadata: {name: tor}\nspec: {node: n1, peerIP: 192.0.2.1, asNumber: 65001, "
        "filters: [quiet]}",
        "kind: BGPFilter\nmetadata: {name: quiet}\nspec: {exportV4: [{action: Reject}]}",
    )
    (stopped,) = [item for item in explain(resources, ip_network("10.77.1.5")) if item.step is Step.STOPS]
    assert (stopped.other, stopped.reason) == ("192.0.2.1", "BGPFilter quiet exportV4[0]: Reject")


def test_an_import_rule_that_refuses_it_is_named_and_ends_the_way() -> None:
    resources = cluster(
        *REFLECTED[:5],
        "kind: BGPPeer\nmetadata: {name: a}\n"
        "spec: {nodeSelector: \"!has(rr)\", peerSelector: rr == 'a', filters: [deaf]}",
        "kind: BGPFilter\nmetadata: {name: deaf}\nspec: {importV4: [{action: Reject}]}",
        POOL,
        BLOCK,
    )
    steps = explain(resources, ip_network("10.77.1.0/26"))
    refusals = [(item.node, item.other, item.reason) for item in steps if item.step is Step.REFUSES]
    assert refusals == [("r1", "n1", "BGPFilter deaf importV4[0]: Reject")]
    assert not [item for item in steps if item.step is Step.LEARNS]


def test_what_is_held_back_is_told_with_its_reason() -> None:
    pending = BLOCK.replace("confirmed", "pending")
    (held,) = explain(cluster(THREE, POOL, pending), ip_network("10.77.1.5"))
    assert (held.step, held.reason) == (
        Step.HOLDS_BACK,
        "the affinity of block 10.77.1.0/26 to n1 is pending",
    )


def test_a_workload_is_on_its_interface_and_a_node_without_address_is_said() -> None:
    resources = cluster(
        THREE,
        "kind: Node\nmetadata: {name: n9}\nspec: {}",
        POOL,
        BLOCK,
        "kind: WorkloadEndpoint\nmetadata: {name: n1-k8s-p-eth0, namespace: a}\nspec: {node: n1, "
        "orchestrator: k8s, pod: p, endpoint: eth0, interfaceName: cali1, ipNetworks: [10.77.1.5]}",
    )
    steps = told(resources)
    assert steps[0] == ("n9", Step.UNPLANNED, "")
    assert ("n1", Step.DELIVERS, "cali1") in steps
