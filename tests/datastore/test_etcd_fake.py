"""A server that ends the Watch stream without an error, in each of the ways etcd has been seen to."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import pytest

from bgpd.datastore.etcd_options import Endpoint, EtcdOptions
from bgpd.datastore.etcd_store import EtcdStore
from bgpd.datastore.etcd_stubs import kv, rpc, services
from tests.datastore.etcd_server import IMPATIENT
from tests.datastore.follower import following, until

NODES = "/calico/resources/v3/projectcalico.org/nodes/"


@dataclass
class Fake:
    """Holds nodes, lists them, and ends the first `endings` watches in the way `how` says."""

    how: str
    endings: int = 3
    revision: int = 10
    nodes: dict[str, int] = field(default_factory=dict)
    watches: int = 0

    def pairs(self) -> list[Any]:
        return [
            kv.KeyValue(key=f"{NODES}{name}".encode(), value=b'{"spec":{}}', mod_revision=revision)
            for name, revision in sorted(self.nodes.items())
        ]

    def header(self) -> Any:
        return rpc.ResponseHeader(cluster_id=7, revision=self.revision)

    async def Range(self, request: Any, _: Any) -> Any:  # noqa: N802  gRPC's name
        pairs = [
            pair
            for pair in self.pairs()
            if request.key <= pair.key < request.range_end or pair.key == request.key
        ]
        return rpc.RangeResponse(header=self.header(), kvs=pairs, count=len(pairs))

    async def Watch(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:  # noqa: N802  gRPC's name
        self.watches += 1
        number = 0
        async for request in requests:
            if not request.HasField("create_request"):
                continue
            number += 1
            ending = self.watches <= self.endings
            if ending and self.how == "created and canceled":
                yield rpc.WatchResponse(header=self.header(), watch_id=-1, created=True, canceled=True)
                await asyncio.sleep(3600)
            yield rpc.WatchResponse(header=self.header(), watch_id=number, created=True)
            if ending and number == 1:
                # While nobody is told, one node goes and another comes.
                self.revision += 2
                self.nodes.pop(f"n{self.watches - 1}", None)
                self.nodes[f"n{self.watches}"] = self.revision
                if self.how == "clean end":
                    return
                if self.how == "canceled":
                    yield rpc.WatchResponse(header=self.header(), watch_id=1, canceled=True)
                await asyncio.sleep(3600)


@pytest.mark.parametrize("how", ["clean end", "canceled", "created and canceled", "silence"])
async def test_silent_ends(how: str) -> None:
    fake = Fake(how, nodes={"n0": 5, "keep": 6})
    server = grpc.aio.server()
    servicer = type("Servicer", (services.WatchServicer, services.KVServicer), {})()
    servicer.Watch, servicer.Range = fake.Watch, fake.Range
    services.add_WatchServicer_to_server(servicer, server)
    services.add_KVServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    store = EtcdStore(EtcdOptions((Endpoint("127.0.0.1", port),), timing=IMPATIENT))
    try:
        async with following(store) as follower:
            if how == "created and canceled":
                fake.nodes = {"keep": 6, "n3": 12}
                fake.revision = 12
            if how == "silence":  # resumed, not listed again: this server's history is told by nobody
                await until(lambda: fake.watches == 4 and store.health().current)
                assert store.health().reconnects == 3
                return
            await follower.until("keep", "n3")
            await until(lambda: store.health().current)
            assert store.health().resyncs == 3
            assert [key.name for key in follower.view] == ["keep", "n3"]
    finally:
        await store.close()
        await server.stop(None)
