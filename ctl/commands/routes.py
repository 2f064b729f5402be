"""`cairn routes`: routes as the services have them, with the reason each is the best or is not."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from typing import Annotated, Any

import typer

from bgpd.telemetry.status import Direction
from ctl import options
from ctl.afar import ask, pattern
from ctl.exits import ExitCode, usage
from ctl.output import Column, Format, Listing, show

COLUMNS = (
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
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[in|best|out] [PREFIX]",
            help="As received, the Loc-RIB with all candidates (best), or as advertised; a prefix, or an "
            "address and the longest prefix that holds it.",
        ),
    ] = None,
    longer: Annotated[bool, typer.Option("--longer", help="Also the more-specifics of the prefix.")] = False,
    peer: Annotated[str | None, typer.Option("--peer", help="Only from or to this peer.")] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=1000, help="At most so many of each service.")
    ] = 100,
    offset: Annotated[int, typer.Option("--offset", min=0, help="Leave out so many of each service.")] = 0,
    api: options.Api = None,
    node: options.Of = None,
    output: options.Output = Format.TABLE,
    datastore: options.Datastore = None,
) -> None:
    """Show routes as the services have them; `*` marks the best of a prefix. Exit 1 if there is none."""
    direction, prefix = _meant(words or [])
    query = {
        "direction": direction,
        "limit": str(limit),
        "offset": str(offset),
        "longer": str(longer).lower(),
    }
    query |= {name: value for name, value in (("prefix", prefix), ("peer", peer)) if value is not None}
    good, bad = ask(api, pattern(context, node), datastore, "routes", query)
    rows, documents, unseen = [], [], 0
    for answer in good:
        page = answer.document or {}
        unseen += max(0, page["total"] - offset - limit)
        rows += [row(answer.location, route) for route in page["routes"]]
        documents += [{"service": answer.location, **route} for route in page["routes"]]
    failures = [{"service": answer.location, "error": answer.failure} for answer in bad]
    document = {"routes": documents, "more": unseen, "unreachable": failures}
    columns = (Column("SERVICE", wide=len(good) == 1), *COLUMNS)
    show(Listing(columns, rows, document, "no such route"), output)
    if unseen and output in (Format.TABLE, Format.WIDE):
        typer.echo(
            f"{unseen} more; narrow it with a prefix, raise --limit, or go on with --offset {offset + limit}",
            err=True,
        )
    for answer in bad:
        typer.echo(f"cairn: {answer.failure}", err=True)
    if bad:
        raise typer.Exit(ExitCode.UNREACHABLE)
    if not documents:
        raise typer.Exit(ExitCode.DIFFERS)


def _meant(words: Sequence[str]) -> tuple[str, str | None]:
    """The direction and the prefix, in either order."""
    directions = [word for word in words if word in tuple(Direction)]
    prefixes = [word for word in words if word not in directions]
    if len(directions) > 1 or len(prefixes) > 1:
        raise usage(
            f"too much to show at once: {' '.join(words)}", "write one of in, best, out and one prefix"
        )
    for prefix in prefixes:
        try:
            ip_network(prefix, strict=False)
        except ValueError:
            raise usage(
                f"{prefix!r} is no prefix, no address and none of in, best, out",
                "write 10.77.1.5 or 10.77.1.0/26; the routes of a peer: --peer NAME",
            ) from None
    return next(iter(directions), Direction.BEST.value), next(iter(prefixes), None)


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
