"""Which sessions a node has, by Calico's rules, each with its reason.

- Explicit peerings first: global BGPPeers, then those of the node, then the other ends of BGPPeers that name
  this node as the peer (not with ``reversePeering: Manual``), of global ones first. Of several for the same
  address and port the first counts, so global beats node-specific and explicit beats implicit; among equals
  the resource's name decides.
- Then elected reflectors, where they are declared: every node has a session with each of them, on the terms
  of the mesh, and there is no mesh.
- Then the mesh: every pair of nodes without a reflector's cluster ID; a reflector has no mesh peerings. A
  mesh peering yields to any explicit one with the same node, so a reflector's client that is also in the mesh
  keeps one session.
- Between two nodes exactly one side opens the connection, because crossing connections abort a graceful
  restart: the reflector waits for its client; otherwise the one that sees the greater peer address (compared
  as text, as Calico does) waits. Calico's BIRD goes by the addresses also where a global BGPPeer names a
  reflector's, and waits: there the reflector does so for a while only. Nobody waits for a node that has no
  session back (``reversePeering: Manual``).
- This node is a reflector for a peer of the same AS whose cluster ID is absent or another one.

After a change only those sessions are made that it concerns: one BGPPeer's sessions at a node are a group,
whose terms are all that they have in common, and a session is made of its group's terms and the node at its
other end. As long as neither changes it is the same object.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from operator import is_
from types import MappingProxyType
from typing import NamedTuple

from bgpd.plan.facts import ClusterFacts, NodeFacts, PeerUse, cluster_facts, cluster_spec, distinct, fits
from bgpd.plan.mesh import EXPORT_ALL, FAMILIES, IMPORT_ALL, Mesh, Peerings, by_name, peering_name
from bgpd.plan.model import DEFAULT_HOLD_TIME, MULTIHOP_TTL, NextHopMode, Peering, PeeringKind, SecretRef
from bgpd.plan.policy import CompiledFilter, ExportPolicy, ImportPolicy, compiled_filter
from bgpd.resources.base import Password
from bgpd.resources.bgp_configuration import DEFAULT_LISTEN_PORT, DEFAULT_RESTART_TIME, BGPConfigurationSpec
from bgpd.resources.bgp_filter import BGPFilter
from bgpd.resources.bgp_peer import BGPPeer
from bgpd.resources.resource_set import ResourceSet, State
from bgpd.resources.scalars import IPAddress

_KINDS = ("Node", "BGPPeer", "BGPFilter", "BGPConfiguration", "NodeLease", "CairnConfiguration")


Place = tuple[IPAddress, int]
"""A peer's address and port: of two sessions to one place there can be only one."""


class _FilterSet(NamedTuple):
    imports: tuple[CompiledFilter, ...] = ()
    exports: tuple[CompiledFilter, ...] = ()


_UNFILTERED: Mapping[int, _FilterSet] = MappingProxyType({4: _FilterSet(), 6: _FilterSet()})


class _Terms(NamedTuple):
    """All that the sessions of one group have in common. ``peer`` is ``None`` for elected reflectors."""

    kind: PeeringKind
    me: NodeFacts
    peer: BGPPeer | None
    why: str
    cluster_asn: int
    filters: Mapping[int, _FilterSet]
    password: SecretRef | None
    restart_time: int
    max_prefixes: int | None
    remarks: tuple[str, ...]
    unanswering: frozenset[str] = frozenset()
    """The nodes at the other end that have no session back."""


class _Made(NamedTuple):
    """The sessions with one other end, and the node (if it is one) as it was when they were made."""

    other: NodeFacts | None
    sessions: Mapping[Place, Peering]
    remarks: tuple[str, ...]


class _Group(NamedTuple):
    """The sessions on the same terms, by the names of the nodes at the other ends."""

    terms: _Terms
    made: dict[str, _Made]


def _name_of(terms: _Terms) -> tuple[PeeringKind, str]:
    return terms.kind, terms.peer.name if terms.peer is not None else ""


class Sessions(NamedTuple):
    """A node's sessions, and remarks on those that cannot be."""

    peerings: Peerings
    remarks: tuple[str, ...]
    groups: Mapping[tuple[PeeringKind, str], _Group]


def sessions_of(resources: ResourceSet, node: str) -> Sessions:
    """Give the sessions of a node that has an address."""
    return resources.revised(_sessions, _KINDS, node)


def _sessions(
    resources: ResourceSet,
    last: Sessions | None,
    past: State | None,  # noqa: ARG001  a reviser's signature; what changed is seen in the terms
    present: State,  # noqa: ARG001
    node: str,
) -> Sessions:
    facts = cluster_facts(resources)
    writer = _Writer(resources, facts, facts.nodes[node], last)
    found: dict[Place, Peering] = {}
    groups = list(writer.explicit())
    lost: list[tuple[Place, Peering]] = []
    for group in reversed(groups):
        for _, made in reversed(group.made.items()):
            if not found.keys().isdisjoint(made.sessions):
                lost += [(place, found[place]) for place in made.sessions if place in found]
            found.update(made.sessions)
    remarks = list(_outdone(lost, found))
    elected = writer.elected()
    meshed = facts.mesh and facts.nodes[node].cluster_id is None
    taken = frozenset([address for address, _ in found]) if elected is not None or meshed else frozenset()
    if elected is not None:
        groups.append(elected)
        avoided = {other.name for address in taken for other in facts.by_address.get(address, ())}
        for name, made in reversed(elected.made.items()):
            if name not in avoided:
                found.update(made.sessions)
                continue
            found.update({place: item for place, item in made.sessions.items() if place[0] not in taken})
    mesh = writer.mesh(taken) if meshed else None
    explicit = tuple(sorted(found.values(), key=by_name))
    remarks += [remark for group in groups for remark in _remarks(group)]
    if mesh is not None:
        remarks += writer.mesh_remarks
    return Sessions(
        _kept_or(Peerings(explicit, mesh), last),
        tuple(dict.fromkeys(remarks)),
        {_name_of(group.terms): group for group in groups},
    )


def _outdone(lost: Iterable[tuple[Place, Peering]], found: Mapping[Place, Peering]) -> Iterator[str]:
    """Who is a peer in two AS is none in one of them."""
    for place, peering in lost:
        if (other := found[place]).peer_asn != peering.peer_asn:
            yield (
                f"{peering.reason}: no session with {place[0]} as AS {peering.peer_asn}, because there is "
                f"one as AS {other.peer_asn} by {other.reason}; delete the one that is wrong"
            )


def _remarks(group: _Group) -> Iterator[str]:
    if group.terms.remarks and any(made.sessions for made in group.made.values()):
        yield from group.terms.remarks
    for made in group.made.values():
        if made.remarks:
            yield from made.remarks


def _kept_or(peerings: Peerings, last: Sessions | None) -> Peerings:
    """Give the former sessions, which may be written out already, if nothing is different."""
    if last is None or last.peerings.mesh != peerings.mesh:
        return peerings
    was, now = last.peerings.explicit, peerings.explicit
    return last.peerings if len(was) == len(now) and all(map(is_, was, now)) else peerings


class _Writer:
    """Makes a node's groups, and takes from the ``last`` ones what is still so."""

    def __init__(
        self, resources: ResourceSet, facts: ClusterFacts, me: NodeFacts, last: Sessions | None
    ) -> None:
        self._facts = facts
        self._me = me
        self._last = last
        self._spec = cluster_spec(resources)
        self._max_prefixes = resources.cairn.spec.max_prefixes
        self._compiled = resources.derived(_compiled_filters, ("BGPFilter",))
        self._known_filters = resources.filters
        self._mesh_secret, self.mesh_remarks = _secret(
            self._spec.node_mesh_password, "BGPConfiguration default: nodeMeshPassword"
        )

    def explicit(self) -> Iterator[_Group]:
        """Give the groups of BGPPeers in the order of their precedence."""
        forward = list(self._facts.forward(self._me.name))
        for use in forward:
            if use.peer.is_global:
                yield self._of_use(use, PeeringKind.GLOBAL)
        for use in forward:
            if not use.peer.is_global:
                yield self._of_use(use, PeeringKind.NODE)
        # In the order of the other end's precedence, or the two would keep to different ones.
        for use in sorted(self._facts.reverse(self._me.name), key=lambda use: not use.peer.is_global):
            yield self._of_use(use, PeeringKind.REVERSE)

    def elected(self) -> _Group | None:
        """Give the sessions with elected reflectors, or, being one, with everybody."""
        election, me, nodes = self._facts.election, self._me, self._facts.nodes
        if election is None:
            return None
        others = nodes.values() if me.name in election.elected else [nodes[name] for name in election.elected]
        terms = _Terms(
            kind=PeeringKind.ELECTED,
            me=me,
            peer=None,
            why="",
            cluster_asn=self._facts.asn,
            filters=_UNFILTERED,
            password=self._mesh_secret,
            restart_time=_mesh_restart_time(self._spec),
            max_prefixes=self._max_prefixes,
            remarks=self.mesh_remarks,
        )
        return self._group(terms, distinct(others, self._facts.shared))

    def mesh(self, taken: frozenset[IPAddress]) -> Mesh:
        mesh = Mesh(
            me=self._me,
            members=self._facts.mesh,
            taken=taken,
            password=self._mesh_secret,
            restart_time=_mesh_restart_time(self._spec),
            max_prefixes=self._max_prefixes,
        )
        former = self._last.peerings if self._last is not None else None
        if former is None or former.mesh is None or former.mesh.terms != mesh.terms:
            return mesh
        return replace(mesh, former=former.meshed)

    def _of_use(self, use: PeerUse, kind: PeeringKind) -> _Group:
        spec = use.peer.spec
        filters, remarks = self._filters(use.peer)
        password, unprotected = _secret(spec.password, f"BGPPeer {use.peer.name}: password")
        restart = DEFAULT_RESTART_TIME if spec.max_restart_time is None else spec.max_restart_time
        terms = _Terms(
            kind=kind,
            me=self._me,
            peer=use.peer,
            why=f"BGPPeer {use.peer.name}: {use.why}",
            cluster_asn=self._facts.asn,
            filters=filters,
            password=password,
            restart_time=round(restart),
            max_prefixes=self._max_prefixes,
            remarks=(*remarks, *unprotected),
        )
        others: Iterable[NodeFacts | None]
        if use.others is not None:
            others = use.others
        else:
            at = self._facts.by_address.get(spec.peer_ip.address, ()) if spec.peer_ip is not None else ()
            others = [next((node for node in at if fits(spec, node)), None)]
        if spec.reverse_peering == "Manual":
            silent = (n.name for n in others if n is not None and not self._facts.answers(n, self._me))
            terms = terms._replace(unanswering=frozenset(silent))
        return self._group(terms, others)

    def _group(self, terms: _Terms, others: Iterable[NodeFacts | None]) -> _Group:
        former: Mapping[str, _Made] = {}
        if self._last is not None:
            last = self._last.groups.get(_name_of(terms))
            former = last.made if last is not None and last.terms == terms else {}
        made: dict[str, _Made] = {}
        for other in others:
            name = other.name if other is not None else ""
            kept = former.get(name)
            made[name] = kept if kept is not None and kept.other is other else _made(terms, other)
        return _Group(terms, made)

    def _filters(self, peer: BGPPeer) -> tuple[Mapping[int, _FilterSet], tuple[str, ...]]:
        names = peer.spec.filters
        if not names:
            return _UNFILTERED, ()
        compiled = self._compiled

        def of(direction: str, version: int) -> tuple[CompiledFilter, ...]:
            places = ((name, direction, version) for name in names)
            return tuple([compiled[place] for place in places if place in compiled])

        return (
            {version: _FilterSet(of("import", version), of("export", version)) for version in (4, 6)},
            tuple(
                f"BGPPeer {peer.name}: BGPFilter {name} does not exist; it filters nothing"
                for name in names
                if name not in self._known_filters
            ),
        )


def _made(terms: _Terms, other: NodeFacts | None) -> _Made:
    """Make the sessions with one other end: a node, or the address that a BGPPeer declares."""
    sessions: dict[Place, Peering] = {}
    remarks: list[str] = []
    if other is not None and other.name == terms.me.name:
        return _Made(other, sessions, ())
    for address, port in _targets(terms, other):
        own = terms.me.address(address.version)
        if address == own:
            continue
        if own is not None and terms.peer is not None:
            sessions[address, port] = _explicit(terms, terms.peer, other, (address, port), own)
        elif own is not None and other is not None:
            sessions[address, port] = _elected(terms, other, (address, port), own)
        elif terms.peer is not None:
            remarks.append(
                f"BGPPeer {terms.peer.name}: no session with {address}: "
                f"node {terms.me.name} has no IPv{address.version} address"
            )
    return _Made(other, sessions, tuple(remarks))


def _targets(terms: _Terms, other: NodeFacts | None) -> Iterator[Place]:
    declared = terms.peer.spec.peer_ip if terms.peer is not None else None
    if declared is not None and terms.kind is not PeeringKind.REVERSE:
        default = other.port if other is not None else DEFAULT_LISTEN_PORT
        yield declared.address, declared.port or default
    elif other is not None:
        for version in (4, 6) if declared is None else (declared.address.version,):
            address = other.address(version)
            if address is not None:
                yield address, other.port


def _explicit(terms: _Terms, peer: BGPPeer, other: NodeFacts | None, to: Place, own: IPAddress) -> Peering:
    (address, port), me, spec = to, terms.me, peer.spec
    reverse = terms.kind is PeeringKind.REVERSE
    local_asn = me.asn if reverse else spec.local_as_number or me.asn
    if other is not None:
        peer_asn = spec.local_as_number or other.asn if reverse else other.asn
    else:
        peer_asn = spec.as_number or terms.cluster_asn
    internal = local_asn == peer_asn
    filters, beside = terms.filters[address.version], terms.filters[10 - address.version]
    keepalive = None if spec.keepalive_time is None else max(1, round(spec.keepalive_time))
    mode = NextHopMode(spec.next_hop_mode or NextHopMode.AUTO)
    if spec.keep_original_next_hop and not internal:
        mode = NextHopMode.KEEP
    hops = spec.ttl_security or None
    passive = other is not None and other.name not in terms.unanswering and _waits(me, own, other, address)
    return Peering(
        name=peering_name(terms.kind, address, port),
        kind=terms.kind,
        peer_address=address,
        peer_port=port,
        local_address=None if spec.source_address == "None" else own,
        local_asn=local_asn,
        peer_asn=peer_asn,
        families=FAMILIES[address.version],
        import_policy=ImportPolicy(filters.imports, internal, beside.imports),
        export_policy=ExportPolicy(filters.exports, internal, beside.exports),
        reason=terms.why,
        rr_client=_is_client(me, internal, other),
        passive=passive,
        patient=passive and peer.is_global and spec.peer_ip is not None and str(own) > str(address),
        hold_time=DEFAULT_HOLD_TIME if keepalive is None else 3 * keepalive,
        keepalive_time=keepalive,
        password=terms.password,
        ttl_security=hops,
        multihop=hops or MULTIHOP_TTL,
        graceful_restart=terms.restart_time,
        next_hop_mode=mode,
        allowed_own_as=spec.num_allowed_local_as_numbers or 0,
        reachable_by=None if reverse else spec.reachable_by,
        peer_node=other.name if other is not None else None,
        max_prefixes=terms.max_prefixes,
    )


def _elected(terms: _Terms, other: NodeFacts, to: Place, own: IPAddress) -> Peering:
    (address, port), me = to, terms.me
    internal = other.asn == me.asn
    reflector = other if other.elected else me
    return Peering(
        name=peering_name(terms.kind, address, None),
        kind=terms.kind,
        peer_address=address,
        peer_port=port,
        local_address=own,
        local_asn=me.asn,
        peer_asn=other.asn,
        families=FAMILIES[address.version],
        import_policy=IMPORT_ALL[internal],
        export_policy=EXPORT_ALL[internal],
        # Not the outcome's details: a session must not look changed because others came or went.
        reason=f"CairnConfiguration default: {reflector.name} is an elected reflector",
        rr_client=_is_client(me, internal, other),
        passive=_waits(me, own, other, address),
        password=terms.password,
        graceful_restart=terms.restart_time,
        peer_node=other.name,
        max_prefixes=terms.max_prefixes,
    )


def _is_client(me: NodeFacts, internal: bool, other: NodeFacts | None) -> bool:
    theirs = other.cluster_id if other is not None else None
    return internal and me.cluster_id is not None and theirs != me.cluster_id


def _secret(password: Password | None, place: str) -> tuple[SecretRef | None, tuple[str, ...]]:
    if password is None:
        return None, ()
    if password.secret_key_ref is None:
        return None, (f"{place} refers to no secret; the session has no password",)
    return SecretRef(password.secret_key_ref.name, password.secret_key_ref.key), ()


def _mesh_restart_time(spec: BGPConfigurationSpec) -> int:
    restart = spec.node_mesh_max_restart_time
    return round(DEFAULT_RESTART_TIME if restart is None else restart)


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
