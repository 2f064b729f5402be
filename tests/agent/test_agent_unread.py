"""What an agent that begins cannot read makes no wrong route, and takes away none that is there."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal

import pytest

from tests.agent.cluster import Cluster
from tests.agent.ground import eventually, exabgp_pid, needs_bird, needs_root

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


async def test_an_own_block_that_cannot_be_read_stays_announced(cluster: Cluster) -> None:
    a, bird = cluster.a, cluster.bird
    cluster.block("a", "10.77.0.0/26")
    cluster.peer_with_bird()
    bird.start()
    a.start()
    await eventually(lambda: "10.77.0.0/26" in bird.routes("agent") and "192.0.2.0/24" in a.routes())
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
