"""What holds for all commands: help with an example that is one, output for programs, colours, exit codes.

Run in this process: what a process of its own adds is tried elsewhere, and a hundred of them take minutes.
"""

import asyncio
import io
import json
import os
import re
import shlex
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from bgpd.telemetry.http import HttpOptions, StatusServer
from ctl.main import application, main
from ctl.output import Format
from tests.ctl.cairn import Done
from tests.ctl.test_resource_commands import CLUSTER, PEER
from tests.telemetry.source import Source, peer

NOWHERE = "http://127.0.0.1:1"
SHOWS: dict[str, list[str]] = {
    "apply": ["--dry-run", "-f", "FILE"],
    "delete": ["--dry-run", "node", "node-1"],
    "get": ["nodes"],
    "validate": ["-f", "FILE"],
    "plan": ["node-1"],
    "diff": ["-f", "FILE"],
    "explain": ["10.77.1.5"],
    "status": ["--api", "URL"],
    "peers": ["--api", "URL"],
    "routes": ["--api", "URL"],
    "watch": ["--seconds", "0", "--api", "URL"],
    "top": ["--once", "--every", "0.2", "--api", "URL"],
    "doctor": ["--port", "0"],
}
PRINT_FILES_OR_TELL = {
    "render bird", "render exabgp", "render tor", "bird run", "lab", "bench", "agent", "reflector",
    *(f"agent {verb}" for verb in ("drain", "undrain")),
    *(f"reflector {verb}" for verb in ("drain", "undrain", "enable", "disable", "reset", "refresh")),
}  # fmt: skip
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
MOMENTS = re.compile(r"(^|_)(at|since)$|(At|Since|Timestamp)$")
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-7]|9[0-7])m")


def leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    below = getattr(command, "commands", {})
    if name != "cairn" and (not below or command.invoke_without_command):
        yield name.removeprefix("cairn "), command
    for word, found in below.items():
        yield from leaves(f"{name} {word}", found)


ROOT = typer.main.get_command(application(None))
COMMANDS = dict(leaves("cairn", ROOT))


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("CAIRN_", "ETCD_", "NO_COLOR", "FORCE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A service that answers, in a thread of its own because commands have their own loops."""
    source = Source()
    source.peer_list = [peer("rr1"), peer("rr2", "ACTIVE", last_reason="connection refused")]
    source.ring.add(time.time(), "session.up", "rr1 is up")
    source.ring.add(time.time(), "session.down", "rr2 is down")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = StatusServer(source, HttpOptions())
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(60)
    yield server.url
    asyncio.run_coroutine_threadsafe(server.stop(), loop).result(60)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    (tmp_path / "store/cluster.yaml").write_text(CLUSTER)
    (tmp_path / "file.yaml").write_text(PEER % 65001)
    return tmp_path


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(monkeypatch: pytest.MonkeyPatch, *words: str, terminal: bool = False) -> Done:
    out, err = (Terminal() if terminal else io.StringIO() for _ in range(2))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["cairn", *words])
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        try:
            main()
            code: Any = 0
        except SystemExit as end:
            code = end.code
    return Done(int(code or 0), out.getvalue(), err.getvalue())


def words_for(name: str, place: Path, url: str) -> list[str]:
    found = {"FILE": str(place / "file.yaml"), "URL": url}
    words = [name, *(found.get(word, word) for word in SHOWS[name])]
    if name not in ("validate", "status", "peers", "routes", "watch", "top", "doctor"):
        words += ["--datastore", str(place / "store")]
    return words


def options(name: str) -> set[str]:
    return {option for parameter in COMMANDS[name].params for option in parameter.opts}


def test_every_command_is_accounted_for() -> None:
    assert set(COMMANDS) == set(SHOWS) | PRINT_FILES_OR_TELL


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_has_an_example_that_is_understood(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    example = re.fullmatch(r"Example: (cairn .*)", command.epilog or "")
    assert example, command.epilog
    words = shlex.split(example[1])[1:]
    assert words[: len(name.split())] == name.split()
    rest = words[len(name.split()) :]
    cut = next((at for at, word in enumerate(rest) if word == ">"), len(rest))
    command.make_context(name, rest[:cut]).close()
    for parameter in command.params:
        assert parameter.name == "help" or getattr(parameter, "help", None), parameter.name


@pytest.mark.parametrize("name", SHOWS)
def test_the_same_for_people_and_for_programs(
    name: str, place: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {form: run(monkeypatch, *words_for(name, place, url), "-o", form.value) for form in Format}
    assert {done.code for done in said.values()} <= {0, 1}, said
    for done in said.values():
        assert done.out.strip(), done
        assert "\x1b" not in done.out, "no terminal, no colours"
    assert said[Format.TABLE].out != said[Format.JSON].out
    text = said[Format.JSON].out
    found = [json.loads(line) for line in text.splitlines()] if name == "watch" else [json.loads(text)]
    assert [shape(each) for each in yaml.safe_load_all(said[Format.YAML].out)] == [
        shape(each) for each in found
    ]
    times = [each for document in found for each in moments(document)]
    assert all(isinstance(each, str) and RFC3339.fullmatch(each) for each in times), times
    if name in ("status", "peers", "watch", "top"):
        assert times


def shape(value: Any) -> Any:
    """A document without its values, which differ from one moment to the next."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    return [shape(each) for each in value] if isinstance(value, list) else None


def moments(value: Any) -> Iterator[Any]:
    """The values of all fields that are called like a time."""
    if isinstance(value, dict):
        for key, each in value.items():
            if MOMENTS.search(key) and each is not None:
                yield each
            yield from moments(each)
    elif isinstance(value, list):
        for each in value:
            yield from moments(each)


@pytest.mark.parametrize("name", SHOWS)
def test_colours_are_for_terminals_that_want_them(
    name: str, place: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    coloured = run(monkeypatch, *words_for(name, place, url), terminal=True)
    if name in ("status", "peers", "top", "doctor"):
        assert COLOUR.search(coloured.out), coloured
    monkeypatch.setenv("NO_COLOR", "1")
    plain = run(monkeypatch, *words_for(name, place, url), terminal=True)
    assert plain.out.strip()
    assert not COLOUR.search(plain.out + plain.err)


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"bench"}))  # which becomes another program
def test_exit_codes(name: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = run(monkeypatch, *name.split(), "--no-such-option")
    assert (wrong.code, "no-such-option" in wrong.err) == (2, True), wrong
    if "--api" in options(name):
        peer = ["rr1"] if "peer" in options(name) else []
        gone = run(monkeypatch, *name.split(), *peer, "--api", NOWHERE)
        assert gone.code == 3, gone
        assert NOWHERE in gone.out + gone.err, "what cannot be reached is named"
    if "--filename" in options(name):
        (place / "bad.yaml").write_text("kind: BGPPeer\nmetadata: {name: a}\nspec: {asNumbr: 1}\n")
        words = [name, "-f", str(place / "bad.yaml")]
        if "--datastore" in options(name):
            words += ["--datastore", str(place / "store")]
        bad = run(monkeypatch, *words)
        assert (bad.code, "bad.yaml" in bad.err) == (4, True), bad
