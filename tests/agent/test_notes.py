"""Notes of the run directory that say what nobody wrote: they count for nothing, and end no agent."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from agent.exabgp.process import Process
from agent.kernel.message import Place
from agent.kernel.moving import FILE, move
from agent.retention import Retention
from bgpd.notes import read_note, write_whole
from tests.agent.ground import needs_root, sh

DEEP = 100_000 * "[" + 100_000 * "]"
HUGE = ("Infinity", "-Infinity", "NaN", "1e999", "1" + 400 * "0")


def test_what_was_noted_is_read_as_it_was(tmp_path: Path) -> None:
    noted = {"pid": 4194304, "start": 2**52, "until": 1234.5, "none": None, "text": "1e999", "less": -1}
    write_whole(tmp_path / "note.json", json.dumps(noted))
    assert read_note(tmp_path / "note.json") == noted


@pytest.mark.parametrize("planted", ["note", "note.new"])
@pytest.mark.parametrize("how", ["open to all", "link", "link that leads nowhere", "second name", "pipe"])
def test_what_stood_there_neither_reads_along_nor_is_written_to(
    tmp_path: Path, planted: str, how: str
) -> None:
    elsewhere, place = tmp_path / "elsewhere", tmp_path / "run" / planted
    place.parent.mkdir()
    elsewhere.write_text("password")
    match how:
        case "open to all":
            place.write_text("password")
            place.chmod(0o666)
        case "link":
            place.symlink_to(elsewhere)
        case "link that leads nowhere":
            place.symlink_to(tmp_path / "nowhere")
        case "second name":
            place.hardlink_to(elsewhere)
        case "pipe":
            os.mkfifo(place)
    elsewhere.chmod(0o644)
    write_whole(place.with_name("note"), "password")
    assert [file.name for file in place.parent.iterdir()] == ["note"]
    assert place.with_name("note").lstat().st_mode == stat.S_IFREG | 0o600
    assert place.with_name("note").read_text() == "password"
    assert elsewhere.stat().st_nlink == 1
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["elsewhere", "run"]


@pytest.mark.parametrize("number", HUGE)
@pytest.mark.parametrize("name", ["pid", "start"])
async def test_no_exabgp_is_found_by_a_number_out_of_bounds(
    tmp_path: Path, name: str, number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    known = {"pid": "1", "start": "1", "digest": '"x"', name: number}
    text = ", ".join(f'"{key}": {value}' for key, value in known.items())
    (tmp_path / "process.json").write_text(f"{{{text}}}")
    assert not Process(tmp_path).adopt()
    assert "what was noted before cannot be used" in capsys.readouterr().out


@pytest.mark.parametrize("number", HUGE)
@pytest.mark.parametrize("name", ["until", "restart", "longLived", "longLivedUntil"])
def test_no_peer_is_waited_for_as_long_as_a_number_out_of_bounds(
    tmp_path: Path, name: str, number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    peer = {"up": "true", "until": "1.5", "restart": "120", "longLived": "{}", "longLivedUntil": "{}"}
    peer[name] = f'{{"ipv4-unicast": {number}}}' if name.startswith("long") else number
    text = ", ".join(f'"{key}": {value}' for key, value in {**peer, "held": "false"}.items())
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    (tmp_path / "retained.json").write_text(f'{{"boot": "{boot}", "peers": {{"10.0.0.1": {{{text}}}}}}}')
    assert Retention(tmp_path / "retained.json").recall() == {}
    assert "what was noted before cannot be used" in capsys.readouterr().out


@pytest.mark.parametrize("note", ["process.json", "retained.json"])
async def test_a_note_that_is_not_there_is_not_spoken_of(
    tmp_path: Path, note: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Process(tmp_path).adopt() if note == "process.json" else Retention(tmp_path / note).recall()
    assert not found
    assert capsys.readouterr().out == ""


@needs_root
@pytest.mark.scenario
@pytest.mark.parametrize(
    "place", [*(f"[{each}, 179]" for each in HUGE), "[4294967296, 179]", "[254, 256]", "[-1, 9]", DEEP]
)
async def test_no_route_is_sought_where_there_can_be_none(ground: str, tmp_path: Path, place: str) -> None:
    (tmp_path / FILE).write_text(f"[{place}]")
    await move(tmp_path, Place(254, 1024, 179))
    assert json.loads((tmp_path / FILE).read_text()) == [[254, 179]]


@needs_root
@pytest.mark.scenario
@pytest.mark.parametrize(
    "place", ["[0, 0]", "[254, 0]", "[0, 2]", "[254, 2]", "[254, 3]", "[255, 2]", "[0, 179]"]
)
async def test_no_route_that_cannot_be_ours_is_taken_along(ground: str, tmp_path: Path, place: str) -> None:
    sh(f"ip -n {ground} route add 192.0.2.0/24 via 10.0.0.9")
    before = sh(f"ip -n {ground} route show table all")
    (tmp_path / FILE).write_text(f"[{place}]")
    await move(tmp_path, Place(5077, 1024, 179))
    assert sh(f"ip -n {ground} route show table all") == before
