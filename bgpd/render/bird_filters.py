"""Policies in BIRD's filter language, with few exceptions the same text for BIRD 1.6 and 2.

A priority is kept in ``bgp_local_pref`` (2147483647 minus the priority), which every BIRD knows on every
route. Each BGPFilter becomes one function per direction and family that accepts, rejects, or returns
undecided.
"""

from collections.abc import Iterable, Iterator

from bgpd.plan import NodePlan, PoolPlan
from bgpd.plan.model import Encapsulation, Origination, OriginKind
from bgpd.plan.policy import PRIORITIES, CompiledFilter, Operator, PrefixMatch, Rule, local_pref_of
from bgpd.render.quoting import quoted, readable, symbol
from bgpd.resources.scalars import Community

INDENT = "  "
# Calico's VXLAN and IPIP devices, and Cairn's.
TUNNEL_INTERFACES = ("*.cali", "*.calico", "tunl0", "cairn.*")
# Above that of static routes (200).
_RAISED_PREFERENCE = 250


def filter_symbol(compiled: CompiledFilter, direction: str, version: int) -> str:
    """Give the name of the function for a BGFilter's rules."""
    return symbol("bgpfilter", compiled.name, f"{direction}_v{version}")


def filter_function(
    compiled: CompiledFilter, direction: str, version: int, own_first: bool = False
) -> Iterator[str]:
    """Write a BGPFilter as a function of whether the peer is internal; it ends without a decision if no rule
    holds. ``own_first``: towards another AS the path begins with our own number already, as in BIRD 1.6.
    """
    yield f"# BGPFilter {readable(compiled.name)}: {direction}V{version}"
    yield f"function {filter_symbol(compiled, direction, version)}(bool same_as)"
    if own_first:
        yield "int own_as;"
    yield "{"
    for rule in compiled.rules:
        condition = " && ".join(_conditions(rule, direction, own_first)) or "true"
        yield f"{INDENT}# {readable(rule.reason)}"
        yield f"{INDENT}if ({condition}) then {{ {' '.join(_actions(rule, direction, own_first))} }}"
    yield "}"


def prefix_condition(match: PrefixMatch) -> str:
    """Write a comparison of ``net``."""
    network = match.network
    holds = match.operator in (Operator.IN, Operator.EQUAL)
    if match.low > match.high:
        return "false" if holds else "true"
    if match.operator in (Operator.EQUAL, Operator.NOT_EQUAL):
        return f"net {'=' if holds else '!='} {network}"
    return f"net {'~' if holds else '!~'} [ {network}{{{match.low},{match.high}}} ]"


def add_community(community: Community) -> str:
    """Write the addition of a community."""
    attribute = "bgp_large_community" if community.is_large else "bgp_community"
    return f"{attribute}.add(({', '.join(map(str, community.numbers))}));"


def export_function(plan: NodePlan, version: int) -> Iterator[str]:
    """Write the node's own export rules: accept, reject, or undecided (which the caller rejects)."""
    rules = plan.export_rules
    yield "# What this node announces, after the filters of a session have had their say."
    yield f"function cairn_export_v{version}(bool same_as)"
    yield "{"
    if rules.nothing is not None:
        yield f"{INDENT}reject; # {readable(rules.nothing)}"
    yield from hidden_pools(plan, version)
    if any(
        pool.encapsulation is not Encapsulation.NONE for pool in plan.pools if pool.cidr.version == version
    ):
        yield f"{INDENT}# Routes through a tunnel are this node's way to others, not others' way to it."
        tunnels = " || ".join(f'(ifname ~ "{pattern}")' for pattern in TUNNEL_INTERFACES)
        near = [
            str(route.prefix)
            for route in plan.originated
            if route.kind is OriginKind.TUNNEL and route.prefix.version == version
        ]
        but = f" && net !~ [ {', '.join(near)} ]" if near else ""
        yield f"{INDENT}if (same_as{but} && ({tunnels})) then reject;"
    for network, communities, reason in rules.advertisements:
        if network.version == version:
            added = " ".join(map(add_community, communities))
            yield f"{INDENT}if (net ~ {network}) then {{ {added} }} # {readable(reason)}"
    # A block inside another one is announced too: the inner has its say first.
    for network, reason in sorted(rules.blocks, key=lambda block: -block.network.prefixlen):
        if network.version == version:
            yield f"{INDENT}if (net = {network}) then accept; # {readable(reason)}"
            yield f"{INDENT}if (net ~ {network}) then reject; # announced whole"
    for network, reason in (*rules.statics, *rules.pools):
        if network.version == version:
            yield f"{INDENT}if (net ~ {network}) then accept; # {readable(reason)}"
    yield "}"


def hidden_pools(plan: NodePlan, version: int) -> Iterator[str]:
    """Write the refusal of what lies in pools that are not for export."""
    for network, reason in plan.export_rules.disabled_pools:
        if network.version == version:
            yield f"{INDENT}if (net ~ {network}) then reject; # {readable(reason)}"


def origin_function(plan: NodePlan, version: int) -> Iterator[str]:
    """Write which of the routes that no peer told are announced at all, and their attributes."""
    planned = ", ".join(str(route.prefix) for route in plan.originated if route.prefix.version == version)
    yield "# Routes that do not come from a BGP peer: those this node originates, and their attributes."
    yield f"function cairn_origin_v{version}()"
    yield "{"
    yield f"{INDENT}if (source != RTS_BGP) then {{"
    yield f"{INDENT * 2}if (net !~ [ {planned} ]) then reject;" if planned else f"{INDENT * 2}reject;"
    yield f"{INDENT * 2}bgp_local_pref = {local_pref_of(plan.priority(version))};"
    for route in _dated(plan.originated, version):
        yield f"{INDENT * 2}if (net = {route.prefix}) then bgp_med = {route.med}; # {readable(route.reason)}"
    yield f"{INDENT}}}"
    yield "}"


def raised_function(plan: NodePlan, version: int, own: Iterable[str]) -> Iterator[str]:
    """Write the import of routes of raised priority. ``own``: prefixes that stay this node's in any case."""
    raised = f"bgp_local_pref > {local_pref_of(plan.priority(version))}"
    others = ", ".join(own)
    condition = f"{raised} && net !~ [ {others} ]" if others else raised
    yield "# A route of raised priority (live migration) goes before the static one to a workload still here,"
    yield "# but takes none of the blocks and services of this node."
    yield f"function cairn_raised_v{version}()"
    yield "{"
    yield f"{INDENT}if ({condition}) then preference = {_RAISED_PREFERENCE};"
    yield "}"


def kernel_filter(plan: NodePlan, version: int, services: Iterable[str], metrics: bool) -> Iterator[str]:
    """Write what goes into the kernel. ``services`` are the prefixes that are announced but lead nowhere
    here. ``metrics``: each route has its priority as metric (else the kernel protocol has one for all).
    """
    own = plan.ipv4 if version == 4 else plan.ipv6
    yield "# What packets follow: everything but service addresses and what another program routes."
    yield f"filter cairn_kernel_v{version}"
    yield "{"
    yield f"{INDENT}if (source = RTS_DEVICE) then reject; # the kernel has its own of these"
    for prefix in services:
        yield f"{INDENT}if (net = {prefix}) then reject; # announced only: another program delivers it"
    for pool in plan.pools:
        if pool.cidr.version != version or pool.encapsulation is Encapsulation.NONE:
            continue
        name, chosen = readable(pool.name), f"source = RTS_BGP && net ~ {pool.cidr}{_but_within(pool, plan)}"
        if pool.cross_subnet and own is not None:
            yield (
                f"{INDENT}if ({chosen} && ! (bgp_next_hop ~ {own.network})) "
                f"then reject; # IPPool {name}: a {pool.encapsulation} tunnel leads to other subnets"
            )
        else:
            yield (
                f"{INDENT}if ({chosen}) "
                f"then reject; # IPPool {name}: a {pool.encapsulation} tunnel leads there"
            )
    if metrics:
        yield f"{INDENT}krt_metric = {plan.priority(version)};"
        told = f"bgp_local_pref >= {PRIORITIES.start} && bgp_local_pref < {PRIORITIES.stop}"
        yield f"{INDENT}if (source = RTS_BGP && {told}) then krt_metric = {PRIORITIES.stop} - bgp_local_pref;"
    yield f"{INDENT}accept;"
    yield "}"


def _dated(routes: Iterable[Origination], version: int) -> Iterator[Origination]:
    return (route for route in routes if route.med is not None and route.prefix.version == version)


def _conditions(rule: Rule, direction: str, own_first: bool) -> Iterator[str]:
    if rule.prefix is not None:
        yield f"({prefix_condition(rule.prefix)})"
    if rule.remote_only:
        yield "(source = RTS_BGP)"
    if rule.internal_peer is not None:
        yield "same_as" if rule.internal_peer else "!same_as"
    if rule.interface is not None:
        pattern = quoted(rule.interface, rule.reason)
        if direction == "import":
            yield "false"  # a learned route has no interface, though BIRD 2 tells that of its next hop
        else:
            yield f'(source != RTS_BGP) && (ifname != "") && (ifname ~ {pattern})'
    if rule.community is not None:
        attribute = "bgp_large_community" if rule.community.is_large else "bgp_community"
        yield f"(({', '.join(map(str, rule.community.numbers))}) ~ {attribute})"
    if rule.as_path:
        numbers = " ".join(map(str, rule.as_path))
        if own_first:
            inside, outside = f"bgp_path ~ [= {numbers} * =]", f"bgp_path ~ [= ? {numbers} * =]"
            yield f"((same_as && {inside}) || (!same_as && {outside}))"
        else:
            yield f"(bgp_path ~ [= {numbers} * =])"
    if rule.priority is not None:
        yield f"(bgp_local_pref = {local_pref_of(rule.priority)})"


def _actions(rule: Rule, direction: str, own_first: bool) -> Iterator[str]:
    if not rule.accept:
        yield "reject;"
        return
    for community in rule.add_communities:
        yield add_community(community)
    if rule.prepend and own_first:
        yield "if (!same_as) then { own_as = bgp_path.first; bgp_path = delete(bgp_path, own_as); }"
    for asn in reversed(rule.prepend):
        yield f"bgp_path.prepend({asn});"
    if rule.prepend and own_first:
        yield "if (!same_as) then bgp_path.prepend(own_as);"
    if rule.set_priority is not None:
        yield f"bgp_local_pref = {local_pref_of(rule.set_priority)};"
        if direction == "export":
            yield f"if (!same_as) then bgp_med = {rule.set_priority};"
    yield "accept;"


def _but_within(pool: PoolPlan, plan: NodePlan) -> str:
    """Leave out the pools inside a pool: the inmost counts."""
    pools, outer = [other.cidr for other in plan.pools], pool.cidr
    inner = [cidr for cidr in pools if cidr.prefixlen > outer.prefixlen and cidr.network_address in outer]
    return f" && net !~ [ {', '.join(f'{cidr}+' for cidr in inner)} ]" if inner else ""
