"""The run directory: whose it is."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def hold(directory: Path) -> int | None:
    """A descriptor by which the directory is ours for as long as it is open; None while another has it.

    The kernel closes it with the process, however that ends. Raises OSError.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    held = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        return None
    return held
