"""Why a session is not there, as an agent's status tells it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent.exabgp.troubles import UNREACHED, Troubles
from agent.status import AgentStatus
from bgpd.plan import plan_node
from bgpd.resources import ResourceSet
from tests.plan.cluster import THREE, documents

A, B = "10.0.0.1", "10.0.0.2"
LOST = "notification received (6,4)"


@pytest.mark.parametrize(
    ("problem", "lost", "trouble", "told", "at"),
    [
        ("secret a/b is nowhere", "", "closing connection", "secret a/b is nowhere", None),
        ("", LOST, "closing connection", f"{LOST}; since then: closing connection", 990),
        ("", LOST, "", LOST, 900),
        ("", LOST, LOST, LOST, 990),
        ("", "", "notification sent (2,2), bad peer AS", "notification sent (2,2), bad peer AS", 990),
        ("", "", "", "", None),
    ],
)
def test_the_latest_failure_is_told_with_its_time_and_why_the_session_was_lost_before(
    problem: str, lost: str, trouble: str, told: str, at: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: 1000.0)
    peering = plan_node(ResourceSet.of(list(documents(THREE))), "n1").peerings[0]
    address = str(peering.peer_address)
    speaker = SimpleNamespace(
        trouble=lambda address: (trouble, 10.0) if trouble else None,
        outbox=SimpleNamespace(peer=lambda _: SimpleNamespace(updates=0)),
    )
    peer = SimpleNamespace(
        peering=peering, up=False, stale_until=None, updates=0, since=900.0, lost=lost, flaps=0, malformed=0
    )
    agent = SimpleNamespace(
        plan=None,
        learned=SimpleNamespace(peers={address: peer}),
        sessions=SimpleNamespace(speaker_of=lambda address: speaker, problems={peering.name: problem}),
        started_at=0.0,
    )  # fmt: skip
    status = AgentStatus(cast("Any", agent))
    status._family = lambda *_: cast("Any", None)  # type: ignore[method-assign]  # needs more of an agent
    assert [(each.last_reason, each.last_reason_at) for each in status.peers()] == [(told, at)]


def test_silence_longer_than_any_pause_says_that_there_is_no_connection() -> None:
    troubles = Troubles()
    troubles.listening([A, B], 0, pausing=False)
    assert troubles.of(A, 5) is None
    assert troubles.of(A, 20) == (UNREACHED, 10)
    assert troubles.down(A, "closing connection", 20, was_up=False)
    assert not troubles.down(A, "closing connection", 25, was_up=False)
    assert troubles.of(A, 80) == ("closing connection", 25)
    assert troubles.of(A, 101) == (UNREACHED, 100)
    troubles.connected(A)  # and what comes of it will be said
    assert troubles.of(A, 150) == ("closing connection", 25)
    troubles.forget(A)
    assert troubles.of(A, 1000) is None
    troubles.down(A, "hold timer expired", 1000, was_up=True)
    assert troubles.of(A, 1009) == ("hold timer expired", 1000)
    assert troubles.of(A, 1011) == (UNREACHED, 1010)
