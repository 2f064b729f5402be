"""An immutable snapshot of the declared state, indexed, with cheap successors.

``with_changes`` gives the next snapshot and shares with this one everything the change did not touch: per
kind one dictionary, and indexes of endpoints and block affinities by node and by address that are carried
forward change by change. What other packages derive (which peers a node has, which pool holds an address)
they compute through ``derived``: once per snapshot, and carried to successors until one of the kinds it
depends on changes. So planning one node after one endpoint moved costs that node's work, not the cluster's.
A derivation that is large and changes little is ``Revised``: it is given its last value and what that was
made from, and ``changed_keys`` tells the difference.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Generic, TypeVar, cast

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
R = TypeVar("R", bound=Resource)
State = tuple[Mapping[Key, Any], ...]
"""The resources by key of each kind a derivation depends on, in the order it names the kinds."""
_NOTHING: Mapping[Key, Any] = MappingProxyType({})


class _Index(Generic[R]):
    """Resources of one kind by groups, each group in key order; ``changed`` shares the untouched groups."""

    __slots__ = ("_groups", "_of")

    def __init__(self, of: Callable[[R], Iterable[Hashable]], groups: dict[Hashable, tuple[R, ...]]) -> None:
        self._of = of
        self._groups = groups

    def group(self, name: Hashable) -> tuple[R, ...]:
        return self._groups.get(name, ())

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._groups)

    def built(self, resources: Iterable[R]) -> "_Index[R]":
        collected: dict[Hashable, list[R]] = {}
        for resource in resources:
            for name in self._of(resource):
                collected.setdefault(name, []).append(resource)
        return _Index(self._of, {name: tuple(sorted(group, key=_key)) for name, group in collected.items()})

    def changed(self, pairs: Iterable[tuple[R | None, R | None]]) -> "_Index[R]":
        groups = dict(self._groups)
        for old, new in pairs:
            for name in self._of(old) if old is not None else ():
                rest = tuple(member for member in groups.get(name, ()) if member.key != cast("R", old).key)
                if rest:
                    groups[name] = rest
                else:
                    groups.pop(name, None)
            for name in self._of(new) if new is not None else ():
                groups[name] = tuple(sorted((*groups.get(name, ()), cast("R", new)), key=_key))
        return _Index(self._of, groups)


def _key(resource: Resource) -> Key:
    return resource.key


def _endpoint_groups(endpoint: WorkloadEndpoint) -> list[Hashable]:
    return [endpoint.node, *(endpoint.spec.ip_networks or ())]


def _affinity_groups(affinity: BlockAffinity) -> list[Hashable]:
    return [affinity.node, affinity.cidr]


class ResourceSet:
    """Every declared resource at one moment. Build with ``ResourceSet.of(resources)``; never changes."""

    __slots__ = ("_affinities", "_derived", "_endpoints", "_kinds")

    def __init__(
        self,
        kinds: Mapping[str, Mapping[Key, Any]],
        endpoints: _Index[WorkloadEndpoint],
        affinities: _Index[BlockAffinity],
        derived: dict[Hashable, tuple[State, Any]],
    ) -> None:
        self._kinds = kinds
        self._endpoints = endpoints
        self._affinities = affinities
        self._derived = derived

    @classmethod
    def of(cls, resources: Iterable[Resource] = ()) -> "ResourceSet":
        """Make a snapshot; of two resources with one key the later counts."""
        kinds: dict[str, dict[Key, Any]] = {}
        for resource in resources:
            kinds.setdefault(resource.KIND, {})[resource.key] = resource
        endpoints = _Index(_endpoint_groups, {}).built(kinds.get("WorkloadEndpoint", {}).values())
        affinities = _Index(_affinity_groups, {}).built(kinds.get("BlockAffinity", {}).values())
        return cls(kinds, endpoints, affinities, {})

    def with_changes(self, changes: Mapping[Key, Resource | None]) -> "ResourceSet":
        """Give the snapshot after these changes; ``None`` deletes. This one stays as it is."""
        kinds = dict(self._kinds)
        copies: dict[str, dict[Key, Any]] = {}
        pairs: dict[str, list[tuple[Any, Any]]] = {}
        for key, new in changes.items():
            old = kinds.get(key.kind, _NOTHING).get(key)
            if old is new or (new is not None and old == new):
                continue
            if key.kind not in copies:
                copies[key.kind] = dict(kinds.get(key.kind, _NOTHING))
                kinds[key.kind] = copies[key.kind]
            if new is None:
                copies[key.kind].pop(key, None)
            else:
                copies[key.kind][key] = new
            pairs.setdefault(key.kind, []).append((old, new))
        endpoint_pairs, affinity_pairs = pairs.get("WorkloadEndpoint"), pairs.get("BlockAffinity")
        return ResourceSet(
            kinds,
            self._endpoints.changed(endpoint_pairs) if endpoint_pairs else self._endpoints,
            self._affinities.changed(affinity_pairs) if affinity_pairs else self._affinities,
            dict(self._derived),
        )

    def derived(self, builder: Callable[["ResourceSet"], T], kinds: Iterable[str]) -> T:
        """Give ``builder(self)``, computed once for as long as no resource of ``kinds`` changes.

        ``builder`` must be a module-level function that reads these kinds only.
        """
        return self._derivation(builder, kinds, lambda _, __: builder(self))

    def revised(
        self, reviser: Callable[["ResourceSet", T | None, State | None, State], T], kinds: Iterable[str]
    ) -> T:
        """Like ``derived``, for what is cheaper to bring up to date than to build.

        ``reviser(resources, last value, its state, present state)`` gives the present value; without a last
        value it builds one. It must not alter the last value, which an earlier snapshot still uses.
        """

        def revise(last: T | None, past: State | None) -> T:
            return reviser(self, last, past, self._state(kinds))

        return self._derivation(reviser, kinds, revise)

    def _state(self, kinds: Iterable[str]) -> State:
        return tuple(self._kinds.get(kind, _NOTHING) for kind in kinds)

    def _derivation(
        self, name: Hashable, kinds: Iterable[str], make: Callable[[T | None, State | None], T]
    ) -> T:
        state = self._state(kinds)
        kept = self._derived.get(name)
        if (
            kept is not None
            and len(kept[0]) == len(state)
            and all(a is b for a, b in zip(kept[0], state, strict=True))
        ):
            return cast("T", kept[1])
        value = make(kept[1], kept[0]) if kept is not None else make(None, None)
        self._derived[name] = (state, value)
        return value

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


def changed_keys(past: Mapping[Key, Any], present: Mapping[Key, Any]) -> list[Key]:
    """Give the keys that came, went, or have another resource now, in order."""
    if past is present:
        return []
    changed = [key for key, resource in present.items() if past.get(key) is not resource]
    if len(present) - len(past) != sum(key not in past for key in changed):
        changed += [key for key in past if key not in present]
    return sorted(changed)


def _nodes(
    resources: ResourceSet,  # noqa: ARG001  a reviser's signature; the state has all it needs
    last: Mapping[str, Node] | None,
    past: State | None,
    present: State,
) -> Mapping[str, Node]:
    if last is not None and past is not None and past[0].keys() == present[0].keys():
        same_names = {key.name: present[0][key] for key in changed_keys(past[0], present[0])}
        return MappingProxyType({**last, **same_names})
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
