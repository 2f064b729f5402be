"""`cairn status`: is the cluster well? The first line says it; then comes what is wrong, then who spoke.

With access to the datastore it works from anywhere, without root and without reaching a single node: services
report into it, see `ctl.cluster`. On a node its own services are asked as well, and speak for themselves.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime

import typer

from ctl import options, state
from ctl.cluster import KINDS, Cluster, Finding, Service, asked, findings, joined, moment, reported
from ctl.exits import ExitCode, Failure
from ctl.output import Column, Format, Listing, ago, as_json, as_yaml, console, rfc3339, show
from ctl.services import LOCAL

_STATES = {
    "ready": "green", "not ready": "yellow", "draining": "yellow", "stopping": "yellow",
    "unhealthy": "red", "unreachable": "red", "silent": "red",
}  # fmt: skip
_COLUMNS = (
    Column("SERVICE"),
    Column("NODE"),
    Column("STATE", styles=_STATES),
    Column("SESSIONS"),
    Column("RECEIVED"),
    Column("ADVERTISED"),
    Column("UP FOR"),
    Column("ASN", wide=True),
    Column("IDENTIFIER", wide=True),
    Column("VERSION", wide=True),
    Column("DATASTORE", wide=True),
    Column("WHY"),
)
_MOST = 40  # services, and findings, shown without -o wide


def command(
    context: typer.Context,
    api: options.Api = None,
    output: options.Output = Format.TABLE,
    datastore: options.Datastore = None,
) -> None:
    """Tell whether the cluster is well, and if not, what is wrong and since when. Exit 1 if it is not.

    With a datastore: the whole cluster, from anywhere. With --api: the services named. Otherwise: those here.
    """
    written = [name for name in ("api", "datastore") if options.is_written(context, name)]
    stored = datastore is not None or "ETCD_ENDPOINTS" in os.environ
    cluster, away = Cluster(()), None
    if stored and written != ["api"]:
        try:
            cluster = reported(state.declared(datastore, KINDS), datetime.now(UTC))
        except Failure as failure:
            if failure.code is not ExitCode.UNREACHABLE:
                raise
            away = failure  # the services here may know more
    cluster = joined(cluster, state.run(asked(api or LOCAL, named=bool(api))))
    if away is not None and not any(each.status for each in cluster.services):
        raise away
    if not cluster.services and cluster.nodes is None:
        raise Failure(
            ExitCode.UNREACHABLE,
            "no service answers on this machine, and no datastore is named",
            remedy="give --datastore for the whole cluster, or --api with a service's address",
        )
    wrong = findings(cluster)
    if away is not None:
        wrong.insert(0, Finding(f"{away.what}; of the rest of the cluster nothing is known"))
    match output:
        case Format.JSON:
            print(as_json(_document(cluster, wrong)))
        case Format.YAML:
            print(as_yaml(_document(cluster, wrong)), end="")
        case _:
            _tell(cluster, wrong, output)
    if away is not None or any(each.status is None for each in cluster.services):
        raise typer.Exit(ExitCode.UNREACHABLE)
    if wrong:
        raise typer.Exit(ExitCode.DIFFERS)


def headline(cluster: Cluster, wrong: Sequence[Finding]) -> str:
    """The cluster in a line."""
    parts = []
    if cluster.nodes is not None:
        parts.append(f"{len(cluster.alive & set(cluster.nodes))} of {len(cluster.nodes)} nodes alive")
    services = cluster.services
    if services:
        speaking = [each.status["peers"] for each in services if each.status and not each.silent]
        up, total = (sum(peers[count] for peers in speaking) for count in ("established", "total"))
        routes = sum(int((each.numbers or {}).get("prefixes_received", 0)) for each in services)
        parts.append(f"{sum(each.ready for each in services)} of {len(services)} services ready")
        parts.append(f"{up} of {total} sessions up, {routes} prefixes received")
    verdict = f"DEGRADED ({len(wrong)})" if wrong else "OK"
    return f"{verdict}: {'; '.join(parts) or 'nothing is declared'}"


def _tell(cluster: Cluster, wrong: Sequence[Finding], form: Format) -> None:
    out, now, most = console(), datetime.now(UTC), None if form is Format.WIDE else _MOST
    out.print(headline(cluster, wrong), style="bold red" if wrong else "bold green", markup=False)
    for finding in wrong[:most]:
        since = f", for {ago((now - finding.since).total_seconds())}" if finding.since is not None else ""
        out.print(f"  {finding.what}{since}", markup=False)
    if len(wrong) > len(wrong[:most]):
        out.print(f"  and {len(wrong) - _MOST} more: -o wide")
    order = sorted(cluster.services, key=lambda each: (each.ready, each.name == "agent", each.node))
    if order:
        print()
        show(Listing(_COLUMNS, [_row(each, now) for each in order[:most]], ()), form)
    if len(order) > len(order[:most]):
        well = sum(each.ready for each in order[most:])
        print(f"and {len(order) - _MOST} more, {well} of them ready: -o wide")


def _row(service: Service, now: datetime) -> tuple[str, ...]:
    status = service.status
    if status is None:
        return (service.location, "", service.state, *[""] * (len(_COLUMNS) - 4), service.failure)
    store, numbers = status["datastore"], service.numbers or {}
    place = (
        "" if store is None else f"{store['endpoint']} ({'current' if store['current'] else store['reason']})"
    )
    if service.silent is not None:
        why = f"last report {ago((now - service.silent).total_seconds())} ago"
        sessions, received, advertised, up = ("",) * 4
    else:
        why = status["reason"]
        sessions = f"{status['peers']['established']}/{status['peers']['total']}"
        counts = (numbers.get(f"prefixes_{name}", 0) for name in ("received", "advertised"))
        received, advertised = (f"{count:.0f}" for count in counts)
        up = ago((now - moment(status["started_at"])).total_seconds())
    return (
        service.name,
        service.node,
        service.state,
        sessions,
        received,
        advertised,
        up,
        str(status["asn"] or ""),
        status["router_id"],
        status["software"],
        place,
        why,
    )


def _document(cluster: Cluster, wrong: Sequence[Finding]) -> dict[str, object]:
    nodes = cluster.nodes
    return {
        "ok": not wrong,
        "summary": headline(cluster, wrong),
        "findings": [{"what": each.what, "since": each.since and rfc3339(each.since)} for each in wrong],
        "nodes": None if nodes is None else [{"name": n, "alive": n in cluster.alive} for n in nodes],
        "services": [
            {
                "location": each.location,
                "state": each.state,
                "since": each.since and rfc3339(each.since),
                "silent_since": each.silent and rfc3339(each.silent),
                "down": list(each.down),
                "numbers": dict(each.numbers or {}),
                "failure": each.failure,
                **(each.status or {}),
            }
            for each in cluster.services
        ],
    }
