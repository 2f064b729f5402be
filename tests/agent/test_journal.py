"""What is told of plans, and how little of it in a storm."""

from dataclasses import replace
from itertools import pairwise

import structlog

from agent.journal import NAMED, PlanJournal
from bgpd.plan import NodePlan, plan_node
from bgpd.resources import ResourceSet, load_documents
from bgpd.telemetry.status import EventRing

BASE = """
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: a}
spec: {bgp: {ipv4Address: 10.0.0.1/24}}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: p}
spec: {cidr: 10.77.0.0/16}
"""
BLOCK = """
---
apiVersion: projectcalico.org/v3
kind: BlockAffinity
metadata: {{name: a-10-77-{number}-0-26}}
spec: {{node: a, cidr: 10.77.{number}.0/26, state: confirmed}}
"""


def plan(*blocks: int) -> NodePlan:
    text = BASE + "".join(BLOCK.format(number=number) for number in blocks)
    return plan_node(ResourceSet.of(load_documents(text, "test")), "a")


def test_what_changed_is_told_once() -> None:
    ring = EventRing()
    journal = PlanJournal(ring, lambda: 5.0)
    first, second = plan(1, 2), plan(2, 3)
    journal.look(None, 0.0)
    for at in (0.0, 0.5, 1.0):
        journal.look(first, at)
    assert [event.kind for event in ring.after(0)] == ["route.originated", "route.originated", "plan.applied"]
    journal.look(second, 2.0)
    told = ring.after(3)
    assert [event.message for event in told[:2]] == [
        "10.77.3.0/26 is originated",
        "10.77.1.0/26 is withdrawn",
    ]
    assert told[2].data == {"peerings": 0, "routes": 2, "originated": 1, "withdrawn": 1}


def test_a_storm_is_some_events_a_second() -> None:
    ring = EventRing()
    journal = PlanJournal(ring, lambda: 5.0)
    plans = [plan(*range(number % 50)) for number in range(40)]
    for step in range(1000):  # ten seconds
        journal.look(plans[step % 40], step / 100)
    assert ring.last_id <= 10 * (2 * NAMED + 1)


def test_what_is_odd_is_told_when_it_begins() -> None:
    ring = EventRing()
    journal = PlanJournal(ring, lambda: 5.0)
    quiet = plan(1)
    reflecting = plan_node(
        ResourceSet.of(
            load_documents(BASE.replace("{bgp: {", "{bgp: {routeReflectorClusterID: 10.0.0.9, "), "test")
        ),
        "a",
    )
    assert (quiet.remarks, len(quiet.peerings)) == ((), 0)
    odd = replace(quiet, remarks=("one", "two"))
    said: list[str] = []
    with structlog.testing.capture_logs() as lines:
        for before, now in pairwise([None, quiet, odd, odd, reflecting, reflecting, quiet]):
            assert now is not None
            journal.warn(before, now)
            said.append(" ".join(str(line.get("remark", line["event"].split()[-1])) for line in lines))
            lines.clear()
    assert said == ["learned", "one two", "", "plan", "", ""]
    assert [event.kind for event in ring.after(0)] == ["plan.reflector"]
