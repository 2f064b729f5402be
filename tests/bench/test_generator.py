"""The load generator believes nothing: a reflector that is wrong in any one way fails.

A reflector of a few lines plays the device under test for two speakers, faithful or with
one fault. Only a C compiler is needed.
"""

import contextlib
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.reflector import generator as module
from bench.reflector.generator import Generator, GeneratorError, build

pytestmark = pytest.mark.peer("compiler")

MARKER = b"\xff" * 16
OPEN = (
    b"\x04"
    + struct.pack("!HH4s", 65000, 90, bytes((10, 0, 0, 1)))
    + bytes((8, 2, 6, 65, 4))
    + struct.pack("!I", 65000)
)
REFLECTED = bytes((0x80, 10, 4, 10, 0, 0, 1))
Fault = Callable[
    [bytes, bytes, bytes], list[tuple[bytes, bytes]]
]  # attributes, NLRI, originator -> what B is sent


def message(type_: int, body: bytes = b"") -> bytes:
    return MARKER + struct.pack("!HB", 19 + len(body), type_) + body


def update(attributes: bytes, nlri: bytes, withdrawn: bytes = b"") -> bytes:
    return message(
        2,
        struct.pack("!H", len(withdrawn))
        + withdrawn
        + struct.pack("!H", len(attributes))
        + attributes
        + nlri,
    )


class Reflector(threading.Thread):
    """Reflects between its connections; `fault` turns one UPDATE into what is sent on."""

    def __init__(self, fault: Fault, echo: bool, hang_up: bool) -> None:
        super().__init__(daemon=True)
        self._fault, self._echo, self._hang_up = fault, echo, hang_up
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._peers: list[socket.socket] = []
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def run(self) -> None:
        while True:
            try:
                peer, (address, _) = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(peer, address), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, peer: socket.socket, address: str) -> None:
        originator = bytes((172, 16, 0, int(address.rpartition(".")[2])))
        with peer, peer.makefile("rb") as stream, contextlib.suppress(OSError):  # whoever is gone is gone
            while header := stream.read(19):
                length, type_ = struct.unpack("!HB", header[16:])
                self._answer(peer, type_, stream.read(length - 19), originator)
        with self._lock:
            if peer in self._peers:
                self._peers.remove(peer)

    def _answer(self, peer: socket.socket, type_: int, body: bytes, originator: bytes) -> None:
        with self._lock:
            if type_ == 1:
                peer.sendall(message(1, OPEN) + message(4))
                self._peers.append(peer)
            elif type_ == 2:
                withdrawn = body[2 : 2 + int.from_bytes(body[:2], "big")]
                rest = body[2 + len(withdrawn) :]
                size = int.from_bytes(rest[:2], "big")
                changed = self._changed(withdrawn, rest[2 : 2 + size], rest[2 + size :], originator)
                for other in self._peers:
                    if other is not peer or self._echo:
                        other.sendall(changed)

    def _changed(self, withdrawn: bytes, attributes: bytes, nlri: bytes, originator: bytes) -> bytes:
        if self._hang_up:
            return message(3, bytes((6, 4)))
        if withdrawn:
            return update(b"", b"", withdrawn)
        return b"".join(update(a, n) for a, n in self._fault(attributes, nlri, originator))

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:  # the generator is gone, so each reads the end of its stream
            thread.join()


def faithful(attributes: bytes, nlri: bytes, originator: bytes) -> list[tuple[bytes, bytes]]:
    return [(attributes + bytes((0x80, 9, 4)) + originator + REFLECTED, nlri)]


def loses_a_prefix(attributes: bytes, nlri: bytes, originator: bytes) -> list[tuple[bytes, bytes]]:
    return faithful(attributes, nlri[5:], originator)


def invents_a_prefix(attributes: bytes, nlri: bytes, originator: bytes) -> list[tuple[bytes, bytes]]:
    return faithful(attributes, nlri + bytes((24, 9, 9, 9)), originator)


def swaps_a_prefix(attributes: bytes, nlri: bytes, originator: bytes) -> list[tuple[bytes, bytes]]:
    return faithful(attributes, nlri[5:] + bytes((26, 10, 200, 0, 0)), originator)


def alters_the_preference(attributes: bytes, nlri: bytes, originator: bytes) -> list[tuple[bytes, bytes]]:
    return faithful(attributes.replace(struct.pack("!I", 100), struct.pack("!I", 101)), nlri, originator)


def forgets_the_originator(attributes: bytes, nlri: bytes, originator: bytes) -> list[tuple[bytes, bytes]]:
    return [(attributes + REFLECTED, nlri)]


def lies_about_the_originator(attributes: bytes, nlri: bytes, originator: bytes) -> list[tuple[bytes, bytes]]:
    return faithful(attributes, nlri, bytes((172, 16, 0, 3)))


@pytest.fixture
def run() -> Iterator[Callable[..., Generator]]:
    started: list[tuple[Generator, Reflector]] = []

    def start(
        fault: Fault = faithful, *, echo: bool = False, hang_up: bool = False, speakers: int = 3
    ) -> Generator:
        reflector = Reflector(fault, echo, hang_up)
        reflector.start()
        options = ["--speakers", str(speakers), "--prefixes", "4", "--port", str(reflector.port)]
        made = Generator(options)
        started.append((made, reflector))
        return made

    yield start
    for made, reflector in started:
        made.stop()
        reflector.close()


def test_a_faithful_reflector_passes_every_command(run: Callable[..., Generator]) -> None:
    made = run()
    assert made.command("open 0 2 2 0 5").ok
    announced = made.command("announce 0 2 5")
    assert announced.ok
    assert announced["delivered"] == 8
    assert announced["exact"] == announced["due"] == 2
    joined = made.command("open 2 1 1 0 5")
    assert joined.ok
    assert made.command("verify").ok is False  # this reflector tells a newcomer nothing
    assert made.command("verify")["missing"] == 8


def test_churn_sees_every_change_at_every_other_client(run: Callable[..., Generator]) -> None:
    made = run(speakers=2)
    assert made.command("open 0 2 2 0 5").ok
    assert made.command("announce 0 2 5").ok
    churned = made.command("churn 200 40 10")
    assert churned.ok
    assert churned["seen"] == churned["changes"] == 40
    assert 0 < churned["p50"] <= churned["p99"] <= churned["max"]
    assert made.command("verify").ok


@pytest.mark.parametrize(
    ("fault", "symptom"),
    [
        (loses_a_prefix, "exact)"),
        (invents_a_prefix, "foreign"),
        (swaps_a_prefix, "foreign"),
        (alters_the_preference, "altered"),
        (forgets_the_originator, "altered"),
        (lies_about_the_originator, "foreign"),
    ],
)
def test_every_fault_is_found(run: Callable[..., Generator], fault: Fault, symptom: str) -> None:
    made = run(fault)
    assert made.command("open 0 2 2 0 5").ok
    answer = made.command("announce 0 2 0.5")
    assert not answer.ok
    assert symptom in answer.why()
    assert not made.command("verify").ok


def test_a_route_told_to_its_own_announcer_is_ignored_and_counted(run: Callable[..., Generator]) -> None:
    made = run(echo=True)
    assert made.command("open 0 2 2 0 5").ok
    answer = made.command("announce 0 2 5")
    assert answer.ok
    made.command("idle 0.2")
    verified = made.command("verify")
    assert verified.ok
    assert verified["surplus"] == 0


def test_a_session_lost_in_the_middle_fails_the_command(run: Callable[..., Generator]) -> None:
    made = run(hang_up=True)
    assert made.command("open 0 2 2 0 5").ok
    answer = made.command("announce 0 2 5")
    assert not answer.ok
    assert "lost" in answer.why()
    assert "NOTIFICATION 6/4" in answer.why()


def test_what_is_not_bgp_ends_the_generator(run: Callable[..., Generator]) -> None:
    made = run(lambda attributes, nlri, originator: [(attributes + b"\x40", nlri)])
    assert made.command("open 0 2 2 0 5").ok
    with pytest.raises(GeneratorError, match="do not parse"):
        made.command("announce 0 2 2")


def test_options_that_do_not_go_together_are_refused() -> None:
    with (
        Generator(["--mode", "stream", "--speakers", "3"]) as made,
        pytest.raises(GeneratorError, match="go together"),
    ):
        made.command("verify")


def test_the_sources_compile_without_a_warning(tmp_path: Path) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    assert compiler is not None
    sources = map(str, sorted(module.SOURCES.glob("*.c")))
    done = subprocess.run(
        [compiler, *module.FLAGS, "-Werror", "-o", tmp_path / "x", *sources], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


def test_build_is_cached_by_content_and_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert build() == build()
    monkeypatch.setattr(module, "OUT", tmp_path / "out")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GeneratorError, match="no C compiler"):
        build()


@pytest.mark.parametrize("foreign", [None, "theirs", "open to all", "link"])
def test_no_program_is_run_that_somebody_left_in_the_temporary_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, foreign: str | None
) -> None:
    name = build().name
    (tmp_path / "file").touch()
    monkeypatch.setattr(module, "OUT", tmp_path / "file" / "out")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    place = tmp_path / f"cairn-bench-{os.geteuid()}"
    for planted in (tmp_path, *([place] if foreign else [])):
        planted.mkdir(exist_ok=True)
        (planted / name).write_text("#!/bin/sh\n")
    if foreign == "open to all":
        place.chmod(0o777)
    elif foreign == "link":
        place.rename(tmp_path / "elsewhere")
        place.symlink_to("elsewhere")
    elif foreign == "theirs":
        other = os.geteuid() + 1
        monkeypatch.setattr(os, "geteuid", lambda: other)
        place.rename(tmp_path / f"cairn-bench-{other}")
    if foreign is None:
        assert build() == place / name
        assert build().read_bytes().startswith(b"\x7fELF")
    else:
        with pytest.raises(GeneratorError, match="only we can write"):
            build()
