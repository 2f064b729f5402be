"""Several files of a directory changed together, or none of them, whatever is refused and whoever dies.

What is to be written is put beside its target first, under a hidden name, and what is there now gets a
second name: whatever forbids writing there (permissions, a full disk) shows then, while nothing has changed.
Then the journal names the renames, and they are done. If one is refused all the same (a file that is a mount
point), those before it are undone, by a journal of their own. Who finds a journal, after a crash, finishes
it; who finds only its beginning removes what was put beside. The caller holds the lock; every method may
raise OSError.
"""

import errno
import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple


class Change(NamedTuple):
    """A file by its path below the root, and what it is to hold; None: it is to go."""

    place: str
    text: str | None


class _Move(NamedTuple):
    """`aside` becomes `place`, or with "" `place` is removed; `former` is what it was, "" if it was not."""

    aside: str
    place: str
    former: str


class Journal:
    """The journal in `private`, of the files below `root`."""

    def __init__(self, root: Path, private: Path) -> None:
        self._root = root
        self._path = private / "journal"
        self._begun = private / "journal.part"
        self._generation = private / "generation"

    @property
    def found(self) -> bool:
        """Whether somebody began what is not finished."""
        return self._path.exists()

    def write(self, changes: Sequence[Change]) -> None:
        """Carry out all changes. Raises OSError: then none was; `found` tells if that is still to be done."""
        moves = []
        for number, (place, text) in enumerate(changes):
            folder = Path(place).parent
            aside = str(folder / f".cairn-new-{number}") if text is not None else ""
            former = str(folder / f".cairn-old-{number}") if (self._root / place).exists() else ""
            moves.append(_Move(aside, place, former))
        try:
            self._begin(moves)
            for (place, text), move in zip(changes, moves, strict=True):
                self._put_beside(self._root / place, text, move)
        except OSError:
            self.clear()
            raise
        self._begun.rename(self._path)
        _sync(self._path.parent)
        self.finish()

    def finish(self) -> None:
        """Do what the journal says, or, if it is refused, undo what was done of it, and raise OSError."""
        if not self.found:
            return
        journal = _read(self._path)
        moves = [_Move(*move) for move in journal["moves"]]
        try:
            self._move(moves)
            self._generation.write_text(journal["generation"], encoding="utf-8")
        except OSError:
            if not journal["undoes"]:
                self._begin([self._inverse(move) for move in reversed(moves) if self._is_done(move)], moves)
                self._begun.rename(self._path)
                self.finish()
            raise
        self._remove(journal["asides"])
        self._path.unlink()

    def clear(self) -> None:
        """Remove what was put beside for a journal that was never written."""
        if self._begun.exists():
            with suppress(OSError):  # cut short itself: nothing was put beside yet
                self._remove(_read(self._begun)["asides"])
            self._begun.unlink(missing_ok=True)

    def _begin(self, moves: Sequence[_Move], undoes: Sequence[_Move] = ()) -> None:
        asides = [name for move in (*moves, *undoes) for name in (move.aside, move.former) if name]
        journal = {
            "generation": str(time.time_ns()),
            "moves": moves,
            "asides": asides,
            "undoes": bool(undoes),
        }
        _write_synced(self._begun, json.dumps(journal))

    def _put_beside(self, target: Path, text: str | None, move: _Move) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        if move.former:
            former = self._root / move.former
            former.unlink(missing_ok=True)
            try:
                former.hardlink_to(target)
            except OSError:  # no such thing on this file system, or not our file
                shutil.copy2(target, former)
        if text is not None:
            aside = self._root / move.aside
            _write_synced(aside, text)
            if move.former:
                shutil.copymode(target, aside)

    def _move(self, moves: Iterable[_Move]) -> None:
        folders: set[Path] = set()
        for aside, place, _ in moves:
            target = self._root / place
            folders.add(target.parent)
            if not aside:
                target.unlink(missing_ok=True)
                continue
            with suppress(FileNotFoundError):  # renamed before the crash
                (self._root / aside).rename(target)
        for folder in folders:
            with suppress(FileNotFoundError):
                _sync(folder)

    def _is_done(self, move: _Move) -> bool:
        return not (self._root / (move.aside or move.place)).exists()

    def _inverse(self, move: _Move) -> _Move:
        return _Move(move.former, move.place, "")

    def _remove(self, asides: Iterable[str]) -> None:
        for aside in asides:
            with suppress(FileNotFoundError, NotADirectoryError):
                (self._root / aside).unlink()


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise OSError(errno.EBADMSG, "damaged; remove it and look what was written", str(path))
    return found


def _write_synced(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
