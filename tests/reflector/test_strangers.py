"""Who is not welcome: strangers, garbage, silence, floods of connections; and a defect of ours."""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from bgpd.wire.framing import Framer
from bgpd.wire.iana import ErrorCode, MessageType
from reflector import server as server_module
from tests.reflector.clients import Client, clients, serving, until

P = "10.1.0.0/24"


async def test_strangers_are_closed_at_once() -> None:
    async with serving(clients=[{"prefix": "127.0.0.0/24"}]) as server, clients(server, 1) as (a,):
        stranger = await Client(300, server.ports[0]).connect()
        assert stranger.sock is not None
        assert await asyncio.get_running_loop().sock_recv(stranger.sock, 100) == b""
        await stranger.close()
        assert server.strangers == 1
        assert a.established
        assert list(server.entries) == [a.address]


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 19, bytes(4096)])
async def test_garbage_before_open_gets_its_notification_and_nothing_else(garbage: bytes) -> None:
    async with serving() as server, clients(server, 1) as (a,):
        hostile = await Client(2, server.ports[0]).connect()
        await hostile.write_all(garbage)
        assert hostile.sock is not None
        said = b""
        while data := await asyncio.get_running_loop().sock_recv(hostile.sock, 4096):
            said += data
        framer = Framer()
        framer.feed(said)
        (_open, (kind, body)) = list(framer)
        assert (kind, body[0]) == (MessageType.NOTIFICATION, ErrorCode.MESSAGE_HEADER)
        await hostile.close()
        a.announce(P)
        async with clients(server, 3) as (c,):
            await until(lambda: c.has(P))


async def test_half_open_connections_make_room_for_those_who_speak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "UNIDENTIFIED_AGE", 0.2)
    limits = {"unidentifiedConnections": 4, "openTimeout": 60.0}
    async with serving(limits=limits) as server:
        silent = [await Client(n, server.ports[0]).connect() for n in range(1, 13)]
        async with clients(server, 50) as (a,):
            assert a.established
            assert len(server._unidentified) <= 4
        for client in silent:
            await client.close()


async def test_a_burst_of_clients_waits_instead_of_being_refused() -> None:
    limits = {"unidentifiedConnections": 8}
    async with serving(limits=limits) as server:
        many = [Client(n, server.ports[0]) for n in range(1, 61)]
        await asyncio.gather(*(client.up() for client in many))
        assert len(server.established) == 60
        assert server.strangers == 0
        for client in many:
            await client.close()


async def test_an_open_that_never_comes_is_not_waited_for() -> None:
    async with serving(limits={"openTimeout": 0.3}) as server:
        silent = await Client(1, server.ports[0]).connect()
        silent.begin()
        await silent.stall()
        silent_sock = silent.sock
        await until(lambda: not server._unidentified)
        assert silent_sock is not None
        await silent.close()


async def test_clients_nobody_named_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "FORGOTTEN_AFTER", 0.1)
    monkeypatch.setattr(server_module, "PRUNING", 0.1)
    async with serving() as server:
        server._next_pruning = 0.0
        async with clients(server, 1, 2, 3) as (a, b, c):
            a.announce(P)
            await until(lambda: b.has(P) and c.has(P))
        await until(lambda: not server.entries)
        assert not server.reflector.members


async def test_a_defect_of_ours_costs_one_session(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as server, clients(server, 1, 2) as (a, b):
        real = server.reflector.update

        def fails(member: Any, updates: Any) -> None:
            if member.name == a.address:
                raise RuntimeError("a defect")
            real(member, updates)

        monkeypatch.setattr(server.reflector, "update", fails)
        with capture_logs() as logs:
            a.announce(P)
            await until(lambda: a.closed)
        assert any("defect" in line["event"] for line in logs)
        assert b.established
        assert len(server.established) == 1
