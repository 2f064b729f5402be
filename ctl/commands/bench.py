"""`cairn bench`: the project's benchmarks, where its checkout is.

They measure the reflector, the agent and the plan beside their rivals (BIRD, FRR, OpenBGPD, GoBGP), need
these, root and gcc, and are no part of an installation: what an operator wants to know of a running cluster
is in `cairn top` and in the convergence histograms.
"""

import os
import sys
from pathlib import Path

import typer

from ctl.exits import ExitCode, Failure

SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}
CHECKOUT = Path(__file__).resolve().parents[2]


def command(context: typer.Context) -> None:
    """Run the benchmarks of this checkout: all words are theirs, and `cairn bench -- --help` tells them."""
    if not (CHECKOUT / "bench" / "__main__.py").is_file():
        raise Failure(
            ExitCode.USAGE,
            f"the benchmarks are not part of an installation, and {CHECKOUT} is no checkout",
            remedy="run `./run bench` in a checkout; for a running cluster: `cairn top`",
        )
    os.chdir(CHECKOUT)
    os.execv(sys.executable, [sys.executable, "-m", "bench", *context.args])  # noqa: S606 - our own program
