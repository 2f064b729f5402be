"""Declared state in a directory of YAML and JSON files: the embedded store, for one machine and for git.

The files belong to their author: any editor, `git checkout` or `cp` changes them, and what they say is what
is declared. `directory_tree` reads and writes them; here that happens in a worker thread, every `POLL`
seconds while somebody watches, or less often where scanning takes much work (a twentieth of a processor's
time; how long a busy machine or program lets it wait does not count).

Revisions are digests of content: an update succeeds if the resource still *is* what was read, however often
it changed and changed back meanwhile. Liveness is a file's modification time, compared with this machine's
clock; on a shared file system the machines' clocks must agree better than the TTL.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from bgpd.datastore.directory_tree import Content, DirectoryTree, lease_of
from bgpd.datastore.errors import DatastoreError, Unavailable
from bgpd.datastore.interests import EVERYTHING, Interests
from bgpd.datastore.store import (
    Change,
    Changes,
    Create,
    Delete,
    Entry,
    Health,
    Invalid,
    Snapshot,
    Update,
    Write,
)
from bgpd.resources import Key, NodeLease, Resource

POLL = 0.1

_log = logging.getLogger(__name__)


class DirectoryStore:
    """See `store.Datastore`. The first write makes the directory; without it nothing is current."""

    def __init__(self, path: Path, poll: float = POLL) -> None:
        self._path = path.absolute()
        self._poll = poll
        self._tree = DirectoryTree(self._path)
        self._turn = asyncio.Lock()
        self._work = 0.0  # seconds of a processor that the latest look took
        self._health = Health(
            current=False, since=time.time(), endpoint=str(self._path), reason="not read yet"
        )
        self._holds: list[DirectoryHold] = []
        self._closed = False

    @property
    def shared(self) -> bool:
        return False

    @property
    def location(self) -> str:
        return str(self._path)

    @property
    def hosts(self) -> tuple[str, ...]:
        return ()

    def health(self) -> Health:
        return self._health

    async def list(self, interests: Interests = EVERYTHING) -> Snapshot:
        return _snapshot(await self._run(self._tree.look), interests)

    async def watch(self, interests: Interests = EVERYTHING) -> AsyncGenerator[Snapshot | Changes, None]:
        seen: Content | None = None
        told = ""
        while not self._closed:
            try:
                content = await self._run(self._look)
            except DatastoreError as error:
                if told != (told := str(error)):
                    _log.warning("directory not current: %s", told)
            else:
                told = ""
                if seen is None:
                    seen = content
                    yield _snapshot(content, interests)
                elif content.version != seen.version:
                    update = _difference(seen, content, interests)
                    seen = content
                    if update.changes or update.invalid:
                        yield update
            await asyncio.sleep(max(self._poll, 19 * self._work))

    async def get(self, key: Key) -> Entry | None:
        return (await self._run(self._tree.look)).entries.get(key)

    async def secret(self, name: str, key: str) -> str | None:  # noqa: ARG002 - a directory keeps none
        return None

    async def create(self, resource: Resource) -> Entry:
        return await self._written(Create(resource))

    async def update(self, resource: Resource, revision: int) -> Entry:
        return await self._written(Update(resource, revision))

    async def delete(self, key: Key, revision: int | None = None) -> bool:
        present = await self.get(key)
        await self.commit([Delete(key, revision)])
        return present is not None

    async def commit(self, writes: Sequence[Write], *, atomic: bool = True) -> int:  # noqa: ARG002 - always is
        keys = [write.key if isinstance(write, Delete) else write.resource.key for write in writes]
        if len(set(keys)) != len(keys):
            raise DatastoreError("one transaction cannot write the same resource twice")
        return (await self._run(lambda: self._tree.commit(writes))).version

    async def hold(self, node: str, ttl: float = 15.0) -> "DirectoryHold":
        lease = lease_of(node, datetime.now(UTC).isoformat(timespec="milliseconds"))
        hold = DirectoryHold(self._tree, lease, ttl)
        await hold.acquire()
        self._holds.append(hold)
        return hold

    async def close(self) -> None:
        self._closed = True
        for hold in self._holds:
            await hold.abandon()

    async def _written(self, write: Create | Update) -> Entry:
        content = await self._run(lambda: self._tree.commit([write]))
        return content.entries[write.resource.key]

    def _look(self) -> Content:
        began = time.thread_time()
        try:
            return self._tree.look()
        finally:
            self._work = time.thread_time() - began

    async def _run(self, work: Callable[[], Content]) -> Content:
        async with self._turn:
            try:
                content = await asyncio.to_thread(work)
            except Unavailable as error:
                self._report(str(error))
                raise
            self._report("")
            return content

    def _report(self, reason: str) -> None:
        health, current = self._health, not reason
        since = health.since if current == health.current else time.time()
        self._health = Health(current, since, str(self._path), reason)


class DirectoryHold:
    """See `store.Hold`."""

    def __init__(self, tree: DirectoryTree, lease: NodeLease, ttl: float) -> None:
        self._tree = tree
        self._lease = lease
        self._ttl = ttl
        self._held = False
        self._task: asyncio.Task[None] | None = None

    @property
    def held(self) -> bool:
        return self._held

    async def acquire(self) -> None:
        await asyncio.to_thread(self._tree.refresh_lease, self._lease, self._ttl)
        self._held = True
        self._task = asyncio.get_running_loop().create_task(self._keep(), name=f"hold {self._lease.name}")

    async def release(self) -> None:
        await self.abandon()
        self._held = False
        await asyncio.to_thread(self._tree.drop_lease, self._lease.name)

    async def abandon(self) -> None:
        """Stop refreshing, and leave the lease to its TTL."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._ttl / 3)
            try:
                await asyncio.to_thread(self._tree.refresh_lease, self._lease, self._ttl)
                self._held = True
            except DatastoreError as error:
                self._held = False
                _log.warning("liveness cannot be refreshed: %s", error)


def _snapshot(content: Content, interests: Interests) -> Snapshot:
    entries = tuple(entry for key, entry in content.entries.items() if interests.wants(key))
    invalid = [each for place in sorted(content.invalid) for each in _invalid(content, place)]
    return Snapshot(entries, content.version, tuple(invalid))


def _difference(old: Content, new: Content, interests: Interests) -> Changes:
    """Deletes and puts in the order of keys; faults that are new or gone in the order of places.

    What can be read again and is as it was is no change, and so is not named as one that was missing.
    """
    changes = [
        Change(key, new.entries.get(key))
        for key in sorted({*old.entries, *new.entries})
        if interests.wants(key) and _revision(old, key) != _revision(new, key)
    ]
    unchanged = new.entries.keys() - {change.key for change in changes}
    invalid: list[Invalid] = []
    for place in sorted({*old.invalid, *new.invalid}):
        was, now = (_invalid(content, place) for content in (old, new))
        if was != now:
            ended = {each.key if each.key not in unchanged else None for each in was}
            ended -= {each.key for each in now} | ({None} if now else set())
            invalid += [Invalid(place, key, None) for key in sorted(ended, key=str)] + now
    return Changes(tuple(changes), new.version, tuple(invalid))


def _invalid(content: Content, place: str) -> list[Invalid]:
    """What is to be said of a place: once, or once for each of those that are missing because of it."""
    reason = content.invalid.get(place)
    keys = content.unread.get(place) or (None,)
    return [] if reason is None else [Invalid(place, key, reason) for key in keys]


def _revision(content: Content, key: Key) -> int | None:
    entry = content.entries.get(key)
    return None if entry is None else entry.revision
