"""What a reflector says of declared files: a file of the settings that cannot be read is waited for, as with
etcd, and what is odd is named.
"""

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from reflector.config import ReflectorConfig
from reflector.following import Following
from reflector.spec import ReflectorSpec
from tests.reflector.clients import until
from tests.reflector.test_passwords_etcd import CLUSTER


async def test_no_peer_comes_without_the_filter_it_names(tmp_path: Path) -> None:
    head = "apiVersion: projectcalico.org/v3\nkind: "
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    path = tmp_path / "filter.yaml"
    wrong, right = (
        f"{head}BGPFilter\nmetadata: {{name: f}}\nspec: {{{spec}}}\n" for spec in ("importV4: 1", "")
    )
    carried: list[ReflectorSpec] = []
    refused: list[str] = []
    config = ReflectorConfig.model_validate({"datastore": str(tmp_path), "node": "r1"})
    followed = Following(config, {}, carried.append, refused.append)
    task = asyncio.create_task(followed.run())
    await until(lambda: bool(carried))
    path.write_text(wrong)
    await until(lambda: bool(followed.invalid))
    spec = "{peerIP: 127.0.0.77, asNumber: 65100, filters: [f]}"
    (tmp_path / "peer.yaml").write_text(f"{head}BGPPeer\nmetadata: {{name: t}}\nspec: {spec}\n")
    (tmp_path / "other.yaml").write_text(
        f"{head}BGPPeer\nmetadata: {{name: o}}\nspec: {{peerIP: 127.0.0.78, asNumber: 65100}}\n"
    )
    await until(lambda: "127.0.0.78" in str(carried[-1]))  # nobody else has to wait
    assert "127.0.0.77" not in str(carried)
    assert not refused
    path.write_text(right)
    await until(lambda: "127.0.0.77" in str(carried[-1]))
    task.cancel()
    await followed.close()


@pytest.mark.parametrize("fault", ["asNumber: many", "asNumber: 65000}}"])
async def test_an_unreadable_file_of_settings_is_no_other_as(tmp_path: Path, fault: str) -> None:
    settings, _, others = CLUSTER.partition("---\n")
    (tmp_path / "others.yaml").write_text(others)
    path = tmp_path / "settings.yaml"
    path.write_text(settings.replace("asNumber: 65000", fault))
    carried: list[ReflectorSpec] = []
    refused: list[str] = []
    config = ReflectorConfig.model_validate({"datastore": str(tmp_path), "node": "r1"})
    followed = Following(config, {}, carried.append, refused.append)
    with capture_logs() as log:
        task = asyncio.create_task(followed.run())
        await until(lambda: bool(refused))
        assert "nothing is done before it is repaired" in refused[0]
        path.write_text(settings)
        await until(lambda: bool(carried))
    task.cancel()
    await followed.close()
    assert {spec.speaker.asn for spec in carried} == {65000}
    (told,) = [entry for entry in log if entry["event"].startswith("a resource cannot be read")]
    assert told["place"] == "settings.yaml"
    assert told["reason"].startswith("settings.yaml:4: ")


async def test_two_nodes_of_one_address_are_named_once(tmp_path: Path) -> None:
    head = "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {name: "
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    (tmp_path / "one.yaml").write_text(f"{head}one}}\nspec: {{bgp: {{ipv4Address: 127.0.0.77/8}}}}\n")
    carried: list[ReflectorSpec] = []
    config = ReflectorConfig.model_validate({"datastore": str(tmp_path), "node": "r1"})
    followed = Following(config, {}, carried.append, lambda _: None)
    with capture_logs() as log:
        task = asyncio.create_task(followed.run())
        await until(lambda: bool(carried))
        (tmp_path / "two.yaml").write_text(f"{head}two}}\nspec: {{bgp: {{ipv4Address: 127.0.0.77/8}}}}\n")
        await until(lambda: any(entry["event"] == "the plan has a remark" for entry in log))
        followed.declare()
    task.cancel()
    await followed.close()
    (told,) = [entry["remark"] for entry in log if entry["event"] == "the plan has a remark"]
    assert told.startswith("127.0.0.77 is the address of Node one and of Node two: ")
