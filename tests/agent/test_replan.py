"""What the agent does when nothing follows from what is declared, or no more of a peer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent.config import AgentConfig
from agent.node import Agent
from agent.status import AgentStatus
from bgpd.datastore import open_datastore
from bgpd.datastore.errors import Unavailable
from bgpd.plan import NodePlan, PlanError, plan_node
from bgpd.resources import ResourceSet
from tests.agent.ground import eventually
from tests.agent.telling import opened, peering
from tests.plan.cluster import THREE, documents


def config_of(directory: Path) -> AgentConfig:
    return AgentConfig.model_validate(
        {
            "node": "a",
            "datastore": str(directory / "store"),
            "exabgp": {"runDirectory": str(directory / "run")},
            "kernel": {"dryRun": True},
        }
    )


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PlanError("Node a", "is not declared"), "Node a: is not declared"),
        (ZeroDivisionError("x"), "ZeroDivision"),
    ],
)
async def test_a_plan_that_cannot_be_made_is_said_once_and_ends_nothing(
    error: Exception,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(*_: object) -> NodePlan:
        raise error

    monkeypatch.setattr("agent.node.plan_node", fails)
    config = config_of(tmp_path)
    agent = Agent(config, open_datastore(config.datastore, {}), {})
    for _ in range(2):
        await agent._replan()
    assert words in agent.plan_error
    status = AgentStatus(agent)
    assert status.healthy() == (False, f"no plan: {agent.plan_error}")
    assert status.working() == (True, "healthy")  # no restart mends that
    said = capsys.readouterr().out
    assert said.count("a defect of the plan") == (not isinstance(error, PlanError))
    await agent.leave()


async def test_a_peer_that_never_came_is_away_since_it_was_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_node(ResourceSet.of(list(documents(THREE))), "n1")
    monkeypatch.setattr("agent.node.plan_node", lambda *_: plan)
    config = config_of(tmp_path)
    agent = Agent(config, open_datastore(config.datastore, {}), {})
    monkeypatch.setattr("time.time", lambda: agent.started_at + 3600)
    await agent._replan()
    assert {peer.since - agent.started_at for peer in AgentStatus(agent).peers()} == {3600}
    await agent.leave()


async def test_of_a_peer_that_is_planned_no_more_nothing_is_remembered(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    agent = Agent(config, open_datastore(config.datastore, {}), {})
    for _ in range(2):
        agent.learned.configure([peering("10.0.0.2")])
        agent.session_up("10.0.0.2", opened(), opened(), adopted=False)
        agent.session_down("10.0.0.2", "closing connection")
        agent.session_up("10.0.0.2", opened(), opened(), adopted=False)
        assert [peer.flaps for peer in AgentStatus(agent).peers()] == [1]
        agent.learned.configure([])
        agent.session_down("10.0.0.2", "no longer configured")
        assert not AgentStatus(agent).peers()
    await agent.leave()


async def test_a_datastore_that_does_not_answer_is_complained_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """However often it is asked meanwhile."""
    config = config_of(tmp_path).model_copy(update={"lease_ttl": 0.03})
    agent = Agent(config, open_datastore(config.datastore, {}), {})
    asked = []

    async def silent(*words: object) -> None:
        asked.append(words)
        raise Unavailable("nobody answers")

    monkeypatch.setattr(agent.store, "hold", silent)
    monkeypatch.setattr(agent.store, "get", silent)
    monkeypatch.setattr("agent.registration._RETRY", 0.01)
    tasks = [asyncio.ensure_future(each) for each in (agent._hold_lease(), agent._register())]
    await eventually(lambda: len(asked) >= 10)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    said = capsys.readouterr().out
    assert said.count("the liveness lease cannot be had yet") == 1
    assert said.count("the node cannot be registered yet") == 1
    await agent.leave()
