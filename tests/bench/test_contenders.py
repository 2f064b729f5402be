"""Every contender's configuration says the same things in its own words."""

import tomllib
from pathlib import Path

import pytest
import yaml

from bench.reflector.contenders import PORT, RIVALS, Contender, cairn


def everyone() -> list[Contender]:
    return [cairn(), *(make(Path("/")) for make in RIVALS.values())]


@pytest.mark.parametrize("contender", everyone(), ids=lambda c: c.name)
def test_asn_identifier_and_port_reach_the_daemon(contender: Contender) -> None:
    text = contender.config(64999, "/run/d")
    words = text + " ".join(contender.argv("/run/d"))
    for wanted in ("64999", "10.255.255.254", str(PORT), "127.0.0.0/8"):
        assert wanted in words
    assert "65000" not in words.replace("65000", "", 1) or contender.name == "frr"
    assert f"/run/d/{contender.config_name}" in words
    assert contender.settings


def test_cairns_configuration_is_yaml_and_gobgps_toml() -> None:
    ours = yaml.safe_load(cairn().config(65000, ""))
    assert ours["clients"] == [{"prefix": "127.0.0.0/8"}]
    assert ours["listen"] == {"address": "127.0.0.1", "port": PORT}
    theirs = tomllib.loads(RIVALS["gobgp"](Path("/")).config(65000, ""))
    assert theirs["peer-groups"][0]["route-reflector"]["config"]["route-reflector-client"] is True
    assert theirs["global"]["config"]["port"] == PORT


def test_frr_names_the_peer_group_before_it_listens_for_it() -> None:
    lines = RIVALS["frr"](Path("/")).config(65000, "").splitlines()
    assert lines.index(" neighbor clients peer-group") < lines.index(
        " bgp listen range 127.0.0.0/8 peer-group clients"
    )


def test_another_root_is_entered_by_chroot(tmp_path: Path) -> None:
    there = RIVALS["bird"](tmp_path)
    assert there.argv("/run/d")[:3] == ["chroot", str(tmp_path), "/usr/sbin/bird"]
    assert there.missing() is not None
    (tmp_path / "usr/sbin").mkdir(parents=True)
    (tmp_path / "usr/sbin/bird").touch()
    assert there.missing() is None
