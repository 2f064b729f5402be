"""What a running service tells about itself: one vocabulary for metrics, HTTP, MQTT and the command line.

A service (agent, reflector) implements `StatusSource`; everything that shows something reads from it and
from nothing else, so that the web page, Prometheus and `cairn status` cannot disagree. The source answers
from its own memory, synchronously and quickly; it is asked from the service's own event loop. Values are
frozen; texts are for people; all times are wall-clock seconds since the epoch (displays format them, logic
never computes with them).

`EventRing` keeps the last events and passes each new one to its subscribers. A subscriber is called inside
the service's loop and must return at once (queue it and go).
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import Protocol

from bgpd.telemetry.distribution import Distribution

ESTABLISHED = "ESTABLISHED"
_MOST_UNREAD = 3  # resources that a reason names


@dataclass(frozen=True, slots=True)
class FamilyStatus:
    """Prefix counts of one address family ("ipv4-unicast") on one session.

    received = accepted + rejected: what the peer has announced and not withdrawn; `advertised` to it,
    or fewer where that cannot be counted cheaply.
    `end_of_rib`: the peer's End-of-RIB has been received on this session.
    """

    family: str
    received: int = 0
    accepted: int = 0
    rejected: int = 0
    advertised: int = 0
    end_of_rib: bool = False


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """One peering and its present session.

    `name` is unique within the service and stable over reconnects; it labels the metrics. `state` is one of
    RFC 4271's six. `since`: last change into or out of ESTABLISHED. `flaps`: times ESTABLISHED was lost.
    `malformed`: path attributes at fault in its UPDATEs (RFC 7606).
    `last_reason`: why it is not up (see `why_down`); `last_reason_at`: when that was last so. `lag`: bytes
    the peer has yet to be sent. `restarting`: a graceful restart with this peer is in progress. `expected`
    False marks peers that come and go as they like (dynamic clients): readiness does not wait for them.
    """

    name: str
    address: str
    state: str
    since: float
    port: int = 179
    asn: int | None = None
    local_asn: int | None = None
    bgp_identifier: str = ""
    kind: str = ""
    node: str | None = None
    description: str = ""
    flaps: int = 0
    malformed: int = 0
    last_reason: str = ""
    last_reason_at: float | None = None
    hold_time: int = 0
    lag: int = 0
    restarting: bool = False
    expected: bool = True
    families: tuple[FamilyStatus, ...] = ()
    messages_received: Mapping[str, int] = field(default_factory=dict)  # "update" → count
    messages_sent: Mapping[str, int] = field(default_factory=dict)

    @property
    def established(self) -> bool:
        return self.state == ESTABLISHED


def why_down(lost: str, latest: str) -> str:
    """Why a session is not up: why the former one was `lost`, and what has come of it since."""
    if not lost or not latest or latest == lost:
        return latest or lost
    return f"{lost}; since then: {latest}"


def unread(invalid: Mapping[str, str]) -> str:
    """What a working service says of resources that it cannot read: place → why. Empty if there is none."""
    if not invalid:
        return ""
    first = "; ".join(" ".join(reason.split()) for reason in list(invalid.values())[:_MOST_UNREAD])
    more = f"; and {len(invalid) - _MOST_UNREAD} more" if len(invalid) > _MOST_UNREAD else ""
    return f"what cannot be read counts as it was last, if it was: {first}{more}"


class Direction(StrEnum):
    """IN: as received, per peer. BEST: the Loc-RIB, with candidates. OUT: as advertised, per peer."""

    IN = "in"
    BEST = "best"
    OUT = "out"


@dataclass(frozen=True, slots=True)
class RouteQuery:
    """Which routes. `prefix` alone is exact; with `longer` also its more-specifics. `peer` is a name."""

    direction: Direction = Direction.BEST
    prefix: str | None = None
    longer: bool = False
    family: str | None = None
    peer: str | None = None
    offset: int = 0
    limit: int = 100


@dataclass(frozen=True, slots=True)
class RouteStatus:
    """One path to one prefix. `reason`: why it is the best or lost; `ineligible`: why it may not compete."""

    prefix: str
    family: str
    next_hop: str
    peer: str
    best: bool = False
    reason: str = ""
    ineligible: str = ""
    origin: str = ""
    as_path: str = ""
    local_pref: int | None = None
    med: int | None = None
    communities: tuple[str, ...] = ()
    large_communities: tuple[str, ...] = ()
    extended_communities: tuple[str, ...] = ()
    originator_id: str = ""
    cluster_list: tuple[str, ...] = ()
    stale: bool = False
    since: float | None = None


@dataclass(frozen=True, slots=True)
class RoutePage:
    """The asked-for window of `total` matching routes."""

    total: int
    routes: tuple[RouteStatus, ...]


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, once. `kind` is a dotted name of fixed meaning ("session.up")."""

    id: int
    at: float
    kind: str
    message: str
    severity: Severity = Severity.INFO
    peer: str | None = None
    data: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)


LONGEST_MESSAGE = 4096  # characters: what a reason tells is at its beginning, and brokers take so much


class EventRing:
    """The last `capacity` events, numbered from 1 without gaps."""

    def __init__(self, capacity: int = 1000) -> None:
        self._ring: deque[Event] = deque(maxlen=capacity)
        self._last = 0
        self._subscribers: list[Callable[[Event], None]] = []

    def add(
        self,
        at: float,
        kind: str,
        message: str,
        *,
        severity: Severity = Severity.INFO,
        peer: str | None = None,
        **data: str | int | float | bool | None,
    ) -> Event:
        self._last += 1
        if len(message) > LONGEST_MESSAGE:
            message = f"{message[: LONGEST_MESSAGE - 1]}…"
        event = Event(self._last, at, kind, message, severity, peer, data)
        self._ring.append(event)
        for subscriber in tuple(self._subscribers):
            subscriber(event)
        return event

    @property
    def last_id(self) -> int:
        return self._last

    def after(self, id: int, limit: int = 1000) -> list[Event]:
        """The oldest `limit` kept events with a greater id. Older ones may have been dropped: compare ids."""
        skip = max(0, len(self._ring) - (self._last - id)) if id < self._last else len(self._ring)
        return list(islice(self._ring, skip, skip + limit))

    def subscribe(self, subscriber: Callable[[Event], None]) -> Callable[[], None]:
        """Call `subscriber` with every event from now on; the result ends that."""
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber) if subscriber in self._subscribers else None


class SampleKind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Sample:
    """One number of a service's own: `name` without prefix and suffix ("exabgp_restarts"), see `metrics`."""

    name: str
    help: str
    value: float
    kind: SampleKind = SampleKind.COUNTER
    labels: tuple[tuple[str, str], ...] = ()


class StoreHealth(Protocol):
    """`bgpd.datastore.Health` has this shape; telemetry does not import stores."""

    @property
    def current(self) -> bool: ...
    @property
    def since(self) -> float: ...
    @property
    def endpoint(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def resyncs(self) -> int: ...
    @property
    def repairs(self) -> int: ...
    @property
    def reconnects(self) -> int: ...


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """Who is speaking. `service` is "agent" or "reflector"; `mode` "running", "draining" or "stopping"."""

    service: str
    node: str
    version: str
    started_at: float
    asn: int | None = None
    router_id: str = ""
    cluster_id: str = ""
    mode: str = "running"


class PeerVerb(StrEnum):
    """What an operator can do to one session."""

    ENABLE = "enable"  # start it, also one that is barred for too many prefixes, or waits because it flaps
    DISABLE = "disable"  # end it and refuse it until enabled
    RESET = "reset"  # end it and begin again at once
    REFRESH = "refresh"  # exchange all routes again over the same session


class StatusSource(Protocol):
    """What a service implements to be seen."""

    @property
    def events(self) -> EventRing: ...

    def service(self) -> ServiceStatus: ...

    def working(self) -> tuple[bool, str]:
        """Liveness, really asked of the parts (is ExaBGP answering, is the loop turning); and why not. A
        service that does not work is restarted: only what that may mend counts.
        """

    def healthy(self) -> tuple[bool, str]:
        """Whether it works, and what is declared can be carried out; and why not, or what is to be told."""

    def peers(self) -> Sequence[PeerStatus]: ...

    def routes(self, query: RouteQuery) -> RoutePage: ...

    def plan(self) -> Mapping[str, object]:
        """The plan in force as JSON-able values; empty when there is none."""

    def samples(self) -> Sequence[Sample | Distribution]: ...

    def datastore(self) -> StoreHealth | None: ...

    async def drain(self, draining: bool = True) -> None:
        """Move traffic away and stay up: withdraw what we originate, or tell it as the last resort.

        With False take that back. Idempotent.
        """

    async def operate(self, verb: PeerVerb, peer: str, reason: str) -> None:
        """Act on the session of a peer, by its name or address; `reason` is for it and for the log.

        Raises LookupError where there is no such peer, NotImplementedError where sessions only follow a plan.
        """
