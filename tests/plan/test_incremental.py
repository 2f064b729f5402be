"""A plan brought up to date, change by change, is the plan made anew."""

from collections.abc import Mapping
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.plan import NodePlan, PlanError, plan_node
from bgpd.plan.diff import diff_cluster
from bgpd.plan.model import Peering
from bgpd.plan.ordered import Ordered
from bgpd.resources import MODELS, Key, Resource, ResourceSet
from tests.plan.cluster import MESH_OFF, THREE, bgp, cluster, documents
from tests.plan.test_peerings import peer

NODES = ("n1", "n2", "n3", "n4")


def _made(kind: str, name: str, spec: object, **metadata: object) -> Resource:
    model = MODELS[kind]
    document = {
        "apiVersion": model.API_VERSION,
        "kind": kind,
        "metadata": {"name": name, **metadata},
        "spec": spec,
    }
    return model.model_validate(document, by_alias=True)


def _nodes() -> list[list[Resource]]:
    found: list[list[Resource]] = []
    for number, name in enumerate(NODES, 1):
        address = {"ipv4Address": f"10.0.0.{number}/24"}
        both = {**address, "ipv6Address": f"fd00::{number}/64"}
        tunnelled = {
            "bgp": {**both, "ipv4IPIPTunnelAddr": f"10.8.0.{number}"},
            "ipv4VXLANTunnelAddr": f"10.9.0.{number}",
            "vxlanTunnelMACAddr": "02:00:00:00:00:01",
        }
        found.append(
            [
                _made("Node", name, {"bgp": address}),
                _made("Node", name, {"bgp": both}, labels={"rr": "x", "rack": "a"}),
                _made("Node", name, tunnelled, labels={"rack": "b"}),
                _made("Node", name, {"bgp": {**address, "routeReflectorClusterID": "244.0.0.1"}}),
                _made("Node", name, {"bgp": {**both, "asNumber": 65001}}, labels={"rr": ""}),
                _made("Node", name, {"bgp": address}, annotations={"cairn.dev/learn-only": "true"}),
                _made("Node", name, {}),
                _made("Node", name, {"bgp": {"ipv4Address": "10.0.0.1/24"}}),
            ]
        )
    return found


def _routes() -> list[list[Resource]]:
    addresses = ("10.1.0.1", "10.1.0.2", "10.1.0.70", "10.2.0.1", "10.3.0.1", "192.0.2.1")
    found: list[list[Resource]] = []
    for number in range(5):
        variants: list[Resource] = []
        for place, address in enumerate(addresses):
            node = NODES[(number + place) % 3]
            spec: dict[str, object] = {
                "orchestrator": "k8s",
                "node": node,
                "ipNetworks": [f"{address}/32", "fd01::5/128"][: 1 + place % 2],
            }
            if place % 3:
                spec["interfaceName"] = f"cali{number}"
            created = f"2026-01-0{1 + (number + place) % 4}T00:00:00Z"
            variants.append(
                _made("WorkloadEndpoint", f"w{number}", spec, namespace="d", creationTimestamp=created)
            )
        found.append(variants)
    for cidr in ("10.1.0.0/26", "10.1.0.64/26", "10.3.0.1/32", "fd01::/122"):
        for node in NODES[:2]:
            states = ("confirmed", "pending", None)
            found.append(
                [
                    _made("BlockAffinity", "a", {"node": node, "cidr": cidr, **({"state": s} if s else {})})
                    for s in states
                ]
            )
        found.append(
            [_made("IPAMBlock", "b", {"cidr": cidr, "affinity": f"host:{node}"}) for node in NODES[:2]]
        )
    for name, cidr in (("main", "10.1.0.0/16"), ("more", "10.2.0.0/16"), ("six", "fd01::/64")):
        found.append(
            [
                _made("IPPool", name, {"cidr": cidr}),
                _made("IPPool", name, {"cidr": cidr, "disableBGPExport": True}),
                _made("IPPool", name, {"cidr": cidr, "vxlanMode": "Always"}),
                *([_made("IPPool", name, {"cidr": cidr, "ipipMode": "Always"})] if name == "main" else ()),
            ]
        )
    return found


def _sessions() -> list[list[Resource]]:
    cluster = (
        {"asNumber": 65000},
        {"nodeToNodeMeshEnabled": False, "serviceClusterIPs": [{"cidr": "10.3.0.0/16"}]},
        {"listenPort": 1790, "serviceExternalIPs": [{"cidr": "192.0.2.1/32"}]},
        {
            "communities": [{"name": "one", "value": "65000:1"}],
            "prefixAdvertisements": [{"cidr": "10.1.0.0/16", "communities": ["one", "two"]}],
            "nodeMeshPassword": {"secretKeyRef": {"name": "s", "key": "mesh"}},
            "ipv4NormalRoutePriority": 100,
        },
    )
    peers = (
        {"peerIP": "192.0.2.9", "asNumber": 65009, "filters": ["f", "g"]},
        {"nodeSelector": "!has(rr)", "peerSelector": "has(rr)", "keepaliveTime": "10s"},
        {"node": "n1", "peerIP": "10.0.0.2"},
        {"peerSelector": "rack == 'a'", "filters": ["f"], "reversePeering": "Manual"},
        {"nodeSelector": "has(rack)", "peerIP": "[fd00::2]:1790", "password": {}},
        {"peerIP": "192.0.2.9", "asNumber": 65009, "localASNumber": 65033, "reachableBy": "10.0.0.254"},
    )
    election = {"reflectors": {"count": 2, "nodeSelector": "all()", "spreadLabel": "rack"}}
    return [
        [_made("BGPConfiguration", "default", spec) for spec in cluster],
        [_made("BGPConfiguration", "node.n2", {"listenPort": 1791})],
        *([_made("BGPPeer", name, spec) for spec in peers] for name in ("a", "b", "c")),
        *(
            [_made("BGPFilter", name, {"exportV4": [{"action": action}]}) for action in ("Accept", "Reject")]
            for name in ("f", "g")
        ),
        [
            _made("CairnConfiguration", "default", election),
            _made("CairnConfiguration", "default", {"reflectors": {"count": 1, "nodeSelector": "has(rr)"}}),
            _made("CairnConfiguration", "default", {"maxPrefixes": 7}),
        ],
        *([_made("NodeLease", name, {})] for name in NODES),
    ]


CATALOGUE = [variants for part in (_nodes(), _routes(), _sessions()) for variants in part]


@st.composite
def edits(draw: st.DrawFn) -> dict[Key, Resource | None]:
    """One transaction: resources that come, change or go."""
    found: dict[Key, Resource | None] = {}
    for variants in draw(st.lists(st.sampled_from(CATALOGUE), min_size=1, max_size=6)):
        chosen = draw(st.sampled_from([*variants, None]))
        found[variants[0].key] = chosen
    return found


def _plans(
    resources: ResourceSet, names: Mapping[str, object]
) -> dict[str, tuple[NodePlan, list[Peering]] | str]:
    """The sessions also written out: those of a mesh are compared by what they are made of."""
    found: dict[str, tuple[NodePlan, list[Peering]] | str] = {}
    for name in names:
        try:
            plan = plan_node(resources, name, (ip_network("198.51.100.0/24"),) if name == "n3" else ())
            found[name] = plan, list(plan.peerings)
        except PlanError as error:
            found[name] = str(error)
    return found


@given(
    st.tuples(*(st.sampled_from([*variants, None]) for variants in CATALOGUE)),
    st.lists(
        st.tuples(edits(), st.sets(st.sampled_from(NODES), min_size=1), st.booleans()), min_size=1, max_size=6
    ),
)
def test_a_plan_brought_up_to_date_is_the_plan_made_anew(
    first: tuple[Resource | None, ...], steps: list[tuple[dict[Key, Resource | None], set[str], bool]]
) -> None:
    resources = ResourceSet.of(filter(None, first))
    _plans(resources, dict.fromkeys(NODES))
    for changes, planned, compared in steps:
        former, resources = resources, resources.with_changes(changes)
        anew = ResourceSet.of(reversed(list(resources)))  # in whatever order they are known
        # Not every node is planned at every step, so what is brought up to date is of any age.
        names = dict.fromkeys(sorted(planned))
        assert _plans(resources, names) == _plans(anew, names)
        if compared:
            assert diff_cluster(former, resources) == diff_cluster(ResourceSet.of(list(former)), anew)


@given(st.data())
def test_an_ordered_sequence_after_changes_is_the_one_sorted_anew(data: st.DataObject) -> None:
    keys = st.tuples(st.integers(0, 60))
    expected = data.draw(st.dictionaries(keys, st.integers(), max_size=60))
    sequence = Ordered(expected)
    for _ in range(data.draw(st.integers(0, 5))):
        gone = data.draw(st.lists(keys, max_size=5))
        come = data.draw(st.dictionaries(keys, st.integers(), max_size=5))
        before = (list(sequence.keys), sequence.items)
        after = sequence.changed(gone, come)
        assert (sequence.keys, sequence.items) == before
        sequence = after
        expected = {**{key: item for key, item in expected.items() if key not in gone}, **come}
        assert sequence.keys == sorted(expected)
        assert sequence.items == tuple(expected[key] for key in sorted(expected))
        low, high = sorted((data.draw(keys), data.draw(keys)))
        assert sequence.between(low, high) == tuple(expected[k] for k in sorted(expected) if low <= k < high)


@pytest.mark.parametrize(
    "changed",
    [
        "{nodeMeshMaxRestartTime: 60s}",
        "{nodeMeshPassword: {secretKeyRef: {name: s, key: k}}}",
        "{asNumber: 65009}",
    ],
)
def test_a_mesh_declared_otherwise_is_another_with_other_sessions(changed: str) -> None:
    declared = documents(f"kind: BGPConfiguration\nmetadata: {{name: default}}\nspec: {changed}")
    before = cluster(THREE)
    former = plan_node(before, "n1").peerings
    assert len(former) == 2
    after = before.with_changes({resource.key: resource for resource in declared})
    present = plan_node(after, "n1").peerings
    assert former != present
    assert list(present) == list(plan_node(ResourceSet.of(list(after)), "n1").peerings)
    assert not set(present) & set(former)


def test_of_two_nodes_with_one_address_the_one_that_is_left_is_found_by_it() -> None:
    """As when a node was given another name."""
    named = peer("p", "{node: n2, peerIP: 10.0.0.1, asNumber: 65000}")
    before = cluster(MESH_OFF, THREE, bgp("renamed", 1), named)
    plan_node(before, "renamed")
    after = before.with_changes({Key("Node", "n1"): None})
    plan = plan_node(after, "renamed")
    assert [str(each.peer_address) for each in plan.peerings] == ["10.0.0.2"]
    assert plan == plan_node(ResourceSet.of(list(after)), "renamed")


def test_filters_of_the_past_are_forgotten() -> None:
    """Each version of a filter that accepts was remembered with all that had been made of it."""
    resources = cluster(
        bgp("n1", 1),
        "kind: IPPool\nmetadata: {name: p}\nspec: {cidr: 10.1.0.0/16}",
        "kind: BGPPeer\nmetadata: {name: t}\nspec: {peerIP: 192.0.2.1, asNumber: 65001, filters: [f]}",
    )
    remembered = []
    for number in range(1, 8):
        rule = {"action": "Accept", "operations": [{"addCommunity": {"value": f"65000:{number}"}}]}
        changed = _made("BGPFilter", "f", {"exportV4": [rule]})
        resources = resources.with_changes({changed.key: changed})
        plan_node(resources, "n1")
        remembered.append(len(resources._derived))
    assert len(set(remembered[1:])) == 1, remembered
