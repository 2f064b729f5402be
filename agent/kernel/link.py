"""rtnetlink's link and address messages, as much of them as says where packets can go (rtnetlink(7)). Pure.

A node has two interfaces or more for each of its workloads, and all are read whenever one of them changes.
pyroute2's general decoder takes twenty times as long; it is the oracle in the tests.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from agent.kernel import message

NEWLINK, DELLINK, DELADDR = 16, 17, 21
_GETLINK, _GETADDR = 18, 22
_IFLA_IFNAME, _IFLA_OPERSTATE, _IFLA_EXT_MASK = 3, 16, 29
_SKIP_STATISTICS = 8  # RTEXT_FILTER_SKIP_STATS
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFF_UP, _IFF_RUNNING = 0x1, 0x40
_IFINFO = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, which of them changed
_IFADDR = struct.Struct("=BBBBI")  # ifaddrmsg: family, length, flags, scope, index
_EXT_MASK = struct.Struct("=HHI")


@dataclass(frozen=True, slots=True)
class Link:
    """An interface. ``up``: as its administrator wishes; ``usable``: it can carry packets, too."""

    index: int
    name: str
    up: bool
    usable: bool


@dataclass(frozen=True, slots=True)
class Links:
    """The node's interfaces: name → index, which can carry packets, the node's own addresses (packed), and
    which interfaces are up, be it without a carrier.
    """

    indexes: dict[str, int]
    up: frozenset[int]
    addresses: frozenset[bytes]
    raised: frozenset[int]


def pack_link_dump(sequence: int) -> bytes:
    """A strict dump request for all interfaces."""
    mask = _EXT_MASK.pack(_EXT_MASK.size, _IFLA_EXT_MASK, _SKIP_STATISTICS)
    return _pack_dump(_GETLINK, sequence, bytes(_IFINFO.size) + mask)


def pack_address_dump(sequence: int) -> bytes:
    """A strict dump request for all addresses."""
    return _pack_dump(_GETADDR, sequence, bytes(_IFADDR.size))


def _pack_dump(kind: int, sequence: int, body: bytes) -> bytes:
    flags = message.NLM_F_REQUEST | message.NLM_F_DUMP
    return message.HEADER.pack(message.HEADER.size + len(body), kind, flags, sequence, 0) + body


def unpack_link(body: bytes) -> Link | None:
    """The interface of an RTM_NEWLINK or RTM_DELLINK body; None if it is of a bridge's port."""
    family, _, index, flags, _ = _IFINFO.unpack_from(body)
    if family != socket.AF_UNSPEC:
        return None
    name, state = "", None
    for attribute, value in message.attributes(body, _IFINFO.size):
        if attribute == _IFLA_IFNAME:
            name = value.rstrip(b"\0").decode(errors="surrogateescape")
        elif attribute == _IFLA_OPERSTATE:
            state = value[0]
        if name and state is not None:  # the first of some fifty
            break
    up = bool(flags & _IFF_UP)
    return Link(index, name, up, up and (bool(flags & _IFF_RUNNING) or not state))


def unpack_address(body: bytes) -> bytes | None:
    """The node's own address in an RTM_NEWADDR body (on a link between two, not the other's)."""
    found = dict(message.attributes(body, _IFADDR.size))
    return found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS)
