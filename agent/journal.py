"""What is told of plans: what is odd about one, at once, and which routes this node now originates or no
longer does.

For these the plan in force is compared with the one told of last, at most once a second and away from the
path of a change; a few routes are named, all are counted. So a storm of changes makes some events a second
and no more.
"""

from collections.abc import Callable, Iterable

import structlog

from bgpd.plan import NodePlan, differing
from bgpd.telemetry.status import EventRing, Severity

EVERY = 1.0  # seconds
NAMED = 5  # routes per look, each way

log = structlog.get_logger("agent")


class PlanJournal:
    """Tells of plans in the events. `clock` gives the wall time of events."""

    def __init__(self, events: EventRing, clock: Callable[[], float]) -> None:
        self._events = events
        self._clock = clock
        self._told: NodePlan | None = None
        self._next = 0.0

    def warn(self, before: NodePlan | None, plan: NodePlan) -> None:
        """Tell what is odd about a plan and was not about the one before it."""
        for remark in plan.remarks:
            if before is None or remark not in before.remarks:
                log.warning("the plan has a remark", remark=remark)
        if plan.role_reason is not None and (before is None or before.role_reason is None):
            reason = f"{plan.role_reason}; an agent reflects nothing: run `cairn reflector` for this node"
            log.error("this node is a reflector by its plan", reason=reason)
            self._events.add(self._clock(), "plan.reflector", reason, severity=Severity.ERROR)
        if not plan.peerings and (before is None or before.peerings):
            log.warning("this node has no peers: nothing is announced and nothing learned", node=plan.node)

    def look(self, plan: NodePlan | None, now: float) -> None:
        """Tell what changed since the last time. `now`: monotonic seconds."""
        if plan is None or plan is self._told or now < self._next:
            return
        before, self._told, self._next = self._told, plan, now + EVERY
        gone, come = differing(before.originated if before is not None else (), plan.originated)
        had, has = {route.prefix for route in gone}, {route.prefix for route in come}
        known = {peering.name for peering in before.peerings} if before is not None else set()
        wanted = {peering.name for peering in plan.peerings}
        self._name("route.originated", "is originated", has - had)
        self._name("route.withdrawn", "is withdrawn", had - has)
        self._events.add(
            self._clock(),
            "plan.applied",
            f"plan applied: {len(wanted)} peerings (+{len(wanted - known)} -{len(known - wanted)}), "
            f"{len(plan.originated)} routes (+{len(has - had)} -{len(had - has)})",
            peerings=len(wanted),
            routes=len(plan.originated),
            originated=len(has - had),
            withdrawn=len(had - has),
        )

    def _name(self, kind: str, verb: str, prefixes: Iterable[object]) -> None:
        for prefix in sorted(map(str, prefixes))[:NAMED]:
            self._events.add(self._clock(), kind, f"{prefix} {verb}", prefix=prefix)
