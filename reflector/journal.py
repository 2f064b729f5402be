"""What is said of sessions and operators: that sessions come and go is in the events at once, in the log with
the next tick.

A line of the log costs more than establishing the session it tells of, so sessions are opened first and told
of then. When a thousand clients come at once the first few are named and the rest are counted, in one line;
likewise when they go.

Two internal peers of one AS with one BGP Identifier are named at once: each takes the other's routes for its
own (ORIGINATOR_ID), and no session ends. One of IPv4 and one of IPv6 are a router's two, and of another AS
any may be.
"""

from collections.abc import Callable
from ipaddress import ip_address

import structlog

from bgpd.rib.path import SourceKind
from bgpd.telemetry.documents import rfc3339
from bgpd.telemetry.flapping import Flapping
from bgpd.telemetry.status import EventRing, PeerVerb, Severity
from bgpd.wire.malformed import Malformed

LINES = 8  # sessions named in the log per tick, each way
_Identity = tuple[int, bool, bytes]  # AS, whether over IPv6, BGP Identifier

log = structlog.get_logger(__name__)  # compiled there is no frame to read it from


class SessionJournal:
    """Logs and records what happens to sessions. `clock` gives the wall time of events."""

    def __init__(self, events: EventRing, clock: Callable[[], float]) -> None:
        self._events = events
        self._clock = clock
        self._ups = self._downs = self._twins = 0  # since the last tick
        self._named: list[dict[str, str | int]] = []  # lines for the first of them, in order
        self._flapping = Flapping()
        self._alike: dict[_Identity, list[str]] = {}  # whose sessions are up, by BGP Identifier
        self._identities: dict[str, _Identity] = {}

    def up(self, peer: str, asn: int, kind: str, identifier: bytes) -> None:
        """A session is Established."""
        if kind != SourceKind.EXTERNAL.value:
            self._identify(peer, (asn, ":" in peer, identifier))
        self._ups += 1
        if self._ups <= LINES:
            self._name("session up", peer=peer, asn=asn, kind=kind)
        self._events.add(self._clock(), "session.up", f"{peer} is Established", peer=peer)

    def _identify(self, peer: str, identity: _Identity) -> None:
        self._identities[peer] = identity
        alike = self._alike.setdefault(identity, [])
        if alike:
            other, shown = alike[0], str(ip_address(identity[2]))
            self._twins += 1
            if self._twins <= LINES:
                log.warning("two peers have one BGP Identifier", peer=peer, other=other, identifier=shown)
            text = f"{peer} has the BGP Identifier of {other}, {shown}: neither takes the other's routes"
            self._warn("peer.identifier", text, peer)
        alike.append(peer)

    def down(self, peer: str, reason: str) -> None:
        """A session that was Established is over."""
        if (identity := self._identities.pop(peer, None)) is not None:
            self._alike[identity].remove(peer)
            if not self._alike[identity]:
                del self._alike[identity]
        self._downs += 1
        if self._downs <= LINES:
            self._name("session down", peer=peer, reason=reason)
        self._warn("session.down", f"{peer}: {reason}", peer)
        if self._flapping.lost(peer, self._clock()):
            self._warn("session.flapping", f"{peer} flaps: {reason}", peer)

    def near_limit(self, peer: str, total: int, limit: int) -> None:
        """A peer comes near to the number of prefixes it may announce."""
        log.warning("prefix limit near", peer=peer, received=total, limit=limit)
        self._warn("prefixes.near_limit", f"{peer} announces {total} prefixes of the {limit} it may", peer)

    def overfull(self, peer: str, limit: int) -> None:
        """A peer sends more paths of a prefix than are taken in."""
        log.warning("too many paths of a prefix", peer=peer, limit=limit)
        text = f"{peer} sends more than {limit} paths of a prefix; the others are not taken in"
        self._warn("paths.over_limit", text, peer)

    def malformed(self, peer: str, found: Malformed) -> None:
        """A peer's UPDATE had attributes at fault (RFC 7606 8: with its NLRI and as it came)."""
        log.error("malformed UPDATE", peer=peer, **found.facts)
        self._warn("update.malformed", f"{peer}: malformed UPDATE: {found.reason}", peer)

    def drained(self, draining: bool) -> None:
        """The operator moves traffic away from us, or lets it come back."""
        if draining:
            text = "everything is told as the last resort (RFC 8326)"
            self._events.add(self._clock(), "reflector.draining", text, severity=Severity.WARNING)
        else:
            self._events.add(self._clock(), "reflector.undrained", "everything is told as it is again")

    def operated(self, peer: str, verb: PeerVerb, reason: str) -> None:
        """The operator did something to one peer."""
        log.info("peer operated", peer=peer, verb=str(verb), reason=reason)
        text = f"{peer}: {verb} by the operator" + (f" ({reason})" if reason else "")
        self._events.add(self._clock(), "peer.operated", text, peer=peer)

    def _name(self, event: str, **facts: str | int) -> None:
        self._named.append({"event": event, **facts, "timestamp": rfc3339(self._clock())})

    def _warn(self, kind: str, text: str, peer: str) -> None:
        self._events.add(self._clock(), kind, text, severity=Severity.WARNING, peer=peer)

    def tick(self) -> None:
        """Say what happened since the last tick."""
        for line in self._named:
            log.info(**line)
        self._named.clear()
        if self._ups > LINES:
            log.info("more sessions up", count=self._ups - LINES)
        if self._downs > LINES:
            log.info("more sessions down", count=self._downs - LINES)
        self._ups = self._downs = self._twins = 0
