"""``python -m agent --config FILE``: the node agent by itself, as `cairn agent` runs it."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from agent.service import run
from bgpd.datastore import Misconfigured
from bgpd.telemetry.config import ConfigError
from bgpd.telemetry.logging import configure_logging


def main() -> int:
    """Exit codes: 0 stopped, 5 taken out by SIGUSR2, 4 the configuration cannot be used, 1 anything else."""
    parser = argparse.ArgumentParser(prog="agent", description="The node agent.")
    parser.add_argument("--config", type=Path, required=True, help="a YAML file")
    arguments = parser.parse_args()
    configure_logging()
    try:
        return asyncio.run(run(arguments.config))
    except (ConfigError, Misconfigured) as error:
        print(f"agent: {error}", file=sys.stderr)  # noqa: T201 - a start that fails speaks to a person
        return 4


if __name__ == "__main__":
    sys.exit(main())
