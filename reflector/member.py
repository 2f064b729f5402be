"""A member: a peer as the RIB side of the reflector knows it.

Its options, what it has yet to read of each family (`Reading`), and what is kept of it through a restart.
Plain state; what happens to it is `core`'s.
"""

from dataclasses import dataclass, field

from bgpd.plan.policy import CompiledFilter
from bgpd.rib.export_log import Cursor
from bgpd.rib.path import Source, SourceKind
from bgpd.rib.reflection import Target
from bgpd.rib.update_group import UpdateGroup
from bgpd.wire.capabilities import Negotiated
from bgpd.wire.iana import Role
from bgpd.wire.nlri import Family


@dataclass(frozen=True, slots=True)
class GroupKey:
    """What must be equal for two peers to be told the same bytes."""

    family: Family
    target: Target
    add_path_limit: int
    max_length: int
    filters: tuple[CompiledFilter, ...] = ()


@dataclass(frozen=True, slots=True)
class MemberOptions:
    """What the configuration says of a peer, as far as routes are concerned. Times in seconds."""

    kind: SourceKind
    add_path_limit: int = 0
    path_limit: int = 256  # of one prefix, taken in from one peer (RFC 7911)
    allowed_own_as: int = 0
    own_next_hop: bool = False  # put our address of the session in place of the next hop
    local_asn: int | None = None
    accepts: bool = True  # RFC 8212: False for an external peer without an import policy
    tells: bool = True  # RFC 8212: the same for export
    long_lived_stale_time: int = 0
    import_filters: tuple[CompiledFilter, ...] = ()
    export_filters: tuple[CompiledFilter, ...] = ()
    role: Role | None = None  # ours towards a peer of another AS (RFC 9234 4.1)
    enforce_first_as: bool = True  # a path of another AS begins with that AS (RFC 4271 6.3)
    honour_graceful_shutdown: bool = True  # what another AS marks with it is the last resort (RFC 8326 4)

    @property
    def import_side(self) -> tuple[object, ...]:
        """What decides what is made of received routes."""
        return (
            self.accepts,
            self.allowed_own_as,
            self.import_filters,
            self.role,
            self.local_asn,
            self.path_limit,
            self.enforce_first_as,
            self.honour_graceful_shutdown,
        )

    @property
    def export_side(self) -> tuple[object, ...]:
        """What decides what is told."""
        return (self.tells, self.export_filters, self.own_next_hop, self.role, self.add_path_limit)

    @property
    def internal(self) -> bool:
        """Whether the peer is of our own AS."""
        return self.kind is not SourceKind.EXTERNAL


@dataclass(slots=True)
class Reading:
    """One family of one member's outgoing side.

    `eor_at` is the log position behind which End-of-RIB is due, or None when it was sent. `moving`: the
    export policy changed, and the member changes groups as soon as it has read everything of this one.
    """

    key: GroupKey
    group: UpdateGroup
    cursor: Cursor
    eor_at: int | None
    refresh_due: bool = False
    refreshing: bool = False
    moving: bool = False

    @property
    def busy(self) -> bool:
        """Whether more than the log and End-of-RIB has to be thought of."""
        return self.refresh_due or self.refreshing or self.moving


@dataclass(slots=True)
class Member:
    """A peer as the RIB side knows it."""

    name: str
    source: Source
    options: MemberOptions
    local_address: bytes = b""
    negotiated: Negotiated | None = None
    up_at: float = 0.0  # when its session came up
    lasted: float = 0.0  # seconds that the last one did
    news_at: float = 0.0  # when it came up, or last said something of its routes
    readings: dict[Family, Reading] = field(default_factory=dict)
    awaiting_eor: set[Family] = field(default_factory=set)
    heard_eor: set[Family] = field(default_factory=set)
    adds_paths: frozenset[Family] = frozenset()  # received with path identifiers; outlives the session
    stale_until: dict[Family, float] = field(default_factory=dict)
    refresh_until: dict[Family, float] = field(default_factory=dict)
    long_lived_until: dict[Family, float] = field(default_factory=dict)
    control: bytearray = field(default_factory=bytearray)
    overfull: dict[Family, set[bytes]] = field(default_factory=dict)  # prefixes with paths not taken in
    wanted_again: set[Family] = field(default_factory=set)  # there is room for some of them now

    def own_next_hop(self, family: Family) -> bytes | None:
        """Our address of the session where the options ask for it and the family can carry it, else None."""
        address, negotiated = self.local_address, self.negotiated
        if not self.options.own_next_hop or not address or negotiated is None:
            return None
        fits = len(address) == (4 if family.afi == 1 else 16) or family in negotiated.extended_next_hop
        return address if fits else None

    @property
    def established(self) -> bool:
        """Whether there is a session."""
        return self.negotiated is not None

    @property
    def restarting(self) -> bool:
        """Whether the peer said that it comes from a restart itself (RFC 4724 3, the R bit)."""
        restart = self.negotiated.graceful_restart if self.negotiated is not None else None
        return restart is not None and restart.restarting

    def returning(self, family: Family) -> bool:
        """Whether routes of before its restart are kept: those count against no limit until said again."""
        return family in self.stale_until or family in self.long_lived_until

    def long_lived(self, family: Family) -> bool:
        """Whether its restart time is over, and its long-lived time is not (RFC 9494 4.2)."""
        return family in self.long_lived_until and family not in self.stale_until

    @property
    def behind(self) -> bool:
        """Whether there is anything to send."""
        return bool(self.control) or any(
            r.cursor.behind or r.eor_at is not None or r.refresh_due or r.refreshing or r.moving
            for r in self.readings.values()
        )

    @property
    def lag(self) -> int:
        """Octets of the logs ahead of this member."""
        return sum(reading.cursor.lag for reading in self.readings.values())
