"""The shapes of `documents` as models: what OpenAPI and the MQTT schema are generated from.

The services write plain dictionaries (5,000 peers are not validated on their way out); these models are the
contract that the tests hold every answer against, and that readers in other languages generate code from.
Within version 1 fields are only ever added, so a reader must ignore what it does not know; the models
themselves forbid unknown fields, so that nothing leaves a service undescribed.
"""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0)]
Number = int | float
Version = Annotated[Literal[1], Field(description="Version of these shapes.")]
State = Literal["IDLE", "CONNECT", "ACTIVE", "OPENSENT", "OPENCONFIRM", "ESTABLISHED"]
Scalar = str | int | float | bool | None


class Shape(BaseModel):
    """The base of all."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PeerNumbers(Shape):
    """The peers of a service, counted. `missing`: at most 20 names of expected peers that are not up."""

    total: Count
    established: Count
    missing: list[str]
    flaps: Count


class DatastoreHealth(Shape):
    """How current the declared state is; `since`: last change of `current`."""

    current: bool
    since: AwareDatetime
    endpoint: str
    reason: str
    resyncs: Count
    repairs: Count
    reconnects: Count


class Status(Shape):
    """Who answers, how it is, and why."""

    version: Version
    service: Literal["agent", "reflector"]
    node: str
    software: str
    started_at: AwareDatetime
    asn: int | None
    router_id: str
    cluster_id: str
    mode: Literal["running", "draining", "stopping"]
    log_level: str
    healthy: bool
    ready: bool
    reason: str
    peers: PeerNumbers
    datastore: DatastoreHealth | None


class FamilyNumbers(Shape):
    """Prefixes of one address family on one session: received = accepted + rejected."""

    family: str
    received: Count
    accepted: Count
    rejected: Count
    advertised: Annotated[int, Field(ge=0, description="Of a reflector the most it may be; see the metrics.")]
    end_of_rib: bool


class Peer(Shape):
    """One peering and its present session."""

    name: Annotated[str, Field(description="Unique within the service, stable over reconnects.")]
    address: str
    state: State
    established: bool
    since: Annotated[AwareDatetime, Field(description="Last change into or out of ESTABLISHED.")]
    port: int
    asn: int | None
    local_asn: int | None
    bgp_identifier: str
    kind: str
    node: str | None
    description: str
    flaps: Annotated[int, Field(ge=0, description="Times ESTABLISHED was lost.")]
    malformed: Annotated[int, Field(ge=0, description="Path attributes at fault (RFC 7606).")]
    last_reason: Annotated[str, Field(description="Why it is not up: the former loss, and what came since.")]
    last_reason_at: Annotated[AwareDatetime | None, Field(description="When that was last so.")]
    hold_time: Annotated[int, Field(ge=0, description="Seconds.")]
    lag: Annotated[int, Field(ge=0, description="Octets the peer has yet to be sent.")]
    restarting: bool
    expected: bool
    families: list[FamilyNumbers]
    messages_received: dict[str, int]
    messages_sent: dict[str, int]


class Peers(Shape):
    """The asked-for window of `total` matching peers; `states` counts all that match."""

    version: Version
    total: Count
    offset: Count
    limit: int | None
    states: dict[str, int]
    peers: list[Peer]


class Route(Shape):
    """One path to one prefix, with the reason why it is the best or lost."""

    prefix: str
    family: str
    next_hop: str
    peer: str
    best: bool
    reason: str
    ineligible: str
    origin: str
    as_path: str
    local_pref: int | None
    med: int | None
    communities: list[str]
    large_communities: list[str]
    extended_communities: list[str]
    originator_id: str
    cluster_list: list[str]
    stale: bool
    since: AwareDatetime | None


class Routes(Shape):
    """The asked-for window of `total` matching routes."""

    version: Version
    total: Count
    offset: Count
    limit: Count
    routes: list[Route]


class Plan(Shape):
    """The plan in force; empty when there is none."""

    version: Version
    plan: dict[str, Any]


class Event(Shape):
    """Something that happened, once. Ids count from 1 without gaps; 0 is a summary of dropped events."""

    version: Version
    id: Count
    at: AwareDatetime
    kind: Annotated[str, Field(description="A dotted name of fixed meaning, such as session.up.")]
    severity: Literal["info", "warning", "error"]
    message: str
    peer: str | None
    data: dict[str, Scalar]


class Events(Shape):
    """The oldest kept events after the asked-for id; `last` is the newest id there is."""

    version: Version
    last: Count
    events: list[Event]


class DrawnPeer(Shape):
    """What a picture needs of a peer."""

    name: str
    address: str
    state: State
    reason: str


class Group(Shape):
    """Peers of one role; `peers` holds the first of them, those that are not Established foremost."""

    role: Literal["reflectors", "nodes", "routers"]
    total: Count
    states: dict[str, int]
    peers: list[DrawnPeer]


class Graph(Shape):
    """The service and its peers by role, for drawing; bounded whatever the number of peers."""

    version: Version
    service: str
    node: str
    groups: list[Group]


class OneSample(Shape):
    """One number of the service; a counter's rate is the reader's to compute."""

    name: str
    help: str
    kind: Literal["counter", "gauge"]
    labels: dict[str, str]
    value: Number


class Quantiles(Shape):
    """A distribution of durations in seconds; quantiles are estimates from its buckets, null without data."""

    name: str
    help: str
    count: Count
    sum: float
    p50: float | None
    p90: float | None
    p99: float | None


class Samples(Shape):
    """The service's own numbers at one moment, as the charts read them."""

    version: Version
    at: AwareDatetime
    samples: list[OneSample]
    distributions: list[Quantiles]


class Failure(Shape):
    """What is wrong and what would be right."""

    version: Version
    error: str


class Online(Status):
    """MQTT: the retained status of a service that is there."""

    state: Literal["online"]


class Offline(Shape):
    """MQTT: the retained status of a service that is not; `reason` "lost" is said by the broker itself."""

    version: Version
    state: Literal["offline"]
    service: str
    node: str
    reason: Literal["lost", "stopped"]


class PeerSummary(Shape):
    """MQTT: the retained summary of one peer, sent when it changed."""

    version: Version
    at: AwareDatetime
    name: str
    address: str
    state: State
    since: AwareDatetime
    asn: int | None
    flaps: Count
    last_reason: str
    families: list[FamilyNumbers]
