"""A reader of a store that believes everything it is told, and complains about what contradicts itself."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

from bgpd.datastore import EVERYTHING, Changes, Datastore, Entry, Interests, Invalid, Snapshot
from bgpd.resources import Key, Resource, load_documents


class Follower:
    def __init__(self) -> None:
        self.view: dict[Key, Entry] = {}
        self.snapshots = 0
        self.updates: list[Changes] = []
        self.invalid: list[Invalid] = []
        self.complaints: list[str] = []
        self.changed = asyncio.Event()

    async def run(self, store: Datastore, interests: Interests) -> None:
        async with aclosing(store.watch(interests)) as updates:
            async for update in updates:
                self.invalid += update.invalid
                if isinstance(update, Snapshot):
                    self.snapshots += 1
                    self.view = {entry.key: entry for entry in update.entries}
                    if list(self.view) != sorted(self.view):
                        self.complaints.append("a snapshot is not in order")
                else:
                    self._apply(update)
                self.changed.set()
                self.changed = asyncio.Event()

    def _apply(self, update: Changes) -> None:
        self.updates.append(update)
        for change in update.changes:
            before = self.view.get(change.key)
            if change.entry is None:
                if self.view.pop(change.key, None) is None:
                    self.complaints.append(f"{change.key} deleted, but it was not there")
            else:
                if before == change.entry:
                    self.complaints.append(f"{change.key} told twice")
                self.view[change.key] = change.entry

    async def until(self, *names: str, kind: str = "Node") -> None:
        """Wait until the view has exactly these names of a kind."""
        async with asyncio.timeout(60):
            while sorted(names) != sorted(key.name for key in self.view if key.kind == kind):
                await self.changed.wait()

    async def until_equal(self, store: Datastore, interests: Interests = EVERYTHING) -> None:
        """Wait until the view is what the store lists."""
        async with asyncio.timeout(60):
            while True:
                changed = self.changed
                listed = {entry.key: entry for entry in (await store.list(interests)).entries}
                if listed == self.view:
                    return
                await asyncio.wait({asyncio.ensure_future(changed.wait())}, timeout=0.5)


@asynccontextmanager
async def following(store: Datastore, interests: Interests = EVERYTHING) -> AsyncIterator[Follower]:
    follower = Follower()
    task = asyncio.create_task(follower.run(store, interests))
    try:
        async with asyncio.timeout(60):
            while not follower.snapshots:
                await follower.changed.wait()
        yield follower
    finally:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled() and task.exception():
            follower.complaints.append(repr(task.exception()))
    assert follower.complaints == []
    assert follower.snapshots == 1


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - the condition may be another process's doing
            await asyncio.sleep(0.01)


def text(name: str, address: str = "10.0.0.1/24") -> str:
    """A node as it stands in a file."""
    return (
        f"apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {{name: {name}}}\n"
        f"spec: {{bgp: {{ipv4Address: {address}}}}}\n"
    )


def node(name: str, address: str = "10.0.0.1/24") -> Resource:
    (resource,) = load_documents(text(name, address), "test")
    return resource
