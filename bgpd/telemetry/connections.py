"""The connections of an HTTP server, of which there are never more than its service can spare.

aiohttp lets whoever has connected stay: silent for ever, within a request, or an hour between two. In a
service whose sessions and datastore need descriptors too, that would let anybody who reaches the port keep
peers out. So where there are many, the oldest that is not being answered goes when another one comes. Who
asks as soon as he is connected, as probes do, is answered in any crowd.

Also here: what cannot be read as HTTP is the other side's fault, and no error of ours with a traceback.
"""

import logging
import resource
from asyncio import Protocol
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from bgpd.telemetry.certificate import Certificate

HANDSHAKE = 10.0  # seconds for that of TLS; until it is over a connection is not counted
_MOST = 500


class Connections:
    """Gives a listening socket `server`'s protocols, for at most `most` connections (or a burst more)."""

    def __init__(self, server: web.Server, certificate: Certificate | None = None) -> None:
        self.most = min(_MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        self._server = server
        self._certificate = certificate
        self._answering: set[web.RequestHandler] = set()

    def accept(self) -> Protocol:
        """Make room, and give the protocol of one more; what it is shown is the certificate of today."""
        if self._certificate is not None:
            self._certificate.renew()
        present = self._server.connections
        surplus = len(present) - self.most + 1
        if surplus > 0:
            waiting = [each for each in present if each not in self._answering]
            for connection in waiting[:surplus]:
                if connection.transport is not None:
                    connection.transport.abort()
        return self._server()

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
