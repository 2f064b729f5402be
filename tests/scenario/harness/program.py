"""One running program of a scenario: started on a host, known by its pid, its output in a file."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ctl.lab.netns import Namespace


class Program:
    """A process in a namespace. `stop` asks, `kill` does not; both return only when it is gone."""

    def __init__(
        self,
        name: str,
        namespace: Namespace,
        argv: Sequence[str | Path],
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._told_to_go = False
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                namespace.argv(*argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=namespace.environment(environment),
                cwd=log.parent,
            )

    @property
    def pid(self) -> int:
        """The program's own pid (`ip netns exec` has become it)."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    @property
    def died(self) -> bool:
        """Whether it ended although nobody told it to."""
        return not self._told_to_go and self._process.poll() is not None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this process alone."""
        self._told_to_go |= number in (signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGQUIT)
        self._process.send_signal(number)

    def wait(self, timeout: float) -> int:
        """Wait for it to end by itself; the exit code."""
        return self._process.wait(timeout)

    def kill(self) -> None:
        """SIGKILL, as a crash: no goodbye, and what it had started lives on."""
        self.signal(signal.SIGKILL)
        self._process.wait()

    def stop(self, timeout: float = 60.0) -> int:
        """SIGTERM and wait; the exit code. What does not go in time is killed, and the test fails."""
        self.signal(signal.SIGTERM)
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} ignored SIGTERM for {timeout} s\n{self.tail()}") from None

    def close(self) -> None:
        """Make sure it is gone, with everything in its session; used at teardown, where nothing may raise."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(3.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def tail(self, lines: int = 40) -> str:
        """The end of its output."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


def children(pid: int) -> list[int]:
    """Pids of a process's children, recursively."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            if int(stat.rpartition(")")[2].split()[1]) == pid:
                found += [int(entry.name), *children(int(entry.name))]
    return found


def command_line(pid: int) -> str:
    """The arguments of a process, joined by blanks; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def kill_and_wait(pid: int, timeout: float = 60.0) -> None:
    """SIGKILL a process that is not ours to wait for, and return when it is gone (or a zombie)."""
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + timeout
    while command_line(pid):
        assert time.monotonic() < deadline, f"process {pid} survived SIGKILL"
        time.sleep(0.005)
