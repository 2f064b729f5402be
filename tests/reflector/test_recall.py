"""The memory of clients through a restart: files that are not as we wrote them, and a disk that is full."""

import os
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from reflector.recall import LONGEST, NAME, Recall

OURS = IPv4Address("10.0.0.2")
LINE = "10.0.0.1 10.0.0.2\n"


def link(path: Path) -> None:
    elsewhere = path.with_name("elsewhere")
    elsewhere.write_text(LINE)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_text(LINE + "nonsense\n"),
        lambda path: path.write_text(LINE + "10.0.0.9"),
        lambda path: path.write_bytes(b"\xff\xfe\x00"),
        lambda path: path.write_text(LINE * (LONGEST // len(LINE) + 1)),
        lambda path: path.mkdir(),
        os.mkfifo,
        link,
    ],
    ids=["nonsense", "truncated", "binary", "huge", "a directory", "a pipe nobody writes to", "a link"],
)
def test_what_we_did_not_write_is_no_memory(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    spoil(tmp_path / NAME)
    with capture_logs() as logs:
        assert Recall(tmp_path).read() == {}
    assert [line["log_level"] for line in logs] == ["warning"]


def test_a_file_of_somebody_else_is_no_memory(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    path = tmp_path / NAME
    path.write_text(LINE)
    assert Recall(tmp_path).read() == {"10.0.0.1": OURS}
    os.chown(path, 65534, 65534)
    assert Recall(tmp_path).read() == {}


def test_no_link_is_followed_when_it_is_written(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("somebody's")
    (tmp_path / NAME).symlink_to(precious)
    (tmp_path / f"{NAME}.new").symlink_to(precious)
    Recall(tmp_path).write({"10.0.0.1": OURS})
    assert precious.read_text() == "somebody's"
    assert Recall(tmp_path).read() == {"10.0.0.1": OURS}


def test_what_could_not_be_written_is_tried_again_and_said_once(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    recall = Recall(folder)
    with capture_logs() as logs:
        recall.write({"10.0.0.1": OURS})
        recall.write({"10.0.0.1": OURS})
    assert len(logs) == 1
    assert recall.read() == {}
    folder.mkdir()
    recall.write({"10.0.0.1": OURS})
    assert recall.read() == {"10.0.0.1": OURS}
    assert Recall(None).read() == {}
