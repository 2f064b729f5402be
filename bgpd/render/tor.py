"""The other side of the nodes' sessions: what a top-of-rack router has to be told, whatever its make.

The router is not planned; it is what the plans of a rack's nodes say about it. Each of their sessions with
one of its addresses is turned round: the node's AS is the router's peer AS, the node's address its peer's.
What comes in is limited to the prefixes the nodes can have a reason to announce (pools with BGP export,
service CIDRs, and what a filter lets out beside these); everything the router knows goes out. Router and
nodes in one AS make the router a route reflector for them, or nodes of a rack would not hear of one another;
it offers them all paths (RFC 7911), because a service is many nodes'.

A password that is not known shuts the session down: better down than unprotected. Text from operators is
refused or made harmless by ``quoting``, in every language the same way.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from ipaddress import IPv4Address
from itertools import pairwise

from bgpd.plan.model import NodePlan, Peering, PoolPlan, SecretRef
from bgpd.plan.policy import decide
from bgpd.render.errors import RenderError
from bgpd.render.quoting import quoted, readable
from bgpd.resources.bgp_configuration import DEFAULT_LISTEN_PORT
from bgpd.resources.scalars import IPAddress, IPNetwork, within

MAX_PASSWORD = 80
MULTIPATH = 64


class Vendor(StrEnum):
    """The routers whose language is known."""

    FRR = "frr"
    BIRD = "bird"
    GOBGP = "gobgp"
    OPENBGPD = "openbgpd"
    EOS = "eos"
    JUNOS = "junos"


@dataclass(frozen=True, slots=True)
class TorSession:
    """A session with one node, from the router's side. ``multihop``: the node is not in the subnet of
    ``local``, the address it knows the router by, which the router then has to speak from.
    ``own_as``: the node takes paths with its own AS in them, which some routers do not send by themselves.
    ``password`` is ``None`` without one; ``shut`` says why the session has to stay down.
    """

    node: str
    address: IPAddress
    local: IPAddress
    port: int
    asn: int
    internal: bool
    hold_time: int
    keepalive_time: int
    restart_time: int
    ttl_security: int | None
    multihop: int | None
    max_prefixes: int | None
    own_as: bool
    password: str | None
    shut: str | None


@dataclass(frozen=True, slots=True)
class Router:
    """A top-of-rack router; ``accepted`` are the prefixes whose more-specifics nodes may announce."""

    asn: int
    addresses: tuple[IPAddress, ...]
    port: int
    sessions: tuple[TorSession, ...]
    accepted: tuple[IPNetwork, ...]

    @property
    def router_id(self) -> IPv4Address | None:
        """The router's IPv4 address among those peered with; it may have a better BGP Identifier already."""
        return next((address for address in self.addresses if isinstance(address, IPv4Address)), None)

    @property
    def cluster_id(self) -> IPv4Address:
        """What it is called as a reflector; without an IPv4 address a hash, as for a node's Identifier."""
        digest = sha256(str(self.addresses[0]).encode()).digest()
        return self.router_id or IPv4Address(int.from_bytes(digest[:4], "big") or 1)

    def sessions_of(self, version: int) -> list[TorSession]:
        return [session for session in self.sessions if session.address.version == version]

    def accepted_of(self, version: int) -> list[IPNetwork]:
        return [network for network in self.accepted if network.version == version]

    @property
    def versions(self) -> list[int]:
        return [version for version in (4, 6) if self.sessions_of(version)]

    @property
    def head(self) -> list[str]:
        """The first lines of every rendering, without a comment sign."""
        addresses = " and ".join(map(str, self.addresses))
        own = "It has no IPv4 address here, so give it a BGP Identifier (router ID), if it has none yet."
        return [
            f"The router at {addresses}, AS {self.asn}: sessions with {len(self.sessions)} node addresses.",
            "Written by Cairn from the declared resources; the router's own settings go around it.",
            *([] if self.router_id else [own]),
        ]

    @property
    def head_without_port(self) -> list[str]:
        """The same, for a language that cannot say where the router listens."""
        listening = (
            f"Nodes connect to its port {self.port}, which nothing here sets: have it listen there "
            "(FRR: bgpd's --bgp_port), or take the port out of the BGPPeer's peerIP."
        )
        return [*self.head, *([listening] if self.port != DEFAULT_LISTEN_PORT else [])]


def routers_in(plans: Iterable[NodePlan]) -> dict[IPAddress, set[int]]:
    """Give the addresses outside the cluster that nodes peer with, and as which AS they are known."""
    found: dict[IPAddress, set[int]] = {}
    for plan in plans:
        for peering in plan.peerings:
            if peering.peer_node is None:
                found.setdefault(peering.peer_address, set()).add(peering.peer_asn)
    return found


def router(
    plans: Sequence[NodePlan], addresses: Sequence[IPAddress], passwords: Mapping[SecretRef, str]
) -> Router:
    """Turn the nodes' sessions with a router (of one or, for two families, two addresses) round.

    Raises ``RenderError`` when nobody peers with it, nodes know it under several AS numbers or ports, or one
    at several of the addresses: then they are several routers', or cannot all be peered with.
    """
    place = f"the router at {' and '.join(map(str, addresses))}"
    facing = [
        (plan, peering)
        for plan in plans
        for peering in plan.peerings
        if peering.peer_address in addresses and peering.peer_node is None
    ]
    if not facing:
        raise RenderError(place, "no node has a session with it")
    for what, values in (
        ("AS numbers", {peering.peer_asn for _, peering in facing}),
        ("ports", {peering.peer_port for _, peering in facing}),
    ):
        if len(values) > 1:
            raise RenderError(place, f"nodes know it under several {what}: {sorted(values)}")
    accepted = {
        network
        for plan, _ in facing
        for network in (
            *(pool.cidr for pool in plan.pools if pool.exported or _released(plan, pool)),
            *(item.network for item in plan.export_rules.statics),
        )
    }
    for plan, peering in facing:
        accepted |= _let_out(plan, peering, frozenset(accepted))
    first = facing[0][1]
    sessions = [
        found for plan, peering in facing if (found := _session(plan, peering, passwords)) is not None
    ]
    sessions.sort(key=lambda item: (item.address.version, item.address))
    for one, other in pairwise(sessions):
        if one.address == other.address:
            ends = " and ".join(f"{item.local} (node {item.node})" for item in (one, other))
            raise RenderError(
                place, f"{one.address} peers with {ends}; a router has one session with an address"
            )
    return Router(
        asn=first.peer_asn,
        addresses=tuple(addresses),
        port=first.peer_port,
        sessions=tuple(sessions),
        accepted=tuple(sorted(accepted, key=lambda item: (item.version, item))),
    )


def _released(plan: NodePlan, pool: PoolPlan) -> bool:
    """Whether a filter lets out what the pool by itself does not."""
    return any(within(route.prefix, pool.cidr) for route in plan.originated)


def _let_out(plan: NodePlan, peering: Peering, known: frozenset[IPNetwork]) -> set[IPNetwork]:
    """What lies in nothing known and a filter of this session lets out all the same: each by itself."""
    policy = peering.export_policy
    return {
        route.prefix
        for route in (plan.originated if policy.filters else ())
        if route.prefix.version == peering.peer_address.version
        and not any(within(route.prefix, network) for network in known)
        and (found := decide(policy.filters, route.facts, policy.internal)) is not None
        and found.accept
    }


def _session(plan: NodePlan, peering: Peering, passwords: Mapping[SecretRef, str]) -> TorSession | None:
    own = plan.address(peering.peer_address.version)
    if own is None:
        return None
    password, shut = None, None
    if peering.password is not None:
        password = passwords.get(peering.password)
        if password is None:
            shut = f"the password in secret {readable(str(peering.password))} is not known"
        else:
            _check(password, f"the password of {plan.node} (secret {peering.password})")
    direct = plan.is_direct(peering.peer_address)
    hops = None if direct or peering.internal else peering.multihop
    return TorSession(
        node=plan.node,
        address=own,
        local=peering.peer_address,
        port=plan.listen_port,
        asn=peering.local_asn,
        internal=peering.internal,
        hold_time=peering.hold_time,
        keepalive_time=peering.keepalive_time or max(1, peering.hold_time // 3),
        restart_time=peering.graceful_restart,
        ttl_security=peering.ttl_security,
        multihop=hops,
        max_prefixes=peering.max_prefixes,
        own_as=peering.allowed_own_as > 0 and not peering.internal,
        password=password,
        shut=shut,
    )


def _check(password: str, place: str) -> None:
    """Refuse what some router's line-based language would take for something else."""
    quoted(password, place, MAX_PASSWORD)
    if any(character in password for character in " \t?;{}#!$"):
        raise RenderError(place, "contains a blank or one of ?;{}#!$, which routers misread")


def name(text: str) -> str:
    """Give a node's name for a description: readable, and without what any language gives a meaning."""
    return "".join(mark if mark.isalnum() or mark in "-_." else "_" for mark in readable(text))[:64]
