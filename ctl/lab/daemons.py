"""The processes of a lab: started by argument list, their output in files, their deaths noticed.

Each runs in a session of its own, so that Ctrl-C on the terminal reaches the lab alone, which then ends
them in order. What a killed lab leaves behind is found by the mark in the environment (see `netns`).
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ctl.lab.netns import MARK

MEMBER_MARK = "CAIRN_LAB_MEMBER"  # in the environment of a process and its children: which member they are


class DaemonError(Exception):
    """A process of the lab ended by itself; the text has its last words."""


@dataclass(slots=True)
class Daemon:
    """One running process."""

    name: str
    process: asyncio.subprocess.Process
    log: Path
    ending: bool = False  # we asked it to end, or killed it


@dataclass(slots=True)
class Daemons:
    """All processes the lab has started and not yet buried. Logs go to `directory`."""

    directory: Path
    environment: Callable[[], Mapping[str, str]]
    running: dict[str, Daemon] = field(default_factory=dict)

    async def start(self, name: str, argv: Sequence[str]) -> Daemon:
        """Start a process; its output is appended to `<name>.log`."""
        log = self.directory / f"{name}.log"
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**self.environment(), MEMBER_MARK: name},
                cwd=self.directory,
                start_new_session=True,
            )
        self.running[name] = Daemon(name, process, log)
        return self.running[name]

    def check(self) -> None:
        """Raise DaemonError if a process has ended that nobody asked to."""
        for daemon in self.running.values():
            code = daemon.process.returncode
            if code is not None and not daemon.ending:
                raise DaemonError(
                    f"{daemon.name} ended by itself ({ending_of(code)})\n{last_words(daemon.log)}"
                )

    def expect_end(self, name: str) -> None:
        """A process is about to be killed by somebody else: its end is no surprise."""
        self.running[name].ending = True

    async def kill(self, name: str) -> None:
        """SIGKILL a process and all of its session, and wait for its end."""
        daemon = self.running.pop(name)
        daemon.ending = True
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(daemon.process.pid, signal.SIGKILL)
        await daemon.process.wait()

    async def bury(self) -> None:
        """Kill what is left, and wait for everything to be gone."""
        for name in list(self.running):
            await self.kill(name)


def processes_of(lab: str, member: str) -> list[int]:
    """The pids of a member's processes, in whatever session they are."""
    marks = {f"{MARK}={lab}".encode(), f"{MEMBER_MARK}={member}".encode()}
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and marks <= set((entry / "environ").read_bytes().split(b"\0")):
                found.append(int(entry.name))
    return found


def ending_of(code: int) -> str:
    """How a process ended, in words."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def last_words(log: Path, count: int = 15) -> str:
    """The last lines of a log, indented."""
    lines = log.read_text(errors="replace").splitlines()[-count:]
    return "\n".join(f"    {line}" for line in lines)
