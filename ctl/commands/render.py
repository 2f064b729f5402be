"""`cairn render`: a node's plan as the configuration of another BGP speaker, on standard output."""

from enum import StrEnum
from typing import Annotated

import typer

from bgpd import render
from ctl import options, state
from ctl.commands.plan import planned

app = typer.Typer(no_args_is_help=True)
NodeName = Annotated[str, typer.Option("--node", help="Name of the node.", show_default=False)]


class BirdVersion(StrEnum):
    """Versions whose configuration languages differ."""

    ONE = "1"
    TWO = "2"


@app.command(epilog="Example: cairn render bird --node node-1 > /etc/bird/bird.conf")
def bird(
    node: NodeName,
    version: Annotated[BirdVersion, typer.Option("--version", help="Of BIRD: 1 is 1.6.")] = BirdVersion.TWO,
    datastore: options.Datastore = None,
) -> None:
    """A complete, commented bird.conf."""
    print(render.bird(planned(state.declared(datastore), node), int(version)), end="")


@app.command(epilog="Example: cairn render exabgp --node node-1")
def exabgp(node: NodeName, datastore: options.Datastore = None) -> None:
    """The ExaBGP configuration that the agent would run."""
    print(render.exabgp(planned(state.declared(datastore), node)), end="")
