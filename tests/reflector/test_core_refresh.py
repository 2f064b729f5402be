"""Refreshes: RFC 2918, RFC 7313, and families."""

import random
from typing import Any

import pytest

from bgpd.rib.path import SourceKind
from bgpd.wire.iana import RefreshSubtype
from bgpd.wire.nlri import Family
from reflector.core import REFRESH_TIME, Reflector
from tests.reflector.simulated import (
    BOTH,
    V4,
    V6,
    SimulatedPeer,
    graceful,
    key,
    reflector,
    restartable,
    settle,
    tick,
)

CLIENT = SourceKind.CLIENT
P, Q, R = "10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24"
P6 = "2001:db8:1::/48"


def test_rfc2918_4_a_request_sends_everything_again() -> None:
    core = reflector()
    a, b = SimulatedPeer(core, 1).up(), SimulatedPeer(core, 2, capabilities={"enhanced_refresh": False}).up()
    a.announce(P, Q, P6)
    settle(b)
    b.view[V4].clear()
    b.view[V6].clear()
    b.refresh(family=V4)
    settle(b)
    assert b.prefixes == {P, Q}
    assert "borr" not in b.messages
    b.refresh(family=V6)
    settle(b)
    assert b.prefixes == {P, Q, P6}


@pytest.mark.parametrize("seed", range(40))
def test_rfc2918_4_a_refresh_amid_changes_loses_nothing(seed: int) -> None:
    """Changes and requests in any order, also in the same turn, before anything of it is decided.

    Without marks the peer keeps what it is not told to forget.
    """
    chance = random.Random(seed)
    core = reflector()
    plain = {"enhanced_refresh": False}
    peers = [SimulatedPeer(core, number, capabilities=dict(plain)).up() for number in (1, 2, 3)]
    prefixes = [P, Q, R, P6]
    said: dict[str, dict[int, int]] = {prefix: {} for prefix in prefixes}
    now = 0.0
    for _ in range(120):
        peer, prefix = chance.choice(peers), chance.choice(prefixes)
        match chance.choice(("announce", "announce", "withdraw", "refresh", "read", "flush", "tick")):
            case "announce":
                said[prefix][peer.number] = local_pref = chance.randint(100, 103)
                peer.announce(prefix, local_pref=local_pref)
            case "withdraw":
                said[prefix].pop(peer.number, None)
                peer.withdraw(prefix)
            case "refresh":
                peer.refresh(family=chance.choice((V4, V6)))
            case "read":
                peer.read(chance.choice((1, 100, 10_000)), chance.randint(1, 3))
            case "flush":
                core.flush()
            case "tick":
                now += 1.0
                core.tick(now)
        if chance.random() < 0.1:
            core.tick(now + 1.0)
            settle(*peers)
            best = {p: max((pref, -n) for n, pref in by.items())[1] for p, by in said.items() if by}
            for each in peers:
                assert each.prefixes == {p for p, number in best.items() if -number != each.number}


def test_rfc7313_4_the_answer_stands_between_marks_and_repairs_everything() -> None:
    core = reflector()
    a, b = SimulatedPeer(core, 1).up(), SimulatedPeer(core, 2).up()
    a.announce(P, Q)
    settle(b)
    b.view[V4][key(R)] = b.view[V4].pop(key(P))
    b.refresh()
    a.withdraw(Q)
    settle(b)
    assert b.prefixes == {P}
    at = b.messages.index("borr")
    assert "update" in b.messages[at:]
    assert b.messages[-1] == "eorr"


def test_what_is_withdrawn_at_the_moment_of_a_refresh_is_not_told_again() -> None:
    core = reflector()
    a, b = SimulatedPeer(core, 1).up(), SimulatedPeer(core, 2).up()
    a.announce(P, Q)
    settle(b)
    a.withdraw(Q)
    b.refresh()
    assert b.read().prefixes == {P}


@pytest.mark.parametrize("limit", [1, 1 << 20])
def test_families_are_refreshed_one_after_the_other(limit: int) -> None:
    """RFC 7313 lets marks of two families mix; FRR 8 has one flag for all and then repairs neither."""
    core = reflector()
    a, b = SimulatedPeer(core, 1).up(), SimulatedPeer(core, 2).up()
    a.announce(P, Q, P6)
    settle(b)
    b.messages.clear()
    b.refresh(family=V6)
    b.refresh(family=V4)
    core.flush()
    b.read(limit)
    assert [m for m in b.messages if m != "update"] == ["borr", "eorr", "borr", "eorr"]
    assert b.prefixes == {P, Q, P6}
    assert not b.stale


@pytest.mark.parametrize("offered", [{}, {"graceful_restart": graceful()}])
def test_rfc7313_4_no_mark_before_end_of_rib(offered: dict[str, Any]) -> None:
    """What we offered makes the peer ignore earlier marks, whether or not it offers graceful restart."""
    core = reflector(deferral=60.0)
    core.deferral.expected = {"192.0.2.9"}
    b = SimulatedPeer(core, 2, capabilities=offered, ours={"graceful_restart": graceful()}).up()
    b.refresh()
    settle(b)
    assert "borr" not in b.messages
    tick(core, 60.0)
    settle(b)
    assert [m for m in b.messages if m != "update"] == ["eor", "borr", "eorr", "eor"]


@pytest.mark.parametrize("adding", [False, True])
def test_rfc7313_4_what_the_peer_does_not_repeat_between_its_marks_is_swept(adding: bool) -> None:
    core = reflector()
    a, b = SimulatedPeer(core, 1, sends_paths=adding).up(), SimulatedPeer(core, 2).up()
    path_id = 1 if adding else None
    a.announce(P, Q, P6, path_id=path_id)
    a.refresh(RefreshSubtype.BEGIN)
    a.announce(P, path_id=path_id)
    settle(b)
    assert b.prefixes == {P, Q, P6}
    a.refresh(RefreshSubtype.END)
    settle(b)
    assert b.prefixes == {P, P6}


def test_rfc7313_4_marks_before_end_of_rib_and_ends_without_a_beginning_are_ignored() -> None:
    core = reflector()
    a, b = restartable(core, 1).up(), SimulatedPeer(core, 2).up()
    a.announce(P, Q)
    a.refresh(RefreshSubtype.BEGIN)
    a.refresh(RefreshSubtype.END)
    settle(b)
    assert b.prefixes == {P, Q}
    a.end_of_rib()
    a.refresh(RefreshSubtype.END)
    settle(b)
    assert b.prefixes == {P, Q}


def test_what_was_marked_twice_is_swept_once_and_only_if_not_repeated() -> None:
    core = reflector()
    a, b = SimulatedPeer(core, 1).up(), SimulatedPeer(core, 2).up()
    a.announce(P, Q, R)
    a.refresh(RefreshSubtype.BEGIN)
    a.refresh(RefreshSubtype.BEGIN)
    a.announce(P, Q)
    a.refresh(RefreshSubtype.BEGIN)
    a.announce(P)
    a.refresh(RefreshSubtype.END)
    settle(b)
    assert b.prefixes == {P}


def test_rfc7313_4_a_refresh_without_an_end_does_not_keep_for_ever() -> None:
    core = reflector()
    a, b = SimulatedPeer(core, 1).up(), SimulatedPeer(core, 2).up()
    a.announce(P, Q)
    a.refresh(RefreshSubtype.BEGIN, now=10.0)
    a.announce(P)
    tick(core, 9.0 + REFRESH_TIME)
    settle(b)
    assert b.prefixes == {P, Q}
    assert core.tick(10.0 + REFRESH_TIME), "there is something to tell"
    settle(b)
    assert b.prefixes == {P}


def test_a_session_that_ends_in_the_middle_of_a_refresh_loses_nothing() -> None:
    core = reflector()
    a, b = restartable(core, 1).up(), SimulatedPeer(core, 2).up()
    a.announce(P, Q)
    a.end_of_rib()
    a.refresh(RefreshSubtype.BEGIN)
    a.announce(P)
    a.down(10.0, BOTH)
    settle(b)
    assert b.prefixes == {P, Q}


def fifty_batches_behind() -> tuple[Reflector, SimulatedPeer, SimulatedPeer]:
    """A reflector, who announced 50 prefixes one at a time, and who has been told none of them yet."""
    core = reflector()
    a, b = SimulatedPeer(core, 1).up(), SimulatedPeer(core, 2).up()
    b.read()
    for number in range(50):
        a.announce(f"10.9.{number}.0/24", med=number)
        core.flush()
    return core, a, b


def test_one_family_does_not_starve_the_other() -> None:
    core, a, b = fifty_batches_behind()
    a.announce(P6)
    core.flush()
    b.read(1, turns=3)
    assert P6 in b.prefixes


def test_a_turn_of_a_peer_takes_about_as_much_as_it_may() -> None:
    _, _, b = fifty_batches_behind()
    b.read(200, turns=1)
    assert 0 < len(b.prefixes) < 10


def test_one_that_asks_again_and_again_waits_and_is_not_forgotten() -> None:
    """As long as it would take to encode the table for it; then the next turn of the clock has it told."""
    core = reflector()
    a, b = SimulatedPeer(core, 1).up(), SimulatedPeer(core, 2).up()
    for med in (1, 2, 3):
        a.announce(P, med=med)
        settle(b)
        b.messages.clear()
        b.refresh()
        b.read()
        assert ("borr" in b.messages) is (med < 3)
    assert core.tick(0.000001), "somebody waits"
    assert "borr" not in b.read().messages
    assert core.tick(1.0)
    assert b.read().messages == ["borr", "update", "eorr"]
    assert not core.tick(2.0)


def families(peer: SimulatedPeer) -> frozenset[Family]:
    assert peer.member is not None
    return frozenset(peer.member.readings)


def test_a_family_that_is_not_negotiated_is_neither_told_nor_taken() -> None:
    core = reflector()
    a = SimulatedPeer(core, 1).up()
    b = SimulatedPeer(core, 2, capabilities={"families": frozenset({V6})}).up()
    a.announce(P, P6)
    settle(b)
    assert families(b) == {V6}
    assert b.prefixes == {P6}
