"""`cairn lab`: a whole cluster on this machine, its story told live, nothing left behind."""

import asyncio
import shutil
import signal
import socket
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer

from ctl.exits import ExitCode, Failure, usage
from ctl.lab import netns
from ctl.lab.layout import LARGEST, Layout, Mode, lay_out
from ctl.lab.netns import NetnsError
from ctl.lab.recipes import Ports
from ctl.lab.report import Sink, event, sink_for
from ctl.lab.runner import LabError, LabRun, StepResult, sweep
from ctl.lab.script import story


class Store(StrEnum):
    """Where the lab keeps its declared state."""

    DIRECTORY = "directory"
    ETCD = "etcd"


def command(
    nodes: Annotated[int, typer.Option("--nodes", min=2, max=LARGEST, help="How many nodes.")] = 3,
    reflectors: Annotated[
        int, typer.Option("--reflectors", min=1, max=LARGEST, help="How many route reflectors.")
    ] = 1,
    store: Annotated[
        Store, typer.Option("--store", help="A watched directory, or a real etcd.")
    ] = Store.DIRECTORY,
    loopback: Annotated[
        bool,
        typer.Option("--loopback", help="Do as without root: 127.x addresses, kernel routes only shown."),
    ] = False,
    hold: Annotated[
        bool, typer.Option("--hold", help="Keep the cluster running afterwards, until Ctrl-C.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Tell the story as JSON lines.")] = False,
    log_level: Annotated[str, typer.Option("--log-level", help="Of the services.")] = "info",
) -> None:
    """Run a small cluster on this machine and show routes move: real services and, as root, real packets.

    Adds workloads, moves one, removes one, kills a node, brings it back; tells how long each change took to
    reach the last member. Exit 1 if anything did not converge.
    """
    layout, why_loopback = _layout(nodes, reflectors, loopback)
    etcd = shutil.which("etcd") if store is Store.ETCD else None
    if store is Store.ETCD and etcd is None:
        raise usage(
            "there is no program `etcd` here",
            "install it (Debian package etcd-server), or use --store directory",
        )
    sink = sink_for(as_json)
    try:
        run = LabRun(layout, _ports(layout.mode), etcd, sink, log_level)
        code = asyncio.run(_told(run, sink, hold, why_loopback))
    finally:
        sink.close()
    if code:
        raise typer.Exit(code)


def _layout(nodes: int, reflectors: int, loopback: bool) -> tuple[Layout, str]:
    reason = "asked for" if loopback else netns.unavailable()
    return lay_out(nodes, reflectors, Mode.LOOPBACK if reason else Mode.NAMESPACES), reason or ""


def _ports(mode: Mode) -> Ports:
    """The usual ports in namespaces of our own; on loopback, which all labs share, five that are free now."""
    if mode is Mode.NAMESPACES:
        return Ports()
    held = [socket.socket() for _ in range(5)]
    try:
        for candidate in held:
            candidate.bind(("", 0))
        return Ports(*(candidate.getsockname()[1] for candidate in held))
    finally:
        for candidate in held:
            candidate.close()


async def _told(run: LabRun, sink: Sink, hold: bool, why_loopback: str) -> int:
    """Run the lab as a task that signals cancel, so that every way out goes through its clean-up."""
    loop = asyncio.get_running_loop()
    work = asyncio.ensure_future(_whole(run, sink, hold, why_loopback))
    received: list[signal.Signals] = []

    def interrupt(number: signal.Signals) -> None:
        if not received:
            sink.event(event("lab.interrupted", f"{number.name}: cleaning up"))
            work.cancel()
        received.append(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, interrupt, number)
    try:
        return await work
    except asyncio.CancelledError:
        if run.held:  # to be interrupted is how a held lab ends well
            return ExitCode.OK
        return 128 + received[0] if received else ExitCode.DIFFERS
    except (LabError, NetnsError) as error:
        sink.event(event("lab.failed", str(error)))
        raise Failure(
            ExitCode.DIFFERS, "the lab failed; everything was cleaned up", where=str(error)
        ) from error


async def _whole(run: LabRun, sink: Sink, hold: bool, why_loopback: str) -> int:
    for name in await asyncio.to_thread(sweep):
        sink.event(event("lab.swept", f"cleaned up what {name} left behind", lab=name))
    if why_loopback:
        sink.event(
            event("lab.loopback", f"on loopback addresses, kernel routes are only shown ({why_loopback})")
        )
    async with run.prepared():
        for step in story(run.layout):
            result = await run.play(step)
            if result.failure:
                break
        _summary(sink, run.results)
        failed = any(result.failure for result in run.results)
        if hold:
            await _held(run, sink)
    return ExitCode.DIFFERS if failed else ExitCode.OK


async def _held(run: LabRun, sink: Sink) -> None:
    run.held = True
    look = f"cairn get all --datastore {run.recipes.store}"
    sink.event(event("lab.held", f"running until Ctrl-C; declared state: {look}"))
    for member in run.layout:
        url = run.recipes.status_url(member)
        look = " ".join(run.ground.argv(member, "cairn", "peers", "--api", url))
        sink.event(event("lab.held", f"{member.name}: {look}", member=member.name, url=url))
    await asyncio.Event().wait()


def _summary(sink: Sink, results: Sequence[StepResult]) -> None:
    sink.event(event("lab.summary", "what happened, and the seconds it took to reach the last member:"))
    width = max((len(result.step.title) for result in results), default=0)
    for result in results:
        took = "did not converge" if result.failure else f"{result.seconds:7.3f} s  ({result.last})"
        sink.event(
            event(
                "lab.result",
                f"  {result.step.title.ljust(width)}  {took}",
                step=result.step.title,
                seconds=round(result.seconds, 4),
                last=result.last,
                converged=not result.failure,
            )
        )
    converged = not any(result.failure for result in results)
    sink.event(
        event(
            "lab.done",
            "everything converged" if converged else "not everything converged",
            converged=converged,
        )
    )
