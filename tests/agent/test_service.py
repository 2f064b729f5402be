"""The service around an agent, as far as no agent has to run for it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from agent.config import load
from agent.service import Service


def test_a_reload_that_comes_while_the_agent_ends_for_another_takes_no_drain_back(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    head = f"node: n1\nexabgp: {{runDirectory: {tmp_path}}}\n"
    path.write_text(head)
    service = Service(load(path), path=path, environ={})
    agent: Any = SimpleNamespace(mode="draining")
    service.agent = agent
    for routes in (1000, 2000):
        path.write_text(f"{head}maxRoutes: {routes}\n")
        service.reload()
        agent.mode = "stopping"
    assert service._drained
