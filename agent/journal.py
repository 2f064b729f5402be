"""What is told of plans: that one was applied, and which routes this node now originates or no longer does.

The plan in force is compared with the one told of last, at most once a second and away from the path of a
change; a few routes are named, all are counted. So a storm of changes makes some events a second and no more.
"""

from collections.abc import Callable, Iterable

from bgpd.plan import NodePlan
from bgpd.telemetry.status import EventRing

EVERY = 1.0  # seconds
NAMED = 5  # routes per look, each way


class PlanJournal:
    """Tells of plans in the events. `clock` gives the wall time of events."""

    def __init__(self, events: EventRing, clock: Callable[[], float]) -> None:
        self._events = events
        self._clock = clock
        self._told: NodePlan | None = None
        self._next = 0.0

    def look(self, plan: NodePlan | None, now: float) -> None:
        """Tell what changed since the last time. `now`: monotonic seconds."""
        if plan is None or plan is self._told or now < self._next:
            return
        before, self._told, self._next = self._told, plan, now + EVERY
        had = {route.prefix for route in before.originated} if before is not None else set()
        has = {route.prefix for route in plan.originated}
        known = {peering.name for peering in before.peerings} if before is not None else set()
        wanted = {peering.name for peering in plan.peerings}
        self._name("route.originated", "is originated", has - had)
        self._name("route.withdrawn", "is withdrawn", had - has)
        self._events.add(
            self._clock(),
            "plan.applied",
            f"plan applied: {len(wanted)} peerings (+{len(wanted - known)} -{len(known - wanted)}), "
            f"{len(has)} routes (+{len(has - had)} -{len(had - has)})",
            peerings=len(wanted),
            routes=len(has),
            originated=len(has - had),
            withdrawn=len(had - has),
        )

    def _name(self, kind: str, verb: str, prefixes: Iterable[object]) -> None:
        for prefix in sorted(map(str, prefixes))[:NAMED]:
            self._events.add(self._clock(), kind, f"{prefix} {verb}", prefix=prefix)
