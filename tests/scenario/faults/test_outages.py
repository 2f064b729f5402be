"""Parts that freeze, die together or come back changed, in the whole cluster; what is lost is counted."""

import os
import shutil
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from tests.scenario.faults import ON_THE_CLUSTER, long_only
from tests.scenario.harness import calico
from tests.scenario.harness.cluster import Cluster
from tests.scenario.harness.echoes import counted, no_echo_lost, reach_everywhere, workload
from tests.scenario.harness.program import kill_and_wait
from tests.scenario.harness.topology import gateway

pytestmark = [*ON_THE_CLUSTER, long_only]
FROZEN = 20.0
HERE = Path(__file__).parents[3]


def stop_all(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        os.kill(pid, number)


def test_agent_and_exabgp_killed_together(cluster: Cluster) -> None:
    """An upgrade that takes all along: graceful restart covers the time in which nobody speaks."""
    agent = cluster.agents["node1"]
    with no_echo_lost(cluster, "agent and ExaBGP killed together, back after 3 s"):
        processes = agent.exabgp_pids()
        agent.program.kill()
        for pid in processes:
            kill_and_wait(pid)
        cluster.claim("10.244.12.0/26", "node1")
        time.sleep(3.0)
        agent.restart()
        cluster.expect_sessions()
        cluster.expect_exact()
        cluster.release("10.244.12.0/26")
        cluster.expect_exact()


def test_an_agent_replaced_by_one_that_is_installed_elsewhere(cluster: Cluster, tmp_path: Path) -> None:
    """An upgrade beside the old version, and back: sessions and ExaBGP stay, with the program they run."""
    for package in ("agent", "bgpd", "ctl"):
        shutil.copytree(HERE / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    agent = cluster.agents["node1"]
    processes = agent.exabgp_pids()
    with no_echo_lost(cluster, "agent upgraded by one installed elsewhere, and back"):
        for place in (tmp_path, HERE):
            agent.program.stop()
            agent.environment = {"PYTHONPATH": str(place)}
            agent.restart()
            cluster.expect_sessions()
            cluster.expect_exact()
            assert agent.exabgp_pids() == processes
    agent.environment = None


def test_exabgp_frozen_for_less_than_the_hold_time(cluster: Cluster) -> None:
    """No session ends; what was declared meanwhile is told afterwards."""
    agents = [cluster.agents[name] for name in ("node1", "node3")]
    processes = [pid for agent in agents for pid in agent.exabgp_pids()]
    with no_echo_lost(cluster, f"ExaBGP of two nodes frozen for {FROZEN:.0f} s, hold time 90 s"):
        stop_all(processes, signal.SIGSTOP)
        cluster.claim("10.244.12.0/26", "node1")
        time.sleep(FROZEN)
        stop_all(processes, signal.SIGCONT)
        cluster.expect_exact()
        assert [pid for agent in agents for pid in agent.exabgp_pids()] == processes
        cluster.release("10.244.12.0/26")
        cluster.expect_exact()


def test_etcd_frozen(cluster: Cluster) -> None:
    """Longer than the nodes' leases (15 s): nobody is taken for dead because etcd slept."""
    with no_echo_lost(cluster, f"etcd frozen for {FROZEN:.0f} s"):
        cluster.etcd.program.signal(signal.SIGSTOP)
        time.sleep(FROZEN)
        cluster.etcd.program.signal(signal.SIGCONT)
        cluster.world.wait_until("etcd answering", cluster.etcd.healthy)
        cluster.claim("10.244.12.0/26", "node1")
        cluster.expect_exact()
        cluster.release("10.244.12.0/26")
        cluster.expect_exact()


def test_etcd_frozen_and_both_reflectors_dead_when_it_goes_on(cluster: Cluster) -> None:
    """All leases end at once, while nobody is there who could tell what leads to whom."""
    with no_echo_lost(cluster, f"etcd frozen for {FROZEN:.0f} s, both reflectors killed at its end"):
        cluster.etcd.program.signal(signal.SIGSTOP)
        time.sleep(FROZEN)
        for reflector in cluster.reflectors.values():
            reflector.program.kill()
        cluster.etcd.program.signal(signal.SIGCONT)
        cluster.world.wait_until("etcd answering", cluster.etcd.healthy)
        time.sleep(5.0)
        for reflector in cluster.reflectors.values():
            reflector.restart()
        cluster.expect_sessions()
        cluster.expect_exact()


def test_both_reflectors_killed_for_a_minute(cluster: Cluster) -> None:
    with no_echo_lost(cluster, "both reflectors killed for a minute"):
        for reflector in cluster.reflectors.values():
            reflector.program.kill()
        time.sleep(60.0)
        for reflector in cluster.reflectors.values():
            reflector.restart()
        cluster.expect_sessions()
        cluster.expect_exact()


@pytest.mark.parametrize("graceful", [True, False])
def test_a_router_restarted(cluster: Cluster, graceful: bool) -> None:
    """The router of rack 2 (BIRD): killed, its forwarding state preserved, or ended with its routes.

    What is lost with graceful restart is lost between the routers: BIRD tells FRR End-of-RIB before the node
    has told BIRD everything, and FRR lets go of what is stale.
    """
    third = workload(cluster, "w3")
    how = "with graceful restart" if graceful else "that takes its routes along"
    flows = [(cluster.server, third), (workload(cluster, "w1").host, third)]
    with counted(cluster.world, f"a router restarted {how}, 2 s", flows) as account:
        (cluster.bird.program.kill if graceful else cluster.bird.program.stop)()
        time.sleep(2.0)
        cluster.bird.restart(*(["-R"] if graceful else []))
        cluster.expect_sessions()
        cluster.expect_exact()
    assert account.lost < account.sent, account


@pytest.mark.parametrize("how", ["cable", "interface"])
def test_a_link_that_flaps(cluster: Cluster, how: str) -> None:
    """Node2's link is away for 2 s at a time: by its cable (carrier) or by the interface itself.

    With the interface Linux takes every route along; what is not the agent's is put back as the machine's
    network set-up would.
    """
    host, second = cluster.hosts["node2"], workload(cluster, "w2")
    reach_everywhere(cluster, second)
    what = f"the {how} of a node away for 2 s, three times"
    flows = [(cluster.server, second)]
    with no_echo_lost(cluster, "… the others", but="w2"), counted(cluster.world, what, flows) as account:
        for _ in range(3):
            if how == "cable":
                cluster.world.cable(host, "eth0", plugged=False)
                time.sleep(2.0)
                cluster.world.cable(host, "eth0", plugged=True)
            else:
                host.ip("link set eth0 down")
                time.sleep(2.0)
                host.ip("link set eth0 up", "addr replace fd10:1::12/64 dev eth0")
                for net in (2, 7):
                    host.ip(
                        f"route replace 10.{net}.0.0/24 via {gateway(1, 4)}",
                        f"route replace fd10:{net}::/64 via {gateway(1, 6)}",
                    )
                host.ip("route replace 169.254.1.1/32 dev eth0 scope link")
            reach_everywhere(cluster, second)
        cluster.expect_sessions()
        cluster.expect_exact()
    assert account.lost < account.sent, account


def test_a_node_whose_address_changes(cluster: Cluster) -> None:
    """Node2 gets another address beside the old one, is declared with it, loses the old; and back again."""
    second = workload(cluster, "w2")
    flows = [(cluster.server, second), (workload(cluster, "w1").host, second)]
    what = "the address of a node changed, and back"
    with no_echo_lost(cluster, "… the others", but="w2"), counted(cluster.world, what, flows) as account:
        for old, new in ((12, 14), (14, 12)):
            change_address(cluster, old, new)
        cluster.expect_sessions()
        cluster.expect_exact()
    assert account.lost < account.sent / 4, account


def change_address(cluster: Cluster, old: int, new: int) -> None:
    """As an operator does it, at the node and at its router."""
    host, world = cluster.hosts["node2"], cluster.world
    host.namespace.sysctl({"net.ipv4.conf.eth0.promote_secondaries": "1"})
    was, own = ((f"10.1.0.{number}", f"fd10:1::{number}") for number in (old, new))
    host.ip(f"addr add {own[0]}/24 dev eth0", f"addr add {own[1]}/64 dev eth0")
    router = ("configure terminal", "router bgp 64601")
    for version, place in zip((4, 6), own, strict=True):
        cluster.frr.command(
            *(*router, f"neighbor {place} remote-as 65000", f"neighbor {place} timers connect 2"),
            *(f"address-family ipv{version} unicast", f"neighbor {place} activate"),
        )
    cluster.etcd.put(calico.node("node2", f"{own[0]}/24", f"{own[1]}/64", labels={"rack": "rack1"}))
    world.wait_until("new sessions", lambda: all(cluster.frr.sessions()[place] for place in own), 60)
    ways = {"node1": own[0], "node3": gateway(2, 4)}
    for name, way in ways.items():
        view = partial(cluster.hosts[name].next_hops, "10.244.2.0/26")
        world.wait_equal(f"the way from {name}", view, frozenset({(way, "eth0")}))
    time.sleep(3.0)
    cluster.frr.command(*router, *(f"no neighbor {place} remote-as 65000" for place in was))
    world.wait_until("the router's way", lambda: cluster.frr.routes(4)["10.244.2.0/26"] == {own[0]})
    host.ip(f"addr del {was[0]}/24 dev eth0", f"addr del {was[1]}/64 dev eth0")
