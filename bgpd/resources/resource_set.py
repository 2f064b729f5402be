"""An immutable snapshot of the declared state, indexed, with cheap successors.

``with_changes`` gives the next snapshot and shares with this one everything the change did not touch: per
kind one dictionary, and indexes of endpoints and block affinities by node and by address that are carried
forward change by change. What other packages derive (which peers a node has, which pool holds an address)
they compute through ``derived``: once per snapshot, and carried to successors until one of the kinds it
depends on changes. So planning one node after one endpoint moved costs that node's work, not the cluster's.
A derivation that is large and changes little is ``revised``: it is given its last value and what that was
made from, and ``changed_keys`` tells the difference. All of it is a memory of pure functions: a snapshot
without any gives the same answers, later.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from operator import is_
from types import MappingProxyType
from typing import Any, Generic, TypeVar, TypeVarTuple, cast
from weakref import ref

from bgpd.resources.base import Resource
from bgpd.resources.bgp_configuration import BGPConfiguration
from bgpd.resources.bgp_filter import BGPFilter
from bgpd.resources.bgp_peer import BGPPeer
from bgpd.resources.cairn import CairnConfiguration, NodeLease
from bgpd.resources.ip_pool import IPPool
from bgpd.resources.ipam import BlockAffinity, IPAMBlock
from bgpd.resources.keys import Key
from bgpd.resources.node import Node
from bgpd.resources.scalars import IPNetwork
from bgpd.resources.workload_endpoint import WorkloadEndpoint

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
R = TypeVar("R", bound=Resource)
State = tuple[Mapping[Key, Any], ...]
"""The resources by key of each kind a derivation depends on, in the order it names the kinds."""
_NOTHING: Mapping[Key, Any] = MappingProxyType({})
_Memory = Mapping[Hashable, tuple[State, Hashable, Any]]  # a derivation's state, other arguments, value
_NO_MEMORY: _Memory = MappingProxyType({})


class _Kind(dict[Key, Any]):
    """The resources of one kind, and the keys in which they differ from those they came of."""

    __slots__ = ("__weakref__", "changed", "former")

    def __init__(self, resources: Mapping[Key, Any], changes: Mapping[Key, Any] = _NOTHING) -> None:
        super().__init__(resources)
        for key, resource in changes.items():
            if resource is None:
                self.pop(key, None)
            else:
                self[key] = resource
        self.changed = sorted(changes)
        self.former = ref(resources) if isinstance(resources, _Kind) else None


class _Index(Generic[R]):
    """Resources of one kind by groups; ``changed`` shares the untouched groups."""

    __slots__ = ("_groups", "_of")

    def __init__(
        self, of: Callable[[R], Iterable[Hashable]], groups: dict[Hashable, dict[Key, R]] | None = None
    ) -> None:
        self._of = of
        self._groups = groups or {}

    def group(self, name: Hashable) -> tuple[R, ...]:
        """Give the members of a group in key order."""
        members = self._groups.get(name)
        return tuple([members[key] for key in sorted(members)]) if members else ()

    def changed(self, pairs: Iterable[tuple[R | None, R | None]]) -> "_Index[R]":
        groups = dict(self._groups)
        touched: dict[Hashable, dict[Key, R]] = {}
        for old, new in pairs:
            for resource, present in ((old, False), (new, True)):
                for name in self._of(resource) if resource is not None else ():
                    if name not in touched:
                        touched[name] = groups[name] = dict(groups.get(name, ()))
                    if resource is not None and present:
                        touched[name][resource.key] = resource
                    elif resource is not None:
                        touched[name].pop(resource.key, None)
        for name, members in touched.items():
            if not members:
                del groups[name]
        return _Index(self._of, groups)


def _endpoint_groups(endpoint: WorkloadEndpoint) -> list[Hashable]:
    return [endpoint.node, *(endpoint.spec.ip_networks or ())]


def _affinity_groups(affinity: BlockAffinity) -> list[Hashable]:
    return [affinity.node, affinity.cidr]


class ResourceSet:
    """Every declared resource at one moment. Build with ``ResourceSet.of(resources)``; never changes."""

    __slots__ = ("_affinities", "_derived", "_endpoints", "_former", "_kinds")

    def __init__(
        self,
        kinds: Mapping[str, Mapping[Key, Any]],
        endpoints: _Index[WorkloadEndpoint],
        affinities: _Index[BlockAffinity],
        derived: dict[Hashable, tuple[State, Hashable, Any]],
        former: _Memory = _NO_MEMORY,
    ) -> None:
        self._kinds = kinds
        self._endpoints = endpoints
        self._affinities = affinities
        self._derived = derived
        self._former = former  # what the snapshot before derives, also after this one was made of it

    @classmethod
    def of(cls, resources: Iterable[Resource] = ()) -> "ResourceSet":
        """Make a snapshot; of two resources with one key the later counts."""
        empty = cls({}, _Index(_endpoint_groups), _Index(_affinity_groups), {})
        return empty._changed({resource.key: resource for resource in resources}, {})

    def with_changes(self, changes: Mapping[Key, Resource | None]) -> "ResourceSet":
        """Give the snapshot after these changes; ``None`` deletes. This one stays as it is."""
        return self._changed(changes, self._derived)

    def _changed(self, changes: Mapping[Key, Resource | None], former: _Memory) -> "ResourceSet":
        kinds = dict(self._kinds)
        differing: dict[str, dict[Key, Resource | None]] = {}
        for key, new in changes.items():
            old = kinds.get(key.kind, _NOTHING).get(key)
            if old is not new and (new is None or old != new):
                differing.setdefault(key.kind, {})[key] = new
        pairs: dict[str, list[tuple[Any, Any]]] = {}
        for kind, edits in differing.items():
            past = kinds.get(kind, _NOTHING)
            kinds[kind] = _Kind(past, edits)
            if kind in ("WorkloadEndpoint", "BlockAffinity"):
                pairs[kind] = [(past.get(key), new) for key, new in edits.items()]
        endpoints, affinities = pairs.get("WorkloadEndpoint"), pairs.get("BlockAffinity")
        return ResourceSet(
            kinds,
            self._endpoints.changed(endpoints) if endpoints else self._endpoints,
            self._affinities.changed(affinities) if affinities else self._affinities,
            dict(self._derived),
            former,
        )

    def derived(self, builder: Callable[["ResourceSet", *Ts], T], kinds: Iterable[str], *arguments: *Ts) -> T:
        """Give ``builder(self, *arguments)``, computed once for as long as no resource of ``kinds`` changes.

        ``builder`` must be a module-level function that reads these kinds only; the arguments are hashable.
        """
        return self._derivation((builder, *arguments), kinds, lambda *_: builder(self, *arguments))

    def revised(
        self,
        reviser: Callable[["ResourceSet", T | None, State | None, State, *Ts], T],
        kinds: Iterable[str],
        *arguments: *Ts,
        named: int | None = None,
    ) -> T:
        """Like ``derived``, for what is cheaper to bring up to date than to build.

        ``reviser(resources, last value, its state, present state, *arguments)`` gives the present value;
        without a last value it builds one. It must not alter the last value, which an earlier snapshot still
        uses. Every combination of the first ``named`` arguments (all) is remembered, of the others only the
        last: so they may be large, and many in the course of time.
        """

        def revise(last: T | None, past: State | None, present: State) -> T:
            return reviser(self, last, past, present, *arguments)

        others = arguments[named:] if named is not None else ()
        return self._derivation((reviser, *arguments[:named]), kinds, revise, others)

    def _derivation(
        self,
        name: Hashable,
        kinds: Iterable[str],
        make: Callable[[T | None, State | None, State], T],
        given: tuple[Hashable, ...] = (),
    ) -> T:
        state = tuple([self._kinds.get(kind, _NOTHING) for kind in kinds])
        kept = self._derived.get(name)
        if kept is None or not _same(kept[0], state) or kept[1] != given:
            kept = self._former.get(name, kept)
            if kept is None:
                kept = (state, given, make(None, None, state))
            elif not _same(kept[0], state) or kept[1] != given:
                kept = (state, given, make(kept[2], kept[0], state))
            self._derived[name] = kept
        return cast("T", kept[2])

    def get(self, key: Key) -> Resource | None:
        return cast("Resource | None", self._kinds.get(key.kind, _NOTHING).get(key))

    def of_kind(self, kind: str) -> Mapping[Key, Any]:
        """Give all resources of a kind by key, in no order."""
        return self._kinds.get(kind, _NOTHING)

    def __iter__(self) -> Iterator[Resource]:
        for kind in self._kinds.values():
            yield from kind.values()

    def __len__(self) -> int:
        return sum(map(len, self._kinds.values()))

    def __contains__(self, key: object) -> bool:
        return isinstance(key, Key) and key in self._kinds.get(key.kind, _NOTHING)

    @property
    def nodes(self) -> Mapping[str, Node]:
        """Nodes by name, in the order of their names."""
        return self.revised(_nodes, ("Node",))

    @property
    def bgp_peers(self) -> tuple[BGPPeer, ...]:
        """BGPPeers in the order of their names, which is their precedence among equals."""
        return self.derived(_bgp_peers, ("BGPPeer",))

    @property
    def filters(self) -> Mapping[str, BGPFilter]:
        return self.derived(_filters, ("BGPFilter",))

    @property
    def pools(self) -> tuple[IPPool, ...]:
        """Pools in the order of their names."""
        return self.derived(_pools, ("IPPool",))

    @property
    def blocks(self) -> Mapping[Key, IPAMBlock]:
        return self.of_kind("IPAMBlock")

    @property
    def endpoints(self) -> Mapping[Key, WorkloadEndpoint]:
        return self.of_kind("WorkloadEndpoint")

    @property
    def affinities(self) -> Mapping[Key, BlockAffinity]:
        return self.of_kind("BlockAffinity")

    @property
    def live_nodes(self) -> frozenset[str]:
        """The nodes whose agents hold a lease."""
        return self.derived(_live_nodes, ("NodeLease",))

    @property
    def cairn(self) -> CairnConfiguration:
        found = self._kinds.get("CairnConfiguration", _NOTHING).get(Key("CairnConfiguration", "default"))
        return cast("CairnConfiguration", found) if found is not None else CairnConfiguration()

    def bgp_configuration(self, node: str | None = None) -> BGPConfiguration | None:
        """Give the cluster's BGPConfiguration (``None``: all defaults), or with ``node`` that node's own."""
        key = Key("BGPConfiguration", f"node.{node}" if node else "default")
        return cast("BGPConfiguration | None", self._kinds.get("BGPConfiguration", _NOTHING).get(key))

    def endpoints_on(self, node: str) -> tuple[WorkloadEndpoint, ...]:
        """Give a node's endpoints in key order."""
        return self._endpoints.group(node)

    def endpoints_with(self, network: IPNetwork) -> tuple[WorkloadEndpoint, ...]:
        """Give every endpoint that claims this address (as a host network), wherever it is, in key order."""
        return self._endpoints.group(network)

    def affinities_of(self, node: str) -> tuple[BlockAffinity, ...]:
        """Give a node's block affinities in any state, in key order."""
        return self._affinities.group(node)

    def affinities_to(self, cidr: IPNetwork) -> tuple[BlockAffinity, ...]:
        """Give every affinity to this block."""
        return self._affinities.group(cidr)


def _same(one: State, other: State) -> bool:
    return len(one) == len(other) and all(map(is_, one, other))


def changed_keys(past: Mapping[Key, Any], present: Mapping[Key, Any]) -> list[Key]:
    """Give the keys that came, went, or have another resource now, in order."""
    if past is present:
        return []
    if isinstance(present, _Kind) and present.former is not None and present.former() is past:
        return present.changed
    changed = [key for key, resource in present.items() if past.get(key) is not resource]
    if len(present) - len(past) != sum(key not in past for key in changed):
        changed += [key for key in past if key not in present]
    return sorted(changed)


def of_each_node(
    resources: ResourceSet,
    last: Mapping[str, T] | None,
    past: State | None,
    present: State,
    make: Callable[[Node], T],
) -> Mapping[str, T]:
    """Give what ``make`` makes of every node, by name, as part of a reviser whose first kind is Node: where
    none of it differs, ``last`` itself.
    """
    nodes = resources.nodes
    if last is None or past is None:
        return {name: make(node) for name, node in nodes.items()}
    names = [key.name for key in changed_keys(past[0], present[0])]
    changed = {name: make(nodes[name]) for name in names if name in nodes}
    if len(last) == len(nodes) and all(name in last and last[name] == new for name, new in changed.items()):
        return last
    return {name: changed[name] if name in changed else last[name] for name in nodes}


def _nodes(
    resources: ResourceSet,  # noqa: ARG001  a reviser's signature; the state has all it needs
    last: MappingProxyType[str, Node] | None,
    past: State | None,
    present: State,
) -> MappingProxyType[str, Node]:
    if last is not None and past is not None:
        changed = changed_keys(past[0], present[0])
        if all(key in past[0] and key in present[0] for key in changed):
            return MappingProxyType(last | {key.name: present[0][key] for key in changed})
    return MappingProxyType({key.name: node for key, node in sorted(present[0].items())})


def _bgp_peers(resources: ResourceSet) -> tuple[BGPPeer, ...]:
    return tuple(peer for _, peer in sorted(resources.of_kind("BGPPeer").items()))


def _filters(resources: ResourceSet) -> Mapping[str, BGPFilter]:
    return MappingProxyType({key.name: item for key, item in sorted(resources.of_kind("BGPFilter").items())})


def _pools(resources: ResourceSet) -> tuple[IPPool, ...]:
    return tuple(pool for _, pool in sorted(resources.of_kind("IPPool").items()))


def _live_nodes(resources: ResourceSet) -> frozenset[str]:
    leases: Mapping[Key, NodeLease] = resources.of_kind("NodeLease")
    return frozenset(key.name for key in leases)
