"""The device under test: one contender's processes, from start to certain end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from bench.reflector.contenders import PORT, Contender

READY_TIMEOUT = 30.0
STOP_TIMEOUT = 5.0


class DeviceError(Exception):
    """The contender did not come up; the text ends with what it said."""


class Device:
    """A running contender. Use as a context manager: on leaving, its processes are gone."""

    def __init__(self, contender: Contender, asn: int) -> None:
        self.contender = contender
        base = contender.root / "run"
        base.mkdir(exist_ok=True)
        if contender.name == "openbgpd":
            _openbgpd_home(contender.root)
        self._directory = Path(tempfile.mkdtemp(prefix="bench-", dir=base))
        inside = f"/run/{self._directory.name}"
        config = self._directory / contender.config_name
        config.write_text(contender.config(asn, inside))
        config.chmod(contender.config_mode)
        self._log_path = self._directory / "output"
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                contender.argv(inside),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def __enter__(self) -> Device:
        try:
            self._wait_until_listening()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _wait_until_listening(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT
        while not listening(PORT):
            if self._process.poll() is not None:
                raise DeviceError(f"{self.contender.title} ended at once: {self.output()}")
            if time.monotonic() > deadline:
                raise DeviceError(f"{self.contender.title} does not listen: {self.output()}")
            time.sleep(0.02)
        time.sleep(0.3)

    def pids(self) -> list[int]:
        """The process and all its descendants."""
        return descendants(self._process.pid)

    def peak_memory(self) -> float:
        """VmHWM in MB, summed over the processes (shared pages count in each)."""
        return sum(peak_memory(pid) for pid in self.pids())

    def alive(self) -> bool:
        return self._process.poll() is None

    def output(self) -> str:
        """The last words of the daemon."""
        try:
            return self._log_path.read_text(errors="replace")[-400:].strip()
        except OSError:
            return ""

    def stop(self) -> None:
        """End the processes: SIGTERM, after some seconds SIGKILL. Safe to call twice."""
        pids = self.pids()
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for pid in pids[1:]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        while listening(PORT):
            time.sleep(0.02)
        shutil.rmtree(self._directory, ignore_errors=True)


def _openbgpd_home(root: Path) -> None:
    """OpenBGPD's children chroot into their user's home, which /run has lost."""
    home = root / "run/openbgpd"
    home.mkdir(exist_ok=True)
    home.chmod(0o755)


def descendants(pid: int) -> list[int]:
    """`pid` and every process below it, parents first."""
    found = [pid]
    for parent in found:
        for path in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found.extend(int(word) for word in path.read_text().split())
            except OSError:
                continue
    return found


def peak_memory(pid: int) -> float:
    """VmHWM of one process in MB; 0 if it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1000
    return 0.0


def listening(port: int) -> bool:
    """Whether a TCP socket of this network namespace listens on the port."""
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(path).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                return True
    return False
