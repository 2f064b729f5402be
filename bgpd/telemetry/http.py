"""A service's status over HTTP: what probes, Prometheus, `cairn` and the web page read.

    /healthz  /readyz                  200 or 503, the reason as text; open to everybody
    /metrics                           Prometheus
    /api/v1/status | plan | graph | samples                JSON, shapes in `documents`
    /api/v1/peers?state=&kind=&search=&sort=&offset=&limit=
    /api/v1/routes?direction=&prefix=&longer=&family=&peer=&offset=&limit=
    /api/v1/events?after=&limit=       JSON; as text/event-stream a live feed, one event per message
    /api/v1/openapi.json               all of this described, see `openapi`
    POST /api/v1/drain | undrain       what changes anything: this,
    POST /api/v1/peers/VERB?peer=&reason=     one session (`PeerVerb`),
    POST /api/v1/log-level?level=      and the log
    /                                  the web page, see `page`
    /status /protocols /routes         what Alice-LG asks, see `birdwatcher`

On loopback addresses it is open by default. Anywhere else it demands a token and TLS, or refuses to start: a
status page tells an attacker the network's plan. Without a token only local names are served and foreign
`Origin`s refused, so that a web page in somebody's browser can neither read nor drain.
"""

import asyncio
import hmac
import json
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from aiohttp import web

from bgpd.telemetry import page
from bgpd.telemetry.answers import MAX_LIMIT, QUESTIONS, Answers, QuestionError, number, one_of
from bgpd.telemetry.birdwatcher import Birdwatcher
from bgpd.telemetry.certificate import Certificate, CertificateError
from bgpd.telemetry.connections import Connections, is_our_error
from bgpd.telemetry.documents import (
    SCHEMA_VERSION,
    Document,
    event_document,
    status_document,
)
from bgpd.telemetry.logging import LEVELS, set_level
from bgpd.telemetry.metrics import CONTENT_TYPE, Metrics
from bgpd.telemetry.openapi import description
from bgpd.telemetry.readiness import readiness
from bgpd.telemetry.status import Event, PeerVerb, StatusSource
from bgpd.telemetry.turns import BusyError, Turns

_HEARTBEAT = 15.0
_PATIENCE = 60.0  # seconds for a reader of the feed to take something
_SEARCHES, _LOOKS = 32, 256  # answers that may be awaited: searches of the table, and all others
_OPEN_PATHS = frozenset({"/healthz", "/readyz"})
_PLAIN = tuple(what for what in QUESTIONS if what != "events")  # those that are JSON alone

_Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Where to listen (port 0: any free one) and who may ask. `certificate`, `key`: PEM files."""

    address: str = "127.0.0.1"
    port: int = 0
    token: str | None = field(default=None, repr=False)
    certificate: Path | None = None
    key: Path | None = None

    @property
    def is_local(self) -> bool:
        return _is_local(self.address)


class HttpOptionsError(ValueError):
    """An option with which the server would be open to strangers, or cannot start; its name comes first."""


class StatusServer:
    """Serves one `StatusSource`. `start`, then `stop`."""

    def __init__(
        self,
        source: StatusSource,
        options: HttpOptions,
        metrics: Metrics | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not options.is_local and (not options.token or not options.certificate):
            raise HttpOptionsError(
                f"address: the status server may listen on {options.address} only with a token and a TLS "
                "certificate; set both, or listen on 127.0.0.1"
            )
        if options.key is not None and options.certificate is None:
            raise HttpOptionsError("key: alone it is of no use; set the certificate it was made for as well")
        self._source = source
        self._options = options
        self._metrics = metrics or Metrics(source, clock=clock)
        self._clock = clock
        self._answers = Answers(source, clock)
        self._searches, self._looks = Turns(_SEARCHES), Turns(_LOOKS)
        self._arrived = asyncio.Event()
        self._unsubscribe: Callable[[], None] = lambda: None
        self._feeds = 0
        self._runner: web.AppRunner | None = None
        self._connections: Connections
        self._port = 0

    @property
    def url(self) -> str:
        scheme = "https" if self._options.certificate else "http"
        host = f"[{self._options.address}]" if ":" in self._options.address else self._options.address
        return f"{scheme}://{host}:{self._port}"

    async def start(self) -> None:
        """Raises OSError if the address cannot be had, HttpOptionsError if a certificate cannot be used."""
        app = web.Application(middlewares=[self._guard])
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._get_metrics),
                *(web.get(f"/api/v1/{what}", self._answering(what)) for what in _PLAIN),
                web.get("/api/v1/events", self._events),
                web.get("/api/v1/openapi.json", self._openapi),
                web.post("/api/v1/drain", self._drain),
                web.post("/api/v1/undrain", self._undrain),
                *(web.post(f"/api/v1/peers/{verb}", partial(self._operate, verb)) for verb in PeerVerb),
                web.post("/api/v1/log-level", self._log_level),
                *page.routes(),
                *Birdwatcher(self._source, self._clock, self._answers.peer_list, self._searches).routes(),
            ]
        )
        logging.getLogger("aiohttp.server").addFilter(is_our_error)
        certificate = self._certified()
        listener = _listening(self._options.address, self._options.port)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        assert self._runner.server is not None, "it has just been set up"
        self._connections = Connections(self._runner.server, listener, certificate)
        self._connections.listen()
        self._port = int(listener.getsockname()[1])
        self._unsubscribe = self._source.events.subscribe(self._announce)

    async def stop(self) -> None:
        self._unsubscribe()
        if self._runner is not None:
            self._connections.close()
            await self._runner.cleanup()
            self._runner = None

    def _certified(self) -> Certificate | None:
        if self._options.certificate is None:
            return None
        try:
            return Certificate(self._options.certificate, self._options.key)
        except CertificateError as error:
            raise HttpOptionsError(str(error)) from error

    def _announce(self, _: Event) -> None:
        self._arrived.set()
        self._arrived = asyncio.Event()

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Answer) -> web.StreamResponse:
        if request.path not in _OPEN_PATHS:
            token = self._options.token
            if token is not None and request.path not in page.FILES:
                given = request.headers.get("Authorization", "")
                if not hmac.compare_digest(_octets(given), _octets(f"Bearer {token}")):
                    return _failure(401, "send the token: Authorization: Bearer ...")
            elif token is None and not _is_local(_split(f"//{request.host}").hostname or ""):
                return _failure(403, f"{request.host} is no local name")
            origin = request.headers.get("Origin")
            if origin is not None and _split(origin).netloc != request.host:
                return _failure(403, "requests from other sites' pages are refused")
        try:
            with self._connections.answering(request):
                return await handler(request)
        except QuestionError as error:
            return _failure(400, str(error))
        except BusyError as error:
            return _failure(503, str(error))
        except web.HTTPException as error:
            return _failure(error.status, error.text or error.reason)

    async def _healthz(self, _: web.Request) -> web.Response:
        working, why = self._source.working()
        shown = (self._source.healthy()[1] or "ok") if working else why
        return web.Response(status=200 if working else 503, text=f"{shown}\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        service = self._source.service()
        ready, reason = readiness(
            self._answers.peer_list(),
            self._clock() - service.started_at,
            healthy=self._source.healthy(),
            mode=service.mode,
        )
        return web.Response(status=200 if ready else 503, text=f"{reason}\n")

    async def _get_metrics(self, _: web.Request) -> web.Response:
        body = await self._looks.take(self._metrics.render)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    def _answering(self, what: str) -> _Answer:
        turns = self._searches if what == "routes" else self._looks

        async def answer(request: web.Request) -> web.StreamResponse:
            return await turns.take(lambda: _json(self._answers.answer(what, request.query)))

        return answer

    async def _openapi(self, _: web.Request) -> web.Response:
        return _json(description(self._source.service().version, MAX_LIMIT))

    async def _events(self, request: web.Request) -> web.StreamResponse:
        live = request.method == "GET" and "text/event-stream" in request.headers.get("Accept", "")
        if not live:
            return _json(self._answers.answer("events", request.query))
        last = self._source.events.last_id
        resume = request.headers.get("Last-Event-ID") or request.query.get("after") or str(last)
        return await self._feed(request, number(resume, "Last-Event-ID", last))

    async def _feed(self, request: web.Request, last: int) -> web.StreamResponse:
        """Send events as they come. A slow reader skips what the ring has forgotten; ids show the gap."""
        if self._feeds >= self._connections.most // 2:
            return _failure(503, f"{self._feeds} readers have a feed already; ask for a list of events")
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        self._feeds += 1
        try:
            await response.prepare(request)
            await self._follow(response, last)
        except ConnectionError:  # reset before it is written to, or lost while that waits
            pass  # who closes the page is gone, and that is all
        except TimeoutError:
            if request.transport is not None:  # what it has not taken so far it would not take now
                request.transport.abort()
        finally:
            self._feeds -= 1
        return response

    async def _follow(self, response: web.StreamResponse, last: int) -> None:
        ring = self._source.events
        while True:
            arrived = self._arrived
            for event in ring.after(last, 100):
                text = json.dumps(event_document(event))
                await _send(response, f"id: {event.id}\ndata: {text}\n\n".encode())
                last = event.id
            if last < ring.last_id:
                continue
            try:
                async with asyncio.timeout(_HEARTBEAT):
                    await arrived.wait()
            except TimeoutError:
                await _send(response, b": still here\n\n")

    async def _drain(self, _: web.Request) -> web.Response:
        await self._source.drain()
        return _json(status_document(self._source, self._clock()))

    async def _undrain(self, _: web.Request) -> web.Response:
        await self._source.drain(False)
        return _json(status_document(self._source, self._clock()))

    async def _operate(self, verb: PeerVerb, request: web.Request) -> web.Response:
        peer = request.query.get("peer")
        if not peer:
            raise QuestionError("peer is the name or address of a peer")
        try:
            await self._source.operate(verb, peer, request.query.get("reason", ""))
        except LookupError as error:
            return _failure(404, str(error))
        except NotImplementedError as error:
            return _failure(501, str(error))
        return _json(status_document(self._source, self._clock()))

    async def _log_level(self, request: web.Request) -> web.Response:
        wanted = one_of(request.query, "level", LEVELS)
        if wanted is None:
            raise QuestionError(f"level is one of {', '.join(LEVELS)}")
        set_level(wanted)
        return _json(status_document(self._source, self._clock()))


async def _send(response: web.StreamResponse, octets: bytes) -> None:
    """Raises ConnectionError where nobody reads any more, and TimeoutError where nobody does so far."""
    async with asyncio.timeout(_PATIENCE):
        await response.write(octets)


def _json(document: Document, status: int = 200) -> web.Response:
    return web.json_response(document, status=status, headers={"Cache-Control": "no-store"})


def _failure(status: int, reason: str) -> web.Response:
    return _json({"version": SCHEMA_VERSION, "error": reason}, status)


def _listening(address: str, port: int) -> socket.socket:
    """Raises OSError."""
    family, _, _, _, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
    listener = socket.create_server(place, family=family, backlog=32)
    listener.setblocking(False)
    return listener


def _octets(header: str) -> bytes:
    """As aiohttp found them on the wire, whatever they are."""
    return header.encode("utf-8", "surrogateescape")


def _split(url: str) -> SplitResult:
    """The parts of a URL; those of none where it is none."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
