"""The sockets on which connections are accepted, and the TCP MD5 keys on them (RFC 2385).

Whoever comes is handed over; nothing is known here of peers. While there is no room, or no file descriptor,
new connections wait in the kernel's queue.
"""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Iterable
from ipaddress import ip_address

import structlog

from reflector import sockets
from reflector.config import IPNetwork, Listen

ACCEPTS = 32  # connections taken per turn
CROWDED = 0.02  # seconds without accepting when there is no room
EXHAUSTED = 1.0  # the same when the system has nothing left for one
SAY_AGAIN = 60.0  # seconds after which it is said again that clients are turned away

log = structlog.get_logger(__name__)  # compiled there is no frame to read it from


class Listening:
    """All addresses of one speaker. `take` gets a connection and the address it comes from."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        take: Callable[[socket.socket, str], None],
        has_room: Callable[[], bool],
    ) -> None:
        self._loop = loop
        self._take = take
        self._has_room = has_room
        self._listeners: list[socket.socket] = []
        self._begun = False
        self._say_from = 0.0

    def open(self, addresses: Iterable[Listen]) -> None:
        """Take the addresses; raises SocketError when one cannot be had. Nobody comes before `begin`."""
        for listen in addresses:
            self._listeners.append(sockets.bound(listen.address, listen.port))

    def begin(self) -> None:
        """Listen, now that there are keys: a connection made before one is set would go on without it."""
        for listener in self._listeners:
            sockets.listen(listener)
            self._watch(listener)
        self._begun = True

    @property
    def ports(self) -> list[int]:
        """The ports listened on, in the order they were asked for."""
        return [listener.getsockname()[1] for listener in self._listeners]

    def is_ample(self, sock: socket.socket) -> bool:
        """Whether a client that nobody declared by itself may have a descriptor; that it may not is told."""
        if sockets.is_ample(sock):
            return True
        if self._loop.time() >= self._say_from:
            self._say_from = self._loop.time() + SAY_AGAIN
            log.error(
                "the last file descriptors are kept for declared peers; other clients are turned away",
                limit="raise LimitNOFILE or ulimit -n",
            )
        return False

    def change_keys(self, changes: Iterable[tuple[IPNetwork, str | None, str | None]]) -> None:
        """Have connections from these addresses signed with another key: addresses, old and new key.

        None: with none. All or nothing: when the system takes one of them not, it raises SocketError and the
        old ones are back. Who waits to be accepted and came before there was a key goes, and may come again.
        """
        changes = [change for change in changes if change[1] != change[2]]
        done: list[tuple[IPNetwork, str | None]] = []
        try:
            for network, old, new in changes:
                done.append((network, old))
                self._set_key(network, new)
        except sockets.SocketError:
            for network, old in reversed(done):
                with contextlib.suppress(sockets.SocketError):  # the one that failed had none, perhaps
                    self._set_key(network, old)
            raise
        if self._begun and any(old is None for _, old, _ in changes):
            self._let_go([network for network, old, _ in changes if old is None])

    def _let_go(self, networks: list[IPNetwork]) -> None:
        """Empty the kernel's queue of who came from these, however little room there is for others."""
        for listener in self._listeners:
            for _ in range(sockets.BACKLOG):  # as many as can have waited
                try:
                    sock, remote = listener.accept()
                except (InterruptedError, ConnectionAbortedError):
                    continue
                except OSError:
                    break
                unsigned = any(ip_address(remote[0].partition("%")[0]) in network for network in networks)
                if unsigned or not self._has_room():
                    sock.close()
                else:
                    self._take(sock, sockets.remote_address(remote))

    def _set_key(self, network: IPNetwork, key: str | None) -> None:
        for listener in self._listeners:
            if (listener.family == socket.AF_INET) == (network.version == 4):
                sockets.set_md5(listener, network, key)

    def close(self) -> None:
        """Listen no more."""
        for listener in self._listeners:
            self._loop.remove_reader(listener.fileno())
            listener.close()
        self._listeners.clear()

    def _watch(self, listener: socket.socket) -> None:
        if listener in self._listeners:  # it may have been closed while it paused
            self._loop.add_reader(listener.fileno(), self._accept, listener)

    def _pause(self, listener: socket.socket, seconds: float) -> None:
        self._loop.remove_reader(listener.fileno())
        self._loop.call_later(seconds, self._watch, listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS):
            if not self._has_room():
                self._pause(listener, CROWDED)
                return
            try:
                sock, remote = listener.accept()
                address = sockets.remote_address(remote)
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    log.error(
                        "no file descriptor left for a new connection", limit="raise LimitNOFILE or ulimit -n"
                    )
                    self._pause(listener, EXHAUSTED)
                elif error.errno in (errno.ENOBUFS, errno.ENOMEM):
                    log.error("no memory left for a new connection", reason=error.strerror)
                    self._pause(listener, EXHAUSTED)
                return
            self._take(sock, address)
