"""A reflector that begins while the settings cannot be read waits for them; one that runs goes on."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from bgpd.datastore.etcd_store import EtcdStore
from bgpd.resources import Key, encode, etcd_key, load_documents
from reflector.config import ReflectorConfig
from reflector.following import Following
from reflector.spec import ReflectorSpec
from tests.datastore.etcd_server import Etcd
from tests.reflector.clients import until
from tests.reflector.test_passwords_etcd import CLUSTER

pytestmark = pytest.mark.etcd
SETTINGS = Key("BGPConfiguration", "default")


async def test_unreadable_settings_are_no_other_as(tmp_path: Path) -> None:
    etcd = Etcd(tmp_path / "etcd")
    etcd.start()
    carried: list[ReflectorSpec] = []
    refused: list[str] = []
    config = ReflectorConfig.model_validate({"datastore": f"etcd://127.0.0.1:{etcd.port}", "node": "r1"})
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(etcd.kill)
        store = EtcdStore(etcd.options())
        stack.push_async_callback(store.close)
        declared = {resource.key: resource for resource in load_documents(CLUSTER, "cluster.yaml")}
        for resource in declared.values():
            await store.create(resource)
        etcd.put(etcd_key(SETTINGS), '{"spec": {"asNumber": "many"}}')
        followed = Following(config, {}, carried.append, refused.append)
        stack.push_async_callback(followed.close)
        task = asyncio.create_task(followed.run())
        stack.callback(task.cancel)

        await until(lambda: bool(refused))
        assert "settings" in refused[0]
        assert "'many'" in refused[0]
        assert not carried
        etcd.put(etcd_key(SETTINGS), encode(declared[SETTINGS]).decode())
        await until(lambda: bool(carried))
        refused.clear()
        etcd.put(etcd_key(SETTINGS), '{"spec": {"asNumber": "many"}}')
        again = len(carried)
        etcd.put(etcd_key(Key("Node", "n2")), '{"spec": {"bgp": {"ipv4Address": "127.0.0.3/24"}}}')
        await until(lambda: len(carried) > again)
        assert {spec.speaker.asn for spec in carried} == {65000}
        assert not refused
        assert [place.rpartition("/")[2] for place in followed.invalid] == ["default"]
        etcd.put(etcd_key(SETTINGS), encode(declared[SETTINGS]).decode())
        await until(lambda: not followed.invalid)
