"""`cairn explain`: where a prefix comes from by declaration, what lets it out or stops it, and who has it."""

from ipaddress import ip_network
from typing import Annotated

import typer

from bgpd.plan.explain import Step, explain
from ctl import options, state
from ctl.commands.plan import must_be_declared
from ctl.exits import ExitCode, usage
from ctl.output import Column, Format, Listing, show


def command(
    prefix: Annotated[str, typer.Argument(help="An address or a prefix.")],
    node: Annotated[str | None, typer.Option("--node", help="Only what concerns this node.")] = None,
    output: options.Output = Format.TABLE,
    datastore: options.Datastore = None,
) -> None:
    """Tell where a prefix originates, which rule lets it out or stops it, and who should have it.

    Exit 1 if no node originates it (with --node: if that node should not have it).
    """
    try:
        wanted = ip_network(prefix, strict=False)
    except ValueError:
        raise usage(f"{prefix!r} is no address or prefix", "write 10.77.1.5 or 10.77.1.0/26") from None
    resources = state.to_be_planned(datastore)
    if node is not None:
        must_be_declared(resources, node)
    findings = [
        finding
        for finding in explain(resources, wanted)
        if node is None or node in (finding.node, finding.other)
    ]
    documents = [
        {"node": f.node, "prefix": str(f.prefix), "finding": f.text, "reason": f.reason} for f in findings
    ]
    columns = (Column("NODE"), Column("ROUTE"), Column("FINDING"), Column("WHY"))
    rows = [(f.node, str(f.prefix), f.text, f.reason) for f in findings]
    empty = f"no node originates {wanted}" if node is None else f"nothing about {wanted} concerns {node}"
    show(Listing(columns, rows, {"prefix": str(wanted), "findings": documents}, empty), output)
    had = {Step.ORIGINATES} if node is None else {Step.ORIGINATES, Step.DELIVERS, Step.LEARNS}
    if not any(finding.step in had and node in (None, finding.node) for finding in findings):
        raise typer.Exit(ExitCode.DIFFERS)
