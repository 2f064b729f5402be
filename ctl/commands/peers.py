"""`cairn peers`: every BGP session of the services asked, in the columns operators know."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from ctl import options
from ctl.exits import ExitCode
from ctl.output import Column, Format, Listing, ago, show
from ctl.services import LOCAL, answered, ask_all
from ctl.state import run

STATES = {"ESTABLISHED": "green", "IDLE": "red", "ACTIVE": "yellow", "CONNECT": "yellow"}
COLUMNS = (
    Column("SERVICE"),
    Column("PEER"),
    Column("ADDRESS"),
    Column("ASN"),
    Column("STATE", styles=STATES),
    Column("SINCE"),
    Column("RECEIVED"),
    Column("ADVERTISED"),
    Column("FLAPS", wide=True),
    Column("HOLD", wide=True),
    Column("IDENTIFIER", wide=True),
    Column("LAST REASON"),
)


def command(
    down: Annotated[bool, typer.Option("--down", help="Only sessions that are not Established.")] = False,
    api: options.Api = None,
    output: options.Output = Format.TABLE,
) -> None:
    """Show every BGP session as the services see it. Exit 1 if one that is expected is down."""
    answers = run(ask_all(api or LOCAL, os.environ.get("CAIRN_TOKEN"), "peers"))
    good, bad = answered(answers, named=bool(api))
    now = datetime.now(UTC)
    rows, documents = [], []
    for answer in good:
        for peer in (answer.document or {})["peers"]:
            if not (down and peer["established"]):
                rows.append(row(answer.location, peer, now))
                documents.append({"service": answer.location, **peer})
    failures = [{"service": answer.location, "error": answer.failure} for answer in bad]
    show(Listing(COLUMNS, rows, {"peers": documents, "unreachable": failures}, "no sessions"), output)
    for answer in bad:
        typer.echo(f"cairn: {answer.failure}", err=True)
    if bad:
        raise typer.Exit(ExitCode.UNREACHABLE)
    if any(peer["expected"] and not peer["established"] for peer in documents):
        raise typer.Exit(ExitCode.DIFFERS)


def row(service: str, peer: Mapping[str, Any], now: datetime) -> tuple[str, ...]:
    """A session as a row."""
    families = peer["families"]
    port = "" if peer["port"] == 179 else f":{peer['port']}"
    return (
        service.removeprefix("http://"),
        peer["name"],
        f"{peer['address']}{port}",
        str(peer["asn"] or ""),
        peer["state"],
        ago((now - datetime.fromisoformat(peer["since"])).total_seconds()),
        str(sum(family["received"] for family in families)),
        str(sum(family["advertised"] for family in families)),
        str(peer["flaps"]),
        str(peer["hold_time"]),
        peer["bgp_identifier"],
        peer["last_reason"],
    )
