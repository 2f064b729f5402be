"""rtnetlink's route messages, packed and unpacked with `struct` (rtnetlink(7), netlink(7)). Pure.

On the hot path, writing and dumping routes by the ten thousand, pyroute2's general encoder is fifty times
slower than the kernel. Here the part of a message that depends on next hops is packed once per distinct
`KernelRoute` and shared by all its prefixes. pyroute2's encoder is the oracle in the tests.

Left out: everything but routes; `link` reads interfaces, and pyroute2 does the rest.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from agent.kernel.route import Hop, KernelRoute, RouteType

RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
NLMSG_NOOP, NLMSG_ERROR, NLMSG_DONE, NLMSG_OVERRUN = 1, 2, 3, 4
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP_INTR = 0x1, 0x4, 0x10
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
NLM_F_DUMP = 0x300
RTM_NEWNEXTHOP, RTM_DELNEXTHOP = 104, 105
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_MULTIPATH, _RTA_TABLE, _RTA_VIA = 1, 4, 5, 6, 9, 15, 18
_RTA_PREF, _RTA_NH_ID, _NHA_ID = 20, 30, 1
_PREFERENCE = {1: 1, 3: -1}  # 0 is medium, and 2 counts as that
_RTNH_F_ONLINK = 4
_SCOPE_UNIVERSE, _SCOPE_LINK, _SCOPE_NOWHERE = 0, 253, 255
_RTN_UNSPEC = 0
_RT_TABLE_UNSPEC = 0
_NESTED = 0x3FFF  # mask off NLA_F_NESTED and NLA_F_NET_BYTEORDER
_CLONED = 0x200  # RTM_F_CLONED: a cache entry, not a route

HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_RTMSG = struct.Struct("=BBBBBBBBI")
_NHMSG = struct.Struct("=BBBBI")
_RTA = struct.Struct("=HH")
_RTNH = struct.Struct("=HBBi")
_U32 = struct.Struct("=I")
_ERROR = struct.Struct("=i")


@dataclass(frozen=True, slots=True)
class RouteEntry:
    """One route as the kernel reported it: where it stands (family, nlri, table, metric), whose, and what.

    ``nlri`` is the prefix as BGP spells it: a length octet and the octets it needs. ``next_hop_id``: of the
    nexthop object (ip-nexthop(8)) its hops are from, 0 where they are its own. ``preference``: of the router
    that announced it (RFC 4191 2.1), from 1, high, to -1.
    """

    family: int
    nlri: bytes
    table: int
    metric: int
    protocol: int
    route: KernelRoute
    next_hop_id: int = 0
    preference: int = 0


def _attribute(kind: int, value: bytes) -> bytes:
    return _RTA.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def _hop_attributes(family: int, gateway: bytes) -> bytes:
    if not gateway:
        return b""
    if family == socket.AF_INET and len(gateway) == 16:  # RFC 8950: IPv4 by way of an IPv6 neighbour
        return _attribute(_RTA_VIA, struct.pack("=H", socket.AF_INET6) + gateway)
    return _attribute(_RTA_GATEWAY, gateway)


ANY = KernelRoute(RouteType.THROW)  # in RTM_DELROUTE: whatever stands there under our protocol number


class Place(NamedTuple):
    """Where the agent's routes stand, and the protocol number they are known by."""

    table: int
    metric: int
    protocol: int


@lru_cache(maxsize=4096)
def _shared(family: int, place: Place, route: KernelRoute) -> tuple[bytes, bytes, bytes]:
    """The octets around the prefix: rtmsg before and after its length, and the attributes behind it."""
    table, metric, protocol = place
    scope, flags, tail = _SCOPE_UNIVERSE, 0, b""
    if route is ANY:
        scope = _SCOPE_NOWHERE
    elif route.type is RouteType.UNICAST:
        if family == socket.AF_INET and not any(hop.gateway for hop in route.hops):
            scope = _SCOPE_LINK
        if len(route.hops) == 1:
            hop = route.hops[0]
            flags = _RTNH_F_ONLINK if hop.onlink else 0
            tail = _attribute(_RTA_OIF, _U32.pack(hop.interface)) + _hop_attributes(family, hop.gateway)
        else:
            hops = b""
            for hop in route.hops:
                inner = _hop_attributes(family, hop.gateway)
                onlink = _RTNH_F_ONLINK if hop.onlink else 0
                hops += _RTNH.pack(8 + len(inner), onlink, hop.weight - 1, hop.interface) + inner
            tail = _attribute(_RTA_MULTIPATH, hops)
    tail += _attribute(_RTA_PRIORITY, _U32.pack(metric)) + _attribute(_RTA_TABLE, _U32.pack(table))
    kind = _RTN_UNSPEC if route is ANY else route.type
    small_table = table if table < 256 else _RT_TABLE_UNSPEC
    after = struct.pack("=BBBBBBI", 0, 0, small_table, protocol, scope, kind, flags)
    return bytes((family,)), after, tail


def pack(
    kind: int, flags: int, sequence: int, family: int, nlri: bytes, place: Place, route: KernelRoute
) -> bytes:
    """One RTM_NEWROUTE or RTM_DELROUTE message, ready to be sent among others."""
    before, after, tail = _shared(family, place, route)
    octets = 4 if family == socket.AF_INET else 16
    destination = nlri[1:].ljust(octets, b"\0")
    body = before + nlri[:1] + after + _RTA.pack(4 + octets, _RTA_DST) + destination + tail
    return HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST | flags, sequence, 0) + body


def pack_dump(sequence: int, family: int, table: int = 0, protocol: int = 0) -> bytes:
    """A strict dump request; the kernel filters by table and protocol where they are not 0."""
    body = _RTMSG.pack(family, 0, 0, 0, table if table < 256 else 0, protocol, 0, 0, 0)
    if table:
        body += _attribute(_RTA_TABLE, _U32.pack(table))
    return HEADER.pack(HEADER.size + len(body), RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP, sequence, 0) + body


def messages(data: bytes) -> Iterator[tuple[int, int, int, int, bytes]]:
    """(type, flags, sequence, port, body) of each netlink message of a datagram."""
    position, end = 0, len(data)
    while position + HEADER.size <= end:
        length, kind, flags, sequence, port = HEADER.unpack_from(data, position)
        if length < HEADER.size or position + length > end:
            return
        yield kind, flags, sequence, port, data[position + HEADER.size : position + length]
        position += length + 3 & ~3


def error_code(body: bytes) -> int:
    """The errno of an NLMSG_ERROR, positive; 0 is an acknowledgement."""
    return -int(_ERROR.unpack_from(body)[0])


def attributes(body: bytes, position: int = 0) -> Iterator[tuple[int, bytes]]:
    """(type, value) of each netlink attribute from ``position`` on; a nested one's value is read alike."""
    end = len(body)
    while position + 4 <= end:
        length, kind = _RTA.unpack_from(body, position)
        if length < 4 or position + length > end:
            return
        yield kind & _NESTED, body[position + 4 : position + length]
        position += length + 3 & ~3


def _gateway(kind: int, value: bytes) -> bytes:
    return value[2:] if kind == _RTA_VIA else value


def _hops(value: bytes) -> Iterator[Hop]:
    position = 0
    while position + _RTNH.size <= len(value):
        length, flags, weight, interface = _RTNH.unpack_from(value, position)
        if length < _RTNH.size:
            return
        gateway = b""
        for kind, inner in attributes(value[: position + length], position + _RTNH.size):
            if kind in (_RTA_GATEWAY, _RTA_VIA):
                gateway = _gateway(kind, inner)
        yield Hop(gateway, interface, bool(flags & _RTNH_F_ONLINK), weight + 1)
        position += length + 3 & ~3


def unpack(body: bytes) -> RouteEntry | None:
    """The route of an RTM_NEWROUTE or RTM_DELROUTE body; None for cache entries, types unknown, and routes
    for some packets only (by their source or TOS).
    """
    if len(body) < _RTMSG.size:
        return None
    family, length, source_length, tos, table, protocol, scope, kind, flags = _RTMSG.unpack_from(body)
    if (
        flags & _CLONED
        or source_length
        or tos
        or kind > RouteType.THROW
        or kind < 1
        or family not in (socket.AF_INET, socket.AF_INET6)
    ):
        return None
    destination, metric, interface, gateway, next_hop_id, preference = b"", 0, 0, b"", 0, 0
    hops: tuple[Hop, ...] = ()
    for attribute, value in attributes(body, _RTMSG.size):
        if attribute == _RTA_DST:
            destination = value
        elif attribute == _RTA_OIF:
            interface = int(_U32.unpack(value)[0])
        elif attribute in (_RTA_GATEWAY, _RTA_VIA):
            gateway = _gateway(attribute, value)
        elif attribute == _RTA_PRIORITY:
            metric = int(_U32.unpack(value)[0])
        elif attribute == _RTA_TABLE:
            table = int(_U32.unpack(value)[0])
        elif attribute == _RTA_MULTIPATH:
            hops = tuple(sorted(_hops(value)))
        elif attribute == _RTA_NH_ID:
            next_hop_id = int(_U32.unpack(value)[0])
        elif attribute == _RTA_PREF:
            preference = _PREFERENCE.get(value[0], 0)
    if kind == RouteType.BLACKHOLE:
        hops = ()  # IPv6 shows the loopback interface here
    elif not hops and (interface or gateway):
        # IPv4 takes no gateway on a link that is said to be farther than one, unless told that it is there.
        farther = family == socket.AF_INET and not gateway and scope < _SCOPE_LINK
        hops = (Hop(gateway, interface, farther or bool(flags & _RTNH_F_ONLINK)),)
    nlri = bytes((length,)) + destination[: length + 7 >> 3]
    route = KernelRoute(RouteType(kind), hops)
    return RouteEntry(family, nlri, table, metric, protocol, route, next_hop_id, preference)


def unpack_next_hop_id(body: bytes) -> int:
    """The nexthop object that an RTM_NEWNEXTHOP or RTM_DELNEXTHOP body is about."""
    found = dict(attributes(body, _NHMSG.size))
    return int(_U32.unpack(found[_NHA_ID])[0])
