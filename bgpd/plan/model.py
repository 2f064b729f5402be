"""What a plan consists of: frozen values, each with the reason it is there.

A plan carries references to secrets, never secrets. Addresses are ``ipaddress`` values, times are seconds.
Every list is in a deterministic order, so equal declarations give equal plans and a comparison of two plans
is a comparison of their values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from typing import NamedTuple

from bgpd.plan.policy import ExportPolicy, ExportRules, ImportPolicy, RouteFacts
from bgpd.resources.scalars import Community, IPAddress, IPNetwork
from bgpd.wire.nlri import Family

DEFAULT_HOLD_TIME = 90
PATIENCE = 15
"""Seconds that a patient end waits for the other to connect."""
MULTIHOP_TTL = 64


class PlanError(ValueError):
    """A plan that cannot be made: ``resource`` names what is in the way, ``what`` says why."""

    def __init__(self, resource: str, what: str) -> None:
        super().__init__(f"{resource}: {what}")
        self.resource = resource
        self.what = what


class PeeringKind(StrEnum):
    """Why there is a session."""

    MESH = "mesh"
    GLOBAL = "global"
    NODE = "node"
    REVERSE = "reverse"
    ELECTED = "elected"
    """Between a node and an elected reflector."""


class NextHopMode(StrEnum):
    """Whose address a route is announced with: AUTO is this node's towards another AS and for its own
    routes.
    """

    AUTO = "Auto"
    SELF = "Self"
    KEEP = "Keep"


class OriginKind(StrEnum):
    """Where an originated route comes from."""

    BLOCK = "block"
    ENDPOINT = "endpoint"
    SERVICE = "service"
    STATIC = "static"
    TUNNEL = "tunnel"


class SecretRef(NamedTuple):
    """Which entry of which secret; an adapter reads it (file, environment, datastore)."""

    name: str
    key: str

    def __str__(self) -> str:
        return f"{self.name}/{self.key}"


@dataclass(frozen=True, slots=True)
class Peering:
    """A planned session.

    ``name`` is unique in its plan and made of letters, digits and ``_`` (Calico's names). ``families``
    follows the peer's address, as in Calico. ``ttl_security`` is the number of hops the peer may be away (RFC
    5082), ``multihop`` the TTL of packets otherwise. ``graceful_restart``, ``hold_time`` and
    ``keepalive_time`` are seconds. ``passive``: the other side opens the connection; ``patient``: but if it
    does not come, this one does. ``peer_node`` is the peer's name if it is a node.
    """

    name: str
    kind: PeeringKind
    peer_address: IPAddress
    peer_port: int
    local_address: IPAddress | None
    local_asn: int
    peer_asn: int
    families: tuple[Family, ...]
    import_policy: ImportPolicy
    export_policy: ExportPolicy
    reason: str
    rr_client: bool = False
    passive: bool = False
    patient: bool = False
    hold_time: int = DEFAULT_HOLD_TIME
    keepalive_time: int | None = None
    password: SecretRef | None = None
    ttl_security: int | None = None
    multihop: int = MULTIHOP_TTL
    graceful_restart: int = 120
    next_hop_mode: NextHopMode = NextHopMode.AUTO
    allowed_own_as: int = 0
    reachable_by: IPAddress | None = None
    peer_node: str | None = None
    max_prefixes: int | None = None

    @property
    def internal(self) -> bool:
        """Whether both ends are in one AS."""
        return self.local_asn == self.peer_asn


@dataclass(frozen=True, slots=True)
class Origination:
    """A route this node announces, on one session at least (each session's filters may change or stop it).

    ``communities`` are those of prefixAdvertisements; a session's filter that accepts the route comes before
    them. ``interface`` is the workload's; ``local_pref`` goes to peers of the same AS. ``med`` makes the
    newer of two owners of one address win everywhere, also where the older does not know of the newer.
    """

    prefix: IPNetwork
    kind: OriginKind
    reason: str
    communities: tuple[Community, ...] = ()
    priority: int = 1024
    local_pref: int | None = None
    med: int | None = None
    interface: str | None = None

    @property
    def facts(self) -> RouteFacts:
        """What a session's export policy looks at."""
        return RouteFacts(self.prefix, self.priority, interface=self.interface)

    @property
    def large_communities(self) -> tuple[Community, ...]:
        return tuple(community for community in self.communities if community.is_large)


class Rejection(NamedTuple):
    """A route of this node that is not announced, and why."""

    prefix: IPNetwork
    kind: OriginKind
    reason: str


class WorkloadRoute(NamedTuple):
    """A local workload's address and the interface that leads to it; ``med`` as in ``Origination``."""

    prefix: IPNetwork
    interface: str
    reason: str
    med: int | None = None


class Blackhole(NamedTuple):
    """A prefix whose unassigned addresses end here instead of following a default route."""

    prefix: IPNetwork
    reason: str


class Encapsulation(StrEnum):
    """How packets between nodes travel."""

    NONE = "none"
    VXLAN = "vxlan"
    IPIP = "ipip"


class PoolPlan(NamedTuple):
    """What a node has to know of a pool. ``cross_subnet``: encapsulated only between subnets."""

    name: str
    cidr: IPNetwork
    encapsulation: Encapsulation
    cross_subnet: bool
    exported: bool
    nat_outgoing: bool


class TunnelEnd(NamedTuple):
    """A node as the far end of a tunnel: its address outside and inside, and its VXLAN device's MAC
    address.
    """

    node: str
    encapsulation: Encapsulation
    underlay: IPAddress
    tunnel_address: IPAddress
    mac: str | None


@dataclass(frozen=True, slots=True)
class NodePlan:
    """Everything a node has to do, derived from declared state alone.

    ``listen_addresses`` is empty for "all". ``remarks`` are things an operator should know that are no
    errors: a filter that does not exist, a peer that cannot be reached by this node's families.
    """

    node: str
    asn: int
    router_id: IPv4Address
    ipv4: IPv4Interface | None
    ipv6: IPv6Interface | None
    listen_port: int
    listen_addresses: tuple[IPAddress, ...]
    cluster_id: IPv4Address | None
    peerings: Sequence[Peering]
    originated: tuple[Origination, ...]
    rejected: tuple[Rejection, ...]
    blackholes: tuple[Blackhole, ...]
    workloads: tuple[WorkloadRoute, ...]
    pools: tuple[PoolPlan, ...]
    tunnel_ends: tuple[TunnelEnd, ...]
    """Of all other nodes."""
    near_ends: tuple[TunnelEnd, ...]
    """This node's own."""
    export_rules: ExportRules
    normal_priority: tuple[int, int]
    """The priority of ordinary IPv4 and IPv6 routes."""
    log_severity: str
    ignored_interfaces: tuple[str, ...]
    learn_only: bool
    max_prefixes: int | None
    remarks: tuple[str, ...]
    role_reason: str | None = None
    """Why this node is a reflector, if it is one."""
    standby_cluster_id: IPv4Address | None = None
    """The cluster ID this node has whenever it is elected, if it is a candidate."""

    def address(self, version: int) -> IPAddress | None:
        """Give this node's address of an IP version, if it has one."""
        interface = self.ipv4 if version == 4 else self.ipv6
        return interface.ip if interface is not None else None

    def is_direct(self, address: IPAddress) -> bool:
        """Say whether an address is in this node's own subnet, where CrossSubnet pools need no tunnel."""
        interface = self.ipv4 if address.version == 4 else self.ipv6
        return interface is not None and address in interface.network

    def priority(self, version: int) -> int:
        return self.normal_priority[0] if version == 4 else self.normal_priority[1]
