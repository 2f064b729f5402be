"""What is said of sessions that come and go: every one in the events, not every one in the log.

A line of the log costs more than establishing the session it tells of. When a thousand clients come at once
the first few are named and the rest are counted, in one line, a moment later; likewise when they go.
"""

from collections.abc import Callable

import structlog

from bgpd.telemetry.flapping import Flapping
from bgpd.telemetry.status import EventRing, Severity

LINES = 8  # sessions named in the log per tick, each way

log = structlog.get_logger()


class SessionJournal:
    """Logs and records the ups and downs of sessions. `clock` gives the wall time of events."""

    def __init__(self, events: EventRing, clock: Callable[[], float]) -> None:
        self._events = events
        self._clock = clock
        self._ups = self._downs = 0
        self._flapping = Flapping()

    def up(self, peer: str, asn: int, kind: str) -> None:
        """A session is Established."""
        self._ups += 1
        if self._ups <= LINES:
            log.info("session up", peer=peer, asn=asn, kind=kind)
        self._events.add(self._clock(), "session.up", f"{peer} is Established", peer=peer)

    def down(self, peer: str, reason: str) -> None:
        """A session that was Established is over."""
        self._downs += 1
        if self._downs <= LINES:
            log.info("session down", peer=peer, reason=reason)
        self._events.add(
            self._clock(), "session.down", f"{peer}: {reason}", severity=Severity.WARNING, peer=peer
        )
        if self._flapping.lost(peer, self._clock()):
            text = f"{peer} flaps: {reason}"
            self._events.add(self._clock(), "session.flapping", text, severity=Severity.WARNING, peer=peer)

    def tick(self) -> None:
        """Say what was not said since the last tick."""
        if self._ups > LINES:
            log.info("more sessions up", count=self._ups - LINES)
        if self._downs > LINES:
            log.info("more sessions down", count=self._downs - LINES)
        self._ups = self._downs = 0
