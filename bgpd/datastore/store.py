"""The one interface through which declared state comes in: a snapshot in sync, then ordered changes.

Two stores implement it, `EtcdStore` and `DirectoryStore`; `open_datastore` chooses by location. The
reader's side is one loop:

    async with aclosing(store.watch(Interests(kinds=frozenset({"Node"})))) as updates:
        async for update in updates:
            match update:
                case Snapshot(): ...     # exactly once, first: the state to start from; act only from here on
                case Changes(): ...      # then for ever: what became different

Whatever happens between us and the store (it is killed, frozen, compacted, behind a dead link, our token
expires), the loop never ends and never raises: the store re-lists and yields the *difference* to what it
yielded before, so a delete that happened in a gap comes out as a delete and nothing comes out twice.
`health()` says whether what was yielded is current. The writer's side is compare-and-swap throughout;
`list`, `get` and the writes raise `DatastoreError`s at once instead of waiting.

Revisions are opaque: they are compared for equality and handed back to `update` and `delete`. With etcd
an entry's revision is the key's ModRevision and grows; a directory has no history, its revision is a
digest of the content.

Liveness is a resource of kind `NodeLease` that lives as long as its holder: `hold` writes it, bound to a
lease, and it vanishes by itself when the holder does. Whoever is interested in the kind sees nodes come
and go.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from bgpd.datastore.interests import EVERYTHING, Interests
from bgpd.resources import Key, Resource


@dataclass(frozen=True, slots=True)
class Entry:
    """A resource as the store has it."""

    key: Key
    resource: Resource
    revision: int


@dataclass(frozen=True, slots=True)
class Change:
    """One key became `entry`, or went away when `entry` is None."""

    key: Key
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class Invalid:
    """A value that cannot be read. The last good value of `key`, if there was one, stays in force.

    `place` is the etcd key or file (with line); `key` is None when not even that could be told, and a file
    may have several. `reason` is for people and None when the place became readable again or went away.
    `revision`: by which it can be replaced or deleted, where the value has one to itself.
    """

    place: str
    key: Key | None
    reason: str | None
    revision: int | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything of interest, at once and consistent. Entries are sorted by key."""

    entries: tuple[Entry, ...]
    revision: int
    invalid: tuple[Invalid, ...] = ()


@dataclass(frozen=True, slots=True)
class Changes:
    """What became different, in the order it did. `invalid` holds news only."""

    changes: tuple[Change, ...]
    revision: int
    invalid: tuple[Invalid, ...] = ()


@dataclass(frozen=True, slots=True)
class Create:
    """Write `resource`, which must not exist yet."""

    resource: Resource


@dataclass(frozen=True, slots=True)
class Update:
    """Replace what has exactly this `revision`."""

    resource: Resource
    revision: int


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove what has exactly this `revision`; None removes whatever is there, also nothing."""

    key: Key
    revision: int | None = None


Write = Create | Update | Delete


@dataclass(frozen=True, slots=True)
class Health:
    """How a store's watches are doing, for readiness, metrics and the operator's eyes.

    `since` is a wall-clock time (seconds since the epoch) of the last change of `current`. `resyncs`
    counts re-lists after the first, `repairs` the differences that only the periodic comparison found
    (should stay 0).
    """

    current: bool
    since: float
    endpoint: str
    reason: str = ""
    resyncs: int = 0
    repairs: int = 0
    reconnects: int = 0


class Hold(Protocol):
    """A node's liveness, held until released."""

    @property
    def held(self) -> bool:
        """False while it is being (re-)acquired."""

    async def release(self) -> None:
        """Let go at once. Without it (a crash, `Datastore.close`) liveness ends by itself after its TTL."""


class Datastore(Protocol):
    """Declared state, wherever it lives."""

    @property
    def location(self) -> str:
        """Where, for people: no passwords in it."""

    @property
    def shared(self) -> bool:
        """Whether other machines reach it too."""

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names or addresses of the machines it is on; none if it is on this one's disk."""

    def health(self) -> Health: ...

    async def list(self, interests: Interests = EVERYTHING) -> Snapshot: ...

    def watch(self, interests: Interests = EVERYTHING) -> AsyncGenerator[Snapshot | Changes, None]:
        """One `Snapshot`, then `Changes` for ever; close it (`contextlib.aclosing`) to stop."""

    async def get(self, key: Key) -> Entry | None: ...

    async def secret(self, name: str, key: str) -> str | None:
        """The password kept beside the resources under this name and key, if this store keeps any."""

    async def create(self, resource: Resource) -> Entry: ...

    async def update(self, resource: Resource, revision: int) -> Entry: ...

    async def delete(self, key: Key, revision: int | None = None) -> bool:
        """True if something was there. With a revision: Conflict unless exactly that was there."""

    async def commit(self, writes: Sequence[Write], *, atomic: bool = True) -> int:
        """All writes or, at the first `Conflict`, none; gives the store's revision afterwards.

        etcd takes at most 128 writes in a transaction: more raise TooLarge, unless `atomic` is False;
        then they go in consecutive transactions and a Conflict tells how many writes had been committed
        before it. A key may occur only once in `writes`.
        """

    async def hold(self, node: str, ttl: float = 15.0) -> Hold:
        """Show `node` as alive from now on; lost liveness is acquired again by itself. `ttl` in seconds."""

    async def close(self) -> None: ...
