"""Which routes a node originates, and which of its own it does not announce, and why.

- A block with a confirmed affinity is announced whole and is a blackhole locally (except single addresses),
so that
  traffic to unassigned addresses does not loop. A pending one is not announced (another node may win it), one
  being released is withdrawn. Where the block itself is known and names another node, that node has it.
- A workload's address outside the node's announced blocks (borrowed from another's, migrated here, or in a
block
  still pending) is announced as a host route.
- An address claimed by endpoints on several nodes belongs to the newest endpoint (creation time, then uid,
then
  key); the others' nodes do not announce it. A node that does not see the rivals' endpoints cannot know, so
  every host route carries its endpoint's age as MULTI_EXIT_DISC, newer being lower: whoever hears both
  prefers the newer.
- Service CIDRs are announced by every node that is not excluded from load balancers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from bgpd.plan.facts import cluster_spec, node_spec
from bgpd.plan.model import (
    Blackhole,
    Origination,
    OriginKind,
    Rejection,
    WorkloadRoute,
)
from bgpd.plan.policy import (
    Advertisement,
    Coverage,
    Covered,
    ExportRules,
    RouteFacts,
    is_host,
    local_pref_of,
)
from bgpd.resources.bgp_configuration import DEFAULT_ROUTE_PRIORITY, CidrBlock
from bgpd.resources.cairn import LEARN_ONLY
from bgpd.resources.ipam import BlockAffinity, IPAMBlock
from bgpd.resources.keys import Key
from bgpd.resources.node import Node
from bgpd.resources.resource_set import ResourceSet
from bgpd.resources.scalars import Community, IPNetwork
from bgpd.resources.workload_endpoint import WorkloadEndpoint

EXCLUDED_FROM_LOAD_BALANCERS = "node.kubernetes.io/exclude-from-external-load-balancers"
_POOL_KINDS = ("IPPool",)
_LAST_MED = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class NodeRoutes:
    """What ``routes_of`` finds for one node."""

    originated: tuple[Origination, ...]
    rejected: tuple[Rejection, ...]
    blackholes: tuple[Blackhole, ...]
    workloads: tuple[WorkloadRoute, ...]
    rules: ExportRules


@dataclass(frozen=True, slots=True)
class _Candidate:
    prefix: IPNetwork
    kind: OriginKind
    reason: str
    interface: str | None = None
    med: int | None = None


def is_learn_only(node: Node) -> bool:
    """Say whether a node is a plain server: it learns every route and announces none."""
    return (node.metadata.annotation(LEARN_ONLY) or "").lower() == "true"


def normal_priority(resources: ResourceSet) -> tuple[int, int]:
    """Give the priority of ordinary IPv4 and IPv6 routes."""
    spec = cluster_spec(resources)
    return (
        spec.ipv4_normal_route_priority or DEFAULT_ROUTE_PRIORITY,
        spec.ipv6_normal_route_priority or DEFAULT_ROUTE_PRIORITY,
    )


def routes_of(resources: ResourceSet, node: Node, statics: tuple[IPNetwork, ...] = ()) -> NodeRoutes:
    """Give what a node announces and does not. ``statics`` are prefixes of the agent's own configuration."""
    blocks, rejected = _blocks(resources, node.name)
    announced = Coverage(Covered(block.prefix, block.reason) for block in blocks)
    workloads, borrowed, lost = _workloads(resources, node.name, announced)
    rejected.extend(lost)
    present = {route.prefix for route in workloads}
    for block in [block for block in blocks if is_host(block.prefix) and block.prefix not in present]:
        blocks.remove(block)
        rejected.append(
            Rejection(block.prefix, block.kind, f"{block.reason}: announced once a workload has it")
        )
    services, untold = _services(resources, node)
    rejected.extend(untold)
    static = [_Candidate(prefix, OriginKind.STATIC, "static route of this agent") for prefix in statics]
    pools, disabled = resources.derived(_pools, _POOL_KINDS)
    rules = ExportRules(
        disabled_pools=disabled,
        advertisements=_advertisements(resources, node.name),
        blocks=Coverage(Covered(block.prefix, block.reason) for block in blocks),
        statics=Coverage(Covered(item.prefix, item.reason) for item in (*services, *static)),
        pools=pools,
        nothing=f"Node {node.name} only learns (annotation cairn.dev/{LEARN_ONLY})"
        if is_learn_only(node)
        else None,
    )
    originated: dict[IPNetwork, Origination] = {}
    priorities = normal_priority(resources)
    for item in (*blocks, *borrowed, *services, *static):
        priority = priorities[0 if item.prefix.version == 4 else 1]
        decision = rules.decide(RouteFacts(item.prefix, priority, interface=item.interface))
        if not decision.accept:
            rejected.append(Rejection(item.prefix, item.kind, decision.reason))
        elif item.prefix not in originated:
            originated[item.prefix] = Origination(
                prefix=item.prefix,
                kind=item.kind,
                reason=item.reason,
                communities=decision.communities,
                priority=priority,
                local_pref=local_pref_of(priority),
                med=item.med,
                interface=item.interface,
            )
    return NodeRoutes(
        originated=tuple(sorted(originated.values(), key=_order)),
        rejected=tuple(sorted(set(rejected), key=_order)),
        blackholes=tuple(
            Blackhole(block.prefix, block.reason) for block in blocks if not is_host(block.prefix)
        ),
        workloads=workloads,
        rules=rules,
    )


def _order(item: Origination | Rejection) -> tuple[int, int, int, str]:
    prefix = item.prefix
    return (prefix.version, int(prefix.network_address), prefix.prefixlen, item.reason)


def _blocks(resources: ResourceSet, node: str) -> tuple[list[_Candidate], list[Rejection]]:
    blocks: list[_Candidate] = []
    rejected: list[Rejection] = []
    for affinity in resources.affinities_of(node):
        if (refusal := _block_refusal(resources, affinity)) is not None:
            rejected.append(Rejection(affinity.cidr, OriginKind.BLOCK, refusal))
        else:
            state = affinity.spec.state or "implicitly confirmed"
            blocks.append(
                _Candidate(
                    affinity.cidr, OriginKind.BLOCK, f"block {affinity.cidr}, affinity to {node} {state}"
                )
            )
    return blocks, rejected


def _block_refusal(resources: ResourceSet, affinity: BlockAffinity) -> str | None:
    if not affinity.is_confirmed:
        state = "deleted" if affinity.spec.deleted else affinity.spec.state
        return f"the affinity of block {affinity.cidr} to {affinity.node} is {state}"
    block = resources.get(Key("IPAMBlock", str(affinity.cidr)))
    if isinstance(block, IPAMBlock) and block.node not in (None, affinity.node):
        return f"IPAMBlock {affinity.cidr} belongs to {block.node}"
    return None


def _workloads(
    resources: ResourceSet, node: str, blocks: Coverage
) -> tuple[tuple[WorkloadRoute, ...], list[_Candidate], list[Rejection]]:
    routes: dict[IPNetwork, WorkloadRoute] = {}
    borrowed: list[_Candidate] = []
    lost: list[Rejection] = []
    for endpoint in resources.endpoints_on(node):
        for prefix in endpoint.spec.ip_networks or ():
            title = f"WorkloadEndpoint {endpoint.metadata.namespace or 'default'}/{endpoint.name}"
            rivals = resources.endpoints_with(prefix)
            if len(rivals) > 1 and (owner := max(rivals, key=_age)) is not endpoint:
                where = f"{owner.metadata.namespace or 'default'}/{owner.name} on {owner.node}"
                lost.append(
                    Rejection(
                        prefix, OriginKind.ENDPOINT, f"{title}: the newer WorkloadEndpoint {where} has it"
                    )
                )
                continue
            med = age_med(endpoint)
            if endpoint.spec.interface_name:
                routes[prefix] = WorkloadRoute(prefix, endpoint.spec.interface_name, title, med)
            if blocks.find(prefix) is None:
                borrowed.append(
                    _Candidate(
                        prefix,
                        OriginKind.ENDPOINT,
                        f"{title}: outside the blocks of {node}",
                        endpoint.spec.interface_name,
                        med,
                    )
                )
    return (
        tuple(sorted(routes.values(), key=lambda route: (route.prefix.version, route.prefix))),
        borrowed,
        lost,
    )


def created_at(endpoint: WorkloadEndpoint) -> float:
    """Give an endpoint's creation time in seconds since 1970; 0 when it does not say."""
    text = endpoint.metadata.creation_timestamp
    if not text:
        return 0.0
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        return 0.0
    return max(0.0, moment.timestamp())


def age_med(endpoint: WorkloadEndpoint) -> int | None:
    """Give the MULTI_EXIT_DISC that makes newer endpoints' host routes win; ``None`` when the age is
    unknown.
    """
    created = int(created_at(endpoint))
    return None if created == 0 else max(0, _LAST_MED - created)


def _age(endpoint: WorkloadEndpoint) -> tuple[float, str, Key]:
    return (created_at(endpoint), endpoint.metadata.uid or "", endpoint.key)


def _services(resources: ResourceSet, node: Node) -> tuple[list[_Candidate], list[Rejection]]:
    spec = cluster_spec(resources)
    declared = list(_service_blocks(spec.service_cluster_ips, "serviceClusterIPs"))
    declared += _service_blocks(spec.service_external_ips, "serviceExternalIPs")
    balancers = list(_service_blocks(spec.service_load_balancer_ips, "serviceLoadBalancerIPs"))
    if EXCLUDED_FROM_LOAD_BALANCERS in node.labels:
        reason = f"label {EXCLUDED_FROM_LOAD_BALANCERS} of Node {node.name}"
        return [], [Rejection(item.prefix, OriginKind.SERVICE, reason) for item in (*declared, *balancers)]
    if spec.service_load_balancer_aggregation == "Disabled":
        reason = (
            "serviceLoadBalancerAggregation is Disabled: single addresses only, and none is declared here"
        )
        return declared, [Rejection(item.prefix, OriginKind.SERVICE, reason) for item in balancers]
    return declared + balancers, []


def _service_blocks(blocks: list[CidrBlock] | None, field: str) -> Iterator[_Candidate]:
    for block in blocks or ():
        yield _Candidate(block.cidr, OriginKind.SERVICE, f"BGPConfiguration default: {field} {block.cidr}")


def _advertisements(resources: ResourceSet, node: str) -> tuple[Advertisement, ...]:
    own = node_spec(resources, node)
    cluster = cluster_spec(resources)
    use, name = (own, f"node.{node}") if own.prefix_advertisements is not None else (cluster, "default")
    found: list[Advertisement] = []
    for entry in use.prefix_advertisements or ():
        values: list[Community] = []
        for text in entry.communities:
            value = use.community(text) or cluster.community(text)
            if value is not None:
                values.append(value)
        if values:
            reason = f"BGPConfiguration {name}: prefixAdvertisements {entry.cidr}"
            found.append(Advertisement(entry.cidr, tuple(values), reason))
    return tuple(found)


def _pools(resources: ResourceSet) -> tuple[Coverage, Coverage]:
    exported: list[Covered] = []
    disabled: list[Covered] = []
    for pool in resources.pools:
        if pool.exports_bgp:
            exported.append(Covered(pool.spec.cidr, f"in IPPool {pool.name}"))
        else:
            disabled.append(Covered(pool.spec.cidr, f"IPPool {pool.name}: disableBGPExport"))
    return Coverage(exported), Coverage(disabled)


def unknown_communities(resources: ResourceSet, node: str) -> Mapping[str, str]:
    """Give entries of prefixAdvertisements that are neither values nor known names, by where they are."""
    found: dict[str, str] = {}
    cluster = cluster_spec(resources)
    for spec, name in ((cluster, "default"), (node_spec(resources, node), f"node.{node}")):
        for entry in spec.prefix_advertisements or ():
            for text in entry.communities:
                if spec.community(text) is None and cluster.community(text) is None:
                    found[f"BGPConfiguration {name}: prefixAdvertisements {entry.cidr}"] = text
    return found
