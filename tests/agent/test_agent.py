"""Whole agents in namespaces: from a datastore to another node's kernel, through restarts of every part."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.agent.ground import (
    Bird,
    eventually,
    exabgp_pid,
    is_running,
    kill_exabgp,
    namespace,
    needs_bird,
    needs_root,
    sh,
    short_directory,
)

pytestmark = [needs_root, pytest.mark.scenario, *needs_bird]
ROOT = Path(__file__).parents[2]


class Node:
    """An agent in a namespace of its own."""

    def __init__(self, directory: Path, name: str, inside: str, address: str, **config: object) -> None:
        self.name, self.inside, self.directory = name, inside, directory
        self.run = directory / f"run-{name}"
        self.log = directory / f"{name}.log"
        self.config: dict[str, Any] = {
            "node": name, "datastore": str(directory / "store"), "ipv4": f"{address}/24",
            "exabgp": {"runDirectory": str(self.run)}, "syncWait": 8, **config,
        }  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None
        self.environment: dict[str, str] = {}

    def start(self) -> None:
        path = self.directory / f"{self.name}.yaml"
        path.write_text(yaml.safe_dump(self.config))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.inside, sys.executable, "-m", "agent", "--config", str(path)],
                cwd=ROOT, stdout=log, stderr=log, env={**os.environ, **self.environment},
            )  # fmt: skip

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(60)
            self.process = None

    def routes(self, what: str = "proto 84") -> dict[str, dict[str, Any]]:
        listed = json.loads(sh(f"ip -n {self.inside} -j route show {what}") or "[]")
        return {route["dst"]: route for route in listed}

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def said(self, event: str) -> int:
        return sum(line["event"] == event for line in self.lines())

    def said_more(self, event: str, than: int) -> bool:
        return self.said(event) > than


class Cluster:
    """Two nodes and a BIRD on one bridge; the store is a directory."""

    def __init__(self, directory: Path, names: dict[str, str]) -> None:
        self.directory = directory
        self.store = directory / "store"
        self.store.mkdir()
        self.a = Node(directory, "a", names["a"], "10.0.0.1")
        self.b = Node(directory, "b", names["b"], "10.0.0.2")
        (directory / "bird").mkdir()
        self.bird = Bird(directory / "bird", BIRD, names["t"])
        self.declare("pool", "IPPool", "p", {"cidr": "10.77.0.0/16", "blockSize": 26})

    def declare(self, file: str, kind: str, name: str, spec: dict[str, Any], **metadata: str) -> None:
        document = {
            "apiVersion": "projectcalico.org/v3",
            "kind": kind,
            "metadata": {"name": name, **metadata},
            "spec": spec,
        }
        path = self.store / f"{file}.new"
        path.write_text(yaml.safe_dump(document))
        path.replace(self.store / f"{file}.yaml")

    def workload(self, node: str, name: str, *addresses: str) -> None:
        spec = {
            "orchestrator": "k8s", "node": node, "pod": name, "endpoint": "eth0", "interfaceName": "cali0",
            "ipNetworks": [f"{address}/32" for address in addresses],
        }  # fmt: skip
        self.declare(f"w-{name}", "WorkloadEndpoint", f"{node}-k8s-{name}-eth0", spec, namespace="default")

    def remove(self, file: str) -> None:
        (self.store / f"{file}.yaml").unlink()

    def block(self, node: str, cidr: str) -> None:
        name = f"{node}-{cidr.replace('.', '-').replace('/', '-')}"
        spec = {"node": node, "cidr": cidr, "state": "confirmed"}
        self.declare(f"b-{name}", "BlockAffinity", name, spec)

    def peer_with_bird(self) -> None:
        self.declare("tor", "BGPPeer", "tor", {"peerIP": "10.0.0.3", "asNumber": 65100})


BIRD = """
router id 10.0.0.3;
log stderr all;
protocol device {}
protocol static { ipv4; route 192.0.2.0/24 blackhole; route 0.0.0.0/0 blackhole; }
template bgp node {
  local 10.0.0.3 as 65100; passive on; graceful restart on; error wait time 1, 2;
  ipv4 { import all; export where source = RTS_STATIC; };
}
protocol bgp agent from node { neighbor 10.0.0.1 as 64512; }
protocol bgp second from node { neighbor 10.0.0.2 as 64512; }
"""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(short_directory())
        names = {name: stack.enter_context(namespace(name)) for name in ("s", "a", "b", "t")}
        switch = names["s"]
        sh(f"ip -n {switch} link add name sw type bridge && ip -n {switch} link set sw up")
        for number, name in enumerate("abt", 1):
            inside = names[name]
            sh(f"ip -n {inside} link add eth0 type veth peer name {name}0 netns {switch}")
            sh(f"ip -n {switch} link set {name}0 master sw up && ip -n {inside} link set eth0 up")
            sh(f"ip -n {inside} addr add 10.0.0.{number}/24 dev eth0")
            sh(f"ip -n {inside} link add cali0 type veth peer name w0 && ip -n {inside} link set w0 up")
            sh(f"ip -n {inside} link set cali0 up")
        made = Cluster(directory, names)
        try:
            yield made
        finally:
            made.bird.stop(signal.SIGKILL)
            for node in (made.a, made.b):
                node.stop(signal.SIGKILL)
                for run in node.run.glob("*"):
                    kill_exabgp(run)


async def test_workloads_appear_move_and_go_everywhere(cluster: Cluster) -> None:
    a, b = cluster.a, cluster.b
    cluster.block("a", "10.77.0.0/26")
    cluster.workload("a", "w1", "10.77.0.5")
    a.start()
    b.start()
    await eventually(lambda: set(b.routes()) == {"10.77.0.0/26"})
    assert b.routes()["10.77.0.0/26"]["gateway"] == "10.0.0.1"
    await eventually(lambda: set(a.routes()) == {"10.77.0.0/26", "10.77.0.5"})
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


async def test_a_router_is_learned_from_but_not_its_default_route(cluster: Cluster) -> None:
    a = cluster.a
    cluster.block("a", "10.77.0.0/26")
    cluster.peer_with_bird()
    cluster.bird.start()
    a.start()
    await eventually(lambda: a.routes().get("192.0.2.0/24", {}).get("gateway") == "10.0.0.3")
    await eventually(lambda: a.said("in sync") == 1)
    assert "default" not in a.routes()
    await eventually(lambda: cluster.bird.routes("agent") == {"10.77.0.0/26": None})
    cluster.declare("tor", "BGPPeer", "tor", {"peerIP": "10.0.0.3", "asNumber": 65101})  # wrong
    await eventually(lambda: not cluster.bird.established("agent"))
    await eventually(lambda: "192.0.2.0/24" in a.routes() or a.said("session down") >= 1)
    cluster.peer_with_bird()
    await eventually(lambda: cluster.bird.established("agent"))
    cluster.remove("tor")
    await eventually(lambda: not (a.run / "peer-10.0.0.3" / "process.json").exists())
    await eventually(lambda: "192.0.2.0/24" not in a.routes())
    await eventually(lambda: cluster.bird.routes("agent") == {})


async def test_passwords_missing_wrong_and_right(cluster: Cluster) -> None:
    """A session without its password is not tried unprotected; a wrong one never comes up; others go on."""
    a, b = cluster.a, cluster.b
    secrets = cluster.directory / "secrets"
    a.config["secrets"] = {"directory": str(secrets)}
    cluster.block("b", "10.77.1.0/26")
    text = (cluster.directory / "bird" / "bird.conf").read_text()
    protected = text.replace("neighbor 10.0.0.1 as 64512;", 'neighbor 10.0.0.1 as 64512; password "s3cret";')
    await asyncio.to_thread((cluster.directory / "bird" / "bird.conf").write_text, protected)
    password = {"secretKeyRef": {"name": "bgp", "key": "tor-1"}}
    spec = {"peerIP": "10.0.0.3", "asNumber": 65100, "password": password}
    cluster.declare("tor", "BGPPeer", "tor", spec)
    cluster.bird.start()
    a.start()
    b.start()
    await eventually(lambda: "10.77.1.0/26" in a.routes())
    problem = next(line for line in a.lines() if line["event"] == "a session cannot be set up")
    assert "tor-1" in problem["reason"]
    assert "CAIRN_SECRET_BGP_TOR_1 is not set" in problem["reason"]
    a.stop()
    (secrets / "bgp").mkdir(parents=True)
    await asyncio.to_thread((secrets / "bgp" / "tor-1").write_text, "wrong\n")
    a.start()
    await eventually(lambda: a.said("exabgp started") == 2)
    await asyncio.sleep(3)
    assert not cluster.bird.established("agent")
    assert "10.77.1.0/26" in a.routes()
    await asyncio.to_thread((secrets / "bgp" / "tor-1").write_text, "s3cret\n")
    await eventually(lambda: cluster.bird.established("agent"))  # changed live, it begins its session anew
    ended = [line for node in (a, b) for line in node.lines() if line["event"] == "session down"]
    assert ended == []
    a.stop()
    (secrets / "bgp" / "tor-1").unlink()
    a.environment["CAIRN_SECRET_BGP_TOR_1"] = "s3cret"
    a.start()
    await eventually(lambda: cluster.bird.established("agent"))
    await eventually(lambda: "192.0.2.0/24" in a.routes())
    assert b.said("session down") == 0
    logs = a.log.read_text()
    assert "s3cret" not in logs
    assert "wrong" not in logs


async def test_a_peer_declared_otherwise_gets_another_exabgp_and_nothing_is_missing_meanwhile(
    cluster: Cluster,
) -> None:
    """That its session ends is our doing: the peer has lost nothing, whatever its restart would mean."""
    a = cluster.a
    cluster.block("a", "10.77.0.0/26")
    cluster.peer_with_bird()
    cluster.bird.start()
    a.start()
    await eventually(lambda: "192.0.2.0/24" in a.routes())
    await eventually(lambda: "10.77.0.0/26" in cluster.bird.routes("agent"))
    cluster.declare("tor", "BGPPeer", "tor", {"peerIP": "10.0.0.3", "asNumber": 65100, "keepaliveTime": "9s"})
    while a.said("session up") != 2:
        assert "192.0.2.0/24" in a.routes()
        assert "10.77.0.0/26" in cluster.bird.routes("agent"), "graceful restart keeps it"
        await asyncio.sleep(0.02)
    assert len(list(a.run.glob("*/process.json"))) == 1
    assert (a.said("session down"), a.said("session up")) == (1, 2)
    since = cluster.bird.established_since("agent")
    text = (cluster.directory / "bird" / "bird.conf").read_text()
    without = text.replace("route 192.0.2.0/24 blackhole;", "")
    await asyncio.to_thread((cluster.directory / "bird" / "bird.conf").write_text, without)
    cluster.bird.ask("configure")
    await eventually(lambda: "192.0.2.0/24" not in a.routes())
    assert set(cluster.bird.routes("agent")) == {"10.77.0.0/26"}
    assert cluster.bird.established_since("agent") == since


async def test_a_peer_of_another_name_or_declared_for_this_node_alone_keeps_its_session(
    cluster: Cluster,
) -> None:
    """What does not touch the wire does not touch ExaBGP, not even when the next agent takes it over."""
    a = cluster.a
    cluster.peer_with_bird()
    cluster.bird.start()
    a.start()
    await eventually(lambda: "192.0.2.0/24" in a.routes())
    since = cluster.bird.established_since("agent")
    spec = {"peerIP": "10.0.0.3", "asNumber": 65100}
    cluster.declare("tor", "BGPPeer", "rack-router", spec)
    cluster.block("a", "10.77.0.0/26")
    await eventually(lambda: "10.77.0.0/26" in cluster.bird.routes("agent"))
    cluster.declare("tor", "BGPPeer", "rack-router", {**spec, "node": "a"})
    cluster.block("a", "10.77.1.0/26")
    await eventually(lambda: "10.77.1.0/26" in cluster.bird.routes("agent"))
    a.stop()
    a.start()
    await eventually(lambda: a.said("in sync") == 2)
    cluster.block("a", "10.77.2.0/26")
    await eventually(lambda: "10.77.2.0/26" in cluster.bird.routes("agent"))
    assert (a.said("exabgp started"), a.said("exabgp adopted"), a.said("session down")) == (1, 1, 0)
    assert cluster.bird.established_since("agent") == since
    assert "192.0.2.0/24" in a.routes()


async def test_a_mesh_becomes_declared_peers_and_a_mesh_again(cluster: Cluster) -> None:
    """The same addresses, from one ExaBGP to another, while it has other reloads to do."""
    a, b = cluster.a, cluster.b
    cluster.block("a", "10.77.0.0/26")
    cluster.block("b", "10.77.1.0/26")
    a.start()
    b.start()
    await eventually(lambda: "10.77.1.0/26" in a.routes() and "10.77.0.0/26" in b.routes())
    for extra in ("10.0.0.21", "10.0.0.22"):  # reloads under way
        cluster.declare(
            f"n-{extra}", "Node", extra.replace(".", "-"), {"bgp": {"ipv4Address": f"{extra}/24"}}
        )
        await asyncio.sleep(0.05)
    cluster.declare("nodes", "BGPPeer", "nodes", {"peerSelector": "all()"})
    cluster.declare("bgp", "BGPConfiguration", "default", {"nodeToNodeMeshEnabled": False})

    def explicit() -> int:  # the one that waits shares a process
        return sum(len(list(node.run.glob("peer-*/process.json"))) for node in (a, b))

    await eventually(lambda: explicit() > 0)
    cluster.block("a", "10.77.2.0/26")
    cluster.remove("b-b-10-77-1-0-26")
    await eventually(lambda: {"10.77.0.0/26", "10.77.2.0/26"} == set(b.routes()))
    await eventually(lambda: {"10.77.0.0/26", "10.77.2.0/26"} == set(a.routes()))
    cluster.remove("nodes")
    cluster.declare("bgp", "BGPConfiguration", "default", {"nodeToNodeMeshEnabled": True})
    await eventually(lambda: explicit() == 0)
    cluster.block("b", "10.77.3.0/26")
    cluster.remove("b-a-10-77-2-0-26")
    await eventually(lambda: {"10.77.0.0/26", "10.77.3.0/26"} == set(b.routes()))
    await eventually(lambda: {"10.77.0.0/26", "10.77.3.0/26"} == set(a.routes()))


async def test_the_next_agent_learns_also_from_a_peer_that_says_nothing_twice(cluster: Cluster) -> None:
    """Without route refresh only a session that begins anew tells what the last agent knew."""
    a = cluster.a
    cluster.block("a", "10.77.0.0/26")
    path = cluster.directory / "bird" / "bird.conf"
    text = path.read_text().replace("passive on;", "passive on; enable route refresh off;")
    await asyncio.to_thread(path.write_text, text)
    cluster.peer_with_bird()
    cluster.bird.start()
    a.start()
    await eventually(lambda: "192.0.2.0/24" in a.routes())
    await eventually(lambda: a.said("in sync") == 1)
    a.stop()
    a.start()
    await eventually(lambda: a.said("in sync") == 2)
    await asyncio.sleep(1.0)  # what is swept is swept now
    assert "192.0.2.0/24" in a.routes()
    await eventually(lambda: "10.77.0.0/26" in cluster.bird.routes("agent"))


async def test_a_lost_peer_that_is_the_last_leaves_its_routes(cluster: Cluster) -> None:
    """Fail static: with no session left at all, forwarding goes on."""
    a, b = cluster.a, cluster.b
    b.config["leaseTtl"] = 600  # a lease that runs out meanwhile would make b a dead node
    cluster.block("b", "10.77.1.0/26")
    a.start()
    b.start()
    await eventually(lambda: "10.77.1.0/26" in a.routes())
    b.stop(signal.SIGKILL)
    kill_exabgp(b.run / "mesh")
    await eventually(lambda: a.said("session down") == 1)
    await asyncio.sleep(2)
    assert "10.77.1.0/26" in a.routes()
    b.start()
    await eventually(lambda: a.said("session up") == 2)
    assert "10.77.1.0/26" in a.routes()


async def test_an_agent_started_while_only_a_router_talks_keeps_what_the_lost_peers_told(
    cluster: Cluster,
) -> None:
    """Fail static goes on over a restart: a router of another AS cannot tell what they did."""
    a, b = cluster.a, cluster.b
    a.config["syncWait"], b.config["leaseTtl"] = 2, 600
    cluster.block("b", "10.77.1.0/26")
    cluster.peer_with_bird()
    cluster.bird.start()
    a.start()
    b.start()
    await eventually(lambda: a.routes().keys() == {"10.77.1.0/26", "192.0.2.0/24"} and a.said("in sync") == 1)
    b.stop(signal.SIGKILL)
    for run in b.run.glob("*"):
        kill_exabgp(run)
    await eventually(lambda: a.said("session down") == 1)
    a.stop(signal.SIGKILL)
    cluster.remove("b-b-10-77-1-0-26")
    a.start()
    await eventually(lambda: a.said("no session came about") == 1)  # after syncWait
    await asyncio.sleep(2)
    assert a.routes().keys() == {"10.77.1.0/26", "192.0.2.0/24"}
    b.start()
    await eventually(lambda: a.said("in sync") == 2)
    await eventually(lambda: a.routes().keys() == {"192.0.2.0/24"})


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


async def test_across_subnets_a_pool_may_ask_for_vxlan(cluster: Cluster) -> None:
    route_between(cluster)
    a, b = cluster.a, cluster.b
    cluster.declare("pool", "IPPool", "p", {"cidr": "10.77.0.0/16", "vxlanMode": "CrossSubnet"})
    cluster.block("a", "10.77.0.0/26")
    sh(f"ip -n {a.inside} addr add 10.77.0.5/32 dev w0")
    a.start()
    b.start()
    await eventually(lambda: b.routes().get("10.77.0.0/26", {}).get("dev") == "vxlan.cairn")
    route = b.routes()["10.77.0.0/26"]
    assert (route["gateway"], route["flags"]) == ("10.0.0.1", ["onlink"])
    await eventually(lambda: "10.0.9.2" in sh(f"ip -n {a.inside} neigh show dev vxlan.cairn"))
    sh(f"ip netns exec {b.inside} ping -c 3 -i 0.2 -W 2 10.77.0.5")
    received = json.loads(sh(f"ip -n {a.inside} -j -s link show vxlan.cairn"))[0]["stats64"]["rx"]["packets"]
    assert received >= 3
    cluster.declare("pool", "IPPool", "p", {"cidr": "10.77.0.0/16", "vxlanMode": "Never"})
    await eventually(lambda: b.routes().get("10.77.0.0/26", {}).get("gateway") == "10.0.9.3")
    await eventually(lambda: "vxlan" not in sh(f"ip -n {b.inside} link"))
