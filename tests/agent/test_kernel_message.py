"""Packed route messages against pyroute2's own encoder and decoder as the oracle."""

from __future__ import annotations

import socket
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from agent.kernel import message
from agent.kernel.message import ANY, Place, RouteEntry, pack, unpack
from agent.kernel.route import BLACKHOLE, Hop, KernelRoute, RouteType, unicast, workload

PLACE = Place(254, 1024, 81)


def oracle(data: bytes) -> Any:
    decoded = rtmsg(data)
    decoded.decode()
    return decoded


def nlri(text: str) -> bytes:
    network = ip_network(text)
    return bytes((network.prefixlen,)) + network.network_address.packed[: network.prefixlen + 7 >> 3]


def test_a_single_gateway() -> None:
    route = unicast(Hop(bytes((10, 0, 0, 2)), 3))
    data = pack(
        message.RTM_NEWROUTE, message.NLM_F_CREATE, 7, socket.AF_INET, nlri("10.1.0.0/26"), PLACE, route
    )
    decoded = oracle(data)
    assert decoded["header"]["length"] == len(data)
    assert decoded["header"]["sequence_number"] == 7
    assert decoded["header"]["flags"] == message.NLM_F_REQUEST | message.NLM_F_CREATE
    assert (decoded["dst_len"], decoded["proto"], decoded["type"], decoded["scope"]) == (26, 81, 1, 0)
    for name, value in (
        ("dst", "10.1.0.0"),
        ("gateway", "10.0.0.2"),
        ("oif", 3),
        ("priority", 1024),
        ("table", 254),
    ):
        assert decoded.get(name) == value


def test_a_workload_route_has_link_scope() -> None:
    decoded = oracle(pack(24, 0, 1, socket.AF_INET, nlri("10.1.0.7/32"), PLACE, workload(9)))
    assert decoded["scope"] == 253
    assert decoded.get("oif") == 9
    assert decoded.get("gateway") is None


def test_multipath_with_onlink_and_weights() -> None:
    route = unicast(Hop(bytes((10, 0, 0, 2)), 3, True), Hop(bytes((10, 0, 1, 2)), 4, False, 5))
    decoded = oracle(pack(24, 0, 1, socket.AF_INET, nlri("10.1.0.0/16"), PLACE, route))
    hops = decoded.get("multipath")
    assert [(hop["oif"], hop["hops"], hop["flags"], hop.get("gateway")) for hop in hops] == [
        (3, 0, 4, "10.0.0.2"),
        (4, 4, 0, "10.0.1.2"),
    ]


def test_an_ipv6_next_hop_of_an_ipv4_route_is_a_via() -> None:
    gateway = socket.inet_pton(socket.AF_INET6, "fe80::1")
    decoded = oracle(pack(24, 0, 1, socket.AF_INET, nlri("10.1.0.0/16"), PLACE, unicast(Hop(gateway, 3))))
    assert decoded.get("via") == {"family": socket.AF_INET6, "addr": "fe80::1"}


def test_a_table_beyond_one_octet() -> None:
    place = Place(5000, 7, 81)
    decoded = oracle(pack(24, 0, 1, socket.AF_INET6, nlri("2001:db8::/64"), place, BLACKHOLE))
    assert (decoded["table"], decoded.get("table"), decoded["type"]) == (0, 5000, 6)


def test_a_removal_names_our_protocol_and_any_shape() -> None:
    decoded = oracle(pack(message.RTM_DELROUTE, 0, 1, socket.AF_INET, nlri("10.1.0.0/16"), PLACE, ANY))
    assert (decoded["proto"], decoded["scope"], decoded["type"]) == (81, 255, 0)
    assert decoded.get("oif") is None


octets = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)


@st.composite
def entries(draw: st.DrawFn) -> RouteEntry:
    family = draw(st.sampled_from((socket.AF_INET, socket.AF_INET6)))
    bits = 32 if family == socket.AF_INET else 128
    length = draw(st.integers(0, bits))
    raw = draw(st.integers(0, 2**length - 1)) << bits - length
    prefix = bytes((length,)) + raw.to_bytes(bits // 8, "big")[: length + 7 >> 3]
    gateways = octets if family == socket.AF_INET else st.binary(min_size=16, max_size=16)
    hop = st.builds(Hop, gateways | st.just(b""), st.integers(1, 2**31 - 1), st.booleans(), st.just(1))
    hops = draw(st.lists(hop, min_size=1, max_size=4))
    if len(hops) > 1:
        hops = [one._replace(weight=draw(st.integers(1, 256))) for one in hops]
    route = draw(st.just(BLACKHOLE) | st.just(unicast(*hops)))
    if len(route.hops) == 1:
        route = unicast(route.hops[0]._replace(weight=1))
    place = draw(st.builds(Place, st.integers(1, 2**32 - 1), st.integers(1, 2**32 - 1), st.integers(1, 255)))
    return RouteEntry(family, prefix, place.table, place.metric, place.protocol, route)


@settings(max_examples=300, deadline=None)
@given(entries())
def test_what_is_packed_is_what_is_unpacked_and_what_pyroute2_reads(entry: RouteEntry) -> None:
    place = Place(entry.table, entry.metric, entry.protocol)
    data = pack(message.RTM_NEWROUTE, 0, 1, entry.family, entry.nlri, place, entry.route)
    [(kind, _, _, _, body)] = list(message.messages(data))
    assert kind == message.RTM_NEWROUTE
    assert unpack(body) == entry
    decoded = oracle(data)
    assert decoded.get("table") == entry.table
    assert decoded.get("priority") == entry.metric
    assert decoded["dst_len"] == entry.nlri[0]


@pytest.mark.parametrize("cut", range(0, 40, 3))
def test_a_message_cut_short_raises_nothing(cut: int) -> None:
    data = pack(24, 0, 1, socket.AF_INET, nlri("10.1.0.0/16"), PLACE, unicast(Hop(bytes((10, 0, 0, 2)), 3)))
    list(message.messages(data[:cut]))
    unpack(data[16 : 16 + cut])


def test_equal_hop_sets_are_equal_routes() -> None:
    one, two = Hop(b"\x0a\0\0\1", 3), Hop(b"\x0a\0\0\2", 3)
    assert unicast(one, two) == unicast(two, one, two)
    assert KernelRoute(RouteType.BLACKHOLE) == BLACKHOLE
