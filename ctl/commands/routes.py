"""`cairn routes`: routes as the services have them, with the reason each is the best or is not."""

import os
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from ctl import options
from ctl.exits import ExitCode
from ctl.output import Column, Format, Listing, show
from ctl.services import LOCAL, answered, ask_all
from ctl.state import run


class Direction(StrEnum):
    """Which routes: the Loc-RIB with all candidates, as received, or as advertised."""

    BEST = "best"
    IN = "in"
    OUT = "out"


COLUMNS = (
    Column("SERVICE", wide=True),
    Column(""),
    Column("NETWORK"),
    Column("NEXT HOP"),
    Column("AS_PATH"),
    Column("PEER"),
    Column("LOCAL_PREF", wide=True),
    Column("MED", wide=True),
    Column("COMMUNITIES", wide=True),
    Column("WHY"),
)


def command(
    prefix: Annotated[str | None, typer.Argument(help="Only this prefix, exactly.")] = None,
    direction: Annotated[Direction, typer.Option("--direction", "-d", help="Which routes.")] = Direction.BEST,
    longer: Annotated[bool, typer.Option("--longer", help="Also the more-specifics of the prefix.")] = False,
    peer: Annotated[str | None, typer.Option("--peer", help="Only from or to this peer.")] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=1000, help="At most so many of each service.")
    ] = 100,
    api: options.Api = None,
    output: options.Output = Format.TABLE,
) -> None:
    """Show routes as the services have them; `*` marks the best of a prefix. Exit 1 if there is none."""
    if prefix is not None and "/" not in prefix:
        prefix = f"{prefix}/{128 if ':' in prefix else 32}"
    query = {"direction": direction.value, "limit": str(limit), "longer": str(longer).lower()}
    query |= {name: value for name, value in (("prefix", prefix), ("peer", peer)) if value is not None}
    good, bad = answered(
        run(ask_all(api or LOCAL, os.environ.get("CAIRN_TOKEN"), "routes", **query)), named=bool(api)
    )
    rows, documents, unseen = [], [], 0
    for answer in good:
        page = answer.document or {}
        unseen += page["total"] - len(page["routes"])
        rows += [row(answer.location, route) for route in page["routes"]]
        documents += [{"service": answer.location, **route} for route in page["routes"]]
    failures = [{"service": answer.location, "error": answer.failure} for answer in bad]
    document = {"routes": documents, "more": unseen, "unreachable": failures}
    show(Listing(COLUMNS, rows, document, "no such route"), output)
    if unseen and output in (Format.TABLE, Format.WIDE):
        typer.echo(f"{unseen} more; narrow it with a prefix, or raise --limit", err=True)
    for answer in bad:
        typer.echo(f"cairn: {answer.failure}", err=True)
    if bad:
        raise typer.Exit(ExitCode.UNREACHABLE)
    if not documents:
        raise typer.Exit(ExitCode.DIFFERS)


def row(service: str, route: Mapping[str, Any]) -> tuple[str, ...]:
    """A route as a row."""
    mark = "*" if route["best"] else ("!" if route["ineligible"] else " ")
    return (
        service.removeprefix("http://"),
        mark + ("s" if route["stale"] else ""),
        route["prefix"],
        route["next_hop"],
        route["as_path"] or route["origin"],
        route["peer"],
        _number(route["local_pref"]),
        _number(route["med"]),
        " ".join([*route["communities"], *route["large_communities"]]),
        route["ineligible"] or route["reason"],
    )


def _number(value: int | None) -> str:
    return "" if value is None else str(value)
