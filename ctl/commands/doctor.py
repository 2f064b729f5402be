"""`cairn doctor`: looks at this machine as a node, and gives a remedy with every finding. Changes nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from agent.config import AgentConfig, load
from bgpd.telemetry.config import ConfigError
from ctl import options
from ctl.checks import Finding, Verdict, of_datastore, of_machine
from ctl.exits import ExitCode
from ctl.output import Column, Format, Listing, show
from ctl.reading import of_services

_USUAL = Path("/etc/cairn/agent.yaml")


def command(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help=f"The agent's configuration; {_USUAL} if that is there."),
    ] = None,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="The BGP port, free or Cairn's.")
    ] = 179,
    output: options.Output = Format.TABLE,
    datastore: options.Datastore = None,
) -> None:
    """Check this machine as a node, and what concerns it in the datastore. Exit 1 at a problem.

    The machine: ExaBGP, kernel settings, firewall, port, disk, leftovers, what files the services may not
    read. With a datastore, named here or in the configuration: whether that answers and this node can be
    planned; clock, passwords, others' routes.
    """
    found = list(_examined(config, port, datastore))
    styles = {Verdict.GOOD.value: "green", Verdict.NOTE.value: "yellow", Verdict.BAD.value: "bold red"}
    columns = (Column("CHECK"), Column("VERDICT", styles=styles), Column("SEEN"), Column("TO DO"))
    rows = [(finding.check, finding.verdict.value, finding.seen, finding.remedy) for finding in found]
    documents = [{"check": f.check, "verdict": f.verdict, "seen": f.seen, "remedy": f.remedy} for f in found]
    show(Listing(columns, rows, {"findings": documents}), output)
    if any(finding.verdict is Verdict.BAD for finding in found):
        raise typer.Exit(ExitCode.DIFFERS)


def _examined(named: Path | None, port: int, datastore: str | None) -> Iterator[Finding]:
    config, path = AgentConfig(), named or _USUAL
    try:
        config = load(path)
        yield Finding("configuration", Verdict.GOOD, str(path))
    except ConfigError as error:
        if isinstance(error.__cause__, PermissionError):
            yield Finding("configuration", Verdict.NOTE, str(error), "run this as root to have it checked")
        elif named is not None or not isinstance(error.__cause__, FileNotFoundError):
            yield Finding("configuration", Verdict.BAD, str(error), "mend it; the agent would not start")
    yield from of_machine(port, config)
    yield from of_services(config, path)
    location = datastore or config.datastore
    if location is not None:
        yield from of_datastore(location, config)
