"""Until when the routes of peers that are away may stay, written down for the next agent.

A peer that went as it had promised to come back has its restart time (and perhaps a long-lived one), whatever
becomes of the agent meanwhile; and one that goes while no agent looks has it too. The kernel's routes do not
say who told them. So the run directory's ``retained.json`` has what was promised and since when it counts,
and the next agent leaves what it finds in the kernel until then (see ``node``).

Times are the event loop's, which on Linux all processes of one boot have in common; after another boot there
are no routes, and the file counts for nothing. It is at most a second behind.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from math import ceil
from pathlib import Path
from typing import Any

import structlog

from agent.learned import FAMILIES, Retained
from bgpd.notes import read_note, unusable, write_whole

_BOOT = Path("/proc/sys/kernel/random/boot_id")
log = structlog.get_logger("agent")


class Retention:
    """``path``: the file. One that cannot be written is said once, and tried with the next note."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._noted: Mapping[str, Retained] | None = None  # what the file says, as far as known
        self._said = False

    def recall(self) -> dict[str, Retained]:
        """What a former agent noted, by peer; nothing where that is not known."""
        try:
            known = read_note(self._path)
            if known["boot"] != _BOOT.read_text().strip():
                return {}
            return {address: _retained(each) for address, each in known["peers"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            unusable(self._path, error)
            return {}

    def note(self, retained: Mapping[str, Retained]) -> None:
        if retained == self._noted:
            return
        try:
            peers = {address: _document(each) for address, each in retained.items()}
            write_whole(self._path, json.dumps({"boot": _BOOT.read_text().strip(), "peers": peers}))
            self._noted, self._said = retained, False
        except OSError as error:
            if not self._said:
                reason = str(error)
                log.error(
                    "the next agent would not know whom to wait for", file=str(self._path), reason=reason
                )
            self._said = True

    def forget(self) -> None:
        """No route is left."""
        with contextlib.suppress(OSError):  # the worst that a file left behind does is to keep nothing
            self._path.unlink()


def unseen(addresses: Iterable[str], seconds: float) -> dict[str, Retained]:
    """The same of peers that nobody listened to until now: their sessions may be found up, for so long."""
    return {address: Retained(True, None, ceil(seconds), {}, {}, False) for address in addresses}


def _document(retained: Retained) -> dict[str, object]:
    return {
        "up": retained.up,
        "until": retained.stale_until,
        "restart": retained.restart_time,
        "longLived": {str(family): seconds for family, seconds in retained.long_lived.items()},
        "longLivedUntil": {str(family): until for family, until in retained.long_lived_until.items()},
        "held": retained.held,
    }


def _retained(document: Mapping[str, Any]) -> Retained:
    until, long_lived, over = document["until"], document["longLived"], document["longLivedUntil"]
    return Retained(
        bool(document["up"]),
        None if until is None else float(until),
        int(document["restart"]),
        {family: int(long_lived[str(family)]) for family in FAMILIES if str(family) in long_lived},
        {family: float(over[str(family)]) for family in FAMILIES if str(family) in over},
        bool(document["held"]),
    )
