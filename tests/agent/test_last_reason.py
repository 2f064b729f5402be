"""Why a session is not there, as an agent's status tells it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent.status import AgentStatus
from bgpd.plan import plan_node
from bgpd.resources import ResourceSet
from tests.plan.cluster import THREE, documents


@pytest.mark.parametrize(
    ("problem", "lost", "trouble", "told"),
    [
        ("secret a/b is nowhere", "", "closing connection", "secret a/b is nowhere"),
        ("", "notification received (6,4)", "closing connection", "notification received (6,4)"),
        ("", "", "notification sent (2,2), bad peer AS", "notification sent (2,2), bad peer AS"),
        ("", "", "", ""),
    ],
)
def test_a_session_that_never_came_up_has_a_reason_too(
    problem: str, lost: str, trouble: str, told: str
) -> None:
    peering = plan_node(ResourceSet.of(list(documents(THREE))), "n1").peerings[0]
    speaker = SimpleNamespace(
        trouble=lambda address: trouble, outbox=SimpleNamespace(advertised=lambda *_: 0)
    )
    peer = SimpleNamespace(peering=peering, up=False, stale_until=None, updates=0)
    agent = SimpleNamespace(
        plan=None,
        learned=SimpleNamespace(peers={str(peering.peer_address): peer}),
        sessions=SimpleNamespace(speaker_of=lambda address: speaker, problems={peering.name: problem}),
        reasons={str(peering.peer_address): lost},
        since={}, started_at=0.0, flaps={},
    )  # fmt: skip
    status = AgentStatus(cast("Any", agent))
    status._family = lambda *_: cast("Any", None)  # type: ignore[method-assign]
    assert [each.last_reason for each in status.peers()] == [told]
