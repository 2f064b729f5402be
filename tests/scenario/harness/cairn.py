"""Cairn's own services on a host, started as an operator starts them: the real command with a file."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.scenario.harness.program import Program, children, command_line
from tests.scenario.harness.world import Host

COMMAND = Path(sys.executable).with_name("cairn")
_FETCH = "import sys, urllib.request as r; sys.stdout.buffer.write(r.urlopen(sys.argv[1], timeout=60).read())"


class Service:
    """One ``cairn <kind> --config FILE``; `restart` runs the same again after a stop or a kill."""

    kind = ""
    port = 0
    command: tuple[str | Path, ...] = (COMMAND,)

    def __init__(
        self, host: Host, configuration: dict[str, Any], environment: Mapping[str, str] | None = None
    ) -> None:
        self.host = host
        self.environment = environment
        self._path = host.write(f"{self.kind}.yaml", yaml.safe_dump(configuration, sort_keys=False))
        self.program = self._start()

    def _start(self) -> Program:
        log = self.host.directory / f"{self.kind}.log"
        self._logged_before = log.stat().st_size if log.exists() else 0
        words = (*self.command, self.kind, "--config", self._path)
        return self.host.start(self.kind, *words, environment=self.environment)

    def ready(self) -> bool:
        """Whether it has said that it serves, since it was last started."""
        return any(line.get("event") == f"{self.kind} ready" for line in self.log_lines())

    def restart(self) -> None:
        """Start it again."""
        self.program = self._start()

    def write(self, configuration: dict[str, Any]) -> None:
        """Write another configuration, for the next start."""
        self._path.write_text(yaml.safe_dump(configuration, sort_keys=False))

    def configure(self, configuration: dict[str, Any]) -> None:
        """Write another configuration and have it read (SIGHUP)."""
        self.write(configuration)
        self.program.signal(signal.SIGHUP)

    def run(self, *words: str) -> str:
        """Another `cairn` command on the same host."""
        return self.host.run(COMMAND, *words)

    def api(self, path: str) -> Any:  # JSON whose shape the caller knows
        """What its status interface answers: ``api("peers")``."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}"
        return json.loads(self.host.run(sys.executable, "-I", "-S", "-c", _FETCH, url))

    def sessions(self) -> dict[str, bool]:
        """Peer address → established, as the service itself says."""
        return {peer["address"]: peer["established"] for peer in self.api("peers")["peers"]}

    def said(self, *texts: str) -> bool:
        """Whether one line of its log since its last start has all these texts in it."""
        return any(all(text in str(line) for text in texts) for line in self.log_lines())

    def log_lines(self) -> list[dict[str, Any]]:
        """What it has logged since its last start: one JSON object to a line."""
        text = self.program.log.read_bytes()[self._logged_before :].decode(errors="replace")
        return [json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}")]


class Reflector(Service):
    """A route reflector."""

    kind = "reflector"
    port = 9179


class Agent(Service):
    """A node agent with its ExaBGP processes."""

    kind = "agent"
    port = 9178

    def exabgp_pids(self) -> list[int]:
        """The ExaBGP processes of this host, also those whose agent has died."""
        inside = self.host.run("ip", "netns", "pids", self.host.namespace.name).split()
        found = []
        for pid in map(int, inside):
            words = command_line(pid).split()
            if any("exabgp" in word for word in words[:3]) and "handover" not in " ".join(words[:4]):
                found.append(pid)
        descendants = {child for pid in found for child in children(pid)}
        return sorted(set(found) - descendants)
