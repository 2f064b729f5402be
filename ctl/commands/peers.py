"""`cairn peers`: every BGP session of the services asked, in the columns operators know."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from ctl import options
from ctl.afar import ask, pattern
from ctl.exits import ExitCode
from ctl.output import Column, Format, Listing, ago, show

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


_MOST = 1000  # sessions asked of one service


def command(
    context: typer.Context,
    down: Annotated[bool, typer.Option("--down", help="Only sessions that are not Established.")] = False,
    api: options.Api = None,
    node: options.Of = None,
    output: options.Output = Format.TABLE,
    datastore: options.Datastore = None,
) -> None:
    """Show every BGP session as the services see it. Exit 1 if one that is expected is down."""
    query = {"limit": str(_MOST), **({"state": "down"} if down else {})}
    good, bad = ask(api, pattern(context, node), datastore, "peers", query)
    now = datetime.now(UTC)
    rows, documents, unseen = [], [], 0
    for answer in good:
        page = answer.document or {}
        unseen += page["total"] - len(page["peers"])
        rows += [row(answer.location, peer, now) for peer in page["peers"]]
        documents += [{"service": answer.location, **peer} for peer in page["peers"]]
    failures = [{"service": answer.location, "error": answer.failure} for answer in bad]
    document = {"peers": documents, "more": unseen, "unreachable": failures}
    show(Listing(COLUMNS, rows, document, "no session is down" if down else "no sessions"), output)
    if unseen and output in (Format.TABLE, Format.WIDE):
        typer.echo(f"{unseen} more; --down shows those that need a look", err=True)
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
        reason(peer, now),
    )


def reason(peer: Mapping[str, Any], now: datetime) -> str:
    """Why a session is not up, and how long ago that was last so."""
    at = peer.get("last_reason_at")
    if not peer["last_reason"] or at is None:
        return str(peer["last_reason"])
    return f"{peer['last_reason']} ({ago((now - datetime.fromisoformat(at)).total_seconds())} ago)"
