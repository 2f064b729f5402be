"""What may be kept when a session ends: graceful restart and hard reset."""

import pytest

from bgpd.session.session import Session
from bgpd.wire.iana import CeaseSubcode
from bgpd.wire.messages import Notification, encode
from bgpd.wire.nlri import IPV4_UNICAST, Family

from .speakers import (
    BOTH,
    BROKEN_UPDATE,
    LOCAL_ASN,
    NOW,
    closing,
    config,
    established,
    graceful,
    offer,
    opensent,
    peer_open,
)

NOTHING: frozenset[Family] = frozenset()


def with_restart(*, n_bits: tuple[bool, bool] = (False, False)) -> Session:
    ours, theirs = n_bits
    return established(
        config(offer(LOCAL_ASN, graceful_restart=graceful(notification=ours))),
        peer_open(capabilities=offer(LOCAL_ASN, graceful_restart=graceful(notification=theirs))),
    )


def test_rfc4724_4_2_routes_are_kept_when_tcp_goes_away() -> None:
    session = with_restart()
    session.connection_lost(NOW)
    assert closing(session).retain == BOTH


def test_rfc4724_4_2_only_for_the_families_the_peer_has_listed() -> None:
    theirs = offer(LOCAL_ASN, graceful_restart=graceful(frozenset({IPV4_UNICAST, Family(25, 70)})))
    session = established(
        config(offer(LOCAL_ASN, graceful_restart=graceful())), peer_open(capabilities=theirs)
    )
    session.connection_lost(NOW)
    assert closing(session).retain == {IPV4_UNICAST}


def test_rfc4724_4_2_nothing_is_kept_unless_both_have_the_capability() -> None:
    capable, incapable = offer(LOCAL_ASN, graceful_restart=graceful()), offer(LOCAL_ASN)
    for ours, theirs in ((capable, incapable), (incapable, capable)):
        session = established(config(ours), peer_open(capabilities=theirs))
        session.connection_lost(NOW)
        assert closing(session).retain == NOTHING


@pytest.mark.parametrize("n_bits", [(False, False), (True, False), (False, True)])
def test_rfc4724_4_2_a_notification_keeps_nothing_without_both_n_bits(n_bits: tuple[bool, bool]) -> None:
    for end in (receive_cease, expire, break_protocol):
        session = with_restart(n_bits=n_bits)
        end(session)
        assert closing(session).retain == NOTHING


def test_rfc8538_4_a_notification_sent_or_received_keeps_routes_with_both_n_bits() -> None:
    for end in (receive_cease, expire, break_protocol):
        session = with_restart(n_bits=(True, True))
        end(session)
        assert closing(session).retain == BOTH


def test_rfc8538_4_a_hard_reset_keeps_nothing() -> None:
    session = with_restart(n_bits=(True, True))
    session.receive_data(encode(Notification(6, 9, b"\6\2")), NOW)
    assert closing(session).retain == NOTHING
    session = with_restart(n_bits=(True, True))
    session.shut_down(CeaseSubcode.ADMINISTRATIVE_RESET, "", NOW, hard=True)
    assert closing(session).retain == NOTHING


def test_rfc8538_3_1_a_reset_for_a_restart_is_not_hard() -> None:
    session = with_restart(n_bits=(True, True))
    session.shut_down(CeaseSubcode.ADMINISTRATIVE_RESET, "upgrade", NOW)
    closed = closing(session)
    assert closed.sent == Notification(6, 4, b"\7upgrade")
    assert closed.retain == BOTH


def test_a_session_that_was_never_up_has_nothing_to_keep() -> None:
    session = opensent(config(offer(LOCAL_ASN, graceful_restart=graceful())))
    session.connection_lost(NOW)
    assert closing(session).retain == NOTHING


def receive_cease(session: Session) -> None:
    session.receive_data(encode(Notification(6, 4)), NOW)


def expire(session: Session) -> None:
    session.handle_timer(NOW + 90)


def break_protocol(session: Session) -> None:
    session.receive_data(BROKEN_UPDATE, NOW)
