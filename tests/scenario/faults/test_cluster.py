"""The whole way, for real: what is written to etcd reaches every kernel and router; no fault drops a packet.

One running cluster (see ``harness.topology``) serves all tests of this folder; each leaves it exact. Through
each fault an echo runs every 10 ms, IPv4 and IPv6: from the server behind the FRR router, and from workload
to workload within a rack and across racks.
"""

import signal
import time
from functools import partial

import pytest

from tests.scenario.faults import ON_THE_CLUSTER
from tests.scenario.harness import calico
from tests.scenario.harness.cluster import Cluster
from tests.scenario.harness.echoes import no_echo_lost, reach_everywhere, workload
from tests.scenario.harness.gobgp import GoBgp
from tests.scenario.harness.openbgpd import OpenBgpd
from tests.scenario.harness.program import command_line, kill_and_wait
from tests.scenario.harness.topology import ASN, NODES, RACK, REFLECTORS, address, gateway
from tests.scenario.harness.workload import Workload
from tests.scenario.harness.world import Host

pytestmark = ON_THE_CLUSTER


def test_a_workload_put_into_etcd_answers_everywhere_moves_and_goes(cluster: Cluster) -> None:
    cluster.claim("10.244.11.64/26", "node1")
    cluster.claim("fd00:244:0:b::/122", "node1")
    web = Workload(cluster.world, "web", "10.244.11.70", "fd00:244:0:b::7")
    cluster.add(web, "node1")
    cluster.expect_exact()
    reach_everywhere(cluster, web)

    cluster.move(web, "node3")  # its addresses stay in node1's blocks: node3 announces them as host routes
    cluster.expect_exact()
    reach_everywhere(cluster, web)

    cluster.remove(web)
    cluster.expect_exact()
    cluster.release("10.244.11.64/26")
    cluster.release("fd00:244:0:b::/122")
    cluster.expect_exact()
    for source in (cluster.server, workload(cluster, "w2").host):
        assert not source.pings("10.244.11.70", wait=0.5)


@pytest.mark.parametrize("name", REFLECTORS)
def test_a_reflector_killed_costs_no_echo(cluster: Cluster, name: str) -> None:
    reflector = cluster.reflectors[name]
    late = Workload(cluster.world, f"late{name}", f"10.244.2.{20 + RACK[name]}")
    cluster.claim("10.244.14.0/26", "node2")
    cluster.expect_exact()
    with no_echo_lost(cluster, f"reflector {name} killed, changes meanwhile, restarted"):
        reflector.program.kill()
        time.sleep(1.0)
        cluster.add(late, "node2")  # the other reflector carries every change on
        cluster.release("10.244.14.0/26")
        cluster.claim("10.244.15.0/26", "node3")
        cluster.expect_exact()
        reach_everywhere(cluster, late)
        reflector.restart()
        cluster.expect_sessions()
        cluster.remove(late)
        cluster.release("10.244.15.0/26")
        cluster.expect_exact()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_agent_killed_and_restarted_costs_no_echo_and_leaves_nothing_behind(
    cluster: Cluster, number: signal.Signals
) -> None:
    """ExaBGP outlives it; it catches up with what changed; foreign routes stay, and none is there twice."""
    agent = cluster.agents["node1"]
    node = agent.host
    strangers = ("198.51.100.0/24 via 10.1.0.1", "10.244.77.0/26 via 10.1.0.1 proto 99 metric 7")
    node.ip(*(f"route add {stranger}" for stranger in strangers))
    foreign = [route for route in node.kernel_routes() if route.destination in " ".join(strangers)]
    assert len(foreign) == 2
    cluster.claim("10.244.16.0/26", "node3")
    lost = Workload(cluster.world, f"lost{number:d}", f"10.244.1.{30 + number}")
    late = Workload(cluster.world, f"late{number:d}", f"10.244.1.{20 + number}")
    cluster.add(lost, "node1")
    cluster.ignored.update(route.destination for route in foreign)
    cluster.expect_exact()
    processes = agent.exabgp_pids()
    assert processes
    with no_echo_lost(cluster, f"agent ended by {number.name}, changes meanwhile, replaced"):
        agent.program.signal(number)
        agent.program.wait(60.0)
        cluster.claim("10.244.12.0/26", "node1")
        cluster.claim("10.244.17.0/26", "node3")
        cluster.release("10.244.16.0/26")
        cluster.add(late, "node1")
        cluster.remove(lost)
        time.sleep(2.0)
        assert agent.exabgp_pids() == processes, "ExaBGP has to outlive its agent"
        agent.restart()
        cluster.expect_exact()
        assert agent.exabgp_pids() == processes, "and to be adopted by the next one"
        cluster.remove(late)
        cluster.release("10.244.12.0/26")
        cluster.release("10.244.17.0/26")
        cluster.expect_exact()
    assert [route for route in node.kernel_routes() if route.destination in cluster.ignored] == foreign
    node.ip(*(f"route del {stranger}" for stranger in strangers))
    cluster.ignored.clear()


@pytest.mark.parametrize("name", ["node1", "node3"])
def test_exabgp_killed_costs_no_echo(cluster: Cluster, name: str) -> None:
    """Graceful restart: routers (of node1 FRR, of node3 BIRD) and reflectors keep its routes, the agent
    keeps theirs.
    """
    agent = cluster.agents[name]
    before = agent.exabgp_pids()
    assert before
    with no_echo_lost(cluster, f"ExaBGP of {name} killed"):
        for pid in before:
            kill_and_wait(pid)
        cluster.world.wait_until(
            "all of ExaBGP started again", lambda: len(agent.exabgp_pids()) == len(before)
        )
        assert not any(command_line(pid) for pid in before)
        cluster.expect_sessions()
        cluster.expect_exact()
        time.sleep(3.0)  # stale routes would be swept about now
        cluster.expect_exact()


def test_etcd_away_for_20_seconds_and_compacted_meanwhile(cluster: Cluster) -> None:
    """Forwarding goes on; afterwards the state is exact, also what was deleted in a gap nobody can replay."""
    doomed = Workload(cluster.world, "doomed", "10.244.2.60")
    cluster.add(doomed, "node2")
    cluster.claim("10.244.18.0/26", "node3")
    cluster.expect_exact()
    before = {name: cluster.kernel(name, 4) for name in NODES}
    with no_echo_lost(cluster, "etcd away for 20 s, compacted meanwhile"):
        started = time.monotonic()
        cluster.etcd.program.kill()
        time.sleep(12.0)
        # etcd comes back where the cluster cannot see it, changes, and forgets how it did.
        cluster.hosts["tor1"].ip("link set lan7 down")
        cluster.etcd.restart()
        cluster.remove(doomed)
        cluster.release("10.244.18.0/26")
        cluster.claim("10.244.19.0/26", "node1")
        cluster.etcd.compact()
        assert {name: cluster.kernel(name, 4) for name in NODES} == before | {
            "node2": {dst: via for dst, via in before["node2"].items() if dst != "10.244.2.60/32"}
        }, "nothing may change on what nobody could hear (the removed wire takes its route along)"
        time.sleep(max(0.0, started + 20.0 - time.monotonic()))
        cluster.hosts["tor1"].ip("link set lan7 up", "addr replace fd10:7::1/64 dev lan7")
        cluster.expect_exact()
    cluster.release("10.244.19.0/26")


@pytest.mark.peer("gobgp")
@pytest.mark.peer("openbgpd")
def test_gobgp_and_openbgpd_exchange_routes_with_the_nodes_as_clients_of_the_reflectors(
    cluster: Cluster,
) -> None:
    world = cluster.world
    places = {"gobgp": (1, 31), "openbgpd": (2, 32)}
    hosts: dict[str, Host] = {}
    for name, (rack, number) in places.items():
        host = hosts[name] = world.host(name)
        own = {4: f"10.{rack}.0.{number}", 6: f"fd10:{rack}::{number}"}
        world.attach(f"rack{rack}", host, "eth0", f"{own[4]}/24", f"{own[6]}/64")
        host.ip(*(f"route add default via {gateway(rack, version)}" for version in (4, 6)))
        for version in (4, 6):
            prefix = f"10.9{rack}.0.0/24" if version == 4 else f"fd9{rack}::/64"
            cluster.declared.foreign[prefix] = rack, own[version]
            cluster.etcd.put(
                calico.bgp_peer(
                    f"{name}-ipv{version}",
                    nodeSelector="has(route-reflector)",
                    peerIP=own[version],
                    asNumber=ASN,
                )
            )
    sessions = [(address(name, version), version) for name in REFLECTORS for version in (4, 6)]
    gobgp = GoBgp(hosts["gobgp"], _gobgp_configuration("10.1.0.31", sessions))
    openbgpd = OpenBgpd(hosts["openbgpd"], _openbgpd_configuration("10.2.0.32", "fd10:2::32", sessions))
    world.wait_until("GoBGP answering", lambda: gobgp.sessions() or True)
    gobgp.announce("10.91.0.0/24", "10.1.0.31")
    gobgp.announce("fd91::/64", "fd10:1::31")
    everyone = {peer: True for peer, _ in sessions}
    world.wait_equal("GoBGP's sessions", gobgp.sessions, everyone, 90)
    world.wait_equal("OpenBGPD's sessions", openbgpd.sessions, everyone, 90)
    cluster.expect_exact()
    for version in (4, 6):
        nodes = {
            prefix: frozenset({address(node, version)}) for prefix, node in cluster.announced(version).items()
        }
        for daemon, other in ((gobgp, 2), (openbgpd, 1)):
            others = {
                prefix: frozenset({next_hop})
                for prefix, (rack, next_hop) in cluster.declared.foreign.items()
                if rack == other and (":" in prefix) == (version == 6)
            }
            world.wait_equal(
                f"IPv{version} routes of {daemon.host.name}", partial(daemon.routes, version), nodes | others
            )

    gobgp.withdraw("10.91.0.0/24", "10.1.0.31")
    gobgp.withdraw("fd91::/64", "fd10:1::31")
    del cluster.declared.foreign["10.91.0.0/24"], cluster.declared.foreign["fd91::/64"]
    cluster.expect_exact()
    openbgpd.program.stop()
    cluster.declared.foreign.clear()
    for name in places:
        cluster.etcd.delete(*calico.bgp_peer(f"{name}-ipv4"), *calico.bgp_peer(f"{name}-ipv6"))
    cluster.expect_exact()
    # The reflector that follows the datastore lets go of it; the other takes anybody of its prefixes.
    left = {peer: peer not in (address("rr1", 4), address("rr1", 6)) for peer in everyone}
    world.wait_equal("GoBGP's sessions", gobgp.sessions, left)
    gobgp.program.stop()


def _gobgp_configuration(router_id: str, sessions: list[tuple[str, int]]) -> str:
    peers = "".join(
        f"""
  - config: {{neighbor-address: "{peer}", peer-as: {ASN}}}
    timers: {{config: {{connect-retry: 2, idle-hold-time-after-reset: 2}}}}
    afi-safis: [{{config: {{afi-safi-name: ipv{version}-unicast}}}}]"""
        for peer, version in sessions
    )
    return f"global: {{config: {{as: {ASN}, router-id: {router_id}}}}}\nneighbors:{peers}\n"


def _openbgpd_configuration(ipv4: str, ipv6: str, sessions: list[tuple[str, int]]) -> str:
    peers = "".join(
        f"neighbor {peer} {{\n remote-as {ASN}\n local-address {ipv4 if version == 4 else ipv6}\n"
        f" announce IPv{version} unicast\n announce IPv{10 - version} none\n}}\n"
        for peer, version in sessions
    )
    return (
        f"AS {ASN}\nrouter-id {ipv4}\nnexthop qualify via default\n"
        f"network 10.92.0.0/24\nnetwork fd92::/64\n{peers}"
        "allow from any\nallow to any\n"
    )
