"""A running BIRD kept in step with a rendered configuration.

One step is: write the text beside the configuration file, have ``bird -p`` read it, put it in the file's
place, tell the daemon over its control socket to read it. Each may fail without loss: a text the parser
refuses never gets into the file, one the daemon refuses is taken out again and the former file put back, and
a daemon that is not there will read the file when it starts. Nothing happens while the text is the one in
force.

The control socket speaks lines: a code of four digits, a space after the last line of an answer and a dash
before further ones (the codes are in BIRD's programmer's documentation: 0xxx done, 8xxx failed while running,
9xxx not understood).
"""

import asyncio
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_LINE = re.compile(r"(?P<code>\d{4})(?P<more>[ -])(?P<text>.*)")
_TIMEOUT = 30.0
_SECRET_MODE = 0o600  # a configuration has passwords in it


class Outcome(StrEnum):
    """What became of a text."""

    SAME = "in force already"
    APPLIED = "applied"
    WAITING = "written; BIRD is not running"
    REJECTED = "rejected; the former configuration stays"


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome, and what BIRD said where that matters."""

    outcome: Outcome
    said: str = ""


class ControlError(Exception):
    """The control socket did not answer, or with nothing that can be read."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """One BIRD: its program (``bird`` or ``bird6``), its configuration file and its control socket."""

    program: str
    config: Path
    control: Path


class BirdRunner:
    """Keeps one daemon in step. Texts are complete configurations."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self._in_force: str | None = None  # what the daemon has been told and has taken
        self._refused: tuple[str, str] | None = None  # the last text refused, and why

    async def apply(self, text: str) -> Result:
        """Bring the daemon to this text. A text refused before is not tried again.

        A file that cannot be read or written, or a parser that cannot be run, is told like a refusal, but
        tried again the next time.
        """
        if self._refused is not None and self._refused[0] == text:
            return Result(Outcome.REJECTED, self._refused[1])
        try:
            former = self._file()
            if text == former == self._in_force:
                return Result(Outcome.SAME)
            if former != text:
                if complaint := await self._parsed(text):
                    self._refused = (text, complaint)
                    return Result(Outcome.REJECTED, complaint)
                self._put(text)
        except OSError as error:
            return Result(Outcome.REJECTED, f"{error.filename or self.daemon.config}: {error.strerror}")
        try:
            code, said = await command(self.daemon.control, "configure")
        except ControlError as error:
            self._in_force = None
            return Result(Outcome.WAITING, str(error))
        if code >= 8000:
            if former is not None:
                self._put(former)
            self._refused = (text, said)
            return Result(Outcome.REJECTED, said)
        self._in_force, self._refused = text, None
        return Result(Outcome.APPLIED, said)

    async def answers(self) -> bool:
        """Whether the daemon is there. One that is not will have to be told again."""
        try:
            await command(self.daemon.control, "show status")
        except ControlError:
            self._in_force = None
            return False
        return True

    def _file(self) -> str | None:
        try:
            return self.daemon.config.read_text(errors="surrogateescape")
        except FileNotFoundError:
            return None

    def _put(self, text: str) -> None:
        """Put the text in the file's place at once, with the owner and mode the file had."""
        config = self.daemon.config
        descriptor, name = tempfile.mkstemp(dir=config.parent, prefix=f".{config.name}.")
        try:
            with os.fdopen(descriptor, "w", errors="surrogateescape") as file:
                file.write(text)
                if config.exists():
                    status = config.stat()
                    os.fchmod(descriptor, status.st_mode & 0o777)
                    if os.geteuid() == 0:
                        os.fchown(descriptor, status.st_uid, status.st_gid)
                else:
                    os.fchmod(descriptor, _SECRET_MODE)
                file.flush()
                os.fsync(descriptor)
            Path(name).replace(config)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    async def _parsed(self, text: str) -> str:
        """What ``bird -p`` has against the text; empty if nothing."""
        with tempfile.NamedTemporaryFile("w", dir=self.daemon.config.parent, prefix=".checked.") as file:
            file.write(text)
            file.flush()
            process = await asyncio.create_subprocess_exec(
                self.daemon.program,
                "-p",
                "-c",
                file.name,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            output, _ = await process.communicate()
        if process.returncode == 0:
            return ""
        said = output.decode(errors="replace").replace(file.name, str(self.daemon.config.name))
        return " ".join(said.split()) or f"{self.daemon.program} -p ended with {process.returncode}"


async def command(control: Path, words: str) -> tuple[int, str]:
    """Give the code of the last line of BIRD's answer to a command, and its text. Raises ``ControlError``."""
    try:
        async with asyncio.timeout(_TIMEOUT):
            reader, writer = await asyncio.open_unix_connection(str(control))
            try:
                await _answer(reader)  # the greeting
                writer.write(f"{words}\n".encode())
                await writer.drain()
                return await _answer(reader)
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__
        raise ControlError(f"{control}: {reason}") from error


async def _answer(reader: asyncio.StreamReader) -> tuple[int, str]:
    texts = []
    while True:
        line = (await reader.readuntil(b"\n")).decode(errors="replace").rstrip("\n")
        found = _LINE.fullmatch(line)
        if found is None:  # a continuation, which repeats neither code nor dash
            texts.append(line.strip("+ "))
            continue
        texts.append(found["text"])
        if found["more"] == " ":
            return int(found["code"]), " ".join(filter(None, texts))


class Following:
    """All daemons of a node (BIRD 1 has two), by the name of their file in a rendering."""

    def __init__(self, runners: Mapping[str, BirdRunner], told: Callable[[str, Result], None]) -> None:
        self._runners = runners
        self._told = told
        self._last: dict[str, Result] = {}

    async def step(self, texts: Mapping[str, str]) -> bool:
        """Bring every daemon to its text; whether all are in step now. Each news is told once."""
        in_step = True
        for name, runner in self._runners.items():
            await runner.answers()
            result = await runner.apply(texts[name])
            in_step = in_step and result.outcome in (Outcome.SAME, Outcome.APPLIED)
            if result.outcome is not Outcome.SAME and result != self._last.get(name):
                self._told(name, result)
            if result.outcome is Outcome.APPLIED:
                self._last.pop(name, None)
            elif result.outcome is not Outcome.SAME:
                self._last[name] = result
        return in_step
