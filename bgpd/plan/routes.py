"""Which routes a node originates, and which of its own it does not announce, and why.

- A block with a confirmed affinity is announced whole and is a blackhole locally (except single addresses),
  so that traffic to unassigned addresses does not loop. A pending one is not announced (another node may win
  it), one being released is withdrawn. What the IPAMBlock says counts as little as in Calico; no agent hears
  of it.
- A block with a reserved address in it (a Node's, say; see ``reserved``) is neither: the blackhole would cut
  this node off from there and from the datastore that could put it right, and so would the route all others.
  Its workloads are host routes, but for one that claims such an address itself, which has none.
- A workload's address outside the node's announced blocks (borrowed from another's, migrated here, or in a
  block still pending) is announced as a host route.
- An address claimed by endpoints on several nodes belongs to the newest endpoint (creation time, then uid,
  then key); the others' nodes do not announce it. A node that does not see the rivals' endpoints cannot
  know, so every host route carries its endpoint's age as MULTI_EXIT_DISC, newer being lower: whoever hears
  both prefers the newer.
- So is the address of this node's own end of a tunnel, if it lies in a pool and outside those blocks: what
  the node itself sends through the tunnel has this source, and the answers have to find it.
- Service CIDRs are announced by every node not excluded from load balancers. As in Calico the label has
  to say "true": kubeadm gives every control plane an empty one, also where it is the only node.
- What these rules hold back, addresses inside the node's blocks among it, is announced on the sessions whose
  BGPFilters accept it: a filter's word comes first.

After a change only the addresses it concerns are looked at again: those of changed endpoints and those in
blocks that came or went.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import NamedTuple

from bgpd.plan.facts import cluster_spec, node_spec
from bgpd.plan.model import (
    Blackhole,
    Origination,
    OriginKind,
    Rejection,
    TunnelEnd,
    WorkloadRoute,
)
from bgpd.plan.ordered import Ordered
from bgpd.plan.policy import (
    Advertisement,
    Coverage,
    Covered,
    Decision,
    ExportPolicy,
    ExportRules,
    RouteFacts,
    is_host,
    local_pref_of,
)
from bgpd.plan.reserved import Needed, Reserved, reserved_for
from bgpd.resources.bgp_configuration import DEFAULT_ROUTE_PRIORITY, CidrBlock
from bgpd.resources.cairn import CONFIGURED, LEARN_ONLY
from bgpd.resources.ipam import BlockAffinity
from bgpd.resources.keys import Key
from bgpd.resources.node import Node
from bgpd.resources.resource_set import ResourceSet, State, changed_keys
from bgpd.resources.scalars import Community, IPNetwork
from bgpd.resources.workload_endpoint import WorkloadEndpoint

EXCLUDED_FROM_LOAD_BALANCERS = "node.kubernetes.io/exclude-from-external-load-balancers"
_POOL_KINDS = ("IPPool",)
_KINDS = ("WorkloadEndpoint", "BlockAffinity", "IPPool", "BGPConfiguration", "Node", "BGPPeer")
_LAST_MED = 0xFFFFFFFF
_AGES = range(1 << 30, _LAST_MED)  # MEDs that tell one: made before the year 2072
_EVERYWHERE = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))


@dataclass(frozen=True, slots=True)
class NodeRoutes:
    """What ``routes_of`` finds for one node."""

    originated: tuple[Origination, ...]
    rejected: tuple[Rejection, ...]
    blackholes: tuple[Blackhole, ...]
    workloads: tuple[WorkloadRoute, ...]
    rules: ExportRules
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Candidate:
    prefix: IPNetwork
    kind: OriginKind
    reason: str
    interface: str | None = None
    med: int | None = None


Spot = tuple[int, int, int]
"""A prefix as three numbers, which order quickly: IP version, first address, length."""


class _Blocks(NamedTuple):
    """A node's blocks: those that are its own, and those that are not, and why."""

    own: tuple[_Candidate, ...]
    refused: tuple[Rejection, ...]
    coverage: Coverage
    remarks: tuple[str, ...]


class _Claim(NamedTuple):
    """An address that workloads of this node claim. ``owner``: the one of them that has it, if one has."""

    prefix: IPNetwork
    owner: WorkloadEndpoint | None
    lost: tuple[Rejection, ...]


class _Outcome(NamedTuple):
    """What becomes of an address. ``outside``: it lies in no block of this node."""

    prefix: IPNetwork
    claimed: bool
    outside: bool
    workload: WorkloadRoute | None = None
    origination: Origination | None = None
    rejections: tuple[Rejection, ...] = ()
    remark: str | None = None


@dataclass(frozen=True, slots=True)
class _Claimed:
    """What becomes of all claimed addresses."""

    outcomes: Ordered[Spot, _Outcome] = field(default_factory=Ordered)
    workloads: Ordered[Spot, WorkloadRoute] = field(default_factory=Ordered)
    originated: Ordered[Spot, Origination] = field(default_factory=Ordered)
    rejected: Ordered[tuple[int, int, int, str, str], Rejection] = field(default_factory=Ordered)
    remarks: Ordered[Spot, str] = field(default_factory=Ordered)

    def changed(self, outcomes: Iterable[_Outcome]) -> "_Claimed":
        """Give all with these outcomes in the place of the former ones."""
        come = {_spot(outcome.prefix): outcome for outcome in outcomes}
        former = [outcome for spot in come if (outcome := self.outcomes.get(spot)) is not None]
        return _Claimed(
            self.outcomes.changed(come, {spot: item for spot, item in come.items() if item.claimed}),
            self.workloads.changed(
                come, {spot: item.workload for spot, item in come.items() if item.workload}
            ),
            self.originated.changed(
                come, {spot: item.origination for spot, item in come.items() if item.origination}
            ),
            self.rejected.changed(
                [_order(rejection) for outcome in former for rejection in outcome.rejections],
                {_order(item): item for outcome in come.values() for item in outcome.rejections},
            ),
            self.remarks.changed(come, {spot: item.remark for spot, item in come.items() if item.remark}),
        )


class _Terms(NamedTuple):
    """What becomes of an address depends on, besides who claims it."""

    coverage: Coverage
    rules: ExportRules
    priorities: tuple[int, int]
    releases: tuple[ExportPolicy, ...]
    reserved: Reserved


class _Routes(NamedTuple):
    """A node's routes, and what the next ones can be made of."""

    routes: NodeRoutes
    terms: _Terms
    claimed: _Claimed


def is_learn_only(node: Node) -> bool:
    """Say whether a node is a plain server: it learns every route and announces none."""
    return (node.metadata.annotation(LEARN_ONLY) or "").lower() in ("true", CONFIGURED)


def normal_priority(resources: ResourceSet) -> tuple[int, int]:
    """Give the priority of ordinary IPv4 and IPv6 routes."""
    spec = cluster_spec(resources)
    return (
        spec.ipv4_normal_route_priority or DEFAULT_ROUTE_PRIORITY,
        spec.ipv6_normal_route_priority or DEFAULT_ROUTE_PRIORITY,
    )


def routes_of(
    resources: ResourceSet,
    node: str,
    statics: tuple[IPNetwork, ...] = (),
    releases: tuple[ExportPolicy, ...] = (),
    needed: tuple[Needed, ...] = (),
    tunnels: tuple[TunnelEnd, ...] = (),
) -> NodeRoutes:
    """Give what a node announces and does not. ``statics`` are prefixes of the agent's own configuration,
    ``releases`` the policies of its sessions that may accept what its rules hold back, ``needed`` what its
    agent needs besides Nodes and routers, ``tunnels`` its own ends of tunnels.
    """
    return resources.revised(_routes, _KINDS, node, statics, releases, needed, tunnels, named=2).routes


def _routes(
    resources: ResourceSet,
    last: _Routes | None,
    past: State | None,
    present: State,
    name: str,
    statics: tuple[IPNetwork, ...],
    releases: tuple[ExportPolicy, ...],
    needed: tuple[Needed, ...],
    tunnels: tuple[TunnelEnd, ...],
) -> _Routes:
    node = resources.nodes[name]
    reserved = reserved_for(resources, name, needed)
    blocks = resources.revised(_blocks, ("BlockAffinity",), name, reserved, named=1)
    own: list[_Candidate] = []
    rejected = list(blocks.refused)
    for block in blocks.own:
        owner = _claim(resources, name, block.prefix).owner if is_host(block.prefix) else None
        if owner is not None and owner.spec.interface_name:  # it is the workload's route, under another name
            own.append(replace(block, interface=owner.spec.interface_name, med=age_med(owner)))
        elif not is_host(block.prefix):
            own.append(block)
        else:
            reason = f"{block.reason}: announced once a workload has it"
            rejected.append(Rejection(block.prefix, block.kind, reason))
    services, untold = _services(resources, node)
    rejected.extend(untold)
    static = [_Candidate(prefix, OriginKind.STATIC, "static route of this agent") for prefix in statics]
    pools, disabled = resources.derived(_pools, _POOL_KINDS)
    rules = ExportRules(
        disabled_pools=disabled,
        advertisements=_advertisements(resources, name),
        blocks=Coverage(Covered(block.prefix, block.reason) for block in own),
        statics=Coverage(Covered(item.prefix, item.reason) for item in (*services, *static)),
        pools=pools,
        nothing=f"Node {name} only learns (annotation cairn.dev/{LEARN_ONLY})"
        if is_learn_only(node)
        else None,
    )
    terms = _Terms(blocks.coverage, rules, normal_priority(resources), releases, reserved)
    claimed = last.claimed if last is not None else _Claimed()
    if last is not None and last.terms == terms:
        terms = last.terms
    touched = _touched(resources, name, last, past, present, terms)
    claimed = claimed.changed(_outcome(_claim(resources, name, prefix), name, terms) for prefix in touched)
    originated: dict[Spot, Origination] = {}
    for item in (*own, *services, *static, *_near_ends(tunnels, name, terms)):
        found = _decided(item, terms)
        if isinstance(found, Rejection):
            rejected.append(found)
        elif claimed.originated.get(spot := _spot(item.prefix)) is None:
            originated.setdefault(spot, found)
    routes = NodeRoutes(
        originated=claimed.originated.changed((), originated).items,
        rejected=claimed.rejected.changed((), {_order(item): item for item in rejected}).items,
        blackholes=tuple(Blackhole(block.prefix, block.reason) for block in own if not is_host(block.prefix)),
        workloads=claimed.workloads.items,
        rules=terms.rules,
        remarks=(*blocks.remarks, *claimed.remarks.items),
    )
    return _Routes(last.routes if last is not None and last.routes == routes else routes, terms, claimed)


def _touched(
    resources: ResourceSet, node: str, last: _Routes | None, past: State | None, present: State, terms: _Terms
) -> set[IPNetwork]:
    """Give the addresses whose outcome may be another one than it was."""
    if last is None or past is None:
        endpoints = resources.endpoints_on(node)
        return {prefix for endpoint in endpoints for prefix in endpoint.spec.ip_networks or ()}
    touched = {
        prefix
        for key in changed_keys(past[0], present[0])
        for endpoint in (past[0].get(key), present[0].get(key))
        if endpoint is not None
        for prefix in endpoint.spec.ip_networks or ()
    }
    if terms is not last.terms:
        outcomes = last.claimed.outcomes
        filtered = terms.releases or last.terms.releases
        for network in _differing(last.terms, terms):
            first = _spot(network)
            beyond = (first[0], int(network.broadcast_address) + 1, 0)
            touched.update(
                outcome.prefix
                for outcome in outcomes.between((*first[:2], 0), beyond)
                # Of an address in a block of this node the rules have nothing to say, only filters.
                if filtered or outcome.outside or terms.coverage.find(outcome.prefix) is None
            )
        if terms.reserved != last.terms.reserved:
            touched.update(
                outcome.prefix
                for outcome in outcomes.items
                if last.terms.reserved.inside(outcome.prefix) != terms.reserved.inside(outcome.prefix)
            )
    return touched


def _differing(last: _Terms, present: _Terms) -> set[IPNetwork]:
    """Give the networks in which the terms are not what they were."""
    was, now = last.rules, present.rules
    if (was.advertisements, was.nothing, last.priorities, last.releases) != (
        now.advertisements,
        now.nothing,
        present.priorities,
        present.releases,
    ):
        return {*_EVERYWHERE}
    pairs = (
        (last.coverage, present.coverage),
        (was.disabled_pools, now.disabled_pools),
        (was.statics, now.statics),
        (was.pools, now.pools),
    )
    return {item.network for one, other in pairs if one != other for item in {*one} ^ {*other}}


def _spot(prefix: IPNetwork) -> Spot:
    return (prefix.version, int(prefix.network_address), prefix.prefixlen)


def _order(item: Rejection) -> tuple[int, int, int, str, str]:
    return (*_spot(item.prefix), item.reason, item.kind)


def _blocks(
    resources: ResourceSet,
    _last: _Blocks | None,
    _past: State | None,
    _present: State,
    node: str,
    reserved: Reserved,
) -> _Blocks:
    own: list[_Candidate] = []
    refused: list[Rejection] = []
    remarks: list[str] = []
    for affinity in resources.affinities_of(node):
        if (refusal := _block_refusal(affinity)) is not None:
            refused.append(Rejection(affinity.cidr, OriginKind.BLOCK, refusal))
        elif (found := reserved.inside(affinity.cidr)) is not None:
            refusal = f"{found[0]} in block {affinity.cidr} is the address of {found[1]}"
            refused.append(Rejection(affinity.cidr, OriginKind.BLOCK, refusal))
            remarks.append(f"{refusal}: the block is not announced; release it")
        else:
            state = affinity.spec.state or "implicitly confirmed"
            reason = f"block {affinity.cidr}, affinity to {node} {state}"
            own.append(_Candidate(affinity.cidr, OriginKind.BLOCK, reason))
    coverage = Coverage(Covered(block.prefix, block.reason) for block in own)
    return _Blocks(tuple(own), tuple(refused), coverage, tuple(remarks))


def _block_refusal(affinity: BlockAffinity) -> str | None:
    """Say why a block is not announced. As in Calico the affinity decides, whatever the IPAMBlock says."""
    if affinity.is_confirmed:
        return None
    state = "deleted" if affinity.spec.deleted else affinity.spec.state
    return f"the affinity of block {affinity.cidr} to {affinity.node} is {state}"


def _claim(resources: ResourceSet, node: str, prefix: IPNetwork) -> _Claim:
    """Find out who of all who claim an address has it."""
    rivals = resources.endpoints_with(prefix)
    owner = max(rivals, key=_age) if len(rivals) > 1 else next(iter(rivals), None)
    if owner is None:
        return _Claim(prefix, None, ())
    losers = [rival for rival in rivals if rival is not owner and rival.node == node]
    reason = f"the newer WorkloadEndpoint {_title(owner)} on {owner.node} has it"
    return _Claim(
        prefix,
        owner if owner.node == node else None,
        tuple(
            Rejection(prefix, OriginKind.ENDPOINT, f"WorkloadEndpoint {_title(loser)}: {reason}")
            for loser in losers
        ),
    )


def _title(endpoint: WorkloadEndpoint) -> str:
    return f"{endpoint.metadata.namespace or 'default'}/{endpoint.name}"


def _outcome(claim: _Claim, node: str, terms: _Terms) -> _Outcome:
    prefix, owner, rejections = claim
    outside = terms.coverage.find(prefix) is None
    if owner is None:
        return _Outcome(prefix, bool(rejections), outside, rejections=rejections)
    title, med, interface = f"WorkloadEndpoint {_title(owner)}", age_med(owner), owner.spec.interface_name
    if (taken := terms.reserved.inside(prefix)) is not None:
        refusal = f"{title}: {taken[0]} is the address of {taken[1]}"
        rejections = (*rejections, Rejection(prefix, OriginKind.ENDPOINT, refusal))
        remark = f"{refusal}: neither announced nor routed to; give it another"
        return _Outcome(prefix, True, outside, rejections=rejections, remark=remark)
    workload = WorkloadRoute(prefix, interface, title, med) if interface else None
    where = "outside" if outside else "inside"
    candidate = _Candidate(
        prefix, OriginKind.ENDPOINT, f"{title}: {where} the blocks of {node}", interface, med
    )
    if not outside:
        released = _released(candidate, terms) if workload is not None else None
        return _Outcome(prefix, True, outside, workload, released, rejections)
    found = _decided(candidate, terms)
    if isinstance(found, Rejection):
        return _Outcome(prefix, True, outside, workload, None, (*rejections, found))
    return _Outcome(prefix, True, outside, workload, found, rejections)


def _decided(item: _Candidate, terms: _Terms) -> Origination | Rejection:
    """Have the node's rules decide whether a route is announced, and where they do not, its filters."""
    decision = terms.rules.decide(_facts(item, terms))
    if decision.accept:
        return _origination(item, terms, item.reason, decision)
    return _released(item, terms) or Rejection(item.prefix, item.kind, decision.reason)


def _released(item: _Candidate, terms: _Terms) -> Origination | None:
    """Give the route if the node's rules hold it back and a filter of some session lets it out."""
    route = _facts(item, terms)
    if not terms.releases or terms.rules.decide(route).accept:
        return None
    for policy in terms.releases:
        decision = policy.decide(route, terms.rules)
        if decision.accept:
            return _origination(item, terms, f"{item.reason}; {decision.reason}")
    return None


def _facts(item: _Candidate, terms: _Terms) -> RouteFacts:
    return RouteFacts(item.prefix, _priority(item, terms), interface=item.interface)


def _priority(item: _Candidate, terms: _Terms) -> int:
    return terms.priorities[0 if item.prefix.version == 4 else 1]


def _origination(
    item: _Candidate, terms: _Terms, reason: str, decision: Decision | None = None
) -> Origination:
    priority = _priority(item, terms)
    return Origination(
        prefix=item.prefix,
        kind=item.kind,
        reason=reason,
        communities=() if decision is None else decision.communities,
        priority=priority,
        local_pref=local_pref_of(priority),
        med=item.med,
        interface=item.interface,
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


def is_age(med: int) -> bool:
    """Whether a MULTI_EXIT_DISC tells an age, and is not on a router's own scale."""
    return med in _AGES


def _age(endpoint: WorkloadEndpoint) -> tuple[float, str, Key]:
    return (created_at(endpoint), endpoint.metadata.uid or "", endpoint.key)


def _near_ends(tunnels: tuple[TunnelEnd, ...], node: str, terms: _Terms) -> Iterator[_Candidate]:
    """Give a node's tunnel addresses to which no block of its own leads, of those in pools."""
    for end in tunnels:
        prefix = ip_network(end.tunnel_address)
        rules = terms.rules
        pool = rules.pools.find(prefix) or rules.disabled_pools.find(prefix)
        if pool and rules.blocks.find(prefix) is None and terms.reserved.inside(prefix) is None:
            reason = f"{end.encapsulation} tunnel address of Node {node}: outside its blocks"
            yield _Candidate(prefix, OriginKind.TUNNEL, reason)


def _services(resources: ResourceSet, node: Node) -> tuple[list[_Candidate], list[Rejection]]:
    spec = cluster_spec(resources)
    declared = list(_service_blocks(spec.service_cluster_ips, "serviceClusterIPs"))
    declared += _service_blocks(spec.service_external_ips, "serviceExternalIPs")
    balancers = list(_service_blocks(spec.service_load_balancer_ips, "serviceLoadBalancerIPs"))
    if node.labels.get(EXCLUDED_FROM_LOAD_BALANCERS) == "true":
        reason = f"label {EXCLUDED_FROM_LOAD_BALANCERS} of Node {node.name}"
        return [], [Rejection(item.prefix, OriginKind.SERVICE, reason) for item in (*declared, *balancers)]
    if spec.service_load_balancer_aggregation == "Disabled":
        reason = "serviceLoadBalancerAggregation is Disabled: single addresses only, and it is none"
        single = [item for item in balancers if is_host(item.prefix)]
        wide = [item for item in balancers if not is_host(item.prefix)]
        return declared + single, [Rejection(item.prefix, OriginKind.SERVICE, reason) for item in wide]
    return declared + balancers, []


def _service_blocks(blocks: list[CidrBlock] | None, field: str) -> Iterator[_Candidate]:
    for block in blocks or ():
        if block.cidr is None:
            continue
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
