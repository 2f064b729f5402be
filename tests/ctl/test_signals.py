"""A service that is told something while it is still being loaded: it hears it, and does not end of it."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.ctl.cairn import ROOT, clean_environment


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def holds(pid: int, number: int) -> bool:
    """Whether a process keeps a signal for later."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    held = next((int(line.split()[1], 16) for line in lines if line.startswith("SigBlk:")), 0)
    return bool(held >> (number - 1) & 1)


@pytest.mark.parametrize(
    ("service", "number", "heard", "status"),
    [
        ("agent", signal.SIGHUP, "the configuration is unchanged", None),
        ("agent", signal.SIGRTMIN + 22, "log level is now debug", None),
        ("agent", signal.SIGUSR2, "agent stopped", 5),
        ("reflector", signal.SIGHUP, "configuration applied", None),
        ("reflector", signal.SIGRTMIN + 22, "log level is now debug", None),
    ],
)
def test_a_signal_that_comes_too_soon_is_heard(
    tmp_path: Path, service: str, number: int, heard: str, status: int | None
) -> None:
    (tmp_path / "store").mkdir()
    configurations = {
        "agent": {
            "node": "n1", "datastore": str(tmp_path / "store"), "registerNode": False,
            "kernel": {"dryRun": True}, "exabgp": {"runDirectory": str(tmp_path / "run")},
        },
        "reflector": {
            "asn": 65000, "routerId": "10.0.0.1", "listen": {"address": "127.0.0.1", "port": 0},
            "clients": [{"prefix": "127.0.0.0/24"}],
        },
    }  # fmt: skip
    (tmp_path / "file.yaml").write_text(yaml.safe_dump(configurations[service]))
    said = tmp_path / "log"
    with said.open("wb") as log:
        words = (sys.executable, "-m", "ctl", service, "--config", str(tmp_path / "file.yaml"))
        process = subprocess.Popen(words, stdout=log, stderr=log, cwd=ROOT, env=clean_environment())
    try:
        until(lambda: process.poll() is not None or holds(process.pid, number))
        process.send_signal(number)
        until(lambda: process.poll() is not None or heard in said.read_text())
        assert heard in said.read_text()
        if status is None:
            process.terminate()
        assert process.wait(60) == (status or 0)
    finally:
        process.kill()
        process.wait()
