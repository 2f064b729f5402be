"""From the plan to what each peer shall be told, in ExaBGP's words. Pure.

For every planned session the plan's export policy decides on every route of the session's family that this
node originates; what passes is written as the attribute clause of an ``announce attributes … nlri …``
command. After a change only the routes it concerns are decided on again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from bgpd.plan import differing
from bgpd.plan.model import NodePlan, Origination, OriginKind, Peering, WorkloadRoute
from bgpd.plan.policy import Coverage, Covered, Decision, ExportRules, RouteFacts, local_pref_of
from bgpd.resources.scalars import Community


class Announcements:
    """What sessions of one kind (`kind_of`) are told."""

    def __init__(self) -> None:
        self._rules: ExportRules | None = None
        self._originated: tuple[Origination, ...] = ()
        self._wanted: dict[str, str] = {}

    def of(self, plan: NodePlan, peering: Peering) -> Mapping[str, str]:
        """Prefix → attribute clause: everything this node shall announce to a peer of this kind."""
        if plan.export_rules != self._rules:
            self._rules, self._originated, self._wanted = plan.export_rules, (), {}
        gone, come = differing(self._originated, plan.originated)
        for origination in gone:
            self._wanted.pop(str(origination.prefix), None)
        for origination in come:
            if origination.prefix.version != peering.peer_address.version:
                continue
            decision = peering.export_policy.decide(origination.facts, plan.export_rules)
            if decision.accept:
                self._wanted[str(origination.prefix)] = clause(peering, origination, decision)
        self._originated = plan.originated
        return self._wanted


def kind_of(peering: Peering) -> tuple[object, ...]:
    """Sessions of the same kind are told the same."""
    return (peering.export_policy, peering.internal, peering.local_asn, peering.peer_address.version)


def with_disputed(plan: NodePlan, disputed: Collection[str]) -> NodePlan:
    """The plan, but that workloads inside the node's own blocks are announced by themselves where `disputed`:
    another node's host route would win over the block, however much older its claim.
    """
    if not disputed:
        return plan
    known = {origination.prefix for origination in plan.originated}
    rules = plan.export_rules
    workloads = [
        each
        for each in plan.workloads
        if str(each.prefix) in disputed and not rules.decide(_facts(plan, each)).accept
    ]
    if not workloads:
        return plan
    claims = [Covered(each.prefix, f"{each.reason}: another node announces it too") for each in workloads]
    rules = replace(rules, blocks=Coverage((*rules.blocks, *claims)))
    more = []
    for each, claim in zip(workloads, claims, strict=True):
        priority = plan.priority(each.prefix.version)
        decision = rules.decide(_facts(plan, each))
        if decision.accept and each.prefix not in known:  # a filter may have let it out already
            more.append(
                Origination(
                    each.prefix,
                    OriginKind.ENDPOINT,
                    claim.reason,
                    decision.communities,
                    priority,
                    local_pref_of(priority),
                    each.med,
                    each.interface,
                )
            )
    return replace(plan, originated=(*plan.originated, *more), export_rules=rules)


def _facts(plan: NodePlan, workload: WorkloadRoute) -> RouteFacts:
    return RouteFacts(workload.prefix, plan.priority(workload.prefix.version), interface=workload.interface)


def clause(peering: Peering, origination: Origination, decision: Decision) -> str:
    """The attributes of one route towards one peer.

    An explicit priority travels as LOCAL_PREF within the AS and as MED out of it, where nothing else would
    carry it.
    """
    words = ["next-hop self"]
    med = origination.med
    if peering.internal:
        local_pref = local_pref_of(decision.priority) if decision.priority_set else origination.local_pref
        if local_pref is not None:
            words.append(f"local-preference {local_pref}")
    elif decision.priority_set:
        med = decision.priority
    if med is not None:
        words.append(f"med {med}")
    if decision.prepend:
        # A path given in full is sent as it is, so towards another AS our own number comes first.
        path = decision.prepend if peering.internal else (peering.local_asn, *decision.prepend)
        words.append(f"as-path [ {' '.join(map(str, path))} ]")
    words += _communities(decision.communities)
    return " ".join(words)


def _communities(communities: Iterable[Community]) -> Iterator[str]:
    unique = sorted({community.numbers for community in communities})
    for name, size in (("community", 2), ("large-community", 3)):
        texts = [":".join(map(str, numbers)) for numbers in unique if len(numbers) == size]
        if texts:
            yield f"{name} [ {' '.join(texts)} ]"
