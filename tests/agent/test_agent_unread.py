"""What an agent that begins cannot read makes no wrong route, and takes away none that is there."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal

import pytest

from bgpd.render.exabgp import addresses_of
from tests.agent.cluster import Cluster
from tests.agent.ground import eventually, exabgp_pid, needs_bird, needs_root, sh
from tests.agent.test_agent_peers import in_one_mesh, join

pytestmark = [needs_root, pytest.mark.scenario, *needs_bird]
LATER = {"cidr": "10.77.0.0/16", "blockSize": 26, "disableBGPExport": True, "vxlanMode": "Sometimes"}


async def test_a_pool_that_cannot_be_read_lets_no_block_out(cluster: Cluster) -> None:
    a, bird = cluster.a, cluster.bird
    cluster.block("a", "10.77.0.0/26")
    cluster.block("a", "10.78.0.0/26")
    cluster.peer_with_bird()
    cluster.declare("pool", "IPPool", "p", LATER)
    bird.start()
    a.start()
    await eventually(lambda: a.said("no plan can be made; the last one stays") == 1, 20)
    await asyncio.sleep(1)
    assert bird.routes("agent") == {}
    cluster.declare("pool", "IPPool", "p", {**LATER, "vxlanMode": "Never"})
    await eventually(lambda: set(bird.routes("agent")) == {"10.78.0.0/26"})


async def test_a_pool_that_comes_and_cannot_be_read_lets_no_new_block_out(cluster: Cluster) -> None:
    a, bird = cluster.a, cluster.bird
    cluster.block("a", "10.77.0.0/26")
    cluster.block("a", "10.79.0.0/26")  # of a pool that is no more
    cluster.peer_with_bird()
    bird.start()
    a.start()
    before = {"10.77.0.0/26", "10.79.0.0/26"}
    await eventually(lambda: set(bird.routes("agent")) == before, 20)
    later = {**LATER, "cidr": "10.78.0.0/16"}
    cluster.declare("later", "IPPool", "later", later)
    await eventually(lambda: a.said("a resource cannot be read") == 1, 20)
    cluster.block("a", "10.78.0.0/26")
    cluster.block("a", "10.77.0.64/26")
    await eventually(lambda: "10.77.0.64/26" in bird.routes("agent"), 20)
    await asyncio.sleep(1)
    assert set(bird.routes("agent")) == before | {"10.77.0.64/26"}
    cluster.declare("later", "IPPool", "later", {**later, "vxlanMode": "Never", "disableBGPExport": False})
    await eventually(lambda: "10.78.0.0/26" in bird.routes("agent"), 20)


async def test_an_own_block_that_cannot_be_read_stays_announced(cluster: Cluster) -> None:
    a, bird = cluster.a, cluster.bird
    cluster.block("a", "10.77.0.0/26")
    cluster.peer_with_bird()
    bird.start()
    a.start()
    await eventually(lambda: "10.77.0.0/26" in bird.routes("agent") and "192.0.2.0/24" in a.routes())
    await eventually(lambda: a.said("in sync") == 1)
    since = bird.established_since("agent")
    a.stop()
    name, spec = "a-10-77-0-0-26", {"node": "a", "cidr": "10.77.0.0/26"}
    cluster.declare(f"b-{name}", "BlockAffinity", name, {**spec, "state": "kept"})
    a.start()
    await eventually(lambda: a.said("no plan can be made; the last one stays") == 1, 20)
    await asyncio.sleep(2)
    assert "10.77.0.0/26" in bird.routes("agent")
    assert {"10.77.0.0/26", "192.0.2.0/24"} <= set(a.routes())
    cluster.block("a", "10.77.0.0/26")
    await eventually(lambda: a.said("in sync") == 2, 30)
    assert "10.77.0.0/26" in bird.routes("agent")
    assert bird.established_since("agent") == since


@pytest.mark.parametrize("repaired", [True, False])
async def test_a_node_of_the_mesh_that_cannot_be_read_keeps_its_session(
    cluster: Cluster, repaired: bool
) -> None:
    """The shared ExaBGP has it still after a reload, and the kernel its routes."""
    a, bird = cluster.a, cluster.bird
    a.config |= {"syncWait": 2, "http": {"port": 9178}}
    cluster.b.start()
    await in_one_mesh(cluster)
    join(cluster, "10.0.0.20")  # nobody is there
    configured = a.run / "mesh" / "exabgp.conf"
    await eventually(lambda: "10.0.0.20" in addresses_of(configured.read_text()) and a.said("in sync") == 1)
    since, pid = bird.established_since(), exabgp_pid(a.run / "mesh")
    a.stop()
    later = {"bgp": {"ipv4Address": "10.0.0.3/24", "asNumber": "all"}}
    cluster.declare("n-10.0.0.3", "Node", "10-0-0-3", later)
    join(cluster, "10.0.0.21")
    cluster.block("b", "10.77.2.0/26")
    a.start()
    await eventually(lambda: "10.0.0.21" in addresses_of(configured.read_text()), 20)
    await eventually(lambda: a.said("in sync") == 2 and "10.77.2.0/26" in a.routes(), 30)
    await asyncio.sleep(2)
    told = json.loads(sh(f"ip netns exec {a.inside} curl -s http://127.0.0.1:9178/api/v1/status"))
    assert told["healthy"]
    assert "what cannot be read counts as it was last, if it was: n-10.0.0.3.yaml:" in told["reason"]
    assert a.said("a session is left alone: its peer may be one that cannot be read") >= 1
    assert "192.0.2.0/24" in a.routes()
    assert (bird.established_since(), exabgp_pid(a.run / "mesh")) == (since, pid)
    assert set(bird.routes()) == {"10.77.0.0/26"}
    cluster.block("a", "10.77.1.0/26")
    if repaired:
        join(cluster, "10.0.0.3")
        while "10.77.1.0/26" not in bird.routes():
            assert "192.0.2.0/24" in a.routes()
            await asyncio.sleep(0.01)
        await asyncio.sleep(3)
        assert "192.0.2.0/24" in a.routes()
        assert (bird.established_since(), exabgp_pid(a.run / "mesh")) == (since, pid)
    else:
        cluster.remove("n-10.0.0.3")
        await eventually(lambda: not bird.established() and "192.0.2.0/24" not in a.routes(), 30)
        assert exabgp_pid(a.run / "mesh") == pid


async def test_without_the_run_directory_the_routes_of_a_peer_that_cannot_be_read_stay(
    cluster: Cluster,
) -> None:
    a, bird = cluster.a, cluster.bird
    a.config["syncWait"] = 2
    cluster.peer_with_bird()
    bird.start()
    a.start()
    cluster.b.start()
    await eventually(lambda: "192.0.2.0/24" in a.routes() and a.said("in sync") == 1)
    await eventually((a.run / "mesh" / "process.json").exists)
    a.stop()
    later = {"peerIP": "10.0.0.3", "asNumber": 65100, "sourceAddress": "Any"}
    cluster.declare("tor", "BGPPeer", "tor", later)
    os.kill(exabgp_pid(a.run / "peer-10.0.0.3"), signal.SIGKILL)
    os.kill(exabgp_pid(a.run / "mesh"), signal.SIGKILL)
    shutil.rmtree(a.run)
    a.start()
    await eventually(lambda: a.said("in sync") == 2, 30)
    await asyncio.sleep(2)
    assert "192.0.2.0/24" in a.routes()
    cluster.remove("tor")
    await eventually(lambda: "192.0.2.0/24" not in a.routes(), 20)


@pytest.mark.parametrize("repaired", [True, False])
async def test_a_workload_that_cannot_be_read_stays_announced(cluster: Cluster, repaired: bool) -> None:
    """It lies outside the node's blocks, and the ExaBGP of the agent before has it."""
    a, bird = cluster.a, cluster.bird
    a.config |= {"syncWait": 2}
    cluster.workload("a", "moved", "10.77.9.5")
    cluster.workload("a", "other", "10.77.9.6")
    cluster.peer_with_bird()
    bird.start()
    a.start()
    there = {"10.77.9.5/32", "10.77.9.6/32"}
    await eventually(lambda: set(bird.routes("agent")) == there and a.said("in sync") == 1, 20)
    since = bird.established_since("agent")
    a.stop()
    spec = {"orchestrator": "k8s", "node": "a", "pod": "moved", "endpoint": "eth0", "ipNetworks": 7}
    cluster.declare("w-moved", "WorkloadEndpoint", "a-k8s-moved-eth0", spec, namespace="default")
    cluster.block("a", "10.77.0.64/26")
    there.add("10.77.0.64/26")
    a.start()
    await eventually(lambda: a.said("in sync") == 2 and "10.77.0.64/26" in bird.routes("agent"), 20)
    await asyncio.sleep(2)
    assert set(bird.routes("agent")) == there
    if repaired:
        cluster.workload("a", "moved", "10.77.9.5", "10.77.9.7")
        await eventually(lambda: set(bird.routes("agent")) == there | {"10.77.9.7/32"}, 20)
    else:
        cluster.remove("w-moved")
        await eventually(lambda: set(bird.routes("agent")) == there - {"10.77.9.5/32"}, 20)
    assert bird.established_since("agent") == since
