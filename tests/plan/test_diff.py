"""What an edit would do, told before it is done."""

from hypothesis import given
from hypothesis import strategies as st

from bgpd.plan import plan_node
from bgpd.plan.diff import BOUNCING_FIELDS, Change, SessionChange, diff_cluster, diff_plans
from bgpd.resources import Resource, ResourceSet
from tests.plan.cluster import MESH_OFF, THREE, bgp, cluster, documents
from tests.plan.test_peerings import clusters, peer
from tests.plan.test_routes import POOLS, block, endpoint


def edited(before: ResourceSet, *texts: str) -> ResourceSet:
    changes: dict[object, Resource] = {}
    for text in texts:
        changes.update({item.key: item for item in documents(text)})
    return before.with_changes(changes)  # type: ignore[arg-type]  # keys are keys


def told(changes: tuple[SessionChange, ...]) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(str(item.change), str(item.peer_address), item.fields) for item in changes]


def test_nothing_changed_is_nothing_told() -> None:
    before = cluster(THREE, POOLS, block("n1", "10.1.0.0/26"))
    assert diff_cluster(before, ResourceSet.of(list(before))) == []


def test_a_new_node_appears_in_every_mesh() -> None:
    before = cluster(THREE)
    after = edited(before, bgp("n4", 4))
    found = {item.node: told(item.sessions) for item in diff_cluster(before, after)}
    assert found["n1"] == [("appears", "10.0.0.4", ())]
    assert [item[:2] for item in found["n4"]] == [("appears", f"10.0.0.{host}") for host in (1, 2, 3)]
    back = diff_cluster(after, before)
    assert [item.drops_sessions for item in back] == [True] * 4


def test_what_both_ends_agreed_on_bounces_the_session_and_a_filter_does_not() -> None:
    before = cluster(MESH_OFF, THREE, peer("t", "{node: n1, peerIP: 192.0.2.1, asNumber: 65001}"))
    rules = "kind: BGPFilter\nmetadata: {name: f}\nspec: {exportV4: [{action: Reject}]}"
    slower = edited(before, peer("t", "{node: n1, peerIP: 192.0.2.1, asNumber: 65001, keepaliveTime: 5s}"))
    (bounced,) = diff_cluster(before, slower)
    assert told(bounced.sessions) == [("bounces", "192.0.2.1", ("hold_time", "keepalive_time"))]
    assert bounced.drops_sessions
    filtered = edited(
        before, rules, peer("t", "{node: n1, peerIP: 192.0.2.1, asNumber: 65001, filters: [f]}")
    )
    (changed,) = diff_cluster(before, filtered)
    assert changed.sessions == ()
    assert [(item.direction, item.what) for item in changed.filters] == [
        ("export", "no filter -> f (1 rules)")
    ]
    assert not changed.drops_sessions


def test_a_filters_other_ip_version_is_a_reflectors_matter_alone() -> None:
    rules = "kind: BGPFilter\nmetadata: {name: f}\nspec: {importV6: [{action: %s}]}"
    nodes = THREE, bgp("rr", 9, ", routeReflectorClusterID: 244.0.0.1")
    everybody = peer("t", "{peerIP: 192.0.2.1, asNumber: 65001, filters: [f]}")
    before, after = (cluster(*nodes, everybody, rules % action) for action in ("Accept", "Reject"))
    (changed,) = diff_cluster(before, after)
    assert changed.node == "rr"
    assert [(item.direction, item.what) for item in changed.filters] == [
        ("import", "f (1 rules) -> f (1 rules)")
    ]


def test_a_next_hop_mode_is_adjusted_without_a_bounce() -> None:
    before = cluster(MESH_OFF, THREE, peer("t", "{node: n1, peerIP: 192.0.2.1, asNumber: 65001}"))
    after = edited(before, peer("t", "{node: n1, peerIP: 192.0.2.1, asNumber: 65001, nextHopMode: Self}"))
    (found,) = diff_cluster(before, after)
    assert told(found.sessions) == [("adjusted", "192.0.2.1", ("next_hop_mode",))]


def test_routes_are_told_with_the_reason() -> None:
    before = cluster(THREE, POOLS, block("n1", "10.1.0.0/26"))
    after = edited(before, block("n1", "10.1.0.0/26", "pendingDeletion"), block("n1", "10.1.5.0/26"))
    (found,) = diff_cluster(before, after)
    assert [(item.change, str(item.prefix), item.reason) for item in found.routes] == [
        (Change.WITHDRAWN, "10.1.0.0/26", "the affinity of block 10.1.0.0/26 to n1 is pendingDeletion"),
        (Change.ANNOUNCED, "10.1.5.0/26", "block 10.1.5.0/26, affinity to n1 confirmed"),
    ]


def test_a_withdrawn_route_is_told_with_what_let_it_out() -> None:
    rules = "kind: BGPFilter\nmetadata: {name: f}\nspec: {exportV4: [{action: Accept}]}"
    tor = "{node: n1, peerIP: 192.0.2.1, asNumber: 65001, filters: %s}"
    workload = endpoint("n1", "web", "[10.1.0.5/32]")
    before = cluster(THREE, POOLS, block("n1", "10.1.0.0/26"), workload, rules, peer("t", tor % "[f]"))
    (found,) = diff_cluster(before, edited(before, peer("t", tor % "[]")))
    assert [(item.change, str(item.prefix)) for item in found.routes] == [(Change.WITHDRAWN, "10.1.0.5/32")]
    (reason,) = (item.reason for item in found.routes)
    assert reason.startswith("no longer: WorkloadEndpoint d/n1-k8s-web-eth0: inside the blocks of n1")


def test_a_community_alters_a_route() -> None:
    before = cluster(THREE, POOLS, block("n1", "10.1.0.0/26"))
    advert = "[{cidr: 10.1.0.0/16, communities: ['65000:1']}]"
    after = edited(
        before,
        f"kind: BGPConfiguration\nmetadata: {{name: default}}\nspec: {{prefixAdvertisements: {advert}}}",
    )
    found = {item.node: item for item in diff_cluster(before, after)}
    assert [(item.change, str(item.prefix)) for item in found["n1"].routes] == [
        (Change.ALTERED, "10.1.0.0/26")
    ]
    assert [item.what for item in found["n2"].filters] == ["prefixAdvertisements"]


def test_a_node_that_can_no_longer_be_planned_is_told() -> None:
    before = cluster(THREE)
    after = edited(before, "kind: Node\nmetadata: {name: n1}\nspec: {}")
    found = {item.node: item for item in diff_cluster(before, after)}
    assert "has neither" in (found["n1"].error or "")
    assert [item[0] for item in told(found["n1"].sessions)] == ["vanishes", "vanishes"]


def test_becoming_a_reflector_bounces_what_must_and_nothing_else() -> None:
    before = cluster(MESH_OFF, THREE, peer("all", "{nodeSelector: all(), peerSelector: all()}"))
    after = edited(before, bgp("n2", 2, ", routeReflectorClusterID: 244.0.0.1"))
    found = {item.node: told(item.sessions) for item in diff_cluster(before, after)}
    assert all("rr_client" in fields for _, _, fields in found["n2"])
    assert {address for _, address, _ in found.get("n1", [])} <= {"10.0.0.2"}


@given(clusters(), clusters())
def test_a_diff_leads_from_one_plan_to_the_other(before: ResourceSet, after: ResourceSet) -> None:
    """Sessions of the old plan, changed as told, are the sessions of the new one."""
    for name in {*before.nodes, *after.nodes}:
        old = plan_node(before, name) if name in before.nodes else None
        new = plan_node(after, name) if name in after.nodes else None
        told_changes = {(item.peer_address, item.peer_port): item for item in diff_plans(old, new).sessions}
        was = {(item.peer_address, item.peer_port): item for item in (old.peerings if old else ())}
        now = {(item.peer_address, item.peer_port): item for item in (new.peerings if new else ())}
        for place in {*was, *now}:
            change = told_changes.pop(place, None)
            if place not in was:
                assert change is not None
                assert change.change is Change.APPEARS
            elif place not in now:
                assert change is not None
                assert change.change is Change.VANISHES
            elif any(getattr(was[place], field) != getattr(now[place], field) for field in BOUNCING_FIELDS):
                assert change is not None
                assert change.change is Change.BOUNCES
        assert not told_changes or all(item.change is Change.BOUNCES for item in told_changes.values())


@given(clusters(), st.data())
def test_a_cluster_compared_with_itself_however_built_differs_in_nothing(
    resources: ResourceSet, data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(list(resources)))
    assert diff_cluster(resources, ResourceSet.of(shuffled)) == []


def test_a_node_that_could_not_be_planned_before_either_is_not_news() -> None:
    before = cluster(THREE, "kind: Node\nmetadata: {name: n9}\nspec: {}")
    assert diff_cluster(before, edited(before, bgp("n4", 4)))
    assert all(item.error is None for item in diff_cluster(before, edited(before, bgp("n4", 4))))
    (lost,) = [
        item
        for item in diff_cluster(before, edited(before, "kind: Node\nmetadata: {name: n3}\nspec: {}"))
        if item.error
    ]
    assert lost.node == "n3"
