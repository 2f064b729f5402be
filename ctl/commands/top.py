"""`cairn top`: sessions, rates and lag of services, full-screen and live.

Each service has a line with its rates since the last look, and below stand the sessions that deserve a look:
those that are down, then those that lag, then those that flapped. The services do the sorting; a reflector
with thousands of sessions is asked for one screen of them.

From afar it shows what services report into the datastore: rates are those between a service's last two
reports, and of sessions only those that are down are known.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ctl import options
from ctl.afar import following, pattern
from ctl.cluster import Service, moment
from ctl.commands.peers import reason
from ctl.output import Format, Screen, ago, as_json, as_yaml
from ctl.services import LOCAL, answered, ask_all
from ctl.state import run

SERVICES = (
    "SERVICE", "STATE", "SESSIONS", "RECEIVED", "ANNOUNCED", "UPDATES IN/s", "OUT/s", "WRITES/s", "99 %",
)  # fmt: skip
PEERS = (
    "PEER", "SERVICE", "STATE", "SINCE", "RECEIVED", "ANNOUNCED", "FLAPS", "LAG", "LAST REASON",
)  # fmt: skip

_DOCUMENTS = (Format.JSON, Format.YAML)
_UNBOUNDED = 1000  # columns; a file or a program that reads has no edge to cut lines at


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
    context: typer.Context,
    every: Annotated[float, typer.Option("--every", min=0.2, help="Seconds between looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Show one picture and end.")] = False,
    api: options.Api = None,
    node: options.Of = None,
    output: options.Output = Format.TABLE,
    datastore: options.Datastore = None,
) -> None:
    """Show sessions, rates and lag, live and full-screen; Ctrl-C ends. What is in trouble comes first.

    Of this machine's services; of those at --api; or, with --datastore or --node, as reported from anywhere.
    """
    form = output if once or output in _DOCUMENTS or not sys.stdout.isatty() else None
    nodes = pattern(context, node)
    if nodes is None:
        run(_here(tuple(api or LOCAL), bool(api), every, form))
    else:
        run(_afar(datastore, nodes, every, form))


async def _here(locations: Sequence[str], named: bool, every: float, once: Format | None) -> None:
    good, bad = answered(await ask_all(locations, "status"), named)
    chosen = [answer.location for answer in (*good, *bad)]
    await _show(lambda lines: look(chosen, lines), every, once)


async def _afar(datastore: str | None, nodes: str, every: float, once: Format | None) -> None:
    async with following(datastore, nodes) as seen:

        async def looks(_: int) -> list[Look]:
            unknown = [Look(seen.trouble)] if seen.trouble else []
            return [*unknown, *map(read, seen.services())]

        await _show(looks, every, once)


async def _show(looks: Callable[[int], Awaitable[list[Look]]], every: float, once: Format | None) -> None:
    """Live, or one picture `once`."""
    console = Screen(markup=False)  # a peer's words are no markup
    if not console.is_terminal:
        console.width = _UNBOUNDED
    rates = Rates()
    rates.see(await looks(console.height))
    await asyncio.sleep(min(every, 1.0))
    if once in _DOCUMENTS:
        rates.see(now := await looks(console.height))
        print({Format.JSON: as_json, Format.YAML: as_yaml}[once](document(rates, now)).rstrip())
        return
    if once is not None:
        seen = await looks(console.height)
        console.print(picture(rates, seen, console.height, spread=console.is_terminal))
        return
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(picture(rates, await looks(console.height), console.height), refresh=True)
            await asyncio.sleep(every)


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


def read(service: Service) -> Look:
    """A service's report as a look at it."""
    report = service.report
    assert report is not None, "it was read from the datastore"
    at = moment(report.reported_at)
    if service.silent:
        return Look(f"{service.called}, last heard of {ago((datetime.now(UTC) - at).total_seconds())} ago")
    return Look(
        service.called, report.status, report.down, report.numbers, {"": report.slowest}, at.timestamp()
    )


class Rates:
    """The last two looks at each service that differ in time, and what they say of its rates."""

    def __init__(self) -> None:
        self._looks: dict[str, tuple[Look, Look]] = {}

    def see(self, looks: Sequence[Look]) -> None:
        """Take these looks into account."""
        for new in looks:
            _, last = self._looks.get(new.location, (new, new))
            if new.at != last.at or new is last:
                self._looks[new.location] = (last, new)

    def of(self, look: Look, name: str) -> float | None:
        """How fast a counter of this service runs, per second; None if that is not known."""
        old, new = self._looks[look.location]
        if not old.at or new.at <= old.at:
            return None
        return max(0.0, new.totals.get(name, 0.0) - old.totals.get(name, 0.0)) / (new.at - old.at)


def picture(rates: Rates, looks: Sequence[Look], lines: int, *, spread: bool = True) -> Group:
    """The screen: at most half of it services, those in trouble first, then sessions, the same."""
    rates.see(looks)
    services = _table(SERVICES, {"SERVICE", "STATE"}, spread)
    order = sorted(looks, key=lambda each: (bool(each.status), _is_well(each)))
    most = max(3, lines // 2)
    for each in order[:most]:
        services.add_row(*_service(each, rates))
    if len(order) > most:
        services.add_row(f"and {len(order) - most} more")
    peers = _table(PEERS, {"PEER", "SERVICE", "STATE", "SINCE", "LAST REASON"}, spread)
    rows = [(each, peer) for each in looks for peer in each.peers]
    rows.sort(
        key=lambda row: (
            row[1].get("established", False),
            *(-row[1].get(name, 0) for name in ("lag", "flaps")),
        )
    )
    for each, peer in rows[: max(5, lines - min(len(looks), most) - 4)]:
        peers.add_row(*_peer(each, peer))
    return Group(services, Text(), peers)


def document(rates: Rates, looks: Sequence[Look]) -> dict[str, object]:
    """The same for programs."""
    return {
        "services": [
            {
                "service": look.location,
                "status": look.status or None,
                "totals": look.totals,
                "rates": {name: rates.of(look, name) for name in look.totals},
                "slowest": look.delays,
                "peers": look.peers,
            }
            for look in looks
        ]
    }


def _is_well(look: Look) -> bool:
    return bool(look.status) and look.status["healthy"] and look.status["ready"]


def _table(titles: Sequence[str], words: Collection[str], spread: bool) -> Table:
    table = Table(box=None, pad_edge=False, expand=spread)
    for title in titles:
        table.add_column(title, justify="left" if title in words else "right")
    return table


def _service(look: Look, rates: Rates) -> list[str | Text]:
    if not look.status:
        return [look.location.removeprefix("http://"), Text("no answer", "red"), *[""] * 7]
    status = look.status
    numbers = status["peers"]
    well = _is_well(look)
    state = status["mode"] if status["mode"] != "running" else "well" if well else status["reason"]
    delays = [delay for delay in look.delays.values() if delay is not None]
    return [
        f"{status['service']} {status['node']}",
        Text(state, "green" if well else "red"),
        f"{numbers['established']}/{numbers['total']}",
        f"{look.totals.get('prefixes_received', 0):.0f}",
        f"{look.totals.get('prefixes_advertised', 0):.0f}",
        _shown(rates.of(look, "updates_received")),
        _shown(rates.of(look, "updates_sent")) if "updates_sent" in look.totals else "",
        _shown(rates.of(look, "kernel_writes"), rates.of(look, "decisions")),
        f"{max(delays) * 1e3:.1f} ms" if delays else "",
    ]


def _shown(*rates: float | None) -> str:
    return "" if None in rates else f"{sum(rate or 0.0 for rate in rates):.0f}"


def _peer(look: Look, peer: Mapping[str, Any]) -> list[str | Text]:
    now = datetime.now(UTC)
    since = (now - moment(peer["since"])).total_seconds()
    families = peer.get("families")
    counts = [
        "" if families is None else str(sum(family[name] for family in families))
        for name in ("received", "advertised")
    ]
    return [
        str(peer["name"]),
        str(look.status.get("node", "")),
        Text(str(peer["state"]).capitalize(), "green" if peer.get("established") else "red"),
        ago(since),
        *counts,
        str(peer.get("flaps", "")),
        str(peer.get("lag", "")),
        reason(peer, now),
    ]
