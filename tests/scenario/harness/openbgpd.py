"""OpenBGPD on a host, read through `bgpctl -j`. On Linux it touches no kernel routes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.scenario.harness.world import Host

_CHROOT = Path("/run/openbgpd")  # compiled in: the home of its user; stays empty


class OpenBgpd:
    """One bgpd with a control socket of its own. `configuration` lacks only the `socket` line."""

    def __init__(self, host: Host, configuration: str) -> None:
        self.host = host
        _CHROOT.mkdir(mode=0o755, exist_ok=True)
        self._socket = host.directory / "openbgpd.sock"
        path = host.write("openbgpd.conf", f'socket "{self._socket}"\n{configuration}\n')
        path.chmod(0o600)  # it refuses a file that others may write or read
        self.program = host.start("openbgpd", "/usr/sbin/bgpd", "-d", "-f", path)

    def command(self, *words: str) -> str:
        """One bgpctl command and its answer."""
        return self.host.run("bgpctl", "-s", self._socket, *words)

    def show(self, *words: str) -> Any:  # JSON without a schema
        """The JSON answer to ``bgpctl show …``."""
        return json.loads(self.command("-j", "show", *words))

    def states(self) -> dict[str, str]:
        """Peer address → state of its session, as it calls it."""
        return {peer["remote_addr"]: peer["state"] for peer in self.show("neighbor")["neighbors"]}

    def sessions(self) -> dict[str, bool]:
        """Peer address → established."""
        return {address: state == "Established" for address, state in self.states().items()}

    def routes(self, version: int = 4) -> dict[str, frozenset[str]]:
        """Prefix → next hop of the best path; its own networks are left out."""
        family = "inet" if version == 4 else "inet6"
        return {
            entry["prefix"]: frozenset({entry["exit_nexthop"]})
            for entry in self.show("rib", family).get("rib", [])
            if entry.get("best") and entry["neighbor"].get("description") != "LOCAL"
        }
