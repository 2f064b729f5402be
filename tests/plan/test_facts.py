"""The shared index brought up to date is the one built anew."""

from hypothesis import given

from bgpd.resources import Key, Resource, ResourceSet, load_documents
from tests.plan.cluster import THREE, bgp, cluster, documents, plans
from tests.plan.test_peerings import clusters


def moved(before: ResourceSet, after: ResourceSet) -> ResourceSet:
    """Give ``after``, reached from ``before`` by changes, and with everything ``before`` had derived."""
    changes: dict[Key, Resource | None] = dict.fromkeys(item.key for item in before if item.key not in after)
    changes.update({item.key: item for item in after})
    return before.with_changes(changes)


@given(clusters(), clusters(), clusters())
def test_plans_after_changes_are_the_plans_of_what_is_there(
    first: ResourceSet, second: ResourceSet, third: ResourceSet
) -> None:
    plans(first)
    between = moved(first, second)
    assert plans(between) == plans(second)
    assert plans(moved(between, third)) == plans(third)
    # The snapshots before are what they were.
    assert plans(between) == plans(ResourceSet.of(list(second)))


def test_a_node_that_changes_its_address_its_labels_or_leaves() -> None:
    peer = "kind: BGPPeer\nmetadata: {name: rr}\nspec: {nodeSelector: all(), peerSelector: has(rr)}"
    by_address = "kind: BGPPeer\nmetadata: {name: a}\nspec: {node: n1, peerIP: 10.0.0.3}"
    resources = cluster(THREE, peer, by_address)
    plans(resources)
    for text in (
        bgp("n3", 3, "", "{rr: x}"),
        bgp("n3", 33, "", "{rr: x}"),
        bgp("n4", 3),
        bgp("n2", 2, ", asNumber: 65001"),
        bgp("n3", 33),
        "kind: BGPConfiguration\nmetadata: {name: default}\nspec: {listenPort: 1790}",
        "kind: BGPConfiguration\nmetadata: {name: node.n2}\nspec: {listenPort: 1791}",
        "kind: CairnConfiguration\nspec: {reflectors: {count: 2, nodeSelector: all()}}",
        bgp("n2", 2, ", routeReflectorClusterID: 244.0.0.7"),
        "kind: CairnConfiguration\nspec: {reflectors: {count: 2, nodeSelector: has(rr)}}",
    ):
        if "CairnConfiguration" in text:
            (item,) = documents_of_cairn(text)
        else:
            (item,) = documents(text)
        resources = resources.with_changes({item.key: item})
        assert plans(resources) == plans(ResourceSet.of(list(resources)))
    for name in ("n3", "n1", "n4"):
        resources = resources.with_changes({Key("Node", name): None})
        assert plans(resources) == plans(ResourceSet.of(list(resources)))


def documents_of_cairn(text: str) -> list[Resource]:
    return load_documents(f"apiVersion: cairn.dev/v1\nmetadata: {{name: default}}\n{text}", "cairn.yaml")
