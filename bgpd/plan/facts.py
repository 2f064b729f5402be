"""What the plans of all nodes share: who the nodes are, which BGPPeer concerns whom, who is elected.

An index of the snapshot, brought up to date rather than built anew: after one Node or BGPPeer changed, the
selectors are evaluated for that node alone, and everything untouched is shared with the snapshot before. A
selector is evaluated once per distinct text, and which BGPPeers a node takes part in is found when that node
is planned.
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import NamedTuple

from bgpd.plan.election import Election, elect
from bgpd.resources.bgp_configuration import (
    DEFAULT_AS_NUMBER,
    DEFAULT_LISTEN_PORT,
    BGPConfigurationSpec,
)
from bgpd.resources.bgp_peer import BGPPeer, BGPPeerSpec
from bgpd.resources.node import Node, NodeBgp
from bgpd.resources.resource_set import ResourceSet, State, changed_keys
from bgpd.resources.scalars import IPAddress
from bgpd.resources.selector import Selector

_SELECTING = ("Node", "BGPPeer")
_ELECTING = ("Node", "NodeLease", "CairnConfiguration", "BGPConfiguration")
_DESCRIBING = ("Node", "BGPConfiguration", "NodeLease", "CairnConfiguration")
KINDS = ("Node", "BGPPeer", "BGPConfiguration", "NodeLease", "CairnConfiguration")
_EMPTY = BGPConfigurationSpec()
_MANY = 50  # above this part of all nodes their groups are evaluated anew


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A node as its peers see it."""

    name: str
    ipv4: IPAddress | None
    ipv6: IPAddress | None
    asn: int
    cluster_id: IPv4Address | None
    port: int
    elected: bool = False

    def address(self, version: int) -> IPAddress | None:
        return self.ipv4 if version == 4 else self.ipv6


class PeerUse(NamedTuple):
    """A BGPPeer as it concerns one node: the nodes at the other end, or the address it declares."""

    peer: BGPPeer
    others: tuple[NodeFacts, ...] | None
    why: str


@dataclass(frozen=True, slots=True)
class _Ends:
    """A BGPPeer's two ends: nodes by name (``far`` in no case of an address outside the cluster)."""

    peer: BGPPeer
    near: Mapping[str, object]
    far: Mapping[str, object]
    why: str
    why_back: str


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """The index that all nodes' plans are made of; ``forward`` and ``reverse`` give the BGPPeers a node takes
    part in. ``shared`` are the addresses that several nodes have.
    """

    nodes: Mapping[str, NodeFacts]
    by_address: Mapping[IPAddress, tuple[NodeFacts, ...]]
    shared: Mapping[IPAddress, tuple[NodeFacts, ...]]
    mesh: tuple[NodeFacts, ...]
    asn: int
    election: Election | None
    ends: tuple[_Ends, ...]
    selected: Mapping[str, "_Fit"] = field(compare=False, repr=False)
    _members: dict[int, tuple[NodeFacts, ...]] = field(default_factory=dict, compare=False)

    def forward(self, node: str) -> Iterator[PeerUse]:
        """Give the BGPPeers declared for a node, in the order of their names."""
        for ends in self.ends:
            if node in ends.near:
                others = self._of(ends.far) if ends.peer.spec.peer_selector is not None else None
                yield PeerUse(ends.peer, others, ends.why)

    def reverse(self, node: str) -> Iterator[PeerUse]:
        """Give the BGPPeers of which a node is the far end, in the order of their names."""
        for ends in self.ends:
            if node in ends.far and ends.peer.spec.reverse_peering != "Manual":
                yield PeerUse(ends.peer, self._of(ends.near), ends.why_back)

    def answers(self, node: NodeFacts, asked: NodeFacts) -> bool:
        """Say whether a node has a session with another one, whoever declares it."""
        if self.election is not None and (node.elected or asked.elected):
            return True
        if self.mesh and node.cluster_id is None and asked.cluster_id is None:
            return True
        return any(
            (node.name in ends.near and asked.name in ends.far)
            or (
                ends.peer.spec.reverse_peering != "Manual"
                and node.name in ends.far
                and asked.name in ends.near
            )
            for ends in self.ends
        )

    def _of(self, names: Mapping[str, object]) -> tuple[NodeFacts, ...]:
        # By identity: the mapping is kept by ``ends`` for as long as these facts are.
        found = self._members.get(id(names))
        if found is None:
            nodes = self.nodes
            found = self._members[id(names)] = tuple([nodes[name] for name in names])
        return found


def cluster_spec(resources: ResourceSet) -> BGPConfigurationSpec:
    """Give the cluster's BGP settings; an absent resource is one without fields."""
    found = resources.bgp_configuration()
    return found.spec if found is not None else _EMPTY


def node_spec(resources: ResourceSet, node: str) -> BGPConfigurationSpec:
    """Give a node's own BGP settings (three fields of them count)."""
    found = resources.bgp_configuration(node)
    return found.spec if found is not None else _EMPTY


def cluster_facts(resources: ResourceSet) -> ClusterFacts:
    """Give the shared index of a snapshot."""
    return resources.revised(_facts, KINDS)


def election_of(resources: ResourceSet) -> Election | None:
    """Give the outcome of the election of reflectors; ``None`` when none is declared or nobody can be."""
    return resources.derived(_election, _ELECTING)


def _facts(
    resources: ResourceSet,
    last: ClusterFacts | None,
    past: State | None,
    present: State,
) -> ClusterFacts:
    spec = cluster_spec(resources)
    known = resources.revised(_described, _DESCRIBING)
    selected = resources.revised(_selected, _SELECTING)
    election = election_of(resources)
    if (
        last is not None
        and past is not None
        and past[1:3] == present[1:3]
        and (last.nodes, last.selected, last.election) == (known.nodes, selected, election)
    ):
        return last
    return ClusterFacts(
        nodes=known.nodes,
        by_address=known.by_address,
        shared=known.shared,
        mesh=known.unreflecting if spec.node_to_node_mesh_enabled is not False and election is None else (),
        asn=spec.as_number or DEFAULT_AS_NUMBER,
        election=election,
        ends=_all_ends(resources.bgp_peers, last.ends if last is not None else (), selected, known),
        selected=selected,
    )


# Who the nodes are


@dataclass(frozen=True, slots=True)
class _Known:
    nodes: Mapping[str, NodeFacts]
    by_address: Mapping[IPAddress, tuple[NodeFacts, ...]]
    shared: Mapping[IPAddress, tuple[NodeFacts, ...]]
    unreflecting: tuple[NodeFacts, ...]
    election: Election | None


def _described(resources: ResourceSet, last: _Known | None, past: State | None, present: State) -> _Known:
    election = election_of(resources)
    elected: Container[str] = election.elected if election is not None else ()
    declared = resources.nodes
    if last is None or past is None or past[1] is not present[1] or _cluster(last) != _cluster(election):
        former: Mapping[str, NodeFacts] = last.nodes if last is not None else {}
        names = list({**declared, **former})
    else:
        former = last.nodes
        moved = _roles(last.election) ^ _roles(election)
        names = sorted({*(key.name for key in changed_keys(past[0], present[0])), *moved})
    changed: dict[str, NodeFacts | None] = {}
    for name in names:
        node = declared.get(name)
        cluster_id = election.cluster_id if election is not None and name in elected else None
        facts = _facts_of(resources, node, cluster_id) if node is not None else None
        if former.get(name) != facts:
            changed[name] = facts
    if last is not None and not changed:
        return last if last.election is election else replace(last, election=election)
    nodes = _patched(former, changed, declared)
    by_address = _by_address(last.by_address if last is not None else {}, former, changed)
    unreflecting = [facts for facts in nodes.values() if facts.cluster_id is None]
    shared = {address: at for address, at in by_address.items() if len(at) > 1}
    return _Known(nodes, by_address, shared, tuple(distinct(unreflecting, shared)), election)


def _roles(election: Election | None) -> set[str]:
    return set(election.elected) if election is not None else set()


def _cluster(state: _Known | Election | None) -> IPv4Address | None:
    election = state.election if isinstance(state, _Known) else state
    return election.cluster_id if election is not None else None


def _facts_of(resources: ResourceSet, node: Node, elected: IPv4Address | None) -> NodeFacts:
    spec = cluster_spec(resources)
    return NodeFacts(
        node.name,
        node.ipv4.ip if node.ipv4 else None,
        node.ipv6.ip if node.ipv6 else None,
        node.bgp.as_number or spec.as_number or DEFAULT_AS_NUMBER,
        node.bgp.route_reflector_cluster_id or elected,
        node_spec(resources, node.name).listen_port or spec.listen_port or DEFAULT_LISTEN_PORT,
        elected is not None,
    )


def _patched(
    former: Mapping[str, NodeFacts], changed: Mapping[str, NodeFacts | None], order: Mapping[str, object]
) -> Mapping[str, NodeFacts]:
    patched = dict(former)
    ordered = True
    for name, facts in changed.items():
        if facts is None:
            patched.pop(name, None)
        else:
            ordered = ordered and name in patched
            patched[name] = facts
    return patched if ordered else {name: patched[name] for name in order}


def _by_address(
    last: Mapping[IPAddress, tuple[NodeFacts, ...]],
    former: Mapping[str, NodeFacts],
    changed: Mapping[str, NodeFacts | None],
) -> Mapping[IPAddress, tuple[NodeFacts, ...]]:
    index = dict(last)
    for name, facts in changed.items():
        was = former.get(name)
        for address in (was.ipv4, was.ipv6) if was is not None else ():
            if address is not None:
                rest = tuple(other for other in index.get(address, ()) if other.name != name)
                if rest:
                    index[address] = rest
                else:
                    index.pop(address, None)
        for address in (facts.ipv4, facts.ipv6) if facts is not None else ():
            if address is not None and facts is not None:
                index[address] = tuple(sorted((*index.get(address, ()), facts), key=_name))
    return index


def _name(facts: NodeFacts) -> str:
    return facts.name


def distinct(
    nodes: Iterable[NodeFacts], shared: Mapping[IPAddress, tuple[NodeFacts, ...]]
) -> Iterable[NodeFacts]:
    """Give nodes without the addresses that one before them has: there is one session with an address.

    A node that was given another name is two of one address, until its former resource is deleted.
    """
    if not shared:
        return nodes
    seen: set[IPAddress | None] = set()
    found: list[NodeFacts] = []
    for facts in nodes:
        ipv4, ipv6 = (None if address in seen else address for address in (facts.ipv4, facts.ipv6))
        seen.update((ipv4, ipv6))
        same = (ipv4, ipv6) == (facts.ipv4, facts.ipv6)
        found.append(facts if same else replace(facts, ipv4=ipv4, ipv6=ipv6))
    return found


# Whom the selectors find


class _Fit(NamedTuple):
    """A selector and the nodes it finds, by name and in the order of their names."""

    selector: Selector
    names: Mapping[str, object]


_Alike = list[tuple[Mapping[str, str], list[str]]]
"""The names of nodes that have the same values of some labels, with these."""


def _selected(
    resources: ResourceSet, last: Mapping[str, _Fit] | None, past: State | None, present: State
) -> Mapping[str, _Fit]:
    """Give what every selector in use finds, by its text."""
    nodes = resources.nodes
    changed: dict[str, Mapping[str, str] | None] = {}
    for key in changed_keys(past[0], present[0]) if past is not None else ():
        was, now = past[0].get(key) if past is not None else None, nodes.get(key.name)
        if was is None or now is None or was.labels != now.labels:
            changed[key.name] = now.labels if now is not None else None
    if last is not None and past is not None and past[1] is present[1] and not changed:
        return last
    few = last if len(changed) <= len(nodes) // _MANY else None
    alike: dict[frozenset[str], _Alike] = {}
    found: dict[str, _Fit] = {}
    for text in _selectors(resources):
        if text not in found:
            known = few.get(text) if few is not None else None
            found[text] = _evaluated(text, nodes, alike) if known is None else _revised(known, changed)
    return found


def _selectors(resources: ResourceSet) -> Iterator[str]:
    for peer in resources.bgp_peers:
        for text in (peer.spec.node_selector, peer.spec.peer_selector):
            if text is not None:
                yield text


def _evaluated(text: str, nodes: Mapping[str, Node], alike: dict[frozenset[str], _Alike]) -> _Fit:
    """Evaluate a selector once for all nodes that are alike to it; ``alike`` is shared with others."""
    selector = Selector.parse(text)
    labels = selector.looks_at
    if labels not in alike:
        alike[labels] = _grouped(nodes, sorted(labels))
    fitting = [name for values, names in alike[labels] if selector.matches(values) for name in names]
    return _Fit(selector, dict.fromkeys(sorted(fitting)))


def _grouped(nodes: Mapping[str, Node], labels: list[str]) -> _Alike:
    groups: dict[tuple[str | None, ...], list[str]] = {}
    for name, node in nodes.items():
        has = node.labels
        groups.setdefault(tuple([has.get(label) for label in labels]), []).append(name)
    return [
        ({label: value for label, value in zip(labels, values, strict=True) if value is not None}, names)
        for values, names in groups.items()
    ]


def _revised(known: _Fit, changed: Mapping[str, Mapping[str, str] | None]) -> _Fit:
    selector, names = known
    come: set[str] = set()
    gone: set[str] = set()
    for name, labels in changed.items():
        fits = labels is not None and selector.matches(labels)
        if fits != (name in names):
            (come if fits else gone).add(name)
    if not come and not gone:
        return known
    return _Fit(selector, dict.fromkeys(sorted((names.keys() - gone) | come)))


# The ends of a BGPPeer


def _all_ends(
    peers: tuple[BGPPeer, ...], last: tuple[_Ends, ...], selected: Mapping[str, _Fit], known: _Known
) -> tuple[_Ends, ...]:
    former = {ends.peer.name: ends for ends in last}
    return tuple([_ends(peer, former.get(peer.name), selected, known) for peer in peers])


def _ends(peer: BGPPeer, last: _Ends | None, selected: Mapping[str, _Fit], known: _Known) -> _Ends:
    near, far = _near(peer, selected, known.nodes), _far(peer, selected, known.by_address)
    if last is not None and last.peer is peer and last.near == near and last.far == far:
        return last
    spec = peer.spec
    if spec.node_selector is not None:
        near_why = f"nodeSelector {spec.node_selector}"
    else:
        near_why = f"node {spec.node}" if spec.node is not None else "global"
    if spec.peer_ip is not None:
        far_why = f"peerIP {spec.peer_ip}"
    else:
        none = "nobody" if peer.names_nobody else "local workloads"
        far_why = f"peerSelector {spec.peer_selector}" if spec.peer_selector else none
    return _Ends(peer, near, far, f"{near_why}; {far_why}", f"the other end of it: {far_why}; {near_why}")


def _near(
    peer: BGPPeer, selected: Mapping[str, _Fit], nodes: Mapping[str, NodeFacts]
) -> Mapping[str, object]:
    spec = peer.spec
    if spec.node_selector is not None:
        return selected[spec.node_selector].names
    if spec.node is not None:
        return {spec.node: None} if spec.node in nodes else {}
    return nodes


def _far(
    peer: BGPPeer, selected: Mapping[str, _Fit], by_address: Mapping[IPAddress, tuple[NodeFacts, ...]]
) -> Mapping[str, object]:
    """Give the nodes at the declared other end; for an address, those that have it, its AS and its port."""
    spec = peer.spec
    if spec.peer_selector is not None:
        return selected[spec.peer_selector].names
    if spec.peer_ip is None:
        return {}
    at = by_address.get(spec.peer_ip.address, ())
    return {facts.name: None for facts in at if fits(spec, facts)}


def fits(spec: BGPPeerSpec, facts: NodeFacts) -> bool:
    """Say whether a node that has the declared address also has the declared AS number and port."""
    port = spec.peer_ip.port if spec.peer_ip is not None else None
    return spec.as_number in (None, facts.asn) and port in (None, facts.port)


# Who is elected


def _election(resources: ResourceSet) -> Election | None:
    declared = resources.cairn.spec.reflectors
    if declared is None:
        return None
    candidates = resources.revised(_candidates, ("Node", "CairnConfiguration", "BGPConfiguration"))
    return elect(declared, candidates, resources.live_nodes) if candidates else None


def _candidates(
    resources: ResourceSet, last: Mapping[str, str] | None, past: State | None, present: State
) -> Mapping[str, str]:
    """Give the racks of the nodes that can be elected, by name."""
    declared = resources.cairn.spec.reflectors
    if declared is None:
        return {}
    nodes = resources.nodes
    found, names = {}, list(nodes)
    if last is not None and past is not None and past[1] is present[1] and past[2] is present[2]:
        found, names = dict(last), [key.name for key in changed_keys(past[0], present[0])]
    asn = cluster_spec(resources).as_number or DEFAULT_AS_NUMBER
    selector = Selector.parse(declared.node_selector)
    for name in names:
        node = nodes.get(name)
        if node is not None and _may_reflect(node.bgp, asn) and selector.matches(node.labels):
            found[name] = node.labels.get(declared.spread_label, "")
        else:
            found.pop(name, None)
    return found


def _may_reflect(bgp: NodeBgp, asn: int) -> bool:
    return (
        (bgp.ipv4_address is not None or bgp.ipv6_address is not None)
        and bgp.route_reflector_cluster_id is None
        and bgp.as_number in (None, asn)
    )
