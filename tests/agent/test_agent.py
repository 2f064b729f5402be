"""Whole agents in namespaces: from a datastore to another node's kernel, through restarts of every part."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import yaml

from tests.agent.cluster import ROOT, Cluster, Node
from tests.agent.ground import (
    eventually,
    exabgp_pid,
    is_running,
    kill_exabgp,
    needs_bird,
    needs_root,
    python,
    sh,
)

pytestmark = [needs_root, pytest.mark.scenario, *needs_bird]


async def test_workloads_appear_move_and_go_everywhere(cluster: Cluster) -> None:
    a, b = cluster.a, cluster.b
    cluster.block("a", "10.77.0.0/26")
    cluster.workload("a", "w1", "10.77.0.5")
    a.start()
    b.start()
    await eventually(lambda: set(b.routes()) == {"10.77.0.0/26"})
    assert b.routes()["10.77.0.0/26"]["gateway"] == "10.0.0.1"
    await eventually(lambda: set(a.routes()) == {"10.77.0.0/26", "10.77.0.5"})
    assert not [line for node in (a, b) for line in node.lines() if line["level"] == "error"]
    assert a.routes()["10.77.0.0/26"]["type"] == "blackhole"
    assert a.routes()["10.77.0.5"]["dev"] == "cali0"
    proxy = f"ip netns exec {a.inside} cat /proc/sys/net/ipv4/conf/cali0/proxy_arp"
    await eventually(lambda: sh(proxy).strip() == "1")
    cluster.workload("b", "w1", "10.77.0.5")  # moved: now borrowed from a's block
    await eventually(lambda: b.routes().get("10.77.0.5", {}).get("dev") == "cali0")
    await eventually(lambda: a.routes().get("10.77.0.5", {}).get("gateway") == "10.0.0.2")
    cluster.remove("w-w1")
    await eventually(lambda: set(a.routes()) == {"10.77.0.0/26"} and set(b.routes()) == {"10.77.0.0/26"})


async def test_an_agent_killed_and_replaced_touches_no_session_and_no_route(cluster: Cluster) -> None:
    a, b = cluster.a, cluster.b
    cluster.block("a", "10.77.0.0/26")
    cluster.block("b", "10.77.1.0/26")
    for n in range(4):
        cluster.workload("b", f"w{n}", f"10.77.1.{n}")
    sh(f"ip -n {a.inside} route add 10.99.0.0/24 via 10.0.0.9 proto static")
    a.start()
    b.start()
    await eventually(lambda: "10.77.1.0/26" in a.routes() and "10.77.0.0/26" in b.routes())
    await eventually(lambda: a.said("in sync") == 1)
    pid = exabgp_pid(a.run / "mesh")
    a.stop(signal.SIGKILL)
    cluster.block("a", "10.77.2.0/26")
    cluster.remove("b-b-10-77-1-0-26")
    await eventually(lambda: "10.77.1.0/26" not in b.routes())
    assert "10.77.1.0/26" in a.routes()  # nobody there to know
    a.start()
    await eventually(lambda: a.said("in sync") == 2)
    wanted = {"10.77.0.0/26", "10.77.2.0/26", "10.77.1.0", "10.77.1.1", "10.77.1.2", "10.77.1.3"}
    await eventually(lambda: set(a.routes()) == wanted)
    await eventually(lambda: "10.77.2.0/26" in b.routes())
    assert exabgp_pid(a.run / "mesh") == pid
    assert b.said("session down") == 0
    assert "10.99.0.0/24" in a.routes("proto static")


async def test_a_second_agent_waits_for_the_end_of_the_first_and_then_goes_on(cluster: Cluster) -> None:
    """They would end each other's ExaBGP; and one that waits and is told to withdraw withdraws nothing."""
    a, b = cluster.a, cluster.b
    cluster.block("b", "10.77.1.0/26")
    b.start()
    second, third = (Node(cluster.directory, name, a.inside, "10.0.0.1") for name in ("second", "third"))
    a.config["http"] = {"port": 9178}  # free for the next, once it is its turn
    second.config = third.config = a.config
    a.start()
    await eventually(lambda: "10.77.1.0/26" in a.routes())
    try:
        for more in (second, third):
            more.start()
            await eventually(
                partial(more.said_more, "another agent is running; this one waits for its end", 0)
            )
        third.stop(signal.SIGUSR2)
        cluster.block("b", "10.77.2.0/26")
        await eventually(lambda: "10.77.2.0/26" in a.routes())
        a.stop()
        await eventually(lambda: second.said("in sync") == 1)
    finally:
        for more in (second, third):
            more.stop(signal.SIGKILL)
    assert (second.said("exabgp adopted"), second.said("exabgp started"), third.said("exabgp adopted")) == (
        1,
        0,
        0,
    )
    assert b.said("session down") == 0
    assert "10.77.1.0/26" in a.routes()


async def test_exabgp_killed_is_recovered_and_no_route_is_missing_meanwhile(cluster: Cluster) -> None:
    a, b = cluster.a, cluster.b
    cluster.block("a", "10.77.0.0/26")
    cluster.block("b", "10.77.1.0/26")
    cluster.peer_with_bird()
    cluster.bird.start()
    a.start()
    b.start()
    both = {"10.77.0.0/26", "10.77.1.0/26", "192.0.2.0/24"}
    await eventually(lambda: set(a.routes()) == both and set(b.routes()) == both)
    await eventually(lambda: a.said("in sync") == 1)
    for run in a.run.iterdir():
        kill_exabgp(run)
    for _ in range(60):
        assert set(a.routes()) == both
        assert set(b.routes()) == both
        assert cluster.bird.routes("agent") == {"10.77.0.0/26": None}
        await asyncio.sleep(0.05)
    await eventually(lambda: a.said("session up") == 4 and b.said("session up") == 3)
    assert set(a.routes()) == both


def with_etcd(cluster: Cluster) -> subprocess.Popen[bytes]:
    """Have both nodes use a real etcd next to BIRD's machine; the declarations so far are written there."""
    url, peer = "http://10.0.0.3:2379", "http://127.0.0.1:2380"
    assert cluster.bird.inside is not None
    started = subprocess.Popen(
        ["ip", "netns", "exec", cluster.bird.inside, "etcd", "--name", "one", "--unsafe-no-fsync",
         "--data-dir", str(cluster.directory / "etcd"), "--listen-client-urls", url,
         "--advertise-client-urls", url, "--listen-peer-urls", peer, "--log-level", "error",
         "--initial-advertise-peer-urls", peer, "--initial-cluster", f"one={peer}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    for node in (cluster.a, cluster.b):
        node.config |= {"datastore": "etcd://10.0.0.3:2379", "leaseTtl": 2}
    command = [
        "ip", "netns", "exec", cluster.a.inside, sys.executable, "-m", "ctl", "apply",
        "--datastore", "etcd://10.0.0.3:2379", "-f", str(cluster.store),
    ]  # fmt: skip
    for _ in range(20):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return started
        time.sleep(0.3)
    started.kill()
    pytest.fail(f"etcd takes nothing: {done.stderr}")


@pytest.mark.peer("etcd")
async def test_a_dead_node_loses_its_routes_with_its_lease_unless_etcd_is_lost_as_well(
    cluster: Cluster,
) -> None:
    a, b = cluster.a, cluster.b
    cluster.block("b", "10.77.1.0/26")
    etcd = await asyncio.to_thread(with_etcd, cluster)
    try:
        a.start()
        b.start()
        await eventually(lambda: "10.77.1.0/26" in a.routes() and a.said("in sync") == 1)
        b.stop(signal.SIGKILL)
        await asyncio.sleep(4)  # more than the lease; but the session lives, and forwarding with it
        assert "10.77.1.0/26" in a.routes()
        kill_exabgp(b.run / "mesh")
        await eventually(lambda: "10.77.1.0/26" not in a.routes(), 10)  # no hold timer is that fast
        b.start()
        await eventually(lambda: "10.77.1.0/26" in a.routes())
        etcd.kill()
        await eventually(lambda: a.said("session up") == 2)
        b.stop(signal.SIGKILL)
        kill_exabgp(b.run / "mesh")
        await eventually(lambda: a.said("session down") == 2)
        await asyncio.sleep(4)
        assert "10.77.1.0/26" in a.routes()  # who is to say that it is dead?
    finally:
        etcd.kill()
        etcd.wait()


async def test_withdrawal_leaves_nothing_and_a_plain_end_leaves_everything(cluster: Cluster) -> None:
    a, b = cluster.a, cluster.b
    cluster.block("a", "10.77.0.0/26")
    a.start()
    b.start()
    await eventually(lambda: "10.77.0.0/26" in b.routes())
    a.stop(signal.SIGTERM)
    pid = exabgp_pid(a.run / "mesh")
    assert is_running(pid)
    assert "10.77.0.0/26" in b.routes()
    assert "10.77.0.0/26" in a.routes()
    a.start()
    await eventually(lambda: a.said("session up") == 2)
    a.stop(signal.SIGUSR2)
    await eventually(lambda: not b.routes())
    assert not a.routes()
    assert not is_running(pid)


WITHDRAWN_AT_ONCE = """
import asyncio, pathlib, sys
from agent.config import load
from agent.service import Service
service = Service(load(pathlib.Path(sys.argv[1])))
service.stop(withdraw=True)
asyncio.run(service.run())
"""


async def test_withdrawal_amid_a_move_to_another_protocol_number_leaves_no_route(cluster: Cluster) -> None:
    a = cluster.a
    a.run.mkdir()
    (a.run / "kernel.json").write_text("[[254, 179]]")
    sh(
        "for n in $(seq 0 39); do for m in $(seq 0 249); do "
        "echo route add 10.77.$n.$m via 10.0.0.9 metric 1024 proto 179; done; done"
        f" | ip -n {a.inside} -batch -"
    )
    path = cluster.directory / "a.yaml"
    await asyncio.to_thread(path.write_text, yaml.safe_dump({**a.config, "kernel": {"protocol": 85}}))
    with python(WITHDRAWN_AT_ONCE, str(path), inside=a.inside) as withdrawing:
        assert await asyncio.to_thread(withdrawing.wait, 60) == 0
    assert not a.routes()
    assert not a.routes("proto 85")
    assert not (a.run / "kernel.json").exists()


async def test_withdrawal_before_there_is_a_plan_ends_what_a_former_agent_left(cluster: Cluster) -> None:
    """The datastore may be lost; nothing may go on drawing traffic to a node without routes."""
    a = cluster.a
    cluster.block("a", "10.77.0.0/26")
    cluster.peer_with_bird()
    cluster.bird.start()
    a.start()
    await eventually(lambda: "10.77.0.0/26" in cluster.bird.routes("agent"))
    pid = exabgp_pid(a.run / "peer-10.0.0.3")
    a.stop(signal.SIGKILL)
    with python(WITHDRAWN_AT_ONCE, str(cluster.directory / "a.yaml"), inside=a.inside) as withdrawing:
        assert await asyncio.to_thread(withdrawing.wait, 60) == 0
    assert not a.routes()
    assert not is_running(pid)
    assert not cluster.bird.established("agent")


def announced(node: Node, there: bool) -> bool:
    return ("10.77.0.0/26" in node.routes()) == there


async def test_a_drained_node_announces_nothing_until_it_is_undrained(cluster: Cluster) -> None:
    a, b = cluster.a, cluster.b
    a.config["http"] = {"port": 9178}
    cluster.block("a", "10.77.0.0/26")
    a.start()
    b.start()
    await eventually(lambda: "10.77.0.0/26" in b.routes())
    for verb, there in (("drain", False), ("undrain", True)):
        address = f"http://127.0.0.1:9178/api/v1/{verb}"
        script = f"import urllib.request as r; r.urlopen(r.Request('{address}', method='POST'))"
        sh(f'ip netns exec {a.inside} {sys.executable} -c "{script}"')
        await eventually(partial(announced, b, there))
        assert "10.77.0.0/26" in a.routes()


async def test_a_server_that_only_learns_announces_nothing(cluster: Cluster) -> None:
    a, b = cluster.a, cluster.b
    b.config["learnOnly"] = True
    cluster.block("a", "10.77.0.0/26")
    cluster.block("b", "10.77.1.0/26")
    a.start()
    b.start()
    await eventually(lambda: "10.77.0.0/26" in b.routes())
    await eventually(lambda: a.said("in sync") == 1)
    assert "10.77.1.0/26" not in a.routes()


async def test_a_bad_new_configuration_is_refused_and_a_good_one_taken(cluster: Cluster) -> None:
    a, b = cluster.a, cluster.b
    a.start()
    b.start()
    await eventually(lambda: a.said("session up") == 1)
    path = cluster.directory / "a.yaml"
    await asyncio.to_thread(path.write_text, yaml.safe_dump({**a.config, "metricc": 1}))
    assert a.process is not None
    a.process.send_signal(signal.SIGHUP)
    await eventually(lambda: a.said("the new configuration is refused; the old one stays") == 1)
    changed = {**a.config, "staticRoutes": ["198.51.100.0/24"]}
    await asyncio.to_thread(path.write_text, yaml.safe_dump(changed))
    a.process.send_signal(signal.SIGHUP)
    await eventually(lambda: "198.51.100.0/24" in b.routes())
    elsewhere = {**changed, "exabgp": {"runDirectory": str(cluster.directory)}}
    await asyncio.to_thread(path.write_text, yaml.safe_dump(elsewhere))
    a.process.send_signal(signal.SIGHUP)
    await eventually(lambda: a.said("the new configuration is refused; the old one stays") == 2)
    unusable = {**changed, "http": {"address": "127.0.0.1", "port": 9178, "token": "/nowhere/token"}}
    await asyncio.to_thread(path.write_text, yaml.safe_dump({**unusable, "staticRoutes": []}))
    a.process.send_signal(signal.SIGHUP)
    await eventually(lambda: a.said("the new configuration cannot be used; the old one is back") == 1)
    await eventually(lambda: a.said("agent started") == 3)
    assert "198.51.100.0/24" in b.routes()
    assert b.said("session down") == 0


RELOADED = """
import asyncio, pathlib, sys, urllib.request, weakref
from agent.config import load
from agent.service import Service
path = pathlib.Path(sys.argv[1])
text = path.read_text()
async def main():
    service = Service(load(path), path=path)
    running = asyncio.create_task(service.run())
    former = []
    for number in range(3):
        while service.agent is None or any(each() is service.agent for each in former):
            await asyncio.sleep(0.1)
        while not service.agent.in_sync:
            await asyncio.sleep(0.1)
        await asyncio.sleep(1.0)  # a timer of its beginning knows it
        await asyncio.to_thread(urllib.request.urlopen, "http://127.0.0.1:9178/healthz")
        path.write_text(text + f"staticRoutes: [198.51.100.{number}/32]")
        former.append(weakref.ref(service.agent))
        service.reload()
    while any(each() is service.agent for each in former):
        await asyncio.sleep(0.1)
    print("left:", sum(each() is not None for each in former))
    service.stop()
    await running
asyncio.run(main())
"""


async def test_of_the_agent_before_a_reload_nothing_is_kept(cluster: Cluster) -> None:
    """Its routes, most of all; and nothing brings about that garbage of that age is collected."""
    a, b = cluster.a, cluster.b
    b.start()
    a.config["http"] = {"port": 9178}
    path, said = cluster.directory / "a.yaml", cluster.directory / "agents"
    await asyncio.to_thread(path.write_text, yaml.safe_dump(a.config))
    with python(RELOADED, str(path), inside=a.inside, output=said) as reloaded:
        assert await asyncio.to_thread(reloaded.wait, 60) == 0
    assert "left: 0" in (await asyncio.to_thread(said.read_text)).splitlines()


async def test_another_table_or_protocol_number_takes_the_routes_along_even_with_nobody_left_to_ask(
    cluster: Cluster,
) -> None:
    a, b = cluster.a, cluster.b
    b.config["leaseTtl"] = 600
    cluster.block("b", "10.77.1.0/26")
    cluster.block("a", "10.77.0.0/26")
    cluster.workload("a", "w", "10.77.0.5")
    a.start()
    b.start()
    everything = {"10.77.0.0/26", "10.77.0.5", "10.77.1.0/26"}
    await eventually(lambda: set(a.routes()) == everything)
    b.stop(signal.SIGKILL)
    kill_exabgp(b.run / "mesh")
    await eventually(lambda: a.said("session down") == 1)
    a.stop(signal.SIGKILL)
    cluster.remove("w-w")  # a former life's: to be swept, not to be left behind
    a.config["kernel"] = {"protocol": 85}
    a.start()
    await eventually(lambda: set(a.routes("proto 85")) == everything)
    assert not a.routes()
    a.config["kernel"] = {"protocol": 85, "table": 5077}
    await asyncio.to_thread((cluster.directory / "a.yaml").write_text, yaml.safe_dump(a.config))
    assert a.process is not None
    a.process.send_signal(signal.SIGHUP)
    await eventually(lambda: not a.routes("proto 85"))
    assert set(a.routes("table 5077")) == everything
    b.start()
    await eventually(lambda: set(a.routes("table 5077")) == {"10.77.0.0/26", "10.77.1.0/26"})
    a.stop(signal.SIGUSR2)
    assert not (a.run / "kernel.json").exists()


def route_between(cluster: Cluster) -> None:
    """Put b into another subnet, behind the machine BIRD otherwise runs on."""
    router, b = cluster.bird.inside, cluster.b
    assert router is not None
    sh(f"ip -n {router} addr add 10.0.9.3/24 dev eth0")
    sh(f"ip netns exec {router} sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'")
    sh(f"ip -n {b.inside} addr flush dev eth0 && ip -n {b.inside} addr add 10.0.9.2/24 dev eth0")
    sh(f"ip -n {b.inside} route add default via 10.0.9.3")
    sh(f"ip -n {cluster.a.inside} route add default via 10.0.0.3")
    b.config["ipv4"] = "10.0.9.2/24"


async def test_across_subnets_packets_take_the_next_router(cluster: Cluster) -> None:
    route_between(cluster)
    cluster.block("a", "10.77.0.0/26")
    cluster.a.start()
    cluster.b.start()
    await eventually(lambda: cluster.b.routes().get("10.77.0.0/26", {}).get("gateway") == "10.0.9.3")


def _is_node(path: Path, name: str) -> bool:
    document = yaml.safe_load(path.read_text())
    return (document.get("kind"), document.get("metadata", {}).get("name")) == ("Node", name)


async def test_across_subnets_a_pool_may_ask_for_vxlan(cluster: Cluster) -> None:
    route_between(cluster)
    a, b = cluster.a, cluster.b
    cluster.declare("pool", "IPPool", "p", {"cidr": "10.77.0.0/16", "vxlanMode": "CrossSubnet"})
    cluster.block("a", "10.77.0.0/26")
    sh(f"ip -n {a.inside} addr add 10.77.0.5/32 dev w0")
    b.config["kernel"] = {"compareEvery": 3600}
    a.start()
    b.start()
    await eventually(lambda: b.routes().get("10.77.0.0/26", {}).get("dev") == "vxlan.cairn")
    route = b.routes()["10.77.0.0/26"]
    assert (route["gateway"], route["flags"]) == ("10.0.0.1", ["onlink"])
    await eventually(lambda: "10.0.9.2" in sh(f"ip -n {a.inside} neigh show dev vxlan.cairn"))
    sh(f"ip netns exec {b.inside} ping -c 3 -i 0.2 -W 2 10.77.0.5")
    received = json.loads(sh(f"ip -n {a.inside} -j -s link show vxlan.cairn"))[0]["stats64"]["rx"]["packets"]
    assert received >= 3
    for harm in (
        "down",
        "down && ip -n {0} link set vxlan.cairn up",
        "down && ip -n {0} link del vxlan.cairn",
    ):
        sh(f"ip -n {b.inside} link set vxlan.cairn {harm.format(b.inside)}")
        await eventually(lambda: "10.0.0.1" in sh(f"ip -n {b.inside} neigh show dev vxlan.cairn || true"))
        await eventually(lambda: b.routes().get("10.77.0.0/26", {}).get("dev") == "vxlan.cairn")
        sh(f"ip netns exec {b.inside} ping -c 3 -i 0.2 -W 2 10.77.0.5")
    [own] = (path for path in cluster.store.rglob("*.yaml") if _is_node(path, "a"))
    file, spec = str(own.relative_to(cluster.store).with_suffix("")), {"bgp": {"ipv4Address": "10.0.0.1/24"}}
    cluster.declare(file, "Node", "a", spec)  # as an operator's manifest has it: without its tunnel's end
    await eventually(lambda: "vxlanTunnelMACAddr" in own.read_text())
    await eventually(lambda: b.routes().get("10.77.0.0/26", {}).get("dev") == "vxlan.cairn")
    b.stop(signal.SIGUSR2)
    assert "vxlan" not in sh(f"ip -n {b.inside} link")
    b.start()
    await eventually(lambda: b.routes().get("10.77.0.0/26", {}).get("dev") == "vxlan.cairn")
    cluster.declare("pool", "IPPool", "p", {"cidr": "10.77.0.0/16", "vxlanMode": "Never"})
    await eventually(lambda: b.routes().get("10.77.0.0/26", {}).get("gateway") == "10.0.9.3")
    await eventually(lambda: "vxlan" not in sh(f"ip -n {b.inside} link"))


async def test_an_interface_replaced_under_its_name_and_index_is_set_up_as_the_one_before(
    cluster: Cluster,
) -> None:
    a = cluster.a
    cluster.workload("a", "x", "10.77.0.5")
    cluster.block("a", "10.77.0.0/26")
    setting = f"ip netns exec {a.inside} cat /proc/sys/net/ipv4/conf/cali0/proxy_arp"
    a.start()
    await eventually(lambda: sh(setting) == "1\n")
    await eventually(lambda: "10.77.0.5" in a.routes())
    [link] = json.loads(sh(f"ip -n {a.inside} -j link show dev cali0"))
    again = f"cali0 index {link['ifindex']} type veth peer name w0"
    assert a.process is not None
    a.process.send_signal(signal.SIGSTOP)  # it looks when all is over
    sh(f"ip -n {a.inside} link del cali0 && ip -n {a.inside} link add {again}")
    sh(f"ip -n {a.inside} link set w0 up && ip -n {a.inside} link set cali0 up")
    a.process.send_signal(signal.SIGCONT)
    await eventually(lambda: sh(setting) == "1\n")
    await eventually(lambda: "10.77.0.5" in a.routes())


async def test_vxlan_for_ipv6_between_nodes_with_a_route_to_each_other(cluster: Cluster) -> None:
    """The kernel takes no IPv6 gateway, also onlink, to which another device has a route."""
    a, b = cluster.a, cluster.b
    for node, address in ((a, "fd10::1/64"), (b, "fd10::2/64")):
        sh(f"ip -n {node.inside} addr add {address} dev eth0 nodad")
        node.config["ipv6"] = address
    cluster.declare("pool6", "IPPool", "p6", {"cidr": "fd77::/48", "blockSize": 122, "vxlanMode": "Always"})
    block = {"node": "a", "cidr": "fd77::/122", "state": "confirmed"}
    cluster.declare("b-6", "BlockAffinity", "a-fd77---122", block)
    sh(f"ip -n {a.inside} addr add fd77::5/128 dev w0 nodad")
    a.start()
    b.start()
    await eventually(lambda: "dev vxlan6.cairn" in sh(f"ip -n {b.inside} -6 route show fd77::/122"))
    await eventually(lambda: "fe80::" in sh(f"ip -n {a.inside} -6 neigh show dev vxlan6.cairn nud permanent"))
    sh(f"ip netns exec {b.inside} ping -c 3 -i 0.2 -W 5 fd77::5")
    received = json.loads(sh(f"ip -n {a.inside} -j -s link show vxlan6.cairn"))[0]["stats64"]["rx"]["packets"]
    assert received >= 3
    assert not [line for line in b.lines() if line["event"] == "routes refused by the kernel"]


@pytest.mark.parametrize(("rp_filter", "inside"), [(2, None), (1, "10.77.{}.63")])
async def test_a_node_itself_reaches_workloads_behind_vxlan_whatever_looks_at_reverse_paths(
    cluster: Cluster, rp_filter: int, inside: str | None
) -> None:
    """Strictly looked at, with a tunnel's end in a pool, as Calico gives it."""
    a, b = cluster.a, cluster.b
    for number, node in enumerate((a, b)):
        if inside is not None:
            address = {"bgp": {"ipv4Address": node.config["ipv4"]}}
            tunnel = {"ipv4VXLANTunnelAddr": inside.format(number)}
            cluster.declare(f"node-{node.name}", "Node", node.name, {**address, **tunnel})
        for name in ("all", "default", "eth0"):
            path = f"/proc/sys/net/ipv4/conf/{name}/rp_filter"
            sh(f"ip netns exec {node.inside} sh -c 'echo {rp_filter} > {path}'")
        cluster.block(node.name, f"10.77.{number}.0/26")
    cluster.declare("pool", "IPPool", "p", {"cidr": "10.77.0.0/16", "blockSize": 26, "vxlanMode": "Always"})
    sh(f"ip -n {b.inside} addr add 10.77.1.5/32 dev w0")
    a.start()
    b.start()
    await eventually(lambda: a.routes().get("10.77.1.0/26", {}).get("dev") == "vxlan.cairn")
    await eventually(lambda: b.routes().get("10.77.0.0/26", {}).get("dev") == "vxlan.cairn")
    ping = ["ip", "netns", "exec", a.inside, "ping", "-c", "1", "-W", "1", "10.77.1.5"]
    await eventually(lambda: subprocess.run(ping, capture_output=True, check=False).returncode == 0)


async def test_why_a_tunnel_cannot_be_set_up_is_said_once(cluster: Cluster) -> None:
    """It is tried again every minute and whenever a node comes or goes."""
    a = cluster.a
    a.config["kernel"] = {"compareEvery": 0.1}
    sh(f"ip -n {a.inside} link add other type vxlan id 4096 dstport 4789 local 10.0.0.1")
    cluster.declare("pool", "IPPool", "p", {"cidr": "10.77.0.0/16", "blockSize": 26, "vxlanMode": "Always"})
    a.start()
    await eventually(lambda: a.said("a tunnel cannot be set up") > 0)
    await asyncio.sleep(1.0)
    assert a.said("a tunnel cannot be set up") == 1
    sh(f"ip -n {a.inside} link del other")
    await eventually(lambda: "vxlan.cairn" in sh(f"ip -n {a.inside} link"))
