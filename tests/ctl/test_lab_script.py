"""The lab's script: what each change must lead to, whatever happened before."""

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctl.lab.layout import Mode, Role, block_of, lay_out
from ctl.lab.script import (
    AddWorkload,
    Blackhole,
    Change,
    Cluster,
    KillNode,
    Local,
    MoveWorkload,
    RemoveWorkload,
    ReviveNode,
    Via,
    routes_at,
    story,
)

LAYOUT = lay_out(3, 2, Mode.NAMESPACES)
NODE1, NODE2, NODE3 = LAYOUT.of(Role.NODE)
ROUTER = LAYOUT.member("router")
BLOCK1, BLOCK2 = block_of(NODE1), block_of(NODE2)
WEB1 = IPv4Network("10.77.1.1/32")


def after(*changes: Change) -> Cluster:
    cluster = Cluster.of(LAYOUT)
    for change in changes:
        cluster = cluster.after(change)
    return cluster


def test_a_first_workload_claims_the_block_and_the_block_alone_is_announced() -> None:
    cluster = after(AddWorkload("web1", "node1"))
    assert cluster.workloads["web1"].address == IPv4Address("10.77.1.1")
    assert routes_at(cluster, NODE1) == {BLOCK1: Blackhole(), WEB1: Local("caliweb1")}
    assert routes_at(cluster, NODE2) == {BLOCK1: Via("node1")}
    assert routes_at(cluster, ROUTER) == {BLOCK1: Via("node1")}


def test_a_moved_workload_is_announced_by_itself_and_its_block_stays() -> None:
    cluster = after(AddWorkload("web1", "node1"), MoveWorkload("web1", "node2"))
    assert routes_at(cluster, NODE1) == {BLOCK1: Blackhole(), WEB1: Via("node2")}
    assert routes_at(cluster, NODE2) == {BLOCK1: Via("node1"), WEB1: Local("caliweb1")}
    assert routes_at(cluster, NODE3) == {BLOCK1: Via("node1"), WEB1: Via("node2")}


def test_the_last_workload_of_a_block_gives_it_back() -> None:
    cluster = after(AddWorkload("web1", "node1"), AddWorkload("web2", "node2"), RemoveWorkload("web2"))
    assert routes_at(cluster, NODE1) == {BLOCK1: Blackhole(), WEB1: Local("caliweb1")}
    assert routes_at(cluster, NODE2) == {BLOCK1: Via("node1")}


def test_a_dead_node_announces_nothing_until_it_is_back() -> None:
    before = after(AddWorkload("web1", "node1"), AddWorkload("web2", "node2"))
    dead = before.after(KillNode("node2"))
    assert routes_at(dead, NODE3) == {BLOCK1: Via("node1")}
    assert [workload.name for workload in dead.running()] == ["web1"]
    assert dead.after(ReviveNode("node2")) == before


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (AddWorkload("web1", "node1"), "web1 exists already"),
        (AddWorkload("new", "node9"), "node9 is not a living node"),
        (MoveWorkload("web1", "node1"), "on node1 already"),
        (MoveWorkload("none", "node2"), "no workload called none"),
        (RemoveWorkload("none"), "no workload called none"),
        (KillNode("node3"), "node3 is not a living node"),
        (ReviveNode("node1"), "node1 is not a dead node"),
    ],
)
def test_changes_that_make_no_sense_are_refused(change: Change, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        after(AddWorkload("web1", "node1"), KillNode("node3")).after(change)


@pytest.mark.parametrize("mode", list(Mode))
@given(nodes=st.integers(2, 12), reflectors=st.integers(1, 3))
def test_the_story_can_be_told_in_every_lab(mode: Mode, nodes: int, reflectors: int) -> None:
    layout = lay_out(nodes, reflectors, mode)
    assert len({member.address for member in layout}) == len(layout.members)
    cluster = Cluster.of(layout)
    for step in story(layout):
        for change in step.changes:
            cluster = cluster.after(change)
    assert cluster.alive == set(cluster.blocks)
    assert all(len(routes_at(cluster, member)) >= len(cluster.claims()) for member in layout.learners)


def test_a_full_block_and_a_lab_of_no_size_are_refused() -> None:
    cluster = Cluster.of(LAYOUT)
    for number in range(62):
        cluster = cluster.after(AddWorkload(f"w{number}", "node1"))
    with pytest.raises(ValueError, match="block of node1 is full"):
        cluster.after(AddWorkload("w62", "node1"))
    with pytest.raises(ValueError, match="2 to 200 nodes, not 1"):
        lay_out(1, 1, Mode.LOOPBACK)
    with pytest.raises(ValueError, match="1 to 200 reflectors, not 0"):
        lay_out(2, 0, Mode.LOOPBACK)


CHANGES = st.one_of(
    st.builds(AddWorkload, st.sampled_from("abc"), st.sampled_from(["node1", "node2", "node3"])),
    st.builds(MoveWorkload, st.sampled_from("abc"), st.sampled_from(["node1", "node2", "node3"])),
    st.builds(RemoveWorkload, st.sampled_from("abc")),
    st.builds(KillNode, st.sampled_from(["node1", "node2", "node3"])),
    st.builds(ReviveNode, st.sampled_from(["node1", "node2", "node3"])),
)


@given(st.lists(CHANGES, max_size=30))
def test_every_running_workload_is_reached_from_everywhere_and_nothing_else_is(changes: list[Change]) -> None:
    cluster = Cluster.of(LAYOUT)
    for change in changes:
        try:
            cluster = cluster.after(change)
        except ValueError:
            continue
    addresses = [workload.address for workload in cluster.workloads.values()]
    assert len(set(addresses)) == len(addresses)
    for at in LAYOUT.learners:
        if at.role is Role.NODE and at.name not in cluster.alive:
            continue
        routes = routes_at(cluster, at)
        for workload in cluster.running():
            longest = max((p for p in routes if workload.address in p), key=lambda p: p.prefixlen)
            wanted = Local(workload.interface) if workload.node == at.name else Via(workload.node)
            assert routes[longest] == wanted
        for prefix in routes:
            assert any(address in prefix for address in addresses)
