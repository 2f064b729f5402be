"""`cairn bird run` against a real BIRD with sockets of its own, unprivileged ports, and no kernel routes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ctl.bird_runner import BirdRunner, Daemon, Outcome, command
from tests.ctl.cairn import ROOT, clean_environment
from tests.render.parsers import bird2, needs

GOOD = """\
log stderr all;
router id 192.0.2.%d;
protocol device {}
protocol static marker%d { ipv4; route 198.51.100.0/24 blackhole; }
"""
BAD = "router id 192.0.2.9;\nprotocol nonsense {}\n"


def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


class Bird:
    """A real BIRD in a directory of its own."""

    def __init__(self, home: Path) -> None:
        self.program = needs(bird2(), "BIRD 2 (Debian package bird2)")
        self.config, self.control = home / "bird.conf", home / "bird.ctl"
        self.config.write_text(GOOD % (1, 1))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def daemon(self) -> Daemon:
        return Daemon(self.program, self.config, self.control)

    def start(self) -> None:
        words: list[str | Path] = [
            self.program,
            "-f",
            "-c",
            self.config,
            "-s",
            self.control,
            "-P",
            self.config.with_name("pid"),
        ]
        self.process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        until(self.control.exists)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            self.process = None
            self.control.unlink(missing_ok=True)


@pytest.fixture
def bird(tmp_path: Path) -> Iterator[Bird]:
    made = Bird(tmp_path)
    made.start()
    yield made
    made.stop()


async def protocols(bird: Bird) -> str:
    return (await command(bird.control, "show protocols"))[1]


async def test_a_new_text_is_applied_once(bird: Bird) -> None:
    runner = BirdRunner(bird.daemon)
    bird.config.chmod(0o640)
    assert (await runner.apply(GOOD % (1, 2))).outcome is Outcome.APPLIED
    assert "marker2" in await protocols(bird)
    assert (await runner.apply(GOOD % (1, 2))).outcome is Outcome.SAME
    assert bird.config.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in bird.config.parent.iterdir()) == ["bird.conf", "bird.ctl", "pid"]


async def test_what_the_parser_refuses_never_gets_into_the_file(bird: Bird) -> None:
    runner = BirdRunner(bird.daemon)
    result = await runner.apply(BAD)
    assert result.outcome is Outcome.REJECTED
    assert "bird.conf:2" in result.said or "2:" in result.said
    assert bird.config.read_text() == GOOD % (1, 1)
    assert "marker1" in await protocols(bird)
    assert (await runner.apply(BAD)) == result
    assert (await runner.apply(GOOD % (1, 3))).outcome is Outcome.APPLIED


async def test_what_the_daemon_refuses_is_taken_out_again(bird: Bird) -> None:
    # A parser that says yes to everything, as an older or newer program beside the daemon might.
    runner = BirdRunner(Daemon(shutil.which("true") or "/bin/true", bird.config, bird.control))
    result = await runner.apply(BAD)
    assert result.outcome is Outcome.REJECTED
    assert "syntax error" in result.said
    assert bird.config.read_text() == GOOD % (1, 1)
    assert "marker1" in await protocols(bird)


async def test_a_daemon_that_is_away_finds_its_file_and_is_told_when_it_is_back(bird: Bird) -> None:
    bird.stop()
    runner = BirdRunner(bird.daemon)
    assert (await runner.apply(GOOD % (1, 4))).outcome is Outcome.WAITING
    assert bird.config.read_text() == GOOD % (1, 4)
    bird.start()
    assert (await runner.apply(GOOD % (1, 4))).outcome is Outcome.APPLIED
    assert "marker4" in await protocols(bird)


NODE = """\
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: node-1}
spec: {bgp: {ipv4Address: 127.0.0.1/8}}
"""
SETTINGS = """\
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata: {name: default}
spec: {listenPort: %d, nodeToNodeMeshEnabled: false}
"""
PEER = """\
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: tor}
spec: {peerIP: 127.0.0.%d, asNumber: 65001%s}
"""


def test_the_command_follows_the_store_and_reports_what_cannot_be(bird: Bird, tmp_path: Path) -> None:
    store, secrets = tmp_path / "store", tmp_path / "secrets"
    store.mkdir()
    (secrets / "tor").mkdir(parents=True)
    (store / "node.yaml").write_text(NODE)
    (store / "settings.yaml").write_text(SETTINGS % (20000 + os.getpid() % 20000))
    words = ["bird", "run", "--node", "node-1", "--config", bird.config, "--socket", bird.control]
    words += ["--bird", bird.program, "--datastore", store, "--secrets", secrets, "--interval", "0.5"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ctl", *map(str, words)],
        env=clean_environment(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        until(lambda: "configuration of node node-1" in bird.config.read_text())
        (store / "peer.yaml").write_text(PEER % (2, ""))
        until(lambda: "protocol bgp Global_127_0_0_2" in bird.config.read_text())
        shown = shown_by(bird, "show protocols")
        until(lambda: "Global_127_0_0_2" in shown_by(bird, "show protocols"))
        assert "marker1" not in shown
        # A password that no configuration can carry: reported, and BIRD keeps what it has.
        (secrets / "tor" / "password").write_text('a"b')
        reference = ", password: {secretKeyRef: {name: tor, key: password}}"
        (store / "peer.yaml").write_text(PEER % (3, reference))
        time.sleep(2)
        assert "Global_127_0_0_2" in shown_by(bird, "show protocols")
        # Put right in the file alone, it is found without any change in the store.
        (secrets / "tor" / "password").write_text("correct")
        until(lambda: "Global_127_0_0_3" in shown_by(bird, "show protocols"))
        assert 'password "correct"' in bird.config.read_text()
        changed = bird.config.stat().st_mtime_ns
        time.sleep(1.5)
        assert bird.config.stat().st_mtime_ns == changed
    finally:
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "no configuration can be made" in output
    assert "correct" not in output


def shown_by(bird: Bird, words: str) -> str:
    done = subprocess.run(
        ["birdc", "-s", bird.control, *words.split()], capture_output=True, text=True, check=False
    )
    return done.stdout
