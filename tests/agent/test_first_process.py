"""The agent as the first process of a container, whom everybody is left to."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.agent.cluster import Cluster
from tests.agent.ground import eventually, is_running, needs_bird, needs_root

pytestmark = [needs_root, pytest.mark.scenario, *needs_bird]


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_of_an_exabgp_that_ended_nothing_is_left(cluster: Cluster) -> None:
    a, bird = cluster.a, cluster.bird
    cluster.peer_with_bird()
    bird.start()
    a.within = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    try:
        a.start()
        await eventually(bird.established)
        assert a.process is not None
        [agent] = children(a.process.pid)
        [exabgp] = children(agent)
        [handover] = children(exabgp)
        os.kill(exabgp, signal.SIGKILL)
        await eventually(lambda: not Path(f"/proc/{exabgp}").exists() and not is_running(handover))
        await eventually(lambda: bool(children(agent)) and bird.established())
        await eventually(lambda: all(map(is_running, children(agent))), 5)
        assert len(children(agent)) == 1
    finally:
        a.stop(signal.SIGKILL)  # with everything in its namespace
        shutil.rmtree(a.run)  # the numbers of processes in there mean others outside
