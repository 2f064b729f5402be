"""The service around an agent, as far as no agent has to run for it."""

from __future__ import annotations

import subprocess
import sys
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


def test_an_agent_takes_as_many_descriptors_as_it_may(tmp_path: Path) -> None:
    """Each ExaBGP takes six: 170 declared peers are more than the usual limit of 1024."""
    program = (
        "import asyncio, pathlib, resource\n"
        "hard = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 2048)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))\n"
        "from agent.service import run\n"
        f"try: asyncio.run(run(pathlib.Path({str(tmp_path / 'none')!r})))\n"
        "except Exception: print(resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
