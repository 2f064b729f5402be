"""`cairn reflector`: run a route reflector in the foreground, or tell a running one what to do.

What is told lasts until it is told otherwise or the reflector starts again: what shall last belongs into its
configuration. A reflector is asked at its status interface, with the token from CAIRN_TOKEN where it wants
one.
"""

import asyncio
import errno
from pathlib import Path
from typing import Annotated

import typer

from bgpd.telemetry.config import ConfigError
from bgpd.telemetry.logging import configure_logging
from bgpd.telemetry.status import PeerVerb
from ctl import options
from ctl.exits import ExitCode, Failure, usage
from ctl.telling import tell
from reflector.service import run
from reflector.sockets import SocketError

_REMEDIES = {
    errno.EADDRINUSE: "stop the program that has it (`cairn doctor` names it), or change `listen`",
    errno.EADDRNOTAVAIL: "give the machine that address, or change `listen`",
    errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE",
}
app = typer.Typer()
PeerName = Annotated[
    str, typer.Argument(metavar="PEER", help="Its name or address, as `cairn peers` has it.")
]
Reason = Annotated[str, typer.Option("--reason", help="Told to the peer (RFC 9003) and kept in the log.")]


@app.callback(invoke_without_command=True)
def serve(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Its configuration file.", show_default=False)
    ] = None,
) -> None:
    """Run a route reflector, or tell a running one what to do.

    SIGHUP reads the configuration again. SIGTERM ends it for good: peers are told and drop its routes.
    SIGQUIT ends it for a restart: peers keep its routes until the next one is there.
    """
    if context.invoked_subcommand is not None:
        return
    if config is None:
        raise usage("there is nothing to run", "give --config FILE, or a command; see cairn reflector --help")
    configure_logging()
    try:
        asyncio.run(run(config))
    except ConfigError as error:
        raise Failure(ExitCode.INVALID, str(error)) from error
    except SocketError as error:
        remedy = _REMEDIES.get(error.errno or 0, "")
        raise Failure(ExitCode.UNREACHABLE, error.strerror or str(error), remedy=remedy) from error


@app.command(epilog="Example: cairn reflector drain")
def drain(api: options.Api = None) -> None:
    """Move traffic away: every route is told again as the last resort (RFC 8326). Sessions stay."""
    _tell(api, "drain", "draining: every route is the last resort now")


@app.command(epilog="Example: cairn reflector undrain")
def undrain(api: options.Api = None) -> None:
    """Take a drain back: every route is told again as it is."""
    _tell(api, "undrain", "no longer draining: every route is told as it is")


@app.command(epilog="Example: cairn reflector enable 10.0.0.7")
def enable(peer: PeerName, api: options.Api = None) -> None:
    """Start a session, also one that is barred for too many prefixes or waits because it flaps."""
    _tell(api, f"peers/{PeerVerb.ENABLE}", f"{peer} is enabled", peer=peer)


@app.command(epilog="Example: cairn reflector disable 10.0.0.7 --reason 'new line card'")
def disable(peer: PeerName, reason: Reason = "", api: options.Api = None) -> None:
    """End a session, and refuse it until it is enabled or the reflector starts again."""
    _tell(api, f"peers/{PeerVerb.DISABLE}", f"{peer} is disabled", peer=peer, reason=reason)


@app.command(epilog="Example: cairn reflector reset 10.0.0.7")
def reset(peer: PeerName, reason: Reason = "", api: options.Api = None) -> None:
    """End a session and begin it again at once."""
    _tell(api, f"peers/{PeerVerb.RESET}", f"{peer} begins again", peer=peer, reason=reason)


@app.command(epilog="Example: cairn reflector refresh 10.0.0.7")
def refresh(peer: PeerName, api: options.Api = None) -> None:
    """Exchange all routes again over the same session (RFC 2918)."""
    _tell(api, f"peers/{PeerVerb.REFRESH}", f"all routes are exchanged with {peer} again", peer=peer)


def _tell(api: list[str] | None, what: str, done: str, **query: str) -> None:
    tell(api, "reflector", what, done, **query)
