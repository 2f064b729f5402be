"""What commands print: the same rows as a table for people, or as JSON or YAML for programs.

A `Listing` has both: cells for the table, and documents for the other formats. On a terminal the table is
drawn by rich, with colours unless NO_COLOR says otherwise; into a pipe or a file, and where the terminal is
too narrow for it, it is plain aligned text that is never cut or wrapped, so that `grep` and `awk` can rely on
it. Times are relative for people and RFC 3339 in documents.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import yaml
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bgpd.resources import YamlDumper
from ctl.terminal import visible

_FOLDED = 20  # columns that the last cell of a row needs on a terminal; it may go on in the next line


class Format(StrEnum):
    """The values of `-o`."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its head, whether only `-o wide` shows it, and the styles of cells with a meaning."""

    head: str
    wide: bool = False
    styles: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Listing:
    """Rows to show. `rows` are cells, one per column; `document` is what JSON and YAML show instead."""

    columns: tuple[Column, ...]
    rows: Sequence[Sequence[str]]
    document: object
    empty: str = "nothing to show"


class Screen(Console):
    """A console that leaves it to `ctl.main` what the end of its reader means: to rich it is an error."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console() -> Console:
    """A console on standard output; plain if that is no terminal or NO_COLOR is set (rich sees to both)."""
    return Screen(highlight=False, soft_wrap=True)


def show(listing: Listing, form: Format) -> None:
    """Print a listing on standard output."""
    match form:
        case Format.JSON:
            print(as_json(listing.document))
        case Format.YAML:
            print(as_yaml(listing.document), end="")
        case _:
            _show_table(listing, wide=form is Format.WIDE)


def _show_table(listing: Listing, wide: bool) -> None:
    shown = [index for index, column in enumerate(listing.columns) if wide or not column.wide]
    heads = [listing.columns[index].head for index in shown]
    rows = [[visible(row[index]) for index in shown] for row in listing.rows]
    if not rows:
        print(listing.empty, file=sys.stderr)
        return
    screen = Screen(highlight=False)
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    least = sum(widths[:-1]) + 3 * len(widths) + min(widths[-1], _FOLDED)
    if not sys.stdout.isatty() or least > screen.width:  # an address in pieces is none: the terminal wraps
        print("\n".join(aligned([heads, *rows])))
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, overflow="fold", no_wrap=head is not heads[-1])
    for row in rows:
        styled = zip(shown, row, strict=True)
        table.add_row(*(Text(cell, listing.columns[index].styles.get(cell, "")) for index, cell in styled))
    screen.print(table)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines of text, each column as wide as its widest cell, three spaces between columns."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def as_json(document: object) -> str:
    """A document as JSON text, indented."""
    return json.dumps(plain(document), indent=2, ensure_ascii=False)


def as_yaml(document: object) -> str:
    """A document as YAML text, keys in the order they came."""
    text = yaml.dump(
        plain(document), Dumper=YamlDumper, sort_keys=False, allow_unicode=True, default_flow_style=False
    )
    return str(text)


def plain(value: object) -> object:
    """A value in terms JSON has: times as RFC 3339 text, addresses and enumeration members as text."""
    match value:
        case datetime():
            return rfc3339(value)
        case StrEnum():
            return value.value
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in value]
        case IPv4Address() | IPv6Address() | IPv4Network() | IPv6Network():
            return str(value)
        case _:
            return value


def rfc3339(moment: datetime) -> str:
    """A time as RFC 3339 in UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ago(seconds: float) -> str:
    """A duration for people, its two largest units: `3s`, `4m 10s`, `2h 5m`, `3d 4h`."""
    whole = max(0, int(seconds))
    units = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
    parts: list[str] = []
    for size, unit in units:
        count, whole = divmod(whole, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
        elif parts:
            break
    return " ".join(parts[:2])
