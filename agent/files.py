"""Small files that say where things are: written whole or not at all."""

from __future__ import annotations

import contextlib
from pathlib import Path


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
