"""`cairn watch`: what happens, as it happens, in all services asked; one line per event.

Services are asked once a second for what is new. One that is not there is told once and asked again until it
is; one that was restarted begins anew with its first event. Ends at Ctrl-C.

From afar it shows what services report into the datastore: within seconds, of a service at most the last
`MOST_EVENTS` between two reports, and no single routes.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import typer

from bgpd.telemetry.status import Severity
from ctl import options
from ctl.afar import following, pattern, silence
from ctl.cluster import Service
from ctl.output import Format, as_yaml
from ctl.services import LOCAL, Answer, answered, ask_all
from ctl.state import run
from ctl.terminal import visible

_COLOURS = {"warning": typer.colors.YELLOW, "error": typer.colors.RED}
_PAGE = 1000


@dataclass(slots=True)
class Follower:
    """How far one service's events have been seen. `after` None: nothing is known yet."""

    after: int | None = None
    failure: str = ""

    def news(self, answer: Answer, past: int) -> list[Mapping[str, Any]]:
        """The events of an answer not seen before; of the first answer only the last `past`."""
        document = answer.document
        if document is None:
            if answer.failure != self.failure:
                typer.echo(f"cairn: {answer.failure}", err=True)
            self.failure = answer.failure
            return []
        self.failure = ""
        last, events = int(document["last"]), list(document["events"])
        if self.after is None:
            self.after = max(0, last - past)
        elif last < self.after:
            self.after = 0
            return []  # it was restarted: its events are counted from 1 again
        fresh = [event for event in events if event["id"] > self.after]
        if fresh:
            self.after = int(fresh[-1]["id"])
        return fresh


Look = Callable[[Mapping[str, "Follower"]], Awaitable[list[Answer]]]


def command(
    context: typer.Context,
    past: Annotated[int, typer.Option("--past", min=0, max=1000, help="Begin with so many past ones.")] = 10,
    severity: Annotated[Severity, typer.Option("--severity", help="That and worse.")] = Severity.INFO,
    seconds: Annotated[float | None, typer.Option("--seconds", min=0, help="End after so long.")] = None,
    api: options.Api = None,
    node: options.Of = None,
    output: options.Output = Format.TABLE,
    datastore: options.Datastore = None,
) -> None:
    """Show events as they happen: sessions, plans, drains, faults. With -o json each is a line.

    Of this machine's services; of those at --api; or, with --datastore or --node, as reported from anywhere.
    """
    every = list(Severity)
    wanted = frozenset(each.value for each in every[every.index(severity) :])
    nodes = pattern(context, node)
    watch = _here(tuple(api or LOCAL), bool(api), past) if nodes is None else _afar(datastore, nodes)
    run(_watch(watch, past, wanted, seconds, output))


async def _watch(
    looks: AbstractAsyncContextManager[Look],
    past: int,
    wanted: frozenset[str],
    seconds: float | None,
    output: Format,
) -> None:
    loop = asyncio.get_running_loop()
    end = None if seconds is None else loop.time() + seconds
    followers: dict[str, Follower] = {}
    async with looks as look:
        while True:
            found: list[tuple[str, Mapping[str, Any]]] = []
            for answer in await look(followers):
                follower = followers.setdefault(answer.location, Follower())
                found += [(answer.location, event) for event in follower.news(answer, past)]
            for location, event in sorted(found, key=lambda entry: str(entry[1]["at"])):
                if event["severity"] in wanted:
                    show(location, event, output)
            if end is not None and loop.time() >= end:
                return
            await asyncio.sleep(1.0 if end is None else max(0.0, min(1.0, end - loop.time())))


@asynccontextmanager
async def _here(locations: Sequence[str], named: bool, past: int) -> AsyncIterator[Look]:
    """Asks the services at these locations. Raises Failure if none answers."""
    good, bad = answered(await ask_all(locations, "events", limit="0"), named)
    begin = {
        answer.location: max(0, int((answer.document or {"last": 0})["last"]) - past)
        for answer in (*good, *bad)
    }

    async def ask(location: str, follower: Follower) -> Answer:
        after = str(begin[location] if follower.after is None else follower.after)
        [answer] = await ask_all([location], "events", after=after, limit=str(_PAGE))
        return answer

    async def look(followers: Mapping[str, Follower]) -> list[Answer]:
        return await asyncio.gather(*(ask(place, followers.get(place, Follower())) for place in begin))

    yield look


@asynccontextmanager
async def _afar(datastore: str | None, nodes: str) -> AsyncIterator[Look]:
    """Reads what services report into the datastore. Raises Failure if none does."""
    async with following(datastore, nodes) as seen:

        async def look(_: Mapping[str, Follower]) -> list[Answer]:
            unknown = [Answer(seen.store.location, None, seen.trouble)] if seen.trouble else []
            return [*unknown, *map(_reported, seen.services())]

        yield look


def _reported(service: Service) -> Answer:
    if service.silent or service.report is None:
        return Answer(service.called, None, silence(service))
    report = service.report
    return Answer(service.called, {"last": report.last_event, "events": report.events})


def show(location: str, event: Mapping[str, Any], output: Format) -> None:
    """One event as a line."""
    if output is Format.JSON:
        typer.echo(json.dumps({"service": location, **event}))
        return
    if output is Format.YAML:
        typer.echo("---\n" + as_yaml({"service": location, **event}), nl=False)
        return
    at, today = datetime.fromisoformat(str(event["at"])).astimezone(), datetime.now().astimezone().date()
    time = at.strftime("%T" if at.date() == today else "%F %T")
    where = f"{location.removeprefix('http://')}  " if output is Format.WIDE else ""
    line = f"{time}  {where}{event['kind']:<16}  {visible(str(event['message']))}"
    coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    typer.echo(typer.style(line, fg=_COLOURS.get(str(event["severity"]))) if coloured else line)
