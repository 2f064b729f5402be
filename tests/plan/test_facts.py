"""The shared index brought up to date is the one built anew."""

from collections.abc import Mapping

import pytest
from hypothesis import given

from bgpd.plan import facts, plan_node
from bgpd.resources import Key, Resource, ResourceSet, load_documents
from bgpd.resources.selector import Selector
from tests.plan.cluster import THREE, bgp, cluster, documents, plans, sessions
from tests.plan.test_peerings import clusters


def moved(before: ResourceSet, after: ResourceSet) -> ResourceSet:
    """Give ``after``, reached from ``before`` by changes, and with everything ``before`` had derived."""
    changes: dict[Key, Resource | None] = dict.fromkeys(item.key for item in before if item.key not in after)
    changes.update({item.key: item for item in after})
    return before.with_changes(changes)


@pytest.mark.parametrize("many", [1, 50])
@given(first=clusters(), second=clusters(), third=clusters())
def test_plans_after_changes_are_the_plans_of_what_is_there(
    many: int, first: ResourceSet, second: ResourceSet, third: ResourceSet
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(facts, "_MANY", many)  # selectors are evaluated for the changed nodes, or anew
        plans(first)
        between = moved(first, second)
        assert plans(between) == plans(second)
        assert plans(moved(between, third)) == plans(third)
        # The snapshots before are what they were.
        assert plans(between) == plans(ResourceSet.of(list(second)))


def test_a_selector_is_evaluated_once_for_nodes_that_are_alike_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated: list[str] = []
    matches = Selector.matches

    def counted(selector: Selector, labels: Mapping[str, str]) -> bool:
        evaluated.append(selector.text)
        return matches(selector, labels)

    monkeypatch.setattr(Selector, "matches", counted)
    nodes = [bgp(f"n{n}", n, "", f"{{rack: r{n % 5}, host: h{n}}}") for n in range(1, 201)]
    racks = [
        f"kind: BGPPeer\nmetadata: {{name: p{n}}}\n"
        f"spec: {{nodeSelector: rack == 'r{n}', peerIP: 192.0.2.{n}}}"
        for n in range(5)
    ]
    resources = cluster(*nodes, *racks)
    assert {address for address in sessions(plan_node(resources, "n1")) if address > "11"} == {"192.0.2.1"}
    assert len(evaluated) == 5 * 5
    moved_all = [bgp(f"n{n}", n, "", f"{{rack: r{(n + 1) % 5}, host: h{n}}}") for n in range(1, 201)]
    resources = resources.with_changes({item.key: item for item in cluster(*moved_all)})
    assert {address for address in sessions(plan_node(resources, "n1")) if address > "11"} == {"192.0.2.2"}
    assert len(evaluated) == 2 * 5 * 5


def test_what_is_written_into_a_node_without_concerning_anybody_is_not_planned_anew() -> None:
    before = cluster(THREE)
    plan = plan_node(before, "n1")
    node = before.nodes["n2"]
    noted = node.model_copy(update={"metadata": node.metadata.model_copy(update={"annotations": {"a": "b"}})})
    after = before.with_changes({noted.key: noted})
    assert after.nodes["n2"] is noted
    assert facts.cluster_facts(after) is facts.cluster_facts(before)
    assert plan_node(after, "n1").peerings is plan.peerings


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
