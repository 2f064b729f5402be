"""What a kernel says of its routes, as it happens: the stop-watch of the agent's bench.

A netlink socket inside the measured namespace hears of every route written. Only IPv4 destination, arrival
and disappearance are kept; a hundred thousand routes must not slow down what is being measured.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

_NEW, _DELETE = 24, 25
_IPV4_ROUTES = 0x40
_RECEIVE_BUFFER_FORCE = 33
_BUFFER = 256 << 20
_HEADER = struct.Struct("=IHHII")
_ROUTE = struct.Struct("=BBBB")  # family, prefix length, …
_ATTRIBUTE = struct.Struct("=HH")
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class KernelError(Exception):
    """The kernel did not get there in time, or told more than could be heard."""


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Sockets opened here live in the namespace (the calling thread is in it meanwhile)."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if _libc.setns(there, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"namespace {namespace} cannot be entered")
        yield
    finally:
        _libc.setns(before, _CLONE_NEWNET)
        os.close(before)
        os.close(there)


class Kernel:
    """The IPv4 routes of a namespace being written. ``since``: destination → when it last appeared."""

    def __init__(self, namespace: str) -> None:
        with inside(namespace):
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.setsockopt(socket.SOL_SOCKET, _RECEIVE_BUFFER_FORCE, _BUFFER)
        self._socket.bind((0, _IPV4_ROUTES))
        self._socket.setblocking(False)
        self.since: dict[tuple[int, bytes], float] = {}
        self.gone: dict[tuple[int, bytes], float] = {}
        self._moved = asyncio.Event()
        self.last = 0.0

    def __enter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self._socket, self._read)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def forget(self) -> None:
        self.since.clear()
        self.gone.clear()

    def _read(self) -> None:
        for _ in range(2000):
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                break
            self._messages(data, time.monotonic())
        self._moved.set()

    def _messages(self, data: bytes, now: float) -> None:
        position = 0
        while position + 44 <= len(data):
            length, kind = _HEADER.unpack_from(data, position)[:2]
            if kind in (_NEW, _DELETE):
                prefix = data[position + 17]
                at, end = position + 28, position + length
                while at + 4 <= end:
                    size, attribute = _ATTRIBUTE.unpack_from(data, at)
                    if attribute == 1:
                        self._note(kind, (prefix, data[at + 4 : at + 8]), now)
                        break
                    at += max(4, size + 3 & ~3)
            position += max(16, length + 3 & ~3)

    def _note(self, kind: int, destination: tuple[int, bytes], now: float) -> None:
        self.last = now
        if kind == _NEW:
            self.gone.pop(destination, None)
            self.since[destination] = now
        else:
            self.since.pop(destination, None)
            self.gone[destination] = now

    async def until(self, count: int, seconds: float) -> float:
        """When the last of ``count`` destinations appeared. Raises KernelError after ``seconds``."""
        await self._wait(lambda: len(self.since) >= count, seconds, f"{count} routes")
        return max(self.since.values())

    async def shown(self, destination: tuple[int, bytes], present: bool, seconds: float) -> float:
        """When one destination appeared (or vanished)."""
        seen = self.since if present else self.gone
        await self._wait(lambda: destination in seen, seconds, socket.inet_ntoa(destination[1]))
        return seen[destination]

    async def _wait(self, condition: object, seconds: float, what: str) -> None:
        assert callable(condition)
        deadline = time.monotonic() + seconds
        while not condition():
            self._moved.clear()
            left = deadline - time.monotonic()
            if left <= 0:
                raise KernelError(f"{what} not within {seconds:.0f} s ({len(self.since)} routes are there)")
            try:
                async with asyncio.timeout(left):
                    await self._moved.wait()
            except TimeoutError:
                continue
