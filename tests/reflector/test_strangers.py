"""Who is not welcome: strangers, garbage, silence, floods of connections; and a defect of ours."""

import asyncio
import contextlib
import resource
import socket
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from bgpd.telemetry.status import PeerVerb
from bgpd.wire.attributes import encode_attributes
from bgpd.wire.capabilities import Capabilities
from bgpd.wire.framing import Framer
from bgpd.wire.iana import ErrorCode, MessageType
from bgpd.wire.messages import KEEPALIVE, Open, encode, message
from bgpd.wire.nlri import IPV4_UNICAST
from bgpd.wire.update import encode_updates
from reflector import entry, sockets
from reflector import server as server_module
from tests.reflector.clients import ASN, Client, clients, serving, until
from tests.reflector.test_process import Program

P, Q = "10.1.0.0/24", "10.2.0.0/24"
OPEN = encode(Open(ASN, 90, bytes((10, 9, 9, 9)), Capabilities(frozenset({IPV4_UNICAST}), asn4=ASN)))


async def test_strangers_are_closed_at_once() -> None:
    async with serving(clients=[{"prefix": "127.0.0.0/24"}]) as server, clients(server, 1) as (a,):
        stranger = await Client(300, server.ports[0]).connect()
        assert stranger.sock is not None
        assert await asyncio.get_running_loop().sock_recv(stranger.sock, 100) == b""
        await stranger.close()
        assert server.strangers == 1
        assert a.established
        assert list(server.entries) == [a.address]


async def test_the_last_descriptors_are_for_declared_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    named = {"address": "127.0.0.202", "asn": ASN, "passive": True}
    async with serving(peers=[named]) as server:
        with socket.socket() as free:
            few = free.fileno() + 12  # six clients and as many ends of ours
        monkeypatch.setattr(resource, "getrlimit", lambda _: (few, few))
        monkeypatch.setattr(sockets, "FOR_DECLARED", few + 1)  # all below the limit are for anybody
        with capture_logs() as logs:
            crowd = [await Client(n, server.ports[0]).connect() for n in range(1, 21)]
            await until(lambda: server.strangers >= 10)
            async with clients(server, 200) as (peer,):
                assert peer.established
                assert server.strangers + len(server.entries) - 1 == len(crowd)
        assert [each["event"].partition(";")[0] for each in logs if each["log_level"] == "error"] == [
            "the last file descriptors are kept for declared peers"
        ]
        for client in crowd:
            await client.close()


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


async def test_what_has_arrived_counts_before_a_connection_makes_room() -> None:
    """Our own delay is not the silence of a client; a good OPEN makes a connection a client's."""
    async with serving(limits={"unidentifiedConnections": 1}) as server:
        slow = await Client(1, server.ports[0]).connect()
        await until(lambda: server._unidentified)
        slow.begin()
        assert slow.session is not None
        assert slow.sock is not None
        await asyncio.get_running_loop().sock_sendall(slow.sock, slow.session.data_to_send())
        server._unidentified = dict.fromkeys(server._unidentified, 0.0)  # as if it had come long ago
        assert server._has_room()
        assert not server._unidentified
        await until(lambda: slow.established)
        await slow.close()


async def test_a_burst_of_clients_waits_instead_of_being_refused() -> None:
    limits = {"unidentifiedConnections": 8}
    async with serving(limits=limits) as server:
        many = [Client(n, server.ports[0]) for n in range(1, 61)]
        await asyncio.gather(*(client.up() for client in many))
        assert len(server.established) == 60
        assert server.strangers == 0
        for client in many:
            await client.close()


async def attack(port: int, numbers: range) -> None:
    """Strangers, silence, garbage before OPEN and after it, an end without a word: all at once."""
    hostile = [Client(number, port) for number in numbers]
    for client in hostile:
        client.sock = sock = sockets.unconnected("127.0.0.1", IPv4Address(client.address))
        sock.connect_ex(("127.0.0.1", port))
    await asyncio.sleep(0)
    for number, client in enumerate(hostile):
        assert client.sock is not None
        said = (b"", b"GET / HTTP/1.1\r\n\r\n", OPEN + b"\0" * 19, OPEN[:-3], OPEN)[number % 5]
        with contextlib.suppress(OSError):  # the system's queue is full, or it was turned away already
            client.sock.send(said)
    for number, client in enumerate(hostile):
        if number % 2 == 0:
            assert client.sock is not None
            sockets.end_at_once(client.sock)
            client.sock.close()


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def test_waves_of_hostile_connections_leave_nothing_behind(tmp_path: Path) -> None:
    """Real clients come back through them, and a session that was there before never ends."""
    program = Program(tmp_path)
    program.configure(clients=[{"prefix": "127.0.0.0/19"}], limits={"unidentifiedConnections": 64})
    await program.start()
    try:
        assert program.process is not None
        pid = program.process.pid
        witness = await Client(5_000, program.port).up()
        before = open_files(pid)
        for wave in range(6):
            # Every third wave comes from where nobody may.
            await attack(program.port, range(1_000, 1_300) if wave % 3 else range(9_000, 9_300))
            real = [Client(20 * wave + number, program.port) for number in range(20)]
            await asyncio.gather(*(comes_back(client) for client in real))
            real[0].announce(P)
            await until(lambda: witness.has(P))
            for client in Client.everybody:
                if client is not witness:
                    await client.close()
            Client.everybody[:] = [witness]
            await until(witness.has)
            witness.write(KEEPALIVE)
        await until(lambda: open_files(pid) == before)
        assert witness.established
    finally:
        assert await program.stop() == 0


async def comes_back(client: Client) -> None:
    """As a speaker does it: again until it is up."""
    while not client.established:
        await client.close()
        with contextlib.suppress(TimeoutError, OSError):
            await client.connect()
            client.begin()
            await until(lambda: client.established or client.closed)


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
    monkeypatch.setattr(entry, "FORGOTTEN_AFTER", 0.1)
    monkeypatch.setattr(server_module, "PRUNING", 0.1)
    async with serving() as server:
        server._next_pruning = 0.0
        async with clients(server, 1, 2, 3) as (a, b, c):
            a.announce(P)
            await until(lambda: b.has(P) and c.has(P))
        await until(lambda: not server.entries)
        assert not server.reflector.members


async def test_rfc7313_5_a_refresh_as_long_as_a_message_ends_the_session() -> None:
    """Its NOTIFICATION could not be encoded once, and the session stayed for ever, with its routes."""
    async with (
        serving() as server,
        clients(server, 1) as (a,),
        clients(server, 2, extended_message=True) as (b,),
    ):
        b.announce(P)
        await until(lambda: a.has(P))
        await b.write_all(message(MessageType.ROUTE_REFRESH, b"\0\1\1\1" + bytes(65535 - 23)))
        await until(lambda: b.closed and a.has())
        assert b.notification is not None
        assert (b.notification.code, b.notification.subcode) == (7, 1)
        assert list(server.reflector.members) == [a.address]


@pytest.mark.plain
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


@pytest.mark.plain
async def test_a_defect_while_telling_some_costs_their_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """In an update group, or in what one peer of it is given."""
    async with (
        serving() as server,
        clients(server, 1, 2) as (a, b),
        clients(server, 3, extended_message=True) as (c,),
    ):
        a.announce(P)
        await until(lambda: b.has(P) and c.has(P))

        def fails(*_: object) -> None:
            raise RuntimeError("a defect")

        other = server.reflector.members[c.address].readings[IPV4_UNICAST].group
        assert other is not server.reflector.members[b.address].readings[IPV4_UNICAST].group
        monkeypatch.setattr(other, "apply", fails)
        with capture_logs() as logs:
            a.announce(Q)
            await until(lambda: c.closed and b.has(P, Q))
            await c.close()
            await c.up()
            await until(lambda: c.has(P, Q))
            server.reflector.tell_again(server.reflector.members[b.address])
            monkeypatch.setattr(server.reflector, "_renew", fails)
            a.withdraw(Q)
            await until(lambda: b.closed and c.has(P))
        assert sum("defect" in line["event"] for line in logs) == 2
        assert a.established


@pytest.mark.plain
@pytest.mark.parametrize("when", ["its socket has room again", "an operator refreshes it"])
async def test_a_defect_in_what_a_peer_is_given_ends_its_session(
    when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever made us write: it is not left up without what had been taken for it."""
    next_hop = bytes((192, 0, 2, 1))
    block = encode_attributes(next_hop=next_hop, local_pref=100)
    items = [bytes((32, 10, n >> 16, n >> 8 & 255, n & 255)) for n in range(200_000)]
    table = b"".join(encode_updates(IPV4_UNICAST, block, next_hop, items))
    async with serving() as server, clients(server, 1) as (a,):
        monkeypatch.setattr(sockets, "SEND_BUFFER_OCTETS", 1 << 14)
        b = await Client(2, server.ports[0]).up(receive_buffer=1 << 12)
        (link,) = (link for entry, link in server.live() if entry.address == b.address)
        link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 12)
        if when == "its socket has room again":
            await b.stall()
            await a.write_all(table)
            await until(lambda: link._blocked)
        real = server.reflector.take

        def fails(member: Any, *more: int) -> Any:
            real(member, *more)
            if member.name == b.address:
                raise RuntimeError("a defect")
            return []

        monkeypatch.setattr(server.reflector, "take", fails)
        with capture_logs() as logs:
            if when == "its socket has room again":
                b.go_on()
            else:
                server.operate(server.entries[b.address], PeerVerb.REFRESH, "")
            await until(lambda: b.closed)
        assert sum("defect" in line["event"] for line in logs) == 1
        assert a.established
        await b.close()
