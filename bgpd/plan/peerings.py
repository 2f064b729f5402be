"""Which sessions a node has, by Calico's rules, each with its reason.

- Explicit peerings first: global BGPPeers, then those of the node, then the other ends of BGPPeers that name
this
  node as the peer. Of several for the same address and port the first counts, so global beats node-specific
  and explicit beats implicit; among equals the resource's name decides.
- Then elected reflectors, where they are declared: every node has a session with each of them, on the terms
  of the mesh, and there is no mesh.
- Then the mesh: every pair of nodes without a reflector's cluster ID; a reflector has no mesh peerings. A
mesh
  peering yields to any explicit one with the same node, so a reflector's client that is also in the mesh
  keeps one session.
- Between two nodes exactly one side opens the connection, because crossing connections abort a graceful
restart:
  the reflector waits for its client; otherwise the one that sees the greater peer address (compared as text,
  as Calico does) waits. Only ``reversePeering: Manual`` leaves both ends active: nothing is known of the
  other.
- This node is a reflector for a peer of the same AS whose cluster ID is absent or another one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from bgpd.plan.facts import ClusterFacts, NodeFacts, PeerUse, cluster_spec
from bgpd.plan.mesh import FAMILIES, Mesh, Peerings, by_name, peering_name
from bgpd.plan.model import DEFAULT_HOLD_TIME, MULTIHOP_TTL, NextHopMode, Peering, PeeringKind, SecretRef
from bgpd.plan.policy import CompiledFilter, ExportPolicy, ExportRules, ImportPolicy, compiled_filter
from bgpd.resources.base import Password
from bgpd.resources.bgp_configuration import DEFAULT_LISTEN_PORT, DEFAULT_RESTART_TIME
from bgpd.resources.bgp_filter import BGPFilter
from bgpd.resources.bgp_peer import BGPPeer
from bgpd.resources.resource_set import ResourceSet
from bgpd.resources.scalars import IPAddress


class _Terms(NamedTuple):
    """What a BGPPeer alone says of its sessions."""

    hold_time: int
    keepalive_time: int | None
    password: SecretRef | None
    hops: int | None
    restart_time: int
    next_hop_mode: NextHopMode


@dataclass(frozen=True, slots=True)
class _FilterSet:
    imports: tuple[CompiledFilter, ...]
    exports: tuple[CompiledFilter, ...]


def peerings_of(
    resources: ResourceSet, facts: ClusterFacts, me: NodeFacts, rules: ExportRules, max_prefixes: int | None
) -> tuple[Peerings, tuple[str, ...]]:
    """Give a node's sessions, and remarks on those that cannot be."""
    found: dict[tuple[IPAddress, int], Peering] = {}
    remarks: list[str] = []
    maker = _Maker(resources, facts, me, rules, max_prefixes, remarks)
    for peering in maker.explicit():
        found.setdefault((peering.peer_address, peering.peer_port), peering)
    taken = frozenset(address for address, _ in found)
    for peering in maker.elected(taken):
        found.setdefault((peering.peer_address, peering.peer_port), peering)
    mesh = maker.mesh(taken)
    return Peerings(tuple(sorted(found.values(), key=by_name)), mesh), tuple(dict.fromkeys(remarks))


class _Maker:
    def __init__(
        self,
        resources: ResourceSet,
        facts: ClusterFacts,
        me: NodeFacts,
        rules: ExportRules,
        max_prefixes: int | None,
        remarks: list[str],
    ) -> None:
        self._resources = resources
        self._facts = facts
        self._me = me
        self._rules = rules
        self._max_prefixes = max_prefixes
        self._remarks = remarks
        self._spec = cluster_spec(resources)

    def explicit(self) -> Iterator[Peering]:
        forward = list(self._facts.forward(self._me.name))
        for use in forward:
            if use.peer.is_global:
                yield from self._of_use(use, PeeringKind.GLOBAL)
        for use in forward:
            if not use.peer.is_global:
                yield from self._of_use(use, PeeringKind.NODE)
        for use in self._facts.reverse(self._me.name):
            yield from self._of_use(use, PeeringKind.REVERSE)

    def elected(self, taken: frozenset[IPAddress]) -> Iterator[Peering]:
        """Give the sessions with elected reflectors, or, being one, with everybody."""
        election, me, nodes = self._facts.election, self._me, self._facts.nodes
        if election is None:
            return
        if me.name in election.elected:
            others = [other for other in nodes.values() if other.name != me.name]
        else:
            others = [nodes[name] for name in election.elected]
        secret = self._mesh_secret()
        for version, own in ((4, me.ipv4), (6, me.ipv6)):
            for other in others if own is not None else ():
                address = other.address(version)
                if own is None or address is None or address == own or address in taken:
                    continue
                internal = other.asn == me.asn
                reflector = other.name if other.name in election.elected else me.name
                yield Peering(
                    name=peering_name(PeeringKind.ELECTED, address, None),
                    kind=PeeringKind.ELECTED,
                    peer_address=address,
                    peer_port=other.port,
                    local_address=own,
                    local_asn=me.asn,
                    peer_asn=other.asn,
                    families=FAMILIES[version],
                    import_policy=ImportPolicy((), internal),
                    export_policy=ExportPolicy(self._rules, (), internal),
                    # Not the outcome's details: a session must not look changed because others came or went.
                    reason=f"CairnConfiguration default: {reflector} is an elected reflector",
                    rr_client=self._is_client(internal, other),
                    passive=_waits(me, own, other, address),
                    password=secret,
                    graceful_restart=self._mesh_restart_time(),
                    peer_node=other.name,
                    max_prefixes=self._max_prefixes,
                )

    def _mesh_secret(self) -> SecretRef | None:
        return self._secret(self._spec.node_mesh_password, "BGPConfiguration default: nodeMeshPassword")

    def _mesh_restart_time(self) -> int:
        restart = self._spec.node_mesh_max_restart_time
        return round(DEFAULT_RESTART_TIME if restart is None else restart)

    def mesh(self, taken: frozenset[IPAddress]) -> Mesh | None:
        me = self._me
        if me.cluster_id is not None or not self._facts.mesh:
            return None
        return Mesh(
            me=me,
            members=self._facts.mesh,
            taken=taken,
            rules=self._rules,
            password=self._mesh_secret(),
            restart_time=self._mesh_restart_time(),
            max_prefixes=self._max_prefixes,
        )

    def _of_use(self, use: PeerUse, kind: PeeringKind) -> Iterator[Peering]:
        spec = use.peer.spec
        if use.others is not None:
            for other in use.others:
                if other.name == self._me.name:
                    continue
                for version in use.versions:
                    address = other.address(version)
                    if address is not None:
                        yield from self._peering(use, kind, address, other.port, other, explicit_port=None)
        elif spec.peer_ip is not None:
            address, port = spec.peer_ip
            asn = spec.as_number
            at = self._facts.by_address.get(address, ())
            other_node = next(
                (node for node in at if asn in (None, node.asn) and port in (None, node.port)), None
            )
            default_port = other_node.port if other_node is not None else DEFAULT_LISTEN_PORT
            yield from self._peering(
                use, kind, address, port or default_port, other_node, explicit_port=spec.peer_ip.port
            )

    def _peering(
        self,
        use: PeerUse,
        kind: PeeringKind,
        address: IPAddress,
        port: int,
        other: NodeFacts | None,
        explicit_port: int | None,
    ) -> Iterator[Peering]:
        me, peer, spec = self._me, use.peer, use.peer.spec
        own = me.address(address.version)
        if address == own:
            return
        if own is None:
            self._remarks.append(
                f"BGPPeer {peer.name}: no session with {address}: "
                f"node {me.name} has no IPv{address.version} address"
            )
            return
        reverse = kind is PeeringKind.REVERSE
        local_asn = me.asn if reverse else spec.local_as_number or me.asn
        if other is not None:
            peer_asn = spec.local_as_number or other.asn if reverse else other.asn
        else:
            peer_asn = spec.as_number or self._facts.asn
        internal = local_asn == peer_asn
        filters = self._filters(peer, address.version)
        listening = port if explicit_port is not None or port != DEFAULT_LISTEN_PORT else None
        terms = self._terms(peer, internal)
        yield Peering(
            name=peering_name(kind, address, listening),
            kind=kind,
            peer_address=address,
            peer_port=port,
            local_address=None if spec.source_address == "None" else own,
            local_asn=local_asn,
            peer_asn=peer_asn,
            families=FAMILIES[address.version],
            import_policy=ImportPolicy(filters.imports, internal),
            export_policy=ExportPolicy(self._rules, filters.exports, internal),
            reason=f"BGPPeer {peer.name}: {use.why}",
            rr_client=self._is_client(internal, other),
            passive=other is not None
            and spec.reverse_peering != "Manual"
            and _waits(me, own, other, address),
            hold_time=terms.hold_time,
            keepalive_time=terms.keepalive_time,
            password=terms.password,
            ttl_security=terms.hops,
            multihop=terms.hops or MULTIHOP_TTL,
            graceful_restart=terms.restart_time,
            next_hop_mode=terms.next_hop_mode,
            allowed_own_as=spec.num_allowed_local_as_numbers or 0,
            reachable_by=None if reverse else spec.reachable_by,
            peer_node=other.name if other is not None else None,
            max_prefixes=self._max_prefixes,
        )

    def _terms(self, peer: BGPPeer, internal: bool) -> _Terms:
        spec = peer.spec
        mode = NextHopMode(spec.next_hop_mode or NextHopMode.AUTO)
        if spec.keep_original_next_hop and not internal:
            mode = NextHopMode.KEEP
        keepalive = None if spec.keepalive_time is None else max(1, round(spec.keepalive_time))
        restart = DEFAULT_RESTART_TIME if spec.max_restart_time is None else spec.max_restart_time
        return _Terms(
            hold_time=DEFAULT_HOLD_TIME if keepalive is None else 3 * keepalive,
            keepalive_time=keepalive,
            password=self._secret(spec.password, f"BGPPeer {peer.name}: password"),
            hops=spec.ttl_security or None,
            restart_time=round(restart),
            next_hop_mode=mode,
        )

    def _is_client(self, internal: bool, other: NodeFacts | None) -> bool:
        mine = self._me.cluster_id
        theirs = other.cluster_id if other is not None else None
        return internal and mine is not None and (theirs is None or theirs != mine)

    def _secret(self, password: Password | None, place: str) -> SecretRef | None:
        if password is None:
            return None
        if password.secret_key_ref is None:
            self._remarks.append(f"{place} refers to no secret; the session has no password")
            return None
        return SecretRef(password.secret_key_ref.name, password.secret_key_ref.key)

    def _filters(self, peer: BGPPeer, version: int) -> _FilterSet:
        names = peer.spec.filters
        if not names:
            return _NO_FILTERS
        compiled = self._resources.derived(_compiled_filters, ("BGPFilter",))
        imports: list[CompiledFilter] = []
        exports: list[CompiledFilter] = []
        for name in names:
            if name not in self._resources.filters:
                self._remarks.append(
                    f"BGPPeer {peer.name}: BGPFilter {name} does not exist; it filters nothing"
                )
            for direction, into in (("import", imports), ("export", exports)):
                if (rules := compiled.get((name, direction, version))) is not None:
                    into.append(rules)
        return _FilterSet(tuple(imports), tuple(exports))


_NO_FILTERS = _FilterSet((), ())


def _waits(me: NodeFacts, own: IPAddress, other: NodeFacts, address: IPAddress) -> bool:
    if (me.cluster_id is None) != (other.cluster_id is None):
        return me.cluster_id is not None
    return str(address) > str(own)


def _compiled_filters(resources: ResourceSet) -> Mapping[tuple[str, str, int], CompiledFilter]:
    declared: Mapping[str, BGPFilter] = resources.filters
    return {
        (name, direction, version): compiled
        for name, item in declared.items()
        for direction in ("import", "export")
        for version in (4, 6)
        if (compiled := compiled_filter(item, direction, version)) is not None
    }
