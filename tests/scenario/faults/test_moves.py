"""Addresses and blocks that change hands: the newer owner wins everywhere, and nobody else loses an echo.

What is on its way to the moving address itself may be lost where two racks' routers hear of the old owner's
withdrawal before they hear of the new owner; how much is counted and stated.
"""

import time
from datetime import UTC, datetime, timedelta
from itertools import cycle, islice

from tests.scenario.faults import LONG, ON_THE_CLUSTER, long_only
from tests.scenario.harness import calico
from tests.scenario.harness.cluster import Cluster
from tests.scenario.harness.echoes import (
    Flow,
    counted,
    no_echo_lost,
    reach,
    reach_everywhere,
    stated,
    workload,
)
from tests.scenario.harness.topology import NODES
from tests.scenario.harness.workload import Prepared, Workload
from tests.scenario.harness.world import Host

pytestmark = ON_THE_CLUSTER
MOVES = 200 if LONG else 10
CUTS = 200
EPOCH = datetime(2026, 2, 1, tzinfo=UTC)


def prepared(cluster: Cluster, name: str, ipv4: str, ipv6: str) -> Prepared:
    return Prepared(cluster.world, name, ipv4, ipv6, [cluster.hosts[node] for node in NODES])


def test_a_workload_with_its_next_host_made_ready_moves_many_times(cluster: Cluster) -> None:
    roaming = prepared(cluster, "roaming", "10.244.200.9", "fd00:244:0:200::9")
    cluster.add(roaming, "node1", EPOCH)
    cluster.expect_exact()
    reach_everywhere(cluster, roaming)
    what = f"a workload moved {MOVES} times, its next host made ready"
    with no_echo_lost(cluster, "… the others"), counted(cluster.world, what, both(cluster, roaming)) as moved:
        for number, node in enumerate(islice(cycle((*NODES[1:], NODES[0])), MOVES), 1):
            cluster.move(roaming, node, EPOCH + timedelta(seconds=number))
        cluster.expect_exact()
    assert moved.lost < moved.sent / 4, moved
    cluster.remove(roaming)
    cluster.expect_exact()


class Timed(Workload):
    """It knows when it had no wire."""

    def __init__(self, cluster: Cluster, name: str, ipv4: str, ipv6: str) -> None:
        super().__init__(cluster.world, name, ipv4, ipv6)
        self.away: list[tuple[float, float]] = []

    def attach(self, host: Host) -> None:
        begun = time.monotonic()
        super().attach(host)
        self.away.append((begun, time.monotonic()))


@long_only
def test_a_workload_cut_from_one_node_and_wired_to_another_is_back_at_once(cluster: Cluster) -> None:
    """What is lost is lost while it has no wire; nobody else loses anything."""
    cut = Timed(cluster, "cut", "10.244.1.9", "fd00:244:0:1::9")
    cluster.add(cut, "node1", EPOCH)
    cluster.expect_exact()
    reach_everywhere(cluster, cut)
    undeclared: list[tuple[float, float]] = []
    what = f"a workload cut from its node and wired to the next {CUTS} times"
    with no_echo_lost(cluster, "… the others"), counted(cluster.world, what, both(cluster, cut)) as moved:
        for number, node in enumerate(islice(cycle((*NODES[1:], NODES[0])), CUTS), 1):
            cluster.move(cut, node, EPOCH + timedelta(seconds=number))
            undeclared.append((cut.away[-1][0], cluster.etcd.written))
            for source, _ in both(cluster, cut):
                reach(cluster.world, source, cut)
        cluster.expect_exact()
    assert moved.lost < moved.sent, moved
    for when, times in (("it had a wire", cut.away), ("it was declared, too", undeclared)):
        lost = moved.lost_outside(times)
        each = lost * 10 / CUTS / len(moved.losses)
        stated(f"… of these while {when} ({each:.0f} ms for a move and flow)", moved.sent, lost)
    cluster.remove(cut)
    cluster.expect_exact()


def test_of_two_nodes_that_claim_an_address_the_newer_wins_and_the_other_inherits(cluster: Cluster) -> None:
    """IPv4 in a block of the newer one's own, IPv6 outside all blocks."""
    older = Workload(cluster.world, "older", "10.244.3.44", "fd00:244:0:77::4")
    newer = Workload(cluster.world, "newer", *older.addresses)
    cluster.add(older, "node1", EPOCH)
    cluster.expect_exact()
    reach_everywhere(cluster, older)
    flows = both(cluster, older)
    with no_echo_lost(cluster, "… the others"):
        with counted(cluster.world, "an address claimed by a second node", flows) as claimed:
            cluster.add(newer, "node3", EPOCH + timedelta(seconds=1))
            cluster.disputed.update(f"{place}/32" for place in newer.addresses if "." in place)
            cluster.expect_exact()
        with counted(cluster.world, "an address given up by the newer of two owners", flows) as given_up:
            second = calico.workload_endpoint("node3", newer.name, newer.addresses, newer.interface)
            cluster.etcd.delete(*second)
            del cluster.declared.workloads[newer.name]
            cluster.disputed.clear()
            cluster.expect_exact()
    for account in (claimed, given_up):
        assert account.lost < account.sent / 4, account
    newer.detach()
    cluster.remove(older)
    cluster.expect_exact()


@long_only
def test_a_block_released_and_claimed_by_another_node(cluster: Cluster) -> None:
    """With the workload that lives in it, first in one step, then with a time in which nobody has it."""
    tenant = prepared(cluster, "tenant", "10.244.90.9", "fd00:244:0:90::9")
    blocks = ("10.244.90.0/26", "fd00:244:0:90::/122")
    for cidr in blocks:
        cluster.claim(cidr, "node1")
    cluster.add(tenant, "node1", EPOCH)
    cluster.expect_exact()
    reach_everywhere(cluster, tenant)
    what = "a block claimed by three nodes in turn, with a workload in it"
    with no_echo_lost(cluster, "… the others"), counted(cluster.world, what, both(cluster, tenant)) as moved:
        cluster.move(tenant, "node3", EPOCH + timedelta(seconds=1))
        cluster.expect_exact()
        for cidr in blocks:
            claims = calico.affinity("node3", cidr) | calico.block("node3", cidr)
            cluster.etcd.transaction(claims, list(calico.affinity("node1", cidr)))
            cluster.declared.blocks[cidr] = "node3"
        cluster.expect_exact()
        for cidr in blocks:
            cluster.release(cidr)
        cluster.expect_exact()
        for cidr in blocks:
            cluster.claim(cidr, "node2")
        cluster.expect_exact()
        cluster.move(tenant, "node2", EPOCH + timedelta(seconds=2))
        cluster.expect_exact()
    assert moved.lost < moved.sent / 4, moved
    cluster.remove(tenant)
    for cidr in blocks:
        cluster.release(cidr)
    cluster.expect_exact()


def both(cluster: Cluster, target: Workload) -> list[Flow]:
    """From outside, and from a workload on another node."""
    return [(cluster.server, target), (workload(cluster, "w2").host, target)]
