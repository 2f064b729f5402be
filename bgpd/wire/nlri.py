"""Families, and prefixes as *canonical raw bytes*.

An NLRI travels through the whole project as the bytes of RFC 4271 §4.3: one length octet and as many prefix
octets as the length needs, with every bit behind the length zero. Two spellings of one prefix (host bits
are legal on the wire and mean nothing) are thus one key, and the bytes received can be sent on as they are.
On an add-path session (RFC 7911 §3) an item is the four octets of the path identifier and then that.

Cutting a field of NLRI into items is the one thing done per prefix, so it is done by one regular expression
per family, which also proves that each item is canonical and no martian; only a field holding something
else is walked octet by octet.

Left out: labelled, VPN, flow and every other NLRI that is not a plain prefix.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache
from ipaddress import IPv4Network, IPv6Network
from typing import Final, NamedTuple

from .errors import ProtocolError
from .iana import Afi, ErrorCode, Safi, UpdateSubcode

_AFI_NAMES: Final = {Afi.IPV4: "ipv4", Afi.IPV6: "ipv6", Afi.L2VPN: "l2vpn", Afi.BGP_LS: "bgp-ls"}
_SAFI_NAMES: Final = {
    Safi.UNICAST: "unicast",
    Safi.MULTICAST: "multicast",
    Safi.MPLS_LABEL: "labeled",
    Safi.EVPN: "evpn",
    Safi.BGP_LS: "bgp-ls",
    Safi.MPLS_VPN: "vpn",
    Safi.ROUTE_TARGET: "route-target",
    Safi.FLOW_SPECIFICATION: "flowspec",
}


class Family(NamedTuple):
    """An AFI/SAFI pair. `str()` gives `ipv4-unicast`, and numbers (`afi16388-safi72`) where there is no
    name.
    """

    afi: int
    safi: int

    def __str__(self) -> str:
        afi = _AFI_NAMES[Afi(self.afi)] if self.afi in _AFI_NAMES else f"afi{self.afi}"
        safi = _SAFI_NAMES[Safi(self.safi)] if self.safi in _SAFI_NAMES else f"safi{self.safi}"
        return f"{afi}-{safi}"

    @classmethod
    def parse(cls, text: str) -> "Family":
        """Read what `str()` writes for a family of plain prefixes; ValueError names the choices."""
        for family in _PREFIX_FAMILIES:
            if str(family) == text:
                return family
        raise ValueError(
            f"unknown address family {text!r}; known are {', '.join(map(str, _PREFIX_FAMILIES))}"
        )

    @property
    def bits(self) -> int:
        """The longest prefix length of the family: 32 or 128."""
        return 32 if self.afi == Afi.IPV4 else 128

    def encode(self) -> bytes:
        """AFI and SAFI as MP_REACH_NLRI has them: three octets."""
        return self.afi.to_bytes(2, "big") + bytes((self.safi,))


IPV4_UNICAST: Final = Family(1, 1)
IPV6_UNICAST: Final = Family(2, 1)
IPV4_MULTICAST: Final = Family(1, 2)
IPV6_MULTICAST: Final = Family(2, 2)

_PREFIX_FAMILIES: Final = (IPV4_UNICAST, IPV6_UNICAST, IPV4_MULTICAST, IPV6_MULTICAST)


def is_prefix_family(family: Family) -> bool:
    """Whether this module can cut the family's NLRI."""
    return family in _PREFIX_FAMILIES


def _pattern(family: Family, first: str, common: Sequence[int], add_path: bool) -> "re.Pattern[bytes]":
    """One canonical item of at least 8 bits whose first octet is in the class `first`.

    `common` lists the prefix lengths to try first.
    """
    lengths = [*common, *(length for length in range(8, family.bits + 1) if length not in common)]
    alternatives = []
    for length in lengths:
        octets, spare = -(-length // 8), -length % 8
        last = "".join(f"\\x{octet:02x}" for octet in range(0, 256, 1 << spare))
        rest = "." * (octets - 2) + f"[{last}]" if spare else "." * (octets - 1)
        alternatives.append(f"\\x{length:02x}[{first}]{rest}")
    identifier = "...." if add_path else ""
    return re.compile(f"(?s:{identifier}(?:{'|'.join(alternatives)}))".encode("latin-1"))


_IPV4_FIRST: Final = r"\x01-\x7e\x80-\xdf\xf0-\xfe"
_IPV6_FIRST: Final = r"\x01-\xfd"


@cache
def finder(family: Family, add_path: bool) -> Callable[[bytes], list[bytes]]:
    """The cutter of a family, for a caller that checks the result itself. To compile one takes 10 ms.

    If the items have as many octets as the field, then they are all of it, canonical and without martians.
    If not, nothing is known, and `split` is to be asked. Raises KeyError for what is no prefix family.
    """
    if not is_prefix_family(family):
        raise KeyError(family)
    if family.afi == Afi.IPV4:
        return _pattern(family, _IPV4_FIRST, (24, 32, 22, 23, 16, 26), add_path).findall
    return _pattern(family, _IPV6_FIRST, (64, 48, 128, 122, 32), add_path).findall


def split(data: bytes, family: Family, add_path: bool = False) -> list[bytes]:
    """Cut an NLRI field into canonical items, martians included.

    Raises ProtocolError 3/10 where a prefix is longer than the family allows or the field ends inside an
    item.
    """
    items = finder(family, add_path)(data)
    if b"".join(items) == data:
        return items
    items = []
    head = 4 if add_path else 0
    bits = family.bits
    position, end = 0, len(data)
    while position < end:
        start = position + head
        if start >= end:
            raise _unparsable(family, "the field ends inside a path identifier")
        length = data[start]
        if length > bits:
            raise _unparsable(family, f"prefix length {length}")
        stop = start + 1 + (length + 7 >> 3)
        if stop > end:
            raise _unparsable(family, "the field ends inside a prefix")
        item = data[position:stop]
        spare = -length & 7
        if spare and item[-1] & (1 << spare) - 1:
            item = item[:-1] + bytes((item[-1] >> spare << spare,))
        items.append(item)
        position = stop
    return items


def _unparsable(family: Family, what: str) -> ProtocolError:
    return ProtocolError(
        ErrorCode.UPDATE_MESSAGE,
        UpdateSubcode.INVALID_NETWORK_FIELD,
        f"{family} NLRI cannot be parsed: {what}",
    )


def nlri_of(prefix: IPv4Network | IPv6Network) -> bytes:
    """The canonical bytes of a prefix."""
    length = prefix.prefixlen
    return bytes((length,)) + prefix.network_address.packed[: length + 7 >> 3]


def prefix_of(nlri: bytes, family: Family) -> IPv4Network | IPv6Network:
    """The prefix of canonical bytes without a path identifier; ValueError if they are not."""
    length, octets = nlri[0], nlri[1:]
    if family.afi == Afi.IPV4:
        return IPv4Network((octets.ljust(4, b"\0"), length))
    return IPv6Network((octets.ljust(16, b"\0"), length))


def numbers_of(nlri: bytes, family: Family) -> tuple[int, int]:
    """Length and address of a prefix (canonical bytes, no path identifier), at less cost than `prefix_of`."""
    return nlri[0], int.from_bytes(nlri[1:], "big") << family.bits - 8 * (len(nlri) - 1)


def is_martian(nlri: bytes, family: Family) -> bool:
    """Whether a prefix (canonical, no path identifier) lies within a block that never names a reachable
    destination.

    Such a prefix is ignored (RFC 4271 §6.3, "semantically incorrect"). One that merely covers such a block,
    like 0.0.0.0/0, is good. IPv4: 0/8, 127/8, 224/4, 255.255.255.255. IPv6: ::/127, ::ffff:0:0/96, fe80::/10,
    ff00::/8. What is reserved for the future (240/4) is used as private space and routed by all others.
    """
    length = nlri[0]
    if length < 4:
        return False
    first = nlri[1]
    if family.afi == Afi.IPV4:
        return first & 0xF0 == 0xE0 or (length >= 8 and first in (0, 127)) or nlri == _BROADCAST
    if first == 0:
        return (length >= 96 and nlri[1:13] == _MAPPED) or (
            length >= 127 and nlri[1:16] == _ZEROS and nlri[16] < 2
        )
    return (first == 0xFF and length >= 8) or (first == 0xFE and length >= 10 and nlri[2] & 0xC0 == 0x80)


_MAPPED: Final = bytes(10) + b"\xff\xff"
_ZEROS: Final = bytes(15)
_BROADCAST: Final = b"\x20\xff\xff\xff\xff"
