"""ExaBGP on a host as a peer: it announces what it is told and writes down every event it sees.

ExaBGP starts this file as its API process: what ExaBGP says goes to a file of JSON lines, what a test says
comes in through a FIFO. Nothing is kept in memory but by the test, which replays the events: so a test can
also ask what happened *meanwhile*, for instance whether a route was ever withdrawn.
"""

from __future__ import annotations

import json
import os
import select
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tests.scenario.harness.program import Program
    from tests.scenario.harness.world import Host

_FAMILY = {4: "ipv4 unicast", 6: "ipv6 unicast"}


class ExaPath(NamedTuple):
    """One received path: its next hop and its attributes, as ExaBGP tells them."""

    next_hop: str
    attributes: dict[str, Any]


class ExaBgp:
    """One ExaBGP from the text of its neighbors; the API part of each is added (``@API@``)."""

    def __init__(self, host: Host, neighbors: str) -> None:
        self.host = host
        self._events = host.directory / "exabgp.json"
        self._fifo = host.directory / "exabgp.fifo"
        if not self._fifo.exists():
            os.mkfifo(self._fifo)
        heard = "receive { parsed; update; refresh; notification; }"
        api = f"api {{ processes [ scribe ]; neighbor-changes; {heard} }}"
        scribe = f"{sys.executable} -I -S {__file__} {self._events} {self._fifo}"
        run = f"process scribe {{ run {scribe}; encoder json; }}"
        self._path = host.write("exabgp.conf", f"{run}\n{neighbors.replace('@API@', api)}\n")
        self.program = self._start()

    def _start(self) -> Program:
        self._events.write_text("")
        settings = {
            "exabgp.daemon.user": "root",
            "exabgp.daemon.drop": "false",
            "exabgp.api.cli": "false",
            "exabgp.api.ack": "false",
            "exabgp.log.level": "INFO",
            "exabgp.log.destination": "stdout",
            "exabgp.tcp.delay": "0",
        }
        return self.host.start(
            "exabgp", sys.executable, "-m", "exabgp", "server", self._path, environment=settings
        )

    def restart(self) -> None:
        """Start it again after it was stopped or killed; the events begin anew."""
        self.program = self._start()

    def say(self, line: str) -> None:
        """One command: ``announce route 10.9.0.0/24 next-hop 10.1.0.9``."""
        fd = os.open(self._fifo, os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(fd, line.encode() + b"\n")
        finally:
            os.close(fd)

    def events(self) -> list[dict[str, Any]]:
        """Everything ExaBGP has told since it was started."""
        text = self._events.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines() if line[:1] == "{"]

    def sessions(self) -> dict[str, bool]:
        """Peer address → established."""
        found: dict[str, bool] = {}
        for event in self.events():
            if event["type"] == "state":
                neighbor = event["neighbor"]
                found[neighbor["address"]["peer"]] = neighbor["state"] == "up"
        return found

    def paths(self, version: int = 4, peer: str = "10.1.0.1") -> dict[str, dict[str, ExaPath]]:
        """Prefix → path identifier (empty without add-path) → what one peer has told and not taken back."""
        found: dict[str, dict[str, ExaPath]] = {}
        for event in self.events():
            neighbor = event.get("neighbor", {})
            if neighbor.get("address", {}).get("peer") != peer:
                continue
            if event["type"] == "state" and neighbor["state"] != "up":
                found.clear()
            update = neighbor.get("message", {}).get("update", {})
            for item in update.get("withdraw", {}).get(_FAMILY[version], ()):
                told = found.get(item["nlri"], {})
                told.pop(item.get("path-information", ""), None)
                if not told:
                    found.pop(item["nlri"], None)
            for hop, items in update.get("announce", {}).get(_FAMILY[version], {}).items():
                for item in items:
                    path = ExaPath(hop, update.get("attribute", {}))
                    found.setdefault(item["nlri"], {})[item.get("path-information", "")] = path
        return found

    def routes(self, version: int = 4) -> dict[str, frozenset[str]]:
        """Prefix → next hops the reflector has told."""
        return {
            prefix: frozenset(path.next_hop for path in paths.values())
            for prefix, paths in self.paths(version).items()
        }

    def withdrawn(self, since: int) -> set[str]:
        """Prefixes of any family that were withdrawn at least once after the first `since` events."""
        found: set[str] = set()
        for event in self.events()[since:]:
            update = event.get("neighbor", {}).get("message", {})
            for items in update.get("update", {}).get("withdraw", {}).values() if "update" in update else ():
                found.update(item["nlri"] for item in items)
        return found


def main(events: Path, fifo: Path) -> None:
    """Copy ExaBGP's words to a file and the test's words to ExaBGP, until ExaBGP is gone."""
    commands = os.open(fifo, os.O_RDWR)  # also for writing: so there is no end of file when a writer leaves
    with events.open("ab", buffering=0) as output:
        while True:
            ready, _, _ = select.select([0, commands], [], [])
            if commands in ready:
                os.write(1, os.read(commands, 65536))
            if 0 in ready:
                data = os.read(0, 1 << 20)
                if not data:
                    return
                output.write(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
