"""The reflector as a process of its own: SIGHUP, a bad configuration, SIGTERM."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from bgpd.wire.capabilities import GracefulRestart
from bgpd.wire.iana import CeaseSubcode
from bgpd.wire.nlri import IPV4_UNICAST
from reflector import service
from reflector.config import load
from tests.ports import free_port
from tests.reflector.clients import Client, clients, until

ROOT = Path(__file__).resolve().parents[2]
P = "10.1.0.0/24"


class Program:
    """`python -m reflector` on a configuration file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "reflector.yaml"
        self.lines: list[str] = []
        self.process: asyncio.subprocess.Process | None = None
        self.port = self.asn = 0

    def configure(self, text: str | None = None, **config: Any) -> None:
        document = {
            "asn": 65000,
            "routerId": "10.255.255.254",
            "listen": {"address": "127.0.0.1", "port": 0},
            "clients": [{"prefix": "127.0.0.0/24"}],
        } | config
        self.path.write_text(text or yaml.safe_dump(document))

    async def start(self) -> None:
        await self.spawn()
        await until(lambda: self.port or self.process_ended)
        assert self.port, self.lines

    async def spawn(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "reflector",
            str(self.path),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, "KEY": "secret"},
        )
        self.reading = asyncio.create_task(self._read())

    @property
    def process_ended(self) -> bool:
        return self.process is not None and self.process.returncode is not None

    async def _read(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        async for raw in self.process.stdout:
            line = raw.decode()
            self.lines.append(line)
            if "reflector ready" in line:
                digits = line.partition("ports")[2]
                self.asn = int(line.partition('"asn": ')[2].partition(",")[0])
                self.port = int("".join(c for c in digits.partition("]")[0] if c.isdigit()))

    def said(self, words: str) -> bool:
        return any(words in line for line in self.lines)

    @property
    def refusals(self) -> int:
        return sum("refused" in line for line in self.lines)

    def refused_since(self, count: int) -> bool:
        return self.refusals > count

    def hang_up(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    async def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        code = await asyncio.wait_for(self.process.wait(), 20)
        await self.reading
        return code


@pytest.fixture
async def program(tmp_path: Path) -> AsyncIterator[Program]:
    program = Program(tmp_path)
    program.configure()
    await program.start()
    yield program
    if program.process is not None and program.process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            program.process.kill()
        await program.stop(signal.SIGKILL)


async def test_sighup_takes_a_change_live_and_refuses_a_bad_one_whole(program: Program) -> None:
    async with clients(program.port, 1, 2) as (a, b):
        program.configure(clients=[{"prefix": "127.0.0.0/24"}, {"prefix": "127.0.1.0/24"}])
        program.hang_up()
        await until(lambda: program.said("configuration applied"))
        async with clients(program.port, 250) as (c,):
            for bad in (
                {"text": "asn: [65000"},
                {"clients": [{"prefix": "127.0.0.0/24", "holdTime": 2}]},
                {"asn": 65001},
                {"listen": {"address": "127.0.0.1", "port": 1}},
                {"http": {"port": 1}},
                {"name": "another"},
                {"clients": [{"prefix": "127.0.0.0/24", "password": {"env": "MISSING"}}]},
                {"clients": [{"prefix": "127.0.0.0/24"}, {"prefix": "127.0.0.0/24", "holdTime": 30}]},
            ):
                before = program.refusals
                program.configure(**bad)
                program.hang_up()
                await until(partial(program.refused_since, before))
            a.announce(P)
            await until(lambda: b.has(P) and c.has(P))
            assert a.closed is b.closed is c.closed is None


DECLARED = """\
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata: {name: default}
spec: {asNumber: %d, nodeToNodeMeshEnabled: false}
---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: rr}
spec: {bgp: {ipv4Address: 127.0.0.1/8, routeReflectorClusterID: %s}}
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: client}
spec: {node: rr, peerIP: 127.0.0.3, asNumber: %d}
"""


async def test_another_as_or_cluster_id_in_the_datastore_is_taken_by_beginning_anew(tmp_path: Path) -> None:
    """The process stays the same to its supervisor, and goes on following."""
    store = tmp_path / "store"
    store.mkdir()
    program = Program(tmp_path)
    listen = {"address": "127.0.0.1", "port": 0}
    program.configure(yaml.safe_dump({"node": "rr", "datastore": str(store), "listen": listen}))

    async def declare(asn: int, cluster_id: str) -> None:
        await asyncio.to_thread((store / "all.yaml").write_text, DECLARED % (asn, cluster_id, asn))

    await declare(65000, "244.0.0.1")
    await program.start()
    assert program.process is not None
    try:
        for asn, cluster_id in ((65010, "244.0.0.1"), (65010, "244.0.0.2"), (65000, "244.0.0.2")):
            before, port = program.asn, program.port
            client = await Client(1, port, asn=before).up()
            await declare(asn, cluster_id)
            await until(lambda client=client: client.closed is not None)  # type: ignore[misc]  # a default fixes it
            assert client.notification is not None
            assert b"begins anew" in client.notification.data
            await until(lambda port=port: program.port != port)  # type: ignore[misc]  # a default fixes it
            assert program.asn == asn
            await client.close()
        client = await Client(1, program.port, asn=65000).up()
        await client.close()
        assert not program.process_ended
    finally:
        assert await program.stop() == 0


async def test_sighup_counts_while_the_datastore_is_waited_for(tmp_path: Path) -> None:
    program = Program(tmp_path)
    declared = {"node": "rr", "datastore": "etcd://127.0.0.1:1"}
    program.configure(yaml.safe_dump(declared))
    await program.spawn()
    try:
        await until(lambda: program.said("waiting for the datastore"))
        program.configure(yaml.safe_dump({**declared, "node": "another"}))
        program.hang_up()
        await until(lambda: program.said("node is fixed while the reflector runs"))
        program.configure(yaml.safe_dump({**declared, "logLevel": "debug"}))
        program.hang_up()
        await until(lambda: program.said("configuration applied"))
    finally:
        assert await program.stop() == 0


async def test_sigterm_ends_with_a_cease_that_says_so(program: Program) -> None:
    async with clients(program.port, 1) as (a,):
        assert await program.stop() == 0
        await until(lambda: a.closed)
        assert a.notification is not None
        assert a.notification.subcode == CeaseSubcode.ADMINISTRATIVE_SHUTDOWN
        assert a.notification.communication


async def test_rfc4724_4_1_sigquit_leaves_room_for_the_next_process(program: Program) -> None:
    """Without a word to a client that keeps routes; both bits are set when the next one answers."""
    keeping = GracefulRestart(60, False, False, ((IPV4_UNICAST, True),))
    async with clients(program.port, 1, graceful_restart=keeping) as (a,), clients(program.port, 2) as (b,):
        assert await program.stop(signal.SIGQUIT) == 0
        await until(lambda: a.closed and b.closed)
        assert a.notification is None
        assert b.notification is not None
        assert b.notification.subcode == CeaseSubcode.ADMINISTRATIVE_RESET
    program.configure(listen={"address": "127.0.0.1", "port": program.port})
    program.port = 0
    await program.start()
    async with clients(program.port, 1, graceful_restart=keeping) as (a,):
        offered = a.peer_open.capabilities.graceful_restart
        assert offered is not None
        assert offered.restarting
        assert (IPV4_UNICAST, True) in offered.families


async def test_a_configuration_that_cannot_work_is_one_line_and_an_exit_code(tmp_path: Path) -> None:
    program = Program(tmp_path)
    program.configure(clients=[])
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "reflector",
        str(program.path),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    _, errors = await process.communicate()
    assert process.returncode == 4
    assert errors.decode().count("\n") == 1
    assert "nobody may connect" in errors.decode()


async def test_a_kill_frees_the_port_and_clients_come_back(program: Program) -> None:
    client = await Client(1, program.port).up()
    port = program.port
    await program.stop(signal.SIGKILL)
    await until(lambda: client.closed)
    program.configure(listen={"address": "127.0.0.1", "port": port})
    program.port = 0
    await program.start()
    back = await Client(1, port).up()
    assert back.established


async def test_one_that_waits_for_its_datastore_counts_as_started_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "PATIENCE", 0.1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        port = free_port()
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        program = Program(tmp_path)
        program.configure(
            yaml.safe_dump({"node": "rr", "datastore": "etcd://127.0.0.1:1", "http": {"port": port}})
        )
        environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "20000"}
        waiting = service.Service(program.path, load(program.path), environ)
        running = asyncio.create_task(waiting.run())
        heard = asyncio.get_running_loop()
        told = {await asyncio.wait_for(heard.sock_recv(manager, 1000), 20) for _ in range(4)}
        assert told == {b"READY=1\nSTATUS=the datastore has not been read yet", b"WATCHDOG=1"}
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
            for path, status in (("/healthz", 200), ("/readyz", 503), ("/metrics", 200)):
                async with client.get(path) as answer:
                    assert (path, answer.status) == (path, status)
            async with client.get("/api/v1/status") as answer:
                assert "no plan" in (await answer.json())["reason"]
        waiting.stop()
        await running
