"""What a session and a peer count, as plain records that the status layer reads.

The owner of a durable peer gives every connection the same `SessionCounters`, so that the numbers of a peer
survive its connections. Numbers only grow; a reader takes differences.
"""

from dataclasses import dataclass, field

from bgpd.wire.iana import MessageType


@dataclass(slots=True)
class MessageCounters:
    """Messages of one direction, by type."""

    opens: int = 0
    updates: int = 0
    notifications: int = 0
    keepalives: int = 0
    route_refreshes: int = 0

    @property
    def total(self) -> int:
        """All messages of this direction."""
        return self.opens + self.updates + self.notifications + self.keepalives + self.route_refreshes

    def count(self, kind: int) -> None:
        """Add one message of type `kind`; an unknown type is not a message and is not counted."""
        match kind:
            case MessageType.KEEPALIVE:
                self.keepalives += 1
            case MessageType.UPDATE:
                self.updates += 1
            case MessageType.ROUTE_REFRESH:
                self.route_refreshes += 1
            case MessageType.OPEN:
                self.opens += 1
            case MessageType.NOTIFICATION:
                self.notifications += 1


@dataclass(slots=True)
class SessionCounters:
    """Both directions. Sent UPDATEs are those the owner told `Session.sent` of."""

    received: MessageCounters = field(default_factory=MessageCounters)
    sent: MessageCounters = field(default_factory=MessageCounters)
    octets_received: int = 0
    attribute_faults: int = 0


@dataclass(slots=True)
class PeerCounters:
    """The life of a peer over its connections. Times are those of the caller's clock, in seconds."""

    messages: SessionCounters = field(default_factory=SessionCounters)
    established: int = 0
    """Times Established was reached."""
    closed: int = 0
    """Times Established was left: flaps, in an operator's words."""
    attempts: int = 0
    """Connections asked for."""
    failures: int = 0
    """Attempts and connections that ended before Established."""
    refused: int = 0
    """Incoming connections turned away: idle hold, disabled, or one is Established."""
    collisions: int = 0
    """Connections that lost a collision."""
    established_since: float | None = None
    last_closed: float | None = None
    last_error: str = ""
    """Why the last connection ended, or could not be had, in words."""
    last_error_at: float | None = None
    """When."""
