"""Two connections between the same peers: exactly one remains (RFC 4271 section 6.8, RFC 6286, RFC 4724)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpd.session.config import PeerConfig
from bgpd.session.events import Closed, Established
from bgpd.session.fsm import State
from bgpd.session.peer import ConnectRequested, Peer, SessionEvent
from bgpd.session.session import Session
from bgpd.wire.messages import KEEPALIVE, Notification, encode

from .network import Network
from .speakers import (
    BOTH,
    LOCAL_ASN,
    LOCAL_ID,
    NOW,
    announcement,
    config,
    graceful,
    identifier,
    offer,
    peer_open,
    sent,
)

HIGH, LOW = identifier("10.0.0.9"), identifier("1.0.0.1")
RESTART = offer(LOCAL_ASN, graceful_restart=graceful())


def speaker(asn: int, bgp_identifier: bytes, *, restart: bool = False, passive: bool = False) -> Peer:
    capabilities = offer(asn, graceful_restart=graceful() if restart else None)
    ours = config(capabilities, local_asn=asn, bgp_identifier=bgp_identifier, passive=passive)
    return Peer(PeerConfig(ours, stable_time=1e9))


def pair(asns: tuple[int, int], ids: tuple[bytes, bytes], restart: bool) -> Network:
    return Network((speaker(asns[0], ids[0], restart=restart), speaker(asns[1], ids[1], restart=restart)))


KINDS = st.sampled_from(
    [
        ((LOCAL_ASN, LOCAL_ASN), (LOCAL_ID, HIGH)),
        ((LOCAL_ASN, LOCAL_ASN), (LOCAL_ID, LOW)),
        ((LOCAL_ASN, 65001), (LOCAL_ID, LOCAL_ID)),
        ((65001, LOCAL_ASN), (LOCAL_ID, LOCAL_ID)),
    ]
)


@given(kind=KINDS, restart=st.booleans(), data=st.data())
@settings(max_examples=250, deadline=None)
def test_of_two_crossing_connections_exactly_one_lives_whatever_the_timing(
    kind: tuple[tuple[int, int], tuple[bytes, bytes]], restart: bool, data: st.DataObject
) -> None:
    network = pair(*kind, restart)
    network.enable()
    for _ in range(200):
        steps = network.steps(data.draw(st.sampled_from([1, 19, 1000])))
        if not steps:
            break
        steps[data.draw(st.integers(0, len(steps) - 1))]()
    network.rest()
    network.assert_exactly_one()
    # Nobody had to try twice: the two never closed both connections between them.
    assert [peer.counters.attempts for peer in network.peers] == [1, 1]


@given(kind=KINDS, restart=st.booleans(), data=st.data())
@settings(max_examples=120, deadline=None)
def test_after_any_storm_of_failures_exactly_one_connection_lives(
    kind: tuple[tuple[int, int], tuple[bytes, bytes]], restart: bool, data: st.DataObject
) -> None:
    network = pair(*kind, restart)
    network.enable()
    for _ in range(data.draw(st.integers(0, 60))):
        steps = network.steps(data.draw(st.sampled_from([7, 1000])))
        ends = [e for wire in network.wires for e in wire.ends if e.session is not None and not e.closed]
        choice = data.draw(st.integers(0, 9))
        if choice == 0:
            network.tick()
        elif choice == 1 and ends:  # one side's connection breaks; the other side finds out later, or never
            network.cut(ends[data.draw(st.integers(0, len(ends) - 1))])
        elif choice == 2:
            peer = network.peers[data.draw(st.integers(0, 1))]
            peer.reset(network.now)
            network.settle(peer)
        elif steps:
            steps[data.draw(st.integers(0, len(steps) - 1))]()
    for _ in range(200):
        network.rest()
        if all(peer.session is not None for peer in network.peers) and len(network.living()) == 1:
            break
        network.tick()
    network.assert_exactly_one()


@given(restart=st.booleans(), data=st.data())
@settings(max_examples=50, deadline=None)
def test_two_established_peers_stay_so_by_their_keepalives(restart: bool, data: st.DataObject) -> None:
    network = pair((LOCAL_ASN, LOCAL_ASN), (LOCAL_ID, HIGH), restart)
    network.enable()
    network.rest()
    (wire,) = network.living()
    for _ in range(60):
        network.tick()
        for end in wire.ends:
            if data.draw(st.booleans()):
                end.session.receive_data(announcement(), network.now)  # type: ignore[union-attr]  # it is up
        network.rest()
    network.assert_exactly_one()
    assert network.living() == [wire]


# The same one at a time, with a peer played by the test


def crossing(theirs: bytes) -> tuple[Peer, Session, Session]:
    """Our connection in OpenConfirm, theirs in OpenSent."""
    peer = Peer(PeerConfig(config(RESTART)))
    peer.enable(NOW)
    (request,) = peer.events()
    assert isinstance(request, ConnectRequested)
    ours = peer.connected(request.attempt, NOW)
    assert ours is not None
    accepted = peer.accepted(NOW)
    assert isinstance(accepted, Session)
    peer.receive_data(ours, theirs, NOW)
    assert ours.state is State.OPENCONFIRM
    return peer, ours, accepted


@pytest.mark.parametrize(
    ("theirs", "they_win"),
    [
        (peer_open(LOCAL_ASN, HIGH), True),
        (peer_open(LOCAL_ASN, LOW), False),
        (peer_open(LOCAL_ASN + 1, LOCAL_ID), True),
        (peer_open(LOCAL_ASN - 1, LOCAL_ID), False),
    ],
    ids=[
        "their identifier is higher",
        "ours is higher",
        "equal, their AS is larger",
        "equal, ours is larger",
    ],
)
def test_rfc4271_6_8_the_connection_of_the_higher_identifier_is_kept(theirs: bytes, they_win: bool) -> None:
    peer, ours, accepted = crossing(theirs)
    peer.receive_data(accepted, theirs, NOW)
    kept, lost = (accepted, ours) if they_win else (ours, accepted)
    assert kept.state is State.OPENCONFIRM
    if they_win:
        assert not lost.closed, "it may be Established over there, and the other one given up"
        peer.receive_data(accepted, KEEPALIVE, NOW)
    assert lost.closed
    assert peer.sessions == (kept,)
    (end,) = [e for e in peer.events() if isinstance(e, SessionEvent) and isinstance(e.event, Closed)]
    assert end.session is lost
    assert isinstance(end.event, Closed)
    assert end.event.sent == Notification(6, 7)
    assert peer.flaps == 0
    assert peer.counters.collisions == 1


def test_rfc6286_2_3_equal_identifiers_are_decided_by_the_larger_as() -> None:
    peer, ours, accepted = crossing(peer_open(LOCAL_ASN + 1, LOCAL_ID))
    peer.receive_data(accepted, peer_open(LOCAL_ASN + 1, LOCAL_ID), NOW)
    peer.receive_data(accepted, KEEPALIVE, NOW)
    assert (ours.closed, accepted.closed) == (True, False)


@pytest.mark.parametrize("ours_first", [True, False])
def test_a_peer_that_is_established_and_gives_the_other_connection_up_keeps_its_session(
    ours_first: bool,
) -> None:
    """So do BIRD and FRR: our KEEPALIVE came before our OPEN on theirs, and identifiers count no more."""
    theirs = peer_open(LOCAL_ASN, HIGH)
    peer, ours, accepted = crossing(theirs)
    peer.receive_data(accepted, theirs, NOW)
    for session in (ours, accepted) if ours_first else (accepted, ours):
        peer.receive_data(session, KEEPALIVE if session is ours else encode(Notification(6, 7)), NOW)
    assert peer.session is ours
    assert peer.sessions == (ours,)
    assert peer.flaps == 0


def test_rfc4724_4_2_a_collision_between_connections_that_met_is_no_restart() -> None:
    theirs = peer_open(LOCAL_ASN, HIGH, capabilities=RESTART)
    peer, ours, accepted = crossing(theirs)
    peer.receive_data(accepted, theirs, NOW)
    peer.receive_data(ours, KEEPALIVE, NOW)
    assert peer.session is ours
    assert accepted.state is State.OPENCONFIRM
    peer.receive_data(accepted, KEEPALIVE, NOW)
    assert peer.session is accepted
    (end,) = [e for e in peer.events() if isinstance(e, SessionEvent) and isinstance(e.event, Closed)]
    assert end.session is ours
    assert isinstance(end.event, Closed)
    assert (end.event.established, end.event.retain, end.event.crossed) == (True, BOTH, True)


def test_openings_without_a_keepalive_do_not_pile_up() -> None:
    peer = Peer(PeerConfig(config(RESTART, passive=True)))
    peer.enable(NOW)
    for _ in range(5):
        session = peer.accepted(NOW)
        assert isinstance(session, Session)
        peer.receive_data(session, peer_open(), NOW)
        assert peer.sessions == (session,)


def test_rfc4271_6_8_the_loser_gets_no_keepalive_that_could_establish_it() -> None:
    peer, _, accepted = crossing(peer_open(LOCAL_ASN, LOW))
    accepted.data_to_send()
    peer.receive_data(accepted, peer_open(LOCAL_ASN, LOW), NOW)
    assert KEEPALIVE not in accepted.data_to_send()


def established_peer(restart: bool) -> tuple[Peer, Session]:
    capabilities = RESTART if restart else offer(LOCAL_ASN)
    peer = Peer(PeerConfig(config(capabilities, passive=True)))
    peer.enable(NOW)
    session = peer.accepted(NOW)
    assert isinstance(session, Session)
    peer.receive_data(session, peer_open(capabilities=capabilities) + KEEPALIVE, NOW)
    peer.events()
    session.data_to_send()
    return peer, session


def test_rfc4271_8_2_2_a_new_connection_beside_an_established_one_is_tracked_until_it_sends_an_open() -> None:
    peer, session = established_peer(restart=False)
    new = peer.accepted(NOW)
    assert isinstance(new, Session)
    assert new.data_to_send() == b""
    assert peer.session is session
    peer.receive_data(new, peer_open(), NOW)
    assert new.closed
    assert sent(new.data_to_send()) == [Notification(6, 7)]
    assert peer.sessions == (session,)
    assert peer.counters.refused == 1
    assert peer.flaps == 0


def test_a_tracked_connection_takes_over_when_the_old_one_ends_first() -> None:
    peer, session = established_peer(restart=False)
    new = peer.accepted(NOW)
    assert isinstance(new, Session)
    peer.connection_lost(session, NOW)
    assert [type(message).__name__ for message in sent(new.data_to_send())] == ["Open"]
    peer.receive_data(new, peer_open() + KEEPALIVE, NOW)
    assert peer.session is new
    assert peer.counters.established == 2


def test_a_tracked_connection_that_says_nothing_is_dropped_in_time() -> None:
    peer, session = established_peer(restart=False)
    new = peer.accepted(NOW)
    assert isinstance(new, Session)
    for second in range(0, 241, 60):
        peer.receive_data(session, KEEPALIVE, NOW + second)
        peer.handle_timer(NOW + second)
    assert new.closed
    assert peer.sessions == (session,)


def test_a_tracked_connection_goes_down_with_a_disabled_peer() -> None:
    peer, _ = established_peer(restart=False)
    new = peer.accepted(NOW)
    assert isinstance(new, Session)
    peer.disable(NOW)
    assert new.closed
    assert peer.sessions == ()
    assert peer.state is State.IDLE


def test_rfc4724_4_2_a_new_connection_beside_an_established_one_is_the_peer_restarted() -> None:
    peer, old = established_peer(restart=True)
    new = peer.accepted(NOW + 10)
    assert isinstance(new, Session)
    peer.receive_data(
        new, peer_open(capabilities=offer(LOCAL_ASN, graceful_restart=graceful(restarting=True))), NOW + 10
    )
    assert peer.session is old
    peer.receive_data(new, KEEPALIVE + announcement(), NOW + 10)
    assert peer.session is new
    assert peer.sessions == (new,)
    events = [event for event in peer.events() if isinstance(event, SessionEvent)]
    assert [type(event.event).__name__ for event in events] == [
        "Opened",
        "Closed",
        "Established",
        "UpdatesReceived",
    ]
    end = events[1]
    assert end.session is old
    assert isinstance(end.event, Closed)
    assert (end.event.established, end.event.retain, end.event.sent) == (True, BOTH, None)
    assert not end.event.crossed
    assert old.data_to_send() == b""  # no NOTIFICATION
    begun = events[2].event
    assert isinstance(begun, Established)
    assert begun.negotiated.graceful_restart is not None
    assert begun.negotiated.graceful_restart.restarting


def test_a_stranger_beside_an_established_session_does_not_end_it() -> None:
    peer, old = established_peer(restart=True)
    for data in (b"GET / HTTP/1.1\r\n\r\n", peer_open(65077), KEEPALIVE, peer_open()):
        stranger = peer.accepted(NOW)
        assert isinstance(stranger, Session)
        peer.receive_data(stranger, data, NOW)
        peer.connection_lost(stranger, NOW)
        assert peer.session is old
        assert peer.sessions == (old,)
    assert peer.flaps == 0
    assert peer.counters.last_error == ""


def test_half_open_connections_do_not_pile_up() -> None:
    for restart in (True, False):
        peer, old = established_peer(restart)
        for _ in range(100):
            peer.accepted(NOW)
        assert len(peer.sessions) == 2
        assert old.state is State.ESTABLISHED
    peer = Peer(PeerConfig(config(passive=True)))
    peer.enable(NOW)
    for _ in range(100):
        peer.accepted(NOW)
    assert len(peer.sessions) == 1
