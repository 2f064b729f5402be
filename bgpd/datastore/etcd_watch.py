"""A view of some ranges of etcd's keys that stays equal to etcd's content, whatever happens in between.

List at a revision R, then watch from R + 1 on one stream. What may happen, and what is done:

- the connection breaks or is refused: next endpoint, back-off; each range's watch *resumes* after the last
  revision it delivered, which is exact (etcd delivers a range's events in order, a revision's all at once);
- the server is frozen, or the way to it a black hole: nothing on the stream says so. After half of `silence`
  a progress request asks for a sign of life; without one the connection counts as broken;
- the wanted revision is compacted away, the stream ends without an error, a watch is canceled (an expired
  token, a lost permission): list again and yield the *difference*;
- the server's past is not ours (wiped, restored, another cluster's), also where it has come as far as ours by
  now: list again, and every key counts as new;
- an event was lost, or a watch lags without end (both seen with etcd): now and then all keys and ModRevisions
  are compared, and what still differs a little later is repaired by listing again.

The view kept here is only key -> ModRevision; values pass through. Progress notifications count as signs of
life and never move the resume point: in some releases of etcd they overtook events. The comparison moves it.

Left out: decoding (see `etcd_store`). Nothing is raised to the reader; `WatchReport` says how it stands.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

import grpc
import grpc.aio

from bgpd.datastore.backoff import Backoff
from bgpd.datastore.errors import DatastoreError, Unavailable
from bgpd.datastore.etcd_client import Compacted, Connection, EtcdClient
from bgpd.datastore.etcd_listing import KeyValue, Listing, list_layout
from bgpd.datastore.etcd_options import Timing
from bgpd.datastore.etcd_ranges import SPREAD_LIMIT, Layout, Range
from bgpd.datastore.etcd_stubs import WATCH_PROGRESS_REQUEST, kv, rpc

_TOGETHER, _LONGEST_TOGETHER = 0.01, 0.05  # seconds in which what changed at once arrives

_log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """What became different, in order. `first`: the whole content to start from. `revision`: the store's."""

    items: list[KeyValue]
    revision: int
    first: bool


@dataclass(slots=True)
class WatchReport:
    """How the view stands, kept up to date for whoever looks. `since`: seconds since the epoch."""

    current: bool = False
    reason: str = "not listed yet"
    since: float = 0.0
    resyncs: int = 0
    repairs: int = 0
    reconnects: int = 0


class ListAgainError(Exception):
    """The stream cannot be continued from where it was; the text says why."""


@dataclass(slots=True, eq=False)
class _Watched:
    """One range being watched; `next` is the first revision it has yet to deliver.

    `mixed`: other nodes' keys come too and are dropped here. `gap`: mixed, and split when something comes,
    while there are not too many parts.
    """

    range: Range
    next: int
    mixed: bool = False
    gap: bool = False


class EtcdWatch:
    """One reader's view. `updates()` is to be iterated once."""

    def __init__(self, client: EtcdClient, layout: Layout) -> None:
        self.report = WatchReport()
        self._client = client
        self._layout = layout
        self._timing = client.options.timing
        self._random = Random()  # noqa: S311 - spreads load, keeps no secret
        self._view: dict[bytes, int] = {}
        self._revision = 0
        self._latest: KeyValue | None = None  # the last value told, by which our past is known
        self._cluster = 0
        self._mistrusted = False  # the server's past is not ours
        self._watched: list[_Watched] = []
        self._namespaces: frozenset[bytes] = frozenset()
        self._told: set[str] = set()

    async def updates(self) -> AsyncGenerator[Batch, None]:
        """One Batch with `first` set, then batches for ever, never empty. Ends when the client closes."""
        backoff = Backoff(self._timing.backoff_first, self._timing.backoff_limit, self._random)
        loop = asyncio.get_running_loop()
        listed = first = resumed = False
        while not self._client.closed:
            started = loop.time()
            try:
                if not listed:
                    batch = self._adopt(await list_layout(self._client, self._layout), first=not first)
                    listed = first = True
                    self.report.reason = "listed, not watching yet"
                    resumed = False
                    if batch.first or batch.items:
                        yield batch
                async with aclosing(self._follow(resumed=resumed)) as batches:
                    async for batch in batches:
                        yield batch
            except (ListAgainError, Compacted) as error:
                listed = False
                self.report.resyncs += first
                self._lost(str(error))
            except DatastoreError as error:
                self._lost(str(error))
            resumed = True
            self.report.reconnects += first
            if loop.time() - started > self._timing.backoff_limit:
                backoff.reset()
            await asyncio.sleep(backoff.next())
        self._lost("the datastore was closed")

    def _lost(self, reason: str) -> None:
        if self.report.current:
            self.report.since = time.time()
            self._told.clear()
        if reason not in self._told:  # endpoints take turns, and so do their reasons
            self._told.add(reason)
            _log.warning("etcd watch interrupted: %s", reason)
        self.report.current = False
        self.report.reason = reason

    def _is_current(self) -> None:
        if not self.report.current:
            _log.info("etcd watch current at revision %d", self._revision)
            self.report.since = time.time()
        self.report.current = True
        self.report.reason = ""

    def _adopt(self, listing: Listing, *, first: bool) -> Batch:
        """Take a listing as the truth; what differs from the view is the batch."""
        if self._mistrusted or listing.revision < self._revision:
            _log.warning(
                "etcd was restored, or is another one: what it has at revision %d counts, not what it told "
                "until its revision %d",
                listing.revision,
                self._revision,
            )
            self._view = dict.fromkeys(self._view, -1)
            self._mistrusted = False
        old = self._view
        self._view = {item.key: item.revision for item in listing.items}
        items = [item for item in listing.items if old.get(item.key) != item.revision]
        items += [KeyValue(key, None, listing.revision) for key in old if key not in self._view]
        self._revision = listing.revision
        self._latest = max(listing.items, key=lambda item: item.revision, default=None)
        self._namespaces = listing.namespaces
        self._watched = self._ranges_from(listing.revision + 1)
        return Batch(items, listing.revision, first)

    def _ranges_from(self, revision: int) -> list[_Watched]:
        return [*(_Watched(range, revision) for range in self._layout.fixed), *self._spread_from(revision)]

    def _spread_from(self, revision: int) -> list[_Watched]:
        spread = self._layout.spread
        if spread is None:
            return []
        if len(self._namespaces) > SPREAD_LIMIT:
            return [_Watched(spread.whole(), revision, mixed=True)]
        gaps = spread.gaps(self._namespaces)
        return [
            *(_Watched(spread.own(name), revision) for name in sorted(self._namespaces)),
            *(_Watched(gap, revision, mixed=True, gap=True) for gap in gaps),
        ]

    async def _follow(self, *, resumed: bool) -> AsyncGenerator[Batch, None]:
        """One stream's life. Raises ListAgainError, or a DatastoreError when resuming will do."""
        async with self._client.connection() as connection:
            try:
                async with (
                    _Stream(connection, self._timing) as stream,
                    aclosing(self._batches(stream, resumed=resumed)) as batches,
                ):
                    async for batch in batches:
                        yield batch
            except grpc.aio.AioRpcError as error:
                self._client.retire(connection)
                raise self._client.explain(connection, error) from error
            except (ListAgainError, DatastoreError):
                self._client.retire(connection)
                raise

    async def _batches(self, stream: "_Stream", *, resumed: bool) -> AsyncGenerator[Batch, None]:
        loop = asyncio.get_running_loop()
        every = self._timing.compare_every * self._random.uniform(0.5, 1)
        compare_at = loop.time() + (every / 5 if resumed else every)
        suspects: set[tuple[bytes, int | None]] = set()
        by_id: dict[int, _Watched] = {}
        requested = deque(self._watched)  # created answers come in the order of the create requests
        for watched in self._watched:
            await stream.write(_create(watched))
        if not requested:
            self._is_current()
        while True:
            response = await stream.read(until=compare_at)
            if response is None:
                suspects = await self._compare(suspects)
                if not requested:
                    await self._rearrange(stream, by_id, requested)
                compare_at = loop.time() + (self._timing.settle if suspects else every)
            elif response.canceled or response.compact_revision:
                if response.watch_id not in by_id and not response.created and not response.compact_revision:
                    continue  # the end of a gap's watch, asked for below
                raise ListAgainError(_why_canceled(response))
            elif response.created and requested:
                watched = requested.popleft()
                by_id[response.watch_id] = watched
                self._check_cluster(response.header.cluster_id)
                if resumed:
                    await self._check_past()
                    resumed = False
                if not requested:
                    self._is_current()
            elif response.events and response.watch_id in by_id:
                told, batch = await self._together(stream, response, by_id)
                if batch.items:
                    yield batch
                gaps = [by_id[watch_id] for watch_id in told if by_id[watch_id].gap]
                if gaps and len(self._namespaces) <= SPREAD_LIMIT:
                    for gap in gaps:
                        self._split(gap)
                    await self._rearrange(stream, by_id, requested)

    async def _rearrange(
        self, stream: "_Stream", by_id: dict[int, _Watched], requested: deque[_Watched]
    ) -> None:
        """Have the stream watch what is to be watched now."""
        for watch_id in [known for known, watched in by_id.items() if watched not in self._watched]:
            del by_id[watch_id]
            await stream.write(rpc.WatchRequest(cancel_request=rpc.WatchCancelRequest(watch_id=watch_id)))
        for watched in self._watched:
            if watched not in by_id.values() and watched not in requested:
                requested.append(watched)
                await stream.write(_create(watched))

    async def _together(
        self, stream: "_Stream", response: Any, by_id: Mapping[int, _Watched]
    ) -> tuple[set[int], Batch]:
        """What a transaction changed in several ranges: of each its watch tells by itself, one after the
        other, and half of it may mean another AS. What means a route and no more waits for nobody.
        """
        told: set[int] = set()
        items: list[KeyValue] = []
        latest = asyncio.get_running_loop().time() + _LONGEST_TOGETHER
        following: Any | None = response
        while following is not None:
            watched = by_id.get(following.watch_id)
            if watched is not None:
                told.add(following.watch_id)
                items += self._apply(watched, following.events)
            patient = any(by_id[each].range in self._layout.settings for each in told)
            following = await stream.more(latest) if patient else None
        return told, Batch(items, self._revision, first=False)

    def _apply(self, watched: _Watched, events: Iterable[Any]) -> list[KeyValue]:
        """What the events change; nothing between this and yielding the batch may fail."""
        items: list[KeyValue] = []
        last = watched.next - 1
        for event in events:
            pair = event.kv
            if pair.mod_revision < watched.next:
                continue  # known from a listing
            last = max(last, pair.mod_revision)
            if watched.mixed and not self._is_ours(pair.key):
                continue
            if event.type != kv.Event.DELETE:
                self._view[pair.key] = pair.mod_revision
                items.append(KeyValue(pair.key, pair.value, pair.mod_revision))
                if self._latest is None or pair.mod_revision > self._latest.revision:
                    self._latest = items[-1]
            elif self._view.pop(pair.key, None) is not None:
                items.append(KeyValue(pair.key, None, pair.mod_revision))
        watched.next = last + 1
        self._revision = max(self._revision, last)
        return items

    def _is_ours(self, key: bytes) -> bool:
        """Whether a key of a mixed range is our node's; its namespace is known from now on."""
        spread = self._layout.spread
        assert spread is not None, "only a spread makes mixed ranges"
        namespace = spread.namespace_of(key)
        self._namespaces |= {namespace}
        return key in spread.own(namespace)

    def _split(self, gap: _Watched) -> None:
        """Put in the place of `gap` what it is now that more namespaces are known in it."""
        spread = self._layout.spread
        assert spread is not None, "only a spread makes gaps"
        inside = [name for name in self._namespaces if spread.own(name).start in gap.range]
        parts = [_Watched(spread.own(name), gap.next) for name in inside]
        parts += [
            _Watched(part, gap.next, mixed=True, gap=True) for part in spread.gaps(inside, within=gap.range)
        ]
        self._watched.remove(gap)
        self._watched += parts

    def _check_cluster(self, cluster: int) -> None:
        known, self._cluster = self._cluster, cluster
        if known not in (0, cluster):
            self._mistrusted = True
            raise ListAgainError("another cluster answers at this endpoint")

    async def _check_past(self) -> None:
        """Make sure that the server's past is ours: a wiped one would wait for our revision for ever, and one
        that was put back may have gone on beyond it, with other things at the same revisions.
        """
        start = self._watched[0].range.start
        request = rpc.RangeRequest(key=start, limit=1, keys_only=True)
        present = (await self._client.request(request)).message.header.revision
        self._mistrusted = present < self._revision
        if self._latest is not None and not self._mistrusted:
            key, value, revision = self._latest
            try:
                found = (await self._client.request(rpc.RangeRequest(key=key, revision=revision))).message.kvs
            except Compacted:
                return
            self._mistrusted = [(each.mod_revision, each.value) for each in found] != [(revision, value)]
        if self._mistrusted:
            raise ListAgainError("the server's past is not the one it told; it was wiped or restored")

    async def _compare(self, suspects: set[tuple[bytes, int | None]]) -> set[tuple[bytes, int | None]]:
        """Compare all keys with the view; a difference seen twice is an event that was lost."""
        listing = await list_layout(self._client, self._layout, keys_only=True)
        listed = {item.key: item.revision for item in listing.items}
        differing: set[tuple[bytes, int | None]] = {
            (key, revision)
            for key, revision in listed.items()
            if revision != self._view.get(key, 0) <= listing.revision
        }
        differing |= {
            (key, None)
            for key, revision in self._view.items()
            if key not in listed and revision <= listing.revision
        }
        if lost := differing & suspects:
            self.report.repairs += len(lost)
            raise ListAgainError(f"{len(lost)} changes were never delivered")
        if not differing:
            for watched in self._watched:
                watched.next = max(watched.next, listing.revision + 1)
            self._revision = max(self._revision, listing.revision)
            if len(self._namespaces) > SPREAD_LIMIT:
                self._forget_namespaces(listing)
        return differing

    def _forget_namespaces(self, listing: Listing) -> None:
        """Of more than are watched one by one, know those that are left, and watch accordingly."""
        self._namespaces = listing.namespaces
        fixed, spread = self._watched[: len(self._layout.fixed)], self._watched[len(self._layout.fixed) :]
        wanted = self._spread_from(listing.revision + 1)
        others = {watched.range for watched in wanted} != {watched.range for watched in spread}
        if others and all(watched.next == listing.revision + 1 for watched in spread):
            self._watched = [*fixed, *wanted]


class _Stream:
    """A Watch call whose silence is noticed and whose end is always an exception."""

    def __init__(self, connection: Connection, timing: Timing) -> None:
        self._connection = connection
        self._patience = timing.silence / 2
        self._write_timeout = timing.request
        self._call: Any = None
        self._reading: asyncio.Task[Any] | None = None
        self._heard = 0.0
        self._asked: float | None = None

    async def __aenter__(self) -> "_Stream":
        self._call = await self._connection.watch()
        self._heard = asyncio.get_running_loop().time()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._call.cancel()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})
            if not self._reading.cancelled():
                self._reading.exception()  # seen; whatever it was, the stream is over

    async def write(self, request: Any) -> None:
        try:
            async with asyncio.timeout(self._write_timeout):
                await self._call.write(request)
        except TimeoutError:
            raise self._unavailable("takes no more requests") from None
        except asyncio.InvalidStateError:
            pass  # it has ended already, and reading tells how
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.INTERNAL:
                raise
            # gRPC's own words for "ended meanwhile"; how it ended cannot be learnt any more
            raise ListAgainError(f"etcd at {self._connection.endpoint} ended the watch") from error

    async def read(self, until: float) -> Any | None:
        """The next response; None when `until` (loop time) has come. The stream's end raises."""
        loop = asyncio.get_running_loop()
        while True:
            if self._reading is None:
                self._reading = loop.create_task(self._call.read())
            patient_until = (self._heard if self._asked is None else self._asked) + self._patience
            timeout = max(0.0, min(patient_until, until) - loop.time())
            await asyncio.wait({self._reading}, timeout=timeout)
            if self._reading.done():
                reading, self._reading = self._reading, None
                if reading.cancelled():
                    raise self._unavailable("the connection was closed")
                try:
                    response = reading.result()
                finally:
                    del reading  # its exception leads here: each would keep the other, and the connection
                if response is grpc.aio.EOF:
                    raise ListAgainError(f"etcd at {self._connection.endpoint} ended the watch")
                self._heard, self._asked = loop.time(), None
                return response
            now = loop.time()
            if now >= patient_until:
                if self._asked is not None:
                    raise self._unavailable(f"silent for {now - self._heard:.1f} s, also when asked")
                self._asked = now
                await self.write(WATCH_PROGRESS_REQUEST)
            elif now >= until:
                return None

    async def more(self, latest: float) -> Any | None:
        """Events that come within a moment, before `latest`; anything else `read` will tell, and the end."""
        loop = asyncio.get_running_loop()
        if self._reading is None:
            self._reading = loop.create_task(self._call.read())
        await asyncio.wait({self._reading}, timeout=max(0.0, min(_TOGETHER, latest - loop.time())))
        if not self._reading.done() or self._reading.cancelled() or self._reading.exception() is not None:
            return None
        response = self._reading.result()
        if response is grpc.aio.EOF or not response.events:
            return None
        self._reading, self._heard, self._asked = None, loop.time(), None
        return response

    def _unavailable(self, what: str) -> Unavailable:
        return Unavailable(f"etcd at {self._connection.endpoint}: {what}")


def _create(watched: _Watched) -> Any:
    return rpc.WatchRequest(
        create_request=rpc.WatchCreateRequest(
            key=watched.range.start,
            range_end=watched.range.end,
            start_revision=watched.next,
            progress_notify=True,
        )
    )


def _why_canceled(response: Any) -> str:
    if response.compact_revision:
        return f"what happened before revision {response.compact_revision} was compacted away"
    return f"the watch was canceled: {response.cancel_reason or 'no reason given'}"
