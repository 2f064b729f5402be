"""`cairn agent`: run the node agent in the foreground until a signal ends it."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from agent.service import run
from bgpd.datastore import Misconfigured
from bgpd.telemetry.config import ConfigError
from bgpd.telemetry.logging import configure_logging
from ctl.exits import ExitCode, Failure


def command(
    config: Annotated[
        Path, typer.Option("--config", "-c", help="Its configuration file.", show_default=False)
    ],
) -> None:
    """Run the node agent. SIGTERM leaves sessions and routes to the next agent, SIGUSR2 takes them along.

    SIGHUP reads the configuration again; one that is wrong is refused and the old one stays.
    """
    configure_logging()
    try:
        asyncio.run(run(config))
    except (ConfigError, Misconfigured) as error:
        raise Failure(ExitCode.INVALID, str(error)) from error
