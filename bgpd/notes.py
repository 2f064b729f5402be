"""Notes from one life of a process to the next: small files that are ours, or none at all."""

import contextlib
import json
import os
import stat
from pathlib import Path
from typing import Any

import structlog

LONGEST = 1 << 26  # octets: more than any note of ours has
_MOST = 2.0**53  # nothing noted is as large

log = structlog.get_logger(__name__)


def contents(path: Path, longest: int = LONGEST) -> str:
    """The text of a file of ours; raises OSError or ValueError for anything else."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_uid not in (0, os.geteuid()):
            raise ValueError(f"{path} is not a file of ours")
        read = file.read(longest + 1)
    if len(read) > longest:
        raise ValueError(f"{path} is larger than {longest} octets")
    return read.decode()


def read_note(path: Path) -> Any:
    """What a file of JSON says. Raises OSError, or ValueError, also for a number that no note of ours has."""
    text = contents(path)
    try:
        return json.loads(text, parse_int=_number, parse_float=_number, parse_constant=_number)
    except RecursionError:
        raise ValueError(f"{path} is nested too deeply") from None


def unusable(path: Path, error: Exception) -> None:
    """Say that what was noted before counts for nothing: damaged, or of a version with another form."""
    if not isinstance(error, FileNotFoundError):
        log.warning("what was noted before cannot be used", file=str(path), reason=repr(error))


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
