"""A directory of resource files: scanned, and changed in transactions. Blocking; called from a worker thread.

Reading. Every `.yaml`, `.yml` and `.json` file at any depth counts, hidden names (`.git`, editors' swap
files) do not. A file that cannot be read (a pipe, a link that leads nowhere, one far too large) keeps its
last good content and is reported. When two files give the same resource, the first by path wins and the other
is reported. Whatever looks like the middle of somebody's work (a file vanished, became empty, unreadable, or
lost a resource) is believed only when it looks the same a scan later: `git checkout` unlinks and creates, `>`
truncates and writes. What another process of ours committed is believed at once, because commits are atomic
and counted in `.cairn/generation`.

Changes are found by looking (stat), not by inotify: a look costs about 3 us per file, works the same on
network and overlay file systems and through any mount, needs no library, and cannot lose an event to a full
queue.

Writing. One lock file orders all writers and keeps scans out of half-done commits; a reader who may not hold
it (strangers could keep everybody out) scans between two commits. A journal makes a commit all or nothing,
see `directory_journal`.
"""

import errno
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bgpd.datastore.directory_journal import Change, Journal, replace
from bgpd.datastore.errors import Absent, Conflict, DatastoreError, Unavailable
from bgpd.datastore.files import SUFFIXES, edited, path_for, revision_of, unread_in
from bgpd.datastore.store import Delete, Entry, Update, Write
from bgpd.resources import Key, NodeLease, Resource, ResourceError, load_documents

_PRIVATE = ".cairn"
_RECENT_NS = 50_000_000  # a file's times are only as fine as the kernel's tick
_MOST_OCTETS = 64 << 20  # of a file; reading one takes a hundredfold of its size in memory
_PATIENCE, _TRY_AGAIN = 10.0, 0.01  # seconds for somebody else's lock, and between two tries


@dataclass(frozen=True, slots=True)
class Content:
    """What the directory says. `version` grows with every difference seen; `invalid` is place -> reason.

    `unread` is place -> what is missing because of that, as far as it can be told.
    """

    version: int
    entries: Mapping[Key, Entry]
    invalid: Mapping[str, str]
    unread: Mapping[str, tuple[Key, ...]]


@dataclass(slots=True)
class _File:
    """One file as last believed: its entries, and its fault if what is there now cannot be read."""

    signature: tuple[int, ...] | None
    text: str
    entries: tuple[Entry, ...]
    fault: str | None = None
    unread: tuple[Key, ...] = ()
    doubted: tuple[int, ...] | None = None  # signature of a suspicious state, seen once


class DirectoryTree:
    """Not for two threads at once; `DirectoryStore` sees to that."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._private = root / _PRIVATE
        self._journal = Journal(root, self._private)
        self._files: dict[str, _File] = {}
        self._identity: tuple[int, int] | None = None  # device and inode of the directory last read
        self._generation = ""
        self._content = Content(0, {}, {}, {})
        self._owners: dict[Key, str] = {}

    def look(self) -> Content:
        """Scan, and say what there is now. Raises Unavailable when the directory cannot be read."""
        try:
            with self._locked(shared=True) as held:
                if held:
                    self._scan()
                else:
                    self._scan_between_commits()
        except OSError as error:
            raise Unavailable(f"{self._root}: cannot be read: {_why(error)}") from error
        return self._content

    def commit(self, writes: Sequence[Write]) -> Content:
        """Carry out all writes or none. Raises Conflict, DatastoreError or Unavailable.

        DatastoreError says that nothing was written, Unavailable that this is not known.
        """
        written = False
        try:
            self._private.mkdir(parents=True, exist_ok=True)
            with (
                suppress(FileExistsError),
                (self._private / ".gitignore").open("x", encoding="utf-8") as file,
            ):
                file.write("*\n")
            with self._locked(shared=False):
                self._finish_journal()
                self._journal.clear()
                self._scan(trust=True)
                written = self._write(self._edits(writes))
                self._scan(trust=True)
        except OSError as error:
            if written:
                raise Unavailable(f"{self._root}: written, but cannot be read: {_why(error)}") from error
            what = f"{self._root}: cannot be written: {_why(error)}; nothing was written"
            raise DatastoreError(what) from error
        return self._content

    def refresh_lease(self, lease: NodeLease, ttl: float) -> None:
        """Say that the holder of `lease` is alive for another `ttl` seconds."""
        path = self._lease_path(lease.name)
        text = json.dumps({"ttl": ttl, "since": lease.spec.since, "holder": lease.spec.holder})
        try:
            if path.exists() and path.read_text(encoding="utf-8") == text:
                os.utime(path)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                replace(path, text)
        except OSError as error:
            raise Unavailable(f"{path}: cannot be written: {error.strerror}") from error

    def drop_lease(self, node: str) -> None:
        with suppress(OSError):
            self._lease_path(node).unlink()

    def _lease_path(self, node: str) -> Path:
        return self._private / "leases" / path_for(Key("NodeLease", node)).name

    @contextmanager
    def _locked(self, *, shared: bool) -> Iterator[bool]:
        """Hold the lock; False for a reader who may not."""
        path = self._private / "lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o660)
        except OSError:
            if not shared:
                raise
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except OSError:
                yield False
                return
        try:
            _lock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, path)
            if shared and self._journal.found:
                _lock(descriptor, fcntl.LOCK_EX, path)
                self._finish_journal()
            yield True
        finally:
            os.close(descriptor)

    def _finish_journal(self) -> None:
        """Finish what somebody was writing when he died, or undo it."""
        try:
            self._journal.finish()
        except OSError as error:
            if self._journal.found:
                what = "a change was cut short, and can be neither finished nor undone"
                raise Unavailable(f"{self._root}: {what}: {_why(error)}") from error

    def _scan_between_commits(self) -> None:
        """Scan without the lock: again, while a commit is under way, or when one was done meanwhile."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            self._scan()
            if not self._is_committing() and self._read_generation() == self._generation:
                return
            if time.monotonic() > deadline:
                what = f"a change has been under way for {_PATIENCE:g} s; who may write here can finish it"
                raise OSError(errno.ETIMEDOUT, what, str(self._private))
            time.sleep(_TRY_AGAIN)

    def _is_committing(self) -> bool:
        with suppress(OSError):  # who may not look there sees no commits
            return self._journal.found
        return False

    def _scan(self, *, trust: bool = False) -> None:
        generation = self._read_generation()
        paths = self._paths()
        self._be_the_same(paths)
        trust = trust or (generation not in ("", self._generation)) or self._content.version == 0
        self._generation = generation
        changed = False
        present: set[str] = set()
        for path in paths:
            place = str(path.relative_to(self._root))
            try:
                changed |= self._look_at(path, place, trust=trust)
            except FileNotFoundError:
                continue  # gone between the listing and the look
            present.add(place)
        for place in [place for place in self._files if place not in present]:
            file = self._files[place]
            if trust or file.doubted == ():
                del self._files[place]
                changed = True
            else:
                file.doubted = ()
        leases = self._leases()
        known = {key: entry for key, entry in self._content.entries.items() if self._owners.get(key) == ""}
        if changed or leases != known or self._content.version == 0:
            self._assemble(leases)

    def _be_the_same(self, paths: Sequence[Path]) -> None:
        """Another directory in its place that is empty is a mount that is gone, and deletes nothing."""
        state = self._root.stat()
        identity = state.st_dev, state.st_ino
        if self._identity not in (None, identity) and self._files and not paths:
            what = "another directory than before, and an empty one: is something not mounted?"
            keep = "What was declared is kept; a restart begins with what is there"
            raise Unavailable(f"{self._root}: {what} {keep}")
        self._identity = identity

    def _paths(self) -> list[Path]:
        found: list[Path] = []

        def complain(error: OSError) -> None:
            if error.filename == str(self._root):
                if isinstance(error, FileNotFoundError):
                    what = "there is no such directory; the first `cairn apply` there makes it"
                    raise Absent(f"{self._root}: {what}") from error
                raise Unavailable(f"{self._root}: cannot be read: {error.strerror}") from error
            below = f"{Path(error.filename).relative_to(self._root)}/"
            if not isinstance(error, FileNotFoundError) and any(
                place.startswith(below) for place in self._files
            ):
                raise error  # what is in it was read before, and is not gone

        for folder, folders, names in os.walk(self._root, onerror=complain):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            found += [
                Path(folder, name)
                for name in names
                if not name.startswith(".") and os.path.splitext(name)[1] in SUFFIXES  # noqa: PTH122 - hot
            ]
        return sorted(found)

    def _look_at(self, path: Path, place: str, *, trust: bool) -> bool:
        """Read one file if it seems to have changed; whether its meaning did."""
        state, fault = _state_of(path, place)
        signature = (state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino)
        file = self._files.get(place)
        if file is not None and file.signature == signature:
            file.doubted = None
            return False
        settled = time.time_ns() - state.st_ctime_ns > _RECENT_NS
        remembered = signature if settled else None
        entries: tuple[Entry, ...] = ()
        text = ""
        try:
            text = "" if fault else path.read_text(encoding="utf-8")
            if not fault and file is not None and file.fault is None and text == file.text:
                file.signature, file.doubted = remembered, None
                return False
            resources = load_documents(text, place)
            entries = tuple(Entry(found.key, found, revision_of(found)) for found in resources)
        except FileNotFoundError:
            raise
        except ResourceError as error:
            fault = str(error)
        except UnicodeDecodeError as error:
            fault = f"{place}: not UTF-8 text"
            text = error.object.decode("utf-8", "replace")
        except OSError as error:
            fault = f"{place}: cannot be read: {error.strerror}"
        if file is None:
            file = self._files[place] = _File(None, "", ())
            lost = False
        else:
            lost = not {entry.key for entry in file.entries} <= {entry.key for entry in entries}
        if (fault or lost) and not trust and file.doubted != signature:
            file.doubted = signature
            return False
        file.signature, file.doubted = remembered, None
        if fault is None:
            changed = file.entries != entries or file.fault is not None
            file.text, file.entries, file.fault, file.unread = text, entries, None, ()
            return changed
        before = file.fault, file.unread
        known = file.unread or [entry.key for entry in file.entries]
        file.fault, file.unread = fault, unread_in(text, known)
        return before != (file.fault, file.unread)

    def _leases(self) -> dict[Key, Entry]:
        found: dict[Key, Entry] = {}
        with suppress(FileNotFoundError):
            for path in sorted((self._private / "leases").iterdir()):
                with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
                    data = json.loads(path.read_text(encoding="utf-8"))
                    if path.name.startswith(".") or time.time() > path.stat().st_mtime + data["ttl"]:
                        continue
                    lease = lease_of(data["holder"], data["since"])
                    found[lease.key] = Entry(lease.key, lease, revision_of(lease))
        return found

    def _assemble(self, leases: Mapping[Key, Entry]) -> None:
        entries = dict(leases)
        owners = dict.fromkeys(leases, "")
        invalid: dict[str, str] = {}
        for place in sorted(self._files):
            file = self._files[place]
            if file.fault is not None:
                invalid[place] = file.fault
            for entry in file.entries:
                if entry.key in entries:
                    elsewhere = owners[entry.key] or "a live lease"
                    invalid.setdefault(
                        place, f"{place}: {entry.key} is already given by {elsewhere}; keep one"
                    )
                    continue
                entries[entry.key] = entry
                owners[entry.key] = place
        self._owners = owners
        unread = {place: file.unread for place, file in self._files.items() if file.unread}
        self._content = Content(self._content.version + 1, dict(sorted(entries.items())), invalid, unread)

    def _edits(self, writes: Sequence[Write]) -> dict[str, dict[Key, Resource | None]]:
        """Check every condition, then say which file gets which edits."""
        edits: dict[str, dict[Key, Resource | None]] = {}
        taken = set(self._files)
        for write in writes:
            key = write.key if isinstance(write, Delete) else write.resource.key
            present = self._content.entries.get(key)
            revision = None if present is None else present.revision
            if isinstance(write, Update | Delete):
                if write.revision not in (None, revision):
                    raise Conflict(key, write.revision, revision)
            elif revision is not None:
                raise Conflict(key, None, revision)
            place = self._owners.get(key)
            if place is None and not isinstance(write, Delete):
                place = _free(str(path_for(key)), taken, self._root)
                taken.add(place)
            if not place:
                continue
            if place in self._files and self._files[place].fault is not None:
                raise DatastoreError(f"{place} has to be repaired first: {self._files[place].fault}")
            edits.setdefault(place, {})[key] = None if isinstance(write, Delete) else write.resource
        return edits

    def _write(self, edits: Mapping[str, Mapping[Key, Resource | None]]) -> bool:
        """Whether anything was written; what raises OSError was not."""
        changes: list[Change] = []
        for place, resources in sorted(edits.items()):
            file = self._files.get(place)
            text = edited(file.text if file else "", resources, place)
            changes.append(Change(place, text or None))
        if not changes:
            return False
        try:
            self._journal.write(changes)
        except OSError as error:
            if self._journal.found:
                what = "a change was refused in its middle, and cannot be undone yet"
                raise Unavailable(f"{self._root}: {what}: {_why(error)}") from error
            raise
        return True

    def _read_generation(self) -> str:
        try:
            return (self._private / "generation").read_text(encoding="utf-8")
        except OSError:
            return ""


def lease_of(node: str, since: str) -> NodeLease:
    return NodeLease.model_validate(
        {"metadata": {"name": node}, "spec": {"holder": node, "since": since}}, by_alias=True
    )


def _free(place: str, taken: set[str], root: Path) -> str:
    stem, suffix = place.rsplit(".", 1)
    candidate, number = place, 1
    while candidate in taken or (root / candidate).exists():
        number += 1
        candidate = f"{stem}-{number}.{suffix}"
    return candidate


def _lock(descriptor: int, how: int, path: Path) -> None:
    """Take the lock as soon as it can be had; who holds it for long is stopped, or none of ours."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                what = f"another process has held this lock for {_PATIENCE:g} s"
                raise OSError(errno.ETIMEDOUT, what, str(path)) from None
        time.sleep(_TRY_AGAIN)


def _state_of(path: Path, place: str) -> tuple[os.stat_result, str | None]:
    """A file's state, and why it is not even to be opened; who opens a pipe waits for its other end."""
    try:
        state = path.stat()
    except OSError as error:
        if not path.is_symlink():
            raise
        return path.lstat(), f"{place}: a link that leads nowhere: {error.strerror}"
    if not stat.S_ISREG(state.st_mode):
        return state, f"{place}: no regular file"
    if state.st_size > _MOST_OCTETS:
        return state, f"{place}: larger than {_MOST_OCTETS >> 20} MiB; several files may share what it has"
    return state, None


def _why(error: OSError) -> str:
    """The reason, and which file it is about."""
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason
