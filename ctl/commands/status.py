"""`cairn status`: is the cluster well? The first line says it; what is wrong comes next, then who was asked.

Services are asked at their status interfaces; where a datastore is named, it says which nodes are declared
and which of them are alive, so that a node nobody can ask is seen all the same. Needs no root, and not to
be on the node.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import typer

from bgpd.resources import Node
from ctl import options, state
from ctl.exits import ExitCode, Failure
from ctl.output import Column, Format, Listing, ago, as_json, as_yaml, console, show
from ctl.services import LOCAL, Answer, ask_all

_STATES = {"ready": "green", "not ready": "yellow", "unhealthy": "red", "unreachable": "red"}
_SERVICES = (
    Column("SERVICE"),
    Column("NODE"),
    Column("STATE", styles=_STATES),
    Column("SESSIONS"),
    Column("UP FOR"),
    Column("ASN", wide=True),
    Column("IDENTIFIER", wide=True),
    Column("VERSION", wide=True),
    Column("DATASTORE", wide=True),
    Column("WHY"),
)


@dataclass(frozen=True, slots=True)
class Nodes:
    """What the datastore says: the nodes declared to run an agent, and those whose agents hold a lease."""

    declared: tuple[str, ...]
    alive: frozenset[str]


def command(
    api: options.Api = None,
    output: options.Output = Format.TABLE,
    datastore: options.Datastore = None,
) -> None:
    """Tell whether the cluster is well, and if not, what is wrong and since when. Exit 1 if it is not."""
    nodes = state.run(_nodes(datastore)) if datastore is not None else None
    answers = state.run(ask_all(api or LOCAL, os.environ.get("CAIRN_TOKEN"), "status"))
    if not api:
        answers = [answer for answer in answers if answer.document is not None]
    if not answers and nodes is None:
        raise Failure(
            ExitCode.UNREACHABLE,
            "no service answers on this machine, and no datastore is named",
            remedy="give --api with a service's address, or --datastore",
        )
    wrong = findings(answers, nodes)
    match output:
        case Format.JSON:
            print(as_json(_document(answers, nodes, wrong)))
        case Format.YAML:
            print(as_yaml(_document(answers, nodes, wrong)), end="")
        case _:
            _tell(answers, nodes, wrong, output)
    if any(answer.document is None for answer in answers):
        raise typer.Exit(ExitCode.UNREACHABLE)
    if wrong:
        raise typer.Exit(ExitCode.DIFFERS)


async def _nodes(location: str) -> Nodes:
    async with state.opened(location) as store:
        resources = state.resource_set(await state.snapshot(store, ["Node", "NodeLease"]))
    agents = tuple(
        name
        for name, node in resources.nodes.items()
        if not is_reflector(node) or name in resources.live_nodes
    )
    return Nodes(agents, resources.live_nodes)


def is_reflector(node: Node) -> bool:
    """Whether a node reflects; such a one need not run an agent, and then holds no lease."""
    return node.spec.bgp is not None and node.spec.bgp.route_reflector_cluster_id is not None


def findings(answers: Sequence[Answer], nodes: Nodes | None) -> list[str]:
    """What is wrong, a line each; nothing if all is well."""
    wrong = []
    for answer in answers:
        if answer.document is None:
            wrong.append(answer.failure)
        elif not answer.document["ready"] or answer.document["peers"]["missing"]:
            wrong.append(
                f"{answer.document['service']} on {answer.document['node']}: {answer.document['reason']}"
            )
    if nodes is not None and nodes.alive:
        dead = [name for name in nodes.declared if name not in nodes.alive]
        speaking = {(answer.document or {}).get("node") for answer in answers}
        wrong += [f"node {name}: no agent holds its lease" for name in dead if name not in speaking]
    return wrong


def state_of(document: Mapping[str, Any] | None) -> str:
    """A service's state in a word or two."""
    if document is None:
        return "unreachable"
    return "unhealthy" if not document["healthy"] else "ready" if document["ready"] else "not ready"


def _headline(answers: Sequence[Answer], nodes: Nodes | None, wrong: Sequence[str]) -> str:
    parts = []
    if nodes is not None:
        parts.append(f"{len(nodes.alive & set(nodes.declared))} of {len(nodes.declared)} nodes alive")
    documents = [answer.document for answer in answers if answer.document is not None]
    if answers:
        ready = sum(document["ready"] for document in documents)
        up = sum(document["peers"]["established"] for document in documents)
        total = sum(document["peers"]["total"] for document in documents)
        parts.append(f"{ready} of {len(answers)} services ready, {up} of {total} sessions up")
    verdict = f"DEGRADED ({len(wrong)})" if wrong else "OK"
    return f"{verdict}: {'; '.join(parts)}"


def _tell(answers: Sequence[Answer], nodes: Nodes | None, wrong: Sequence[str], form: Format) -> None:
    out = console()
    out.print(_headline(answers, nodes, wrong), style="bold red" if wrong else "bold green", markup=False)
    for line in wrong:
        out.print(f"  {line}", markup=False)
    if not answers:
        return
    now = datetime.now(UTC)
    print()
    show(Listing(_SERVICES, [_row(answer, now) for answer in answers], ()), form)


def _row(answer: Answer, now: datetime) -> tuple[str, ...]:
    document = answer.document
    if document is None:
        return (answer.location, "", "unreachable", "", "", "", "", "", "", answer.failure)
    store = document["datastore"]
    place = (
        "" if store is None else f"{store['endpoint']} ({'current' if store['current'] else store['reason']})"
    )
    return (
        document["service"],
        document["node"],
        state_of(document),
        f"{document['peers']['established']}/{document['peers']['total']}",
        ago((now - datetime.fromisoformat(document["started_at"])).total_seconds()),
        str(document["asn"] or ""),
        document["router_id"],
        document["software"],
        place,
        document["reason"],
    )


def _document(answers: Sequence[Answer], nodes: Nodes | None, wrong: Sequence[str]) -> dict[str, object]:
    return {
        "ok": not wrong,
        "findings": list(wrong),
        "nodes": None if nodes is None else [{"name": n, "alive": n in nodes.alive} for n in nodes.declared],
        "services": [
            {"location": answer.location, "state": state_of(answer.document), **(answer.document or {})}
            for answer in answers
        ],
    }
