"""`cairn reflector`: run a route reflector in the foreground until a signal ends it."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from bgpd.telemetry.logging import configure_logging
from ctl.exits import ExitCode, Failure
from reflector.config import ConfigError
from reflector.service import run
from reflector.sockets import SocketError


def command(
    config: Annotated[
        Path, typer.Option("--config", "-c", help="Its configuration file.", show_default=False)
    ],
) -> None:
    """Run a route reflector. SIGHUP reads the configuration again, SIGTERM ends all sessions in order."""
    configure_logging()
    try:
        asyncio.run(run(config))
    except ConfigError as error:
        raise Failure(ExitCode.INVALID, str(error)) from error
    except SocketError as error:
        raise Failure(ExitCode.UNREACHABLE, str(error)) from error
