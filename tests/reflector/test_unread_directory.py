"""A reflector that begins while the file of the settings cannot be read waits for it, as with etcd."""

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from reflector.config import ReflectorConfig
from reflector.following import Following
from reflector.spec import ReflectorSpec
from tests.reflector.clients import until
from tests.reflector.test_passwords_etcd import CLUSTER


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
