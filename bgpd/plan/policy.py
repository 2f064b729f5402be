"""What may pass a session: BGPFilter rules and Calico's export rules as small typed values, and their
evaluation.

A policy is plain data. ``render`` writes it as BIRD's filter language; agents and reflectors evaluate it with
``decide``. Both read the same value, so they cannot disagree.

Order on export, as in Calico: the peering's BGPFilters (the first rule that matches decides, whatever
follows); then pools with BGP export disabled are refused; the communities of prefixAdvertisements are added;
the node's own blocks pass and nothing beneath them does; service and static routes pass; what lies in a pool
passes; the rest is refused. On import: the BGPFilters, then everything passes.

A route's *priority* is Calico's: a metric, lower is better. Between nodes of one AS it travels as LOCAL_PREF
(2147483647 minus the priority), which every speaker understands. To another AS a priority that a rule has set
explicitly travels as MULTI_EXIT_DISC; Calico has nothing there.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import translate
from ipaddress import IPv4Network
from typing import NamedTuple

from bgpd.resources.bgp_filter import BGPFilter, FilterRule
from bgpd.resources.bgp_filter import Operation as DeclaredOperation
from bgpd.resources.scalars import Community, IPNetwork, within

LOCAL_PREF_OF_PRIORITY_ZERO = 2147483647
PRIORITIES = range(1 << 30, LOCAL_PREF_OF_PRIORITY_ZERO)  # values of LOCAL_PREF that tell a priority


def local_pref_of(priority: int) -> int:
    """Give the LOCAL_PREF a priority travels as."""
    return LOCAL_PREF_OF_PRIORITY_ZERO - priority


def priority_of(local_pref: int | None, normal: int) -> int:
    """Give the priority of a received route: ``normal`` when it came without LOCAL_PREF (from another AS)."""
    return normal if local_pref is None else LOCAL_PREF_OF_PRIORITY_ZERO - local_pref


class Operator(StrEnum):
    """How a rule compares a route's prefix with its CIDR."""

    EQUAL = "Equal"
    NOT_EQUAL = "NotEqual"
    IN = "In"
    NOT_IN = "NotIn"


class RouteFacts(NamedTuple):
    """What a rule can look at.

    ``remote``: learned from a BGP peer, not originated here. ``interface``: the outgoing one, if there is one
    and it is known. ``communities``: standard (two numbers) and large (three). ``as_path``: the AS numbers of
    the leading sequences, in order.
    """

    prefix: IPNetwork
    priority: int
    remote: bool = False
    interface: str | None = None
    communities: Collection[tuple[int, ...]] = ()
    as_path: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a route passes, why, and what is changed on its way.

    ``communities`` are added; ``prepend`` stands in front of the AS_PATH in this order; ``priority`` is the
    route's afterwards, ``priority_set`` whether a rule set it.
    """

    accept: bool
    reason: str
    priority: int
    communities: tuple[Community, ...] = ()
    prepend: tuple[int, ...] = ()
    priority_set: bool = False


@dataclass(frozen=True, slots=True)
class PrefixMatch:
    """A comparison of prefixes; the bounds on the length are inclusive, and never below the CIDR's own."""

    network: IPNetwork
    operator: Operator
    low: int
    high: int

    def holds(self, prefix: IPNetwork) -> bool:
        return self.of_version(prefix.version)(prefix.prefixlen, int(prefix.network_address))

    def of_version(self, version: int) -> Callable[[int, int], bool]:
        """The comparison for prefixes of one IP version, given by their length and address."""
        low, high = self.low, self.high if version == self.network.version else -1
        mask, address = int(self.network.netmask), int(self.network.network_address)
        wanted = self.operator in (Operator.IN, Operator.EQUAL)
        return lambda length, bits: (low <= length <= high and bits & mask == address) is wanted


@dataclass(frozen=True, slots=True)
class Rule:
    """One compiled rule; ``None`` and the empty path mean "whatever it is"."""

    reason: str
    accept: bool
    prefix: PrefixMatch | None = None
    remote_only: bool = False
    interface: str | None = None
    internal_peer: bool | None = None
    community: Community | None = None
    as_path: tuple[int, ...] = ()
    priority: int | None = None
    add_communities: tuple[Community, ...] = ()
    prepend: tuple[int, ...] = ()
    set_priority: int | None = None

    def holds(self, route: RouteFacts, internal: bool) -> bool:
        """Say whether the rule decides this route on a session of this kind."""
        return (self.prefix is None or self.prefix.holds(route.prefix)) and self.fits(route, internal)

    def fits(self, route: RouteFacts, internal: bool) -> bool:
        """Say whether everything but the prefix is as the rule wants it."""
        return (
            (not self.remote_only or route.remote)
            and (self.internal_peer is None or self.internal_peer == internal)
            and (self.interface is None or interface_matches(self.interface, route.interface))
            and (self.community is None or self.community.numbers in route.communities)
            and route.as_path[: len(self.as_path)] == self.as_path
            and (self.priority is None or self.priority == route.priority)
        )

    def applied(self, route: RouteFacts) -> Decision:
        """Give the decision of this rule, which holds, on this route."""
        if not self.accept:
            return Decision(False, self.reason, route.priority)
        priority = route.priority if self.set_priority is None else self.set_priority
        return Decision(
            True, self.reason, priority, self.add_communities, self.prepend, self.set_priority is not None
        )


@dataclass(frozen=True, slots=True)
class CompiledFilter:
    """The rules of one BGPFilter for one direction and IP ``version`` (``None``: both)."""

    name: str
    rules: tuple[Rule, ...]
    version: int | None = None


def decide(filters: Iterable[CompiledFilter], route: RouteFacts, internal: bool) -> Decision | None:
    """Give the decision of the first rule that holds; ``None`` when no filter decides."""
    for compiled in filters:
        if compiled.version in (None, route.prefix.version):
            for rule in compiled.rules:
                if rule.holds(route, internal):
                    return rule.applied(route)
    return None


class Judge:
    """``decide`` for many routes that differ in the prefix alone: all else is looked at once."""

    def __init__(self, filters: Iterable[CompiledFilter], route: RouteFacts, internal: bool) -> None:
        version = route.prefix.version
        self._rules = [
            (rule.prefix.of_version(version) if rule.prefix else None, rule.applied(route))
            for compiled in filters
            if compiled.version in (None, version)
            for rule in compiled.rules
            if rule.fits(route, internal)
        ]

    def decide(self, length: int, address: int) -> Decision | None:
        """The decision on the prefix of this length and address."""
        for holds, decision in self._rules:
            if holds is None or holds(length, address):
                return decision
        return None


@dataclass(frozen=True, slots=True)
class ImportPolicy:
    """What is taken from a peer: the filters, then everything. ``beside`` is what the same BGPFilters say of
    the other IP version, for a reflector, whose sessions carry both.
    """

    filters: tuple[CompiledFilter, ...] = ()
    internal: bool = True
    beside: tuple[CompiledFilter, ...] = ()

    def decide(self, route: RouteFacts) -> Decision:
        taken = Decision(True, "no filter decides: everything is taken", route.priority)
        return decide(self.filters, route, self.internal) or taken


class Covered(NamedTuple):
    """A CIDR and the resource that declares something of it."""

    network: IPNetwork
    reason: str


class Coverage:
    """CIDRs with reasons, and which of them contains a prefix: one lookup per distinct length, however many
    there are.

    Immutable; equal when the same CIDRs stand in the same order.
    """

    __slots__ = ("_by_bits", "_lengths", "items")

    def __init__(self, items: Iterable[Covered] = ()) -> None:
        self.items = tuple(items)
        self._by_bits = {
            (item.network.version, item.network.prefixlen, int(item.network.network_address)): item
            for item in reversed(self.items)
        }
        self._lengths = sorted({length for _, length, _ in self._by_bits}, reverse=True)

    def find(self, prefix: IPNetwork) -> Covered | None:
        """Give the longest of the CIDRs that ``prefix`` is or lies in."""
        version, length, bits = prefix.version, prefix.prefixlen, int(prefix.network_address)
        size = 32 if version == 4 else 128
        for shorter in self._lengths:
            if shorter <= length:
                masked = bits >> (size - shorter) << (size - shorter)
                if (found := self._by_bits.get((version, shorter, masked))) is not None:
                    return found
        return None

    def __iter__(self) -> Iterator[Covered]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Coverage) and self.items == other.items)

    def __hash__(self) -> int:
        return hash(self.items)

    def __repr__(self) -> str:
        return f"Coverage({self.items!r})"


_NOTHING_COVERED = Coverage()


class Advertisement(NamedTuple):
    """Communities for every route within a CIDR."""

    network: IPNetwork
    communities: tuple[Community, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class ExportRules:
    """What a node lets out by Calico's rules, the same on all its sessions."""

    disabled_pools: Coverage = _NOTHING_COVERED
    advertisements: tuple[Advertisement, ...] = ()
    blocks: Coverage = _NOTHING_COVERED
    statics: Coverage = _NOTHING_COVERED
    pools: Coverage = _NOTHING_COVERED
    nothing: str | None = None
    """Why this node announces nothing at all, if so."""

    def decide(self, route: RouteFacts) -> Decision:
        if self.nothing is not None:
            return Decision(False, self.nothing, route.priority)
        prefix = route.prefix
        if (disabled := self.disabled_pools.find(prefix)) is not None:
            return Decision(False, disabled.reason, route.priority)
        added: list[Community] = []
        for network, communities, _ in self.advertisements:
            if within(prefix, network):
                added.extend(community for community in communities if community not in added)
        block = self.blocks.find(prefix)
        if block is not None and block.network.prefixlen < prefix.prefixlen:
            reason = f"inside this node's block {block.network}, which is announced whole"
            return Decision(False, reason, route.priority)
        passing = block or self.statics.find(prefix) or self.pools.find(prefix)
        if passing is not None:
            return Decision(True, passing.reason, route.priority, tuple(added))
        return Decision(False, "in no IPPool, block or service CIDR", route.priority)


def hidden_pools(rules: ExportRules) -> tuple[CompiledFilter, ...]:
    """What a reflector adds to the filters of a session with another AS.

    It has routes of pools that are not for export where a client's filter let them out for its own AS.
    """
    refusals = tuple(
        Rule(reason, False, PrefixMatch(pool, Operator.IN, pool.prefixlen, pool.max_prefixlen))
        for pool, reason in rules.disabled_pools
    )
    return (CompiledFilter("disableBGPExport", refusals),) if refusals else ()


@dataclass(frozen=True, slots=True)
class ExportPolicy:
    """What is announced to a peer: its filters, then the node's rules, which are the same for all peers.
    ``beside`` as in ``ImportPolicy``.
    """

    filters: tuple[CompiledFilter, ...] = ()
    internal: bool = True
    beside: tuple[CompiledFilter, ...] = ()

    def decide(self, route: RouteFacts, rules: ExportRules) -> Decision:
        found = decide(self.filters, route, self.internal) if rules.nothing is None else None
        return found or rules.decide(route)


def interface_matches(pattern: str, interface: str | None) -> bool:
    """Say whether an interface's name matches a pattern with ``*`` and ``?``; an unknown interface never
    does.
    """
    return interface is not None and re.fullmatch(translate(pattern), interface) is not None


def compiled_filter(declared: BGPFilter, direction: str, version: int) -> CompiledFilter | None:
    """Compile a BGPFilter's rules for a ``direction`` (import, export) and IP version; ``None`` without
    rules.
    """
    rules: Iterable[FilterRule] | None = getattr(declared.spec, f"{direction}_v{version}")
    if not rules:
        return None
    name = declared.metadata.name
    return CompiledFilter(
        name,
        tuple(
            _rule(rule, f"BGPFilter {name} {direction}V{version}[{index}]")
            for index, rule in enumerate(rules)
        ),
        version,
    )


def _rule(declared: FilterRule, reason: str) -> Rule:
    communities, prepend, priority = _operations(declared.operations or ())
    interface = declared.interface or ""
    return Rule(
        reason=f"{reason}: {declared.action}",
        accept=declared.action == "Accept",
        prefix=_prefix_match(declared),
        remote_only=declared.source == "RemotePeers",
        interface=interface if interface.strip("*") else None,  # `*` fits no interface too, as in BIRD
        internal_peer=None if declared.peer_type is None else declared.peer_type == "iBGP",
        community=declared.communities.values[0] if declared.communities else None,
        as_path=tuple(declared.as_path_prefix or ()),
        priority=declared.priority,
        add_communities=communities,
        prepend=prepend,
        set_priority=priority,
    )


def _prefix_match(declared: FilterRule) -> PrefixMatch | None:
    network = declared.cidr
    if network is None or declared.match_operator is None:
        return None
    operator = Operator(declared.match_operator)
    low: int = network.prefixlen
    high: int = network.max_prefixlen
    if declared.prefix_length is not None:
        low = max(low, declared.prefix_length.min or 0)
        high = high if declared.prefix_length.max is None else declared.prefix_length.max
    if operator in (Operator.EQUAL, Operator.NOT_EQUAL):
        high = min(high, network.prefixlen)
    return PrefixMatch(network, operator, low, high)


def _operations(
    declared: Iterable[DeclaredOperation],
) -> tuple[tuple[Community, ...], tuple[int, ...], int | None]:
    communities: list[Community] = []
    prepend: tuple[int, ...] = ()
    priority: int | None = None
    for operation in declared:
        if operation.add_community is not None:
            communities.append(operation.add_community.value)
        elif operation.prepend_as_path is not None:
            prepend = (*operation.prepend_as_path.prefix, *prepend)
        elif operation.set_priority is not None:
            priority = operation.set_priority.value
    return tuple(communities), prepend, priority


def is_host(prefix: IPNetwork) -> bool:
    """Say whether a prefix is one address."""
    return prefix.prefixlen == (32 if isinstance(prefix, IPv4Network) else 128)
