"""What a change of declared state does to the cluster: sessions and routes, node by node, before it is made.

Both states are planned for every node and the plans compared; there is no second opinion here about what a
resource means. A session *bounces* when a field differs that both ends agreed on in OPEN or that belongs to
the TCP connection; a change of policy, next-hop mode or limits does not drop it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

from bgpd.plan import NodePlan, Origination, Peering, PlanError, plan_node
from bgpd.resources import ResourceSet

K = TypeVar("K")
T = TypeVar("T")

IDENTITY = frozenset({"name", "kind", "reason"})  # what a peering is called and why it is there
UNSEEN_BY_SESSION = frozenset(
    {
        "import_policy",
        "export_policy",
        "next_hop_mode",
        "allowed_own_as",
        "max_prefixes",
        "rr_client",
        "peer_node",
    }
)


@dataclass(frozen=True, slots=True)
class PeeringChange:
    """A session that stays, with the names of the fields of its peering that differ."""

    before: Peering
    after: Peering
    fields: tuple[str, ...]

    @property
    def bounces(self) -> bool:
        """Whether the session drops and comes back."""
        return any(name not in UNSEEN_BY_SESSION for name in self.fields)


@dataclass(frozen=True, slots=True)
class NodeConsequences:
    """What changes on one node. `failed` is why there is no plan for it any more, or was none."""

    node: str
    appear: tuple[Peering, ...] = ()
    vanish: tuple[Peering, ...] = ()
    change: tuple[PeeringChange, ...] = ()
    announced: tuple[Origination, ...] = ()
    withdrawn: tuple[Origination, ...] = ()
    altered: tuple[Origination, ...] = ()
    failed: str = ""

    @property
    def nothing(self) -> bool:
        """Whether nothing changes on this node."""
        return not (
            self.appear
            or self.vanish
            or self.change
            or self.announced
            or self.withdrawn
            or self.altered
            or self.failed
        )


@dataclass(frozen=True, slots=True)
class Consequences:
    """What changes, on the nodes where anything does."""

    nodes: tuple[NodeConsequences, ...]

    @property
    def drops(self) -> int:
        """How many ends of sessions go down, for good or for a moment."""
        return sum(len(node.vanish) + sum(change.bounces for change in node.change) for node in self.nodes)


def consequences(before: ResourceSet, after: ResourceSet) -> Consequences:
    """Compare two declared states by the plans of every node that is in either."""
    names = sorted({*before.nodes, *after.nodes})
    compared = (of_node(name, before, after) for name in names)
    return Consequences(tuple(node for node in compared if not node.nothing))


def of_node(name: str, before: ResourceSet, after: ResourceSet) -> NodeConsequences:
    """What changes on one node."""
    old, old_failure = _planned(before, name)
    new, new_failure = _planned(after, name)
    old_peerings = {peering.name: peering for peering in old.peerings} if old else {}
    new_peerings = {peering.name: peering for peering in new.peerings} if new else {}
    old_routes = {route.prefix: route for route in old.originated} if old else {}
    new_routes = {route.prefix: route for route in new.originated} if new else {}
    changed = (
        PeeringChange(old_peerings[key], peering, _fields_differing(old_peerings[key], peering))
        for key, peering in new_peerings.items()
        if key in old_peerings
    )
    return NodeConsequences(
        name,
        _only_in(new_peerings, old_peerings),
        _only_in(old_peerings, new_peerings),
        tuple(change for change in changed if change.fields),
        _only_in(new_routes, old_routes),
        _only_in(old_routes, new_routes),
        tuple(
            route
            for key, route in new_routes.items()
            if key in old_routes and _attributes_differ(old_routes[key], route)
        ),
        new_failure if new_failure != old_failure else "",
    )


def _planned(resources: ResourceSet, name: str) -> tuple[NodePlan | None, str]:
    if name not in resources.nodes:
        return None, ""
    try:
        return plan_node(resources, name), ""
    except PlanError as error:
        return None, str(error)


def _only_in(these: Mapping[K, T], those: Mapping[K, T]) -> tuple[T, ...]:
    return tuple(value for key, value in these.items() if key not in those)


def _fields_differing(before: Peering, after: Peering) -> tuple[str, ...]:
    names: Sequence[str] = [field.name for field in fields(Peering) if field.name not in IDENTITY]
    return tuple(name for name in names if getattr(before, name) != getattr(after, name))


def _attributes_differ(before: Origination, after: Origination) -> bool:
    names = [field.name for field in fields(Origination) if field.name not in ("reason", "interface", "kind")]
    return any(getattr(before, name) != getattr(after, name) for name in names)
