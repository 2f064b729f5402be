"""What a whole agent tells of itself: how long things took, and its status where it was asked for."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.agent.cluster import Cluster
from tests.agent.ground import eventually, needs_bird, needs_root, sh

pytestmark = [needs_root, pytest.mark.scenario, *needs_bird]
PORT = 9178


def fetch(inside: str, path: str) -> str:
    script = f"import urllib.request as r; print(r.urlopen('http://127.0.0.1:{PORT}{path}').read().decode())"
    return sh(f'ip netns exec {inside} {sys.executable} -c "{script}"')


def metrics(inside: str) -> dict[str, float]:
    return {
        f"{sample.name}{sorted(sample.labels.values())}": sample.value
        for family in text_string_to_metric_families(fetch(inside, "/metrics"))
        for sample in family.samples
    }


def node_status(cluster: Cluster) -> dict[str, Any]:
    for path in cluster.store.rglob("*"):
        if path.is_file() and "CalicoNodeStatus" in path.read_text():
            found: dict[str, Any] = json.loads(
                sh(f"{sys.executable} -m ctl get caliconodestatus mine --datastore {cluster.store} -o json")
            )
            return found
    return {}


async def test_convergence_rejections_and_node_status(cluster: Cluster) -> None:
    a, b = cluster.a, cluster.b
    a.config["http"] = {"port": PORT}
    cluster.block("a", "10.77.0.0/26")
    wish = {"node": "a", "classes": ["Agent", "BGP", "Routes"], "updatePeriodSeconds": 1}
    cluster.declare("mine", "CalicoNodeStatus", "mine", wish)
    a.start()
    b.start()
    await eventually(lambda: "10.77.0.0/26" in b.routes())
    cluster.block("b", "10.77.1.0/26")
    await eventually(lambda: "10.77.1.0/26" in a.routes())
    cluster.block("a", "10.77.2.0/26")
    await eventually(lambda: "10.77.2.0/26" in b.routes())
    await eventually(lambda: metrics(a.inside)["cairn_datastore_to_wire_seconds_count[]"] >= 1)
    found = metrics(a.inside)
    assert found["cairn_received_to_kernel_seconds_count[]"] >= 1
    for name in ("datastore_to_wire", "received_to_kernel"):
        assert 0 < found[f"cairn_{name}_seconds_sum[]"] < 60 * found[f"cairn_{name}_seconds_count[]"]
    assert "Established" in json.dumps(node_status(cluster))
    assert "<title>Cairn</title>" in fetch(a.inside, "/")
