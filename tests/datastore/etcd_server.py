"""A real etcd on free ports, controlled by its process id, and ways to come between it and its clients."""

import asyncio
import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bgpd.datastore.etcd_options import Endpoint, EtcdOptions, Timing
from tests.ports import free_port

FAST = Timing(
    request=8.0,
    silence=8.0,
    keepalive=10.0,
    backoff_first=0.02,
    backoff_limit=0.2,
    compare_every=600.0,
    settle=0.1,
)
"""What failed is tried again soon; an answer may take its time on a busy machine."""

IMPATIENT = replace(FAST, request=2.0, silence=1.0)
"""For tests in which somebody does not answer, and that is to be noticed soon."""

needs_etcd = [pytest.mark.etcd]


class Etcd:
    """One member. `kill` is SIGKILL; `start` again continues with the same data."""

    def __init__(self, directory: Path, *settings: str, scheme: str = "http") -> None:
        self.port = free_port()
        self._peer_port = free_port()
        self._directory = directory
        self._log = directory.with_name(f"{directory.name}.log")
        self._settings = settings
        self._scheme = scheme
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("127.0.0.1", self.port)

    def options(self, timing: Timing = FAST) -> EtcdOptions:
        return EtcdOptions((self.endpoint,), timing=timing)

    def start(self, *, wait: bool = True) -> None:
        client = f"{self._scheme}://127.0.0.1:{self.port}"
        peer = f"http://127.0.0.1:{self._peer_port}"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *("etcd", "--data-dir", str(self._directory), "--name", "one", "--logger", "zap"),
                    *("--listen-client-urls", client, "--advertise-client-urls", client),
                    *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                    *("--initial-cluster", f"one={peer}", "--log-level", "error", "--unsafe-no-fsync"),
                    *("--heartbeat-interval", "20", "--election-timeout", "200"),
                    *self._settings,
                ],
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while wait and self._process.poll() is None and time.monotonic() < deadline:
            if self.control("get", "ready", check=False, patience=3).returncode == 0:
                return
            time.sleep(0.05)
        if wait:
            self.kill()
            raise TimeoutError(f"etcd did not start: {self._log.read_text()[-2000:]}")

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def wipe(self) -> None:
        """Lose all data; to be called while it is not running."""
        shutil.rmtree(self._directory)

    def save(self, copy: Path) -> None:
        """Copy all data; to be called while it is not running."""
        shutil.copytree(self._directory, copy)

    def restore(self, copy: Path) -> None:
        """Be again as when `copy` was saved; to be called while it is not running."""
        self.wipe()
        shutil.copytree(copy, self._directory)

    def control(
        self, *words: str, check: bool = True, patience: int = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run etcdctl, which waits for an answer for `patience` seconds."""
        endpoint = f"http://127.0.0.1:{self.port}"
        return subprocess.run(
            ["etcdctl", "--endpoints", endpoint, "--command-timeout", f"{patience}s", *words],
            env={**os.environ, "ETCDCTL_API": "3"},
            capture_output=True,
            text=True,
            check=check,
        )

    def put(self, key: str, value: str) -> None:
        self.control("put", "--", key, value)

    def delete(self, *words: str) -> None:
        self.control("del", *words)

    def compact(self) -> None:
        """Forget everything but the present."""
        text = self.control("endpoint", "status", "-w", "json").stdout
        revision = text.partition('"revision":')[2].partition(",")[0]
        self.control("compact", revision)


class Relay:
    """Forwards TCP to a port until told to stop; then it is a black hole: connected, silent, and for ever."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.accepted = 0
        self._target = target
        self._open = asyncio.Event()
        self._open.set()
        self._answers = asyncio.Event()
        self._answers.set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def swallow(self) -> None:
        self._open.clear()
        self._answers.clear()

    def swallow_answers(self) -> None:
        self._answers.clear()

    def forward(self) -> None:
        self._open.set()
        self._answers.set()

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            back, forth = await asyncio.open_connection("127.0.0.1", self._target)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pump(reader, forth, self._open))
                    group.create_task(self._pump(back, writer, self._answers))
            finally:
                forth.close()
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, open: asyncio.Event
    ) -> None:
        while data := await reader.read(65536):
            await open.wait()
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError
