"""A durable peer: attempts, idle hold, the operator's will. Collisions have a file of their own."""

import pytest

from bgpd.session.config import PeerConfig
from bgpd.session.events import Closed, Established
from bgpd.session.fsm import State
from bgpd.session.peer import ConnectCancelled, ConnectRequested, Peer, PeerEvent, SessionEvent
from bgpd.session.session import Session
from bgpd.wire.capabilities import GracefulRestart
from bgpd.wire.errors import ProtocolError
from bgpd.wire.iana import CeaseSubcode
from bgpd.wire.messages import KEEPALIVE, Notification, encode
from bgpd.wire.nlri import IPV4_UNICAST

from .speakers import LOCAL_ASN, NOW, config, graceful, offer, peer_open, sent


def peer(*, passive: bool = False, enabled: bool = True, **more: float) -> Peer:
    made = Peer(PeerConfig(config(passive=passive), **more))  # type: ignore[arg-type]  # the fields are numbers
    if enabled:
        made.enable(NOW)
    return made


def at(found: Peer) -> State:
    return found.state


def requested(found: Peer) -> int:
    """The one attempt that the peer asks for now."""
    (attempt,) = [event.attempt for event in found.events() if isinstance(event, ConnectRequested)]
    return attempt


def let_in(found: Peer, now: float = NOW) -> Session:
    session = found.accepted(now)
    assert isinstance(session, Session)
    return session


def bring_up(found: Peer, session: Session, now: float = NOW, theirs: bytes | None = None) -> Session:
    found.receive_data(session, (theirs or peer_open()) + KEEPALIVE, now)
    assert session.state is State.ESTABLISHED
    return session


def up(found: Peer, now: float = NOW) -> Session:
    """An accepted session, Established, its events read."""
    session = bring_up(found, let_in(found, now), now)
    found.events()
    return session


def closed(events: list[PeerEvent]) -> list[Closed]:
    return [
        event.event for event in events if isinstance(event, SessionEvent) and isinstance(event.event, Closed)
    ]


def test_an_enabled_peer_connects_at_once_and_sends_open_when_connected() -> None:
    found = peer()
    assert at(found) is State.CONNECT
    session = found.connected(requested(found), NOW)
    assert session is not None
    assert session.initiated
    assert at(found) is State.OPENSENT
    bring_up(found, session)
    assert found.session is session
    assert isinstance(found.events()[-1], SessionEvent)
    assert found.counters.established == 1
    assert found.counters.established_since == NOW
    assert found.next_timer() == session.next_timer()  # no attempt is due any more


def test_a_passive_peer_never_connects() -> None:
    found = peer(passive=True)
    assert at(found) is State.ACTIVE
    assert found.next_timer() is None
    session = up(found)
    found.connection_lost(session, NOW)
    found.handle_timer(NOW + 1e6)
    assert not [event for event in found.events() if isinstance(event, ConnectRequested)]
    assert at(found) is State.ACTIVE


def test_a_patient_passive_peer_connects_when_nobody_has_come() -> None:
    found = peer(passive=True, patience=15)
    assert at(found) is State.ACTIVE
    assert found.next_timer() == NOW + 15
    session = up(found)
    found.connection_lost(session, NOW + 20)
    assert not [event for event in found.events() if isinstance(event, ConnectRequested)]
    assert found.next_timer() == NOW + 35
    found.handle_timer(NOW + 35)
    found.connect_failed(requested(found), "connection refused", NOW + 36)
    assert at(found) is State.ACTIVE
    assert found.next_timer() == NOW + 51
    found.handle_timer(NOW + 51)
    ours = found.connected(requested(found), NOW + 51)
    assert ours is not None
    bring_up(found, ours, NOW + 51)
    assert found.session is ours


def test_rfc4271_8_2_2_a_failed_attempt_is_repeated_when_connect_retry_timer_expires() -> None:
    found = peer(connect_retry_time=7)
    found.connect_failed(requested(found), "connection refused", NOW + 1)
    assert at(found) is State.ACTIVE  # it listens meanwhile
    assert found.counters.last_error == "connection refused"
    assert found.next_timer() == NOW + 8
    found.handle_timer(NOW + 8)
    assert at(found) is State.CONNECT
    requested(found)


def test_rfc4271_8_2_2_an_attempt_that_takes_too_long_is_dropped_for_a_new_one() -> None:
    found = peer(connect_retry_time=7)
    first = requested(found)
    found.handle_timer(NOW + 7)
    cancelled, again = found.events()
    assert cancelled == ConnectCancelled(first)
    assert isinstance(again, ConnectRequested)
    assert found.connected(first, NOW + 8) is None
    found.connect_failed(first, "late news", NOW + 8)
    assert at(found) is State.CONNECT
    assert found.connected(again.attempt, NOW + 8) is not None


def test_rfc4271_10_connect_retry_timer_is_jittered() -> None:
    found = Peer(PeerConfig(config(), connect_retry_time=8), jitter=lambda: 0.75)
    found.enable(NOW)
    assert found.next_timer() == NOW + 6


def test_an_accepted_connection_ends_the_attempt_once_its_open_is_good() -> None:
    found = peer()
    attempt = requested(found)
    session = let_in(found)
    assert found.events() == []  # whoever it is, the attempt goes on
    found.receive_data(session, peer_open(), NOW)
    assert ConnectCancelled(attempt) in found.events()
    assert found.connected(attempt, NOW) is None
    assert found.sessions == (session,)


def test_a_silent_stranger_does_not_keep_us_from_connecting() -> None:
    found = peer(connect_retry_time=5)
    found.connect_failed(requested(found), "refused", NOW)
    stranger = let_in(found)
    assert (stranger.next_timer(), found.next_timer()) == (NOW + 240, NOW + 5)
    found.handle_timer(NOW + 5)
    requested(found)


def test_while_our_own_connection_waits_for_an_open_no_other_is_made() -> None:
    found = peer(connect_retry_time=5)
    ours = found.connected(requested(found), NOW)
    found.connection_lost(let_in(found), NOW)
    assert found.sessions == (ours,)
    assert found.next_timer() == NOW + 240


def test_rfc4271_8_2_2_tcp_failure_in_opensent_goes_to_active_and_retries() -> None:
    found = peer(connect_retry_time=5)
    session = found.connected(requested(found), NOW)
    assert session is not None
    found.connection_lost(session, NOW)
    assert at(found) is State.ACTIVE
    assert found.next_timer() == NOW + 5
    assert found.flaps == 0


def test_rfc4271_8_2_2_idle_refuses_incoming_connections() -> None:
    found = peer(enabled=False)
    assert found.accepted(NOW) == Notification(6, 5)
    assert found.counters.refused == 1


def test_idle_hold_grows_with_each_flap_and_is_forgotten_after_a_stable_session() -> None:
    found = peer(passive=True, tolerated_flaps=2, idle_hold_time=1, idle_hold_max=6, stable_time=30)
    now = NOW
    waits = []
    for _ in range(7):
        if at(found) is State.IDLE:
            due = found.next_timer()
            assert due is not None
            assert isinstance(found.accepted(now), Notification)
            waits.append(due - now)
            now = due
            found.handle_timer(now)
        else:
            waits.append(0)
        found.connection_lost(up(found, now), now + 1)
        now += 1
    assert waits == [0, 0, 0, 1, 2, 4, 6]
    found.handle_timer(now + 6)
    found.connection_lost(up(found, now + 6), now + 40)
    assert at(found) is State.ACTIVE
    assert found.flaps == 1


def test_a_peer_that_refuses_every_open_is_not_tried_without_pause() -> None:
    found = peer(tolerated_flaps=2)
    tries = 0
    while at(found) is State.CONNECT:
        tries += 1
        session = found.connected(requested(found), NOW)
        assert session is not None
        found.receive_data(session, encode(Notification(2, 1, b"\0\4")), NOW)
    assert tries == 3
    assert at(found) is State.IDLE
    assert found.next_timer() == NOW + 1


@pytest.mark.parametrize(
    "subcode", [CeaseSubcode.CONNECTION_REJECTED, CeaseSubcode.CONNECTION_COLLISION_RESOLUTION]
)
def test_a_peer_that_refuses_us_for_now_finds_us_listening_and_is_tried_again_later(
    subcode: CeaseSubcode,
) -> None:
    found = peer(tolerated_flaps=0, connect_retry_time=5)
    session = found.connected(requested(found), NOW)
    assert session is not None
    found.receive_data(session, encode(Notification(6, subcode)), NOW)
    assert at(found) is State.ACTIVE
    assert found.next_timer() == NOW + 5
    assert found.flaps == 0
    assert isinstance(found.accepted(NOW), Session)


def test_an_idle_hold_is_jittered() -> None:
    found = Peer(PeerConfig(config(passive=True), tolerated_flaps=0, idle_hold_time=4), jitter=lambda: 0.75)
    found.enable(NOW)
    found.connection_lost(up(found), NOW)
    assert found.next_timer() == NOW + 3


def test_enable_ends_an_idle_hold() -> None:
    found = peer(tolerated_flaps=0, idle_hold_time=60)
    found.connection_lost(up(found), NOW)
    assert at(found) is State.IDLE
    found.events()
    assert found.flaps == 1
    found.enable(NOW + 1)
    assert at(found) is State.CONNECT
    assert found.flaps == 0
    requested(found)
    found.enable(NOW + 2)  # already: nothing
    assert found.events() == []


def test_disable_says_why_and_refuses_everybody_until_enabled() -> None:
    found = peer()
    session = up(found)
    found.disable(NOW, "replaced by rr2")
    (end,) = closed(found.events())
    assert end.sent is not None
    assert end.sent.communication == "replaced by rr2"
    assert sent(session.data_to_send())[-1] == end.sent
    assert at(found) is State.IDLE
    assert found.next_timer() is None
    assert isinstance(found.accepted(NOW), Notification)
    found.handle_timer(NOW + 1e6)
    assert found.events() == []
    found.enable(NOW)
    assert isinstance(found.accepted(NOW), Session)


def test_disable_cancels_an_attempt() -> None:
    found = peer()
    attempt = requested(found)
    found.disable(NOW)
    assert found.events() == [ConnectCancelled(attempt)]
    assert found.connected(attempt, NOW) is None
    assert found.next_timer() is None


def test_disable_during_an_idle_hold_ends_it() -> None:
    found = peer(tolerated_flaps=0)
    found.connection_lost(up(found), NOW)
    found.disable(NOW)
    assert found.next_timer() is None


def test_reset_starts_again_at_once_and_is_no_flap() -> None:
    found = peer(passive=True, tolerated_flaps=0, idle_hold_time=60)
    up(found)
    found.reset(NOW, "new keys")
    (end,) = closed(found.events())
    assert end.sent == Notification(6, 4, b"\x08new keys")
    assert at(found) is State.ACTIVE
    assert found.flaps == 0
    up(found)
    assert found.counters.closed == 1
    assert found.counters.established == 2


def test_reset_without_a_connection_gives_up_the_attempt_for_a_new_one() -> None:
    """What it is connecting with may have changed, its key for one; but who is held idle stays so."""
    found = peer()
    (first,) = (event for event in found.events() if isinstance(event, ConnectRequested))
    found.reset(NOW + 1)
    cancelled, second = found.events()
    assert cancelled == ConnectCancelled(first.attempt)
    assert isinstance(second, ConnectRequested)
    assert second.attempt != first.attempt
    assert at(found) is State.CONNECT
    assert found.flaps == 0
    found.disable(NOW)
    found.events()
    found.reset(NOW)
    assert found.events() == []
    assert at(found) is State.IDLE


def test_rfc4486_3_max_prefixes_closes_with_family_and_limit_and_waits_for_the_restart_timer() -> None:
    found = peer(passive=True)
    up(found)
    found.exceed_prefix_limit(IPV4_UNICAST, 1000, NOW, restart=300)
    (end,) = closed(found.events())
    assert end.sent == Notification(6, 1, b"\0\1\1" + (1000).to_bytes(4, "big"))
    assert at(found) is State.IDLE
    assert isinstance(found.accepted(NOW + 299), Notification)
    assert found.next_timer() == NOW + 300
    found.handle_timer(NOW + 300)
    assert isinstance(found.accepted(NOW + 300), Session)


def test_max_prefixes_without_a_restart_time_lasts_until_enabled() -> None:
    found = peer(passive=True)
    up(found)
    found.exceed_prefix_limit(IPV4_UNICAST, 1000, NOW)
    assert found.next_timer() is None
    found.handle_timer(NOW + 1e9)
    assert at(found) is State.IDLE
    found.enable(NOW)
    assert at(found) is State.ACTIVE


def test_a_changed_configuration_resets_and_an_unchanged_one_does_not() -> None:
    found = peer(passive=True)
    session = up(found)
    found.configure(PeerConfig(config(passive=True), idle_hold_time=9), NOW)
    assert found.session is session
    assert found.events() == []
    found.configure(PeerConfig(config(passive=True, hold_time=30)), NOW)
    (end,) = closed(found.events())
    assert end.sent == Notification(6, 6)
    assert at(found) is State.ACTIVE
    assert let_in(found).config.hold_time == 30


def test_a_changed_configuration_can_wait_for_the_next_connection() -> None:
    found = peer(passive=True)
    session = up(found)
    found.configure(
        PeerConfig(config(offer(LOCAL_ASN, graceful_restart=graceful(restarting=True)))), NOW, keep=True
    )
    assert found.session is session


def test_a_changed_configuration_replaces_an_attempt_under_way() -> None:
    found = peer()
    first = requested(found)
    found.configure(PeerConfig(config(hold_time=30)), NOW)
    assert found.events() == [ConnectCancelled(first), ConnectRequested(first + 1)]
    found.configure(PeerConfig(config(hold_time=30, passive=True)), NOW)
    assert found.events() == [ConnectCancelled(first + 1)]
    assert at(found) is State.ACTIVE


def test_a_changed_configuration_does_not_wake_a_disabled_peer() -> None:
    found = peer(enabled=False)
    found.configure(PeerConfig(config(hold_time=30)), NOW)
    assert found.events() == []
    assert at(found) is State.IDLE


def test_the_owners_complaint_ends_the_session_with_its_notification() -> None:
    found = peer(passive=True)
    session = up(found)
    found.fail(session, ProtocolError(3, 10, "a prefix that cannot be"), NOW)
    (end,) = closed(found.events())
    assert end.sent == Notification(3, 10)
    assert found.session is None


def test_the_hold_timer_of_a_session_is_the_peers_to_watch() -> None:
    found = peer(passive=True)
    session = up(found)
    assert found.next_timer() == session.next_timer()
    found.handle_timer(NOW + 90)
    (end,) = closed(found.events())
    assert end.sent == Notification(4)
    assert found.counters.last_error == end.reason
    assert found.counters.last_closed == NOW + 90
    assert found.counters.established_since is None


def test_messages_are_counted_over_all_connections() -> None:
    found = peer(passive=True)
    for _ in range(3):
        found.connection_lost(up(found), NOW)
    assert found.counters.messages.received.opens == 3
    assert (found.counters.established, found.counters.closed) == (3, 3)


def test_events_name_their_session_in_order() -> None:
    found = peer(passive=True)
    session = let_in(found)
    found.receive_data(session, peer_open() + KEEPALIVE + encode(Notification(6, 4)), NOW)
    events = [event for event in found.events() if isinstance(event, SessionEvent)]
    assert {event.session for event in events} == {session}
    assert [type(event.event).__name__ for event in events] == ["Opened", "Established", "Closed"]
    assert isinstance(events[1].event, Established)


@pytest.mark.parametrize("subcode", [CeaseSubcode.PEER_DECONFIGURED, CeaseSubcode.OUT_OF_RESOURCES])
def test_disable_takes_the_reason_it_is_given(subcode: CeaseSubcode) -> None:
    found = peer(passive=True)
    up(found)
    found.disable(NOW, subcode=subcode)
    (end,) = closed(found.events())
    assert end.sent == Notification(6, subcode)


@pytest.mark.parametrize(
    ("ours", "theirs", "told", "kept"),
    [
        (graceful(), graceful(), None, True),
        (graceful(notification=True), graceful(), None, True),
        (graceful(notification=True), graceful(notification=True), Notification(6, 4, b"\7upgrade"), True),
        (graceful(notification=True), None, Notification(6, 4, b"\7upgrade"), False),
        (None, graceful(notification=True), Notification(6, 4, b"\7upgrade"), False),
    ],
)
def test_rfc4724_4_1_and_rfc8538_3_we_leave_for_a_restart_so_that_routes_are_kept(
    ours: GracefulRestart | None, theirs: GracefulRestart | None, told: Notification | None, kept: bool
) -> None:
    """Without a NOTIFICATION, or with one where both sides have said that it is graceful."""
    found = Peer(PeerConfig(config(offer(LOCAL_ASN, graceful_restart=ours))))
    found.enable(NOW)
    session = let_in(found)
    bring_up(found, session, theirs=peer_open(capabilities=offer(LOCAL_ASN, graceful_restart=theirs)))
    found.events()
    session.data_to_send()
    found.leave(NOW, "upgrade")
    (end,) = closed(found.events())
    assert end.sent == told
    assert bool(end.retain) == kept
    assert sent(session.data_to_send()) == ([] if told is None else [told])
    assert found.state is State.IDLE
    assert found.next_timer() is None
    assert isinstance(found.accepted(NOW), Notification)


def test_who_opens_the_connection_changes_while_there_is_none() -> None:
    """A node that becomes a client connects at once; were it to go on waiting, both ends would for ever."""
    found = peer(passive=True)
    found.configure(PeerConfig(config()), NOW, keep=True)
    attempt = requested(found)
    found.configure(PeerConfig(config(passive=True)), NOW, keep=True)
    assert found.events() == [ConnectCancelled(attempt)]
    assert at(found) is State.ACTIVE
    assert found.next_timer() is None  # one that becomes a reflector tries no more


def test_who_opens_the_connection_changes_under_a_session() -> None:
    found = peer(passive=True)
    session = up(found)
    found.configure(PeerConfig(config()), NOW, keep=True)
    assert found.events() == []
    assert session.state is State.ESTABLISHED
    found.connection_lost(session, NOW)
    found.events()
    due = found.next_timer()
    assert due is not None
    found.handle_timer(due)
    assert requested(found)


def test_who_opens_the_connection_changes_while_held_idle() -> None:
    found = peer(passive=True, tolerated_flaps=0)
    found.connection_lost(up(found), NOW)
    assert at(found) is State.IDLE
    due = found.next_timer()
    found.events()
    found.configure(PeerConfig(config(), tolerated_flaps=0), NOW, keep=True)
    assert (found.events(), found.next_timer()) == ([], due)
