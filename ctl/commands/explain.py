"""`cairn explain`: where a prefix comes from by declaration, what lets it out or stops it, and who has it."""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated

import typer

from bgpd.plan import NodePlan, PlanError, plan_node
from bgpd.resources import ResourceSet
from ctl import options, state
from ctl.exits import ExitCode, usage
from ctl.output import Column, Format, Listing, show

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about the prefix: the node it is about, the route, what becomes of it, and why."""

    node: str
    prefix: str
    what: str
    why: str


def command(
    prefix: Annotated[str, typer.Argument(help="An address or a prefix.")],
    node: Annotated[str | None, typer.Option("--node", help="Only what concerns this node.")] = None,
    output: options.Output = Format.TABLE,
    datastore: options.Datastore = None,
) -> None:
    """Tell where a prefix originates, which rule lets it out or stops it, and to whom it goes.

    Exit 1 if no node originates it.
    """
    try:
        wanted = ip_network(prefix, strict=False)
    except ValueError:
        raise usage(f"{prefix!r} is no address or prefix", "write 10.77.1.5 or 10.77.1.0/26") from None
    findings = [
        finding for finding in explain(state.declared(datastore), wanted) if node in (None, finding.node)
    ]
    documents = [{"node": f.node, "prefix": f.prefix, "finding": f.what, "reason": f.why} for f in findings]
    columns = (Column("NODE"), Column("ROUTE"), Column("FINDING"), Column("WHY"))
    rows = [(f.node, f.prefix, f.what, f.why) for f in findings]
    show(
        Listing(
            columns, rows, {"prefix": str(wanted), "findings": documents}, f"no node originates {wanted}"
        ),
        output,
    )
    if not any(finding.what.startswith("originates") for finding in findings):
        raise typer.Exit(ExitCode.DIFFERS)


def explain(resources: ResourceSet, wanted: Network) -> list[Finding]:
    """Everything the plans of all nodes say about routes that cover `wanted` or lie in it."""
    findings: list[Finding] = []
    for name in resources.nodes:
        try:
            findings += _of_plan(plan_node(resources, name), wanted)
        except PlanError as error:
            findings.append(Finding(name, str(wanted), "is not planned", str(error)))
    return findings


def _of_plan(plan: NodePlan, wanted: Network) -> Iterable[Finding]:
    for workload in plan.workloads:
        if related(workload.prefix, wanted):
            yield Finding(plan.node, str(workload.prefix), f"has it on {workload.interface}", workload.reason)
    for route in plan.originated:
        if related(route.prefix, wanted):
            yield Finding(plan.node, str(route.prefix), f"originates it ({route.kind})", route.reason)
            for peering in plan.peerings:
                towards = peering.peer_node or str(peering.peer_address)
                yield Finding(plan.node, str(route.prefix), f"announces it to {towards}", peering.reason)
    for rejection in plan.rejected:
        if related(rejection.prefix, wanted):
            yield Finding(plan.node, str(rejection.prefix), "holds it back", rejection.reason)


def related(a: Network, b: Network) -> bool:
    """Whether one of two prefixes contains the other."""
    return a.version == b.version and a.overlaps(b)
