"""GoBGP on a host: routes are announced through its command, and read back as JSON."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

from tests.scenario.harness.program import Program
from tests.scenario.harness.world import Host

_NEXT_HOP = 3
_MP_REACH_NLRI = 14


class GoBgp:
    """One gobgpd from YAML text, or another ``form`` it reads. No zebra, so no kernel routes."""

    def __init__(self, host: Host, configuration: str, form: str = "yaml") -> None:
        self.host = host
        self._form = form
        self._path = host.write(f"gobgpd.{form}", configuration)
        self.program = self._start()

    def _start(self, *flags: str) -> Program:
        api = ("--pprof-disable", "--api-hosts", "127.0.0.1:50051")
        return self.host.start("gobgpd", "gobgpd", "-t", self._form, "-f", self._path, "-p", *api, *flags)

    def restart(self, *flags: str) -> None:
        """Start it again after it was stopped or killed; with ``-r`` as from a graceful restart."""
        self.program = self._start(*flags)

    def command(self, *words: str) -> str:
        """One `gobgp` command and its answer."""
        return self.host.run("gobgp", "-u", "127.0.0.1", *words)

    def announce(self, prefix: str, next_hop: str, *more: str) -> None:
        """Put a route into its table: ``announce("10.9.0.0/24", "10.2.0.9", "med", "5")``."""
        self._route("add", prefix, next_hop, *more)

    def withdraw(self, prefix: str, next_hop: str) -> None:
        """Take a route out again."""
        self._route("del", prefix, next_hop)

    def _route(self, verb: str, prefix: str, next_hop: str, *more: str) -> None:
        family = f"ipv{ipaddress.ip_network(prefix).version}"
        self.command("global", "rib", verb, prefix, "nexthop", next_hop, *more, "-a", family)

    def sessions(self) -> dict[str, bool]:
        """Peer address → established (session state 6 in GoBGP's numbering)."""
        peers: list[dict[str, Any]] = json.loads(self.command("neighbor", "-j"))
        return {peer["conf"]["neighbor_address"]: peer["state"].get("session_state") == 6 for peer in peers}

    def paths(self, version: int = 4) -> dict[str, list[dict[str, Any]]]:
        """Prefix → its paths as GoBGP tells them, best first."""
        text = self.command("global", "rib", "-a", f"ipv{version}", "-j")
        found: dict[str, list[dict[str, Any]]] = json.loads(text)
        return found

    def routes(self, version: int = 4) -> dict[str, frozenset[str]]:
        """Prefix → next hop of the best path; its own routes (next hop unspecified) are left out."""
        found: dict[str, frozenset[str]] = {}
        for prefix, paths in self.paths(version).items():
            for path in paths:
                hops = {
                    attribute["nexthop"]
                    for attribute in path["attrs"]
                    if attribute["type"] in (_NEXT_HOP, _MP_REACH_NLRI) and "nexthop" in attribute
                }
                if path.get("best") and "source-id" in path:
                    found[prefix] = frozenset(hops)
        return found
