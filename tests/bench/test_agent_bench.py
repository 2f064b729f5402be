"""The agent's bench: its stop-watch, its loads, and one quick run from end to end."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bench.agent import cases, mesh, store
from bench.agent.feeder import hosts
from bench.agent.kernel import Kernel, KernelError
from bench.agent.report import draw
from bench.figures import Figure
from bench.namespace import INSIDE
from bgpd.datastore import Interests
from tests.agent.ground import namespace, needs_root, sh


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(each) for each in range(500, 0, -1)]
    assert [cases.percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1, 251, 496, 500]


def test_no_route_of_a_load_occurs_twice() -> None:
    cluster = cases.cluster(1000, 10)
    assert len(cluster) == 1000
    assert len({nlri for blocks in cluster.values() for nlri in blocks}) == 10_000
    assert len(set(hosts("10.64.0.0", 100_000))) == 100_000
    assert len({mesh.block_of(each) for each in range(1, 1000)} | {mesh.OWN}) == 1000
    assert len({mesh.address_of(each) for each in range(1, 1000)}) == 999


def test_an_endpoint_concerns_its_own_node_only() -> None:
    key = store.endpoint("node-7", 100_123).key
    assert Interests(node="node-7").wants(key)
    assert not Interests(node="node-77").wants(key)
    assert not Interests(node="node").wants(key)


def test_the_chart_has_what_both_did() -> None:
    both = Figure("change-p50", "a change", "ms", values={"cairn": [8.0], "bird": [4.0]})
    one = Figure("mesh", "a mesh", "s", values={"cairn": [2.0]})
    memory = Figure("join-memory", "memory", "MB", values={"cairn": [80.0], "bird": [9.0]})
    drawn = draw([both, one, memory])
    assert "change p50" in drawn
    assert "0.008" in drawn
    assert "mesh" not in drawn
    assert "join memory" not in drawn


@needs_root
@pytest.mark.scenario
async def test_the_stop_watch_hears_of_every_route() -> None:
    with namespace("watch") as name:
        sh(f"ip -n {name} link add e0 type veth peer name e1 && ip -n {name} link set e0 up")
        sh(f"ip -n {name} link set e1 up && ip -n {name} addr add 10.0.0.1/24 dev e0")
        with Kernel(name) as kernel:
            batch = "".join(f"route add 10.64.0.{n}/32 via 10.0.0.2\\n" for n in range(1, 101))
            sh(f"printf '{batch}' | ip -n {name} -batch -")
            last = await kernel.until(100, 20)
            assert last == max(kernel.since.values())
            first = (32, socket.inet_aton("10.64.0.1"))
            appeared = await kernel.shown(first, True, 20)
            sh(f"ip -n {name} route del 10.64.0.1/32")
            assert await kernel.shown(first, False, 20) > appeared
            assert len(kernel.since) == 99
            with pytest.raises(KernelError, match="100 routes not within 0 s"):
                await kernel.until(100, 0.05)


@needs_root
@pytest.mark.peer("etcd")
@pytest.mark.scenario
def test_single_changes_from_etcd_to_the_far_kernel(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    words = ["agent", "--quick", "--only", "change", "--rivals", "none", "--json", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "bench", *words],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=180, check=False,
        env={key: value for key, value in os.environ.items() if key != INSIDE},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())["figures"]
    assert [figure["name"] for figure in figures] == ["change-p50", "change-p99"]
    for figure in figures:
        assert figure["failures"] == {}
        assert figure["medians"]["cairn"] > 0
