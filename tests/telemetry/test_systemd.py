"""systemd's side of the socket, played by a datagram socket."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bgpd.telemetry.systemd import SystemdNotifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(path)
        server.settimeout(5)
        yield server, path


def test_messages(manager: tuple[socket.socket, str]) -> None:
    server, path = manager
    notifier = SystemdNotifier({"NOTIFY_SOCKET": path})
    notifier.ready("3 peers\nup")
    assert server.recv(1000) == b"READY=1\nSTATUS=3 peers up"
    notifier.reloading()
    first, second = server.recv(1000).split(b"\n")
    assert first == b"RELOADING=1"
    assert second.startswith(b"MONOTONIC_USEC=")
    assert int(second.split(b"=")[1]) > 0
    notifier.status("busy")
    assert server.recv(1000) == b"STATUS=busy"
    notifier.stopping()
    assert server.recv(1000) == b"STOPPING=1"


def test_abstract_socket() -> None:
    name = f"cairn-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(f"\0{name}")
        server.settimeout(5)
        SystemdNotifier({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert server.recv(1000) == b"READY=1"


async def test_watchdog_is_fed_only_while_it_works(manager: tuple[socket.socket, str]) -> None:
    server, path = manager
    server.setblocking(False)
    healthy = [True]
    asked: asyncio.Queue[bool] = asyncio.Queue()

    def ask() -> tuple[bool, str]:
        asked.put_nowait(healthy[0])
        return healthy[0], "exabgp is gone"

    environ = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "20000", "WATCHDOG_PID": str(os.getpid())}
    task = asyncio.create_task(SystemdNotifier(environ).feed_watchdog(ask))
    loop = asyncio.get_running_loop()
    assert await asyncio.wait_for(loop.sock_recv(server, 100), 5) == b"WATCHDOG=1"
    assert await asyncio.wait_for(loop.sock_recv(server, 100), 5) == b"WATCHDOG=1"
    healthy[0] = False
    while True:  # drain what was sent before
        try:
            server.recv(100)
        except BlockingIOError:
            break
    refused = 0
    while refused < 3:
        refused += not await asyncio.wait_for(asked.get(), 5)
    with pytest.raises(BlockingIOError):
        server.recv(100)
    task.cancel()


async def test_what_has_just_started_is_no_error_yet(
    manager: tuple[socket.socket, str], caplog: pytest.LogCaptureFixture
) -> None:
    server, path = manager
    server.setblocking(False)
    said = iter([(False, "not read yet"), (True, ""), (False, "exabgp is gone")])
    done = asyncio.Event()

    def ask() -> tuple[bool, str]:
        found = next(said, (True, "later"))
        if found[1] == "later":
            done.set()
        return found

    environ = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "20000", "WATCHDOG_PID": str(os.getpid())}
    task = asyncio.create_task(SystemdNotifier(environ).feed_watchdog(ask))
    await asyncio.wait_for(done.wait(), 30)
    task.cancel()
    assert caplog.messages == ["watchdog not fed: exabgp is gone"]


async def test_without_systemd_nothing_happens() -> None:
    notifier = SystemdNotifier({})
    notifier.ready("x")
    await notifier.feed_watchdog(lambda: (True, ""))
    other = SystemdNotifier({"NOTIFY_SOCKET": "/nonexistent/x", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"})
    other.ready()  # a manager that is gone is no reason to fail
    await other.feed_watchdog(lambda: (True, ""))  # the watchdog is for another process
