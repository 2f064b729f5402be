"""The running reflector: configuration in, signals, telemetry, an orderly end.

SIGTERM and SIGINT end every session with a Cease that says so (RFC 9003); SIGHUP reads the configuration
anew, and a bad one is refused whole while the old one stays in force. With a datastore the clients are
what the plan gives this node, followed live.
"""

import asyncio
import gc
import os
import resource
import signal
import time
from pathlib import Path

import structlog

from bgpd.telemetry.status import EventRing, Severity
from bgpd.telemetry.systemd import SystemdNotifier
from reflector.config import ConfigError, ReflectorConfig, load
from reflector.server import Server
from reflector.spec import from_config

LINGER = 0.5  # seconds that last words get to leave the host
DESCRIPTORS = 65536

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

    def __init__(self, path: Path, config: ReflectorConfig) -> None:
        self._path = path
        self._config = config
        self._stop = asyncio.Event()
        self._reason = "stopped by the operator"
        self.events = EventRing()
        self.server: Server | None = None

    async def run(self) -> None:
        """Run until told to stop; raises ConfigError or SocketError when it cannot start."""
        loop = asyncio.get_running_loop()
        raise_descriptor_limit()
        notifier = SystemdNotifier(os.environ)
        server = self.server = Server(from_config(self._config), loop, self.events, time.time)
        server.start()
        calm_garbage_collector()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        log.info("reflector ready", ports=server.ports, asn=server.spec.speaker.asn)
        notifier.ready()
        try:
            await self._stop.wait()
        finally:
            notifier.stopping()
            log.info("reflector stopping", sessions=len(server.established))
            server.stop(self._reason)
            await asyncio.sleep(LINGER)

    def stop(self, reason: str = "") -> None:
        """End the service; `reason` goes to the peers."""
        self._reason = reason or self._reason
        self._stop.set()

    def reload(self) -> None:
        """Read the configuration again; whatever is wrong with it changes nothing."""
        if self.server is None:
            return
        try:
            config = load(self._path)
            self.server.configure(from_config(config))
        except (ConfigError, ValueError) as error:
            log.error("configuration refused; the old one stays in force", error=str(error))
            self.events.add(time.time(), "config.refused", str(error), severity=Severity.ERROR)
            return
        self._config = config
        log.info("configuration applied", path=str(self._path))
        self.events.add(time.time(), "config.applied", f"{self._path} applied")


async def run(path: Path) -> None:
    """Run a reflector by its configuration file."""
    await Service(path, load(path)).run()
