"""Addresses that are no workload's: who sent their packets to one would cut nodes off from what they need.

- Every Node's own.
- A router's (a BGPPeer's) in this node's own subnet. Elsewhere a workload may well be a router.
- ``Needed`` ones, which only the agent knows: etcd's, and the gateways of other programs' routes, except one
  that is a workload of this node, behind the same interface.

A workload that claims such an address, or a block that has one in it, is neither announced nor routed to.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import NamedTuple

from bgpd.plan.facts import NodeFacts, cluster_facts
from bgpd.resources.resource_set import ResourceSet
from bgpd.resources.scalars import IPAddress, IPNetwork


class Needed(NamedTuple):
    """What a node's agent needs to be reached as now: whose address it is, and by which interface if that
    counts.
    """

    address: IPAddress
    whose: str
    interface: str = ""


@dataclass(frozen=True, slots=True)
class Reserved:
    """The addresses by which this node and others are reached, and whose they are."""

    nodes: Mapping[IPAddress, tuple[NodeFacts, ...]]
    others: Mapping[IPAddress, str]

    def inside(self, network: IPNetwork) -> tuple[IPAddress, str] | None:
        """Give the first of them in a network, and whose it is."""
        found = min(
            (address for known in (self.nodes, self.others) for address in _in(known, network)), default=None
        )
        if found is None:
            return None
        return found, f"Node {self.nodes[found][0].name}" if found in self.nodes else self.others[found]


def _in(known: Mapping[IPAddress, object], network: IPNetwork) -> list[IPAddress]:
    """Whichever of the two are fewer are gone through."""
    if network.num_addresses <= len(known):
        return [address for address in network if address in known]
    return [address for address in known if address in network]


def reserved_for(resources: ResourceSet, node: str, needed: tuple[Needed, ...]) -> Reserved:
    """Give what is reserved at a node."""
    routers = resources.derived(_routers, ("Node", "BGPPeer"), node)
    own = {item.address: item.whose for item in needed if not _is_workload(resources, node, item)}
    return Reserved(cluster_facts(resources).by_address, {**own, **routers})


def _routers(resources: ResourceSet, name: str) -> Mapping[IPAddress, str]:
    node = resources.nodes[name]
    subnets = [interface.network for interface in (node.ipv4, node.ipv6) if interface is not None]
    return {
        peer.spec.peer_ip.address: f"BGPPeer {peer.name}"
        for peer in resources.bgp_peers
        if peer.spec.peer_ip is not None and any(peer.spec.peer_ip.address in subnet for subnet in subnets)
    }


def _is_workload(resources: ResourceSet, node: str, item: Needed) -> bool:
    return bool(item.interface) and any(
        endpoint.node == node and endpoint.spec.interface_name == item.interface
        for endpoint in resources.endpoints_with(ip_network(item.address))
    )
