"""The load generator as a Python object: compile it, start it, give it commands.

The C sources are compiled once per content (the hash of the sources and flags names the
program) into bench/out/, which is never committed; where that is not writable, into one of
our own in the system's temporary directory, where anybody could have put such a program.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

SOURCES = Path(__file__).parent / "loadgen"
OUT = Path(__file__).parents[1] / "out"
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra")
GRACE = 15.0  # seconds past a command's own timeout after which the generator itself is given up


class GeneratorError(Exception):
    """The generator cannot be built, died, or met something that is not BGP."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one command measured. `seconds` counts to the last octet the last client needed."""

    ok: bool
    seconds: float
    data: dict[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.data[key]

    def why(self) -> str:
        """The reason of a failure, in a few words."""
        data = self.data
        if data.get("lost"):
            return f"lost {data['lost']} sessions ({data['last_close']})"
        if data.get("foreign") or data.get("altered"):
            return f"{data['foreign']} foreign prefixes, {data['altered']} altered attributes"
        if data.get("inexact"):
            return f"{data['inexact']} clients inexact: {data['missing']} missing, {data['surplus']} too many"
        if "differing" in data and not data.get("late"):
            return (
                f"receivers hold {data['held']} of {data['prefixes']} prefixes, "
                f"{data['differing']} of them other routes than the first"
            )
        return f"> {self.seconds:.0f} s ({data['established']} up, {data['exact']} of {data['due']} exact)"


def _private() -> Path:
    """A directory that nobody else can write. Raises GeneratorError."""
    directory = Path(tempfile.gettempdir()) / f"cairn-bench-{os.geteuid()}"
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise GeneratorError(f"{directory} is not a directory that only we can write: remove it")
    return directory


def build(compiler: str | None = None) -> Path:
    """The compiled generator's path. Raises GeneratorError without a C compiler."""
    sources = sorted(SOURCES.glob("*.c"))
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for path in sorted(SOURCES.iterdir()):
        digest.update(path.read_bytes())
    name = f"loadgen-{digest.hexdigest()[:12]}"
    try:
        OUT.mkdir(exist_ok=True)
        directory = OUT
    except OSError:
        directory = _private()
    program = directory / name
    if program.exists():
        return program
    found = compiler or shutil.which("gcc") or shutil.which("cc")
    if found is None:
        raise GeneratorError("no C compiler: install gcc and libc6-dev (or set up cc)")
    unfinished = directory / f"{name}.{os.getpid()}"
    done = subprocess.run(
        [found, *FLAGS, "-o", str(unfinished), *map(str, sources)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise GeneratorError(f"the load generator does not compile: {done.stderr[-2000:]}")
    unfinished.replace(program)
    return program


class Generator:
    """One running load generator; on leaving the context its sessions and process are gone."""

    def __init__(self, options: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [str(build()), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self._buffer = b""

    def __enter__(self) -> Generator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def command(self, text: str, timeout: float = 10.0) -> Answer:
        """Send one command and wait for its answer. Raises GeneratorError if none comes."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it died: its last words are read below
            self._process.stdin.write(text.encode() + b"\n")
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._buffer:
            readable, _, _ = select.select([descriptor], [], [], timeout + GRACE)
            chunk = os.read(descriptor, 65536) if readable else b""
            if not chunk:
                raise GeneratorError(f"the load generator does not answer '{text.split(maxsplit=1)[0]}'")
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        data = json.loads(line)
        if data.get("fatal"):
            raise GeneratorError(data["reason"])
        return Answer(data["ok"], data["seconds"], data)
