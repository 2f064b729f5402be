"""BIRD 1.6 on a host: two daemons, `bird` for IPv4 and `bird6` for IPv6, out of Debian's old package.

The package cannot be installed beside BIRD 2, so it is unpacked into a cache directory (`CAIRN_BIRD1` names
another root with `usr/sbin/bird` in it). `unavailable` says why a machine cannot have it.
"""

from __future__ import annotations

import os
import re
import subprocess
from functools import cache
from pathlib import Path

from tests.scenario.harness.program import Program
from tests.scenario.harness.world import Host

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cairn" / "bird-1.6"
_ROUTE = re.compile(
    r"^(?P<prefix>[0-9a-f.:]+/\d+|\s+)\s*(?:via|dev|blackhole|unreachable).*?\[(?P<protocol>\S+)"
)
_ATTRIBUTE = re.compile(r"^\t(?P<name>BGP\.[\w ]+?)(?: \[\w+\])?: (?P<value>.*)$")


@cache
def root() -> Path | str:
    """Where the package is unpacked, or (text) why it cannot be had."""
    where = Path(os.environ.get("CAIRN_BIRD1") or _CACHE)
    if (where / "usr/sbin/bird6").is_file():
        return where
    where.mkdir(parents=True, exist_ok=True)
    for argv in (("apt-get", "download", "bird=1.6*"), ("sh", "-c", "dpkg -x bird_1.6*.deb .")):
        try:
            done = subprocess.run(argv, cwd=where, capture_output=True, text=True, timeout=60, check=False)
        except (OSError, subprocess.SubprocessError) as error:
            return f"BIRD 1.6 cannot be fetched: {error}"
        if done.returncode != 0:
            return f"BIRD 1.6 cannot be fetched: {done.stderr.strip() or argv}"
    return where


def unavailable() -> str | None:
    """Why there is no BIRD 1.6 here; None if there is."""
    found = root()
    return found if isinstance(found, str) else None


class Bird1:
    """Both daemons; `configurations` are complete texts by IP version."""

    def __init__(self, host: Host, configurations: dict[int, str]) -> None:
        where = root()
        assert isinstance(where, Path), where
        self.host = host
        self._programs = where / "usr/sbin"
        self._paths = {v: host.write(f"bird1-{v}.conf", text) for v, text in configurations.items()}
        self.programs = self._start(restarting=False)

    def _start(self, *, restarting: bool) -> dict[int, Program]:
        flags = ("-R",) if restarting else ()
        return {
            version: self.host.start(
                f"bird1-{version}",
                self._programs / ("bird" if version == 4 else "bird6"),
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
        return self.host.run(self._programs / "birdc", "-s", self._socket(version), command)

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
