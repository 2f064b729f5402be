"""What the agent makes of a plan that changed a little is what it makes of that plan at first."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

import agent.announcements
from agent.announcements import Announcements, kind_of
from agent.forwarding import Forwarding
from agent.kernel.route import Hop, KernelRoute, workload
from agent.workloads import Workloads
from bgpd.plan import NodePlan, Origination, PlanError, plan_node
from bgpd.resources import Key, Resource, ResourceSet
from tests.agent.telling import Cluster
from tests.agent.test_declarations import node, resource
from tests.agent.test_forwarding import Straight
from tests.plan.test_incremental import CATALOGUE, edits

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from agent.kernel.fib import Fib

NOWHERE = Path("/nonexistent")


class Wanted(dict[tuple[int, bytes], KernelRoute]):
    """Stands for `Fib`: what is wanted is written down. An interface's number is its last digit."""

    @property
    def resolver(self) -> Wanted:
        return self

    def resolve(self, address: bytes) -> tuple[Hop, ...]:
        return (Hop(address, 5),)

    def learned_changed(self, *_: Any) -> bool:
        return True  # every way to a peer is of consequence

    def forget(self) -> None:
        pass

    asked = 0

    def want(self, family: int, nlri: bytes, route: KernelRoute | None, *_: Any, **_options: Any) -> None:
        if route is None:
            self.pop((family, nlri), None)
        else:
            self[family, nlri] = route

    def workload(self, interface: str) -> KernelRoute:
        return workload(int(interface[-1]))


class Following:
    """A node's own routes and workloads, from plan to plan."""

    def __init__(self) -> None:
        self.wanted = Wanted()
        self._later: list[Callable[[], None]] = []
        self._forwarding = Forwarding(
            cast("Fib", self.wanted),
            Cluster().learned,
            Straight(),
            lambda _, call: self._later.append(call),
        )
        self._workloads = Workloads(NOWHERE)

    def planned(self, plan: NodePlan) -> object:
        self._forwarding.own(plan)
        while self._later:  # no address lingers any more
            self._later.pop()()
        self._workloads.planned(plan)
        return dict(self.wanted), dict(self._workloads._interfaces), self._workloads._present


@settings(max_examples=30)
@given(
    st.tuples(*(st.sampled_from([*variants, None]) for variants in CATALOGUE)),
    st.lists(edits(), min_size=1, max_size=5),
)
def test_what_is_made_change_by_change_is_what_is_made_anew(
    first: tuple[Resource | None, ...], steps: list[dict[Key, Resource | None]]
) -> None:
    resources = ResourceSet.of(filter(None, first))
    kept: dict[object, Announcements] = {}
    following = Following()
    for changes in ({}, *steps):
        resources = resources.with_changes(changes)
        try:
            plan = plan_node(resources, "n1", (ip_network("198.51.100.0/24"),))
        except PlanError:
            continue
        assert following.planned(plan) == Following().planned(plan)
        for peering in plan.peerings:
            told = kept.setdefault(kind_of(peering), Announcements()).of(plan, peering)
            assert told == Announcements().of(plan, peering)


def test_after_one_change_one_route_is_decided_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def endpoint(number: int) -> Resource:
        spec = {"node": "a", "ipNetworks": [f"10.77.9.{number}/32"], "interfaceName": f"cali{number}"}
        return resource("WorkloadEndpoint", f"w{number}", spec, namespace="d")

    decided: list[str] = []
    clause = agent.announcements.clause

    def noted(peering: Any, origination: Origination, *rest: Any) -> str:
        decided.append(str(origination.prefix))
        return clause(peering, origination, *rest)

    monkeypatch.setattr(agent.announcements, "clause", noted)
    told = Announcements()
    pool = resource("IPPool", "p", {"cidr": "10.77.0.0/16"})
    nodes = (node("a", "10.0.0.1/24"), node("b", "10.0.0.2/24"))
    resources = ResourceSet.of((*nodes, pool, *map(endpoint, range(200))))
    counts = []
    for changed in ((), (endpoint(200),), (endpoint(200),), ()):
        resources = resources.with_changes({each.key: each for each in changed})
        plan = plan_node(resources, "a")
        told.of(plan, plan.peerings[0])
        counts.append(len(decided))
        decided.clear()
    assert counts == [200, 1, 0, 0]
