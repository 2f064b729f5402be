"""BIRD 1.6 on a host: two daemons, `bird` for IPv4 and `bird6` for IPv6."""

from __future__ import annotations

import re
from pathlib import Path

from tests.bird1 import PROGRAMS
from tests.scenario.harness.program import Program
from tests.scenario.harness.world import Host

_ROUTE = re.compile(
    r"^(?P<prefix>[0-9a-f.:]+/\d+|\s+)\s*(?:via|dev|blackhole|unreachable).*?\[(?P<protocol>\S+)"
)
_ATTRIBUTE = re.compile(r"^\t(?P<name>BGP\.[\w ]+?)(?: \[\w+\])?: (?P<value>.*)$")


class Bird1:
    """Both daemons; `configurations` are complete texts by IP version."""

    def __init__(self, host: Host, configurations: dict[int, str]) -> None:
        self.host = host
        self._paths = {v: host.write(f"bird1-{v}.conf", text) for v, text in configurations.items()}
        self.programs = self._start(restarting=False)

    def _start(self, *, restarting: bool) -> dict[int, Program]:
        flags = ("-R",) if restarting else ()
        return {
            version: self.host.start(
                f"bird1-{version}",
                PROGRAMS / ("bird" if version == 4 else "bird6"),
                *("-f", "-c", path, "-s", self._socket(version), *flags),
            )
            for version, path in self._paths.items()
        }

    def _socket(self, version: int) -> Path:
        return self.host.directory / f"bird1-{version}.ctl"

    def kill(self) -> None:
        """SIGKILL both."""
        for program in self.programs.values():
            program.kill()

    def restart(self) -> None:
        """Start both again with graceful restart (`-R`)."""
        self.programs = self._start(restarting=True)

    def command(self, version: int, command: str) -> str:
        """One birdc command to the daemon of an IP version, and its answer."""
        return self.host.run(PROGRAMS / "birdc", "-s", self._socket(version), command)

    def sessions(self) -> dict[str, bool]:
        """Peer address → established."""
        found: dict[str, bool] = {}
        for version in self._paths:
            state = ""
            for line in self.command(version, "show protocols all").splitlines():
                if "BGP state:" in line:
                    state = line.split(":")[1].strip()
                elif "Neighbor address:" in line:
                    found[line.split(":", 1)[1].strip().split("%")[0]] = state == "Established"
        return found

    def paths(self, version: int = 4) -> dict[str, list[dict[str, str]]]:
        """Prefix → the attributes of each path learned by BGP."""
        found: dict[str, list[dict[str, str]]] = {}
        prefix = ""
        for line in self.command(version, "show route all").splitlines():
            if (route := _ROUTE.match(line)) is not None:
                prefix = route["prefix"].strip() or prefix
                if route["protocol"].startswith("reflector"):
                    found.setdefault(prefix, []).append({})
            elif (attribute := _ATTRIBUTE.match(line)) is not None and prefix in found:
                found[prefix][-1][attribute["name"]] = attribute["value"].strip()
        return found

    def routes(self, version: int = 4) -> dict[str, frozenset[str]]:
        """Prefix → BGP next hop of its first path."""
        return {
            prefix: frozenset({paths[0].get("BGP.next_hop", "").split(" ")[0]})
            for prefix, paths in self.paths(version).items()
        }
