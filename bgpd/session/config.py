"""What the owner decides about a session before it exists."""

from dataclasses import dataclass

from bgpd.session.timers import OPEN_HOLD_TIME
from bgpd.wire.capabilities import Capabilities
from bgpd.wire.nlri import Family


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """Our side of a session and what we ask of the peer's. Times in seconds.

    `peer_asn` None takes the AS number from the peer's OPEN; `internal` then says which are welcome: True
    only our own ("any peer of this prefix is a client of the same AS"), False only others, None any.
    `capabilities` is offered as it is; its `role` is the one RFC 9234 checks, and `strict_role` makes a peer
    without a role a mismatch. A peer lacking one of `required_families` is refused (RFC 5492).
    `keepalive_time` None is a third of the negotiated hold time. `send_hold_time` None is RFC 9687's default
    (the larger of 480 and twice the hold time), 0 turns that timer off. `passive`: the peer is to connect.
    The addresses are only named in messages for people.
    """

    local_asn: int
    bgp_identifier: bytes
    capabilities: Capabilities
    peer_asn: int | None = None
    internal: bool | None = None
    hold_time: int = 90
    keepalive_time: float | None = None
    send_hold_time: float | None = None
    open_hold_time: float = OPEN_HOLD_TIME
    passive: bool = False
    strict_role: bool = False
    required_families: frozenset[Family] = frozenset()
    local_address: str = ""
    peer_address: str = ""

    def __post_init__(self) -> None:
        """Refuse what could not be told to a peer; ValueError names the field and what would do."""
        if not 0 < self.local_asn < 1 << 32:
            raise ValueError(f"local_asn is {self.local_asn}; an AS number is 1 to 4294967295")
        if self.peer_asn is not None and not 0 < self.peer_asn < 1 << 32:
            raise ValueError(f"peer_asn is {self.peer_asn}; an AS number is 1 to 4294967295")
        if len(self.bgp_identifier) != 4 or not any(self.bgp_identifier):
            raise ValueError(
                "bgp_identifier must be 4 octets and not 0.0.0.0; an IPv4 address of the host will do"
            )
        if self.hold_time != 0 and not 3 <= self.hold_time <= 65535:
            raise ValueError(f"hold_time is {self.hold_time}; it is 0 (no timers) or 3 to 65535 seconds")


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """What the owner decides about a durable peer. Times in seconds.

    `connect_retry_time` lies between two attempts to connect (RFC 4271 suggests 120, for long-distance lines;
    within a cluster an attempt costs nothing), `patience` before each one to a passive peer (None: it is
    never connected to). Idle hold: the first `tolerated_flaps` failures in a row are
    followed by none, the next by `idle_hold_time`, each further one by twice as much, up to `idle_hold_max`;
    a session that stood for `stable_time` clears the count.
    """

    session: SessionConfig
    connect_retry_time: float = 5.0
    patience: float | None = None
    idle_hold_time: float = 1.0
    idle_hold_max: float = 60.0
    tolerated_flaps: int = 3
    stable_time: float = 30.0

    @property
    def retry_time(self) -> float | None:
        """Seconds between two attempts to connect, or None where there are none."""
        return self.patience if self.session.passive else self.connect_retry_time

    def idle_hold(self, flaps: int) -> float:
        """Seconds to stay in Idle after `flaps` failures in a row."""
        doublings = flaps - self.tolerated_flaps - 1
        if doublings < 0:
            return 0.0
        return min(self.idle_hold_max, self.idle_hold_time * 2.0 ** min(doublings, 64))
