"""Connections out: from a session's wish for one to a connected socket, or the reason why there is none."""

import asyncio
import errno
import socket
from collections.abc import Callable
from ipaddress import ip_network

from bgpd.session.session import Session
from reflector import sockets
from reflector.entry import Entry

CONNECT_TIMEOUT = 10.0  # seconds


class Dialling:
    """Attempts to connect; `link` takes the socket of a session, `follow` what the peer has to say after."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        link: Callable[[Entry, socket.socket, Session], None],
        follow: Callable[[Entry], None],
    ) -> None:
        self._loop = loop
        self._link = link
        self._follow = follow

    def connect(self, entry: Entry, attempt: int) -> None:
        """Begin an attempt, with the socket options the peer's spec asks for."""
        spec = entry.spec
        sock: socket.socket | None = None
        try:
            remote = sockets.endpoint(entry.address, spec.port)
            sock = sockets.unconnected(entry.address, spec.local_address or entry.recalled)
            sockets.set_ttl(
                sock, security_hops=spec.ttl_security, multihop=spec.multihop, external=spec.external
            )
            if spec.password is not None:
                sockets.set_md5(sock, ip_network(entry.address), spec.password)
        except OSError as error:
            if sock is not None:
                sock.close()
            entry.unreached = True
            entry.peer.connect_failed(attempt, error.strerror or str(error), self._loop.time())
            return
        entry.attempts[attempt] = sock
        code = sock.connect_ex(remote)
        if code not in (0, errno.EINPROGRESS):
            self._connected(entry, attempt, code)
            return
        self._loop.add_writer(sock.fileno(), self._connected, entry, attempt, None)
        self._loop.call_later(CONNECT_TIMEOUT, self._connected, entry, attempt, errno.ETIMEDOUT)

    def _connected(self, entry: Entry, attempt: int, code: int | None) -> None:
        sock = entry.attempts.pop(attempt, None)
        if sock is None:
            return
        self._loop.remove_writer(sock.fileno())
        if code is None:
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        now = self._loop.time()
        entry.unreached = bool(code)
        if code:
            sock.close()
            entry.peer.connect_failed(attempt, f"connect: {errno.errorcode.get(code, code)}", now)
        else:
            session = entry.peer.connected(attempt, now)
            if session is None:
                sock.close()
            else:
                self._link(entry, sock, session)
        self._follow(entry)

    def cancel(self, entry: Entry, attempt: int) -> None:
        """Give an attempt up; harmless when it is over."""
        sock = entry.attempts.pop(attempt, None)
        if sock is not None:
            self._loop.remove_writer(sock.fileno())
            sock.close()
