"""What agents cost etcd: the watches of one, and of a thousand at once, by the very code agents watch with.

The thousand are clients without the rest of an agent: a connection, a lease that is kept alive, a listing and
the watches each. Then workloads come and go all over the cluster. Events are counted where they arrive;
memory and processor time are etcd's own.
"""

from __future__ import annotations

import asyncio
import re
import time
import urllib.request
from collections.abc import Sequence
from contextlib import aclosing

from agent.node import KINDS
from bench.agent.contenders import peak_memory, processor_time
from bench.agent.ground import CORE, Ground, resource
from bgpd.datastore import Create, Delete, Interests
from bgpd.datastore.etcd_client import EtcdClient
from bgpd.datastore.etcd_lease import EtcdHold
from bgpd.datastore.etcd_ranges import layout
from bgpd.datastore.etcd_watch import EtcdWatch
from bgpd.datastore.location import etcd_options
from bgpd.resources import Key, Resource, endpoint_name, etcd_key

URL = f"etcd://{CORE}:2379"
NAMESPACES = 10
_AT_ONCE = 25  # clients that start at the same time
_WATCHERS = re.compile(r"^etcd_debugging_mvcc_watcher_total (\S+)$", re.MULTILINE)


async def watchers() -> int:
    """How many watches etcd says it has."""

    def read() -> str:
        with urllib.request.urlopen(f"http://{CORE}:2379/metrics", timeout=10) as answer:
            return str(answer.read(), "utf-8")

    found = _WATCHERS.search(await asyncio.to_thread(read))
    assert found is not None
    return round(float(found[1]))


def endpoint(node: str, number: int) -> Resource:
    spec = {
        "orchestrator": "k8s", "node": node, "pod": f"p{number}", "endpoint": "eth0", "interfaceName": "c0",
        "ipNetworks": [f"10.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}/32"],
    }  # fmt: skip
    name = endpoint_name(node, "k8s", f"p{number}", "eth0")
    return resource("WorkloadEndpoint", name, spec, f"space{number % NAMESPACES}")


class Client:
    """The part of one node's agent that etcd sees."""

    def __init__(self, node: str) -> None:
        self.events = 0
        self._client = EtcdClient(etcd_options(URL, {}))
        self._watch = EtcdWatch(self._client, layout(Interests(kinds=KINDS, node=node)))
        self._hold = EtcdHold(self._client, etcd_key(Key("NodeLease", node)).encode(), b"{}", 15.0)
        self._listed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def hold(self) -> None:
        await self._hold.acquire()

    async def watch(self) -> None:
        self._task = asyncio.create_task(self._follow())
        await self._listed.wait()

    async def _follow(self) -> None:
        async with aclosing(self._watch.updates()) as batches:
            async for batch in batches:
                if batch.first:
                    self._listed.set()
                else:
                    self.events += len(batch.items)

    async def stop(self) -> None:
        await self._hold.abandon()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._client.close()


async def populate(ground: Ground, nodes: Sequence[str]) -> None:
    assert ground.store is not None
    made = []
    for number, node in enumerate(nodes):
        cidr = f"10.{64 + (number >> 10)}.{number >> 2 & 255}.{(number & 3) * 64}/26"
        address = f"10.0.{4 + (number >> 8)}.{number & 255}/16"
        made += [
            Create(resource("Node", node, {"bgp": {"ipv4Address": address}})),
            Create(
                resource(
                    "BlockAffinity", f"{node}/{cidr}", {"state": "confirmed", "node": node, "cidr": cidr}
                )
            ),
            Create(endpoint(node, number)),
        ]
    await ground.store.commit(made, atomic=False)


async def measure(ground: Ground, count: int, rate: float, seconds: float) -> dict[str, float]:
    """``count`` agents; workloads come and go at ``rate`` a second for ``seconds``."""
    assert ground.store is not None
    nodes = [f"node-{number}" for number in range(count)]
    await populate(ground, nodes)
    etcd = [ground.programs[0].pid]
    memory, none = peak_memory(etcd), await watchers()
    clients = [Client(node) for node in nodes]
    try:
        for start in range(0, count, _AT_ONCE):
            await asyncio.gather(*(client.hold() for client in clients[start : start + _AT_ONCE]))
        for start in range(0, count, _AT_ONCE):
            await asyncio.gather(*(client.watch() for client in clients[start : start + _AT_ONCE]))
        await asyncio.sleep(2)
        results = {"store-watches": (await watchers() - none) / count}
        results["store-memory"] = peak_memory(etcd) - memory

        used, begun = processor_time(etcd), time.monotonic()
        await asyncio.sleep(seconds)
        resting = (processor_time(etcd) - used) / (time.monotonic() - begun)
        heard = sum(client.events for client in clients)
        used, begun, changes = processor_time(etcd), time.monotonic(), 0
        while (now := time.monotonic()) < begun + seconds:
            made = endpoint(nodes[changes * 7 % count], 100_000 + changes)
            await ground.store.commit([Create(made)])
            await ground.store.commit([Delete(made.key)])
            changes += 2
            await asyncio.sleep(max(0.0, begun + changes / rate - time.monotonic()))
        used = processor_time(etcd) - used - resting * (now - begun)
        await asyncio.sleep(1)
        results |= {
            "store-idle": resting * 100,
            "store-change": used / changes * 1e3,
            "store-events": (sum(client.events for client in clients) - heard) / changes,
        }
    finally:
        for start in range(0, count, 100):
            await asyncio.gather(*(client.stop() for client in clients[start : start + 100]))
    return results
