"""Several files of a directory changed together, or none of them, whatever is refused and whoever dies.

What is to be written is put beside its target first, under a hidden name, and what is there now gets a
second name: whatever forbids writing there (permissions, a full disk) shows then, while nothing has changed.
Then the journal names the renames, and they are done. If one is refused all the same (a file that is a mount
point), those before it are undone, by a journal of their own. Who finds a journal, after a crash, finishes
it; who finds only its beginning removes what was put beside. A journal may have come with the directory
(a clone, an archive): one that names anything outside of it, or that we would not have put beside, is
damaged. The same goes for links: nothing is written through one. The caller holds the lock; every method may
raise OSError.
"""

import errno
import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

_ASIDE = (".cairn-new-", ".cairn-old-")


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
        journal = self._read(self._path)
        moves = [_Move(*move) for move in journal["moves"]]
        try:
            self._move(moves)
            replace(self._generation, journal["generation"])
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
                self._remove(self._read(self._begun)["asides"])
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
        self._no_links(move.place)
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

    def _read(self, path: Path) -> Mapping[str, Any]:
        """A journal that names nothing but what its writer may have; raises OSError for any other."""
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            moves = [_Move(*map(_relative, move)) for move in found["moves"]]
            asides = {name for move in moves for name in (move.aside, move.former)} | {*found["asides"]}
            if not all(_is_aside(_relative(name)) for name in asides if name):
                raise ValueError(asides)
            if not (isinstance(found["generation"], str) and isinstance(found["undoes"], bool)):
                raise TypeError(found)
        except (ValueError, KeyError, TypeError, RecursionError):
            what = "damaged, or none of ours; remove it and look what was written"
            raise OSError(errno.EBADMSG, what, str(path)) from None
        for name in {*asides, *(move.place for move in moves)}:
            self._no_links(name)
        return found

    def _no_links(self, place: str) -> None:
        """No folder on the way to a place is a link: what is behind it is none of the directory's."""
        for folder in (self._root / place).relative_to(self._root).parents:
            if folder.name and (self._root / folder).is_symlink():
                what = "a link: resources behind it are not read, and so not written"
                raise OSError(errno.ELOOP, what, str(self._root / folder))

    def _remove(self, asides: Iterable[str]) -> None:
        for aside in asides:
            with suppress(FileNotFoundError, NotADirectoryError):
                (self._root / aside).unlink()


def replace(path: Path, text: str) -> None:
    """Write a file anew, in one step; a link of its name goes, and what it led to stays."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    _write_synced(aside, text)
    aside.rename(path)


def _write_synced(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _relative(name: str) -> str:
    """A path below the root as we write it; raises ValueError or TypeError for any other."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise ValueError(name)
    return name


def _is_aside(name: str) -> bool:
    return PurePosixPath(name).name.startswith(_ASIDE)
