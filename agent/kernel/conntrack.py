"""Connections the kernel remembers of an address are forgotten once the address has left this node.

A workload that moved, or another that was given its address, must not inherit what connection tracking
(nf_conntrack) keeps of the old one: an established entry lets packets through, or sends them through a NAT,
that no longer apply. `forget` reads all entries once and removes those that name one of the addresses, in
either direction, by the very tuple the kernel reported.

rtnetlink's sibling ctnetlink, packed by hand for the same reason as in ``message``: a busy node has a
hundred thousand entries. A kernel without connection tracking has nothing to forget.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Collection

from agent.kernel import message
from agent.kernel.netlink import KernelError

_NETLINK_NETFILTER = 12
_NEW, _GET, _DELETE = 0x100, 0x101, 0x102  # NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_*
_TUPLE_ORIGINAL, _TUPLE_REPLY, _ID, _ZONE = 1, 2, 12, 18
_TUPLE_IP = 1
_NESTED = 0x8000
_RECEIVE = 1 << 18
_NO_CONNTRACK = (errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.ENOENT)
_ATTRIBUTE = struct.Struct("=HH")


def forget(addresses: Collection[bytes]) -> int:
    """Remove every entry that names one of these addresses (4 or 16 octets). Blocking; how many there were.

    Raises KernelError or OSError where the kernel refuses.
    """
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER
    ) as kernel:
        kernel.bind((0, 0))
        removed = 0
        for family, octets in ((socket.AF_INET, 4), (socket.AF_INET6, 16)):
            wanted = frozenset(address for address in addresses if len(address) == octets)
            if wanted:
                for entry in [body for body in _dump(kernel, family) if concerns(body, wanted)]:
                    removed += _remove(kernel, family, entry)
        return removed


def concerns(entry: bytes, addresses: Collection[bytes]) -> bool:
    """Whether a connection's attributes name one of the addresses, as source or destination, either way."""
    return any(
        address in addresses
        for kind, value in message.attributes(entry)
        if kind in (_TUPLE_ORIGINAL, _TUPLE_REPLY)
        for inner, ends in message.attributes(value)
        if inner == _TUPLE_IP
        for _, address in message.attributes(ends)
    )


def _request(kind: int, flags: int, family: int, attributes: bytes = b"") -> bytes:
    body = struct.pack("=BBH", family, 0, 0) + attributes  # nfgenmsg
    length = message.HEADER.size + len(body)
    return message.HEADER.pack(length, kind, message.NLM_F_REQUEST | flags, 1, 0) + body


def _dump(kernel: socket.socket, family: int) -> list[bytes]:
    kernel.send(_request(_GET, message.NLM_F_DUMP, family))
    found: list[bytes] = []
    while True:
        for kind, _, _, _, body in message.messages(kernel.recv(_RECEIVE)):
            if kind == message.NLMSG_DONE:
                return found
            if kind == message.NLMSG_ERROR:
                code = message.error_code(body)
                if code in _NO_CONNTRACK:
                    return []
                raise KernelError(f"connections cannot be read: {errno.errorcode.get(code, code)}")
            if kind == _NEW:
                found.append(body[4:])


def _remove(kernel: socket.socket, family: int, entry: bytes) -> bool:
    named = b"".join(
        _ATTRIBUTE.pack(4 + len(value), kind | (_NESTED if kind == _TUPLE_ORIGINAL else 0))
        + value
        + bytes(-len(value) % 4)
        for kind, value in message.attributes(entry)
        if kind in (_TUPLE_ORIGINAL, _ID, _ZONE)
    )
    kernel.send(_request(_DELETE, message.NLM_F_ACK, family, named))
    for kind, _, _, _, body in message.messages(kernel.recv(_RECEIVE)):
        if kind == message.NLMSG_ERROR:
            code = message.error_code(body)
            if code not in (0, errno.ENOENT):  # it may have ended meanwhile
                raise KernelError(f"a connection cannot be removed: {errno.errorcode.get(code, code)}")
            return code == 0
    return False
