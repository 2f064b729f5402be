"""The connections of an HTTP server, of which there are never more than its service can spare.

aiohttp lets whoever has connected stay: silent for ever, within a request, or an hour between two. In a
service whose sessions and datastore need descriptors too, that would let anybody who reaches the port keep
peers out. So where there are many, the oldest that is not being answered goes when another one comes; and the
oldest of those still at the handshake of TLS, for which nobody needs a token. Who asks as soon as he is
connected, as probes do, is answered in any crowd.

asyncio and aiohttp leave each connection referring to itself, and the services collect such things rarely. So
the youngest of them are looked through after every so many connections.

Also here: what cannot be read as HTTP is the other side's fault, and no error of ours with a traceback.
"""

import asyncio
import gc
import logging
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from bgpd.telemetry.certificate import Certificate

HANDSHAKE = 10.0  # seconds for that of TLS
_MOST = 500
_AT_ONCE = 32  # are accepted in a turn of the loop, before any of them counts
_LEFT = 1000  # connections, of a few kilobytes each, that may be left to the garbage collector
_EXHAUSTED = 1.0  # seconds without accepting when the system has nothing left for one

_log = logging.getLogger(__name__)


class Connections:
    """Serves those to a listening socket: at most `most` (or a burst more), half as many at the handshake.

    `listen`, then `close`; what is being served by then is left to `server`.
    """

    def __init__(
        self, server: web.Server, listener: socket.socket, certificate: Certificate | None = None
    ) -> None:
        self.most = min(_MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        self._server = server
        self._listener = listener
        self._certificate = certificate
        self._answering: set[web.RequestHandler] = set()
        self._coming: dict[asyncio.Task[None], None] = {}  # oldest first
        self._left = 0
        self._loop = asyncio.get_running_loop()

    def listen(self) -> None:
        if self._listener.fileno() >= 0:  # it may have been closed while it paused
            self._loop.add_reader(self._listener, self._accept)

    def close(self) -> None:
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for task in self._coming:
            task.cancel()

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                sock, _address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                break
            except OSError as error:
                _log.error("no connection can be accepted: %s", error.strerror)
                self._loop.remove_reader(self._listener)
                self._loop.call_later(_EXHAUSTED, self.listen)
                return
            sock.setblocking(False)
            self._make_room()
            task = self._loop.create_task(self._greet(sock))
            self._coming[task] = None
            task.add_done_callback(lambda task: self._coming.pop(task, None))
            self._left += 1
        if self._left >= _LEFT:
            self._left = 0
            gc.collect(0)

    async def _greet(self, sock: socket.socket) -> None:
        """Have it served; what it is shown is the certificate of today."""
        context = None
        if self._certificate is not None:
            self._certificate.renew()
            context = self._certificate.context
        with suppress(OSError):  # of TLS, too: who does not speak it
            await self._loop.connect_accepted_socket(
                self._server, sock, ssl=context, ssl_handshake_timeout=HANDSHAKE if context else None
            )

    def _make_room(self) -> None:
        if len(self._coming) >= max(_AT_ONCE, self.most // 2):
            oldest = next(iter(self._coming))
            del self._coming[oldest]
            oldest.cancel()
        present = self._server.connections
        surplus = len(present) - self.most + 1
        if surplus > 0:
            waiting = [each for each in present if each not in self._answering]
            for connection in waiting[:surplus]:
                if connection.transport is not None:
                    connection.transport.abort()

    @contextmanager
    def answering(self, request: web.BaseRequest) -> Iterator[None]:
        """Keep the connection of `request` until the answer is known."""
        self._answering.add(request.protocol)
        try:
            yield
        finally:
            self._answering.discard(request.protocol)


def is_our_error(record: logging.LogRecord) -> bool:
    """Whether what aiohttp is about to log is more than bad octets from outside; a filter of its logger."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError | web.RequestPayloadError)
