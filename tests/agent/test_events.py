"""ExaBGP's lines, read."""

from __future__ import annotations

import json
import socket

import pytest

from agent.exabgp.events import UPDATE, Packet, StateChanged, is_end_of_rib, parse, prefixes_of
from bgpd.wire.attributes import encode_attributes
from bgpd.wire.nlri import IPV4_UNICAST, IPV6_UNICAST, Family
from bgpd.wire.update import encode_end_of_rib, encode_updates, encode_withdrawals

V4 = [b"\x20\x0a\x00\x00\x01", b"\x1a\x0a\x00\x00\x40", b"\x00"]
V6 = [b"\x40\x20\x01\x0d\xb8\x00\x00\x00\x01"]
HOPS = {IPV4_UNICAST: bytes((192, 0, 2, 1)), IPV6_UNICAST: socket.inet_pton(socket.AF_INET6, "2001:db8::1")}


@pytest.mark.parametrize(
    ("family", "nlri", "texts"),
    [
        (IPV4_UNICAST, V4, ["10.0.0.1/32", "10.0.0.64/26", "0.0.0.0/0"]),
        (IPV6_UNICAST, V6, ["2001:db8:0:1::/64"]),
    ],
)
def test_the_prefixes_of_an_update_that_was_sent(family: Family, nlri: list[bytes], texts: list[str]) -> None:
    attributes = encode_attributes(next_hop=HOPS[family], local_pref=100, communities=[65000 << 16 | 1] * 80)
    for [update] in (
        encode_updates(family, attributes, HOPS[family], nlri),
        encode_withdrawals(family, nlri),
    ):
        assert prefixes_of(update[19:]) == texts
        assert not is_end_of_rib(update[19:])


@pytest.mark.parametrize(
    ("body", "end"),
    [
        ("00000000", True),
        ("00000006800f03000201", True),
        ("00000007900f0003000201", True),
        ("0000000a800f0700020120fd0001", False),
        ("0003180a00000000", False),
        ("00000006800e03000201", False),
    ],
)
def test_rfc4724_2_an_end_of_rib_is_an_update_that_withdraws_nothing(body: str, end: bool) -> None:
    assert is_end_of_rib(bytes.fromhex(body)) == end


def test_an_end_of_rib_has_none() -> None:
    for family in (IPV4_UNICAST, IPV6_UNICAST):
        body = encode_end_of_rib(family)[19:]
        assert is_end_of_rib(body)
        assert prefixes_of(body) == []


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("notification received (2,2)", ", bad peer AS"),
        ("notification sent (2,3)", ", bad BGP identifier"),
        ("notification received (6,1)", ", maximum prefixes reached"),
        ("notification received (4,0)", ", hold timer expired"),
        ("notification received (3,99)", ", update message"),
        ("notification received (99,1)", ", not known here"),
        ("closing connection", ""),
    ],
)
def test_why_a_session_ended_is_told_in_words(reason: str, words: str) -> None:
    peer = {"address": {"peer": "10.0.0.1"}, "state": "down", "reason": reason}
    line = json.dumps({"exabgp": "5.0.0", "type": "state", "neighbor": peer}).replace("{", "{ ", 1)
    assert parse(line) == StateChanged("10.0.0.1", "down", reason + words)


@pytest.mark.parametrize(("octets", "read"), [(23, 23), (150, 150), (151, 0), (4000, 0)])
def test_of_long_updates_that_are_sent_only_their_number_counts(octets: int, read: int) -> None:
    neighbor = '"neighbor": { "address": { "local": "10.0.0.1", "peer": "10.0.0.2" }'
    for direction, kept in (("send", read), ("receive", octets)):
        message = f'"message": {{ "category": 2, "header": "FF", "body": "{"00" * octets}" }}'
        line = f'{{ "exabgp": "5.0.0", {neighbor}, "direction": "{direction}", {message} }} }}'
        assert parse(line) == Packet("10.0.0.2", direction == "send", UPDATE, bytes(kept))
    assert prefixes_of(b"") == []
    assert not is_end_of_rib(b"")
