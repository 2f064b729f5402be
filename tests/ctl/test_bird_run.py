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

from ctl import bird_runner
from ctl.bird_runner import BirdRunner, Daemon, Outcome, command
from tests.bird1 import PROGRAMS
from tests.ctl.cairn import ROOT, cairn, clean_environment
from tests.datastore.etcd_server import Etcd
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

    def __init__(self, home: Path, program: str, name: str = "bird") -> None:
        self.program = program
        self.config, self.control = home / f"{name}.conf", home / f"{name}.ctl"
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
            self.config.with_suffix(".pid"),
        ]
        self.process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        until(lambda: "Router ID" in shown_by(self, "show status"))

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            self.process = None
            self.control.unlink(missing_ok=True)

    def kill(self) -> None:
        """It leaves its socket behind, which nobody listens at."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(30)
        self.process = None


@pytest.fixture
def bird(tmp_path: Path) -> Iterator[Bird]:
    made = Bird(tmp_path, needs(bird2(), "BIRD 2 (Debian package bird2)"))
    made.config.write_text(GOOD % (1, 1))
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
    assert sorted(path.name for path in bird.config.parent.iterdir()) == ["bird.conf", "bird.ctl", "bird.pid"]


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


@pytest.mark.parametrize("end", [Bird.stop, Bird.kill])
async def test_a_daemon_that_is_away_finds_its_file_and_is_told_when_it_is_back(
    bird: Bird, end: Callable[[Bird], None]
) -> None:
    end(bird)
    runner = BirdRunner(bird.daemon)
    assert (await runner.apply(GOOD % (1, 4))).outcome is Outcome.WAITING
    assert bird.config.read_text() == GOOD % (1, 4)
    bird.start()
    assert (await runner.apply(GOOD % (1, 4))).outcome is Outcome.APPLIED
    assert "marker4" in await protocols(bird)


async def test_a_daemon_that_does_not_answer_is_waited_for_and_told_later(
    bird: Bird, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bird_runner, "_TIMEOUT", 0.3)
    assert bird.process is not None
    bird.process.send_signal(signal.SIGSTOP)
    runner = BirdRunner(bird.daemon)
    result = await runner.apply(GOOD % (1, 5))
    assert result.outcome is Outcome.WAITING
    assert str(bird.control) in result.said
    monkeypatch.undo()
    bird.process.send_signal(signal.SIGCONT)
    assert (await runner.apply(GOOD % (1, 5))).outcome is Outcome.APPLIED
    assert "marker5" in await protocols(bird)


async def test_a_file_that_somebody_else_changed_is_put_right(bird: Bird) -> None:
    runner = BirdRunner(bird.daemon)
    bird.config.write_bytes(b"# M\xfcller\n" + (GOOD % (1, 1)).encode())  # of old, in another encoding
    assert (await runner.apply(GOOD % (1, 6))).outcome is Outcome.APPLIED
    bird.config.write_text(GOOD % (1, 7))
    assert (await runner.apply(GOOD % (1, 6))).outcome is Outcome.APPLIED
    assert bird.config.read_text() == GOOD % (1, 6)


async def test_what_keeps_a_text_from_the_file_is_told_and_tried_again(bird: Bird, tmp_path: Path) -> None:
    missing = BirdRunner(Daemon(str(tmp_path / "no-bird"), bird.config, bird.control))
    result = await missing.apply(GOOD % (1, 8))
    assert (result.outcome, "no-bird: No such file" in result.said) == (Outcome.REJECTED, True)
    nowhere = BirdRunner(Daemon(bird.program, tmp_path / "no" / "bird.conf", bird.control))
    result = await nowhere.apply(GOOD % (1, 8))
    assert (result.outcome, "No such file" in result.said) == (Outcome.REJECTED, True)
    (tmp_path / "no").mkdir()
    assert (await nowhere.apply(GOOD % (1, 8))).outcome is Outcome.APPLIED
    assert "marker1" in await protocols(bird)  # it was told to read its own file


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


def words_for(bird: Bird, store: Path | str) -> list[str]:
    words = "--node", "node-1", "--datastore", store, "--config", bird.config, "--socket", bird.control
    return [*map(str, words), "--bird", bird.program]


class Following:
    """`cairn bird run`; what it says goes to a file."""

    def __init__(self, bird: Bird, store: Path | str, *words: str | Path) -> None:
        self._said = bird.config.with_suffix(".said")
        with self._said.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ctl", "bird", "run", *words_for(bird, store), *map(str, words)],
                env=clean_environment(),
                cwd=ROOT,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def said(self, what: str) -> bool:
        return what in self._said.read_text()

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        assert code == 0, self._said.read_text()


def test_the_command_follows_the_store_and_reports_what_cannot_be(bird: Bird, tmp_path: Path) -> None:
    store, secrets = tmp_path / "store", tmp_path / "secrets"
    store.mkdir()
    (secrets / "tor").mkdir(parents=True)
    (store / "node.yaml").write_text(NODE)
    (store / "settings.yaml").write_text(SETTINGS % (20000 + os.getpid() % 20000))
    run = Following(bird, store, "--secrets", secrets, "--interval", "0.5")
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
        until(lambda: run.said("no configuration can be made"))
        assert "Global_127_0_0_2" in shown_by(bird, "show protocols")
        # Put right in the file alone, it is found without any change in the store.
        (secrets / "tor" / "password").write_text("correct")
        until(lambda: "Global_127_0_0_3" in shown_by(bird, "show protocols"))
        assert 'password "correct"' in bird.config.read_text()
        changed = bird.config.stat().st_mtime_ns
        time.sleep(1.5)
        assert bird.config.stat().st_mtime_ns == changed
    finally:
        run.end()
    assert not run.said("correct")


def test_settings_that_cannot_be_read_are_waited_for(bird: Bird, tmp_path: Path) -> None:
    """Taken for absent they would make another AS number and a full mesh of what BIRD has."""
    store, before = tmp_path / "store", bird.config.read_text()
    store.mkdir()
    (store / "node.yaml").write_text(NODE)
    port = 20000 + os.getpid() % 20000
    settings = SETTINGS % port
    (store / "settings.yaml").write_text(settings.replace("false", "[]"))
    once = cairn("bird", "run", *words_for(bird, store), "--once")
    assert once.code == 1
    assert "nothing is done before it is repaired" in once.out + once.err
    run = Following(bird, store, "--interval", "0.2")
    try:
        until(lambda: run.said("nothing is done before it is repaired"))
        time.sleep(0.5)
        assert bird.config.read_text() == before
        (store / "settings.yaml").write_text(settings)
        until(lambda: "configuration of node node-1" in bird.config.read_text())
        (store / "settings.yaml").write_text("spec: {listenPort: no}\n" + settings[:40])
        (store / "peer.yaml").write_text(PEER % (2, ""))
        until(lambda: "protocol bgp Global_127_0_0_2" in bird.config.read_text())
        assert f" port {port} " in bird.config.read_text()  # as it was
    finally:
        run.end()


def test_a_peer_that_cannot_be_read_keeps_its_session_over_a_restart(bird: Bird, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / "node.yaml").write_text(NODE)
    (store / "settings.yaml").write_text(SETTINGS % (20000 + os.getpid() % 20000))
    peer = PEER % (2, "")
    (store / "peer.yaml").write_text(peer)
    assert cairn("bird", "run", *words_for(bird, store), "--once").code == 0
    (store / "peer.yaml").write_text(peer.replace("asNumber: ", "asNumber: of "))
    (store / "another.yaml").write_text((PEER % (3, "")).replace("tor", "another"))
    once = cairn("bird", "run", *words_for(bird, store), "--once")
    assert once.code == 1
    assert "nothing is done before it is repaired" in once.out + once.err
    assert "protocol bgp Global_127_0_0_2" in bird.config.read_text()
    (store / "peer.yaml").write_text(peer)
    assert cairn("bird", "run", *words_for(bird, store), "--once").code == 0
    assert "protocol bgp Global_127_0_0_3" in bird.config.read_text()


def test_both_daemons_of_bird_1_are_kept_in_step(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    both = "spec: {bgp: {ipv4Address: 127.0.0.1/8, ipv6Address: '::1/128'}}"
    (store / "node.yaml").write_text(NODE.replace("spec: {bgp: {ipv4Address: 127.0.0.1/8}}", both))
    (store / "settings.yaml").write_text(SETTINGS % (20000 + os.getpid() % 20000))
    daemons = [
        Bird(tmp_path, needs(shutil.which(name, path=PROGRAMS), "BIRD 1.6"), name)
        for name in ("bird", "bird6")
    ]
    four, six = daemons
    try:
        for each in daemons:
            each.config.write_text("router id 192.0.2.1;\nprotocol device {}\n")
            each.start()
        run = Following(four, store, "--version", "1", "--interval", "0.5")
        try:
            for each in daemons:
                until(lambda each=each: "kernel" in shown_by(each, "show protocols"))  # type: ignore[misc]  # a default fixes it
            (store / "peer.yaml").write_text(PEER % (2, ""))
            until(lambda: "Global_127_0_0_2" in shown_by(four, "show protocols"))
            before = six.config.stat().st_mtime_ns
            (store / "peer6.yaml").write_text(
                (PEER % (2, "")).replace("127.0.0.2", "'2001:db8::2'").replace("name: tor", "name: tor6")
            )
            until(lambda: "Global_2001_db8__2" in shown_by(six, "show protocols"))
            assert six.config.stat().st_mtime_ns != before
            # One is killed: the other goes on being told, and the killed one is again when it is back.
            six.kill()
            (store / "peer.yaml").write_text(PEER % (3, ""))
            until(lambda: "Global_127_0_0_3" in shown_by(four, "show protocols"))
            six.start()
            (store / "peer6.yaml").unlink()
            until(lambda: "Global_2001" not in shown_by(six, "show protocols"))
        finally:
            run.end()
        assert run.said("configuration written, BIRD is not running") or run.said("bird6.conf")
    finally:
        for each in daemons:
            each.stop()


@pytest.mark.etcd
def test_bird_goes_on_while_etcd_stands_still(bird: Bird, tmp_path: Path) -> None:
    etcd = Etcd(tmp_path / "etcd")
    etcd.start()
    try:
        place = f"etcd://127.0.0.1:{etcd.port}"
        declared = NODE + "---\n" + SETTINGS % (20000 + os.getpid() % 20000) + "---\n" + PEER % (2, "")
        assert cairn("apply", "-f", "-", "--yes", "--datastore", place, stdin=declared).code == 0
        run = Following(bird, place, "--interval", "0.3")
        try:
            until(lambda: "Global_127_0_0_2" in shown_by(bird, "show protocols"))
            etcd.signal(signal.SIGSTOP)
            written = bird.config.stat().st_mtime_ns
            time.sleep(3)
            assert run.process.poll() is None
            assert bird.config.stat().st_mtime_ns == written
            assert "Global_127_0_0_2" in shown_by(bird, "show protocols")
            etcd.signal(signal.SIGCONT)
            assert cairn("apply", "-f", "-", "--yes", "--datastore", place, stdin=PEER % (3, "")).code == 0
            until(lambda: "Global_127_0_0_3" in shown_by(bird, "show protocols"))
        finally:
            run.end()
    finally:
        etcd.signal(signal.SIGCONT)
        etcd.kill()


def shown_by(bird: Bird, words: str) -> str:
    done = subprocess.run(
        ["birdc", "-s", bird.control, *words.split()], capture_output=True, text=True, check=False
    )
    return done.stdout
