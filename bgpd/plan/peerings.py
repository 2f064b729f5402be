"""Which sessions a node has, by Calico's rules, each with its reason.

- Explicit peerings first: global BGPPeers, then those of the node, then the other ends of BGPPeers that name
this
  node as the peer. Of several for the same address and port the first counts, so global beats node-specific
  and explicit beats implicit; among equals the resource's name decides.
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
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from bgpd.plan.facts import ClusterFacts, NodeFacts, PeerUse, cluster_spec
from bgpd.plan.model import MULTIHOP_TTL, NextHopMode, Peering, PeeringKind, SecretRef
from bgpd.plan.policy import CompiledFilter, ExportPolicy, ExportRules, ImportPolicy, compiled_filter
from bgpd.resources.base import Password
from bgpd.resources.bgp_configuration import DEFAULT_LISTEN_PORT, DEFAULT_RESTART_TIME
from bgpd.resources.bgp_filter import BGPFilter
from bgpd.resources.bgp_peer import BGPPeer, BGPPeerSpec
from bgpd.resources.resource_set import ResourceSet
from bgpd.resources.scalars import IPAddress
from bgpd.wire.nlri import IPV4_UNICAST, IPV6_UNICAST, Family

_FAMILIES: Mapping[int, tuple[Family, ...]] = {4: (IPV4_UNICAST,), 6: (IPV6_UNICAST,)}
_PREFIX = {
    PeeringKind.MESH: "Mesh",
    PeeringKind.GLOBAL: "Global",
    PeeringKind.NODE: "Node",
    PeeringKind.REVERSE: "Node",
}


@dataclass(frozen=True, slots=True)
class _FilterSet:
    imports: tuple[CompiledFilter, ...]
    exports: tuple[CompiledFilter, ...]


def peerings_of(
    resources: ResourceSet, facts: ClusterFacts, me: NodeFacts, rules: ExportRules, max_prefixes: int | None
) -> tuple[tuple[Peering, ...], tuple[str, ...]]:
    """Give a node's sessions in the order of their names, and remarks on those that cannot be."""
    found: dict[tuple[IPAddress, int], Peering] = {}
    remarks: list[str] = []
    maker = _Maker(resources, facts, me, rules, max_prefixes, remarks)
    for peering in maker.explicit():
        found.setdefault((peering.peer_address, peering.peer_port), peering)
    known = {address for address, _ in found}
    mesh = [peering for peering in maker.mesh() if peering.peer_address not in known]
    return tuple(sorted([*found.values(), *mesh], key=_name)), tuple(dict.fromkeys(remarks))


def _name(peering: Peering) -> str:
    return peering.name


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
        forward = self._facts.forward.get(self._me.name, ())
        for use in forward:
            if use.peer.is_global:
                yield from self._of_use(use, PeeringKind.GLOBAL)
        for use in forward:
            if not use.peer.is_global:
                yield from self._of_use(use, PeeringKind.NODE)
        for use in self._facts.reverse.get(self._me.name, ()):
            yield from self._of_use(use, PeeringKind.REVERSE)

    def mesh(self) -> Iterator[Peering]:
        me = self._me
        if me.cluster_id is not None:
            return
        restart = self._spec.node_mesh_max_restart_time
        password = self._secret(self._spec.node_mesh_password, "BGPConfiguration default: nodeMeshPassword")
        policies = {
            internal: (ImportPolicy((), internal), ExportPolicy(self._rules, (), internal))
            for internal in (True, False)
        }
        graceful = round(DEFAULT_RESTART_TIME if restart is None else restart)
        for version in (4, 6):
            own = me.address(version)
            if own is None:
                continue
            own_text = str(own)
            for other in self._facts.mesh:
                address = other.address(version)
                if address is None or address == own:
                    continue
                imports, exports = policies[other.asn == me.asn]
                text = str(address)
                yield Peering(
                    name=peering_name(PeeringKind.MESH, address, None),
                    kind=PeeringKind.MESH,
                    peer_address=address,
                    peer_port=other.port,
                    local_address=own,
                    local_asn=me.asn,
                    peer_asn=other.asn,
                    families=_FAMILIES[version],
                    import_policy=imports,
                    export_policy=exports,
                    reason=f"node-to-node mesh: {me.name} and {other.name} are no reflectors",
                    passive=text > own_text,
                    password=password,
                    graceful_restart=graceful,
                    peer_node=other.name,
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
        yield replace(
            _terms(spec, internal, reverse),
            name=peering_name(kind, address, listening),
            kind=kind,
            peer_address=address,
            peer_port=port,
            local_address=None if spec.source_address == "None" else own,
            local_asn=local_asn,
            peer_asn=peer_asn,
            families=_FAMILIES[address.version],
            import_policy=ImportPolicy(filters.imports, internal),
            export_policy=ExportPolicy(self._rules, filters.exports, internal),
            reason=f"BGPPeer {peer.name}: {use.why}",
            rr_client=self._is_client(internal, other),
            passive=other is not None
            and spec.reverse_peering != "Manual"
            and _waits(me, own, other, address),
            password=self._secret(spec.password, f"BGPPeer {peer.name}: password"),
            peer_node=other.name if other is not None else None,
            max_prefixes=self._max_prefixes,
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
_BLANK = Peering(
    name="",
    kind=PeeringKind.NODE,
    peer_address=IPv4Address(0),
    peer_port=DEFAULT_LISTEN_PORT,
    local_address=None,
    local_asn=0,
    peer_asn=0,
    families=(),
    import_policy=ImportPolicy(),
    export_policy=ExportPolicy(ExportRules()),
    reason="",
)


def peering_name(kind: PeeringKind, address: IPAddress, port: int | None) -> str:
    """Give the name Calico gives to a session: ``Mesh_10_0_0_2``, ``Node_fd00__1_port_1790``."""
    name = f"{_PREFIX[kind]}_{str(address).replace('.', '_').replace(':', '_')}"
    return f"{name}_port_{port}" if port is not None else name


def _waits(me: NodeFacts, own: IPAddress, other: NodeFacts, address: IPAddress) -> bool:
    if (me.cluster_id is None) != (other.cluster_id is None):
        return me.cluster_id is not None
    return str(address) > str(own)


def _terms(spec: BGPPeerSpec, internal: bool, reverse: bool) -> Peering:
    """Give a peering with everything the BGPPeer alone decides; the rest is put in its place by the
    caller.
    """
    mode = NextHopMode(spec.next_hop_mode or NextHopMode.AUTO)
    if spec.keep_original_next_hop and not internal:
        mode = NextHopMode.KEEP
    hops = spec.ttl_security or None
    keepalive = None if spec.keepalive_time is None else max(1, round(spec.keepalive_time))
    restart = DEFAULT_RESTART_TIME if spec.max_restart_time is None else spec.max_restart_time
    return replace(
        _BLANK,
        hold_time=_BLANK.hold_time if keepalive is None else 3 * keepalive,
        keepalive_time=keepalive,
        ttl_security=hops,
        multihop=hops or MULTIHOP_TTL,
        graceful_restart=round(restart),
        next_hop_mode=mode,
        allowed_own_as=spec.num_allowed_local_as_numbers or 0,
        reachable_by=None if reverse else spec.reachable_by,
    )


def _compiled_filters(resources: ResourceSet) -> Mapping[tuple[str, str, int], CompiledFilter]:
    declared: Mapping[str, BGPFilter] = resources.filters
    return {
        (name, direction, version): compiled
        for name, item in declared.items()
        for direction in ("import", "export")
        for version in (4, 6)
        if (compiled := compiled_filter(item, direction, version)) is not None
    }
