"""`cairn bird run`: a running BIRD kept in step with the plan of its node.

The configuration is rendered at every change of the declared state, and now and then besides because a
password may have changed; BIRD is told only when the text is another one. What cannot be planned,
rendered, parsed or taken is reported, and BIRD goes on with what it has.
"""

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Annotated

import structlog
import typer

from bgpd.datastore import Datastore, Interests, LastGood, Secrets, Unread
from bgpd.plan import PlanError, plan_node
from bgpd.render import BirdOptions, RenderError, bird_files
from bgpd.resources import ResourceSet
from bgpd.telemetry.logging import configure_logging
from ctl import options, state
from ctl.bird_runner import BirdRunner, Daemon, Following, Outcome, Result
from ctl.commands.render import (
    SECRETS,
    AcceptDefault,
    BirdRole,
    BirdVersion,
    NodeName,
    SecretsDirectory,
    Transit,
    read_passwords,
)
from ctl.exits import ExitCode

app = typer.Typer(no_args_is_help=True)
log = structlog.get_logger("bird")
KINDS = frozenset(
    {
        "Node", "NodeLease", "BGPConfiguration", "BGPFilter", "BGPPeer", "BlockAffinity",
        "CairnConfiguration", "IPPool", "WorkloadEndpoint",
    }
)  # fmt: skip
_AGAIN = 5.0  # seconds until a daemon that is not in step is tried again


@app.callback()
def group() -> None:
    """Keep a running BIRD in step with the plan of its node."""


@app.command(epilog="Example: cairn bird run --node node-1 --config /etc/bird/bird.conf")
def run(
    node: NodeName,
    config: Annotated[
        Path, typer.Option("--config", "-c", help="BIRD's configuration file, which is replaced.")
    ] = Path("/etc/bird/bird.conf"),
    control: Annotated[Path, typer.Option("--socket", "-s", help="BIRD's control socket.")] = Path(
        "/run/bird/bird.ctl"
    ),
    program: Annotated[str, typer.Option("--bird", help="The program that checks configurations.")] = "bird",
    version: Annotated[BirdVersion, typer.Option("--version", help="Of BIRD; 1 is 1.6.")] = BirdVersion.TWO,
    role: Annotated[BirdRole, typer.Option("--role", help="What the machine is.")] = BirdRole.NODE,
    transit: Transit = False,
    accept_default: AcceptDefault = False,
    secrets: SecretsDirectory = SECRETS,
    once: Annotated[bool, typer.Option("--once", help="Bring it in step once and end; 1 if not.")] = False,
    interval: Annotated[
        float, typer.Option("--interval", min=0.1, help="Seconds between looks without a change.")
    ] = 30.0,
    datastore: options.Datastore = None,
) -> None:
    """Keep a running BIRD in step with the datastore: render, check, swap, reload, only on change.

    A configuration that BIRD refuses leaves the running one in force and is reported. For BIRD 1 give the
    file and socket of bird; bird6 has its own beside them (bird6.conf, bird6.ctl, bird6).
    """
    configure_logging()
    daemons = {"bird.conf": Daemon(program, config, control)}
    if version is BirdVersion.ONE:
        daemons["bird6.conf"] = Daemon(
            f"{program}6", config.with_name("bird6.conf"), control.with_name("bird6.ctl")
        )
    runners = {name: BirdRunner(daemon) for name, daemon in daemons.items()}
    steps = _Steps(
        node,
        int(version),
        BirdOptions(reflector=role is BirdRole.REFLECTOR, transit=transit, accept_default=accept_default),
        Following(runners, _tell),
    )
    in_step = state.run(_follow(datastore, secrets, steps, once, interval))
    if not in_step:
        raise typer.Exit(ExitCode.DIFFERS)


def _tell(name: str, result: Result) -> None:
    if result.outcome is Outcome.APPLIED:
        log.info("configuration applied", file=name, said=result.said)
    elif result.outcome is Outcome.WAITING:
        log.warning("configuration written, BIRD is not running", file=name, reason=result.said)
    else:
        log.error("configuration rejected, the former one stays", file=name, reason=result.said)


class _Steps:
    """From resources to the daemons; what went wrong is told once."""

    def __init__(self, node: str, version: int, bird: BirdOptions, following: Following) -> None:
        self.node = node
        self._version = version
        self._options = bird
        self._following = following
        self._planned = False
        self._problem = ""
        self._down: list[str] = []

    async def take(self, resources: ResourceSet, secrets: Secrets, unread: str) -> bool:
        """Bring the daemons to the plan of these resources; whether they are in step.

        `unread`: what cannot be read, which keeps the first plan waiting.
        """
        try:
            if unread and not self._planned:
                raise PlanError("settings", unread)
            plan = plan_node(resources, self.node)
            passwords, down = await read_passwords(plan.peerings, secrets)
            for reason in down:
                if reason not in self._down:
                    log.error("a session has no password", reason=reason)
            self._down = down
            texts = bird_files(plan, self._version, passwords, self._options)
        except (PlanError, RenderError) as error:
            if str(error) != self._problem:
                self._problem = str(error)
                log.error("no configuration can be made, the former one stays", reason=self._problem)
            return False
        self._planned, self._problem = True, ""
        return await self._following.step(texts)


class _Latest:
    """The newest resources, and whether they were looked at."""

    def __init__(self) -> None:
        self.resources: ResourceSet | None = None
        self.unread = ""
        self.news = asyncio.Event()

    async def watch(self, store: Datastore, node: str) -> None:
        resources, unread, counting = ResourceSet.of(), Unread(node), LastGood(None)
        async with contextlib.aclosing(store.watch(Interests(kinds=KINDS, node=node))) as stream:
            async for news in stream:
                resources = counting.counted(news, resources)
                for place, reason in dict.fromkeys((each.place, each.reason) for each in news.invalid):
                    if reason is not None:
                        what = "a resource cannot be read; its last good version counts, if one is known"
                        log.error(what, place=place, reason=reason)
                unread.heard(news, resources)
                self.resources, self.unread = unread.planned(resources), unread.reason_of_any
                self.news.set()


async def _follow(location: str | None, directory: Path, steps: _Steps, once: bool, interval: float) -> bool:
    async with state.opened(location) as store:
        secrets = Secrets(directory, os.environ, store)
        if once:
            found, unread = await state.snapshot(store, KINDS), Unread(steps.node)
            unread.heard(found, resources := state.resource_set(found))
            return await steps.take(resources, secrets, unread.reason_of_any)
        latest, stop = _Latest(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        tasks = {asyncio.create_task(latest.watch(store, steps.node)), asyncio.create_task(stop.wait())}
        log.info("following", datastore=store.location, node=steps.node)
        in_step = False
        try:
            while not stop.is_set():
                news = asyncio.create_task(latest.news.wait())
                patience = interval if in_step else min(interval, _AGAIN)
                done, _ = await asyncio.wait({*tasks, news}, timeout=patience, return_when="FIRST_COMPLETED")
                news.cancel()
                for task in done & tasks:
                    task.result()  # what ended the watch is raised here
                latest.news.clear()
                if latest.resources is not None and not stop.is_set():
                    in_step = await steps.take(latest.resources, secrets, latest.unread)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return True
