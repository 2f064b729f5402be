"""Restarts: RFC 4724 on both sides, RFC 8538, RFC 9494."""

from typing import Any

import pytest

from bgpd.rib.path import SourceKind
from bgpd.session.restart import retained_families
from bgpd.wire.capabilities import GracefulRestart
from bgpd.wire.iana import WellKnownCommunity
from reflector.core import STALE_PATH_TIME, Reflector
from reflector.guests import FEWEST
from reflector.member import MemberOptions
from tests.reflector.simulated import (
    ASN,
    BOTH,
    V4,
    V6,
    SimulatedPeer,
    external,
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


def long_lived(core: Reflector, number: int, *, seconds: int = 1000, ours: int = 500) -> SimulatedPeer:
    """The same with long-lived graceful restart; we keep its routes for `ours` seconds at most."""
    peer = restartable(core, number, options=MemberOptions(CLIENT, long_lived_stale_time=ours))
    offer = tuple((family, True, seconds) for family in (V4, V6))
    peer.capabilities["long_lived"] = offer
    peer.ours["long_lived"] = offer
    return peer


# RFC 4724 as helper


@pytest.mark.parametrize("adding", [False, True])
def test_rfc4724_4_2_routes_are_kept_until_the_restart_timer(adding: bool) -> None:
    core = reflector()
    a, b = restartable(core, 1, sends_paths=adding).up(), SimulatedPeer(core, 2).up()
    a.announce(P, P6, path_id=7 if adding else None)
    settle(b)
    a.down(100.0, BOTH)
    tick(core, 219.0)
    settle(b)
    assert b.prefixes == {P, P6}
    tick(core, 220.0)
    settle(b)
    assert not b.prefixes
    assert not core.ribs[V4].candidates(key(P))
    assert a.name not in core.members


@pytest.mark.parametrize("adding", [False, True])
def test_rfc4724_4_2_what_is_not_announced_again_is_swept_at_end_of_rib_per_family(adding: bool) -> None:
    core = reflector()
    a, b = restartable(core, 1, sends_paths=adding).up(), SimulatedPeer(core, 2).up()
    path_id = 7 if adding else None
    a.announce(P, Q, P6, path_id=path_id)
    settle(b)
    a.down(100.0, BOTH)
    a.up(110.0)
    a.announce(P, path_id=path_id)
    settle(b)
    assert b.prefixes == {P, Q, P6}
    a.end_of_rib(V4)
    settle(b)
    assert b.prefixes == {P, P6}
    a.end_of_rib(V6)
    settle(b)
    assert b.prefixes == {P}


def test_rfc4724_4_2_nothing_moves_for_the_others_while_a_peer_restarts() -> None:
    core = reflector()
    a, b = restartable(core, 1).up(), SimulatedPeer(core, 2).up()
    a.announce(P, P6)
    settle(b)
    said = len(b.messages)
    a.down(100.0, BOTH)
    tick(core, 101.0)
    settle(b)
    a.up(110.0)
    a.announce(P, P6)
    a.end_of_rib()
    settle(b)
    assert len(b.messages) == said


def test_rfc4724_4_2_the_restart_timer_ends_with_the_session_and_another_bounds_the_wait() -> None:
    """A peer that comes back in the last second still gets the time it needs to say everything."""
    core = reflector()
    a, b = restartable(core, 1).up(), SimulatedPeer(core, 2).up()
    a.announce(P, Q)
    a.down(100.0, BOTH)
    a.up(219.0)
    tick(core, 230.0)
    settle(b)
    assert b.prefixes == {P, Q}
    a.announce(P)
    tick(core, 219.0 + STALE_PATH_TIME)
    settle(b)
    assert b.prefixes == {P}


@pytest.mark.parametrize(
    "capability",
    [None, graceful(V6), graceful(forwarding=False)],
    ids=["no capability", "family missing", "F bit clear"],
)
def test_rfc4724_4_2_what_the_peer_did_not_keep_goes_at_once(capability: Any) -> None:
    core = reflector()
    a, b = restartable(core, 1).up(), SimulatedPeer(core, 2).up()
    a.announce(P)
    a.down(100.0, BOTH)
    settle(b)
    assert b.prefixes == {P}
    a.up(110.0, graceful_restart=capability)
    settle(b)
    assert not b.prefixes


def test_rfc4724_4_2_a_second_restart_before_end_of_rib_leaves_only_what_was_confirmed() -> None:
    core = reflector()
    a, b = restartable(core, 1).up(), SimulatedPeer(core, 2).up()
    a.announce(P, Q)
    a.down(100.0, BOTH)
    a.up(110.0)
    a.announce(P)
    a.down(120.0, BOTH)
    settle(b)
    assert b.prefixes == {P}


def test_rfc8538_3_after_a_hard_reset_nothing_is_kept() -> None:
    core = reflector()
    a, b = restartable(core, 1).up(), SimulatedPeer(core, 2).up()
    a.announce(P)
    settle(b)
    a.down(100.0, frozenset())
    settle(b)
    assert not b.prefixes


def test_a_peer_that_comes_back_as_another_keeps_nothing() -> None:
    core = reflector()
    a, b = restartable(core, 1).up(), SimulatedPeer(core, 2).up()
    a.announce(P)
    a.down(100.0, BOTH)
    a.options = MemberOptions(SourceKind.NON_CLIENT)
    a.up(110.0)
    settle(b)
    assert not b.prefixes
    assert core.members[a.name] is a.member
    a.announce(Q)
    settle(b)
    assert b.prefixes == {Q}


def test_a_peer_that_comes_back_with_other_items_keeps_nothing() -> None:
    """Path identifiers came or went: what is kept could not be matched with what is announced."""
    core = reflector()
    a, b = restartable(core, 1, sends_paths=True).up(), SimulatedPeer(core, 2).up()
    a.announce(P, path_id=1)
    a.down(100.0, BOTH)
    a.up(110.0, add_path=())
    settle(b)
    assert not b.prefixes
    a.announce(Q)
    a.end_of_rib()
    settle(b)
    assert b.prefixes == {Q}


@pytest.mark.parametrize("crossed", [True, False])
def test_rfc4724_4_2_stale_routes_outlive_a_collision_but_not_another_restart(crossed: bool) -> None:
    core = reflector()
    a, b = restartable(core, 1).up(), SimulatedPeer(core, 2).up()
    a.announce(P, Q)
    a.down(100.0, BOTH)
    a.up(101.0)
    a.announce(Q)
    a.down(102.0, BOTH, crossed=crossed)
    a.up(102.0)
    settle(b)
    assert b.prefixes == ({P, Q} if crossed else {Q})
    a.announce(Q)
    a.end_of_rib()
    settle(b)
    assert b.prefixes == {Q}


def test_rfc4724_4_2_without_graceful_notifications_a_collision_ends_what_was_kept() -> None:
    core = reflector()
    a, b = restartable(core, 1).up(), SimulatedPeer(core, 2).up()
    a.announce(P)
    a.down(100.0, BOTH)
    a.up(101.0)
    a.down(102.0, crossed=True)
    settle(b)
    assert not b.prefixes


@pytest.mark.parametrize("named", [True, False])
def test_one_that_walks_through_addresses_leaves_routes_at_few_of_them(named: bool) -> None:
    core = reflector()
    steady = [restartable(core, n).up(0.0) for n in range(1, 4)]
    for n, peer in enumerate(steady):
        peer.announce(f"10.8.{n}.0/24")
        peer.down(100.0, BOTH)
    core.deferral.expected = {f"192.0.2.{n}" for n in range(100, 160)} if named else set()
    for n in range(100, 160):
        peer = restartable(core, n).up(float(n))
        peer.announce(f"10.9.{n}.0/24")
        peer.down(n + 0.5, BOTH)
        core.forget_guests()
    left = 60 if named else FEWEST - 3
    assert len(core.members) == 3 + left
    assert {peer.name for peer in steady} <= core.members.keys(), "what was there for long is kept"
    assert len(core.ribs[V4]) == 3 + left


def test_all_that_were_there_at_once_may_be_away_at_once() -> None:
    core = reflector()
    peers = [restartable(core, n).up(0.0) for n in range(1, 101)]
    core.forget_guests()
    for n, peer in enumerate(peers):
        peer.announce(f"10.9.{n}.0/24")
        peer.down(100.0, BOTH)
    assert not core.forget_guests()
    assert len(core.members) == 100


# RFC 4724 as restarting speaker


def test_rfc4724_4_1_end_of_rib_waits_for_the_expected_peers_but_not_for_ever() -> None:
    core = reflector(deferral=60.0)
    core.deferral.expected = {"192.0.2.1", "192.0.2.2"}
    a, b = restartable(core, 1).up(1.0), restartable(core, 2)
    a.announce(P)
    a.end_of_rib()
    tick(core, 2.0)
    settle(a)
    assert "eor" not in a.messages
    b.up(3.0)
    tick(core, 4.0)
    settle(a, b)
    assert "eor" not in a.messages
    assert b.prefixes == {P}, "routes do not wait"
    b.end_of_rib()
    tick(core, 4.5)
    settle(a, b)
    assert a.messages.count("eor") == b.messages.count("eor") == 2


@pytest.mark.parametrize("absent", [True, False])
def test_rfc4724_4_1_neither_who_does_not_come_nor_who_promised_and_is_silent_is_waited_for_for_ever(
    absent: bool,
) -> None:
    core = reflector(deferral=60.0)
    core.deferral.expected = {"192.0.2.1", "192.0.2.2"}
    a, b = restartable(core, 1).up(1.0), restartable(core, 2)
    a.end_of_rib()
    if not absent:
        b.up(1.0)
    tick(core, 59.0)
    settle(a)
    assert "eor" not in a.messages
    tick(core, 60.0)
    settle(a)
    assert a.messages.count("eor") == 2


def test_end_of_rib_waits_while_there_may_be_a_peer_whose_declaration_cannot_be_read() -> None:
    core = reflector(deferral=60.0)
    core.deferral.expected, core.deferral.incomplete = {"192.0.2.1"}, True
    a = restartable(core, 1).up(1.0)
    a.end_of_rib()
    tick(core, 30.0)
    settle(a)
    assert "eor" not in a.messages
    core.deferral.incomplete = False
    tick(core, 31.0)
    settle(a)
    assert a.messages.count("eor") == 2


def test_rfc4724_2_end_of_rib_comes_also_where_there_is_nothing_to_tell() -> None:
    """Once per family, after all routes there were, to peers with and without the capability of their own."""
    core = reflector()
    a, b = restartable(core, 1).up(), SimulatedPeer(core, 2).up()
    settle(a, b)
    assert a.messages == b.messages == ["eor", "eor"]
    a.announce(P)
    settle(b)
    c = restartable(core, 3).up()
    settle(c)
    assert c.messages == ["update", "eor", "eor"]


def test_rfc4724_4_1_a_peer_known_to_be_absent_is_not_waited_for_until_it_comes() -> None:
    core = reflector(deferral=60.0)
    core.deferral.expected, core.deferral.absent = {"192.0.2.1", "192.0.2.2"}, {"192.0.2.2"}
    a, b = restartable(core, 1).up(1.0), restartable(core, 2).up(1.0)
    a.end_of_rib()
    tick(core, 2.0)
    settle(a)
    assert "eor" not in a.messages, "it is there, and has not told everything"
    b.down(3.0)
    tick(core, 3.0)
    settle(a)
    assert a.messages.count("eor") == 2


def test_rfc4724_4_1_a_peer_that_restarts_itself_is_waited_for_a_moment_only() -> None:
    """As it may be waiting for us. FRR says so two minutes long, and tells its routes in one second."""
    core = reflector(deferral=60.0)
    core.deferral.expected = {"192.0.2.1", "192.0.2.2"}
    restarting = graceful(restarting=True)
    a, b = (restartable(core, n).up(1.0, graceful_restart=restarting) for n in (1, 2))
    a.announce(P)
    a.end_of_rib()
    tick(core, 3.9)
    settle(a, b)
    assert "eor" not in [*a.messages, *b.messages]
    tick(core, 4.0)
    settle(a, b)
    assert a.messages.count("eor") == b.messages.count("eor") == 2


@pytest.mark.parametrize("offered", [None, graceful(restarting=True)])
def test_after_our_restart_a_peer_that_promised_no_end_of_rib_may_tell_its_routes_first(
    offered: GracefulRestart | None,
) -> None:
    """The others keep them until ours; it is over when it falls silent, or says End-of-RIB all the same."""
    core = reflector(deferral=60.0)
    core.deferral.expected = {f"192.0.2.{n}" for n in (1, 2, 3)}
    a = restartable(core, 1).up(1.0)
    a.end_of_rib()
    b, c = (restartable(core, n).up(1.0, graceful_restart=offered) for n in (2, 3))
    c.end_of_rib()
    for now in range(2, 12, 2):
        tick(core, float(now))
        b.announce(P, med=now)
        settle(a)
        assert "eor" not in a.messages
    tick(core, 12.9)
    settle(a)
    assert "eor" not in a.messages
    tick(core, 13.0)
    settle(a)
    assert a.messages.count("eor") == 2


def test_rfc4724_4_1_a_peer_that_never_falls_silent_is_waited_for_until_the_deferral_is_over() -> None:
    core = reflector(deferral=60.0)
    a = SimulatedPeer(core, 1).up(1.0)
    for now in range(2, 61):
        a.announce(P, med=now)
        settle(a)
        assert "eor" not in a.messages
        tick(core, float(now))
    settle(a)
    assert a.messages.count("eor") == 2


def test_clients_nobody_named_are_complete_when_it_is_quiet() -> None:
    core = reflector(deferral=60.0, unexpected_clients=True)
    a = restartable(core, 1).up(1.0)
    a.end_of_rib()
    tick(core, 4.0)
    settle(a)
    assert "eor" not in a.messages
    b = restartable(core, 2).up(4.5)
    b.end_of_rib()
    tick(core, 6.4)
    assert core.deferral.until is not None, "b came a moment ago"
    c = restartable(core, 3).up(6.4)
    tick(core, 8.5)
    assert core.deferral.until is not None, "c has not said everything"
    c.end_of_rib()
    tick(core, 8.6)
    settle(a, b, c)
    assert a.messages.count("eor") == b.messages.count("eor") == c.messages.count("eor") == 2


def test_where_nobody_comes_the_wait_is_over_as_soon_as_somebody_could_have_come() -> None:
    core = reflector(deferral=60.0, unexpected_clients=True)
    assert not core.tick(4.9)
    assert core.tick(5.0)
    assert core.deferral.until is None


# RFC 9494


@pytest.mark.parametrize("adding", [False, True])
def test_rfc9494_4_2_after_the_restart_time_routes_are_marked_and_least_preferred(adding: bool) -> None:
    core = reflector()
    a, c = long_lived(core, 1), long_lived(core, 3).up()
    if adding:
        a.capabilities["add_path"] = SimulatedPeer(core, 9, sends_paths=True).capabilities["add_path"]
        a.ours["add_path"] = SimulatedPeer(core, 9, sends_paths=True).ours["add_path"]
    a.up()
    plain, other = SimulatedPeer(core, 2).up(), SimulatedPeer(core, 4).up()
    path_id = 3 if adding else None
    a.announce(P, Q, local_pref=500, path_id=path_id)
    a.announce(R, communities=(WellKnownCommunity.NO_LLGR,), path_id=path_id)
    other.announce(Q, local_pref=50)
    settle(c, plain)
    assert c.told(Q).local_pref == 500
    a.down(100.0, BOTH)
    tick(core, 220.0)
    settle(c, plain)
    assert c.prefixes == {P, Q}
    assert WellKnownCommunity.LLGR_STALE in c.told(P).communities
    assert c.told(Q).local_pref == 50
    assert plain.prefixes == {Q}, "only peers that know of it are told (RFC 9494 4.3)"
    tick(core, 719.0)
    settle(c)
    assert c.prefixes == {P, Q}
    tick(core, 720.0)
    settle(c)
    assert c.prefixes == {Q}
    assert a.name not in core.members


def test_rfc9494_4_2_a_peer_that_comes_back_is_fresh_again() -> None:
    core = reflector()
    a, c = long_lived(core, 1).up(), long_lived(core, 3).up()
    a.announce(P, Q)
    a.down(100.0, BOTH)
    tick(core, 220.0)
    a.up(300.0)
    a.announce(P)
    settle(c)
    assert not c.told(P).communities
    assert WellKnownCommunity.LLGR_STALE in c.told(Q).communities
    a.end_of_rib()
    settle(c)
    assert c.prefixes == {P}


def test_rfc9494_4_2_a_loss_before_end_of_rib_neither_ends_the_long_lived_time_nor_begins_another() -> None:
    core = reflector()
    a, c = long_lived(core, 1).up(), long_lived(core, 3).up()
    a.announce(P, Q)
    a.down(100.0, BOTH)
    tick(core, 220.0)
    a.up(300.0)
    a.announce(P)
    a.down(310.0, BOTH)
    settle(c)
    assert c.prefixes == {P, Q}
    assert all(WellKnownCommunity.LLGR_STALE in c.told(prefix).communities for prefix in (P, Q))
    tick(core, 719.0)
    settle(c)
    assert c.prefixes == {P, Q}
    tick(core, 720.0)
    settle(c)
    assert not c.prefixes
    assert a.name not in core.members


def test_rfc9494_4_2_the_f_bit_of_the_long_lived_capability_counts_then() -> None:
    core = reflector()
    a, c = long_lived(core, 1).up(), long_lived(core, 3).up()
    a.announce(P, P6)
    a.down(100.0, BOTH)
    tick(core, 220.0)
    a.up(300.0, long_lived=((V4, False, 1000), (V6, True, 1000)))
    settle(c)
    assert c.prefixes == {P6}


def test_rfc9494_4_2_a_family_of_the_long_lived_capability_alone_has_no_restart_time() -> None:
    core = reflector()
    a, c = long_lived(core, 1), long_lived(core, 3).up()
    a.up(graceful_restart=graceful(V4))
    a.announce(P, P6)
    assert a.member is not None
    negotiated = a.member.negotiated
    retained = retained_families(a.offer(ASN, **a.ours), negotiated, None)
    assert retained == BOTH
    a.down(100.0, retained)
    tick(core, 101.0)
    settle(c)
    assert not c.told(P).communities
    assert WellKnownCommunity.LLGR_STALE in c.told(P6).communities
    tick(core, 600.0)
    settle(c)
    assert c.prefixes == {P}


def test_rfc9494_4_3_a_route_marked_by_others_is_least_preferred_and_not_for_everybody() -> None:
    core = reflector()
    a, b, c = SimulatedPeer(core, 1).up(), SimulatedPeer(core, 2).up(), long_lived(core, 3).up()
    a.announce(P, Q, local_pref=500, communities=(WellKnownCommunity.LLGR_STALE,))
    b.announce(Q, local_pref=50)
    settle(b, c)
    assert c.told(Q).local_pref == 50
    assert c.prefixes == {P, Q}
    assert not b.prefixes


def test_rfc4724_2_end_of_rib_comes_also_where_the_policy_is_taken_away_meanwhile() -> None:
    """As to a peer that is told nothing from the beginning."""
    core = reflector(deferral=60.0)
    core.deferral.expected = {"192.0.2.9"}
    a, x = SimulatedPeer(core, 1).up(), external(core, 5, 65100).up()
    a.announce(P)
    settle(a, x)
    assert x.prefixes == {P}
    assert "eor" not in x.messages
    closed = MemberOptions(SourceKind.EXTERNAL, tells=False)
    core.change(x.member, closed)  # type: ignore[arg-type]  # it is up
    settle(x)
    assert not x.prefixes
    assert x.messages.count("eor") == 2
    tick(core, 60.0)
    core.change(x.member, MemberOptions(SourceKind.EXTERNAL))  # type: ignore[arg-type]  # as above
    settle(x)
    assert x.prefixes == {P}
    assert x.messages.count("eor") == 2


def test_rfc4724_2_no_end_of_rib_before_the_table_for_a_joiner_that_stalls_meanwhile() -> None:
    """So far behind that it is given the present state instead of the log, it has yet to read nearly all."""
    core = reflector()
    source, quick = SimulatedPeer(core, 1).up(), SimulatedPeer(core, 2).up()
    table = [f"10.{n >> 8}.{n & 255}.0/24" for n in range(500)]
    long = range(900)  # each route takes most of a message, so that a few make a log worth compacting

    def say(prefixes: list[str], first: int) -> None:
        for med, prefix in enumerate(prefixes, first):
            source.announce(prefix, med=med, communities=long)
            if med % 50 == 0:
                settle(quick)

    say(table, 0)
    slow = restartable(core, 3).up()
    slow.read(limit=1, turns=1)
    for change in range(1, 4):
        say(table[:-100], 1000 * change)
    reading = slow.member.readings[V4]  # type: ignore[union-attr]  # it is up
    assert reading.cursor.floor, "it was not given the present state"
    while reading.eor_at is not None:
        slow.read(limit=1, turns=1)
    assert slow.prefixes == {*table}
