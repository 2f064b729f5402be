"""Whole agents and their peers: declared, declared otherwise, protected, joining, lost."""

from __future__ import annotations

import asyncio
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent.exabgp.process import Process
from bgpd.render.exabgp import addresses_of
from tests.agent.cluster import BIRD, ROOT, Cluster
from tests.agent.ground import (
    eventually,
    exabgp_pid,
    is_running,
    kill_exabgp,
    needs_bird,
    needs_root,
    sh,
)

pytestmark = [needs_root, pytest.mark.scenario, *needs_bird]


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
    await eventually(lambda: not (a.run / "peer-10.0.0.3").exists())
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


async def test_what_a_peer_withdraws_while_its_password_is_nowhere_goes(cluster: Cluster) -> None:
    """It stays declared, so its routes are kept at first; when it is back, it tells everything anew."""
    a = cluster.a
    spec: dict[str, Any] = {"peerIP": "10.0.0.3", "asNumber": 65100}
    cluster.declare("tor", "BGPPeer", "tor", spec)
    cluster.bird.start()
    a.start()
    await eventually(lambda: "192.0.2.0/24" in a.routes())
    nowhere = {"secretKeyRef": {"name": "bgp", "key": "tor-1"}}
    cluster.declare("tor", "BGPPeer", "tor", {**spec, "password": nowhere})
    await eventually(lambda: a.said("session down") == 1)
    assert "192.0.2.0/24" in a.routes(), "for a restart's time"
    text = (cluster.directory / "bird" / "bird.conf").read_text()
    without = text.replace("route 192.0.2.0/24 blackhole;", "")
    await asyncio.to_thread((cluster.directory / "bird" / "bird.conf").write_text, without)
    cluster.bird.ask("configure")
    cluster.declare("tor", "BGPPeer", "tor", spec)
    await eventually(lambda: cluster.bird.established("agent"))
    await eventually(lambda: "192.0.2.0/24" not in a.routes())


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


def meshed(cluster: Cluster) -> None:
    """Let the BIRD be an ordinary node of the mesh."""
    configuration = BIRD.replace("local 10.0.0.3 as 65100; passive on;", "local 10.0.0.3 as 64512;")
    (cluster.bird.directory / "bird.conf").write_text(configuration)
    cluster.bird.start()


def join(cluster: Cluster, address: str, instead_of: str = "") -> None:
    spec = {"bgp": {"ipv4Address": f"{address}/24"}}
    cluster.declare(f"n-{instead_of or address}", "Node", address.replace(".", "-"), spec)


async def in_one_mesh(cluster: Cluster) -> None:
    """Have the agent of a, with a block, and the BIRD be neighbours."""
    meshed(cluster)
    cluster.block("a", "10.77.0.0/26")
    join(cluster, "10.0.0.3")
    cluster.a.start()
    await eventually(lambda: "192.0.2.0/24" in cluster.a.routes())


async def test_nodes_that_join_one_right_after_the_other_are_all_told_everything(cluster: Cluster) -> None:
    """ExaBGP is reloaded for each; whoever is planned while a reload is under way is not forgotten by it."""
    a, bird = cluster.a, cluster.bird
    meshed(cluster)
    cluster.block("a", "10.77.0.0/26")
    join(cluster, "10.0.0.20")  # nobody is there
    a.start()
    await eventually(lambda: a.said("exabgp started") == 1)
    for address in ("10.0.0.21", "10.0.0.22", "10.0.0.3"):
        await asyncio.sleep(0.1)
        join(cluster, address)
    await eventually(bird.established)
    await eventually(lambda: set(bird.routes()) == {"10.77.0.0/26"})
    assert a.said("exabgp started") == 1


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_nodes_that_come_and_go_while_no_agent_runs_disturb_no_other(
    cluster: Cluster, tmp_path: Path, elsewhere: bool
) -> None:
    """The next agent takes ExaBGP over as it is, and reloads it, also if it is installed elsewhere."""
    a, bird = cluster.a, cluster.bird
    meshed(cluster)
    cluster.block("a", "10.77.0.0/26")
    join(cluster, "10.0.0.3")
    join(cluster, "10.0.0.20")  # nobody is there
    a.start()
    await eventually(lambda: "192.0.2.0/24" in a.routes())
    since, pid = bird.established_since(), exabgp_pid(a.run / "mesh")
    a.stop()
    if elsewhere:
        (tmp_path / "elsewhere").symlink_to(ROOT)
        a.environment = {"PYTHONPATH": str(tmp_path / "elsewhere"), "PYTHONSAFEPATH": "1"}
    join(cluster, "10.0.0.21")
    cluster.remove("n-10.0.0.20")
    cluster.block("a", "10.77.1.0/26")
    a.start()
    configured = a.run / "mesh" / "exabgp.conf"
    await eventually(lambda: addresses_of(configured.read_text()) == ["10.0.0.21", "10.0.0.3"])
    await eventually(lambda: set(bird.routes()) == {"10.77.0.0/26", "10.77.1.0/26"})
    digest = Process.digest_of(configured.read_text())
    await eventually(lambda: digest in (a.run / "mesh" / "process.json").read_text())
    assert (f"{tmp_path}/elsewhere/agent/exabgp/handover.py" in configured.read_text()) == elsewhere
    assert (bird.established_since(), exabgp_pid(a.run / "mesh")) == (since, pid)
    cluster.remove("n-10.0.0.3")
    await eventually(lambda: not bird.established())


@pytest.mark.parametrize("sent", [True, False])
async def test_an_agent_that_ends_amid_a_reload_costs_no_session(cluster: Cluster, sent: bool) -> None:
    """Whether ExaBGP has been told to reload or not: the next agent asks for it again and looks."""
    a, bird = cluster.a, cluster.bird
    await in_one_mesh(cluster)
    await eventually(lambda: set(bird.routes()) == {"10.77.0.0/26"})
    since, pid, configured = bird.established_since(), exabgp_pid(a.run / "mesh"), a.run / "mesh/exabgp.conf"
    os.kill(pid, signal.SIGSTOP)
    if sent:
        join(cluster, "10.0.0.21")
        await eventually(lambda: "10.0.0.21" in addresses_of(configured.read_text()))
    else:
        cluster.block("a", "10.77.1.0/26")  # the reload waits for its answer
        await eventually(lambda: "10.77.1.0/26" in a.routes())
        join(cluster, "10.0.0.21", instead_of="10.0.0.3")
        await eventually(lambda: addresses_of(configured.read_text()) == ["10.0.0.21"])
    a.stop(signal.SIGKILL)
    for address in ("10.0.0.3", "10.0.0.21"):
        join(cluster, address)
    cluster.block("a", "10.77.2.0/26")
    os.kill(pid, signal.SIGCONT)
    a.start()
    blocks = {"10.77.0.0/26", "10.77.2.0/26"} | (set() if sent else {"10.77.1.0/26"})
    await eventually(lambda: set(bird.routes()) == blocks)
    digest = Process.digest_of(configured.read_text())
    await eventually(lambda: digest in (a.run / "mesh" / "process.json").read_text())
    assert addresses_of(configured.read_text()) == ["10.0.0.21", "10.0.0.3"]
    assert (bird.established_since(), exabgp_pid(a.run / "mesh")) == (since, pid)
    cluster.remove("n-10.0.0.3")
    await eventually(lambda: not bird.established())


async def test_a_node_that_is_undeclared_for_a_moment_is_learned_from_again(cluster: Cluster) -> None:
    """While ExaBGP is reloaded for another: it hears nothing of it, and the session goes on."""
    a, bird = cluster.a, cluster.bird
    await in_one_mesh(cluster)
    for number, pause in enumerate((0.02, 0.05, 0.1, 0.2)):
        join(cluster, f"10.0.0.{30 + number}")  # nobody is there
        await asyncio.sleep(0.1)
        cluster.remove("n-10.0.0.3")
        await asyncio.sleep(pause)
        join(cluster, "10.0.0.3")
        cluster.block("a", f"10.77.{number + 1}.0/26")
        await eventually(partial(lambda blocks: len(bird.routes()) == blocks, number + 2))
        await eventually(lambda: "192.0.2.0/24" in a.routes())


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


async def test_a_peer_declared_again_while_what_was_left_of_it_is_ended_has_an_exabgp_of_its_own(
    cluster: Cluster,
) -> None:
    """It was undeclared while no agent ran, and the ExaBGP that the last one left takes its time to end."""
    a = cluster.a
    cluster.block("a", "10.77.0.0/26")
    cluster.peer_with_bird()
    cluster.bird.start()
    a.start()
    await eventually(lambda: "10.77.0.0/26" in cluster.bird.routes("agent"))
    a.stop(signal.SIGKILL)
    left = exabgp_pid(a.run / "peer-10.0.0.3")
    os.kill(left, signal.SIGSTOP)
    cluster.remove("tor")
    a.start()
    await eventually(lambda: a.said("an ExaBGP nobody wants any more is ended") == 1)
    cluster.peer_with_bird()
    await eventually(lambda: not is_running(left))
    await eventually(lambda: a.said("session up") == 2)
    assert a.said("exabgp ended") == 0
    assert is_running(exabgp_pid(a.run / "peer-10.0.0.3"))


@pytest.mark.parametrize("repaired", [True, False])
async def test_a_peer_that_a_later_version_declared_keeps_the_session_it_has(
    cluster: Cluster, repaired: bool
) -> None:
    """Cairn was rolled back: until the peer can be read its session goes on, and its routes stay."""
    a, bird = cluster.a, cluster.bird
    a.config["syncWait"] = 2
    cluster.block("a", "10.77.0.0/26")
    cluster.peer_with_bird()
    bird.start()
    a.start()
    await eventually(lambda: "10.77.0.0/26" in bird.routes("agent") and "192.0.2.0/24" in a.routes())
    await eventually(lambda: a.said("in sync") == 1)
    since, pid = bird.established_since("agent"), exabgp_pid(a.run / "peer-10.0.0.3")
    a.stop()
    later = {"peerIP": "10.0.0.3", "asNumber": 65100, "sourceAddress": "Any"}
    cluster.declare("tor", "BGPPeer", "tor", later)
    a.start()
    await eventually(lambda: a.said("in sync") == 2)
    cluster.block("a", "10.77.1.0/26")
    await eventually(lambda: "10.77.1.0/26" in a.routes())
    assert a.said("an ExaBGP is left alone: its peer may be one that cannot be read") == 1
    assert {"192.0.2.0/24", "10.77.0.0/26"} <= set(a.routes())
    if repaired:
        cluster.peer_with_bird()
        while "10.77.1.0/26" not in bird.routes("agent"):
            assert "192.0.2.0/24" in a.routes()
            await asyncio.sleep(0.01)
        assert (bird.established_since("agent"), exabgp_pid(a.run / "peer-10.0.0.3")) == (since, pid)
        assert "192.0.2.0/24" in a.routes()
    else:
        assert (bird.established_since("agent"), is_running(pid)) == (since, True)
        cluster.remove("tor")
        await eventually(lambda: not is_running(pid) and "192.0.2.0/24" not in a.routes())


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


async def test_what_counts_when_peers_are_lost_may_be_declared_while_they_are(cluster: Cluster) -> None:
    a, b = cluster.a, cluster.b
    a.config["syncWait"], b.config["leaseTtl"] = 2, 600
    cluster.declare("bgp", "BGPConfiguration", "default", {"nodeMeshMaxRestartTime": "2s"})
    cluster.block("b", "10.77.1.0/26")
    a.start()
    b.start()
    await eventually(lambda: "10.77.1.0/26" in a.routes() and a.said("in sync") == 1)
    b.stop(signal.SIGKILL)
    kill_exabgp(b.run / "mesh")
    await eventually(lambda: a.said("session down") == 1)
    await asyncio.sleep(4)
    assert "10.77.1.0/26" in a.routes()
    document = "apiVersion: cairn.dev/v1\nkind: CairnConfiguration\nmetadata: {name: default}\n"
    await asyncio.to_thread(
        (cluster.store / "c.yaml").write_text, document + "spec: {whenReflectorsLost: Expire}\n"
    )
    await eventually(lambda: "10.77.1.0/26" not in a.routes())


async def test_what_expires_when_peers_are_lost_expires_for_the_next_agent_too(cluster: Cluster) -> None:
    a, b = cluster.a, cluster.b
    a.config["syncWait"], b.config["leaseTtl"] = 2, 600
    cluster.declare("bgp", "BGPConfiguration", "default", {"nodeMeshMaxRestartTime": "5s"})
    document = "apiVersion: cairn.dev/v1\nkind: CairnConfiguration\nmetadata: {name: default}\n"
    (cluster.store / "c.yaml").write_text(document + "spec: {whenReflectorsLost: Expire}\n")
    cluster.block("b", "10.77.1.0/26")
    a.start()
    b.start()
    await eventually(lambda: "10.77.1.0/26" in a.routes() and a.said("in sync") == 1)
    noted = a.run / "retained.json"
    await eventually(lambda: noted.exists() and "10.0.0.2" in noted.read_text())
    a.stop(signal.SIGKILL)
    b.stop(signal.SIGKILL)
    for run in b.run.glob("*"):
        kill_exabgp(run)
    assert "10.77.1.0/26" in a.routes()
    a.start()
    await eventually(lambda: "10.77.1.0/26" not in a.routes(), 30)


async def test_a_peer_behind_a_gateway_is_told_that_the_routes_go(cluster: Cluster) -> None:
    """The way to it stays until ExaBGP has said so."""
    a, far = cluster.a, "192.168.9.3"
    (cluster.directory / "bird" / "bird.conf").write_text(
        BIRD.replace("local 10.0.0.3", f"local {far}").replace("passive on;", "passive on; multihop;")
    )
    sh(f"ip -n {cluster.bird.inside} addr add {far}/32 dev lo")
    cluster.block("a", "10.77.0.0/26")
    spec = {"peerIP": far, "asNumber": 65100, "reachableBy": "10.0.0.3", "maxRestartTime": "600s"}
    cluster.declare("tor", "BGPPeer", "tor", spec)
    cluster.bird.start()
    a.start()
    await eventually(lambda: cluster.bird.routes("agent") == {"10.77.0.0/26": None})
    assert f"{far}" in a.routes()
    cluster.remove("tor")
    await eventually(lambda: not cluster.bird.established("agent"), 30)
    assert cluster.bird.routes("agent") == {}
    await eventually(lambda: not a.routes().keys() - {"10.77.0.0/26"})


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
    waited = a.said("no session came about")  # a slow machine may have said so of the first start
    a.start()
    await eventually(lambda: a.said_more("no session came about", waited))  # after syncWait
    await asyncio.sleep(2)
    assert a.routes().keys() == {"10.77.1.0/26", "192.0.2.0/24"}
    b.start()
    await eventually(lambda: a.said("in sync") == 2)
    await eventually(lambda: a.routes().keys() == {"192.0.2.0/24"})


@pytest.mark.parametrize("agent_first", [False, True])
async def test_an_agent_that_restarts_gives_a_peer_that_is_away_the_time_it_promised_rfc4724_4_2(
    cluster: Cluster, agent_first: bool
) -> None:
    """Not `syncWait` only, whether this agent saw the peer go or a former one had heard its promise; and what
    others withdraw meanwhile goes.
    """
    a, b, bird = cluster.a, cluster.b, cluster.bird
    a.config["syncWait"] = 2
    text = BIRD.replace("graceful restart on;", "graceful restart on; graceful restart time 600;")
    (bird.directory / "bird.conf").write_text(text)
    cluster.block("b", "10.77.1.0/26")
    cluster.peer_with_bird()
    bird.start()
    a.start()
    b.start()
    await eventually(lambda: a.routes().keys() == {"10.77.1.0/26", "192.0.2.0/24"} and a.said("in sync") == 1)
    noted = a.run / "retained.json"
    await eventually(lambda: noted.exists() and "10.0.0.3" in noted.read_text())
    if agent_first:
        a.stop(signal.SIGKILL)
        bird.stop(signal.SIGKILL)
    else:
        bird.stop(signal.SIGKILL)
        await eventually(lambda: a.said("session down") == 1)
        a.stop(signal.SIGKILL)
    a.start()
    await eventually(lambda: a.said("in sync") == 2)
    cluster.remove("b-b-10-77-1-0-26")
    await eventually(lambda: a.routes().keys() == {"192.0.2.0/24"})
    (bird.directory / "bird.conf").write_text(text.replace("route 192.0.2.0/24 blackhole;", ""))
    bird.start()
    await eventually(lambda: not a.routes())
