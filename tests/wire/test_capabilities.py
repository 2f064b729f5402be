"""Capabilities: what is ignored, what is refused, and what two sides agree on."""

from itertools import product

import pytest

from bgpd.wire.capabilities import ROLE_PAIRS, AddPath, Capabilities, Fqdn, GracefulRestart, Negotiated
from bgpd.wire.errors import ProtocolError
from bgpd.wire.iana import Role
from bgpd.wire.messages import Open, negotiate
from bgpd.wire.nlri import IPV4_UNICAST, IPV6_UNICAST, Family


def agreed(ours: Capabilities, theirs: Capabilities, peer_asn: int = 65001) -> Negotiated:
    return negotiate(Open(65000, 90, b"\1\1\1\1", ours), Open(peer_asn, 90, b"\2\2\2\2", theirs))


@pytest.mark.parametrize(
    ("code", "value"),
    [
        (1, "0001"),
        (5, "000100"),
        (9, "00000001"),
        (9, "0505"),
        (9, ""),
        (64, "78"),
        (64, "00780001018 0ff".replace(" ", "")),
        (64, ""),
        (69, "000101"),
        (71, "000101"),
        (73, ""),
        (73, "ff41"),
        (73, "0141ff"),
        (75, ""),
        (75, "00"),
        (75, "4041414141"),
    ],
)
def test_rfc5492_3_a_capability_without_sense_is_ignored_and_kept(code: int, value: str) -> None:
    octets = bytes.fromhex(value)
    found = Capabilities.decode(bytes((code, len(octets))) + octets)
    assert found == Capabilities(unknown=((code, octets),))


def test_rfc5492_3_repeated_capabilities_are_no_error() -> None:
    found = Capabilities.decode(bytes((2, 0)) * 100 + bytes.fromhex("010400010001") * 20)
    assert found == Capabilities(frozenset({IPV4_UNICAST}), route_refresh=True)


@pytest.mark.parametrize("data", ["01", "0105 00010001", "02 01"])
def test_rfc5492_4_overrun_is_an_error(data: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        Capabilities.decode(bytes.fromhex(data))
    assert (caught.value.code, caught.value.subcode) == (2, 0)


@pytest.mark.parametrize("size", [0, 2, 5])
def test_rfc6793_3_four_octet_as_capability_of_wrong_length(size: int) -> None:
    with pytest.raises(ProtocolError) as caught:
        Capabilities.decode(bytes((65, size)) + b"\1" * size)
    assert (caught.value.code, caught.value.subcode) == (2, 0)


def test_rfc7911_4_strange_modes_are_ignored() -> None:
    found = Capabilities.decode(bytes.fromhex("450c 00010103 00020100 00020204"))
    assert found.add_path == ((IPV4_UNICAST, AddPath.SEND | AddPath.RECEIVE),)


def test_rfc4724_3_flags() -> None:
    found = Capabilities.decode(bytes.fromhex("4006 c078 00010180"))
    assert found.graceful_restart == GracefulRestart(120, True, True, ((IPV4_UNICAST, True),))
    assert Capabilities(graceful_restart=found.graceful_restart).encode() == bytes.fromhex(
        "4006 c078 00010180"
    )


def test_rfc8538_2_n_bit_alone() -> None:
    found = Capabilities.decode(bytes.fromhex("4002 4000"))
    assert found.graceful_restart == GracefulRestart(notification=True)


def test_rfc4724_3_last_instance_counts() -> None:
    found = Capabilities.decode(bytes.fromhex("4002 0078 4002 003c"))
    assert found.graceful_restart == GracefulRestart(60)


def test_rfc9494_3_1_stale_time_has_three_octets() -> None:
    found = Capabilities.decode(bytes.fromhex("4707 000101 80 015180"))
    assert found.long_lived == ((IPV4_UNICAST, True, 86400),)


def test_fqdn_and_version_cannot_forge_log_lines() -> None:
    found = Capabilities.decode(bytes.fromhex("4906 03610a62 0178") + bytes((75, 4)) + b"\3\xff\r\n")
    assert found.fqdn == Fqdn("a\\nb", "x")
    assert found.software_version == "\\xff\\r\\n"


def test_rfc4760_8_families_are_those_of_both() -> None:
    both = frozenset({IPV4_UNICAST, IPV6_UNICAST})
    assert agreed(Capabilities(both), Capabilities(frozenset({IPV6_UNICAST}))).families == {IPV6_UNICAST}


def test_rfc4760_8_no_multiprotocol_capability_means_ipv4_unicast() -> None:
    both = frozenset({IPV4_UNICAST, IPV6_UNICAST})
    assert agreed(Capabilities(both), Capabilities()).families == {IPV4_UNICAST}
    assert agreed(Capabilities(frozenset({IPV6_UNICAST})), Capabilities()).families == frozenset()


def test_rfc6793_3_four_octets_only_if_both_speak_them() -> None:
    assert agreed(Capabilities(asn4=65000), Capabilities(asn4=65001)).asn4
    assert not agreed(Capabilities(asn4=65000), Capabilities()).asn4
    assert not agreed(Capabilities(), Capabilities(asn4=65001)).asn4


def test_rfc8654_4_extended_message_needs_both() -> None:
    assert (
        agreed(Capabilities(extended_message=True), Capabilities(extended_message=True)).max_length == 65535
    )
    assert agreed(Capabilities(extended_message=True), Capabilities()).max_length == 4096


@pytest.mark.parametrize(("ours", "theirs"), list(product(range(4), range(4))))
def test_rfc7911_4_add_path_needs_a_sender_and_a_receiver(ours: int, theirs: int) -> None:
    found = agreed(
        Capabilities(add_path=((IPV4_UNICAST, AddPath(ours)),)),
        Capabilities(add_path=((IPV4_UNICAST, AddPath(theirs)), (IPV6_UNICAST, AddPath(3)))),
    )
    assert bool(found.add_path_receive) is bool(ours & 1 and theirs & 2)
    assert bool(found.add_path_send) is bool(ours & 2 and theirs & 1)
    assert found.add_path_receive | found.add_path_send <= {IPV4_UNICAST}


def test_rfc8950_4_extended_next_hop_needs_both() -> None:
    entry = ((IPV4_UNICAST, 2), (Family(1, 128), 2))
    assert agreed(
        Capabilities(extended_next_hop=entry), Capabilities(extended_next_hop=entry)
    ).extended_next_hop == {IPV4_UNICAST}
    assert not agreed(Capabilities(extended_next_hop=entry), Capabilities()).extended_next_hop


def test_rfc7313_4_refresh_needs_both() -> None:
    full = Capabilities(route_refresh=True, enhanced_refresh=True)
    assert agreed(full, full).enhanced_refresh
    assert agreed(full, full).route_refresh
    assert not agreed(full, Capabilities(route_refresh=True)).enhanced_refresh


def test_rfc4724_3_graceful_restart_is_the_peers() -> None:
    ours, theirs = GracefulRestart(10), GracefulRestart(20, families=((IPV4_UNICAST, True),))
    assert (
        agreed(Capabilities(graceful_restart=ours), Capabilities(graceful_restart=theirs)).graceful_restart
        == theirs
    )
    assert agreed(Capabilities(), Capabilities(graceful_restart=theirs)).graceful_restart is None


def test_rfc9494_4_1_long_lived_needs_graceful_restart() -> None:
    lived = ((IPV4_UNICAST, True, 600),)
    full = Capabilities(graceful_restart=GracefulRestart(), long_lived=lived)
    assert agreed(full, full).long_lived == lived
    assert agreed(full, Capabilities(long_lived=lived)).long_lived == ()


@pytest.mark.parametrize(("ours", "theirs"), list(product(Role, Role)))
def test_rfc9234_4_2_roles_must_fit(ours: Role, theirs: Role) -> None:
    fits = {(0, 3), (3, 0), (1, 2), (2, 1), (4, 4)}
    if (ours, theirs) in fits:
        assert agreed(Capabilities(role=ours), Capabilities(role=theirs)).peer_role == theirs
    else:
        with pytest.raises(ProtocolError) as caught:
            agreed(Capabilities(role=ours), Capabilities(role=theirs))
        assert (caught.value.code, caught.value.subcode) == (2, 11)
    assert {(int(a), int(b)) for a, b in ROLE_PAIRS} == fits


@pytest.mark.parametrize("value", [5, 7, 255])
def test_rfc9234_4_2_a_role_that_nobody_has_assigned_does_not_fit(value: int) -> None:
    remote = Capabilities.decode(bytes((9, 1, value)))
    assert Capabilities.decode(remote.encode()) == remote
    for ours in Role:
        with pytest.raises(ProtocolError) as caught:
            agreed(Capabilities(role=ours), remote)
        assert (caught.value.code, caught.value.subcode) == (2, 11)
        assert agreed(Capabilities(role=ours), remote, peer_asn=65000).internal
    assert agreed(Capabilities(), remote).peer_role is None
    with pytest.raises(ProtocolError) as caught:
        Capabilities.decode(bytes((9, 1, 3, 9, 1, value)))
    assert (caught.value.code, caught.value.subcode) == (2, 11)


def test_rfc9234_4_2_roles_of_internal_peers_and_of_one_side_do_not_matter() -> None:
    role = Capabilities(role=Role.PROVIDER)
    assert agreed(role, role, peer_asn=65000).internal
    assert agreed(role, Capabilities()).peer_role is None


def test_rfc9234_4_2_contradicting_roles_in_one_open() -> None:
    assert Capabilities.decode(bytes.fromhex("090103 090103")).role == Role.CUSTOMER
    with pytest.raises(ProtocolError) as caught:
        Capabilities.decode(bytes.fromhex("090100 090103"))
    assert (caught.value.code, caught.value.subcode) == (2, 11)
