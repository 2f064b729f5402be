"""A full mesh, in two ways: one node joins a hundred, and a number of agents begin all at once.

Those whom the one node joins are BIRDs, each announcing a block of its own. What is measured is one node's
share of a large mesh: all its sessions up, the kernel exact, its block known to everyone. A hundred agents do
not fit into one small machine: with 99 sessions each, their ExaBGPs alone take two processors when nothing
happens. So as many begin together as one kernel has neighbours for (all namespaces share one table, of 1024
by default).
"""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import ExitStack
from pathlib import Path

from bench.agent.contenders import CairnNode, processor_time
from bench.agent.ground import ASN, Ground, GroundError, resource
from bench.agent.kernel import Kernel
from ctl.lab.netns import Namespace

OWN = "10.127.0.0/26"
PEER = """\
log stderr {{ error, fatal }};
router id {address};
protocol device {{ scan time 60; }}
protocol static {{ ipv4; route {block} blackhole; }}
protocol bgp {{
  local {address} as {asn}; neighbor 10.0.0.1 as {asn}; direct; strict bind;
  connect delay time 1; connect retry time 1; error wait time 1, 2;
  ipv4 {{ import all; export where source = RTS_STATIC; next hop self; }};
}}
"""


def address_of(number: int) -> str:
    return f"10.0.{4 + (number >> 8)}.{number & 255}"


def block_of(number: int) -> str:
    return f"10.{64 + (number >> 10)}.{number >> 2 & 255}.{(number & 3) * 64}/26"


def uninformed(place: Namespace, directory: Path, peers: list[int]) -> list[int]:
    """Those of the peers that have not been told of this node's block."""
    return [
        each
        for each in peers
        if OWN not in place.run("birdc", "-s", directory / f"{each}.ctl", "show", "route", check=False).stdout
    ]


async def _mesh(ground: Ground) -> None:
    """Undo the reflector's declarations: then all nodes are peers."""
    assert ground.store is not None
    for entry in (await ground.store.list()).entries:
        if entry.key.kind in ("BGPConfiguration", "BGPPeer"):
            await ground.store.delete(entry.key)


async def measure(ground: Ground, count: int, patience: float) -> dict[str, float]:
    """A mesh of ``count`` nodes. Seconds from the agent's start until all is as it shall be."""
    await _mesh(ground)
    peers = list(range(1, count))
    await ground.declare(
        resource("BlockAffinity", f"a/{OWN}", {"state": "confirmed", "node": "a", "cidr": OWN}),
        *(resource("Node", f"n{each}", {"bgp": {"ipv4Address": f"{address_of(each)}/16"}}) for each in peers),
    )
    node, place = ground.node("a", 1), ground.lab.host("mesh")
    ground.lab.attach("lan", place, "eth0", *(f"{address_of(each)}/16" for each in peers))
    directory = ground.directory / "mesh"
    directory.mkdir()
    for each in peers:
        text = PEER.format(block=block_of(each), address=address_of(each), asn=ASN)
        (directory / f"{each}.conf").write_text(text)
        ground.start(place, f"{each}", "bird", "-f", "-c", f"{each}.conf", "-s", f"{each}.ctl")
    wanted = {(26, socket.inet_aton(cidr.partition("/")[0])) for cidr in (OWN, *map(block_of, peers))}
    agent = CairnNode(ground, node, 1)
    with Kernel(node.name) as kernel:
        begun = time.monotonic()
        await agent.start()
        try:
            await kernel.until(len(wanted), patience)
            left = peers
            while left := await asyncio.to_thread(uninformed, place, directory, left):
                if time.monotonic() - begun > patience:
                    raise GroundError(f"{len(left)} of {len(peers)} peers do not know this node's block")
            took = time.monotonic() - begun
            if kernel.since.keys() != wanted:
                raise GroundError(f"the kernel's routes are not those of the mesh: {len(kernel.since)}")
        finally:
            await agent.stop()
    return {"mesh": took}


async def together(ground: Ground, count: int, patience: float) -> dict[str, float]:
    """``count`` agents that start at once: seconds until every kernel is exact, and what a node has used by
    then and uses at rest.
    """
    await _mesh(ground)
    numbers = range(1, count + 1)
    for each in numbers:
        cidr = block_of(each)
        spec = {"state": "confirmed", "node": f"n{each}", "cidr": cidr}
        await ground.declare(resource("BlockAffinity", f"n{each}/{cidr}", spec))
    wanted = {(26, socket.inet_aton(block_of(each).partition("/")[0])) for each in numbers}
    agents = [CairnNode(ground, ground.node(f"n{each}", each), each) for each in numbers]
    with ExitStack() as stack:
        kernels = [stack.enter_context(Kernel(agent.place.name)) for agent in agents]
        begun = time.monotonic()
        try:
            await asyncio.gather(*(agent.start() for agent in agents))
            for kernel in kernels:
                await kernel.until(len(wanted), patience)
            took = time.monotonic() - begun
            if any(kernel.since.keys() != wanted for kernel in kernels):
                raise GroundError("a kernel's routes are not those of the mesh")
            pids = [pid for agent in agents for pid in agent.pids()]
            used = processor_time(pids)
            await asyncio.sleep(5)  # the last words
            resting, begun = processor_time(pids), time.monotonic()
            await asyncio.sleep(10)
            idle = (processor_time(pids) - resting) / (time.monotonic() - begun)
        finally:
            await asyncio.gather(*(agent.stop() for agent in agents))
    return {"together": took, "together-cpu": used / count, "together-idle": idle / count * 100}
