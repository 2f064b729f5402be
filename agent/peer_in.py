"""What a node knows of a peer it learns from, over all its sessions."""

from __future__ import annotations

from dataclasses import dataclass, field

from bgpd.plan.model import Peering
from bgpd.rib.path import Source
from bgpd.wire.capabilities import Negotiated
from bgpd.wire.messages import Notification
from bgpd.wire.nlri import Family
from bgpd.wire.update import UpdateDecoder


@dataclass(slots=True, eq=False)
class PeerIn:
    """The receiving side of one planned session, over all its connections."""

    peering: Peering
    source: Source
    up: bool = False
    negotiated: Negotiated | None = None
    decoder: UpdateDecoder | None = None
    awaited: set[Family] = field(default_factory=set)  # whose End-of-RIB has not come in this session
    ended: set[Family] = field(default_factory=set)
    amid: dict[Family, bool] = field(default_factory=dict)  # adopted, no beginning seen → any route since
    sync_by: float = 0.0  # when waiting for End-of-RIB ends,
    sync_latest: float = 0.0  # however much the peer goes on telling
    stale_until: float | None = None  # when stale routes go; None while none are, or none may
    held: bool = False  # stale without a time limit: fail static
    ours: bool = False  # it was our ExaBGP that ended the last session, not the peer
    recalled: bool = False  # not up in this life, but in a former one, whose routes the kernel has
    restart_time: int = 0  # seconds, as the peer last promised
    long_lived: dict[Family, int] = field(default_factory=dict)  # seconds, after the restart time
    long_lived_until: dict[Family, float] = field(default_factory=dict)
    since: float | None = None  # seconds since the epoch: when a session last began or ended,
    planned: float = 0.0  # and when it was planned
    flaps: int = 0
    lost: str = ""  # why the last session ended, until there is another
    updates: int = 0
    malformed: int = 0
    malformed_told: float = 0.0  # when the next may be told of
    last_notification: Notification | None = None
    over_limit: bool = False  # whether some of its routes may be refused for being too many
    ask_at: float = 0.0  # when to ask again for what was too much, if there is room
    taken: int | None = None  # how many routes count; None when that is not known

    @property
    def synced(self) -> bool:
        return not self.awaited

    @property
    def away(self) -> bool:
        """Whether it is not up, and has time left to come back."""
        return not self.up and (self.held or self.stale_until is not None or bool(self.long_lived_until))
