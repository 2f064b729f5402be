"""Real daemons and namespaces for the agent's tests; all of it is cleaned up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from pyroute2 import netns

from tests.scenario.harness.bird import Moment

needs_root = pytest.mark.scenario
needs_bird = [pytest.mark.peer("bird")]


def sh(command: str) -> str:
    """Run a line of shell; its output."""
    return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout


@contextlib.contextmanager
def short_directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cairn-") as name:
        yield Path(name)


async def eventually(what: Callable[[], bool | Awaitable[bool]], seconds: float = 90.0) -> None:
    """Wait until something is so; fail if it does not become so."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        found = what()
        if (await found) if isinstance(found, Awaitable) else found:
            return
        if asyncio.get_running_loop().time() > deadline:
            pytest.fail(f"not so within {seconds} s: {what}")
        await asyncio.sleep(0.05)


@contextlib.contextmanager
def namespace(name: str) -> Iterator[str]:
    """A network namespace with its loopback up, gone afterwards with everything in it."""
    full = f"cairn-{os.getpid()}-{name}"
    netns.create(full)
    try:
        sh(f"ip -n {full} link set lo up")
        yield full
    finally:
        for pid in sh(f"ip netns pids {full}").split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        netns.remove(full)


class Bird:
    """A BIRD 2 with a given configuration, on the loopback or in a namespace."""

    def __init__(self, directory: Path, configuration: str, inside: str | None = None) -> None:
        self.directory = directory
        self.control = directory / "bird.ctl"
        self.inside = inside
        self._prefix = ["ip", "netns", "exec", inside] if inside else []
        (directory / "bird.conf").write_text(configuration)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.control.unlink(missing_ok=True)
        files = ["-c", self.directory / "bird.conf", "-s", self.control, "-P", self.directory / "bird.pid"]
        with (self.directory / "bird.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self._prefix, "bird", "-f", *map(str, files)], stdout=log, stderr=log
            )

    def ask(self, question: str) -> str:
        done = subprocess.run(
            ["birdc", "-s", str(self.control), *question.split()], capture_output=True, text=True, check=False
        )
        return done.stdout

    def established(self, protocol: str = "agent") -> bool:
        return "Established" in self.ask(f"show protocols {protocol}")

    def established_since(self, protocol: str = "agent") -> Moment | None:
        found = re.search(
            rf"^{protocol}\s+BGP\s+\S+\s+up\s+(\S+)\s+Established", self.ask("show protocols"), re.MULTILINE
        )
        return Moment.read(found[1]) if found else None

    def routes(self, protocol: str = "agent") -> dict[str, int | None]:
        """Prefix → MED of what was learned from a protocol."""
        found: dict[str, int | None] = {}
        prefix = ""
        for line in self.ask(f"show route protocol {protocol} all").splitlines():
            if head := re.match(r"^([0-9a-f.:]+/\d+)\s", line):
                prefix = head[1]
                found[prefix] = None
            elif med := re.match(r"^\s+BGP\.med: (\d+)", line):
                found[prefix] = int(med[1])
        return found

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait()
            self.process = None


def exabgp_pid(run_directory: Path) -> int:
    return int(json.loads((run_directory / "process.json").read_text())["pid"])


def is_running(pid: int) -> bool:
    """Whether a process lives; one that nobody has buried yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill_exabgp(run_directory: Path) -> None:
    """End the ExaBGP of a run directory, if there is one."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        os.kill(exabgp_pid(run_directory), signal.SIGKILL)


def kill_api_process(run_directory: Path) -> None:
    """End the handover program of an ExaBGP."""
    pid = exabgp_pid(run_directory)
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)


@contextlib.contextmanager
def python(
    code: str, *arguments: str, feed: str = "", inside: str | None = None, output: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A Python of its own running some code in the project's directory; killed at the end at the latest."""
    prefix = ["ip", "netns", "exec", inside] if inside else []
    with (output or Path(os.devnull)).open("wb") as said:
        started = subprocess.Popen(
            [*prefix, sys.executable, "-c", code, *arguments],
            stdin=subprocess.PIPE,
            stdout=said,
            cwd=Path(__file__).parents[2],
        )
    try:
        assert started.stdin is not None
        started.stdin.write(feed.encode())
        started.stdin.close()
        yield started
    finally:
        started.kill()
        started.wait()
