"""Status and events on an MQTT broker, which may be absent, slow or refusing without anybody else noticing.

    <prefix>/v1/<service>/<node>/status   retained; the broker itself says {"state": "offline"} when we vanish
    <prefix>/v1/<service>/<node>/events   one JSON document per event, QoS 1
    <prefix>/v1/<service>/<node>/peers/<name>   retained; one peer, when it changed; see `peer_summaries`

Events are queued, at most `buffer` of them. When the queue is full the oldest are dropped and counted, and
the next thing published is a summary of what was dropped (kind "events.dropped"). An event leaves the queue
when the broker has confirmed it, so one may arrive twice (its `id` tells), none is lost while there is
room. Publishing happens in a task of its own; `add`ing an event costs an append. Times between two things are
the monotonic clock's, so that it goes on when the wall clock is set.
"""

import asyncio
import json
import logging
import ssl
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiomqtt

from bgpd.datastore.backoff import Backoff
from bgpd.telemetry.documents import SCHEMA_VERSION, Document, event_document, rfc3339, status_document
from bgpd.telemetry.peer_summaries import PeerSummaries, level_of
from bgpd.telemetry.status import Event, PeerStatus, StatusSource

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MqttOptions:
    """The broker. `ca` None with `tls` trusts the system's authorities. Times in seconds."""

    host: str
    port: int = 1883
    prefix: str = "cairn"
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    buffer: int = 1000
    status_every: float = 10.0
    peers_per_status: int = 100
    timeout: float = 10.0
    keepalive: int = 15
    retry_first: float = 0.5
    retry_limit: float = 30.0


class MqttPublisher:
    """Publishes one `StatusSource`. `start`, then `stop`; in between nothing is ever raised."""

    def __init__(
        self, source: StatusSource, options: MqttOptions, *, clock: Callable[[], float] = time.time
    ) -> None:
        service = source.service()
        self._source = source
        self._options = options
        self._clock = clock
        self._topic = f"{options.prefix}/v1/{service.service}/{level_of(service.node)}"
        self._queue: deque[Event] = deque()
        self._dropped: Counter[str] = Counter()
        self._wake = asyncio.Event()
        self._unsubscribe: Callable[[], None] = lambda: None
        self._task: asyncio.Task[None] | None = None
        self._stopping = self._leaving = False
        self._peers = PeerSummaries(options.peers_per_status)
        self.client: aiomqtt.Client | None = None
        self.published = 0

    @property
    def connected(self) -> bool:
        return self.client is not None

    @property
    def queued(self) -> int:
        return len(self._queue)

    @property
    def dropped(self) -> int:
        """Events dropped and not yet reported to the broker."""
        return self._dropped.total()

    def start(self) -> None:
        self._unsubscribe = self._source.events.subscribe(self._add)
        self._task = asyncio.get_running_loop().create_task(self._run(), name="mqtt")

    async def stop(self, patience: float = 2.0, *, leaving: bool = False) -> None:
        """Publish what is queued and say goodbye, or give up after `patience` seconds.

        `leaving`: for good, so nothing of us shall stay retained.
        """
        self._unsubscribe()
        if self._task is None:
            return
        self._stopping, self._leaving = True, leaving
        self._wake.set()
        if not self.connected:
            self._task.cancel()
        done, _ = await asyncio.wait({self._task}, timeout=patience)
        if not done:
            self._task.cancel()
            await asyncio.wait({self._task})
        self._task = None

    def _add(self, event: Event) -> None:
        if len(self._queue) >= self._options.buffer:
            self._dropped[self._queue.popleft().kind] += 1
        self._queue.append(event)
        self._wake.set()

    async def _run(self) -> None:
        backoff = Backoff(self._options.retry_first, self._options.retry_limit)
        told = ""
        while not self._stopping:
            began = time.monotonic()
            try:
                await self._session()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the broker's side and no service's
                why = str(error) or type(error).__name__
                if self.connected or why != told:
                    told = why
                    _log.warning(
                        "mqtt broker %s:%d not usable: %s", self._options.host, self._options.port, why
                    )
            self.client = None
            if time.monotonic() - began > self._options.retry_limit:
                backoff.reset()
            if not self._stopping:
                await asyncio.sleep(backoff.next())

    async def _session(self) -> None:
        """One connection's life; raises when it ends, returns when we are to stop."""
        options = self._options
        async with aiomqtt.Client(
            options.host,
            options.port,
            username=options.user,
            password=options.password,
            will=aiomqtt.Will(f"{self._topic}/status", self._offline("lost"), qos=1, retain=True),
            tls_context=self._tls(),
            timeout=options.timeout,
            keepalive=options.keepalive,
        ) as client:
            self.client = client
            _log.info("mqtt broker %s:%d connected", options.host, options.port)
            self._peers.forget()
            finding = asyncio.create_task(self._find_retained(client), name="mqtt retained")
            try:
                await self._publish_all(client)
            finally:
                finding.cancel()
                await asyncio.wait({finding})

    async def _publish_all(self, client: aiomqtt.Client) -> None:
        status_at = time.monotonic()
        while True:
            self._wake.clear()
            if time.monotonic() >= status_at:
                await self._publish(client, "status", self._online(), retain=True)
                status_at = time.monotonic() + self._options.status_every
                await self._publish_queue(client)
                await self._publish_peers(client, self._source.peers())
            await self._publish_queue(client)
            if self._stopping:
                await self._say_goodbye(client)
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, status_at - time.monotonic())):
                    await self._wake.wait()

    async def _say_goodbye(self, client: aiomqtt.Client) -> None:
        await client.publish(f"{self._topic}/status", self._offline("stopped"), 1, retain=True)
        if self._leaving:
            while self._peers.due(()):
                await self._publish_peers(client, ())
            await client.publish(f"{self._topic}/status", b"", qos=1, retain=True)

    async def _find_retained(self, client: aiomqtt.Client) -> None:
        """Listen until the next status for what the broker has of peers, of which some may be gone by now.

        A broker that lets nobody listen leaves those of a former life retained.
        """
        topic = f"{self._topic}/peers/+"
        found: set[str] = set()
        with suppress(aiomqtt.MqttError, OSError):
            await client.subscribe(topic, qos=0)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._options.status_every):
                    async for message in client.messages:
                        if message.retain:
                            found.add(str(message.topic).rpartition("/")[2])
            for level in found:  # not before: the service may have begun without knowing its peers
                self._peers.found(level)
            await client.unsubscribe(topic)

    async def _publish_queue(self, client: aiomqtt.Client) -> None:
        while self._queue or self._dropped:
            if self._dropped:
                reported = self._dropped.copy()
                await self._publish(client, "events", self._summary(reported))
                self._dropped -= reported
                continue
            event = self._queue[0]
            await self._publish(client, "events", event_document(event))
            if self._queue and self._queue[0] is event:  # else it was dropped, and counted, meanwhile
                self._queue.popleft()
            self.published += 1

    async def _publish_peers(self, client: aiomqtt.Client, peers: Sequence[PeerStatus]) -> None:
        for level, summary in self._peers.due(peers):
            leaf = f"peers/{level}"
            if summary is None:
                await client.publish(f"{self._topic}/{leaf}", b"", qos=1, retain=True)
            else:
                await self._publish(client, leaf, {"at": rfc3339(self._clock()), **summary}, retain=True)
            self._peers.sent(level, summary)

    async def _publish(
        self, client: aiomqtt.Client, leaf: str, document: Document, *, retain: bool = False
    ) -> None:
        await client.publish(f"{self._topic}/{leaf}", json.dumps(document), qos=1, retain=retain)

    def _summary(self, dropped: Counter[str]) -> Document:
        return {
            "version": SCHEMA_VERSION,
            "id": 0,
            "at": rfc3339(self._clock()),
            "kind": "events.dropped",
            "severity": "warning",
            "message": f"{dropped.total()} events were dropped while the broker did not take them",
            "peer": None,
            "data": dict(dropped),
        }

    def _online(self) -> Document:
        return {"state": "online", **status_document(self._source, self._clock())}

    def _offline(self, reason: str) -> str:
        service = self._source.service()
        return json.dumps(
            {
                "version": SCHEMA_VERSION,
                "state": "offline",
                "service": service.service,
                "node": service.node,
                "reason": reason,
            }
        )

    def _tls(self) -> ssl.SSLContext | None:
        if not self._options.tls:
            return None
        context = ssl.create_default_context(cafile=self._options.ca)
        if self._options.certificate is not None:
            context.load_cert_chain(self._options.certificate, self._options.key)
        return context
