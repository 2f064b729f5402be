"""What an edit would do to a node, and to the cluster, before it is applied.

A session *bounces* when something both ends have agreed on, or its socket, has to change: it goes down and
comes up again. Filters, next-hop mode and limits change without that. A change of a reason alone is no
change.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from bgpd.plan.facts import NodeFacts
from bgpd.plan.mesh import Peerings
from bgpd.plan.model import NodePlan, Origination, Peering, PlanError
from bgpd.plan.node_plan import plan_node
from bgpd.plan.policy import CompiledFilter, ExportPolicy, ExportRules, ImportPolicy
from bgpd.resources.resource_set import ResourceSet
from bgpd.resources.scalars import IPAddress, IPNetwork

# What a session cannot change while it is up, by the plan's field names.
BOUNCING_FIELDS = (
    "local_address",
    "local_asn",
    "peer_asn",
    "families",
    "hold_time",
    "keepalive_time",
    "password",
    "ttl_security",
    "multihop",
    "graceful_restart",
    "passive",
    "patient",
    "rr_client",
)
ADJUSTED_FIELDS = ("next_hop_mode", "allowed_own_as", "max_prefixes", "reachable_by")


class Change(StrEnum):
    """What becomes of a session or a route."""

    APPEARS = "appears"
    VANISHES = "vanishes"
    BOUNCES = "bounces"
    ADJUSTED = "adjusted"
    ANNOUNCED = "announced"
    WITHDRAWN = "withdrawn"
    ALTERED = "altered"


class SessionChange(NamedTuple):
    """A session that is not what it was; ``fields`` are the plan's fields that differ."""

    change: Change
    name: str
    peer_address: IPAddress
    peer_port: int
    peer_node: str | None
    fields: tuple[str, ...]
    reason: str


class RouteChange(NamedTuple):
    """A route of this node that is not what it was."""

    change: Change
    prefix: IPNetwork
    reason: str


class FilterChange(NamedTuple):
    """Policy that changes without a bounce; an empty ``session`` means all of the node's."""

    session: str
    direction: str
    what: str


@dataclass(frozen=True, slots=True)
class PlanDiff:
    """Everything that changes on one node. ``error`` is set when there can be no new plan."""

    node: str
    sessions: tuple[SessionChange, ...] = ()
    routes: tuple[RouteChange, ...] = ()
    filters: tuple[FilterChange, ...] = ()
    error: str | None = None

    def __bool__(self) -> bool:
        return bool(self.sessions or self.routes or self.filters or self.error)

    @property
    def drops_sessions(self) -> bool:
        """Whether a session goes down, for ever or for a moment."""
        return any(change.change in (Change.VANISHES, Change.BOUNCES) for change in self.sessions)


_Members = tuple[tuple[NodeFacts, ...], tuple[NodeFacts, ...]]


class _MeshChanges:
    """Who left and who joined a mesh, found once for all the nodes that share its list of members."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[_Members, _Members]] = {}

    def between(self, old: tuple[NodeFacts, ...], new: tuple[NodeFacts, ...]) -> _Members:
        if old is new:
            return (), ()
        kept = self._known.get((id(old), id(new)))
        if kept is None:
            shared = {*old} & {*new}
            gone = tuple(member for member in old if member not in shared)
            come = tuple(member for member in new if member not in shared)
            # The lists themselves are kept too, so that their identities stay theirs.
            kept = self._known[id(old), id(new)] = ((gone, come), (old, new))
        return kept[0]


def diff_plans(old: NodePlan | None, new: NodePlan | None) -> PlanDiff:
    """Compare a node's plans; ``None`` is a node that is not there."""
    return _diff(old, new, _MeshChanges())


def _diff(old: NodePlan | None, new: NodePlan | None, meshes: _MeshChanges) -> PlanDiff:
    present = new or old
    if present is None:
        return PlanDiff("")
    return PlanDiff(
        node=present.node,
        sessions=tuple(_sessions(old, new, meshes)),
        routes=tuple(_routes(old, new)),
        filters=tuple(_filters(old, new)) if old is not None and new is not None else (),
    )


def diff_cluster(old: ResourceSet, new: ResourceSet) -> list[PlanDiff]:
    """Compare all nodes' plans before and after; only nodes on which something changes, by name.

    A node that cannot be planned afterwards, and could before, has the reason in ``error``.
    """
    found: list[PlanDiff] = []
    meshes = _MeshChanges()
    for node in sorted({*old.nodes, *new.nodes}):
        before, former_error = _planned(old, node)
        after, error = _planned(new, node)
        if error is not None and error == former_error:
            continue
        if error is not None:
            found.append(
                PlanDiff(
                    node, tuple(_sessions(before, None, meshes)), tuple(_routes(before, None)), (), error
                )
            )
        elif difference := _diff(before, after, meshes):
            found.append(difference)
    return found


def _planned(resources: ResourceSet, node: str) -> tuple[NodePlan | None, str | None]:
    if node not in resources.nodes:
        return None, None
    try:
        return plan_node(resources, node), None
    except PlanError as error:
        return None, str(error)


def _sessions(old: NodePlan | None, new: NodePlan | None, meshes: _MeshChanges) -> Iterator[SessionChange]:
    before, after = _differing(old, new, meshes)
    whole_node: tuple[str, ...] = ()
    if old is not None and new is not None:
        whole_node = tuple(
            name for name in ("router_id", "listen_port") if getattr(old, name) != getattr(new, name)
        )
    for at in sorted({*before, *after}, key=_place):
        was, now = before.get(at), after.get(at)
        if was is None and now is not None:
            yield _session_change(Change.APPEARS, now, ())
        elif was is not None and now is None:
            yield _session_change(Change.VANISHES, was, ())
        elif was is not None and now is not None:
            fields = (*whole_node, *_unequal(was, now, BOUNCING_FIELDS))
            if now.rr_client and old is not None and new is not None and old.cluster_id != new.cluster_id:
                fields = (*fields, "cluster_id")
            adjusted = _unequal(was, now, ADJUSTED_FIELDS)
            if fields:
                yield _session_change(Change.BOUNCES, now, (*fields, *adjusted))
            elif adjusted:
                yield _session_change(Change.ADJUSTED, now, adjusted)


def _place(at: tuple[IPAddress, int]) -> tuple[int, int, int]:
    return (at[0].version, int(at[0]), at[1])


_Sessions = dict[tuple[IPAddress, int], Peering]


def _differing(
    old: NodePlan | None, new: NodePlan | None, meshes: _MeshChanges
) -> tuple[_Sessions, _Sessions]:
    """Give the sessions worth comparing: all, less the mesh's that are the same by construction."""
    if old is None or new is None:
        return _by_place(old.peerings if old else ()), _by_place(new.peerings if new else ())
    was, now = old.peerings, new.peerings
    same_self = (old.router_id, old.listen_port) == (new.router_id, new.listen_port)
    if isinstance(was, Peerings) and isinstance(now, Peerings) and same_self and was.mesh and now.mesh:
        first, second = was.mesh, now.mesh
        if first.taken == second.taken and first.terms == second.terms:
            gone, come = meshes.between(first.members, second.members)
            return (
                _by_place([*was.explicit, *first.peerings(gone)]),
                _by_place([*now.explicit, *second.peerings(come)]),
            )
    return _by_place(was), _by_place(now)


def _by_place(peerings: Iterable[Peering]) -> _Sessions:
    return {(peering.peer_address, peering.peer_port): peering for peering in peerings}


def _unequal(was: Peering, now: Peering, fields: Iterable[str]) -> tuple[str, ...]:
    if was is now:
        return ()
    return tuple(name for name in fields if getattr(was, name) != getattr(now, name))


def _session_change(change: Change, peering: Peering, fields: tuple[str, ...]) -> SessionChange:
    return SessionChange(
        change,
        peering.name,
        peering.peer_address,
        peering.peer_port,
        peering.peer_node,
        fields,
        peering.reason,
    )


def _routes(old: NodePlan | None, new: NodePlan | None) -> Iterator[RouteChange]:
    if old is not None and new is not None and old.originated == new.originated:
        return
    before = {route.prefix: route for route in (old.originated if old else ())}
    after = {route.prefix: route for route in (new.originated if new else ())}
    refused = {item.prefix: item.reason for item in (new.rejected if new else ())}
    for prefix in sorted(
        {*before, *after}, key=lambda item: (item.version, int(item.network_address), item.prefixlen)
    ):
        was, now = before.get(prefix), after.get(prefix)
        if now is None:
            assert was is not None  # it came out of the one or the other
            yield RouteChange(Change.WITHDRAWN, prefix, refused.get(prefix, f"no longer: {was.reason}"))
        elif was is None:
            yield RouteChange(Change.ANNOUNCED, prefix, now.reason)
        elif _attributes(was) != _attributes(now):
            yield RouteChange(Change.ALTERED, prefix, now.reason)


def _attributes(route: Origination) -> tuple[object, ...]:
    return (route.communities, route.local_pref, route.med)


def _filters(old: NodePlan, new: NodePlan) -> Iterator[FilterChange]:
    if what := _rules_changed(old.export_rules, new.export_rules):
        yield FilterChange("", "export", what)
    was, now = old.peerings, new.peerings
    explicit = (
        (was.explicit, now.explicit)
        if isinstance(was, Peerings) and isinstance(now, Peerings)
        else (was, now)
    )
    before, after = map(_by_place, explicit)
    for at, peering in after.items():
        former = before.get(at)
        if former is None or former is peering:
            continue
        for direction, first, second in (
            ("import", _rules(old, former.import_policy), _rules(new, peering.import_policy)),
            ("export", _rules(old, former.export_policy), _rules(new, peering.export_policy)),
        ):
            if first != second:
                yield FilterChange(peering.name, direction, f"{_names(first)} -> {_names(second)}")


def _rules(plan: NodePlan, policy: ImportPolicy | ExportPolicy) -> tuple[CompiledFilter, ...]:
    """Give the filters of a session's routes, of which only a reflector's are of both IP versions."""
    return policy.filters + policy.beside if plan.cluster_id is not None else policy.filters


def _names(filters: tuple[CompiledFilter, ...]) -> str:
    return ", ".join(f"{item.name} ({len(item.rules)} rules)" for item in filters) or "no filter"


def _rules_changed(old: ExportRules, new: ExportRules) -> str:
    if old is new or old == new:
        return ""
    changed = [
        label
        for label, first, second in (
            ("pools", {item.network for item in old.pools}, {item.network for item in new.pools}),
            (
                "pools without export",
                {item.network for item in old.disabled_pools},
                {item.network for item in new.disabled_pools},
            ),
            (
                "prefixAdvertisements",
                [(item.network, item.communities) for item in old.advertisements],
                [(item.network, item.communities) for item in new.advertisements],
            ),
            ("learn-only", old.nothing is None, new.nothing is None),
        )
        if first != second
    ]
    return ", ".join(changed)
