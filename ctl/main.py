"""Entry point of `cairn`: finds the command, runs it, turns failures into exit codes.

`COMMANDS` declares every command. Only the module of the command that was asked for is imported; the others
appear in `cairn --help` by their row alone. That is why the names are modules to import by name rather than
import statements: gRPC, ExaBGP and the netlink library together cost more than a second that `--help` must
not take.
"""

import errno
import gc
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module, metadata
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from ctl.exits import ExitCode, Failure, report, usage

_SERVICES = ("agent", "reflector")
_CALICOCTLS = {
    "create": "`cairn apply` creates what is new",
    "replace": "`cairn apply` replaces what is there",
    "patch": "`cairn get KIND NAME -o yaml`, and `cairn apply` what you make of it",
    "label": "`cairn get KIND NAME -o yaml`, and `cairn apply` what you make of it",
    "node": "`cairn status` and `cairn peers` show sessions, `cairn doctor` looks at the machine",
    "ipam": "`cairn get blocks` and `cairn explain ADDRESS` show addresses; changes are calicoctl's",
    "version": "`cairn --version`",
}
_AWAITED = (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR2, signal.SIGRTMIN + 22, signal.SIGRTMIN + 23)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Row:
    """One command: its name, the module in `ctl.commands` that has it, and what the help says about it."""

    name: str
    module: str
    panel: str
    summary: str
    example: str


_DECLARED, _LIVE, _RUN = "Declared state", "The running cluster", "Services and tools"

COMMANDS: tuple[Row, ...] = (
    Row("apply", "apply", _DECLARED, "Create or change resources, all in one transaction.",
        "cairn apply -f peers.yaml --datastore etcd://10.0.0.5:2379"),
    Row("get", "get", _DECLARED, "Show resources.", "cairn get bgppeers -o wide"),
    Row("delete", "delete", _DECLARED, "Delete resources, all in one transaction.",
        "cairn delete bgppeer rack-1-tor"),
    Row("validate", "validate", _DECLARED, "Check resource files without touching any datastore.",
        "cairn validate -f cluster/"),
    Row("plan", "plan", _DECLARED, "What one node would do, and why: peerings, routes, policy.",
        "cairn plan node-1"),
    Row("diff", "diff", _DECLARED, "What a file would change on every node if it were applied.",
        "cairn diff -f peers.yaml"),
    Row("explain", "explain", _DECLARED, "Where a prefix comes from and who should have it.",
        "cairn explain 10.77.1.5"),
    Row("render", "render", _DECLARED, "Plans as configuration: BIRD, ExaBGP, top-of-rack routers.",
        "cairn render bird --node node-1 --version 2"),
    Row("status", "status", _LIVE, "Is the cluster well? The first line says it.",
        "cairn status --datastore etcd://10.0.0.5:2379"),
    Row("peers", "peers", _LIVE, "Every BGP session, as each service sees it.",
        "cairn peers --down --node 'rack-3-*'"),
    Row("routes", "routes", _LIVE, "Routes as each service has them.", "cairn routes best 10.77.1.5"),
    Row("top", "top", _LIVE, "Sessions, rates and lag, live and full-screen.", "cairn top --every 1"),
    Row("watch", "watch", _LIVE, "Events of all services, as they happen.", "cairn watch --severity warning"),
    Row("agent", "agent", _RUN, "Run the node agent, or tell a running one to drain.",
        "cairn agent --config /etc/cairn/agent.yaml"),
    Row("reflector", "reflector", _RUN, "Run a route reflector, or tell a running one what to do.",
        "cairn reflector --config /etc/cairn/reflector.yaml"),
    Row("bird", "bird", _RUN, "Keep a running BIRD in step with the plan of its node.",
        "cairn bird run --node node-1"),
    Row("lab", "lab", _RUN, "A whole cluster on this machine, live, in under a minute.",
        "cairn lab --nodes 4 --reflectors 2 --store etcd"),
    Row("bench", "bench", _RUN, "Measure Cairn beside its rivals, in a checkout of the project.",
        "cairn bench --quick reflector"),
    Row("doctor", "doctor", _RUN, "Check this machine; every finding comes with its remedy.",
        "cairn doctor --datastore etcd://10.0.0.5:2379"),
)  # fmt: skip


def _version(wanted: bool) -> None:
    if wanted:
        form = " (compiled)" if import_module("bgpd.compiled").in_use() else ""
        typer.echo(f"cairn {metadata.version('cairn')}{form}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Every workload of a cluster reachable by its own address, over plain BGP.

    Exit codes: 0 fine, 1 degraded or different, 2 wrong usage, 3 unreachable, 4 invalid.
    """


def _listed_only() -> None:
    raise AssertionError("a command that was not loaded was run")


def application(wanted: str | None) -> typer.Typer:
    """The command line with the command `wanted` loaded and the others listed; `None` loads all."""
    app = typer.Typer(
        name="cairn",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for row in COMMANDS:
        epilog = f"Example: {row.example}"
        if wanted is not None and row.name != wanted:
            app.command(row.name, help=row.summary, rich_help_panel=row.panel)(_listed_only)
            continue
        module = import_module(f"ctl.commands.{row.module}")
        group: typer.Typer | None = getattr(module, "app", None)
        if group is not None:
            app.add_typer(
                group, name=row.name, short_help=row.summary, rich_help_panel=row.panel, epilog=epilog
            )
        else:
            command: Callable[..., object] = module.command
            app.command(
                row.name,
                short_help=row.summary,
                rich_help_panel=row.panel,
                epilog=epilog,
                context_settings=getattr(module, "SETTINGS", None),
            )(command)
    return app


def wanted_command(arguments: Sequence[str], environ: Mapping[str, str]) -> str:
    """The command that is meant, "" if none: by `arguments`, or by the line a shell wants completed.

    No option of `cairn` itself takes a value, so the first word that is no option is the command.
    """
    line = environ.get("COMP_WORDS") or environ.get("_TYPER_COMPLETE_ARGS") or ""  # bash; zsh and fish
    words = line.split()[1:] if "_CAIRN_COMPLETE" in environ else arguments
    return next((word for word in words if not word.startswith("-")), "")


def _reader_is_gone(_console: object) -> None:
    raise BrokenPipeError


def main() -> None:
    """Run the command line and exit."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # it was closed by who started us
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115  to the end
    output = sys.stdout
    if isinstance(output, TextIOWrapper):  # what a terminal's character set lacks is escaped, as on stderr
        output.reconfigure(errors="backslashreplace")
    try:
        try:
            wanted = wanted_command(sys.argv[1:], os.environ)
            if wanted in _CALICOCTLS and "_CAIRN_COMPLETE" not in os.environ:
                raise usage(f"{wanted!r} is a command of calicoctl", _CALICOCTLS[wanted])
            if wanted in _SERVICES:  # what would end one that is still being loaded waits until it can listen
                signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
            else:  # typer prints help and errors through rich, to which the end of its reader is an error
                import_module("rich.console").Console.on_broken_pipe = _reader_is_gone
                gc.set_threshold(100_000, 50, 100)  # a snapshot is millions of objects, and all of them stay
            app = application(wanted)
            app(prog_name="cairn")
        finally:  # what was printed is written before the exit code says so
            if sys.stdout is not output:  # typer takes it away when nobody reads it, and makes that an error
                raise BrokenPipeError
            output.flush()
    except KeyboardInterrupt:  # while the command was still being loaded
        sys.exit(128 + signal.SIGINT)
    except Failure as failure:
        report(failure, sys.stderr)
        sys.exit(failure.code)
    except BrokenPipeError:  # the reader of our output (head, grep -q) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())
        sys.exit(ExitCode.OK)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())
        report(usage(error.strerror or str(error), "make room, if it is the output's file"), sys.stderr)
        sys.exit(ExitCode.USAGE)
