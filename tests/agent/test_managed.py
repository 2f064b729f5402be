"""What the agent tells its service manager, played by a datagram socket, and what it hears."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator
from functools import partial

import pytest
import yaml

from tests.agent.cluster import Cluster
from tests.agent.ground import eventually, needs_root, sh

pytestmark = needs_root


class Manager:
    """Keeps the states it is told of, in their order."""

    def __init__(self, path: str) -> None:
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(path)
        asyncio.get_running_loop().add_reader(self._socket, self._hear)

    def _hear(self) -> None:
        state = self._socket.recv(1000).decode().partition("\n")[0]
        if state != "WATCHDOG=1":
            self.heard.append(state)

    def has_heard(self, *states: str) -> bool:
        return self.heard == list(states)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()


@pytest.fixture
async def manager(cluster: Cluster) -> AsyncIterator[Manager]:
    path = str(cluster.directory / "notify")
    made = Manager(path)
    cluster.a.environment["NOTIFY_SOCKET"] = path
    yield made
    made.close()


async def reload(cluster: Cluster, **changes: object) -> None:
    text = yaml.safe_dump({**cluster.a.config, **changes})
    await asyncio.to_thread((cluster.directory / "a.yaml").write_text, text)
    assert cluster.a.process is not None
    cluster.a.process.send_signal(signal.SIGHUP)


async def test_a_reload_is_no_stop(cluster: Cluster, manager: Manager) -> None:
    a = cluster.a
    a.start()
    await eventually(partial(manager.has_heard, "READY=1"))
    await reload(cluster, metricc=1)
    await eventually(lambda: a.said("the new configuration is refused; the old one stays") == 1)
    assert manager.heard == ["READY=1"]
    await reload(cluster, staticRoutes=["198.51.100.0/24"])
    await eventually(partial(manager.has_heard, "READY=1", "RELOADING=1", "READY=1"))
    await reload(cluster, http={"address": "192.0.2.1", "port": 9178})
    await eventually(lambda: a.said("the new configuration cannot be used; the old one is back") == 1)
    told = ["READY=1", "RELOADING=1", "READY=1", "RELOADING=1", "READY=1"]
    await eventually(partial(manager.has_heard, *told))
    await asyncio.to_thread(a.stop)
    await eventually(partial(manager.has_heard, *told, "STOPPING=1"))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGUSR2, 5)])
async def test_an_end_that_comes_with_a_reload_is_one(
    cluster: Cluster, manager: Manager, number: signal.Signals, status: int
) -> None:
    cluster.a.start()
    await eventually(partial(manager.has_heard, "READY=1"))
    process = cluster.a.process
    assert process is not None
    await reload(cluster, staticRoutes=["198.51.100.0/24"])
    process.send_signal(number)
    assert await asyncio.to_thread(process.wait, 20) == status


async def test_a_signal_at_the_last_moment_changes_no_exit_status(cluster: Cluster, manager: Manager) -> None:
    cluster.a.start()
    await eventually(partial(manager.has_heard, "READY=1"))
    process = cluster.a.process
    assert process is not None
    process.send_signal(signal.SIGUSR2)
    while process.poll() is None:
        process.send_signal(signal.SIGHUP)
        await asyncio.sleep(0.001)
    assert process.returncode == 5


async def test_a_reload_takes_no_drain_back(cluster: Cluster) -> None:
    a, b = cluster.a, cluster.b
    a.config["http"] = {"port": 9178}
    cluster.block("a", "10.77.0.0/26")
    a.start()
    b.start()
    await eventually(lambda: "10.77.0.0/26" in b.routes())

    def ask(method: str, path: str) -> str:
        request = f"r.Request('http://127.0.0.1:9178/api/v1/{path}', method='{method}')"
        script = f"import urllib.request as r; print(r.urlopen({request}).read())"
        return sh(f'ip netns exec {a.inside} {sys.executable} -c "{script}"')

    ask("POST", "drain")
    await eventually(lambda: "10.77.0.0/26" not in b.routes())
    await reload(cluster, maxRoutes=5000)
    await eventually(lambda: a.said("agent started") == 2 and a.said("in sync") == 2)
    assert "draining" in ask("GET", "status")
    ask("POST", "undrain")
    await eventually(lambda: "10.77.0.0/26" in b.routes())
