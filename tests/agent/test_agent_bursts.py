"""Declarations in bursts, faster than ExaBGP can follow: at rest every peer and the kernel are exact.

Nodes and BGPPeers come and go, the mesh is switched off and on (so that sessions move between ExaBGP
processes), blocks change, and now and then an ExaBGP or the agent itself is killed amid it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from tests.agent.cluster import Cluster
from tests.agent.ground import Bird, kill_exabgp, needs_bird, needs_root, sh

pytestmark = [needs_root, pytest.mark.scenario, *needs_bird]
PEERS = range(3, 9)
CALM = 6  # looks in a row: what is right for a moment may be what was before the last change
LONG = bool(os.environ.get("CAIRN_LONG_FAULTS"))
ROUNDS, SEEDS = (100, (1, 2)) if LONG else (12, (1,))

BIRD = """
router id 10.0.0.{number};
log stderr all;
protocol device {{}}
protocol static {{ ipv4; route 192.0.{number}.0/24 blackhole; }}
protocol bgp agent {{
  local 10.0.0.{number} as 64512; neighbor 10.0.0.1 as 64512; strict bind; graceful restart on;
  connect delay time 1; connect retry time 1; error wait time 1, 2;
  ipv4 {{ import all; export where source = RTS_STATIC; next hop self; }};
}}
"""


class Declared:
    """What is declared around the agent, and what must come of it."""

    def __init__(self, cluster: Cluster, random: Random) -> None:
        self._cluster, self._random = cluster, random
        self._nodes: set[int] = set()
        self._peers: set[int] = set()
        self._blocks: set[int] = set()
        self._mesh = True
        self._declare_mesh()

    def _declare_mesh(self) -> None:
        self._cluster.declare("bgp", "BGPConfiguration", "default", {"nodeToNodeMeshEnabled": self._mesh})

    @property
    def members(self) -> set[int]:
        return self._peers | (self._nodes if self._mesh else set())

    @property
    def blocks(self) -> set[str]:
        return {f"10.77.{number}.0/26" for number in self._blocks}

    def change(self) -> None:
        """One change of some kind."""
        peer, block = self._random.choice(PEERS), self._random.randrange(8)
        kinds = ("node", "node", "node", "peer", "peer", "block", "block", "mesh", "death")
        match self._random.choice(kinds):
            case "node":
                self._toggle(self._nodes, peer, "Node", {"bgp": {"ipv4Address": f"10.0.0.{peer}/24"}})
            case "peer":
                self._toggle(self._peers, peer, "BGPPeer", {"peerIP": f"10.0.0.{peer}", "asNumber": 64512})
            case "block":
                cidr = f"10.77.{block}.0/26"
                self._toggle(
                    self._blocks, block, "BlockAffinity", {"node": "a", "cidr": cidr, "state": "confirmed"}
                )
            case "mesh":
                self._mesh = not self._mesh
                self._declare_mesh()
            case "death":
                self._kill()

    def _toggle(self, there: set[int], number: int, kind: str, spec: dict[str, Any]) -> None:
        """Declare what is not there, and take back what is."""
        name = f"{kind.lower()}-{number}"
        if number in there:
            self._cluster.remove(name)
        else:
            self._cluster.declare(name, kind, name, spec)
        there.symmetric_difference_update({number})

    def _kill(self) -> None:
        agent = self._cluster.a
        running = sorted(agent.run.glob("*/process.json"))
        if self._random.random() < 0.3:
            agent.stop(self._random.choice((signal.SIGKILL, signal.SIGTERM)))
            agent.start()
        elif running:
            kill_exabgp(self._random.choice(running).parent)


@pytest.fixture
def birds(cluster: Cluster) -> Iterator[dict[int, Bird]]:
    """Six BIRDs side by side, each at an address of its own."""
    made = {}
    inside = cluster.bird.inside
    with contextlib.ExitStack() as stack:
        for number in PEERS:
            directory = cluster.directory / f"bird-{number}"
            directory.mkdir()
            if number > PEERS[0]:
                sh(f"ip -n {inside} addr add 10.0.0.{number}/24 dev eth0")
            made[number] = Bird(directory, BIRD.format(number=number), inside)
            made[number].start()
            stack.callback(made[number].stop, signal.SIGKILL)
        yield made


def wrong(cluster: Cluster, declared: Declared, birds: dict[int, Bird]) -> list[str]:
    """What is not as declared. (A node without any peer keeps what it has learned.)"""
    members = declared.members
    told = {number: set(birds[number].routes()) for number in members}
    found = [f"10.0.0.{number} has {has}" for number, has in told.items() if has != declared.blocks]
    learned = {prefix for prefix in cluster.a.routes() if prefix.startswith("192.0.")}
    if members and learned != {f"192.0.{number}.0/24" for number in members}:
        found.append(f"of {sorted(members)} the kernel has {sorted(learned)}")
    return found


@pytest.mark.parametrize("seed", SEEDS)
async def test_random_declarations_in_bursts_end_exact(
    cluster: Cluster, birds: dict[int, Bird], seed: int
) -> None:
    random = Random(seed)
    declared = Declared(cluster, random)
    cluster.a.start()
    for _ in range(ROUNDS):
        for _ in range(random.randint(1, 12)):
            declared.change()
            await asyncio.sleep(random.choice((0, 0, 0.02, 0.1, 0.3, 0.6)))
        looks = [wrong(cluster, declared, birds)]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(120):
                while any(looks[-CALM:]) or len(looks) < CALM:
                    await asyncio.sleep(0.2)
                    looks.append(wrong(cluster, declared, birds))
        assert looks[-CALM:] == [[]] * CALM
