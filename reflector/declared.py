"""The reflector as the datastore declares it: the plan of its own node, as a `ReflectorSpec`.

A reflector is a Node resource with a `routeReflectorClusterID`; its clients and other peers are that
node's peerings. A peer whose password is not known is left out and said loudly, never left unprotected.
"""

from collections.abc import Collection, Mapping
from ipaddress import ip_network

from bgpd.plan.model import PATIENCE, NextHopMode, NodePlan, Peering, SecretRef
from bgpd.plan.policy import hidden_pools
from bgpd.rib.path import SourceKind
from bgpd.rib.reflection import Speaker
from bgpd.session.config import SessionConfig
from bgpd.wire.nlri import IPV4_UNICAST, IPV6_UNICAST
from reflector.config import Listen, ReflectorConfig
from reflector.member import MemberOptions
from reflector.spec import PeerSpec, ReflectorSpec, capabilities

FAMILIES = frozenset({IPV4_UNICAST, IPV6_UNICAST})


class PeerSpecs:
    """The specs of peerings; of one that is the same object it is the same too, as long as its terms are."""

    def __init__(self) -> None:
        self._terms: tuple[object, ...] = ()
        self._made: dict[str, tuple[Peering, str | None, PeerSpec]] = {}

    def of(
        self, plan: NodePlan, config: ReflectorConfig, passwords: Mapping[SecretRef, str]
    ) -> tuple[tuple[PeerSpec, ...], list[str]]:
        """The specs, and the names of the peers whose password is not known."""
        terms = (plan.asn, plan.router_id, hidden_pools(plan.export_rules), config)
        former = self._made if terms == self._terms else {}
        made: dict[str, tuple[Peering, str | None, PeerSpec]] = {}
        left_out: list[str] = []
        for peering in plan.peerings:
            password = None
            if peering.password is not None:
                password = passwords.get(peering.password)
                if password is None:
                    left_out.append(peering.name)
                    continue
            kept = former.get(peering.name)
            if kept is None or kept[0] is not peering or kept[1] != password:
                kept = (peering, password, _peer(plan, peering, config, password))
            made[peering.name] = kept
        self._terms, self._made = terms, made
        return tuple([spec for _, _, spec in made.values()]), left_out


def spec_of(
    plan: NodePlan,
    config: ReflectorConfig,
    passwords: Mapping[SecretRef, str],
    live_nodes: Collection[str] = (),
    dead_nodes: Collection[str] = (),
    known: PeerSpecs | None = None,
) -> tuple[ReflectorSpec, list[str]]:
    """The spec, and the names of the peers that had to be left out because their password is not known.

    `live_nodes` show themselves alive in the datastore. If any client is among them, the others are absent.
    `dead_nodes` did so and no longer do. `known`: what was made for the plan before.
    """
    # A candidate has the cluster's ID also while it is not elected: it cannot change under live sessions.
    cluster_id = plan.cluster_id or plan.standby_cluster_id or plan.router_id
    speaker = Speaker(plan.asn, plan.router_id.packed, cluster_id.packed)
    peers, left_out = (known or PeerSpecs()).of(plan, config, passwords)
    clients = [peering for peering in plan.peerings if peering.rr_client and peering.peer_node is not None]
    dead = [peering for peering in clients if peering.peer_node not in live_nodes]
    # Nodes that run another speaker hold no lease; where nobody does, that says nothing.
    absent = frozenset(str(p.peer_address) for p in dead) if len(dead) < len(clients) else frozenset()
    gone = frozenset(str(p.peer_address) for p in plan.peerings if p.peer_node in dead_nodes)
    listen = _listen(plan, config)
    return ReflectorSpec(speaker, listen, peers, config.limits, absent, gone), left_out


def _listen(plan: NodePlan, config: ReflectorConfig) -> tuple[Listen, ...]:
    """Where the file says, if it says; else as the BGPConfiguration has it."""
    if "listen" in config.model_fields_set:
        return config.listeners
    addresses = plan.listen_addresses or (Listen().address,)
    return tuple(Listen(address=address, port=plan.listen_port) for address in addresses)


def _peer(plan: NodePlan, peering: Peering, config: ReflectorConfig, password: str | None) -> PeerSpec:
    limits, open_policy = config.limits, config.without_policy == "accept"
    kind = SourceKind.EXTERNAL
    if peering.internal:
        kind = SourceKind.CLIENT if peering.rr_client else SourceKind.NON_CLIENT
    session = SessionConfig(
        local_asn=peering.local_asn,
        bgp_identifier=plan.router_id.packed,
        # Both families over either address: a node's IPv6 routes need no second session.
        capabilities=capabilities(FAMILIES, peering.local_asn, restart_time=peering.graceful_restart),
        peer_asn=peering.peer_asn,
        hold_time=peering.hold_time,
        keepalive_time=peering.keepalive_time,
        send_hold_time=limits.send_hold_time and max(limits.send_hold_time, peering.hold_time),
        open_hold_time=limits.open_timeout,
        passive=peering.passive,
    )
    imports = peering.import_policy.filters + peering.import_policy.beside
    exports = peering.export_policy.filters + peering.export_policy.beside
    own = peering.next_hop_mode is NextHopMode.SELF
    member = MemberOptions(
        kind=kind,
        allowed_own_as=peering.allowed_own_as,
        local_asn=None if peering.local_asn == plan.asn else peering.local_asn,
        own_next_hop=own or (kind is SourceKind.EXTERNAL and peering.next_hop_mode is NextHopMode.AUTO),
        # RFC 8212: Calico's model has no policy object to ask for, so the file says whether one is required.
        accepts=kind is not SourceKind.EXTERNAL or open_policy or bool(imports),
        tells=kind is not SourceKind.EXTERNAL or open_policy or bool(exports),
        import_filters=imports,
        export_filters=exports if peering.internal else exports + hidden_pools(plan.export_rules),
        enforce_first_as=config.enforce_first_as,
    )
    return PeerSpec(
        name=peering.name,
        network=ip_network(peering.peer_address),
        session=session,
        member=member,
        port=peering.peer_port,
        local_address=peering.local_address,
        patience=PATIENCE if peering.patient else None,
        password=password,
        ttl_security=peering.ttl_security,
        multihop=peering.multihop,
        max_prefixes=peering.max_prefixes,
        kind=str(peering.kind),
        description=peering.reason,
    )
