"""`cairn agent`: run the node agent in the foreground, or tell a running one to drain."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from agent.service import run
from bgpd.datastore import Misconfigured
from bgpd.telemetry.config import ConfigError
from bgpd.telemetry.logging import configure_logging
from ctl import options
from ctl.exits import ExitCode, Failure, usage
from ctl.telling import tell

app = typer.Typer()


@app.callback(invoke_without_command=True)
def serve(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Its configuration file.", show_default=False)
    ] = None,
) -> None:
    """Run the node agent, or tell a running one to drain.

    SIGTERM leaves sessions and routes to the next agent. SIGUSR2 takes them along, and the exit code is 5:
    not to be started again. SIGHUP reads the configuration again; one that is wrong is refused and the old
    one stays.
    """
    if context.invoked_subcommand is not None:
        return
    if config is None:
        raise usage("there is nothing to run", "give --config FILE, or a command; see cairn agent --help")
    configure_logging()
    try:
        status = asyncio.run(run(config))
    except (ConfigError, Misconfigured) as error:
        raise Failure(ExitCode.INVALID, str(error)) from error
    raise typer.Exit(status)


@app.command(epilog="Example: cairn agent drain")
def drain(api: options.Api = None) -> None:
    """Move traffic away: what the node announces is withdrawn. Sessions and learned routes stay."""
    tell(api, "agent", "drain", "draining: what the node announces is withdrawn")


@app.command(epilog="Example: cairn agent undrain")
def undrain(api: options.Api = None) -> None:
    """Take a drain back: what the node has is announced again."""
    tell(api, "agent", "undrain", "no longer draining: what the node has is announced")
