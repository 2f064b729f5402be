"""The run directory: whose it is, and small files that say where things are."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
from pathlib import Path
from typing import Any

import structlog

_MOST = 2.0**53  # nothing noted here is as large
log = structlog.get_logger("agent")


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


def read_note(path: Path) -> Any:
    """What a file of JSON says. Raises OSError, or ValueError, also for a number that no note of ours has."""
    text = path.read_text()
    try:
        return json.loads(text, parse_int=_number, parse_float=_number, parse_constant=_number)
    except RecursionError:
        raise ValueError(f"{path} is nested too deeply") from None


def unusable(path: Path, error: Exception) -> None:
    """Say that what a former agent noted counts for nothing: damaged, or of a version with another form."""
    if not isinstance(error, FileNotFoundError):
        log.warning("what a former agent noted cannot be used", file=str(path), reason=repr(error))


def _number(text: str) -> int | float:
    if not abs(number := float(text)) < _MOST:  # also Infinity and NaN
        raise ValueError(f"{text} is out of bounds")
    return int(number) if number.is_integer() else number


def _owners(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def write_whole(path: Path, text: str) -> None:
    """One step, or nothing; and nothing is needed where the file says it already, be the disk full.

    Readable by its owner only, whatever stood in its place or beside it. Raises OSError.
    """
    draft = path.with_name(f"{path.name}.new")
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if path.lstat().st_mode == stat.S_IFREG | 0o600 and path.read_text() == text:
            return
    try:
        draft.unlink(missing_ok=True)
        with open(draft, "x", opener=_owners) as file:
            file.write(text)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
