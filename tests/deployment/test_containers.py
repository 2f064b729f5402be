"""docker-compose.yml's cluster, started as the page says.

Not for every day: it wants `docker compose`, an engine and the base images, and a few minutes to build, so it
runs only with CAIRN_COMPOSE=1. Which engine is docker's own business (DOCKER_HOST; see CONTRIBUTING.md).
"""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.ctl.cairn import ROOT
from tests.docs.commands import commands

SERVICES = ("rr1", "rr2", "node1", "node2", "node3")
NET_BIND_SERVICE, NET_ADMIN = 1 << 10, 1 << 12

pytestmark = [
    pytest.mark.skipif("CAIRN_COMPOSE" not in os.environ, reason="CAIRN_COMPOSE is not set"),
    pytest.mark.timeout(1200),
]


class Cluster:
    """The file's cluster, under a name of its own."""

    def run(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            words, cwd=ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
            env={**os.environ, "COMPOSE_PROJECT_NAME": f"cairn-test-{os.getpid()}"},
        )  # fmt: skip
        assert not check or done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def exec(self, service: str, *words: str, check: bool = True) -> str:
        return self.run("docker", "compose", "exec", "-T", service, *words, check=check)

    def summary(self) -> str:
        """The first line of the cluster's status, from one of the nodes; "" if it does not answer yet."""
        said = self.exec("node1", "cairn", "status", "-o", "json", check=False)
        return str(json.loads(said)["summary"]) if said else ""

    def process(self, service: str) -> tuple[str, int]:
        """The user and the effective capabilities of a service's process."""
        text = self.exec(service, "cat", "/proc/1/status")
        values = {line.partition(":")[0]: line.split()[1] for line in text.splitlines() if ":" in line}
        return values["Uid"], int(values["CapEff"], 16)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    try:
        yield cluster
    finally:
        cluster.run("docker", "compose", "down", "--volumes", "--timeout", "5", check=False)


def until(what: str, found: Any) -> None:
    deadline = time.monotonic() + 120
    while not found():
        assert time.monotonic() < deadline, what
        time.sleep(0.5)


def test_the_compose_files_cluster(cluster: Cluster) -> None:
    up, status = commands("test_the_compose_files_cluster")
    cluster.run(*up, "--quiet-pull")
    begun = time.monotonic()
    until("all sessions", lambda: "17 of 17 sessions up" in cluster.summary())
    print(f"{time.monotonic() - begun:.1f} s: {cluster.summary()}")
    assert cluster.run(*status[:3], "-T", *status[3:]).startswith("OK: 5 of 5 nodes alive")

    def states() -> dict[str, str]:
        listed = [
            json.loads(line)
            for line in cluster.run("docker", "compose", "ps", "--format", "json").splitlines()
        ]
        return {each["Service"]: each["Health"] or each["State"] for each in listed}

    def healthy() -> bool:
        return all(states()[service] == "healthy" for service in ("etcd", *SERVICES))

    until("the health checks' consent", healthy)
    assert states().keys() >= {*SERVICES, "tor", "mosquitto", "prometheus", "grafana"}
    assert cluster.process("node1") == ("0", NET_ADMIN | NET_BIND_SERVICE)
    assert cluster.process("rr1") == ("65532", 0)
    assert "10.77.2.0/26 via 10.60.0.22 dev eth0" in cluster.exec(
        "node1", "ip", "route", "show", "proto", "179"
    )
    findings = json.loads(cluster.exec("node1", "cairn", "doctor", "-o", "json"))["findings"]
    assert {finding["check"] for finding in findings if finding["verdict"] == "note"} <= {
        "net.ipv6.conf.all.forwarding",
    }
    assert "10.77.1.0/26" in cluster.exec("tor", "vtysh", "-c", "show ip route bgp")
    cluster.exec("node2", "ip", "addr", "add", "10.77.2.1/32", "dev", "lo")
    assert "0% packet loss" in cluster.exec("tor", "ping", "-c", "1", "-W", "5", "10.77.2.1")
