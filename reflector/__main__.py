"""`python -m reflector CONFIG`: the service without the operator's command around it."""

import asyncio
import sys
from pathlib import Path

from bgpd.telemetry.config import ConfigError
from bgpd.telemetry.logging import configure_logging
from reflector.service import run
from reflector.sockets import SocketError


def main() -> int:
    """Run; the exit code is 0, 2 for a wrong call, 4 for a configuration that cannot be used."""
    if len(sys.argv) != 2:
        print("usage: python -m reflector CONFIG.yaml", file=sys.stderr)  # noqa: T201 - a command's own output
        return 2
    configure_logging()
    try:
        asyncio.run(run(Path(sys.argv[1])))
    except (ConfigError, SocketError) as error:
        print(f"reflector: {error}", file=sys.stderr)  # noqa: T201 - a command's own output
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
