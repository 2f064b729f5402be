"""Peers at link-local addresses: the same address on another link is another peer (RFC 4007 6)."""

import asyncio
import contextlib
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.reflector.clients import serving, until

pytestmark = pytest.mark.scenario  # for the addresses; each process of tests has a loopback of its own

OURS, THEIRS = "fe80::2", "fe80::3"
LINK = socket.if_nametoindex("lo")
LISTEN = {"address": f"{OURS}%lo", "port": 0}


def ways() -> str:
    return subprocess.run(
        ["ip", "-6", "route", "show", "table", "local"], check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture(autouse=True)
def addresses() -> Iterator[None]:
    for address in (OURS, THEIRS):
        subprocess.run(["ip", "addr", "add", f"{address}/128", "dev", "lo", "nodad"], check=True)
    while not all(f"local {address} " in ways() for address in (OURS, THEIRS)):
        time.sleep(0.01)  # the kernel adds the way to an address a moment later
    yield
    for address in (OURS, THEIRS):
        subprocess.run(["ip", "addr", "del", f"{address}/128", "dev", "lo"], check=True)


@contextlib.asynccontextmanager
async def coming(port: int) -> AsyncIterator[socket.socket]:
    with socket.socket(socket.AF_INET6) as sock:
        sock.bind((THEIRS, 0, 0, LINK))
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (OURS, port, 0, LINK))
        yield sock


@pytest.mark.parametrize("declared", [f"{THEIRS}%lo", THEIRS])
async def test_a_declared_peer_that_comes_is_that_one(declared: str) -> None:
    peers = [{"address": declared, "passive": True}]
    async with serving(listen=LISTEN, clients=[], peers=peers) as server, coming(server.ports[0]):
        await until(lambda: any(entry.links for entry in server.entries.values()))
        assert list(server.entries) == [declared]


async def test_a_client_is_known_by_its_address_and_link() -> None:
    clients = [{"prefix": "fe80::/10"}]
    async with serving(listen=LISTEN, clients=clients) as server, coming(server.ports[0]):
        await until(lambda: server.entries)
        assert list(server.entries) == [f"{THEIRS}%lo"]


async def test_who_has_the_address_on_another_link_is_a_stranger() -> None:
    peers = [{"address": f"{THEIRS}%eth9", "passive": True}]
    async with serving(listen=LISTEN, clients=[], peers=peers) as server, coming(server.ports[0]) as sock:
        assert await asyncio.get_running_loop().sock_recv(sock, 100) == b""
        assert server.strangers == 1


@pytest.mark.parametrize("ours", [OURS, f"{OURS}%lo"])
async def test_a_peer_is_connected_to_on_its_link(ours: str) -> None:
    with socket.create_server((THEIRS, 0, 0, LINK), family=socket.AF_INET6) as listener:
        listener.setblocking(False)
        peer = {"address": f"{THEIRS}%lo", "port": listener.getsockname()[1], "localAddress": ours}
        async with serving(listen=LISTEN, clients=[], peers=[peer]):
            sock, remote = await asyncio.get_running_loop().sock_accept(listener)
            assert remote[0] == OURS
            sock.close()


async def test_a_link_that_is_not_there_is_said() -> None:
    peers = [{"address": f"{THEIRS}%eth9"}]
    async with serving(listen=LISTEN, clients=[], peers=peers) as server:
        await until(lambda: "no interface" in server.entries[f"{THEIRS}%eth9"].why_down)
