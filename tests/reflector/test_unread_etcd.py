"""A reflector that begins while the settings cannot be read waits for them; one that runs goes on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
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
        etcd.put(etcd_key(Key("BGPPeer", "another")), '{"spec": {"node": "r1", "peerIP": "127.0.0.9"}}')
        await until(lambda: len(carried) > again)
        assert {spec.speaker.asn for spec in carried} == {65000}
        assert not refused
        assert [place.rpartition("/")[2] for place in followed.invalid] == ["default"]
        etcd.put(etcd_key(SETTINGS), encode(declared[SETTINGS]).decode())
        await until(lambda: not followed.invalid)


@pytest.mark.parametrize("remembered", [True, False])
async def test_a_client_that_cannot_be_read_counts_as_before_the_restart(
    tmp_path: Path, remembered: bool
) -> None:
    etcd = Etcd(tmp_path / "etcd")
    etcd.start()
    config = ReflectorConfig.model_validate(
        {"datastore": f"etcd://127.0.0.1:{etcd.port}", "node": "r1", "secrets": str(tmp_path)}
    )
    environ = {"RUNTIME_DIRECTORY": str(tmp_path)}
    (tmp_path / "bgp").mkdir()
    (tmp_path / "bgp" / "clients").write_text("secret")
    client = Key("Node", "n1")

    @contextlib.asynccontextmanager
    async def following(environ: dict[str, str]) -> AsyncIterator[tuple[Following, list[ReflectorSpec]]]:
        carried: list[ReflectorSpec] = []
        followed = Following(config, environ, carried.append, lambda _: None)
        task = asyncio.create_task(followed.run())
        try:
            await until(lambda: bool(carried))
            yield followed, carried
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await followed.close()

    async with contextlib.AsyncExitStack() as stack:
        stack.callback(etcd.kill)
        store = EtcdStore(etcd.options())
        stack.push_async_callback(store.close)
        declared = {resource.key: resource for resource in load_documents(CLUSTER, "cluster.yaml")}
        for resource in declared.values():
            await store.create(resource)
        async with following(environ) as (first, carried):
            assert not carried[0].incomplete
            etcd.put(etcd_key(client), '{"spec": {"bgp": {"ipv4Address": true}}}')
            await until(lambda: bool(first.invalid))
        async with following(environ if remembered else {}) as (second, carried):
            assert second.invalid
            assert ("127.0.0.2" in str(carried[0].peers)) is remembered
            assert carried[0].incomplete is not remembered
            if remembered:
                await store.delete(client)
                await until(lambda: not carried[-1].peers)
            else:
                etcd.put(etcd_key(client), encode(declared[client]).decode())
                await until(lambda: bool(carried[-1].peers))
            assert not carried[-1].incomplete
