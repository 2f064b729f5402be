"""Two agents and a BIRD in namespaces of their own, on one bridge."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.agent.ground import (
    Bird,
    sh,
)

ROOT = Path(__file__).parents[2]


class Node:
    """An agent in a namespace of its own."""

    def __init__(self, directory: Path, name: str, inside: str, address: str, **config: object) -> None:
        self.name, self.inside, self.directory = name, inside, directory
        self.run = directory / f"run-{name}"
        self.log = directory / f"{name}.log"
        self.config: dict[str, Any] = {
            "node": name, "datastore": str(directory / "store"), "ipv4": f"{address}/24",
            "exabgp": {"runDirectory": str(self.run)}, "syncWait": 8, **config,
        }  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None
        self.environment: dict[str, str] = {}
        self.within: list[str] = []  # the command that runs it

    def start(self) -> None:
        path = self.directory / f"{self.name}.yaml"
        path.write_text(yaml.safe_dump(self.config))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.within, "ip", "netns", "exec", self.inside,
                 sys.executable, "-m", "agent", "--config", str(path)],
                cwd=ROOT, stdout=log, stderr=log, env={**os.environ, **self.environment},
            )  # fmt: skip

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(60)
            self.process = None

    def routes(self, what: str = "proto 179") -> dict[str, dict[str, Any]]:
        listed = json.loads(sh(f"ip -n {self.inside} -j route show {what}") or "[]")
        return {route["dst"]: route for route in listed}

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def said(self, event: str) -> int:
        return sum(line["event"] == event for line in self.lines())

    def said_more(self, event: str, than: int) -> bool:
        return self.said(event) > than


class Cluster:
    """Two nodes and a BIRD on one bridge; the store is a directory."""

    def __init__(self, directory: Path, names: dict[str, str]) -> None:
        self.directory = directory
        self.store = directory / "store"
        self.store.mkdir()
        self.a = Node(directory, "a", names["a"], "10.0.0.1")
        self.b = Node(directory, "b", names["b"], "10.0.0.2")
        (directory / "bird").mkdir()
        self.bird = Bird(directory / "bird", BIRD, names["t"])
        self.declare("pool", "IPPool", "p", {"cidr": "10.77.0.0/16", "blockSize": 26})

    def declare(self, file: str, kind: str, name: str, spec: dict[str, Any], **metadata: str) -> None:
        document = {
            "apiVersion": "projectcalico.org/v3",
            "kind": kind,
            "metadata": {"name": name, **metadata},
            "spec": spec,
        }
        path = self.store / f"{file}.new"
        path.write_text(yaml.safe_dump(document))
        path.replace(self.store / f"{file}.yaml")

    def workload(self, node: str, name: str, *addresses: str) -> None:
        spec = {
            "orchestrator": "k8s", "node": node, "pod": name, "endpoint": "eth0", "interfaceName": "cali0",
            "ipNetworks": [f"{address}/32" for address in addresses],
        }  # fmt: skip
        self.declare(f"w-{name}", "WorkloadEndpoint", f"{node}-k8s-{name}-eth0", spec, namespace="default")

    def remove(self, file: str) -> None:
        (self.store / f"{file}.yaml").unlink()

    def block(self, node: str, cidr: str) -> None:
        name = f"{node}-{cidr.replace('.', '-').replace('/', '-')}"
        spec = {"node": node, "cidr": cidr, "state": "confirmed"}
        self.declare(f"b-{name}", "BlockAffinity", name, spec)

    def peer_with_bird(self) -> None:
        self.declare("tor", "BGPPeer", "tor", {"peerIP": "10.0.0.3", "asNumber": 65100})


BIRD = """
router id 10.0.0.3;
log stderr all;
protocol device {}
protocol static { ipv4; route 192.0.2.0/24 blackhole; route 0.0.0.0/0 blackhole; }
template bgp node {
  local 10.0.0.3 as 65100; passive on; graceful restart on; error wait time 1, 2;
  ipv4 { import all; export where source = RTS_STATIC; };
}
protocol bgp agent from node { neighbor 10.0.0.1 as 64512; }
protocol bgp second from node { neighbor 10.0.0.2 as 64512; }
"""
