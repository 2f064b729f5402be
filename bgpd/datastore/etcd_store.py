"""Declared state in etcd v3, at Calico's keys, with Calico's client semantics.

create = a transaction on Version == 0, update = a transaction on ModRevision, commit = one transaction for
all. When the answer to a transaction got lost and the repeated one finds its condition broken, the content
tells whether it was us: what we wanted to be there, is there.

Below this lie requests (`etcd_client`), the view that heals itself (`etcd_watch`), and leases
(`etcd_lease`); here bytes become resources. A value that cannot be decoded is reported as Invalid and
otherwise treated as if it had not been written; keys that are none of ours are passed over.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from bgpd.datastore.errors import Conflict, DatastoreError, TooLarge
from bgpd.datastore.etcd_client import Answer, Compacted, EtcdClient
from bgpd.datastore.etcd_lease import EtcdHold
from bgpd.datastore.etcd_listing import KeyValue, list_layout
from bgpd.datastore.etcd_options import EtcdOptions
from bgpd.datastore.etcd_ranges import layout
from bgpd.datastore.etcd_stubs import rpc
from bgpd.datastore.etcd_watch import Batch, EtcdWatch
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
from bgpd.resources import Key, NodeLease, Resource, ResourceError, decode, encode, etcd_key, key_of_etcd
from bgpd.resources.keys import secret_key

_DECODE_AT_ONCE = 100
MAX_WRITES = 128  # etcd's --max-txn-ops, which nobody raises


class EtcdStore:
    """See `store.Datastore`."""

    def __init__(self, options: EtcdOptions) -> None:
        self._options = options
        self._client = EtcdClient(options)
        self._watches: list[EtcdWatch] = []
        self._holds: list[EtcdHold] = []
        self._opened = time.time()

    @property
    def shared(self) -> bool:
        return True

    @property
    def location(self) -> str:
        return self._options.location

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(endpoint.host for endpoint in self._options.endpoints)

    def health(self) -> Health:
        """Current when every watch is; the numbers are the sums over the watches."""
        reports = [watch.report for watch in self._watches]
        stale = [report for report in reports if not report.current]
        return Health(
            current=not stale,
            since=max((report.since for report in stale or reports), default=0.0) or self._opened,
            endpoint=self._client.endpoint,
            reason="; ".join(dict.fromkeys(report.reason for report in stale)),
            resyncs=sum(report.resyncs for report in reports),
            repairs=sum(report.repairs for report in reports),
            reconnects=sum(report.reconnects for report in reports),
        )

    async def list(self, interests: Interests = EVERYTHING) -> Snapshot:
        while True:
            try:
                listing = await list_layout(self._client, layout(interests))
            except Compacted:
                continue  # etcd forgot the revision between two pages; the next attempt takes a newer one
            return _snapshot(await _Decoder(interests).decode(listing.items), listing.revision)

    async def watch(self, interests: Interests = EVERYTHING) -> AsyncGenerator[Snapshot | Changes, None]:
        watch = EtcdWatch(self._client, layout(interests))
        decoder = _Decoder(interests)
        self._watches.append(watch)
        try:
            async with aclosing(watch.updates()) as batches:
                async for batch in batches:
                    if (update := await _update(batch, decoder)) is not None:
                        yield update
        finally:
            self._watches.remove(watch)

    async def get(self, key: Key) -> Entry | None:
        """Raises ResourceError when the stored value is not valid."""
        answer = await self._client.request(rpc.RangeRequest(key=_raw(key)))
        for found in answer.message.kvs:
            return Entry(key, decode(key, found.value), found.mod_revision)
        return None

    async def secret(self, name: str, key: str) -> str | None:
        answer = await self._client.request(rpc.RangeRequest(key=secret_key(name, key).encode()))
        found = _first(answer.message.kvs)
        return None if found is None else found.value.decode("utf-8", "surrogateescape")

    async def create(self, resource: Resource) -> Entry:
        return Entry(resource.key, resource, await self.commit([Create(resource)]))

    async def update(self, resource: Resource, revision: int) -> Entry:
        return Entry(resource.key, resource, await self.commit([Update(resource, revision)]))

    async def delete(self, key: Key, revision: int | None = None) -> bool:
        answer = await self._transact([Delete(key, revision)], committed=0)
        return answer.message.responses[0].response_delete_range.deleted > 0 if answer else True

    async def commit(self, writes: Sequence[Write], *, atomic: bool = True) -> int:
        keys = [_key_of(write) for write in writes]
        if len(set(keys)) != len(keys):
            raise DatastoreError("one transaction cannot write the same resource twice")
        if atomic and len(writes) > MAX_WRITES:
            raise TooLarge(
                f"{len(writes)} writes do not fit one transaction of etcd ({MAX_WRITES}); nothing was written"
            )
        revision = 0
        for start in range(0, len(writes), MAX_WRITES):
            answer = await self._transact(writes[start : start + MAX_WRITES], committed=start)
            if answer is not None:
                revision = answer.message.header.revision
        return revision

    async def hold(self, node: str, ttl: float = 15.0) -> EtcdHold:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        lease = NodeLease.model_validate(
            {"metadata": {"name": node}, "spec": {"holder": node, "since": since}}, by_alias=True
        )
        hold = EtcdHold(self._client, _raw(lease.key), encode(lease), ttl)
        await hold.acquire()
        self._holds.append(hold)
        return hold

    async def close(self) -> None:
        for hold in self._holds:
            await hold.abandon()
        await self._client.close()

    async def _transact(self, writes: Sequence[Write], committed: int) -> Answer | None:
        request = rpc.TxnRequest(
            compare=[compare for write in writes for compare in _compares(write)],
            success=[_operation(write) for write in writes],
            failure=[
                rpc.RequestOp(request_range=rpc.RangeRequest(key=_raw(_key_of(write)))) for write in writes
            ],
        )
        answer = await self._client.request(request)
        if answer.message.succeeded:
            return answer
        found = [_first(response.response_range.kvs) for response in answer.message.responses]
        if answer.repeated and all(map(_is_done, writes, found)):
            return answer
        for write, present in zip(writes, found, strict=True):
            revision = None if present is None else present.mod_revision
            if isinstance(write, Create) and revision is not None:
                raise Conflict(_key_of(write), None, revision, committed)
            if isinstance(write, Update | Delete) and write.revision not in (None, revision):
                raise Conflict(_key_of(write), write.revision, revision, committed)
        raise DatastoreError("etcd refused a transaction all of whose conditions hold; try again")


class _Decoder:
    """Turns raw items into resources, remembering which keys the reader has and which are undecodable."""

    def __init__(self, interests: Interests) -> None:
        self._interests = interests
        self._known: set[Key] = set()
        self._broken: set[str] = set()

    async def decode(self, items: Iterable[KeyValue]) -> tuple[list[Change], list[Invalid]]:
        """Decode in order, letting the loop turn now and then: 20,000 resources take seconds."""
        changes: list[Change] = []
        news: list[Invalid] = []
        for number, item in enumerate(items, 1):
            if number % _DECODE_AT_ONCE == 0:
                await asyncio.sleep(0)
            path = item.key.decode("utf-8", "replace")
            key = key_of_etcd(path)
            if key is None or not self._interests.wants(key):
                continue
            if item.value is not None:
                try:
                    entry = Entry(key, decode(key, item.value), item.revision)
                except ResourceError as error:
                    self._broken.add(path)
                    news.append(Invalid(path, key, str(error), item.revision))
                    continue
                self._known.add(key)
                changes.append(Change(key, entry))
            elif key in self._known:
                self._known.remove(key)
                changes.append(Change(key, None))
            if path in self._broken:
                self._broken.remove(path)
                news.append(Invalid(path, key, None))
        return changes, news


async def _update(batch: Batch, decoder: _Decoder) -> Snapshot | Changes | None:
    changes, news = await decoder.decode(batch.items)
    if batch.first:
        return _snapshot((changes, news), batch.revision)
    return Changes(tuple(changes), batch.revision, tuple(news)) if changes or news else None


def _snapshot(decoded: tuple[list[Change], list[Invalid]], revision: int) -> Snapshot:
    changes, news = decoded
    entries = sorted((change.entry for change in changes if change.entry), key=lambda entry: entry.key)
    return Snapshot(tuple(entries), revision, tuple(news))


def _raw(key: Key) -> bytes:
    try:
        return etcd_key(key).encode()
    except ValueError as error:
        raise DatastoreError(str(error)) from error


def _key_of(write: Write) -> Key:
    return write.key if isinstance(write, Delete) else write.resource.key


def _compares(write: Write) -> list[Any]:
    key = _raw(_key_of(write))
    match write:
        case Create():
            return [rpc.Compare(result="EQUAL", target="VERSION", key=key, version=0)]
        case Update(revision=int(revision)) | Delete(revision=int(revision)):
            return [rpc.Compare(result="EQUAL", target="MOD", key=key, mod_revision=revision)]
        case _:
            return []


def _operation(write: Write) -> Any:
    key = _raw(_key_of(write))
    if isinstance(write, Delete):
        return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key))
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=encode(write.resource)))


def _first(pairs: Sequence[Any]) -> Any | None:
    return pairs[0] if pairs else None


def _is_done(write: Write, present: Any | None) -> bool:
    """Whether what `write` wanted is so already."""
    if isinstance(write, Delete):
        return present is None
    return present is not None and present.value == encode(write.resource)
