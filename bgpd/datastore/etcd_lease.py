"""A key that exists while its holder lives: bound to an etcd lease that is refreshed three times per TTL.

When the lease is lost (etcd was away for longer than the TTL, or somebody revoked it), a new one is taken
and the key written again. A restarted holder simply writes the key under its own new lease; the old one
then expires without taking the key along, so a quick restart shows no gap. An etcd whose space is used up
grants no lease, but goes on with those there are: there the restarted holder goes on with the key's own.

Another holder of the same key (a cloned machine) is told of and left alone. When it ends, the key goes with
its lease while ours lives on; so the key itself is looked at too, once per TTL, and written again.
"""

import asyncio
import logging
from contextlib import suppress
from itertools import count

from bgpd.datastore.backoff import Backoff
from bgpd.datastore.errors import DatastoreError
from bgpd.datastore.etcd_client import EtcdClient, NoSpace
from bgpd.datastore.etcd_stubs import rpc

_log = logging.getLogger(__name__)


class EtcdHold:
    """Holds `key` = `value` alive until released. Start with `acquire`."""

    def __init__(self, client: EtcdClient, key: bytes, value: bytes, ttl: float) -> None:
        self._client = client
        self._key = key
        self._value = value
        self._ttl = max(1, round(ttl))
        self._lease = 0
        self._task: asyncio.Task[None] | None = None
        self._shared = False  # somebody else holds the key too

    @property
    def held(self) -> bool:
        return self._lease != 0

    async def acquire(self) -> None:
        """Write the key for the first time, then keep it from a task of our own. Raises DatastoreError."""
        await self._take()
        self._task = asyncio.get_running_loop().create_task(self._keep(), name=f"hold {self._key!r}")

    async def release(self) -> None:
        """Give the key up now; if etcd cannot be reached, it runs out by itself."""
        await self.abandon()
        lease, self._lease = self._lease, 0
        if lease:
            try:
                await self._client.request(rpc.LeaseRevokeRequest(ID=lease))
            except DatastoreError as error:
                _log.warning("liveness not released, it ends within %d s: %s", self._ttl, error)

    async def abandon(self) -> None:
        """Stop refreshing, and leave the key to its TTL."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _take(self) -> None:
        try:
            lease = (await self._client.request(rpc.LeaseGrantRequest(TTL=self._ttl))).message.ID
            await self._put(lease)
        except NoSpace:
            if not (lease := await self._inherited()):
                raise
        self._lease = lease

    async def _inherited(self) -> int:
        """The lease that the key has, kept once more; 0 if there is none to keep."""
        found = (await self._client.request(rpc.RangeRequest(key=self._key))).message.kvs
        lease = int(found[0].lease) if found else 0
        return lease if lease and await self._client.keep_alive(lease) > 0 else 0

    async def _look(self) -> None:
        """See to it that the key is there, whoever else holds it."""
        found = (await self._client.request(rpc.RangeRequest(key=self._key))).message.kvs
        shared = bool(found) and found[0].lease not in (0, self._lease)
        if shared and not self._shared:
            _log.error(
                "%s is held by another service too: is there a second machine of this name? "
                "Give every node a name of its own",
                self._key.decode(),
            )
        self._shared = shared
        if not found or not found[0].lease:
            await self._put(self._lease)

    async def _put(self, lease: int) -> None:
        put = rpc.RequestOp(request_put=rpc.PutRequest(key=self._key, value=self._value, lease=lease))
        await self._client.request(rpc.TxnRequest(success=[put]))

    async def _keep(self) -> None:
        backoff = Backoff(0.1, max(0.2, self._ttl / 3))
        told: set[str] = set()
        for refreshed in count(1):
            try:
                if self._lease and await self._client.keep_alive(self._lease) > 0:
                    if refreshed % 3 == 0:
                        await self._look()
                    told.clear()
                    backoff.reset()
                    await asyncio.sleep(self._ttl / 3)
                    continue
                if self._lease:
                    _log.warning("liveness lease of %s was lost; taking a new one", self._key.decode())
                self._lease = 0
                await self._take()
                backoff.reset()
            except DatastoreError as error:
                if str(error) not in told:
                    told.add(str(error))
                    _log.warning("liveness of %s cannot be refreshed: %s", self._key.decode(), error)
                await asyncio.sleep(backoff.next())
