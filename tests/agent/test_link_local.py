"""Link-local next hops, as peers tell them."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from agent.link_local import beside, teller
from bgpd.wire.attributes import AttributeSet
from bgpd.wire.capabilities import Capabilities
from bgpd.wire.messages import Open
from bgpd.wire.nlri import IPV4_UNICAST, IPV6_UNICAST
from bgpd.wire.update import Reach, encode_updates
from tests.agent.telling import ASN, Cluster, peering

ATTRIBUTES = bytes.fromhex("40010100 400200")
NLRI = b"\x40\x20\x01\x0d\xb8\0\0\0\0"


PEER = ip_address("2001:db8::9")


def told(next_hops: str) -> bytes:
    octets = b"".join(ip_address(each).packed for each in next_hops.split())
    reach = Reach(IPV6_UNICAST, AttributeSet.of(ATTRIBUTES, octets), [NLRI], NLRI)
    found = beside(reach, PEER)
    assert (found.family, found.attributes.raw, found.nlri, found.raw) == (
        (reach.family, ATTRIBUTES, reach.nlri, reach.raw)
    )
    return found.attributes.next_hop


@pytest.mark.parametrize(
    "next_hops", ["fe80::1", ":: fe80::1", "fe80::1 fe80::1", "fe80::1 fe80::2", "fe80::1 2001:db8::2"]
)
def test_rfc2545_3_the_peer_stands_behind_a_link_local_next_hop(next_hops: str) -> None:
    found = told(next_hops)
    assert found[:16] == ip_address("fe80::1").packed
    assert teller(found) == PEER.packed


@pytest.mark.parametrize("next_hops", ["2001:db8::1", "2001:db8::1 fe80::1", "2001:db8::1 ::", "::"])
def test_other_next_hops_are_left_alone(next_hops: str) -> None:
    found = told(next_hops)
    assert found == b"".join(ip_address(each).packed for each in next_hops.split())
    assert teller(found) is None


def test_so_are_those_of_ipv4() -> None:
    attributes = AttributeSet.of(ATTRIBUTES + bytes.fromhex("4003040a000009"))
    reach = Reach(IPV4_UNICAST, attributes, [b"\0"], b"\0")
    assert beside(reach, ip_address("10.0.0.9")) is reach
    assert teller(attributes.next_hop) is None


def test_what_a_peer_tells_leads_over_its_own_link() -> None:
    cluster, link_local = Cluster(peering(str(PEER))), ip_address("fe80::1").packed
    opened = Open(ASN, 90, b"\x0a\0\0\x09", Capabilities(frozenset({IPV6_UNICAST}), asn4=ASN)).body()
    cluster.learned.session_up(str(PEER), opened, opened, adopted=False, now=0.0)
    for next_hop in (link_local, bytes(16) + link_local):
        [message] = encode_updates(IPV6_UNICAST, ATTRIBUTES, next_hop, [NLRI])
        cluster.update(str(PEER), message)
        cluster.learned.take_changes()
        assert cluster.learned.next_hops(IPV6_UNICAST, NLRI) == (link_local + PEER.packed,)
