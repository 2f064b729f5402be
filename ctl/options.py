"""Options that mean the same in every command that has them."""

from pathlib import Path
from typing import Annotated

import typer

from ctl.output import Format


def _file(text: str) -> Path:
    if not text:  # to Path it is the directory one is in
        raise typer.BadParameter("it is empty; give a file, a directory, or - for standard input")
    return Path(text)


Datastore = Annotated[
    str | None,
    typer.Option(
        "--datastore",
        envvar="CAIRN_DATASTORE",
        metavar="DIR|etcd://HOST:PORT[,…]",
        help="Where the declared state is; without it Calico's ETCD_* variables are read.",
    ),
]
Output = Annotated[Format, typer.Option("--output", "-o", help="How to show it.")]
Files = Annotated[
    list[Path] | None,
    typer.Option(
        "--filename",
        "-f",
        metavar="FILE",
        parser=_file,
        help="A file or directory of resources, or - for standard input.",
    ),
]
Of = Annotated[
    str | None,
    typer.Option(
        "--node", metavar="NAME",
        help="Ask the services of this node through the datastore, from anywhere; * and ? match any.",
    ),
]  # fmt: skip
Api = Annotated[
    list[str] | None,
    typer.Option(
        "--api",
        envvar="CAIRN_API",
        metavar="URL",
        help="A service's status interface (http://… or https://…). Repeatable.",
    ),
]


def is_written(context: typer.Context, option: str) -> bool:
    """Whether an option stands on the command line itself: the environment says less of what is meant."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"
