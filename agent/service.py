"""The running agent: configuration in, telemetry, signals, an orderly end.

SIGTERM and SIGINT end the agent and leave its ExaBGP processes, sessions and kernel routes as they are: a
restart or an upgrade touches no packet. SIGUSR2 makes the end a real one: routes withdrawn, sessions closed,
kernel routes removed. SIGHUP reads the configuration anew; a bad one is refused whole and the old one stays
in force, as is one under which processes would no longer be found (another run directory). SIGRTMIN+22 makes
the log detailed, SIGRTMIN+23 as before.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import structlog

from agent.config import AgentConfig, load
from agent.node import Agent
from agent.node_status import NodeStatusWriter
from agent.status import AgentStatus
from bgpd.datastore import Misconfigured, open_datastore
from bgpd.telemetry.aside import aside
from bgpd.telemetry.config import ConfigError, naming
from bgpd.telemetry.descriptors import raise_descriptor_limit
from bgpd.telemetry.logging import level_by_signal, set_level
from bgpd.telemetry.reporter import Reporter
from bgpd.telemetry.surroundings import Surroundings
from bgpd.telemetry.systemd import SystemdNotifier

HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2, signal.SIGHUP)
TAKEN_OUT = 5  # exit status after SIGUSR2: systemd shall not start it again
log = structlog.get_logger("agent")


class Service:
    """An agent with its surroundings. ``path`` is what SIGHUP reads again, if there is one."""

    def __init__(
        self, config: AgentConfig, *, path: Path | None = None, environ: Mapping[str, str] = os.environ
    ) -> None:
        self.config = config
        self._path = path
        self._environ = environ
        self._notifier = SystemdNotifier(environ)
        self._stopping = asyncio.Event()
        self._ending = False  # whatever is read anew meanwhile
        self._reload: AgentConfig | None = None
        self._drained = False  # before the last reload, which is no reason to take traffic again
        self.withdrawing = False
        self.agent: Agent | None = None

    def stop(self, *, withdraw: bool = False) -> None:
        """End; with ``withdraw`` take everything this node announced and learned along."""
        self.withdrawing = self.withdrawing or withdraw
        self._ending = True
        self._notifier.stopping()
        self._stopping.set()

    def reload(self) -> None:
        """Read the configuration file again; keep the present one if it is bad."""
        if self._path is None:
            log.warning("there is no configuration file to read again")
            return
        try:
            config = load(self._path)
        except ConfigError as error:
            log.error("the new configuration is refused; the old one stays", reason=str(error))
            return
        if config == (self._reload or self.config):
            log.info("the configuration is unchanged")
            return
        if config.exabgp.run_directory != self.config.exabgp.run_directory:
            remedy = "SIGUSR2 ends the agent and what it has there; then start it with the new configuration"
            reason = f"exabgp.runDirectory changed: {remedy}"
            log.error("the new configuration is refused; the old one stays", reason=reason)
            return
        if self._reload is None:  # else the agent is ending already, and its mode says no more
            self._drained = self.agent is not None and self.agent.mode == "draining"
        self._reload = config
        self._notifier.reloading()
        self._stopping.set()

    async def run(self, *, signals: bool = True) -> None:
        """Run until told to stop. A reload ends one agent and starts the next, which adopts everything."""
        loop = asyncio.get_running_loop()
        if signals:
            loop.add_signal_handler(signal.SIGTERM, self.stop)
            loop.add_signal_handler(signal.SIGINT, self.stop)
            loop.add_signal_handler(signal.SIGUSR2, lambda: self.stop(withdraw=True))
            loop.add_signal_handler(signal.SIGHUP, self.reload)
            if os.getpid() == 1:
                loop.add_signal_handler(signal.SIGCHLD, bury)
            level_by_signal(loop, lambda: self.config.log_level)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())  # what came while it was loaded is heard now
        gc.collect()
        gc.freeze()
        gc.set_threshold(100_000, 50, 100)  # routes are freed by reference counts; cycles arise per session
        proven: AgentConfig | None = None
        while True:
            try:
                with naming(self._path):
                    await self._one_agent()
            except (ConfigError, Misconfigured) as error:
                if proven is None:
                    raise
                log.error("the new configuration cannot be used; the old one is back", reason=str(error))
                self.config, proven = proven, None
                continue
            if self._reload is None or self._ending:
                break
            proven = self.config
            self.config, self._reload = self._reload, None
            self._stopping.clear()
            self.agent = None
            gc.collect()  # the former agent refers to itself, and its routes would be kept with it for ever
        if signals:  # how we end is said by the exit status, not by a signal that comes while we do
            signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)

    async def _one_agent(self) -> None:
        config = self.config
        with contextlib.suppress(ValueError, RuntimeError):
            set_level(config.log_level)
        agent = self.agent = Agent(config, open_datastore(config.datastore, self._environ), self._environ)
        if self._drained:
            await agent.drain()
        source = AgentStatus(agent)
        surroundings = Surroundings(source, config.http, config.mqtt, self._environ)
        stopping = asyncio.create_task(self._stopping.wait())
        alone = asyncio.create_task(agent.be_alone())
        await asyncio.wait((alone, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not alone.done():  # and nothing that is there is ours
            alone.cancel()
            await agent.leave()
            return
        watchdog = aside(self._notifier.feed_watchdog(source.working), "watchdog")
        running = asyncio.create_task(agent.run(), name="agent")
        asked = NodeStatusWriter(agent.store, source, config.node)
        answering = aside(asked.run(), "node status")
        reporter = Reporter(agent.store, source, config.node)
        reporting = aside(reporter.run(), "report")
        try:
            url = await surroundings.start()
            if url:
                log.info("status is served", url=url)
            log.info("agent started", node=config.node, datastore=agent.store.location)
            self._notifier.ready()
            await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
        finally:
            tasks = (watchdog, stopping, running, answering, reporting)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self.withdrawing:
                await reporter.forget()
            await (agent.withdraw() if self.withdrawing else agent.leave())
            await surroundings.stop(leaving=self.withdrawing)
            source.close()
            log.info("agent stopped", node=config.node, withdrawn=self.withdrawing)


def bury() -> None:
    """The first process of a container is left what an ExaBGP leaves behind; nobody else waits for it.

    An ExaBGP's own end is seen otherwise.
    """
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


async def run(config: AgentConfig | Path) -> int:
    """Run an agent until a signal ends it; a path is read, and read again on SIGHUP. The exit status.

    Raises ConfigError or `Misconfigured` when it cannot start.
    """
    raise_descriptor_limit()
    service = Service(load(config), path=config) if isinstance(config, Path) else Service(config)
    await service.run()
    return TAKEN_OUT if service.withdrawing else 0
