"""What the lab tells while it runs: one event per fact, shown as lines, as JSON lines, or as a live picture.

The runner knows only `Sink`. Lines and JSON are for files, pipes and programs; the picture is for a
terminal.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ctl.output import plain, rfc3339

Value = str | int | float | bool | None | Sequence[str] | Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `kind` is a fixed dotted name, `text` is for people, `data` for programs."""

    kind: str
    text: str
    at: datetime
    data: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MemberPicture:
    """A member as the live picture shows it."""

    name: str
    role: str
    address: str
    alive: bool
    sessions: str
    routes: Sequence[str]
    settled: bool


class Sink(Protocol):
    """Where the lab's story goes."""

    def event(self, event: Event) -> None:
        """Something happened."""

    def picture(self, members: Sequence[MemberPicture]) -> None:
        """How things stand."""

    def close(self) -> None:
        """Nothing more will come."""


class JsonLines:
    """One JSON object per event."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def event(self, event: Event) -> None:
        """Write the event."""
        document = {"time": rfc3339(event.at), "event": event.kind, "message": event.text, **event.data}
        print(json.dumps(plain(document), ensure_ascii=False), file=self._stream, flush=True)

    def picture(self, members: Sequence[MemberPicture]) -> None:
        """Nothing: what matters in a picture has come as events."""

    def close(self) -> None:
        """Nothing is open."""


class Lines:
    """One line of text per event, with the seconds since the first."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._first: datetime | None = None

    def event(self, event: Event) -> None:
        """Write the event."""
        self._first = self._first or event.at
        print(f"{(event.at - self._first).total_seconds():7.2f}  {event.text}", file=self._stream, flush=True)

    def picture(self, members: Sequence[MemberPicture]) -> None:
        """Nothing: lines do not repaint."""

    def close(self) -> None:
        """Nothing is open."""


_STYLES = {
    "step.done": "green",
    "step.failed": "bold red",
    "lab.failed": "bold red",
    "step.begun": "bold",
    "session.down": "yellow",
    "lab.summary": "bold",
}


_PICTURED = frozenset({"route.changed", "member.reached", "session.up"})


class Picture:
    """A table of members that is always current, under the lines of what happened."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._first: datetime | None = None
        self._live = Live(console=self._console, refresh_per_second=8, transient=True)
        self._live.start()

    def event(self, event: Event) -> None:
        """Print the event above the table, unless the table says the same."""
        self._first = self._first or event.at
        if event.kind in _PICTURED:
            return
        line = f"{(event.at - self._first).total_seconds():7.2f}  {event.text}"
        self._live.console.print(Text(line, _STYLES.get(event.kind, "")))

    def picture(self, members: Sequence[MemberPicture]) -> None:
        """Repaint the table."""
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for head in ("MEMBER", "ADDRESS", "SESSIONS", "ROUTES"):
            table.add_column(head, overflow="ellipsis", no_wrap=head != "ROUTES")
        for member in members:
            style = "" if member.settled else "yellow"
            if not member.alive:
                style = "dim red"
            sessions = member.sessions if member.alive else "no power"
            table.add_row(member.name, member.address, sessions, "  ".join(member.routes), style=style)
        self._live.update(Group(Text(), table))

    def close(self) -> None:
        """Give the terminal back."""
        self._live.stop()


def sink_for(as_json: bool) -> Sink:
    """JSON if asked for, the picture on a terminal, lines otherwise."""
    if as_json:
        return JsonLines(sys.stdout)
    return Picture() if sys.stdout.isatty() else Lines(sys.stdout)


def event(kind: str, text: str, **data: Value) -> Event:
    """An event of this moment."""
    return Event(kind, text, datetime.now(UTC), data)
