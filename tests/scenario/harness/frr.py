"""FRRouting (zebra and bgpd) on a host; its view through `vtysh`, as JSON."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.scenario.harness.program import Program
from tests.scenario.harness.world import Host

DAEMONS = Path("/usr/lib/frr")
_USER = "frr"  # zebra insists on a user that belongs to its vty group


class Frr:
    """zebra and bgpd with sockets of their own, so that several hosts of one machine do not meet.

    `bgpd` is bgpd's configuration, `zebra` zebra's (static routes belong to the host: `Host.ip`).
    """

    def __init__(self, host: Host, bgpd: str, zebra: str = "") -> None:
        self.host = host
        self._directory = host.directory / "frr"
        self._directory.mkdir()
        for name, text in (("zebra", zebra), ("bgpd", bgpd)):
            (self._directory / f"{name}.conf").write_text(
                f"hostname {host.name}\nlog timestamp precision 3\n{text}\n"
            )
        shutil.chown(self._directory, _USER, _USER)
        self.zebra = self._start("zebra")
        host.world.wait_until("zebra listening", (self._directory / "zserv.api").exists)
        self.bgpd = self._start("bgpd")

    def _start(self, daemon: str) -> Program:
        where = self._directory
        return self.host.start(
            daemon,
            DAEMONS / daemon,
            *("-u", _USER, "-g", _USER, "--vty_socket", where, "-z", where / "zserv.api"),
            *("-i", where / f"{daemon}.pid", "-f", where / f"{daemon}.conf", "-P", "0"),
            *("--log", "stdout", "--log-level", "info"),
        )

    def configure(self, bgpd: str) -> None:
        """Another configuration for the next start of bgpd."""
        (self._directory / "bgpd.conf").write_text(
            f"hostname {self.host.name}\nlog timestamp precision 3\n{bgpd}\n"
        )

    def restart_bgpd(self) -> None:
        """Start bgpd again after it was stopped or killed."""
        self.bgpd = self._start("bgpd")

    def command(self, *commands: str) -> str:
        """vtysh commands in order (``"configure terminal", "router bgp 65000", …``) and the answer."""
        words = [word for command in commands for word in ("-c", command)]
        return self.host.run("vtysh", "--vty_socket", self._directory, *words)

    def show(self, what: str) -> Any:  # FRR's JSON has no schema; the callers pick what they need
        """The answer to ``show <what> json``."""
        return json.loads(self.command(f"show {what} json"))

    def sessions(self) -> dict[str, bool]:
        """Peer address → established."""
        return {
            address: peer.get("bgpState") == "Established"
            for address, peer in self.show("bgp neighbors").items()
        }

    def routes(self, version: int = 4) -> dict[str, frozenset[str]]:
        """Prefix → global next hops of the best path, and of those that share its traffic."""
        found: dict[str, frozenset[str]] = {}
        for prefix, paths in self.show(f"bgp ipv{version} unicast").get("routes", {}).items():
            hops = {
                hop["ip"]
                for path in paths
                if path.get("bestpath") or path.get("multipath")
                for hop in path["nexthops"]
                if hop.get("scope", "global") == "global"
            }
            if hops and hops != {"0.0.0.0"} and hops != {"::"}:
                found[prefix] = frozenset(hops)
        return found
