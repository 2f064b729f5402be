"""NLRI: one canonical spelling per prefix, and no spelling that is cut wrongly."""

from ipaddress import IPv4Network, IPv6Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.wire.errors import ProtocolError
from bgpd.wire.nlri import (
    IPV4_MULTICAST,
    IPV4_UNICAST,
    IPV6_UNICAST,
    Family,
    finder,
    is_martian,
    nlri_of,
    numbers_of,
    prefix_of,
    split,
)
from tests.wire.samples import outcome

FAMILIES = st.sampled_from([IPV4_UNICAST, IPV6_UNICAST])


@st.composite
def prefixes(draw: st.DrawFn, family: Family) -> IPv4Network | IPv6Network:
    length = draw(st.integers(0, family.bits))
    address = draw(st.integers(0, 2**family.bits - 1)) >> (family.bits - length) << (family.bits - length)
    return IPv4Network((address, length)) if family.afi == 1 else IPv6Network((address, length))


@given(st.data(), FAMILIES, st.booleans())
def test_split_inverts_join(data: st.DataObject, family: Family, add_path: bool) -> None:
    found = data.draw(st.lists(prefixes(family), max_size=12))
    identifier = data.draw(st.binary(min_size=4, max_size=4)) if add_path else b""
    items = [identifier + nlri_of(prefix) for prefix in found]
    assert split(b"".join(items), family, add_path) == items
    assert [prefix_of(item[len(identifier) :], family) for item in items] == found
    assert [numbers_of(nlri_of(each), family) for each in found] == [
        (each.prefixlen, int(each.network_address)) for each in found
    ]


@given(st.data(), FAMILIES)
def test_rfc4271_4_3_bits_behind_the_length_mean_nothing(data: st.DataObject, family: Family) -> None:
    prefix = data.draw(prefixes(family))
    nlri = bytearray(nlri_of(prefix))
    if prefix.prefixlen % 8:
        nlri[-1] |= data.draw(st.integers(0, (1 << 8 - prefix.prefixlen % 8) - 1))
    assert split(bytes(nlri), family) == [nlri_of(prefix)]


@given(st.binary(max_size=40), FAMILIES, st.booleans())
def test_split_never_fails_otherwise_and_is_idempotent(data: bytes, family: Family, add_path: bool) -> None:
    items = outcome(split, data, family, add_path)
    if isinstance(items, ProtocolError):
        assert (items.code, items.subcode) == (3, 10)
    else:
        assert sum(map(len, items)) == len(data)
        assert split(b"".join(items), family, add_path) == items


@given(st.data(), FAMILIES)
def test_what_the_finder_cuts_whole_is_canonical_and_no_martian(data: st.DataObject, family: Family) -> None:
    field = b"".join(nlri_of(prefix) for prefix in data.draw(st.lists(prefixes(family), max_size=4)))
    items = finder(family, False)(field)
    if b"".join(items) == field:
        assert items == split(field, family)
        assert not any(is_martian(item, family) for item in items)


@pytest.mark.parametrize(
    "prefix", ["10.0.0.0/8", "198.51.100.0/24", "192.0.2.1/32", "172.16.0.0/13", "223.1.2.0/23"]
)
def test_usual_ipv4_prefixes_go_the_quick_way(prefix: str) -> None:
    nlri = nlri_of(ip_network(prefix))
    assert finder(IPV4_UNICAST, False)(nlri) == [nlri]
    assert finder(IPV4_UNICAST, True)(b"\0\0\0\1" + nlri) == [b"\0\0\0\1" + nlri]


@pytest.mark.parametrize(
    ("data", "family"),
    [
        ("21c000020100", IPV4_UNICAST),
        ("18c000", IPV4_UNICAST),
        ("81" + "00" * 17, IPV6_UNICAST),
        ("ff", IPV4_UNICAST),
    ],
)
def test_rfc4271_6_3_syntactically_incorrect_nlri(data: str, family: Family) -> None:
    with pytest.raises(ProtocolError) as caught:
        split(bytes.fromhex(data), family)
    assert (caught.value.code, caught.value.subcode) == (3, 10)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_rfc7911_3_field_ending_inside_a_path_identifier(size: int) -> None:
    with pytest.raises(ProtocolError):
        split(bytes(size), IPV4_UNICAST, add_path=True)


@pytest.mark.parametrize(
    ("prefix", "martian"),
    [
        ("0.0.0.0/0", False),
        ("0.0.0.0/1", False),
        ("0.0.0.0/8", True),
        ("127.0.0.0/8", True),
        ("127.1.2.3/32", True),
        ("126.0.0.0/7", False),
        ("224.0.0.0/4", True),
        ("239.255.0.0/16", True),
        ("224.0.0.0/3", False),
        ("240.0.0.0/4", False),
        ("250.1.2.0/24", False),
        ("255.0.0.0/8", False),
        ("255.255.255.254/32", False),
        ("255.255.255.255/32", True),
        ("192.0.0.0/2", False),
        ("10.0.0.0/8", False),
        ("::/0", False),
        ("::/128", True),
        ("::1/128", True),
        ("::ffff:10.0.0.0/104", True),
        ("64:ff9b::/96", False),
        ("fe80::/10", True),
        ("fe80::1/128", True),
        ("fd00::/8", False),
        ("ff02::/16", True),
        ("2001:db8::/32", False),
    ],
)
def test_rfc4271_6_3_semantically_incorrect_prefixes(prefix: str, martian: bool) -> None:
    network = ip_network(prefix)
    family = IPV4_UNICAST if network.version == 4 else IPV6_UNICAST
    assert is_martian(nlri_of(network), family) is martian


BLOCKS = {
    IPV4_UNICAST: ["0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32"],
    IPV6_UNICAST: ["::/127", "::ffff:0:0/96", "fe80::/10", "ff00::/8"],
}


@given(st.data(), FAMILIES)
def test_rfc4271_6_3_martians_are_what_lies_within_the_blocks(data: st.DataObject, family: Family) -> None:
    blocks = [ip_network(block) for block in BLOCKS[family]]
    near = data.draw(st.sampled_from(blocks))
    length = data.draw(st.integers(max(0, near.prefixlen - 2), family.bits))
    spare = family.bits - max(length, near.prefixlen)
    address = int(near.network_address) + (
        data.draw(st.integers(0, 2 ** (family.bits - near.prefixlen) - 1)) >> spare << spare
    )
    address = address >> family.bits - length << family.bits - length
    prefix = IPv4Network((address, length)) if family.afi == 1 else IPv6Network((address, length))
    within = any(length >= block.prefixlen and prefix.network_address in block for block in blocks)
    assert is_martian(nlri_of(prefix), family) is within


@pytest.mark.parametrize("family", [Family(1, 128), Family(25, 70), Family(1, 4)])
def test_what_is_no_prefix_is_not_cut(family: Family) -> None:
    with pytest.raises(KeyError):
        finder(family, False)


def test_family_names() -> None:
    assert str(IPV4_UNICAST) == "ipv4-unicast"
    assert str(IPV6_UNICAST) == "ipv6-unicast"
    assert str(IPV4_MULTICAST) == "ipv4-multicast"
    assert str(Family(16388, 72)) == "bgp-ls-safi72"
    assert str(Family(99, 99)) == "afi99-safi99"
    assert Family.parse("ipv6-unicast") == IPV6_UNICAST
    with pytest.raises(ValueError, match=r"unknown address family 'ipv5'.*ipv4-unicast"):
        Family.parse("ipv5")
