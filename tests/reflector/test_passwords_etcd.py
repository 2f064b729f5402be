"""A session's password from an etcd key, with real TCP MD5: missing, put, changed and removed."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from bgpd.datastore import secrets
from bgpd.datastore.etcd_store import EtcdStore
from bgpd.resources import load_documents
from bgpd.telemetry.status import EventRing
from reflector import following
from reflector.config import ReflectorConfig
from reflector.server import Server
from reflector.spec import ReflectorSpec
from tests.datastore.etcd_server import Etcd
from tests.reflector.clients import Client, reached, until

pytestmark = pytest.mark.etcd

KEY = "/cairn/secrets/bgp/clients"
CLUSTER = """\
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata: {name: default}
spec: {asNumber: 65000, nodeToNodeMeshEnabled: false}
---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: r1}
spec: {bgp: {ipv4Address: 127.0.0.1/24, routeReflectorClusterID: 244.0.0.1}}
---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: n1, labels: {client: yes}}
spec: {bgp: {ipv4Address: 127.0.0.2/24}}
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: clients}
spec: {node: r1, peerSelector: has(client), password: {secretKeyRef: {name: bgp, key: clients}}}
"""


async def test_a_reflector_takes_its_password_from_etcd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "REREAD", 0.1)
    monkeypatch.setattr(following, "_PASSWORDS_EVERY", 0.2)
    etcd = Etcd(tmp_path / "etcd")
    etcd.start()
    servers: list[Server] = []
    carried: list[ReflectorSpec] = []

    def carry_out(spec: ReflectorSpec) -> None:
        carried.append(spec)
        if not servers:
            servers.append(Server(spec, asyncio.get_running_loop(), EventRing(), lambda: 0.0))
            servers[0].start()
        servers[0].configure(spec)

    listen = {"address": "127.0.0.1", "port": 0}
    config = {"datastore": f"etcd://127.0.0.1:{etcd.port}", "node": "r1", "listen": listen}
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(etcd.kill)
        store = EtcdStore(etcd.options())
        stack.push_async_callback(store.close)
        for resource in load_documents(CLUSTER, "cluster.yaml"):
            await store.create(resource)
        followed = following.Following(ReflectorConfig.model_validate(config), {}, carry_out, pytest.fail)
        stack.push_async_callback(followed.close)
        task = asyncio.create_task(followed.run())
        stack.callback(task.cancel)
        stack.callback(lambda: servers[0].stop("the test is over"))

        await until(lambda: f"etcd has no key {KEY}" in str(followed.problems))
        port = servers[0].ports[0]
        unprotected = Client(0, port)
        if await reached(unprotected):  # then it is told that there is no such peer
            unprotected.begin()
            await until(lambda: unprotected.closed)

        async def put(password: str) -> None:
            await asyncio.to_thread(etcd.put, KEY, password)
            await until(lambda: {peer.password for peer in carried[-1].peers} == {password})

        await put("first")
        assert followed.problems == ()
        for key in (None, "second"):
            assert not await reached(Client(0, port), key=key)
        client = await Client(0, port).up(key="first")

        await put("second")
        assert client.established, "whoever has the old one goes on until it begins anew"
        await client.close()
        assert not await reached(Client(0, port), key="first")
        client = await Client(0, port).up(key="second")

        await asyncio.to_thread(etcd.delete, KEY)
        asked = len(carried)
        await asyncio.sleep(1.0)  # it is asked for again and again; nothing may come of it
        assert client.established
        assert {peer.password for peer in carried[-1].peers} == {"second"}
        assert len(carried) == asked
        await client.close()
        client = await Client(0, port).up(key="second")
        assert not any(word in str(carried) + str(followed.plan()) for word in ("'first'", "'second'"))
        await client.close()
