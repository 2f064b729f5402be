"""Resources in, plan out: the one pure function everything else in Cairn is built around.

``plan_node`` reads nothing but its arguments. What all nodes share is derived once per snapshot (see
``facts``), so planning a node again after one change costs that node's own routes and sessions.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from hashlib import sha256
from ipaddress import IPv4Address
from operator import attrgetter
from typing import NamedTuple

from bgpd.plan.facts import ClusterFacts, cluster_facts, cluster_spec, node_spec
from bgpd.plan.mesh import Peerings
from bgpd.plan.model import Encapsulation, NodePlan, PlanError, PoolPlan, TunnelEnd
from bgpd.plan.peerings import sessions_of
from bgpd.plan.policy import ExportPolicy
from bgpd.plan.reserved import Needed
from bgpd.plan.routes import is_learn_only, normal_priority, routes_of, unknown_communities
from bgpd.resources.ip_pool import IPPool
from bgpd.resources.node import Node
from bgpd.resources.resource_set import ResourceSet, State, of_each_node
from bgpd.resources.scalars import IPAddress, IPNetwork

_DEFAULT_LOG_SEVERITY = "Info"
_PLAIN = frozenset((Encapsulation.NONE, version) for version in (4, 6))


def plan_node(
    resources: ResourceSet,
    node: str,
    statics: tuple[IPNetwork, ...] = (),
    needed: tuple[Needed, ...] = (),
) -> NodePlan:
    """Plan one node. ``statics`` are prefixes its agent was configured to announce besides, ``needed`` what
    that agent needs to be reached as it is now.

    Raises ``PlanError`` when there is no such node or it has no address to speak BGP from.
    """
    declared = resources.nodes.get(node)
    if declared is None:
        raise PlanError(f"Node {node}", "is not declared; the agent of a node registers it when it starts")
    if declared.ipv4 is None and declared.ipv6 is None:
        raise PlanError(f"Node {node}", "has neither spec.bgp.ipv4Address nor ipv6Address; BGP needs one")
    facts = cluster_facts(resources)
    me = facts.nodes[node]
    sessions = sessions_of(resources, node)
    tunnel_ends = resources.revised(_tunnel_ends, ("Node", "IPPool"))
    near_ends = tunnel_ends.by_node.get(node, ())
    routes = routes_of(resources, node, statics, _releases(sessions.peerings), needed, near_ends)
    cluster, own = cluster_spec(resources), node_spec(resources, node)
    max_prefixes = resources.cairn.spec.max_prefixes
    unknown = unknown_communities(resources, node)
    return NodePlan(
        node=node,
        asn=me.asn,
        router_id=_router_id(declared),
        ipv4=declared.ipv4,
        ipv6=declared.ipv6,
        listen_port=me.port,
        listen_addresses=_listen_addresses(declared) if cluster.bind_mode == "NodeIP" else (),
        cluster_id=me.cluster_id,
        peerings=sessions.peerings,
        originated=routes.originated,
        rejected=routes.rejected,
        blackholes=routes.blackholes,
        workloads=routes.workloads,
        pools=resources.derived(_pools, ("IPPool",)),
        tunnel_ends=tunnel_ends.others(node),
        near_ends=near_ends,
        export_rules=routes.rules,
        normal_priority=normal_priority(resources),
        log_severity=own.log_severity_screen or cluster.log_severity_screen or _DEFAULT_LOG_SEVERITY,
        ignored_interfaces=tuple(cluster.ignored_interfaces or ()),
        learn_only=is_learn_only(declared),
        max_prefixes=max_prefixes,
        remarks=(
            *sessions.remarks,
            *routes.remarks,
            *(
                f"{address} is the address of Node {at[0].name} and of Node {at[1].name}: there is one "
                "session with it; give every node an address of its own"
                for address, at in facts.shared.items()
                if me in at or me.cluster_id is not None
            ),
            *(f"{place}: no community is named {name!r}" for place, name in unknown.items()),
        ),
        role_reason=_role_reason(facts, declared),
        standby_cluster_id=facts.election.cluster_id
        if facts.election is not None and node in facts.election.candidates
        else None,
    )


def _releases(peerings: Peerings) -> tuple[ExportPolicy, ...]:
    """Give the export policies with rules that accept: they may let out what the node's rules hold back."""
    filtered = {
        id(item.export_policy): item.export_policy for item in peerings.explicit if item.export_policy.filters
    }
    accepting = (
        policy
        for policy in filtered.values()
        if any(rule.accept for compiled in policy.filters for rule in compiled.rules)
    )
    return tuple(dict.fromkeys(accepting))


def _role_reason(facts: ClusterFacts, node: Node) -> str | None:
    if node.bgp.route_reflector_cluster_id is not None:
        return f"Node {node.name}: routeReflectorClusterID"
    return facts.election.elected.get(node.name) if facts.election is not None else None


def _router_id(node: Node) -> IPv4Address:
    """Give the BGP Identifier: the IPv4 address, or for a node without one 32 bits of its name's hash."""
    if node.ipv4 is not None:
        return node.ipv4.ip
    return IPv4Address(int.from_bytes(sha256(node.name.encode()).digest()[:4], "big") or 1)


def _listen_addresses(node: Node) -> tuple[IPAddress, ...]:
    return tuple(interface.ip for interface in (node.ipv4, node.ipv6) if interface is not None)


def _pools(resources: ResourceSet) -> tuple[PoolPlan, ...]:
    return tuple(_pool(pool) for pool in resources.pools)


def _pool(pool: IPPool) -> PoolPlan:
    spec = pool.spec
    encapsulation, mode = Encapsulation.NONE, "Never"
    if (spec.vxlan_mode or "Never") != "Never":
        encapsulation, mode = Encapsulation.VXLAN, str(spec.vxlan_mode)
    elif (spec.ipip_mode or "Never") != "Never":
        encapsulation, mode = Encapsulation.IPIP, str(spec.ipip_mode)
    return PoolPlan(
        pool.name, spec.cidr, encapsulation, mode == "CrossSubnet", pool.exports_bgp, bool(spec.nat_outgoing)
    )


class _TunnelEnds(NamedTuple):
    """All nodes' tunnel ends: by name, and one after the other in the order of names."""

    by_node: Mapping[str, tuple[TunnelEnd, ...]]
    all: tuple[TunnelEnd, ...]

    def others(self, node: str) -> tuple[TunnelEnd, ...]:
        """Give those of all nodes but one."""
        own = len(self.by_node.get(node, ()))
        if not own:
            return self.all
        start = bisect_left(self.all, node, key=_node_of)
        return self.all[:start] + self.all[start + own :]


_node_of = attrgetter("node")


def _tunnel_ends(
    resources: ResourceSet, last: _TunnelEnds | None, past: State | None, present: State
) -> _TunnelEnds:
    """Give all nodes' tunnel ends; none when no pool is encapsulated."""
    pools = resources.derived(_pools, ("IPPool",))
    used = frozenset((pool.encapsulation, pool.cidr.version) for pool in pools)
    if used <= _PLAIN:
        return _TunnelEnds({}, ())
    former = last.by_node if last is not None and past is not None and past[1] is present[1] else None
    ends = of_each_node(resources, former, past, present, lambda node: tuple(_ends_of(node, used)))
    if last is not None and last.by_node is ends:
        return last
    return _TunnelEnds(ends, tuple([end for found in ends.values() for end in found]))


def _ends_of(node: Node, used: frozenset[tuple[Encapsulation, int]]) -> Iterator[TunnelEnd]:
    spec, name = node.spec, node.name
    vxlan, vxlan6, ipip = (Encapsulation.VXLAN, 4), (Encapsulation.VXLAN, 6), (Encapsulation.IPIP, 4)
    if vxlan in used and node.ipv4 and spec.ipv4_vxlan_tunnel_addr:
        mac = spec.vxlan_tunnel_mac_addr
        yield TunnelEnd(name, Encapsulation.VXLAN, node.ipv4.ip, spec.ipv4_vxlan_tunnel_addr, mac)
    if vxlan6 in used and node.ipv6 and spec.ipv6_vxlan_tunnel_addr:
        mac = spec.vxlan_tunnel_mac_addr_v6
        yield TunnelEnd(name, Encapsulation.VXLAN, node.ipv6.ip, spec.ipv6_vxlan_tunnel_addr, mac)
    if ipip in used and node.ipv4 and node.bgp.ipv4_ipip_tunnel_addr:
        yield TunnelEnd(name, Encapsulation.IPIP, node.ipv4.ip, node.bgp.ipv4_ipip_tunnel_addr, None)
