"""All keys of a layout, read at one revision, page by page."""

from typing import NamedTuple

from bgpd.datastore.etcd_client import EtcdClient
from bgpd.datastore.etcd_ranges import Layout, Range, Spread
from bgpd.datastore.etcd_stubs import rpc

_FIRST, _OCTETS = 50, 2 << 20  # keys of a first page; what a further one is to hold


class KeyValue(NamedTuple):
    """A key and its ModRevision. `value`: empty if only keys were asked for, None for a deleted key."""

    key: bytes
    value: bytes | None
    revision: int


class Listing(NamedTuple):
    """What a layout held at `revision`, and the namespaces its spread was found to have."""

    items: list[KeyValue]
    revision: int
    namespaces: frozenset[bytes]


async def read_range(
    client: EtcdClient, range: Range, *, revision: int = 0, keys_only: bool = False
) -> tuple[list[KeyValue], int]:
    """The keys of `range` at `revision` (0: now), and that revision. Raises as `EtcdClient.request` does.

    Pages are as large as the values seen so far suggest: each has to arrive within one request's patience,
    also large values over a slow link.
    """
    items: list[KeyValue] = []
    start = range.start
    limit = min(_FIRST, client.options.page)
    while True:
        request = rpc.RangeRequest(
            key=start,
            range_end=range.end,
            revision=revision,
            limit=limit,
            keys_only=keys_only,
        )
        answer = (await client.request(request)).message
        revision = revision or answer.header.revision
        items.extend(KeyValue(found.key, found.value, found.mod_revision) for found in answer.kvs)
        if not answer.more or not answer.kvs:
            return items, revision
        start = answer.kvs[-1].key + b"\0"
        fitting = _OCTETS * len(answer.kvs) // answer.ByteSize() + 1
        limit = min(client.options.page, 4 * limit, fitting)


async def list_layout(client: EtcdClient, layout: Layout, *, keys_only: bool = False) -> Listing:
    """Everything at one revision: later changes to one range while another is read do not show.

    Raises Compacted when reading takes longer than etcd keeps its past.
    """
    items: list[KeyValue] = []
    revision = 0
    for range in layout.fixed:
        found, revision = await read_range(client, range, revision=revision, keys_only=keys_only)
        items += found
    namespaces: set[bytes] = set()
    if layout.spread is not None:
        names, revision = await _namespaces(client, layout.spread, revision)
        for namespace in names:
            found, _ = await read_range(
                client, layout.spread.own(namespace), revision=revision, keys_only=keys_only
            )
            items += found
        namespaces.update(names)
    return Listing(items, revision, frozenset(namespaces))


async def _namespaces(client: EtcdClient, spread: Spread, revision: int) -> tuple[list[bytes], int]:
    """The namespaces that hold any key, found by leaping from one's end to the next one's first key."""
    whole = spread.whole()
    found: list[bytes] = []
    start = whole.start
    while True:
        request = rpc.RangeRequest(key=start, range_end=whole.end, revision=revision, limit=1, keys_only=True)
        answer = (await client.request(request)).message
        revision = revision or answer.header.revision
        if not answer.kvs:
            return found, revision
        namespace = spread.namespace_of(answer.kvs[0].key)
        found.append(namespace)
        start = spread.after(namespace)
