"""The export log: what the peers of one update group are sent, encoded once, in order.

A reflector usually keeps a queue per client and encodes per client, so that its work is routes ×
clients. Here the peers of a group share one append-only log of whole UPDATE messages, and a peer is
a *cursor* into it. Sending to a thousand peers is a thousand system calls over the same bytes.

The log is a chain of *batches*; the last one is always empty and waits to be filled. Of a batch each
peer gets everything except

* the *own* ranges of its source: a peer is not sent what it announced itself; and
* what is *addressed* to another: when the best path moves from A to B, then B alone must be told to
  forget A's, while everybody else simply receives B's.

**A joiner** starts at the head of the chain. Whatever the head leads through, from there to the end
lies the whole state, so joining costs no encoding at all, also for a thousand joiners at once.

**Compaction** keeps it small. What was withdrawn or replaced counts as dead. When more than half of the log
is, it begins at its open end (`_shorten`) and is not `whole`: the next joiner, if one comes, has the chain
written anew from the Loc-RIB (`rebase`). When few changes with long attributes, or many one by one, have made
it much larger than it was, it is written anew at once. Any chain runs into the same open end, so readers on
the way notice nothing. Old batches live as long as a cursor stands before them. A cursor that is further
behind than the whole state is long (a stalled reader) is put on a *catch-up* chain, shared by all such
readers: the present state of every prefix touched since. A stalled reader therefore costs about one table,
never an unbounded queue, and never delays the others.

The property that defines all this: replaying what a peer was sent gives exactly
`{prefix: best path, if it may be told to this peer}` as of its cursor, and at rest as of now.

Offsets and sizes are octets. The log knows sources only by identity and NLRI only as opaque bytes.
Without readers there is no log: it is not `based`, nothing is kept, and the first joiner has it written.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

from bgpd.rib.path import Source

Buffer: TypeAlias = bytes | memoryview
Ranges: TypeAlias = list[tuple[int, int]]

SLACK_OCTETS = 1 << 20  # garbage and lag below this are not worth any work
SLACK_BATCHES = 256  # a joiner that would walk through more small batches than this gets a fresh base,
ENTRIES_PER_BATCH = 16  # unless there are more entries to encode than this for each of the batches
BATCH_COST = 900  # octets of memory that a small batch takes besides its data
GROWTH_OCTETS = 128  # for each entry: by so much a log may grow, besides its base again
BATCH_OCTETS = 1 << 17  # a base is cut into batches of about this size


class Segment(NamedTuple):
    """Whole messages about some prefixes, given as any number of lists.

    Goes to every peer except `skip`; or, when `only` is given, to that peer alone.
    """

    data: bytes
    touched: Sequence[Sequence[bytes]]
    skip: Source | None = None
    only: Source | None = None


class Batch:
    """A run of segments, closed once its successor exists."""

    __slots__ = ("addressed", "data", "end", "following", "own", "touched")

    def __init__(self) -> None:
        self.data = b""
        self.own: dict[Source, Ranges] = {}
        self.addressed: dict[Source, bytes] = {}
        self.touched: list[Sequence[bytes]] = []
        self.end = 0  # the log's position behind this batch, once it has a successor
        self.following: Batch | None = None

    def fill(self, segments: Iterable[Segment]) -> None:
        """Take in segments, in order; addressed ones are read after all others."""
        parts: list[bytes] = []
        private: dict[Source, list[bytes]] = {}
        own, touched = self.own, self.touched
        offset = 0
        for data, prefixes, source, only in segments:
            touched += prefixes
            if only is not None:
                private.setdefault(only, []).append(data)
                continue
            parts.append(data)
            end = offset + len(data)
            if source is not None:
                ranges = own.get(source)
                if ranges is None:
                    own[source] = [(offset, end)]
                elif ranges[-1][1] == offset:
                    ranges[-1] = (ranges[-1][0], end)
                else:
                    ranges.append((offset, end))
            offset = end
        self.data = b"".join(parts)
        self.addressed = {only: b"".join(pieces) for only, pieces in private.items()}

    def view(self, source: Source) -> list[Buffer]:
        """What `source` is sent of this batch; the bytes are shared, not copied."""
        ranges = self.own.get(source)
        if ranges is None:
            buffers: list[Buffer] = [self.data] if self.data else []
        else:
            whole = memoryview(self.data)
            buffers = []
            start = 0
            for a, b in ranges:
                if a > start:
                    buffers.append(whole[start:a])
                start = b
            if start < len(self.data):
                buffers.append(whole[start:])
        if self.addressed:
            private = self.addressed.get(source)
            if private is not None:
                buffers.append(private)
        return buffers


class Cursor:
    """One peer's place in a log."""

    __slots__ = ("_batch", "_log", "_source", "floor")

    def __init__(self, log: "ExportLog", source: Source, batch: Batch) -> None:
        self._log = log
        self._source = source
        self._batch = batch
        self.floor = 0
        """Where a reader that was moved to a catch-up chain has been told everything of before."""

    @property
    def behind(self) -> bool:
        """Whether there is anything left to read."""
        return self._batch.following is not None

    @property
    def lag(self) -> int:
        """How many octets of the log lie ahead, the peer's own ones included."""
        ahead = self._batch.following
        return 0 if ahead is None else self._log.position - self._batch.end + len(self._batch.data)

    def take(self, limit: int) -> list[Buffer]:
        """The next buffers to send: whole batches, until at least `limit` octets are taken.

        Empty when the peer has everything, or when all that lay ahead was its own.
        """
        batch, source = self._batch, self._source
        taken: list[Buffer] = []
        size = 0
        while size < limit:
            following = batch.following
            if following is None:
                break
            if source in batch.own or batch.addressed:
                buffers = batch.view(source)
                taken += buffers
                for buffer in buffers:
                    size += len(buffer)
            elif batch.data:
                taken.append(batch.data)
                size += len(batch.data)
            batch = following
        self._batch = batch
        return taken

    def take_news(self) -> bytes | None:
        """The one batch ahead, when it is to be sent as it is; None when more has to be considered.

        The ordinary step of a peer that has everything else: `take` without the list.
        """
        batch = self._batch
        following = batch.following
        if following is None or following.following is not None or self._source in batch.own:
            return None
        if batch.addressed:
            return None
        self._batch = following
        return batch.data

    def move_to(self, batch: Batch) -> None:
        """Stand before another batch (compaction only)."""
        self._batch = batch

    @property
    def batch(self) -> Batch:
        """The batch this cursor stands before."""
        return self._batch


class ExportLog:
    """The log of one update group.

    `snapshot` gives the whole present state as segments, sources standing together; `catch_up` gives
    the present state of some prefixes, withdrawals of the absent ones included. Both are asked only
    at times when the log has everything the Loc-RIB has.
    """

    def __init__(
        self,
        snapshot: Callable[[], Iterable[Segment]],
        catch_up: Callable[[set[bytes]], Iterable[Segment]],
        *,
        slack: int = SLACK_OCTETS,
    ) -> None:
        self._snapshot = snapshot
        self._catch_up = catch_up
        self._slack = slack
        self._head = self._tail = Batch()
        self._batches = 0
        self._cursors: set[Cursor] = set()
        self.based = False
        self.whole = False  # whether the chain holds the whole state
        self.position = 0
        self.octets = 0  # of the chain
        self._base = 0  # those of the whole state, when the chain last began
        self._entries = 0
        self.dead = 0

    def append(self, segments: Sequence[Segment], dead: int, brief: int = 0) -> None:
        """Add what changed; `dead` entries, of these or of earlier ones, mean nothing to a joiner any more.

        An entry is a prefix in a segment, except the `brief` ones: withdrawals, which hardly take room. Only
        for a log that is `based`.
        """
        batch = self._tail
        batch.fill(segments)
        size = len(batch.data)
        self.position += size
        batch.end = self.position
        self._tail = batch.following = Batch()
        self._batches += 1
        self.octets += size
        self._entries += sum(map(len, batch.touched)) - brief
        if dead:
            self.dead += dead
            cost = self.octets + BATCH_COST * self._batches
            if cost > self._slack:
                if 2 * self.dead > self._entries:
                    self._shorten()
                elif cost > 2 * self._base + GROWTH_OCTETS * self._entries:
                    self.rebase()

    def join(self, source: Source) -> Cursor:
        """A cursor for a peer that has nothing yet."""
        if (
            not self.whole
            or self._batches > max(SLACK_BATCHES, self._entries // ENTRIES_PER_BATCH)
            or (self.octets > self._slack >> 4 and 4 * self.dead > self._entries)
        ):
            self.rebase()
        cursor = Cursor(self, source, self._head)
        self._cursors.add(cursor)
        return cursor

    def leave(self, cursor: Cursor) -> None:
        """Forget a cursor, and with it what was kept only for its sake."""
        self._cursors.discard(cursor)
        if not self._cursors:
            self._head = self._tail = Batch()
            self._batches = self.octets = self._entries = self.dead = 0
            self.based = self.whole = False

    def restart(self, cursor: Cursor) -> None:
        """Send everything again to a peer that has everything (a route refresh)."""
        if not self.whole:
            self.rebase()
        cursor.move_to(self._head)

    def rebase(self) -> None:
        """Write the chain anew from the present state."""
        self._relieve(self._table())
        self._head, self._batches, self.octets = self._chain(self._snapshot(), self._tail)
        self._entries, self.dead = 0, 0
        batch = self._head
        while batch.following is not None:
            self._entries += sum(map(len, batch.touched))
            batch = batch.following
        self._base = self.octets
        self.based = self.whole = True

    def _shorten(self) -> None:
        """Have the chain begin at its open end: most of it means nothing to a joiner, and none may come."""
        self._base = self._table()
        self._relieve(self._base)
        self._head = self._tail
        self._batches = self.octets = 0
        self._entries, self.dead = max(0, self._entries - self.dead), 0
        self.whole = False

    def _table(self) -> int:
        """About how many octets the whole state is."""
        alive = max(0, self._entries - self.dead)
        size = self.octets if self.whole else self._base + self.octets
        return size * alive // max(1, self._entries)

    def _relieve(self, table: int) -> None:
        """Have readers catch up that are further behind than the whole state is long."""
        tail = self._tail
        stalled = [  # not one with only the newest batch ahead: it would catch up with the same again
            c
            for c in self._cursors
            if c.lag > self._slack and c.lag > table and c.batch.following is not tail
        ]
        touched: set[bytes] = set()
        passed: set[Batch] = set()
        for cursor in stalled:
            walker = cursor.batch
            while walker.following is not None and walker not in passed:
                passed.add(walker)
                touched.update(*walker.touched)
                walker = walker.following
        if touched:
            start, _, _ = self._chain(self._catch_up(touched), tail)
            for cursor in stalled:
                cursor.move_to(start)
                cursor.floor = self.position

    def _chain(self, segments: Iterable[Segment], tail: Batch) -> tuple[Batch, int, int]:
        """Batches that hold `segments` and run into `tail`; with their number and size."""
        batches: list[Batch] = []
        some: list[Segment] = []
        size = 0
        for segment in segments:
            some.append(segment)
            size += len(segment.data)
            if size >= BATCH_OCTETS:
                batches.append(Batch())
                batches[-1].fill(some)
                some, size = [], 0
        if some:
            batches.append(Batch())
            batches[-1].fill(some)
        position, following, total = self.position, tail, 0
        for batch in reversed(batches):
            batch.end, batch.following, following = position, following, batch
            position -= len(batch.data)
            total += len(batch.data)
        return following, len(batches), total

    def __len__(self) -> int:
        return self._batches
