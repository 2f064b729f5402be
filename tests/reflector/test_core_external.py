"""Peers of other ASes: what they are told and in which words, what of theirs counts, and roles."""

from typing import Any

import pytest

from bgpd.plan.policy import CompiledFilter, Rule
from bgpd.rib.path import SourceKind
from bgpd.wire.iana import Role, SegmentType
from bgpd.wire.nlri import IPV6_UNICAST
from tests.reflector.simulated import (
    ASN,
    SimulatedPeer,
    address,
    external,
    path_of,
    reflector,
    settle,
    why,
)

CLIENT, NON_CLIENT, EXTERNAL = SourceKind.CLIENT, SourceKind.NON_CLIENT, SourceKind.EXTERNAL
P, Q, R = "10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24"
P6 = "2001:db8:1::/48"


def test_rfc4271_5_1_attributes_towards_another_as() -> None:
    core = reflector()
    a, x = SimulatedPeer(core, 1).up(), external(core, 5, 65100, own_next_hop=True).up()
    a.announce(P, local_pref=300, as_path=path_of(65200), med=4, originator_id=address("10.9.9.9"))
    settle(x)
    told = x.told(P)
    assert told.as_path == path_of(ASN, 65200)
    assert told.local_pref is None
    assert told.med is None
    assert told.originator_id is None
    assert told.cluster_list == ()
    assert told.next_hop == address("192.0.2.254")


def test_rfc4271_5_1_4_and_5_1_6_a_med_stays_inside_and_what_was_aggregated_stays_so() -> None:
    """A MED of our own AS's route is told, one from another AS is not; ATOMIC_AGGREGATE always stays."""
    core = reflector()
    a, b = SimulatedPeer(core, 1).up(), SimulatedPeer(core, 2).up()
    x, y = external(core, 5, 65100).up(), external(core, 6, 65101).up()
    aggregator = (65100, address("10.9.9.9"))
    a.announce(P, med=4, atomic_aggregate=True)
    x.announce(Q, med=7, atomic_aggregate=True, aggregator=aggregator)
    settle(b, y)
    assert [told.med for told in (b.told(P), b.told(Q), y.told(P), y.told(Q))] == [4, 7, 4, None]
    for told in (b.told(P), b.told(Q), y.told(P), y.told(Q)):
        assert told.atomic_aggregate
    assert b.told(Q).aggregator == y.told(Q).aggregator == aggregator


def test_rfc4271_5_1_2_b_our_number_goes_before_an_as_path_of_any_shape() -> None:
    sequence, a_set = SegmentType.AS_SEQUENCE, SegmentType.AS_SET
    full, some = tuple(range(65200, 65455)), (65200, 65201)
    core = reflector()
    a, x = SimulatedPeer(core, 1).up(), external(core, 5, 65100).up()
    for path, told in (
        ((), ((sequence, (ASN,)),)),
        (((sequence, full[:254]),), ((sequence, (ASN, *full[:254])),)),
        (((sequence, full),), ((sequence, (ASN,)), (sequence, full))),
        (((sequence, some), (a_set, some)), ((sequence, (ASN, *some)), (a_set, some))),
        (((a_set, some),), ((sequence, (ASN,)), (a_set, some))),
    ):
        a.announce(P, as_path=path)
        settle(x)
        assert x.told(P).as_path == told


def test_rfc5065_4_confederation_segments_stay_inside() -> None:
    core = reflector()
    a, b, x = SimulatedPeer(core, 1).up(), SimulatedPeer(core, 2).up(), external(core, 5, 65100).up()
    confederate = (SegmentType.AS_CONFED_SEQUENCE, (65001, 65002))
    a.announce(P, as_path=(confederate, *path_of(65200)))
    settle(b, x)
    assert b.told(P).as_path == (confederate, *path_of(65200))
    assert x.told(P).as_path == path_of(ASN, 65200)


def test_rfc4360_6_and_rfc7311_3_2_what_is_internal_stays_inside() -> None:
    core = reflector()
    a, b, x = SimulatedPeer(core, 1).up(), SimulatedPeer(core, 2).up(), external(core, 5, 65100).up()
    transitive, internal = bytes.fromhex("0002fde800000001"), bytes.fromhex("4004fde800000001")
    aigp = (0x80, 26, bytes.fromhex("01000b0000000000000018"))
    prefix_sid = (0xC0, 40, bytes.fromhex("01000700000000000000"[:20]))
    a.announce(P, extended_communities=(transitive, internal), unknown=(aigp, prefix_sid))
    a.announce(Q, extended_communities=(internal,))
    settle(b, x)
    assert b.told(P).extended_communities == (transitive, internal)
    assert b.told(P).value(26) == aigp[2]
    assert x.told(P).extended_communities == (transitive,)
    assert x.told(P).value(26) is x.told(P).value(40) is None
    assert not x.told(Q).extended_communities


def test_rfc2545_3_a_link_local_next_hop_stays_inside() -> None:
    core = reflector()
    a, b, x = SimulatedPeer(core, 1).up(), SimulatedPeer(core, 2).up(), external(core, 5, 65100).up()
    beyond, near = a.next_hop6, bytes.fromhex("fe80") + bytes(13) + b"\1"
    for next_hop, told in ((beyond + near, beyond), (near, None), (bytes(16) + near, None), (beyond, beyond)):
        a.announce(P6, next_hop=next_hop)
        settle(b, x)
        assert b.told(P6).next_hop == next_hop
        assert [path.attributes.next_hop for path in x.view[IPV6_UNICAST].values()] == (
            [told] if told else []
        )


def test_rfc5701_2_what_is_not_transitive_stays_inside() -> None:
    core = reflector()
    a, b, x = SimulatedPeer(core, 1).up(), SimulatedPeer(core, 2).up(), external(core, 5, 65100).up()
    transitive, internal = b"\0\2" + bytes(18), b"\x40\2" + bytes(18)
    a.announce(P, ipv6_extended_communities=(internal, transitive))
    a.announce(Q, ipv6_extended_communities=(internal,))
    settle(b, x)
    assert b.told(P).ipv6_extended_communities == (internal, transitive)
    assert x.told(P).ipv6_extended_communities == (transitive,)
    assert x.told(Q).value(25) is None


def test_rfc4271_5_1_5_local_pref_is_added_for_internal_peers() -> None:
    core = reflector()
    a, x = SimulatedPeer(core, 1).up(), external(core, 5, 65100).up()
    x.announce(P, med=9)
    settle(a)
    assert (a.told(P).local_pref, a.told(P).med) == (100, 9)
    assert a.told(P).next_hop == x.next_hop
    assert a.told(P).originator_id is None


def test_rfc4271_9_1_2_own_as_in_the_path_unless_allowed() -> None:
    core = reflector()
    x = external(core, 5, 65100).up()
    x.announce(P, as_path=path_of(65100, ASN))
    assert "AS loop" in why(core, P)
    y = external(core, 6, 65101, allowed_own_as=1).up()
    y.announce(Q, as_path=path_of(65101, ASN))
    assert not why(core, Q)
    y.announce(Q, as_path=path_of(65101, ASN, ASN))
    assert "AS loop" in why(core, Q)


@pytest.mark.parametrize(
    "more", [{"role": Role.CUSTOMER}, {"import_filters": (CompiledFilter("all", (Rule("a rule", True),)),)}]
)
def test_what_one_rule_refuses_no_later_one_lets_in(more: dict[str, Any]) -> None:
    core = reflector()
    external(core, 5, 65100, **more).up().announce(P, as_path=path_of(65100, ASN))
    assert "AS loop" in why(core, P)


def test_rfc4271_6_3_our_own_address_as_next_hop_is_ineligible() -> None:
    core = reflector()
    x = external(core, 5, 65100).up()
    x.announce(P, next_hop=address("192.0.2.254"))
    assert "own address" in why(core, P)


def test_rfc4271_6_3_a_path_of_another_as_begins_with_that_as() -> None:
    """Where it does not, it is ineligible and takes its predecessor away; a route server is spared."""
    core = reflector()
    strict, server = external(core, 5, 65100).up(), external(core, 6, 65101, enforce_first_as=False).up()
    a = SimulatedPeer(core, 1).up()
    strict.announce(P)
    server.announce(Q, as_path=path_of(65200))
    settle(a)
    assert a.prefixes == {P, Q}
    aggregate = (SegmentType.AS_SET, (65100, 65200))
    for path in (path_of(65200), path_of(65200, 65100), (aggregate,), (aggregate, *path_of(65100))):
        strict.announce(P, as_path=path)
        settle(a)
        assert a.prefixes == {Q}
        assert "does not begin with the peer's AS 65100" in why(core, P)
        strict.announce(P, as_path=path_of(65100, 65200))
        settle(a)
        assert a.prefixes == {P, Q}
    old = external(core, 7, 65107)
    old.capabilities["asn4"] = None
    old.up().announce(R, as_path=path_of(65107, 4200000001))
    settle(a)
    assert a.prefixes == {P, Q, R}


def test_local_as_towards_one_peer() -> None:
    """A peer that knows us as another AS sees that number only, and may not bring it back."""
    core = reflector()
    a, x = SimulatedPeer(core, 1).up(), external(core, 5, 65100, local_asn=64999).up()
    a.announce(P)
    settle(x)
    assert x.told(P).as_path == path_of(64999)
    x.announce(Q, as_path=path_of(65100, 64999))
    assert "AS loop" in why(core, Q)


def test_rfc6793_4_2_a_two_octet_peer_gets_as_trans_and_as4_path() -> None:
    core = reflector()
    a = SimulatedPeer(core, 1).up()
    old = SimulatedPeer(core, 2, capabilities={"asn4": None}).up()
    a.announce(P, as_path=path_of(4200000001, 65100))
    settle(old)
    assert old.told(P).as_path == path_of(4200000001, 65100)  # put together again by the receiver
    old.announce(Q, as_path=path_of(65100))
    settle(a)
    assert a.told(Q).as_path == path_of(65100)


# RFC 9234


@pytest.mark.parametrize(
    ("role", "otc", "leaked"),
    [
        (Role.PROVIDER, 65100, True),
        (Role.ROUTE_SERVER, 65100, True),
        (Role.PEER, 65100, False),
        (Role.PEER, 65101, True),
        (Role.CUSTOMER, 65101, False),
        (Role.ROUTE_SERVER_CLIENT, 65101, False),
        (Role.PROVIDER, None, False),
    ],
)
def test_rfc9234_5_leaks_are_ineligible(role: Role, otc: int | None, leaked: bool) -> None:
    core = reflector()
    x = external(core, 5, 65100, role=role).up()
    x.announce(P, otc=otc)
    assert ("route leak" in why(core, P)) is leaked


@pytest.mark.parametrize(
    ("role", "otc"),
    [
        (Role.CUSTOMER, 65100),
        (Role.ROUTE_SERVER_CLIENT, 65100),
        (Role.PEER, 65100),
        (Role.PROVIDER, None),
        (Role.ROUTE_SERVER, None),
        (None, None),
    ],
)
def test_rfc9234_5_ingress_marks_what_came_from_above_or_beside(role: Role | None, otc: int | None) -> None:
    core = reflector()
    a, x = SimulatedPeer(core, 1).up(), external(core, 5, 65100, role=role).up()
    x.announce(P)
    x.announce(P6)
    settle(a)
    assert a.told(P).otc == a.told(P6).otc == otc
    assert a.told(P6).next_hop == x.next_hop6


@pytest.mark.parametrize(
    ("role", "unmarked", "marked"),
    [
        (Role.PROVIDER, ASN, 65200),
        (Role.ROUTE_SERVER, ASN, 65200),
        (Role.PEER, ASN, None),
        (Role.CUSTOMER, 0, None),
        (Role.ROUTE_SERVER_CLIENT, 0, None),
    ],
)
def test_rfc9234_5_egress(role: Role, unmarked: int, marked: int | None) -> None:
    """`unmarked`: what is attached (0: nothing); `marked`: what a marked route carries (None: not told)."""
    core = reflector()
    a, x = SimulatedPeer(core, 1).up(), external(core, 5, 65100, role=role).up()
    a.announce(P)
    a.announce(Q, otc=65200)
    settle(x)
    assert (x.told(P).otc or 0) == unmarked
    assert (x.told(Q).otc if Q in x.prefixes else None) == marked
