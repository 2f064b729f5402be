"""`cairn plan`: what one node would do, each line with the reason for it."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated

import typer

from bgpd.plan import Blackhole, NodePlan, PlanError, Rejection, plan_node
from bgpd.resources import ResourceSet
from ctl import options, state
from ctl.exits import ExitCode, Failure
from ctl.output import Column, Format, Listing, aligned, as_json, as_yaml, console, show


def command(
    node: Annotated[str, typer.Argument(help="Name of the node.")],
    output: options.Output = Format.TABLE,
    datastore: options.Datastore = None,
) -> None:
    """Show what a node would do by the declared state, and why: peerings, routes, what is held back."""
    plan = planned(state.to_be_planned(datastore, node), node)
    match output:
        case Format.JSON:
            print(as_json(document(plan)))
        case Format.YAML:
            print(as_yaml(document(plan)), end="")
        case _:
            _tell(plan, output)


def planned(resources: ResourceSet, node: str) -> NodePlan:
    """The plan of a node, or a failure that says why there is none."""
    must_be_declared(resources, node)
    try:
        return plan_node(resources, node)
    except PlanError as error:
        raise Failure(
            ExitCode.INVALID, f"{node} cannot be planned: {error.what}", where=error.resource
        ) from error


def must_be_declared(resources: ResourceSet, node: str) -> None:
    """Raises Failure if no Node has this name, with those that are nearest to it."""
    if node not in resources.nodes:
        near = ", ".join(sorted(get_close_matches(node, resources.nodes, n=5)))
        hint = f"did you mean one of {near}?" if near else "`cairn get nodes` lists those that are declared"
        raise Failure(ExitCode.INVALID, f"no Node is called {node}", remedy=hint)


def document(value: object) -> object:
    """A plan, or a value in one, in terms of JSON; names as in the resources (camelCase)."""
    if is_dataclass(value) and not isinstance(value, type):
        return {camel(field.name): document(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        named: Mapping[str, object] = value._asdict()
        return {camel(name): document(item) for name, item in named.items()}
    if isinstance(value, Mapping):
        return {str(key): document(item) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Iterable) and not isinstance(value, (IPv4Network, IPv6Network)):
        return [document(item) for item in value]
    return str(value)


def camel(name: str) -> str:
    """`peer_asn` as `peerAsn`."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _tell(plan: NodePlan, form: Format) -> None:
    out = console()
    cluster = f", reflector of cluster {plan.cluster_id}" if plan.cluster_id else ""
    out.print(
        f"{plan.node}: AS {plan.asn}, BGP Identifier {plan.router_id}, port {plan.listen_port}{cluster}"
    )
    if plan.role_reason:
        out.print(f"  because: {plan.role_reason}", markup=False)
    for title, listing in (
        ("Peerings", _peerings(plan)),
        ("Originated routes", _originated(plan)),
        ("Held back", _reasons(plan.rejected)),
        ("Blackholes", _reasons(plan.blackholes)),
        ("Workloads", _workloads(plan)),
    ):
        if listing.rows:
            out.print(f"\n{title}", style="bold")
            show(listing, form)
    if plan.remarks:
        out.print("\nRemarks", style="bold")
        print("\n".join(aligned([[remark] for remark in plan.remarks])))


def _peerings(plan: NodePlan) -> Listing:
    columns = ("PEER", "ASN", "TYPE", "ROLE", "NODE", "WHY")
    rows = [
        (
            f"{p.peer_address}:{p.peer_port}" if p.peer_port != 179 else str(p.peer_address),
            str(p.peer_asn),
            str(p.kind),
            ("client " if p.rr_client else "") + ("passive" if p.passive else "active"),
            p.peer_node or "",
            p.reason,
        )
        for p in plan.peerings
    ]
    wide = (Column("HOLD", wide=True), Column("RESTART", wide=True), Column("NEXT HOP", wide=True))
    more = [(str(p.hold_time), str(p.graceful_restart), str(p.next_hop_mode)) for p in plan.peerings]
    joined = [row + extra for row, extra in zip(rows, more, strict=True)]
    return Listing((*map(Column, columns), *wide), joined, ())


def _originated(plan: NodePlan) -> Listing:
    rows = [
        (
            str(route.prefix),
            str(route.kind),
            " ".join(map(str, route.communities)),
            "" if route.local_pref is None else str(route.local_pref),
            "" if route.med is None else str(route.med),
            route.reason,
        )
        for route in plan.originated
    ]
    columns = (
        Column("PREFIX"),
        Column("TYPE"),
        Column("COMMUNITIES"),
        Column("LOCAL_PREF", wide=True),
        Column("MED", wide=True),
        Column("WHY"),
    )
    return Listing(columns, rows, ())


def _workloads(plan: NodePlan) -> Listing:
    rows = [(str(w.prefix), w.interface, w.reason) for w in plan.workloads]
    return Listing((Column("PREFIX"), Column("INTERFACE"), Column("WHY")), rows, ())


def _reasons(routes: Iterable[Rejection | Blackhole]) -> Listing:
    return Listing((Column("PREFIX"), Column("WHY")), [(str(r.prefix), r.reason) for r in routes], ())
