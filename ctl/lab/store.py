"""The lab's hand on the datastore: it declares a whole picture, and only what is new in it is written."""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from bgpd.datastore import Create, Datastore, DatastoreError, Delete, Entry, Update, Write
from bgpd.resources import Key, Resource

_ONE_TRANSACTION = 100
_RETRY = 0.1
OF_WORKLOADS = frozenset({"WorkloadEndpoint", "BlockAffinity"})


class Declarations:
    """What the lab has declared so far."""

    def __init__(self, store: Datastore) -> None:
        self._store = store
        self._declared: dict[Key, Resource] = {}

    async def begin(self, resources: Sequence[Resource], check: Callable[[], None]) -> None:
        """Declare the cluster, once the store has started; `check` raises if it never will."""
        while True:
            try:
                await self._write(resources, await self._present())
                return
            except DatastoreError:
                check()
                await asyncio.sleep(_RETRY)

    async def workloads(self, resources: Iterable[Resource]) -> None:
        """Declare these workloads and blocks, and no others, in one transaction."""
        wanted = {resource.key: resource for resource in resources}
        present = await self._present()
        gone = [
            Delete(key, entry.revision)
            for key, entry in present.items()
            if key.kind in OF_WORKLOADS and key not in wanted
        ]
        await self._write(wanted.values(), present, gone)

    async def _present(self) -> dict[Key, Entry]:
        return {entry.key: entry for entry in (await self._store.list()).entries}

    async def _write(
        self, resources: Iterable[Resource], present: dict[Key, Entry], gone: Sequence[Write] = ()
    ) -> None:
        writes: list[Write] = [*gone]
        for resource in resources:
            if resource.key not in present:
                writes.append(Create(resource))
            elif self._declared.get(resource.key) != resource:
                writes.append(Update(resource, present[resource.key].revision))
            self._declared[resource.key] = resource
        if writes:
            await self._store.commit(writes, atomic=len(writes) <= _ONE_TRANSACTION)
