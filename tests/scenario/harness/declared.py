"""Clusters kept as folders: what is declared, the plan that has to come of it, and the routes.

``tests/scenario/NAME/`` has ``resources.yaml`` with everything declared, ``plan.yaml`` with every node's
sessions and announcements, and ``routes.yaml`` with what every node learns and from whom, and what every
router outside the cluster is told, with all attributes. The two expectations are written in the short forms
made here, so that they can be read and corrected by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bgpd.plan import NodePlan, Origination, Peering, plan_node
from bgpd.plan.explain import Step, explain
from bgpd.resources import ResourceSet, load_documents

HOME = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class DeclaredCluster:
    """One folder."""

    name: str

    @property
    def directory(self) -> Path:
        return HOME / self.name

    @property
    def secrets(self) -> Path:
        """The directory of its passwords, ``<secret>/<key>``."""
        return self.directory / "secrets"

    @property
    def resources(self) -> ResourceSet:
        path = self.directory / "resources.yaml"
        return ResourceSet.of(load_documents(path.read_text(), str(path)))

    def expected(self, what: str) -> Any:  # the file's own shape
        """What ``plan.yaml`` or ``routes.yaml`` says."""
        return yaml.safe_load((self.directory / f"{what}.yaml").read_text())


def all_clusters() -> list[DeclaredCluster]:
    return [DeclaredCluster(path.parent.name) for path in sorted(HOME.glob("*/resources.yaml"))]


def plans_of(resources: ResourceSet) -> dict[str, NodePlan]:
    return {name: plan_node(resources, name) for name in resources.nodes}


def plan_view(resources: ResourceSet) -> dict[str, dict[str, Any]]:
    """Every node's plan in the short form of ``plan.yaml``."""
    return {name: _node(plan) for name, plan in plans_of(resources).items()}


def _node(plan: NodePlan) -> dict[str, Any]:
    view: dict[str, Any] = {"as": plan.asn}
    if plan.cluster_id is not None:
        view["cluster"] = str(plan.cluster_id)
    view["sessions"] = [_session(peering) for peering in plan.peerings]
    view["announces"] = [_announced(route) for route in plan.originated]
    if plan.rejected:
        view["holds back"] = [f"{item.prefix}: {item.reason}" for item in plan.rejected]
    if plan.blackholes:
        view["blackholes"] = [str(hole.prefix) for hole in plan.blackholes]
    return view


def _session(peering: Peering) -> str:
    """``10.1.0.12 AS 64512 mesh, waits``: where the peer is, what it is, and what is not ordinary."""
    port = f" port {peering.peer_port}" if peering.peer_port != 179 else ""
    words = [f"{peering.peer_address}{port} AS {peering.peer_asn} {peering.kind}"]
    ordinary: tuple[tuple[object, object, str], ...] = (
        (peering.rr_client, False, "client"),
        (peering.passive, False, "waits"),
        (peering.hold_time, 90, f"hold {peering.hold_time} s"),
        (peering.graceful_restart, 120, f"restart {peering.graceful_restart} s"),
        (str(peering.next_hop_mode), "Auto", f"next hop {peering.next_hop_mode}"),
        (peering.allowed_own_as, 0, f"own AS {peering.allowed_own_as} times"),
        (peering.reachable_by, None, f"by way of {peering.reachable_by}"),
        (peering.ttl_security, None, f"at most {peering.ttl_security} hops away"),
        (peering.import_policy.filters, (), "in: " + _names(peering.import_policy.filters)),
        (peering.export_policy.filters, (), "out: " + _names(peering.export_policy.filters)),
    )
    words += [text for value, usual, text in ordinary if value != usual]
    return ", ".join(words)


def _names(filters: tuple[Any, ...]) -> str:
    return " ".join(compiled.name for compiled in filters)


def _announced(route: Origination) -> str:
    """``10.244.1.0/26 block 64512:100``: the prefix, why, and its communities."""
    return " ".join([str(route.prefix), str(route.kind), *map(str, route.communities)])


def route_view(resources: ResourceSet) -> dict[str, dict[str, Any]]:
    """What everybody ends up with, in the short form of ``routes.yaml``."""
    plans = plans_of(resources)
    view: dict[str, dict[str, Any]] = {"learned": {name: {} for name in plans}, "told": {}}
    for plan in plans.values():
        for route in plan.originated:
            for finding in explain(resources, route.prefix):
                if finding.prefix == route.prefix and finding.step is Step.LEARNS:
                    of = view["learned"][finding.node].setdefault(str(route.prefix), [])
                    if plan.node not in of and _reaches(resources, route, plan.node, finding.node):
                        of.append(plan.node)
            for peering in plan.peerings:
                if peering.peer_node is None and (told := _told(plan, peering, route)) is not None:
                    router = view["told"].setdefault(str(peering.peer_address), {})
                    router.setdefault(str(route.prefix), []).append(told)
    return view


def _reaches(resources: ResourceSet, route: Origination, origin: str, node: str) -> bool:
    """Whether a node learns a prefix of several origins from this one."""
    current = ""
    for finding in explain(resources, route.prefix):
        if finding.prefix == route.prefix:
            if finding.step is Step.ORIGINATES:
                current = finding.node
            elif finding.step is Step.LEARNS and (current, finding.node) == (origin, node):
                return True
    return False


def _told(plan: NodePlan, peering: Peering, route: Origination) -> str | None:
    """``path 64512 next hop 10.1.0.11 communities …``, as the router outside sees it."""
    decision = peering.export_policy.decide(route.facts, plan.export_rules)
    if not decision.accept or peering.peer_address.version != route.prefix.version:
        return None
    # The last AS to be put in front is the sender's own (RFC 4271 §5.1.2).
    path = () if peering.internal else (peering.local_asn,)
    path = (*path, *decision.prepend)
    words = ["path", *map(str, path), "next hop", str(plan.address(route.prefix.version))]
    med = route.med
    if decision.priority_set:
        med = decision.priority
    if med is not None:
        words += ["med", str(med)]
    communities = sorted(set(decision.communities))
    if communities:
        words += ["communities", *map(str, communities)]
    return " ".join(words)
