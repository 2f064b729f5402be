"""`cairn top`: sessions, rates and lag of the services asked, full-screen and live.

Each service has a line with its rates since the last look, and below stand the sessions that deserve a look:
those that are down, then those that lag, then those that flapped. The services do the sorting; a reflector
with thousands of sessions is asked for one screen of them.
"""

import asyncio
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ctl import options
from ctl.output import ago
from ctl.services import LOCAL, answered, ask_all
from ctl.state import run

SERVICES = (
    "SERVICE", "STATE", "SESSIONS", "RECEIVED", "ANNOUNCED", "UPDATES IN/s", "OUT/s", "WRITES/s", "99 %",
)  # fmt: skip
PEERS = (
    "PEER", "SERVICE", "STATE", "SINCE", "RECEIVED", "ANNOUNCED", "FLAPS", "LAG", "LAST REASON",
)  # fmt: skip
_RATES = ("updates_received", "updates_sent", "kernel_writes", "decisions", "flaps")


@dataclass(slots=True)
class Look:
    """What one service said at one time. `totals`: counters by name, summed over their labels."""

    location: str
    status: Mapping[str, Any] = field(default_factory=dict)
    peers: Sequence[Mapping[str, Any]] = ()
    totals: Mapping[str, float] = field(default_factory=dict)
    delays: Mapping[str, float | None] = field(default_factory=dict)
    at: float = 0.0


def command(
    every: Annotated[float, typer.Option("--every", min=0.2, help="Seconds between looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Show one picture and end.")] = False,
    api: options.Api = None,
) -> None:
    """Show sessions, rates and lag, live and full-screen; Ctrl-C ends. Sessions in trouble come first."""
    run(_top(tuple(api or LOCAL), bool(api), every, once or not sys.stdout.isatty()))


async def _top(locations: Sequence[str], named: bool, every: float, once: bool) -> None:
    good, bad = answered(await ask_all(locations, "status"), named)
    chosen = [answer.location for answer in (*good, *bad)]
    console = Console()
    before = await look(chosen, console.height)
    await asyncio.sleep(min(every, 1.0))
    after = await look(chosen, console.height)
    if once:
        console.print(picture(before, after, console.height))
        return
    with Live(
        picture(before, after, console.height), console=console, screen=True, auto_refresh=False
    ) as live:
        while True:
            await asyncio.sleep(every)
            before, after = after, await look(chosen, console.height)
            live.update(picture(before, after, console.height), refresh=True)


async def look(locations: Sequence[str], lines: int) -> list[Look]:
    """Ask everybody for status, numbers, and a screen of sessions: those down, then the busiest."""
    limit = str(max(5, lines))
    status, samples, down, lagging = await asyncio.gather(
        ask_all(locations, "status"),
        ask_all(locations, "samples"),
        ask_all(locations, "peers", state="down", sort="-since", limit=limit),
        ask_all(locations, "peers", state="ESTABLISHED", sort="-lag", limit=limit),
    )
    found = []
    for place, location in enumerate(locations):
        numbers = samples[place].document or {"samples": [], "distributions": [], "at": None}
        totals: dict[str, float] = {}
        for sample in numbers["samples"]:
            totals[sample["name"]] = totals.get(sample["name"], 0.0) + sample["value"]
        peers = [
            peer for part in (down, lagging) for peer in (part[place].document or {"peers": []})["peers"]
        ]
        at = datetime.fromisoformat(numbers["at"]).timestamp() if numbers["at"] else 0.0
        delays = {each["name"]: each["p99"] for each in numbers["distributions"]}
        found.append(Look(location, status[place].document or {}, peers, totals, delays, at))
    return found


def picture(before: Sequence[Look], after: Sequence[Look], lines: int) -> Group:
    """The screen."""
    services = _table(SERVICES, {"SERVICE", "STATE"})
    for old, new in zip(before, after, strict=True):
        services.add_row(*_service(old, new))
    peers = _table(PEERS, {"PEER", "SERVICE", "STATE", "SINCE", "LAST REASON"})
    rows = [(new, peer) for new in after for peer in new.peers]
    rows.sort(key=lambda row: (row[1]["established"], -row[1]["lag"], -row[1]["flaps"]))
    for new, peer in rows[: max(5, lines - len(after) - 4)]:
        peers.add_row(*_peer(new, peer))
    return Group(services, Text(), peers)


def _table(titles: Sequence[str], words: Collection[str]) -> Table:
    table = Table(box=None, pad_edge=False, expand=True)
    for title in titles:
        table.add_column(title, justify="left" if title in words else "right")
    return table


def _service(old: Look, new: Look) -> list[str | Text]:
    if not new.status:
        return [new.location.removeprefix("http://"), Text("no answer", "red"), *[""] * 7]
    status = new.status
    numbers = status["peers"]
    well = status["healthy"] and status["ready"]
    state = status["mode"] if status["mode"] != "running" else "well" if well else status["reason"]
    rates = {name: _rate(old, new, name) for name in _RATES}
    delays = [delay for delay in new.delays.values() if delay is not None]
    return [
        f"{status['service']} {status['node']}",
        Text(state, "green" if well else "red"),
        f"{numbers['established']}/{numbers['total']}",
        f"{new.totals.get('prefixes_received', 0):.0f}",
        f"{new.totals.get('prefixes_advertised', 0):.0f}",
        f"{rates['updates_received']:.0f}",
        f"{rates['updates_sent']:.0f}",
        f"{rates['kernel_writes'] + rates['decisions']:.0f}",
        f"{max(delays) * 1e3:.1f} ms" if delays else "",
    ]


def _rate(old: Look, new: Look, name: str) -> float:
    if not old.at or new.at <= old.at:
        return 0.0
    return max(0.0, new.totals.get(name, 0.0) - old.totals.get(name, 0.0)) / (new.at - old.at)


def _peer(look: Look, peer: Mapping[str, Any]) -> list[str | Text]:
    since = (datetime.now(UTC) - datetime.fromisoformat(peer["since"])).total_seconds()
    families = peer["families"]
    return [
        str(peer["name"]),
        str(look.status.get("node", "")),
        Text(str(peer["state"]).capitalize(), "green" if peer["established"] else "red"),
        ago(since),
        str(sum(family["received"] for family in families)),
        str(sum(family["advertised"] for family in families)),
        str(peer["flaps"]),
        str(peer["lag"]),
        str(peer["last_reason"]),
    ]
