"""The run directory: whose it is, and small files that say where things are."""

from __future__ import annotations

import contextlib
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


def write_whole(path: Path, text: str) -> None:
    """One step, or nothing; and nothing is needed where the file says it already, be the disk full.

    Readable by its owner only. Raises OSError.
    """
    draft = path.with_name(f"{path.name}.new")
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if path.read_text() == text:
            return
    try:
        draft.touch(mode=0o600)
        draft.write_text(text)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
