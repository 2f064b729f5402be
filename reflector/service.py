"""The running reflector: configuration in, declared state followed, signals, telemetry, an orderly end.

SIGTERM and SIGINT end every session with a Cease that says so (RFC 9003); SIGHUP reads the configuration
anew, and a bad one is refused whole while the old one stays in force. With a datastore the peers are what
the plan gives this node, followed live; a plan that cannot be made changes nothing, and a datastore that
is lost takes nothing away.
"""

import asyncio
import contextlib
import gc
import os
import resource
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import structlog

from bgpd.datastore import Changes, Interests, Snapshot, open_datastore
from bgpd.datastore.errors import DatastoreError
from bgpd.datastore.store import Datastore
from bgpd.plan import NodePlan, PlanError, SecretRef, plan_node
from bgpd.resources import ResourceSet
from bgpd.telemetry.documents import plain
from bgpd.telemetry.http import HttpOptions, HttpOptionsError, StatusServer
from bgpd.telemetry.logging import set_level
from bgpd.telemetry.mqtt import MqttOptions, MqttPublisher
from bgpd.telemetry.status import EventRing, Severity
from bgpd.telemetry.systemd import SystemdNotifier
from reflector.config import ConfigError, ReflectorConfig, load
from reflector.declared import spec_of
from reflector.server import Server
from reflector.sockets import SocketError
from reflector.spec import ReflectorSpec, from_config, read_secret
from reflector.status import ReflectorStatus

LINGER = 0.5  # seconds that last words get to leave the host
DESCRIPTORS = 65536
# What the plan of a reflector's sessions depends on: nothing of any workload.
INTERESTS = Interests(kinds=frozenset({"Node", "BGPPeer", "BGPConfiguration", "BGPFilter", "IPPool"}))

log = structlog.get_logger()


def calm_garbage_collector() -> None:
    """Collect rarely: a full collection over a table of routes is a pause that every client sees.

    Routes are freed by reference counts; cycles arise per session, not per route.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 50, 100)


def raise_descriptor_limit() -> None:
    """One descriptor per client: take what the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Service:
    """A reflector from its configuration file."""

    def __init__(self, path: Path, config: ReflectorConfig, environ: Mapping[str, str] = os.environ) -> None:
        self._path = path
        self._config = config
        self._environ = environ
        self._stop = asyncio.Event()
        self._reason = "stopped by the operator"
        self._store: Datastore | None = None
        self._resources: ResourceSet | None = None
        self._plan: NodePlan | None = None
        self._problems: tuple[str, ...] = ()
        self.events = EventRing()
        self.server: Server | None = None
        self.http: StatusServer | None = None

    async def run(self) -> None:
        """Run until told to stop; raises ConfigError, SocketError or HttpOptionsError at the start only."""
        loop = asyncio.get_running_loop()
        raise_descriptor_limit()
        set_level(self._config.log_level)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        notifier = SystemdNotifier(self._environ)
        following: asyncio.Task[None] | None = None
        if self._config.datastore is None:
            self._start(from_config(self._config, self._environ))
        else:
            self._store = open_datastore(self._config.datastore, self._environ)
            following = asyncio.create_task(self._follow(self._store), name="datastore")
            log.info("waiting for the datastore", datastore=self._store.location, node=self._config.node)
        try:
            await self._until_started(following)
            if self.server is not None:
                await self._serve(self.server, notifier, following)
        finally:
            notifier.stopping()
            if following is not None:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
            if self._store is not None:
                await self._store.close()
            if self.server is not None:
                log.info("reflector stopping", sessions=len(self.server.established))
                self.server.stop(self._reason)
                await asyncio.sleep(LINGER)

    async def _until_started(self, following: asyncio.Task[None] | None) -> None:
        """Wait for the first plan that can be carried out, or for the end."""
        stopping = asyncio.create_task(self._stop.wait())
        try:
            while self.server is None and not stopping.done():
                tasks = {stopping} if following is None else {stopping, following}
                await asyncio.wait(tasks, timeout=0.05, return_when=asyncio.FIRST_COMPLETED)
                if following is not None and following.done():
                    following.result()
        finally:
            stopping.cancel()

    async def _serve(
        self, server: Server, notifier: SystemdNotifier, following: asyncio.Task[None] | None
    ) -> None:
        source = self._status(server)
        self.http = self._http(source)
        mqtt = self._mqtt(source)
        if self.http is not None:
            await self.http.start()
            log.info("status is served", url=self.http.url)
        if mqtt is not None:
            mqtt.start()
        calm_garbage_collector()
        watchdog = asyncio.create_task(notifier.feed_watchdog(source.healthy), name="watchdog")
        stopping = asyncio.create_task(self._stop.wait())
        log.info("reflector ready", ports=server.ports, asn=server.spec.speaker.asn)
        notifier.ready()
        try:
            tasks = {stopping} if following is None else {stopping, following}
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if following is not None and following.done():
                following.result()
        finally:
            watchdog.cancel()
            stopping.cancel()
            if mqtt is not None:
                await mqtt.stop()
            if self.http is not None:
                await self.http.stop()

    def stop(self, reason: str = "") -> None:
        """End the service; `reason` goes to the peers."""
        self._reason = reason or self._reason
        self._stop.set()

    # Declared state

    def _start(self, spec: ReflectorSpec) -> None:
        server = Server(spec, asyncio.get_running_loop(), self.events, time.time)
        server.start()
        self.server = server

    async def _follow(self, store: Datastore) -> None:
        """Keep in step with the datastore. The store sees to its own outages; what it says last stays."""
        resources = ResourceSet.of()
        async with contextlib.aclosing(store.watch(INTERESTS)) as stream:
            async for news in stream:
                if isinstance(news, Snapshot):
                    resources = ResourceSet.of(entry.resource for entry in news.entries)
                elif isinstance(news, Changes):
                    resources = resources.with_changes(
                        {c.key: c.entry.resource if c.entry else None for c in news.changes}
                    )
                for invalid in news.invalid:
                    log.error("a resource cannot be read; its last good version counts", reason=str(invalid))
                self._resources = resources
                self._declare()

    def _declare(self) -> None:
        """Make the plan and carry it out; what is wrong is said and changes nothing."""
        if self._resources is None or self._config.node is None:
            return
        try:
            plan = plan_node(self._resources, self._config.node)
            spec, problems = spec_of(plan, self._config, self._read_secret)
            self._carry_out(spec)
        except (PlanError, ValueError, SocketError) as error:
            self._refused(f"the plan cannot be carried out: {error}")
            return
        self._plan = plan
        self._problems = tuple(problems)
        for problem in problems:
            log.error("a peer is left out", reason=problem)

    def _carry_out(self, spec: ReflectorSpec) -> None:
        if self.server is None:
            self._start(spec)
        else:
            self.server.configure(spec)

    def _read_secret(self, ref: SecretRef) -> str | None:
        try:
            return (self._config.secrets / ref.name / ref.key).read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError):
            return None

    def reload(self) -> None:
        """Read the configuration and the passwords again; whatever is wrong changes nothing."""
        if self.server is None:
            return
        try:
            config = load(self._path)
            if (config.datastore, config.node) != (self._config.datastore, self._config.node):
                raise ConfigError("datastore and node are fixed while the reflector runs; restart it")
            if config.datastore is None:
                self.server.configure(from_config(config, self._environ))
        except (ConfigError, ValueError, SocketError) as error:
            self._refused(f"configuration refused; the old one stays in force: {error}")
            return
        self._config = config
        set_level(config.log_level)
        self._declare()
        log.info("configuration applied", path=str(self._path))
        self.events.add(time.time(), "config.applied", f"{self._path} applied")

    def _refused(self, why: str) -> None:
        log.error("refused", reason=why)
        self.events.add(time.time(), "config.refused", why, severity=Severity.ERROR)
        if self.server is None:
            self._problems = (why,)

    # Telemetry

    def _status(self, server: Server) -> ReflectorStatus:
        return ReflectorStatus(
            server,
            self._config.name or self._config.node or "reflector",
            metadata.version("cairn"),
            started_at=time.time(),
            store=lambda: self._store.health() if self._store is not None else None,
            plan=lambda: {} if self._plan is None else plain(asdict(self._plan)),
            problems=lambda: self._problems,
        )

    def _http(self, source: ReflectorStatus) -> StatusServer | None:
        options = self._config.http
        if options is None:
            return None
        token = read_secret(options.token, self._environ)
        return StatusServer(
            source, HttpOptions(str(options.address), options.port, token, options.certificate, options.key)
        )

    def _mqtt(self, source: ReflectorStatus) -> MqttPublisher | None:
        options = self._config.mqtt
        if options is None:
            return None
        broker = MqttOptions(
            options.host,
            options.port,
            options.prefix,
            options.username,
            read_secret(options.password, self._environ),
            tls=options.ca is not None,
            ca=options.ca,
        )
        return MqttPublisher(source, broker)


async def run(path: Path) -> None:
    """Run a reflector by its configuration file."""
    try:
        await Service(path, load(path)).run()
    except HttpOptionsError as error:
        raise ConfigError(f"{path}: http: {error}") from error
    except DatastoreError as error:
        raise ConfigError(f"{path}: datastore: {error}") from error
