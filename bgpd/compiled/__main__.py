"""``python -m bgpd.compiled``: compile the hot modules for this Python."""

import sys

from bgpd.compiled.make import CompileError, make

if __name__ == "__main__":
    try:
        print(f"compiled: {make()}")  # noqa: T201 - this is a command
    except CompileError as error:
        sys.exit(f"cannot compile: {error}")
