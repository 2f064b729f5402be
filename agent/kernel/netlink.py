"""The sockets under `fib`: route dumps and batches on one, notifications on another.

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
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pyroute2 import AsyncIPRoute

from agent.kernel import message
from agent.kernel.message import RouteEntry

BATCH = 500
_SOL_NETLINK = 270
_NETLINK_CAP_ACK, _NETLINK_GET_STRICT_CHK = 10, 12
_SO_RCVBUFFORCE = 33
_RECEIVE_BUFFER = 16 << 20
_RECEIVE = 1 << 18
_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400  # link; IPv4 address, route; IPv6 address, route
_DUMP_TRIES = 5
_RTM_NEWLINK, _RTM_DELLINK = 16, 17
_IFF_UP, _IFF_RUNNING = 0x1, 0x40
_IFINFO = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, which of them changed


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
    """Dumps and writes routes. Blocking, but only for as long as the kernel works on the request."""

    def __init__(self) -> None:
        self._socket = _open()
        self.port = int(self._socket.getsockname()[0])
        self._sequence = 0

    def dump(self, family: int, table: int = 0, protocol: int = 0) -> list[RouteEntry]:
        """All routes of a family, of one table and protocol where given (0 = any)."""
        for _ in range(_DUMP_TRIES):
            entries = self._dump_once(family, table, protocol)
            if entries is not None:
                return entries
        raise KernelError("the routes change faster than they can be dumped")

    def _dump_once(self, family: int, table: int, protocol: int) -> list[RouteEntry] | None:
        self._sequence += 1
        self._socket.send(message.pack_dump(self._sequence, family, table, protocol))
        entries: list[RouteEntry] = []
        intact = True
        while True:
            for kind, flags, sequence, _, body in message.messages(self._socket.recv(_RECEIVE)):
                if sequence != self._sequence:
                    continue
                intact = intact and not flags & message.NLM_F_DUMP_INTR
                if kind == message.NLMSG_DONE:
                    return entries if intact else None
                if kind == message.NLMSG_ERROR:
                    code = message.error_code(body)
                    if code == errno.ENOENT:  # a table that has no route yet
                        return []
                    raise KernelError(f"dump of routes: {errno.errorcode.get(code, code)}")
                entry = message.unpack(body)
                if entry is not None:
                    entries.append(entry)

    def write(self, pack: Sequence[Callable[[int, int], bytes]]) -> dict[int, int]:
        """Send up to `BATCH` messages, each packed by its function of (extra flags, sequence number).

        Returns the errno of each refused one by its place in the sequence.
        """
        first = self._sequence + 1
        self._sequence += len(pack)
        last = self._sequence
        data = b"".join(
            one(message.NLM_F_ACK if first + place == last else 0, first + place)
            for place, one in enumerate(pack)
        )
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
    """Notifications of routes, links and addresses, as long as it is open."""

    def __init__(
        self,
        ignore: int,
        route: Callable[[bool, int, RouteEntry], None],
        links: Callable[[], None],
        went: Callable[[int, bool], None],
        lost: Callable[[], None],
    ) -> None:
        """``ignore``: the port whose own writes are not news. ``route`` gets (new?, flags, entry), ``went``
        (index, removed?) of an interface that is down or gone, though it may be back when anybody looks.
        """
        self._socket = _open(_GROUPS)
        self._socket.setblocking(False)
        self._route, self._links, self._went, self._lost = route, links, went, lost
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
                elif 16 <= kind <= 23:  # RTM_NEWLINK … RTM_GETADDR
                    self._links()
                    if kind in (_RTM_NEWLINK, _RTM_DELLINK):
                        family, _, index, interface_flags, _ = _IFINFO.unpack_from(body)
                        if family == socket.AF_UNSPEC and not (
                            kind == _RTM_NEWLINK and interface_flags & _IFF_UP
                        ):
                            self._went(index, kind == _RTM_DELLINK)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()


@dataclass(frozen=True, slots=True)
class Links:
    """The node's interfaces: name → index, which can carry packets, and the node's own addresses (packed)."""

    indexes: dict[str, int]
    up: frozenset[int]
    addresses: frozenset[bytes]


async def read_links() -> Links:
    """Interfaces and addresses as they are now."""
    indexes: dict[str, int] = {}
    up: set[int] = set()
    addresses: set[bytes] = set()
    async with AsyncIPRoute() as route:
        async for link in await route.get_links():
            index = int(link["index"])
            indexes[str(link.get("ifname"))] = index
            if link["flags"] & _IFF_UP and (
                link["flags"] & _IFF_RUNNING or link.get("operstate") == "UNKNOWN"
            ):
                up.add(index)
        async for address in await route.get_addr():
            text = address.get("local") or address.get("address")
            if text:
                family = socket.AF_INET6 if ":" in text else socket.AF_INET
                addresses.add(socket.inet_pton(family, text))
    return Links(indexes, frozenset(up), frozenset(addresses))
