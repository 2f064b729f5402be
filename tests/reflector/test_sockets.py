"""The order in which the kernel closes what a killed process had open."""

import os
import resource
import signal
import socket
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import pytest

from reflector import sockets

LOOPBACK = ip_address("127.0.0.1")


def test_a_peer_that_comes_back_the_moment_we_are_killed_is_refused() -> None:
    """The process has other sessions, which lie between its listening socket and the peer's."""
    for _ in range(20):
        listener = sockets.bound(LOOPBACK, 0)
        sockets.listen(listener)
        address = listener.getsockname()
        pid = os.fork()
        if pid == 0:
            with suppress(BaseException):
                others = [socket.socket() for _ in range(500)]
                listener.setblocking(True)
                session, _peer = listener.accept()
                session.sendall(b"%3d" % len(others))
                signal.pause()
            os._exit(1)
        listener.close()
        with socket.create_connection(address) as peer, socket.socket() as again:
            assert peer.recv(3) == b"500"
            os.kill(pid, signal.SIGKILL)
            with suppress(ConnectionError):
                peer.recv(1)
            with pytest.raises(ConnectionRefusedError):
                again.connect(address)
        os.waitpid(pid, 0)


def test_few_descriptors_are_no_obstacle() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir()) + 8
    resource.setrlimit(resource.RLIMIT_NOFILE, (low, hard))
    try:
        with sockets.bound(LOOPBACK, 0) as listener:
            sockets.listen(listener)
            with socket.create_connection(listener.getsockname()):
                listener.accept()[0].close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
