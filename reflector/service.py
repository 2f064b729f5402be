"""The running reflector: configuration in, declared state followed, signals, telemetry, an orderly end.

SIGTERM and SIGINT end every session with a Cease that says so (RFC 9003), for good: peers drop our routes.
SIGQUIT ends us for a restart: peers that know graceful restart keep our routes (RFC 4724), and the lease in
the datastore runs on, so that no other reflector is elected meanwhile. SIGHUP reads the configuration
anew, and a bad one is refused whole while the old one stays in force; SIGRTMIN+22 makes the log detailed,
SIGRTMIN+23 as before. With a datastore the peers are what the plan gives this node, followed live; when that
gives it another AS, router ID or cluster ID, the process is replaced by one that begins with these. One
that waits long for its first plan counts as started and says what it waits for: no restart would mend it.

What is not configured is not loaded: `following` (the datastore) and `surroundings` (HTTP, MQTT) bring
libraries that together weigh more than all the rest.
"""

import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import Mapping
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from pydantic.alias_generators import to_camel

from bgpd.telemetry.aside import aside
from bgpd.telemetry.config import ConfigError, naming
from bgpd.telemetry.descriptors import raise_descriptor_limit
from bgpd.telemetry.logging import level_by_signal, set_level
from bgpd.telemetry.status import EventRing, ServiceStatus, Severity, StatusSource
from bgpd.telemetry.systemd import SystemdNotifier
from reflector.config import ReflectorConfig, load, run_directory
from reflector.recall import Recall
from reflector.server import Server
from reflector.sockets import SocketError
from reflector.spec import ReflectorSpec, from_config
from reflector.status import ReflectorStatus
from reflector.waiting import WaitingStatus

if TYPE_CHECKING:
    from bgpd.telemetry.surroundings import Surroundings
    from reflector.following import Following

PATIENCE = 10.0  # seconds that a start may take before it is one that waits
LINGER = 0.5  # seconds that last words get to leave the host
FIXED = ("listen", "datastore", "node", "name", "http", "mqtt", "run_directory")  # no reload changes them

log = structlog.get_logger()


def calm_garbage_collector() -> None:
    """Collect rarely: a full collection over a table of routes is a pause that every client sees.

    Routes are freed by reference counts; cycles arise per session, not per route. A full table of 500,000
    prefixes makes about 600,000 objects to be traversed, which below this threshold never happens.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(1_000_000, 50, 100)


class Service:
    """A reflector from its configuration file."""

    def __init__(self, path: Path, config: ReflectorConfig, environ: Mapping[str, str] = os.environ) -> None:
        self._path = path
        self._config = config
        self._environ = environ
        self._stop = asyncio.Event()
        self._started = asyncio.Event()
        self._reason = "stopped by the operator"
        self._restarting = False
        self.anew = False  # the process shall be replaced by one that begins with what is declared now
        self._following: Following | None = None
        self._waits_for = "the datastore has not been read yet"
        self.events = EventRing()
        self.server: Server | None = None

    async def run(self) -> None:
        """Run until told to stop; raises ConfigError or SocketError when it cannot start."""
        loop = asyncio.get_running_loop()
        raise_descriptor_limit()
        set_level(self._config.log_level)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGQUIT, self.make_way)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        level_by_signal(loop, lambda: self._config.log_level)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # what came while it was loaded is heard now
        notifier = SystemdNotifier(self._environ)
        stopping = asyncio.create_task(self._stop.wait())
        tasks: set[asyncio.Task[object]] = {stopping}
        try:
            if self._config.http is not None or self._config.mqtt is not None:
                import_module("bgpd.telemetry.surroundings")  # takes long, and peers shall not wait for it
            if self._config.datastore is None:
                self._carry_out(from_config(self._config, self._environ))
            else:
                following = self._following = self._load_following()
                tasks.add(asyncio.create_task(following.run(), name="datastore"))
                log.info("waiting for the datastore", datastore=following.location, node=self._config.node)
                tasks.add(asyncio.create_task(self._started.wait()))
                done, _ = await asyncio.wait(tasks, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    await self._wait(following, notifier, tasks)
                await self._first_of(tasks)
            if self.server is not None:
                tasks = {task for task in tasks if not task.done()}
                await self._serve(self.server, notifier, tasks)
        finally:
            if not self.anew:
                notifier.stopping()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._following is not None:
                await self._following.close(returning=self._restarting or self.anew)
            if self.server is not None:
                sessions = len(self.server.established)
                log.info("reflector stopping", sessions=sessions, restarting=self._restarting)
                self.server.stop(self._reason, restarting=self._restarting)
                await asyncio.sleep(LINGER)

    @staticmethod
    async def _first_of(tasks: set[asyncio.Task[object]]) -> None:
        """Wait until one of them ends; its exception, if it has one, is raised."""
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def _wait(
        self, following: "Following", notifier: SystemdNotifier, tasks: set[asyncio.Task[object]]
    ) -> None:
        """Be there while the first plan is waited for."""
        who = ServiceStatus(
            "reflector", self._config.node or "", metadata.version("cairn"), started_at=time.time()
        )
        source = WaitingStatus(who, self.events, following.health, lambda: self._waits_for)
        surroundings = self._load_surroundings(source)
        if surroundings is not None:
            log.info("status is served", url=await surroundings.start())
        watchdog = aside(notifier.feed_watchdog(source.working), "watchdog")
        notifier.ready(self._waits_for)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            watchdog.cancel()
            if surroundings is not None:
                await surroundings.stop()

    async def _serve(
        self, server: Server, notifier: SystemdNotifier, tasks: set[asyncio.Task[object]]
    ) -> None:
        following, loop = self._following, asyncio.get_running_loop()
        source = ReflectorStatus(
            server,
            self._config.name or self._config.node or "reflector",
            metadata.version("cairn"),
            started_at=time.time(),
            store=following.health if following is not None else lambda: None,
            plan=following.plan if following is not None else dict,
            problems=lambda: following.problems if following is not None else (),
            invalid=lambda: following.invalid if following is not None else {},
            moment=lambda at: time.time() + at - loop.time(),
        )
        surroundings = self._load_surroundings(source)
        if surroundings is not None:
            url = await surroundings.start()
            log.info("status is served", url=url)
        calm_garbage_collector()
        beside = {aside(notifier.feed_watchdog(source.working), "watchdog")}
        if following is not None:
            beside.add(aside(following.report(source), "report"))
        log.info("reflector ready", ports=server.ports, asn=server.spec.speaker.asn)
        notifier.ready("serving")
        try:
            await self._first_of(tasks)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            if surroundings is not None:
                await surroundings.stop()

    def _load_following(self) -> "Following":
        made: Following = import_module("reflector.following").Following(
            self._config, self._environ, self._carry_out, self._refused
        )
        return made

    def _load_surroundings(self, source: StatusSource) -> "Surroundings | None":
        if self._config.http is None and self._config.mqtt is None:
            return None
        made: Surroundings = import_module("bgpd.telemetry.surroundings").Surroundings(
            source, self._config.http, self._config.mqtt, self._environ
        )
        return made

    def stop(self, reason: str = "") -> None:
        """End the service; `reason` goes to the peers."""
        self._reason = reason or self._reason
        self.anew = False
        self._stop.set()

    def make_way(self) -> None:
        """End the service for another process that takes over at once."""
        self._restarting = True
        self.stop("restarted by the operator")

    def _carry_out(self, spec: ReflectorSpec) -> None:
        if self.server is None:
            recall = Recall(run_directory(self._config, self._environ))
            server = Server(spec, asyncio.get_running_loop(), self.events, time.time, recall)
            server.start()
            self.server = server
            self._started.set()
        elif spec.speaker != self.server.spec.speaker:
            self._begin_anew(spec.speaker.asn)
        else:
            self.server.configure(spec)

    def _begin_anew(self, asn: int) -> None:
        """In another AS, or with another router ID or cluster ID, it is another speaker: no session stays."""
        if self._stop.is_set():  # by an operator, whose word counts, or by us already
            return
        log.warning("the reflector begins anew: another AS, router ID or cluster ID is declared", asn=asn)
        self.stop("it begins anew in another AS or by another ID")
        self.anew = True

    def reload(self) -> None:
        """Read the configuration and the passwords again; whatever is wrong changes nothing.

        One that still waits for its datastore does so too, and begins with what it has read last.
        """
        try:
            config = load(self._path)
            for name in FIXED:
                if getattr(config, name) != getattr(self._config, name):
                    raise ConfigError(f"{to_camel(name)} is fixed while the reflector runs; restart it")
            if config.datastore is None and self.server is not None:
                self.server.configure(from_config(config, self._environ))
        except (ConfigError, ValueError, SocketError) as error:
            self._refused(f"configuration refused; the old one stays in force: {error}")
            return
        self._config = config
        set_level(config.log_level)
        if self._following is not None:
            self._following.config = config
            self._following.declare()
        log.info("configuration applied", path=str(self._path))
        self.events.add(time.time(), "config.applied", f"{self._path} applied")

    def _refused(self, why: str) -> None:
        self._waits_for = why
        log.error("refused", reason=why)
        self.events.add(time.time(), "config.refused", why, severity=Severity.ERROR)


async def run(path: Path) -> None:
    """Run a reflector by its configuration file; raises ConfigError or SocketError when it cannot start."""
    with naming(path):
        service = Service(path, load(path))
        await service.run()
    if service.anew:
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - the same once more
