"""Going into a network namespace with this very process, for the moments that need a socket there.

A socket belongs for ever to the namespace it was made in. So the lab asks a service that listens on
127.0.0.1 of its own namespace by making the socket there and coming straight back; everything else of the
process stays where it is. Python has `os.setns` since 3.12; 3.11 is served by the C library's.
"""

import ctypes
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ctl.services import AddressInfo

_CLONE_NEWNET = 0x40000000
_HERE = Path("/proc/thread-self/ns/net")
_NAMESPACES = Path("/run/netns")


def enter(namespace: str) -> None:
    """Move this thread, and those it will start, into a named namespace."""
    _enter(_NAMESPACES / namespace)


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Be in a named namespace for a moment. Nothing may be awaited meanwhile."""
    back = os.open(_HERE, os.O_RDONLY)
    try:
        enter(namespace)
        try:
            yield
        finally:
            _setns(back)
    finally:
        os.close(back)


def sockets_in(namespace: str) -> Callable[[AddressInfo], socket.socket]:
    """A factory of sockets that belong to a namespace."""

    def make(address: AddressInfo) -> socket.socket:
        with inside(namespace):
            return socket.socket(address[0], address[1], address[2])

    return make


def _enter(path: Path) -> None:
    there = os.open(path, os.O_RDONLY)
    try:
        _setns(there)
    finally:
        os.close(there)


def _setns(descriptor: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot enter a network namespace: {os.strerror(number)}")
