"""The ring of events, and readiness."""

import pytest

from bgpd.telemetry.readiness import readiness
from bgpd.telemetry.status import LONGEST_MESSAGE, Event, EventRing, PeerStatus
from tests.telemetry.source import peer


def test_ring_keeps_the_last_and_numbers_all() -> None:
    ring = EventRing(3)
    for number in range(5):
        ring.add(float(number), "x", str(number))
    assert [event.id for event in ring.after(0)] == [3, 4, 5]
    assert [event.id for event in ring.after(3)] == [4, 5]
    assert [event.id for event in ring.after(3, limit=1)] == [4]
    assert ring.after(5) == ring.after(99) == []
    assert ring.last_id == 5


def test_a_message_has_an_end() -> None:
    ring = EventRing()
    assert ring.add(0, "plan.failed", "x" * LONGEST_MESSAGE).message == "x" * LONGEST_MESSAGE
    message = ring.add(0, "plan.failed", "why: " + "x" * LONGEST_MESSAGE).message
    assert (len(message), message[:6], message[-1]) == (LONGEST_MESSAGE, "why: x", "…")


def test_ring_tells_subscribers_until_they_leave() -> None:
    ring = EventRing(3)
    heard: list[Event] = []
    leave = ring.subscribe(heard.append)
    first = ring.add(1.0, "session.up", "up", peer="rr1", asn=64512)
    leave()
    leave()
    ring.add(2.0, "session.down", "down")
    assert heard == [first]
    assert first.data == {"asn": 64512}


@pytest.mark.parametrize(
    ("peers", "age", "ready", "named"),
    [
        ([], 0, True, "no peers"),
        (
            [peer("a"), peer("b", "ACTIVE", last_reason="refused")],
            29.9,
            False,
            "b (10.0.0.2, ACTIVE, refused)",
        ),
        ([peer("a"), peer("b", "ACTIVE")], 30, True, "missing b"),
        ([peer("a", restarting=True), peer("b")], 5, False, "restart in progress with a"),
        ([peer("a", restarting=True), peer("b")], 31, True, "all peers"),
        ([peer("a", "IDLE"), peer("b", "CONNECT")], 3600, False, "no peer is established: a"),
        ([peer("a"), peer("b", "IDLE", expected=False)], 5, True, "all peers"),
        ([peer("b", "IDLE", expected=False)], 5, True, "no peers are expected"),
    ],
)
def test_readiness_has_two_phases_and_names_the_missing(
    peers: list[PeerStatus], age: float, ready: bool, named: str
) -> None:
    verdict, reason = readiness(peers, age)
    assert verdict is ready
    assert named in reason


def test_unhealthy_or_draining_is_not_ready() -> None:
    assert readiness([peer("a")], 99, healthy=(False, "exabgp is gone")) == (
        False,
        "unhealthy: exabgp is gone",
    )
    assert readiness([peer("a")], 99, mode="draining") == (False, "draining")


def test_many_missing_peers_are_summed_up() -> None:
    _, reason = readiness([peer(f"p{number}", "IDLE") for number in range(12)], 0)
    assert reason.endswith("and 7 more")
