"""Elected reflectors for real: two of three reflect; when one dies another takes its place."""

from functools import partial

import pytest

from tests.scenario.harness.cairn import Agent
from tests.scenario.harness.declared import DeclaredCluster
from tests.scenario.harness.two_speakers import Run, Speaker
from tests.scenario.harness.world import World

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(300)]


def reflecting(run: Run) -> set[str]:
    """The addresses of reflectors that node1 has sessions with, up."""
    return {address for address, up in run.sessions["node1"].sessions().items() if up}


def flaps(run: Run, address: str) -> dict[str, int]:
    """How often each node's session with this reflector has gone down."""
    counted: dict[str, int] = {}
    for name in ("node1", "node2", "node3"):
        agent = run.sessions[name]
        assert isinstance(agent, Agent)
        counted[name] = sum(
            peer["flaps"] for peer in agent.api("peers")["peers"] if peer["address"] == address
        )
    return counted


def test_a_dead_reflector_is_replaced_and_every_kernel_stays_exact() -> None:
    cluster = DeclaredCluster("elected")
    with World("elected") as world:
        everybody = dict.fromkeys(cluster.resources.nodes, Speaker.CAIRN)
        run = Run(world, cluster, everybody, candidates=frozenset({"rr1", "rr2", "rr3"}))
        run.settle()
        address = {name: str(plan.address(4)) for name, plan in run.plans.items()}
        first = {address["rr1"], address["rr3"]}
        assert reflecting(run) == first
        before = flaps(run, address["rr3"])

        run.sessions["rr1"].program.kill()  # type: ignore[union-attr]  # a reflector has one program
        world.wait_equal(
            "rr2 in rr1's place", partial(reflecting, run), {address["rr2"], address["rr3"]}, 120
        )
        kernels = cluster.expected("kernels")
        for name in ("node1", "node2", "node3"):
            world.wait_equal(f"kernel of {name}", partial(run.kernel, name), kernels[name])
        assert flaps(run, address["rr3"]) == before  # the session that stays is not touched
