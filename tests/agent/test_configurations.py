"""Which ExaBGP processes a plan comes to, and that they come to be what the last plan wants."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from agent.config import AgentConfig, ExaBGP
from agent.sessions import SHARED, Sessions, configurations, one_per_address, process_of
from bgpd.datastore import Secrets
from bgpd.plan import NodePlan, PeeringKind, plan_node
from tests.plan.cluster import MESH_OFF, THREE, cluster

PEER = "kind: BGPPeer\nmetadata: {{name: p{0}}}\nspec: {{peerIP: '192.0.2.1:{0}', asNumber: 65001}}"


def test_two_peerings_of_one_address_come_to_one_session() -> None:
    plan = plan_node(cluster(MESH_OFF, THREE, PEER.format(179), PEER.format(1790)), "n1")
    assert len(plan.peerings) == 2
    (kept,) = one_per_address(plan).values()
    (name,) = configurations(plan, {}, Path("/run/x"))
    assert name == f"peer-{kept.peer_address}"


def test_what_the_other_side_opens_shares_the_process_of_the_mesh() -> None:
    """One process can listen at an address."""
    declared = "kind: BGPPeer\nmetadata: {name: o}\nspec: {peerIP: 10.0.0.1, asNumber: 65000}"
    plan = plan_node(cluster(MESH_OFF, THREE, declared), "n2")
    (peering,) = plan.peerings
    assert {process_of(replace(peering, passive=passive)) for passive in (True, False)} == {
        SHARED,
        "peer-10.0.0.1",
    }
    six = replace(peering, passive=False, peer_address=ip_address("2001:db8::1"))
    assert process_of(six) == "peer-2001_db8__1"
    assert process_of(replace(six, kind=PeeringKind.MESH)) == SHARED


class Slow:
    """A speaker that takes its time to become another."""

    def __init__(self, directory: Path, configuration: str, peers: Sequence[str], *_: object) -> None:
        self.directory, self.configuration, self.peers = directory, configuration, frozenset(peers)
        self.may = asyncio.Event()

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def replace(self, configuration: str, _: Sequence[str]) -> None:
        await self.may.wait()
        self.configuration = configuration

    def release(self) -> None: ...


async def test_what_is_taken_back_while_it_is_being_made_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def declared(port: int) -> NodePlan:
        return plan_node(cluster(MESH_OFF, THREE, PEER.format(port)), "n1")

    monkeypatch.setattr("agent.sessions.Speaker", Slow)
    listener: Any = None
    config = AgentConfig(node="n1", exabgp=ExaBGP(run_directory=tmp_path))
    sessions = Sessions(config, listener, Secrets(None, {}))
    sessions.configure(declared(179))
    (speaker,) = sessions.speakers.values()
    first = speaker.configuration
    for port in (1790, 179):
        sessions.configure(declared(port))
        await asyncio.sleep(0)
    assert isinstance(speaker, Slow)
    speaker.may.set()
    for _ in range(10):
        await asyncio.sleep(0)
    assert speaker.configuration == first
    await sessions.leave()


async def test_a_leftover_that_cannot_be_put_away_does_not_keep_a_node_from_leaving(tmp_path: Path) -> None:
    """What comes after it, the kernel's routes, is done all the same."""
    (tmp_path / "peer-192.0.2.1" / "process.json").mkdir(parents=True)  # no file, and not to be unlinked
    listener: Any = None
    config = AgentConfig(node="n1", exabgp=ExaBGP(run_directory=tmp_path))
    await Sessions(config, listener, Secrets(None, {})).stop()


def test_of_a_process_nobody_wants_no_file_is_left_and_of_others_every_one(tmp_path: Path) -> None:
    """Peers come and go for years, and a configuration has passwords in it."""
    gone, other = tmp_path / "peer-192.0.2.1", tmp_path / "secrets"
    for directory, names in ((gone, ("exabgp.conf", "exabgp.conf.new", "exabgp.log")), (other, ("key",))):
        directory.mkdir()
        for name in names:
            (directory / name).write_text("password")
    listener: Any = None
    config = AgentConfig(node="n1", exabgp=ExaBGP(run_directory=tmp_path))
    asyncio.run(Sessions(config, listener, Secrets(None, {})).stop())
    assert sorted(tmp_path.rglob("*")) == [other, other / "key"]


async def test_processes_are_started_one_a_turn_of_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start takes milliseconds; sessions and the lease have to be heard between any two."""
    turns = 0
    started: list[int] = []

    async def turn() -> None:
        nonlocal turns
        while len(started) < 9:
            turns += 1
            await asyncio.sleep(0)

    async def run(_: Slow) -> None:
        started.append(turns)
        await asyncio.Event().wait()

    monkeypatch.setattr(Slow, "run", run)
    monkeypatch.setattr("agent.sessions.Speaker", Slow)
    peers = [PEER.format(number).replace("192.0.2.1:", "192.0.2.") for number in range(1, 10)]
    listener: Any = None
    config = AgentConfig(node="n1", exabgp=ExaBGP(run_directory=tmp_path))
    sessions = Sessions(config, listener, Secrets(None, {}))
    sessions.configure(plan_node(cluster(MESH_OFF, THREE, *peers), "n1"))
    await turn()
    assert len(set(started)) == 9
    await sessions.leave()
