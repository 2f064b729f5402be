"""`cairn render tor`: the rack is found by its label, and several routers are told apart."""

from pathlib import Path

from tests.ctl.cairn import cairn
from tests.ctl.test_resource_commands import CLUSTER, PEER


def declared(tmp_path: Path, *more: str) -> Path:
    text = CLUSTER.replace("{name: node-1}", "{name: node-1, labels: {rack: r1}}")
    (tmp_path / "c.yaml").write_text("---\n".join([text, PEER % 65001, *more]))
    return tmp_path


def test_one_rack_and_its_one_router(tmp_path: Path) -> None:
    store = declared(tmp_path)
    done = cairn("render", "tor", "--vendor", "frr", "--rack", "rack=r1", "--datastore", store)
    assert done.code == 0, done.err
    assert "neighbor 10.0.0.1 remote-as 64512" in done.out
    assert "neighbor 10.0.0.2 " not in done.out
    both = cairn("render", "tor", "--vendor", "bird", "--rack", "all()", "--datastore", store)
    assert ("10.0.0.1" in both.out, "10.0.0.2" in both.out) == (True, True)


def test_what_cannot_be_told_apart_is_asked(tmp_path: Path) -> None:
    other = (PEER % 65002).replace("tor", "other").replace("10.0.0.254", "10.0.0.253")
    words = ("render", "tor", "--vendor", "frr", "--datastore", declared(tmp_path, other))
    asked = cairn(*words, "--rack", "rack=r1")
    assert (asked.code, "10.0.0.254 (AS 65001)" in asked.err) == (2, True)
    assert "router bgp 65002" in cairn(*words, "--rack", "rack=r1", "--peer", "10.0.0.253").out
    assert cairn(*words, "--rack", "rack=r9").code == 4
    assert cairn(*words, "--rack", "rack ==").code == 2
    assert cairn(*words, "--rack", "rack=r1", "--peer", "nowhere").code == 2
