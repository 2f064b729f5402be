"""The sockets under `fib`: dumps and batches of routes on one, notifications on another.

A batch of some five hundred messages is one ``send``; the kernel works through it before the call returns.
Only the last message asks for an acknowledgement, but every refused one is answered by itself, with the
sequence number it carried, so one bad route is reported and the rest stand.

Notifications carry the port of the socket that caused them: our own writes are recognised by it and
skipped. A lost notification (ENOBUFS) is reported as such; the answer to it is a new dump.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from agent.kernel import message
from agent.kernel.link import (
    DELLINK,
    NEWLINK,
    Link,
    Links,
    pack_address_dump,
    pack_link_dump,
    unpack_address,
    unpack_link,
)
from agent.kernel.message import RouteEntry

BATCH = 500
_SOL_NETLINK = 270
_NETLINK_CAP_ACK, _NETLINK_GET_STRICT_CHK = 10, 12
_SO_RCVBUFFORCE = 33
_RECEIVE_BUFFER = 16 << 20
_AT_ONCE = 128 << 10  # octets sent: more than a socket's ordinary buffer holds is refused (EMSGSIZE)
_RECEIVE = 1 << 18
_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400 | 1 << 31  # link; IPv4 address, route; IPv6 both; nexthop
_DUMP_TRIES = 5
T = TypeVar("T")


class KernelError(Exception):
    """The kernel refused something that cannot be done without."""


def _open(groups: int = 0) -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    for option in (_SO_RCVBUFFORCE, socket.SO_RCVBUF):  # the first needs a capability, the second is capped
        try:
            opened.setsockopt(socket.SOL_SOCKET, option, _RECEIVE_BUFFER)
            break
        except PermissionError:
            continue
    opened.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
    opened.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
    opened.bind((0, groups))
    return opened


class RouteSocket:
    """Reads links, dumps and writes routes. Blocking, but only for as long as the kernel works on it."""

    def __init__(self) -> None:
        self._socket = _open()
        self.port = int(self._socket.getsockname()[0])
        self._sequence = 0

    def dump(self, family: int, table: int = 0, protocol: int = 0) -> list[RouteEntry]:
        """All routes of a family, of one table and protocol where given (0 = any)."""
        for _ in range(_DUMP_TRIES):
            self._sequence += 1
            request = message.pack_dump(self._sequence, family, table, protocol)
            entries, intact = self._dump(request, message.unpack)
            if intact:
                return entries
        raise KernelError("the routes change faster than they can be dumped")

    def links(self) -> Links:
        """Interfaces and addresses as they are now; what changes meanwhile is notified anyway."""
        found = {link.index: link for link in self._gather(pack_link_dump, unpack_link)}
        addresses = frozenset(self._gather(pack_address_dump, unpack_address))
        up = frozenset(link.index for link in found.values() if link.usable)
        raised = frozenset(link.index for link in found.values() if link.up)
        return Links({link.name: link.index for link in found.values()}, up, addresses, raised)

    def _gather(self, pack: Callable[[int], bytes], unpack: Callable[[bytes], T | None]) -> list[T]:
        """A dump that no change came into, else what several found, the last one's last: in one that was
        interrupted something may be missing that is there.
        """
        found: list[T] = []
        for _ in range(_DUMP_TRIES):
            self._sequence += 1
            more, intact = self._dump(pack(self._sequence), unpack)
            if intact:
                return more
            found += more
        return found

    def _dump(self, request: bytes, unpack: Callable[[bytes], T | None]) -> tuple[list[T], bool]:
        """What the kernel answers, and whether nothing changed meanwhile."""
        self._socket.send(request)
        found: list[T] = []
        intact = True
        while True:
            for kind, flags, sequence, _, body in message.messages(self._socket.recv(_RECEIVE)):
                if sequence != self._sequence:
                    continue
                intact = intact and not flags & message.NLM_F_DUMP_INTR
                if kind == message.NLMSG_DONE:
                    return found, intact
                if kind == message.NLMSG_ERROR:
                    code = message.error_code(body)
                    if code == errno.ENOENT:  # a table that has no route yet
                        return [], True
                    raise KernelError(f"dump: {errno.errorcode.get(code, code)}")
                entry = unpack(body)
                if entry is not None:
                    found.append(entry)

    def write(self, pack: Sequence[Callable[[int, int], bytes]]) -> dict[int, int]:
        """Send up to `BATCH` messages, each packed by its function of (extra flags, sequence number).

        Returns the errno of each refused one by its place in the sequence.
        """
        first = self._sequence + 1
        self._sequence += len(pack)
        last = self._sequence
        data = bytearray()
        for place, one in enumerate(pack):
            packed = one(message.NLM_F_ACK if first + place == last else 0, first + place)
            if data and len(data) + len(packed) > _AT_ONCE:
                self._socket.send(data)
                data.clear()
            data += packed
        self._socket.send(data)
        errors: dict[int, int] = {}
        while True:
            try:
                received = self._socket.recv(_RECEIVE)
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    self._drain()
                    raise KernelError("answers of the kernel were lost") from None
                raise
            for kind, _, sequence, _, body in message.messages(received):
                if kind == message.NLMSG_ERROR and first <= sequence <= last:
                    code = message.error_code(body)
                    if code:
                        errors[sequence - first] = code
                    if sequence == last:
                        return errors

    def _drain(self) -> None:
        """Until nothing is left the kernel drops every further answer, and does not say so again."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(_RECEIVE, socket.MSG_DONTWAIT)

    def close(self) -> None:
        self._socket.close()


class Monitor:
    """Notifications of routes, links, addresses and nexthop objects, as long as it is open."""

    def __init__(
        self,
        ignore: int,
        route: Callable[[bool, int, RouteEntry], None],
        link: Callable[[int, Link | None], None],
        next_hop: Callable[[int], None],
        lost: Callable[[], None],
    ) -> None:
        """``ignore``: the port whose own writes are not news. ``route`` gets (new?, flags, entry), ``link``
        the message's type and the interface, None where it is about an address, ``next_hop`` the id of a
        nexthop object that came, changed or went.
        """
        self._socket = _open(_GROUPS)
        self._socket.setblocking(False)
        self._route, self._link, self._next_hop, self._lost = route, link, next_hop, lost
        self._ignored = ignore.to_bytes(4, sys.byteorder)
        asyncio.get_running_loop().add_reader(self._socket, self.read)

    def read(self) -> None:
        """Take in what there is to read; the loop calls it, too, when there is something."""
        for _ in range(4 * BATCH):  # more than is written between two looks: a large table overruns nothing
            try:
                data = self._socket.recv(_RECEIVE)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._lost()
                continue
            if data[12:16] == self._ignored:  # nlmsg_pid: our own, and most of what there is
                continue
            for kind, flags, _, _, body in message.messages(data):
                if kind in (message.RTM_NEWROUTE, message.RTM_DELROUTE):
                    if (entry := message.unpack(body)) is not None:
                        self._route(kind == message.RTM_NEWROUTE, flags, entry)
                elif kind in (message.RTM_NEWNEXTHOP, message.RTM_DELNEXTHOP):
                    self._next_hop(message.unpack_next_hop_id(body))
                elif 16 <= kind <= 23:  # RTM_NEWLINK … RTM_GETADDR
                    self._link(kind, unpack_link(body) if kind in (NEWLINK, DELLINK) else None)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
