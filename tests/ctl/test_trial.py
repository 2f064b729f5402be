"""apply --confirm-within: kept on a word in time, taken back on silence, on no, on a signal; never over
others."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.ctl.cairn import cairn, clean_environment
from tests.ctl.test_resource_commands import PEER, write


@pytest.fixture
def store(tmp_path: Path) -> Path:
    place = tmp_path / "store"
    place.mkdir()
    cairn("apply", "-f", "-", "--datastore", place, stdin=PEER % 65001)
    return place


def asn(store: Path) -> int:
    return int(cairn("get", "bgpp", "tor", "-o", "json", "--datastore", store).json["spec"]["asNumber"])


def other(name: str) -> str:
    return (PEER % 65009).replace("tor", name).replace("10.0.0.254", "10.0.0.253")


def on_trial(store: Path | str, file: Path, within: str = "60s") -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "ctl", "apply", "-f", str(file), "--datastore", str(store),
         "--confirm-within", within],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=clean_environment(),
    )  # fmt: skip
    assert process.stderr is not None
    said = ""
    while not said.endswith("to keep it: "):
        character = process.stderr.read(1)
        assert character, said
        said += character
    return process


def test_a_word_in_time_keeps_the_change(store: Path, tmp_path: Path) -> None:
    process = on_trial(store, write(tmp_path / "p.yaml", PEER % 65002))
    output, _ = process.communicate("yes\n", timeout=60)
    assert process.returncode == 0
    assert "applied: 1 changed" in output
    assert asn(store) == 65002


@pytest.mark.parametrize("answer", ["no\n", "\n", ""])
def test_anything_else_takes_it_back(store: Path, tmp_path: Path, answer: str) -> None:
    process = on_trial(store, write(tmp_path / "p.yaml", f"{PEER % 65002}---\n{other('second')}"))
    _, errors = process.communicate(answer, timeout=60)
    assert (process.returncode, "everything was taken back" in errors) == (1, True)
    assert asn(store) == 65001
    assert cairn("get", "bgpp", "second", "--datastore", store).code == 1


def test_silence_takes_it_back(store: Path, tmp_path: Path) -> None:
    process = on_trial(store, write(tmp_path / "p.yaml", PEER % 65002), within="1s")
    assert process.wait(60) == 1
    process.communicate()
    assert asn(store) == 65001


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_a_signal_takes_it_back(store: Path, tmp_path: Path, number: signal.Signals) -> None:
    process = on_trial(store, write(tmp_path / "p.yaml", PEER % 65002))
    process.send_signal(number)
    assert process.wait(60) == 1
    process.communicate()
    assert asn(store) == 65001


def test_what_somebody_else_changed_meanwhile_is_left_alone(store: Path, tmp_path: Path) -> None:
    process = on_trial(store, write(tmp_path / "p.yaml", PEER % 65002))
    assert cairn("apply", "-f", "-", "--datastore", store, stdin=PEER % 65003).code == 0
    _, errors = process.communicate("no\n", timeout=60)
    assert (process.returncode, "not taken back" in errors) == (1, True)
    assert asn(store) == 65003


def test_even_the_sudden_end_of_the_process_takes_it_back(store: Path, tmp_path: Path) -> None:
    process = on_trial(store, write(tmp_path / "p.yaml", PEER % 65002))
    assert asn(store) == 65002
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    while asn(store) != 65001:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_time_that_is_none_is_wrong_usage(store: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "p.yaml", PEER % 65002)
    for text in ("soon", "0", "0s"):
        assert cairn("apply", "-f", file, "--datastore", store, "--confirm-within", text).code == 2
    assert asn(store) == 65001
    assert cairn("apply", "-f", "-", "--datastore", store, "--confirm-within", "1s", stdin=PEER % 1).code == 2
