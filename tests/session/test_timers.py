"""Hold, keepalive and send hold timers, by a clock that the test turns."""

import pytest

from bgpd.session.fsm import State
from bgpd.session.timers import keepalive_interval
from bgpd.wire.messages import KEEPALIVE, MARKER, Keepalive, Notification

from .speakers import (
    NOW,
    announcement,
    closing,
    config,
    established,
    openconfirm,
    opensent,
    peer_open,
    refresh,
    sent,
)


def test_rfc4271_8_2_2_the_peers_open_is_waited_for_four_minutes() -> None:
    session = opensent()
    assert session.next_timer() == NOW + 240
    session.handle_timer(NOW + 239)
    assert session.state is State.OPENSENT
    session.handle_timer(NOW + 240)
    assert closing(session).sent == Notification(4)


@pytest.mark.parametrize("make", [openconfirm, established])
def test_rfc4271_6_5_silence_for_the_hold_time_is_answered_4_0(make: object) -> None:
    session = openconfirm() if make is openconfirm else established()
    session.handle_timer(NOW + 89)
    assert not session.closed
    session.handle_timer(NOW + 90)
    closed = closing(session)
    assert closed.sent == Notification(4)
    assert closed.counts


@pytest.mark.parametrize("data", [KEEPALIVE, announcement()])
def test_rfc4271_8_2_2_keepalive_and_update_restart_the_hold_timer(data: bytes) -> None:
    session = established()
    session.receive_data(data, NOW + 80)
    session.handle_timer(NOW + 169)
    assert session.state is State.ESTABLISHED
    session.handle_timer(NOW + 170)
    assert session.closed


def test_rfc4271_8_2_2_part_of_a_message_or_a_refresh_does_not_restart_the_hold_timer() -> None:
    session = established()
    session.receive_data(refresh(), NOW + 80)
    session.receive_data(MARKER, NOW + 85)
    session.handle_timer(NOW + 90)
    assert closing(session).sent == Notification(4)


def test_an_update_before_a_refresh_in_one_piece_restarts_the_hold_timer() -> None:
    session = established()
    session.receive_data(announcement() + refresh(), NOW + 80)
    session.handle_timer(NOW + 169)
    assert session.state is State.ESTABLISHED


def test_rfc4271_4_4_keepalives_go_out_three_times_per_hold_time() -> None:
    session = established()
    now = NOW
    while now < NOW + 300:
        due = session.next_timer()
        assert due is not None
        assert due <= now + 30
        now = due
        session.receive_data(KEEPALIVE, now)
        session.handle_timer(now)
        assert sent(session.data_to_send()) == [Keepalive()]


def test_rfc4271_10_keepalives_are_jittered_anew_each_time() -> None:
    factors = iter([0.75, 1.0, 0.8, 0.9, 0.75, 0.75])
    session = established(jitter=lambda: next(factors))
    first = session.next_timer()
    assert first is not None
    session.handle_timer(first)
    second = session.next_timer()
    assert second is not None
    assert {first - NOW, second - first} <= {30 * f for f in (0.75, 1.0, 0.8, 0.9)}
    assert first - NOW != second - first


@pytest.mark.parametrize("hold_time", [3, 4, 9])
def test_rfc4271_4_4_keepalives_must_not_be_sent_more_than_once_a_second(hold_time: int) -> None:
    session = established(config(hold_time=hold_time, keepalive_time=0.1), jitter=lambda: 0.75)
    assert session.next_timer() == NOW + 1


def test_the_configured_keepalive_time_holds_unless_it_is_too_long() -> None:
    assert keepalive_interval(90, None) == 30
    assert keepalive_interval(90, 10) == 10
    assert keepalive_interval(9, 60) == 3
    assert keepalive_interval(0, 10) == float("inf")


def test_rfc4271_4_4_a_hold_time_of_zero_means_no_keepalives_and_no_timers() -> None:
    session = established(theirs=peer_open(hold_time=0))
    assert session.next_timer() is None
    session.handle_timer(NOW + 1e6)
    session.sent(NOW)
    assert session.next_timer() is None
    assert session.data_to_send() == b""
    assert session.state is State.ESTABLISHED


def test_rfc4271_8_2_2_a_sent_update_takes_the_place_of_a_keepalive() -> None:
    session = established()
    session.sent(NOW + 29, updates=1)
    session.receive_data(KEEPALIVE, NOW + 29)
    session.handle_timer(NOW + 58)
    assert session.data_to_send() == b""
    session.handle_timer(NOW + 59)
    assert sent(session.data_to_send()) == [Keepalive()]


def test_rfc9687_4_a_peer_that_takes_nothing_is_given_up_with_8_0() -> None:
    session = established()
    for minute in range(1, 17):  # it talks, but nothing of ours gets out
        session.receive_data(KEEPALIVE, NOW + 30 * minute - 1)
        session.handle_timer(NOW + 30 * minute - 1)
        assert not session.closed
    session.handle_timer(NOW + 480)
    assert closing(session).sent == Notification(8)


def test_rfc9687_4_every_octet_the_peer_takes_restarts_the_send_hold_timer() -> None:
    session = established(config(send_hold_time=100.0))
    session.sent(NOW + 60)
    session.receive_data(KEEPALIVE, NOW + 80)
    session.handle_timer(NOW + 100)
    assert not session.closed
    session.receive_data(KEEPALIVE, NOW + 155)
    session.handle_timer(NOW + 160)
    assert closing(session).sent == Notification(8)


def test_rfc9687_5_the_send_hold_time_is_the_larger_of_eight_minutes_and_twice_the_hold_time() -> None:
    session = established(config(hold_time=600), peer_open(hold_time=600))
    for second in (300, 700, 1100, 1199):
        session.receive_data(KEEPALIVE, NOW + second)
        session.handle_timer(NOW + second)
    assert not session.closed
    session.handle_timer(NOW + 1200)
    assert closing(session).sent == Notification(8)


def test_rfc9687_4_the_send_hold_timer_can_be_turned_off() -> None:
    session = established(config(send_hold_time=0))
    for second in range(80, 4000, 80):
        session.receive_data(KEEPALIVE, NOW + second)
        session.handle_timer(NOW + second)
    assert not session.closed
