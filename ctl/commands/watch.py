"""`cairn watch`: what happens, as it happens, in all services asked; one line per event.

Services are asked once a second for what is new. One that is not there is told once and asked again until it
is; one that was restarted begins anew with its first event. Ends at Ctrl-C.
"""

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import typer

from bgpd.telemetry.status import Severity
from ctl import options
from ctl.output import Format
from ctl.services import LOCAL, Answer, answered, ask_all
from ctl.state import run

_COLOURS = {"warning": typer.colors.YELLOW, "error": typer.colors.RED}
_PAGE = 1000


@dataclass(slots=True)
class Follower:
    """How far one service's events have been seen. `after` None: nothing is known yet."""

    location: str
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


def command(
    past: Annotated[int, typer.Option("--past", min=0, max=1000, help="Begin with so many past ones.")] = 10,
    severity: Annotated[Severity, typer.Option("--severity", help="That and worse.")] = Severity.INFO,
    seconds: Annotated[float | None, typer.Option("--seconds", min=0, help="End after so long.")] = None,
    api: options.Api = None,
    output: options.Output = Format.TABLE,
) -> None:
    """Show events as they happen: sessions, plans, drains, faults. With -o json a line of JSON per event."""
    every = list(Severity)
    wanted = frozenset(each.value for each in every[every.index(severity) :])
    run(_watch(tuple(api or LOCAL), bool(api), past, wanted, seconds, output))


async def _watch(
    locations: Sequence[str],
    named: bool,
    past: int,
    wanted: frozenset[str],
    seconds: float | None,
    output: Format,
) -> None:
    loop = asyncio.get_running_loop()
    end = None if seconds is None else loop.time() + seconds
    good, bad = answered(await ask_all(locations, "events", limit="0"), named)
    followers = [Follower(answer.location) for answer in (*good, *bad)]
    for follower, answer in zip(followers, (*good, *bad), strict=True):
        follower.news(answer, past)
    while True:
        asked = [_ask(follower) for follower in followers]
        found: list[tuple[str, Mapping[str, Any]]] = []
        for follower, answer in zip(followers, await asyncio.gather(*asked), strict=True):
            found += [(follower.location, event) for event in follower.news(answer, past)]
        for location, event in sorted(found, key=lambda entry: str(entry[1]["at"])):
            if event["severity"] in wanted:
                show(location, event, output)
        if end is not None and loop.time() >= end:
            return
        await asyncio.sleep(1.0 if end is None else max(0.0, min(1.0, end - loop.time())))


async def _ask(follower: Follower) -> Answer:
    after = str(follower.after or 0)
    [answer] = await ask_all([follower.location], "events", after=after, limit=str(_PAGE))
    return answer


def show(location: str, event: Mapping[str, Any], output: Format) -> None:
    """One event as a line."""
    if output in (Format.JSON, Format.YAML):  # YAML is a superset; a document per line is still one
        typer.echo(json.dumps({"service": location, **event}))
        return
    at = datetime.fromisoformat(str(event["at"])).astimezone().strftime("%H:%M:%S")
    where = f"{location.removeprefix('http://')}  " if output is Format.WIDE else ""
    line = f"{at}  {where}{event['kind']:<16}  {event['message']}"
    coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    typer.echo(typer.style(line, fg=_COLOURS.get(str(event["severity"]))) if coloured else line)
