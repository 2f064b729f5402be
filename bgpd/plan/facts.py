"""What the plans of all nodes share, computed once per snapshot: who the nodes are, and which BGPPeer
concerns whom.

``ResourceSet.derived`` keeps these for as long as nodes, BGPPeers and BGPConfigurations stay the same; an
endpoint that comes or goes costs nothing here. Selectors are evaluated once per distinct text over all nodes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import NamedTuple

from bgpd.resources.bgp_configuration import (
    DEFAULT_AS_NUMBER,
    DEFAULT_LISTEN_PORT,
    BGPConfigurationSpec,
)
from bgpd.resources.bgp_peer import BGPPeer
from bgpd.resources.resource_set import ResourceSet
from bgpd.resources.scalars import IPAddress
from bgpd.resources.selector import Selector

KINDS = ("Node", "BGPPeer", "BGPConfiguration")
_EMPTY = BGPConfigurationSpec()


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A node as its peers see it."""

    name: str
    ipv4: IPAddress | None
    ipv6: IPAddress | None
    asn: int
    cluster_id: IPv4Address | None
    port: int

    def address(self, version: int) -> IPAddress | None:
        return self.ipv4 if version == 4 else self.ipv6


class PeerUse(NamedTuple):
    """A BGPPeer as it concerns one node: the nodes at the other end, or the address it declares."""

    peer: BGPPeer
    others: tuple[NodeFacts, ...] | None
    versions: tuple[int, ...]
    why: str


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """The shared index. ``forward`` and ``reverse`` list, for each node, the BGPPeers it takes part in."""

    nodes: Mapping[str, NodeFacts]
    by_address: Mapping[IPAddress, tuple[NodeFacts, ...]]
    mesh: tuple[NodeFacts, ...]
    asn: int
    forward: Mapping[str, tuple[PeerUse, ...]]
    reverse: Mapping[str, tuple[PeerUse, ...]]


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
    return resources.derived(_build, KINDS)


def _build(resources: ResourceSet) -> ClusterFacts:
    spec = cluster_spec(resources)
    asn = spec.as_number or DEFAULT_AS_NUMBER
    port = spec.listen_port or DEFAULT_LISTEN_PORT
    nodes: dict[str, NodeFacts] = {}
    by_address: dict[IPAddress, tuple[NodeFacts, ...]] = {}
    for name, node in resources.nodes.items():
        facts = NodeFacts(
            name,
            node.ipv4.ip if node.ipv4 else None,
            node.ipv6.ip if node.ipv6 else None,
            node.bgp.as_number or asn,
            node.bgp.route_reflector_cluster_id,
            node_spec(resources, name).listen_port or port,
        )
        nodes[name] = facts
        for address in (facts.ipv4, facts.ipv6):
            if address is not None:
                by_address[address] = (*by_address.get(address, ()), facts)
    matches = _Matches(resources, nodes)
    forward: dict[str, list[PeerUse]] = {}
    reverse: dict[str, list[PeerUse]] = {}
    for peer in resources.bgp_peers:
        near, near_why = _near(peer, matches, nodes)
        far, versions, far_why = _far(peer, matches, by_address)
        others = far if peer.spec.peer_selector is not None else None
        use = PeerUse(peer, others, versions, f"{near_why}; {far_why}")
        for facts in near:
            forward.setdefault(facts.name, []).append(use)
        if peer.spec.reverse_peering == "Manual" or not far:
            continue
        back = PeerUse(peer, near, versions, f"the other end of it: {far_why}; {near_why}")
        for facts in far:
            reverse.setdefault(facts.name, []).append(back)
    return ClusterFacts(
        nodes=nodes,
        by_address=by_address,
        mesh=tuple(facts for facts in nodes.values() if facts.cluster_id is None)
        if spec.node_to_node_mesh_enabled is not False
        else (),
        asn=asn,
        forward={name: tuple(uses) for name, uses in forward.items()},
        reverse={name: tuple(uses) for name, uses in reverse.items()},
    )


class _Matches:
    """The nodes a selector finds, remembered by the selector's text."""

    def __init__(self, resources: ResourceSet, nodes: Mapping[str, NodeFacts]) -> None:
        self._labelled = [(facts, resources.nodes[name].labels) for name, facts in nodes.items()]
        self._known: dict[str, tuple[NodeFacts, ...]] = {}

    def of(self, text: str) -> tuple[NodeFacts, ...]:
        found = self._known.get(text)
        if found is None:
            selector = Selector.parse(text)
            found = tuple(facts for facts, labels in self._labelled if selector.matches(labels))
            self._known[text] = found
        return found


def _near(
    peer: BGPPeer, matches: _Matches, nodes: Mapping[str, NodeFacts]
) -> tuple[tuple[NodeFacts, ...], str]:
    spec = peer.spec
    if spec.node_selector is not None:
        return matches.of(spec.node_selector), f"nodeSelector {spec.node_selector}"
    if spec.node is not None:
        return ((nodes[spec.node],) if spec.node in nodes else ()), f"node {spec.node}"
    return tuple(nodes.values()), "global"


def _far(
    peer: BGPPeer, matches: _Matches, by_address: Mapping[IPAddress, tuple[NodeFacts, ...]]
) -> tuple[tuple[NodeFacts, ...], tuple[int, ...], str]:
    """Give the nodes at the declared other end; for an address, those that have it, its AS and its port."""
    spec = peer.spec
    if spec.peer_selector is not None:
        return matches.of(spec.peer_selector), (4, 6), f"peerSelector {spec.peer_selector}"
    if spec.peer_ip is None:
        return (), (), "local workloads"
    address, port = spec.peer_ip
    found = tuple(
        facts
        for facts in by_address.get(address, ())
        if spec.as_number in (None, facts.asn) and port in (None, facts.port)
    )
    return found, (address.version,), f"peerIP {spec.peer_ip}"
