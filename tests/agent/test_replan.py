"""What the agent does when nothing follows from what is declared."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config import AgentConfig
from agent.node import Agent
from bgpd.datastore import open_datastore
from bgpd.plan import NodePlan, PlanError


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
    config = AgentConfig.model_validate(
        {
            "node": "a",
            "datastore": str(tmp_path / "store"),
            "exabgp": {"runDirectory": str(tmp_path / "run")},
            "kernel": {"dryRun": True},
        }
    )
    agent = Agent(config, open_datastore(config.datastore, {}), {})
    for _ in range(2):
        await agent._replan()
    assert words in agent.plan_error
    said = capsys.readouterr().out
    assert said.count("a defect of the plan") == (not isinstance(error, PlanError))
    await agent.leave()
