"""What is wrong between resources that are each right by themselves.

A model checks one document; here a whole snapshot is looked at: names that lead nowhere, pools that overlap,
addresses given twice, blocks outside every pool, selectors nobody fits. Each ``Finding`` has its place, what
is wrong there and what would put it right.

An *error* is a declaration that cannot mean what it says (a filter that does not exist filters nothing; two
nodes cannot have one address). A *warning* may be a matter of order or time: a node registers itself when its
agent starts, a migrating workload is declared twice for a moment. Left out: what a plan refuses by itself.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

from bgpd.resources.base import Password, Resource
from bgpd.resources.bgp_configuration import BGPConfigurationSpec
from bgpd.resources.bgp_peer import BGPPeer
from bgpd.resources.keys import Key
from bgpd.resources.resource_set import ResourceSet
from bgpd.resources.scalars import IPAddress, IPNetwork
from bgpd.resources.selector import Selector

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_CALICOS_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_NO_CLUSTER_SETTINGS = BGPConfigurationSpec()


class Severity(StrEnum):
    """Whether applying it makes sense at all."""

    ERROR = "error"
    WARNING = "warning"


class Finding(NamedTuple):
    """Something wrong: in which resource, at which field (empty: the whole of it), and the remedy."""

    severity: Severity
    key: Key
    field: str
    what: str
    remedy: str
    lacks: str = ""
    """The kind of resource whose absence this is about, if that is what it is about."""

    @property
    def place(self) -> str:
        return f"{self.key}: {self.field}" if self.field else str(self.key)

    def __str__(self) -> str:
        return f"{self.severity}: {self.place}: {self.what}; {self.remedy}"


def examine(resources: ResourceSet) -> list[Finding]:
    """Give everything found, errors first, then by place."""
    found = {
        *_peers(resources),
        *_configurations(resources),
        *_nodes(resources),
        *_nodes_inside(resources),
        *_pools(resources),
        *_services_in_pools(resources),
        *_blocks(resources),
        *_endpoints(resources),
        *_election(resources),
        *_names(resources),
    }
    return sorted(found)


def errors_among(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.severity is Severity.ERROR]


def examine_alone(resources: ResourceSet) -> list[Finding]:
    """Give what is found in a part of a cluster, whose other part may be in a datastore.

    What is absent here may be there: such a finding is a warning, or nothing when there is none of its kind.
    """
    found = examine(resources)
    return sorted(
        finding._replace(severity=Severity.WARNING) if finding.lacks else finding
        for finding in found
        if not finding.lacks or resources.of_kind(finding.lacks)
    )


def _error(resource: Resource, field: str, what: str, remedy: str, lacks: str = "") -> Finding:
    return Finding(Severity.ERROR, resource.key, field, what, remedy, lacks)


def _warning(resource: Resource, field: str, what: str, remedy: str, lacks: str = "") -> Finding:
    return Finding(Severity.WARNING, resource.key, field, what, remedy, lacks)


def _labels(resources: ResourceSet) -> list[Mapping[str, str]]:
    return [node.labels for node in resources.nodes.values()]


def _unmatched(resources: ResourceSet, resource: Resource, field: str, text: str | None) -> Iterator[Finding]:
    if text is None:
        return
    selector = Selector.parse(text)
    if not any(selector.matches(labels) for labels in _labels(resources)):
        remedy = "label the nodes, or correct the selector"
        if not resources.nodes:
            remedy = "none is declared yet; an agent declares its own when it starts"
        yield _warning(resource, field, f"no Node fits {text!r}", remedy, "Node")


def _secret(resource: Resource, field: str, password: Password | None) -> Iterator[Finding]:
    if password is None:
        return
    reference = password.secret_key_ref
    if reference is None:
        yield _error(
            resource, field, "refers to no secret", "give secretKeyRef with name and key, or leave it out"
        )
        return
    for part, text in (("name", reference.name), ("key", reference.key)):
        if "/" in text or text in (".", "..") or not text.isprintable():
            yield _error(
                resource,
                f"{field}.secretKeyRef.{part}",
                f"{text!r} cannot be one part of a file's path",
                "use letters, digits, '-', '_' and '.'",
            )


def _names(resources: ResourceSet) -> Iterator[Finding]:
    for kind in ("Node", "BGPPeer", "BGPConfiguration", "BGPFilter", "IPPool"):
        for resource in resources.of_kind(kind).values():
            if _CALICOS_NAME.fullmatch(resource.name) is None:
                yield _warning(
                    resource,
                    "metadata.name",
                    "calicoctl and Kubernetes take no such name",
                    "use lower case letters, digits, '-' and '.'",
                )


def _peers(resources: ResourceSet) -> Iterator[Finding]:
    for peer in resources.bgp_peers:
        spec = peer.spec
        for index, name in enumerate(spec.filters or ()):
            if name not in resources.filters:
                yield _error(
                    peer,
                    f"spec.filters[{index}]",
                    f"there is no BGPFilter {name}, so it would filter nothing",
                    "create it first, or leave it out",
                    "BGPFilter",
                )
        if spec.node is not None and spec.node not in resources.nodes:
            yield _warning(
                peer,
                "spec.node",
                f"there is no Node {spec.node}",
                "start its agent, or correct the name",
                "Node",
            )
        yield from _unmatched(resources, peer, "spec.nodeSelector", spec.node_selector)
        yield from _unmatched(resources, peer, "spec.peerSelector", spec.peer_selector)
        yield from _secret(peer, "spec.password", spec.password)
        if peer.names_nobody:
            yield _error(peer, "spec", "names nobody to peer with", "give peerIP or peerSelector")
        if spec.local_workload_selector is not None:
            yield _warning(
                peer,
                "spec.localWorkloadSelector",
                "peering with local workloads is kept but not acted on",
                "peer with an address (peerIP) instead",
            )
    yield from _rivals(resources.bgp_peers)


def _rivals(peers: Iterable[BGPPeer]) -> Iterator[Finding]:
    """Two BGPPeers of the same nodes for one address: only the first by name counts."""
    first: dict[tuple[object, ...], BGPPeer] = {}
    for peer in peers:
        spec = peer.spec
        if spec.peer_ip is None:
            continue
        where = (spec.node, spec.node_selector, spec.peer_ip)
        if (earlier := first.setdefault(where, peer)) is not peer:
            yield _warning(
                peer,
                "spec.peerIP",
                f"{spec.peer_ip} is a peer of the same nodes by BGPPeer {earlier.name} already, which wins",
                "delete one of them",
            )


def _configurations(resources: ResourceSet) -> Iterator[Finding]:
    cluster = resources.bgp_configuration()
    known = cluster.spec if cluster is not None else _NO_CLUSTER_SETTINGS
    for configuration in resources.of_kind("BGPConfiguration").values():
        spec: BGPConfigurationSpec = configuration.spec
        node = configuration.node
        if node is None and configuration.name != "default":
            yield _warning(
                configuration,
                "metadata.name",
                "nobody reads it: only default and node.<name> are read",
                "name it default, or node. and the node's name",
            )
        if node is not None and node not in resources.nodes:
            yield _warning(
                configuration, "", f"there is no Node {node}", "correct the name, or delete it", "Node"
            )
        for name in configuration.unread:
            yield _warning(
                configuration,
                f"spec.{name}",
                "it is read in BGPConfiguration default alone",
                "set it there, or leave it out",
            )
        yield from _secret(configuration, "spec.nodeMeshPassword", spec.node_mesh_password)
        for index, entry in enumerate(spec.prefix_advertisements or ()):
            for text in entry.communities:
                if spec.community(text) is None and known.community(text) is None:
                    yield _error(
                        configuration,
                        f"spec.prefixAdvertisements[{index}].communities",
                        f"no community is named {text!r}, and it is no value such as 65000:100",
                        "name it in spec.communities of BGPConfiguration default",
                        "" if cluster is not None else "BGPConfiguration",
                    )


def _nodes(resources: ResourceSet) -> Iterator[Finding]:
    owners: dict[IPAddress, str] = {}
    for node in resources.nodes.values():
        for field, interface in (("ipv4Address", node.ipv4), ("ipv6Address", node.ipv6)):
            if interface is None:
                continue
            owner = owners.setdefault(interface.ip, node.name)
            if owner != node.name:
                yield _error(
                    node,
                    f"spec.bgp.{field}",
                    f"{interface.ip} is the address of Node {owner} already",
                    "give every node an address of its own",
                )


def _nodes_inside(resources: ResourceSet) -> Iterator[Finding]:
    """Nodes whose own addresses workloads may be given, or have."""
    owners = sorted(
        (interface.version, int(interface.ip), interface.ip, node.name)
        for node in resources.nodes.values()
        for interface in (node.ipv4, node.ipv6)
        if interface is not None
    )

    def inside(network: IPNetwork) -> str | None:
        at = bisect_left(owners, (network.version, int(network.network_address)))
        for *_, address, name in owners[at : at + 1]:
            if address in network:
                return f"{network} has {address} in it, the address of Node {name}"
        return None

    for pool in resources.pools:
        if what := inside(pool.spec.cidr):
            yield _warning(pool, "spec.cidr", what, "take the workloads' addresses from elsewhere")
    for affinity in resources.affinities.values():
        if what := inside(affinity.cidr):
            yield _error(affinity, "spec.cidr", f"{what}, and is not announced", "release the block")
    for configuration, field, cidr in _services(resources):
        if what := inside(cidr):
            what = f"{what}, and every node announces it"
            yield _warning(configuration, field, what, "take the services' addresses from elsewhere")
    for endpoint in resources.endpoints.values():
        for index, network in enumerate(endpoint.spec.ip_networks or ()):
            if what := inside(network):
                yield _error(endpoint, f"spec.ipNetworks[{index}]", what, "give it another address")


def _services(resources: ResourceSet) -> Iterator[tuple[Resource, str, IPNetwork]]:
    """Give the ranges of services' addresses, each with where it is declared."""
    cluster = resources.bgp_configuration()
    if cluster is None:
        return
    for name, blocks in (
        ("serviceClusterIPs", cluster.spec.service_cluster_ips),
        ("serviceExternalIPs", cluster.spec.service_external_ips),
        ("serviceLoadBalancerIPs", cluster.spec.service_load_balancer_ips),
    ):
        for index, block in enumerate(blocks or ()):
            if block.cidr is not None:
                yield cluster, f"spec.{name}[{index}]", block.cidr


def _services_in_pools(resources: ResourceSet) -> Iterator[Finding]:
    for configuration, field, cidr in _services(resources):
        for pool in resources.pools:
            if cidr.version == pool.spec.cidr.version and cidr.overlaps(pool.spec.cidr):
                yield _warning(
                    configuration,
                    field,
                    f"{cidr} overlaps {pool.spec.cidr} of IPPool {pool.name}",
                    "keep services' and workloads' addresses apart",
                )


def _pools(resources: ResourceSet) -> Iterator[Finding]:
    # Sorted by where they begin, a pool can only overlap one of those that have not ended yet.
    ordered = sorted(
        resources.pools,
        key=lambda pool: (
            pool.spec.cidr.version,
            int(pool.spec.cidr.network_address),
            pool.spec.cidr.prefixlen,
        ),
    )
    open_pools = ordered[:0]
    for pool in ordered:
        cidr = pool.spec.cidr
        open_pools = [
            other
            for other in open_pools
            if other.spec.cidr.version == cidr.version
            and int(other.spec.cidr.broadcast_address) >= int(cidr.network_address)
        ]
        for other in open_pools:
            yield _error(
                pool,
                "spec.cidr",
                f"{cidr} overlaps {other.spec.cidr} of IPPool {other.name}",
                "give every address to one pool",
            )
        open_pools.append(pool)
        yield from _unmatched(resources, pool, "spec.nodeSelector", pool.spec.node_selector)


def _in_a_pool(resources: ResourceSet, network: IPNetwork) -> bool:
    first, last = int(network.network_address), int(network.broadcast_address)
    return any(
        pool.spec.cidr.version == network.version
        and int(pool.spec.cidr.network_address) <= first
        and last <= int(pool.spec.cidr.broadcast_address)
        for pool in resources.pools
    )


def _blocks(resources: ResourceSet) -> Iterator[Finding]:
    outside = "create the IPPool it belongs to, or release the block"
    for block in resources.blocks.values():
        cidr = block.spec.cidr
        if not _in_a_pool(resources, cidr):
            yield _warning(block, "spec.cidr", f"{cidr} lies in no IPPool", outside, "IPPool")
        if block.node is not None and block.node not in resources.nodes:
            yield _warning(
                block,
                "spec.affinity",
                f"there is no Node {block.node}",
                "release the block, or start its agent",
                "Node",
            )
        slots = block.spec.allocations
        if slots is not None and len(slots) != cidr.num_addresses:
            yield _error(
                block,
                "spec.allocations",
                f"has {len(slots)} entries for {cidr.num_addresses} addresses",
                "give one entry for each address, null when it is free",
            )
    for affinity in resources.affinities.values():
        if not _in_a_pool(resources, affinity.cidr):
            yield _warning(affinity, "spec.cidr", f"{affinity.cidr} lies in no IPPool", outside, "IPPool")
        if affinity.node not in resources.nodes:
            yield _warning(
                affinity,
                "spec.node",
                f"there is no Node {affinity.node}",
                "release the block, or start its agent",
                "Node",
            )
        if not affinity.is_confirmed:
            continue
        rivals = [rival for rival in resources.affinities_to(affinity.cidr) if rival.is_confirmed]
        if rivals[0] is not affinity:
            yield _error(
                affinity,
                "spec.cidr",
                f"{affinity.cidr} is confirmed for node {rivals[0].node} too",
                "leave it to one node",
            )


def _endpoints(resources: ResourceSet) -> Iterator[Finding]:
    for endpoint in resources.endpoints.values():
        if endpoint.node and endpoint.node not in resources.nodes:
            yield _warning(
                endpoint,
                "spec.node",
                f"there is no Node {endpoint.node}",
                "start its agent, or correct the name",
                "Node",
            )
        for index, network in enumerate(endpoint.spec.ip_networks or ()):
            first = resources.endpoints_with(network)[0]
            if first is not endpoint:
                yield _warning(
                    endpoint,
                    f"spec.ipNetworks[{index}]",
                    f"{network} is also an address of {first.key} on {first.node or 'no node'}; "
                    "the newer of the two has it",
                    "delete the one that is gone",
                )


def _election(resources: ResourceSet) -> Iterator[Finding]:
    wanted = resources.cairn.spec.reflectors
    if wanted is None:
        return
    declared = resources.cairn
    yield from _unmatched(resources, declared, "spec.reflectors.nodeSelector", wanted.node_selector)
    selector = Selector.parse(wanted.node_selector)
    fitting = sum(selector.matches(labels) for labels in _labels(resources))
    if 0 < fitting < wanted.count:
        yield _warning(
            declared,
            "spec.reflectors.count",
            f"{wanted.count} reflectors are wanted of {fitting} nodes",
            "label more nodes, or ask for fewer",
            "Node",
        )
