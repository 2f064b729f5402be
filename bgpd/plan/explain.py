"""Where a prefix comes from by declaration, what lets it out or stops it, and who should have it.

The route's way is walked over the plans: its origin's sessions and their export policy, the receiver's import
policy, and from a reflector on by the rules of RFC 4456 §6. Ordinary nodes pass nothing on. What speakers
outside the cluster do with a route is theirs, so a walk ends there. Nothing is asked of the running cluster:
this is what should be.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from bgpd.plan.mesh import Peerings
from bgpd.plan.model import NodePlan, Origination, Peering, PlanError
from bgpd.plan.node_plan import plan_node
from bgpd.plan.policy import Decision, RouteFacts, decide
from bgpd.resources.resource_set import ResourceSet
from bgpd.resources.scalars import IPNetwork


class Step(StrEnum):
    """What a node does with a route."""

    UNPLANNED = "is not planned"
    DELIVERS = "has it on"
    ORIGINATES = "originates it"
    HOLDS_BACK = "holds it back"
    ANNOUNCES = "announces it to"
    STOPS = "does not announce it to"
    LEARNS = "learns it from"
    REFUSES = "refuses it from"
    REFLECTS = "reflects it to"


class Finding(NamedTuple):
    """One step of a route: the node it happens on, with whom (a node, an address, an interface, a kind of
    origin), and the resource or rule that makes it so.
    """

    node: str
    prefix: IPNetwork
    step: Step
    other: str
    reason: str

    @property
    def text(self) -> str:
        if self.step is Step.ORIGINATES:
            return f"{self.step} ({self.other})"
        return f"{self.step} {self.other}".rstrip()


def explain(resources: ResourceSet, wanted: IPNetwork) -> list[Finding]:
    """Tell everything about the routes that cover ``wanted`` or lie in it, origin by origin, step by step."""
    findings: list[Finding] = []
    plans: dict[str, NodePlan] = {}
    for name in resources.nodes:
        try:
            plans[name] = plan_node(resources, name)
        except PlanError as error:
            findings.append(Finding(name, wanted, Step.UNPLANNED, "", str(error)))
    for plan in plans.values():
        findings.extend(_of_plan(plans, plan, wanted))
    return findings


def _of_plan(plans: dict[str, NodePlan], plan: NodePlan, wanted: IPNetwork) -> Iterator[Finding]:
    for workload in plan.workloads:
        if _related(workload.prefix, wanted):
            yield Finding(plan.node, workload.prefix, Step.DELIVERS, workload.interface, workload.reason)
    for route in plan.originated:
        if _related(route.prefix, wanted):
            yield Finding(plan.node, route.prefix, Step.ORIGINATES, str(route.kind), route.reason)
            yield from _Walk(plans, route).steps(plan)
    for rejection in plan.rejected:
        if _related(rejection.prefix, wanted):
            yield Finding(plan.node, rejection.prefix, Step.HOLDS_BACK, "", rejection.reason)


def _related(a: IPNetwork, b: IPNetwork) -> bool:
    return a.version == b.version and a.overlaps(b)


@dataclass(frozen=True, slots=True)
class _Held:
    """A route as a node has it: what its rules can see, whether a client or another AS told it, and through
    which clusters it came.
    """

    plan: NodePlan
    facts: RouteFacts
    sender: str
    to_everyone: bool
    clusters: frozenset[object]


class _Walk:
    """One route from its origin to everyone who should have it."""

    def __init__(self, plans: dict[str, NodePlan], route: Origination) -> None:
        self._plans = plans
        self._route = route
        self._reached: set[str] = set()

    def steps(self, origin: NodePlan) -> Iterator[Finding]:
        route = self._route
        self._reached.add(origin.node)
        facts = route.facts
        waiting: deque[_Held] = deque()
        for peering in origin.peerings:
            if peering.peer_address.version != route.prefix.version:
                continue
            decision = peering.export_policy.decide(facts, origin.export_rules)
            if not decision.accept:
                yield Finding(origin.node, route.prefix, Step.STOPS, _other(peering), decision.reason)
                continue
            # What lets a route out in general is told where it originates; here only a filter's rule is.
            rule = f"; {decision.reason}" if peering.export_policy.filters else ""
            yield Finding(
                origin.node, route.prefix, Step.ANNOUNCES, _other(peering), f"{peering.reason}{rule}"
            )
            yield from self._received(origin, peering, facts, decision, frozenset(), waiting)
        while waiting:
            yield from self._passed_on(waiting.popleft(), waiting)

    def _passed_on(self, held: _Held, waiting: deque[_Held]) -> Iterator[Finding]:
        plan = held.plan
        if plan.cluster_id is None:
            return
        for peering in plan.peerings:
            if peering.peer_address.version != held.facts.prefix.version or peering.peer_node == held.sender:
                continue
            if peering.peer_node in self._reached or (
                peering.internal and not (held.to_everyone or peering.rr_client)
            ):
                continue
            decision = decide(peering.export_policy.filters, held.facts, peering.internal)
            if decision is not None and not decision.accept:
                yield Finding(plan.node, held.facts.prefix, Step.STOPS, _other(peering), decision.reason)
                continue
            decision = decision or Decision(True, "", held.facts.priority)
            yield Finding(plan.node, held.facts.prefix, Step.REFLECTS, _other(peering), peering.reason)
            clusters = held.clusters | {plan.cluster_id}
            yield from self._received(plan, peering, held.facts, decision, clusters, waiting)

    def _received(
        self,
        sender: NodePlan,
        peering: Peering,
        facts: RouteFacts,
        decision: Decision,
        clusters: frozenset[object],
        waiting: deque[_Held],
    ) -> Iterator[Finding]:
        receiver = self._plans.get(peering.peer_node or "")
        if receiver is None or receiver.node in self._reached:
            return
        if (receiver.cluster_id or receiver.standby_cluster_id) in clusters:
            return  # RFC 4456 §8: it has been in this cluster
        back = _session_with(receiver, sender)
        prefix = facts.prefix
        if back is None:
            yield Finding(
                receiver.node, prefix, Step.REFUSES, sender.node, "it plans no session with that node"
            )
            return
        arrived = RouteFacts(
            prefix,
            decision.priority if peering.internal else receiver.priority(prefix.version),
            remote=True,
            communities={*facts.communities, *(added.numbers for added in decision.communities)},
            as_path=(
                *(() if peering.internal else (peering.local_asn,)),
                *decision.prepend,
                *facts.as_path,
            ),
        )
        verdict = back.import_policy.decide(arrived)
        step = Step.LEARNS if verdict.accept else Step.REFUSES
        yield Finding(receiver.node, prefix, step, sender.node, verdict.reason)
        if verdict.accept:
            self._reached.add(receiver.node)
            kept = arrived._replace(
                priority=verdict.priority,
                communities={*arrived.communities, *(added.numbers for added in verdict.communities)},
                as_path=(*verdict.prepend, *arrived.as_path),
            )
            waiting.append(_Held(receiver, kept, sender.node, back.rr_client or not back.internal, clusters))


def _other(peering: Peering) -> str:
    return peering.peer_node or str(peering.peer_address)


def _session_with(plan: NodePlan, other: NodePlan) -> Peering | None:
    """Give the session of a plan with a node; of a mesh only that one is written out."""
    peerings = plan.peerings
    if isinstance(peerings, Peerings):
        found = next((peering for peering in peerings.explicit if peering.peer_node == other.node), None)
        if found is not None or peerings.mesh is None:
            return found
        members = [member for member in peerings.mesh.members if member.name == other.node]
        return next(peerings.mesh.peerings(members), None)
    return next((peering for peering in peerings if peering.peer_node == other.node), None)
