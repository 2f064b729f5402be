"""OPEN: what is accepted and what is answered with which NOTIFICATION."""

import pytest

from bgpd.session.config import SessionConfig
from bgpd.session.events import Opened
from bgpd.session.fsm import State
from bgpd.wire.capabilities import Capabilities, GracefulRestart
from bgpd.wire.iana import Role
from bgpd.wire.messages import Keepalive, Notification, Open
from bgpd.wire.nlri import IPV4_UNICAST, IPV6_UNICAST, Family

from .speakers import (
    LOCAL_ASN,
    LOCAL_ID,
    NOW,
    closing,
    complaint,
    config,
    established,
    four_octet_asn,
    offer,
    opensent,
    peer_open,
    raw_open,
    sent,
)


def answer(data: bytes, ours: SessionConfig | None = None) -> tuple[int, int] | None:
    """What an OPEN is answered with: a NOTIFICATION's code and subcode, or None for "accepted"."""
    session = opensent(ours)
    session.receive_data(data, NOW)
    if session.state is State.OPENCONFIRM:
        assert isinstance(sent(session.data_to_send())[0], Keepalive)
        return None
    return complaint(session)


def test_rfc4271_8_2_2_open_is_sent_when_the_connection_is_up_and_keepalive_after_theirs() -> None:
    session = opensent()
    session.receive_data(peer_open(), NOW)
    assert session.state is State.OPENCONFIRM
    assert sent(session.data_to_send()) == [Keepalive()]
    (opened,) = session.events()
    assert isinstance(opened, Opened)
    assert opened.open.asn == LOCAL_ASN


def test_rfc4271_4_2_our_open_carries_what_is_configured() -> None:
    ours = config(
        offer(4_200_000_000, families=frozenset({IPV4_UNICAST})), local_asn=4_200_000_000, hold_time=30
    )
    session = opensent()
    session = type(session)(ours, NOW, initiated=True)
    session.connected(NOW)
    assert sent(session.data_to_send()) == [Open(4_200_000_000, 30, LOCAL_ID, ours.capabilities)]


@pytest.mark.parametrize("version", [0, 3, 5, 255])
def test_rfc4271_6_2_unsupported_version_is_answered_2_1_with_the_version_we_speak(version: int) -> None:
    session = opensent()
    session.receive_data(raw_open(version=version), NOW)
    assert closing(session).sent == Notification(2, 1, b"\0\4")


def test_rfc4271_6_2_unexpected_as_is_answered_2_2() -> None:
    assert answer(peer_open(65001), config(peer_asn=65002)) == (2, 2)
    assert answer(peer_open(65002), config(peer_asn=65002)) is None


@pytest.mark.parametrize(
    ("internal", "asn", "expected"),
    [
        (True, LOCAL_ASN, None),
        (True, 65001, (2, 2)),
        (False, LOCAL_ASN, (2, 2)),
        (False, 65001, None),
        (None, LOCAL_ASN, None),
        (None, 65001, None),
    ],
)
def test_a_peer_without_configured_as_is_taken_by_kind(
    internal: bool | None, asn: int, expected: tuple[int, int] | None
) -> None:
    assert answer(peer_open(asn), config(internal=internal)) == expected


def test_rfc7607_2_as_0_is_answered_2_2_in_either_field() -> None:
    assert answer(raw_open(my_as=0)) == (2, 2)
    assert answer(raw_open(my_as=0, parameters=four_octet_asn(65001))) == (2, 2)
    assert answer(raw_open(my_as=65001, parameters=four_octet_asn(0))) == (2, 2)


def test_rfc6793_4_2_2_as_trans_needs_the_four_octet_capability() -> None:
    big = 4_200_000_001
    assert answer(raw_open(my_as=23456, parameters=four_octet_asn(big)), config(peer_asn=big)) is None
    assert answer(raw_open(my_as=23456)) == (2, 2)
    assert answer(raw_open(my_as=23456, parameters=four_octet_asn(23456))) == (2, 2)


def test_rfc6793_4_1_an_old_speaker_is_served_with_two_octets() -> None:
    session = established(config(), raw_open(my_as=65001))
    assert session.negotiated is not None
    assert not session.negotiated.asn4
    assert session.negotiated.peer_asn == 65001


@pytest.mark.parametrize("hold_time", [1, 2])
def test_rfc4271_4_2_hold_time_of_one_or_two_seconds_must_be_rejected(hold_time: int) -> None:
    assert answer(raw_open(hold_time=hold_time)) == (2, 6)


@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"), [(90, 30, 30), (30, 90, 30), (90, 3, 3), (90, 0, 0), (0, 90, 0)]
)
def test_rfc4271_4_2_hold_time_is_the_smaller_of_both(ours: int, theirs: int, agreed: int) -> None:
    session = established(config(hold_time=ours), peer_open(hold_time=theirs))
    assert session.negotiated is not None
    assert session.negotiated.hold_time == agreed


def test_rfc6286_2_1_bgp_identifier_zero_is_answered_2_3() -> None:
    assert answer(raw_open(bgp_identifier=bytes(4))) == (2, 3)


def test_rfc6286_2_2_our_own_identifier_on_an_internal_session_is_answered_2_3() -> None:
    assert answer(peer_open(LOCAL_ASN, LOCAL_ID)) == (2, 3)
    assert answer(peer_open(65001, LOCAL_ID)) is None  # unique within an AS is enough


def test_rfc4271_6_2_an_unknown_optional_parameter_is_answered_2_4() -> None:
    assert answer(raw_open(parameters=b"\x01\x00")) == (2, 4)


def test_rfc5492_3_missing_required_families_are_answered_2_7_with_their_capabilities() -> None:
    ours = config(required_families=frozenset({IPV4_UNICAST, IPV6_UNICAST}))
    session = opensent(ours)
    session.receive_data(peer_open(capabilities=offer(LOCAL_ASN, families=frozenset({IPV4_UNICAST}))), NOW)
    assert closing(session).sent == Notification(2, 7, bytes.fromhex("010400020001"))
    assert answer(peer_open(), ours) is None


def test_rfc5492_3_an_unknown_capability_ends_nothing() -> None:
    assert answer(peer_open(capabilities=offer(LOCAL_ASN, unknown=((200, b"abc"),)))) is None


def test_rfc4760_8_an_open_without_capabilities_means_ipv4_unicast() -> None:
    session = established(config(), raw_open())
    assert session.negotiated is not None
    assert session.negotiated.families == {IPV4_UNICAST}


def test_rfc4760_8_a_family_only_one_side_knows_is_not_used() -> None:
    theirs = offer(LOCAL_ASN, families=frozenset({IPV6_UNICAST, Family(25, 70)}))
    session = established(config(), peer_open(capabilities=theirs))
    assert session.negotiated is not None
    assert session.negotiated.families == {IPV6_UNICAST}


PAIRS = {
    (Role.PROVIDER, Role.CUSTOMER),
    (Role.CUSTOMER, Role.PROVIDER),
    (Role.ROUTE_SERVER, Role.ROUTE_SERVER_CLIENT),
    (Role.ROUTE_SERVER_CLIENT, Role.ROUTE_SERVER),
    (Role.PEER, Role.PEER),
}


@pytest.mark.parametrize("ours", list(Role))
@pytest.mark.parametrize("theirs", list(Role))
def test_rfc9234_4_2_roles_must_correspond_or_2_11(ours: Role, theirs: Role) -> None:
    got = answer(
        peer_open(65001, capabilities=offer(65001, role=theirs)), config(offer(LOCAL_ASN, role=ours))
    )
    assert got == (None if (ours, theirs) in PAIRS else (2, 11))


def test_rfc9234_4_2_strict_mode_demands_a_role() -> None:
    role = offer(LOCAL_ASN, role=Role.PROVIDER)
    assert answer(peer_open(65001), config(role)) is None
    assert answer(peer_open(65001), config(role, strict_role=True)) == (2, 11)


def test_rfc9234_4_1_roles_mean_nothing_on_an_internal_session() -> None:
    ours = config(offer(LOCAL_ASN, role=Role.PROVIDER), strict_role=True)
    assert answer(peer_open(capabilities=offer(LOCAL_ASN, role=Role.PROVIDER)), ours) is None
    assert answer(peer_open(), ours) is None


def test_rfc4724_3_the_peers_restart_state_and_forwarding_bits_are_told() -> None:
    theirs = GracefulRestart(90, True, True, ((IPV4_UNICAST, True), (IPV6_UNICAST, False)))
    ours = config(offer(LOCAL_ASN, graceful_restart=GracefulRestart()))
    session = established(ours, peer_open(capabilities=offer(LOCAL_ASN, graceful_restart=theirs)))
    assert session.negotiated is not None
    restart = session.negotiated.graceful_restart
    assert restart is not None
    assert restart.restarting
    assert dict(restart.families) == {IPV4_UNICAST: True, IPV6_UNICAST: False}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("local_asn", 0),
        ("local_asn", 1 << 32),
        ("peer_asn", 0),
        ("bgp_identifier", bytes(4)),
        ("bgp_identifier", b"\1\2\3"),
        ("hold_time", 1),
        ("hold_time", 65536),
    ],
)
def test_a_configuration_that_no_open_could_carry_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        config(Capabilities(), **{field: value})
