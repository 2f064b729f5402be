"""What a whole agent tells of itself: how long things took, and its status where it was asked for."""

from __future__ import annotations

import json
import signal
import sys
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.exabgp.troubles import UNREACHED
from tests.agent.cluster import BIRD, Cluster
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


async def test_why_a_lost_session_does_not_come_up_again_is_told(cluster: Cluster) -> None:
    """Not only why the former one was lost."""
    a, bird = cluster.a, cluster.bird
    a.config["http"] = {"port": PORT}
    cluster.peer_with_bird()

    def reason() -> str:
        [peer] = json.loads(fetch(a.inside, "/api/v1/peers"))["peers"]
        assert (peer["last_reason_at"] is None) == (not peer["last_reason"])
        return str(peer["last_reason"])

    def begin(before: str, after: str) -> None:
        bird.stop(signal.SIGKILL)
        (bird.directory / "bird.conf").write_text(BIRD.replace(before, after))
        bird.start()

    begin("passive on;", 'passive on; password "another";')
    a.start()
    await eventually(lambda: a.said("exabgp started") == 1)
    await eventually(lambda: reason() == UNREACHED)
    begin("", "")
    await eventually(lambda: a.said("session up") == 1 and reason() == "")
    bird.ask("disable agent")
    await eventually(lambda: a.said("session down") == 1)
    lost = "notification received (6,2)"
    await eventually(lambda: reason().startswith(lost))
    begin("as 65100;", "as 65111;")
    await eventually(lambda: reason().endswith("; since then: notification sent (2,2), bad peer AS"))
    assert reason().startswith(lost)


async def test_the_updates_sent_are_counted_the_long_ones_too(cluster: Cluster) -> None:
    a, bird = cluster.a, cluster.bird
    prefixes = [f"192.0.2.{host}/32" for host in range(100)]
    a.config |= {"http": {"port": PORT}, "staticRoutes": prefixes}
    cluster.peer_with_bird()
    bird.start()

    def sent() -> float:
        found: float = metrics(a.inside)["cairn_bgp_peer_messages_sent_total['Global_10_0_0_3', 'update']"]
        return found

    a.start()
    await eventually(lambda: bird.routes("agent").keys() == set(prefixes))
    await eventually(lambda: sent() >= 2)  # all in one, and End-of-RIB
    assert sent() < 10
