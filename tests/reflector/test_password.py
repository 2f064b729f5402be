"""TCP MD5 (RFC 2385) between real sockets, and keys that change."""

import errno
import socket
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

import pytest

from reflector import sockets
from tests.reflector.clients import Client, clients, reached, serving, sessions, spec_of, until

P = "10.1.0.0/24"


def key(name: str) -> dict[str, str]:
    return {"env": name}


async def test_rfc2385_2_only_the_right_key_connects() -> None:
    prefixes = [
        {"prefix": "127.0.0.0/28", "password": key("KEY")},
        {"prefix": "127.0.0.0/24"},
    ]
    peers = [{"address": "127.0.0.5", "passive": True, "password": key("OTHER")}]
    async with serving(clients=prefixes[:1], peers=peers) as server:
        port = server.ports[0]
        for number, secret, right in (
            (1, "secret", True),
            (2, "wrong", False),
            (4, None, False),
            (3, "other", True),
            (3, "secret", False),
        ):
            client = Client(number, port)
            assert await reached(client, key=secret) is right, (number, secret)
            await client.close()


async def test_a_key_changes_without_dropping_anybody() -> None:
    def config(name: str) -> dict[str, Any]:
        return {
            "clients": [{"prefix": "127.0.0.0/24"}],
            "peers": [
                {"address": "127.0.1.2", "passive": True, "password": key(name)},
                {"address": "127.0.1.3", "passive": True, "password": key("KEY")},
            ],
        }

    async with serving(**config("KEY")) as server, clients(server, 1) as (plain,):
        port = server.ports[0]
        changed = await Client(250, port).up(key="secret")
        other = await Client(251, port).up(key="secret")
        before = sessions(server)
        assert len(before) == 3
        server.configure(spec_of(**config("OTHER")))
        changed.announce(P)
        await until(lambda: plain.has(P) and other.has(P))
        assert sessions(server) == before, "a session that is up keeps the key it was made with"
        await changed.close()
        await until(lambda: len(server.established) == 2)
        late = Client(250, port)
        assert not await reached(late, key="secret")
        await late.close()
        await Client(250, port).up(key="other")
        assert len(server.established) == 3


async def test_the_key_of_a_prefix_changes_too() -> None:
    def config(name: str) -> dict[str, Any]:
        return {"clients": [{"prefix": "127.0.0.0/24", "password": key(name)}, {"prefix": "127.0.1.0/24"}]}

    async with serving(**config("KEY")) as server, clients(server, 250) as (plain,):
        kept = await Client(1, server.ports[0]).up(key="secret")
        before = sessions(server)
        server.configure(spec_of(**config("OTHER")))
        kept.announce(P)
        await until(lambda: plain.has(P))
        assert sessions(server) == before
        late = Client(2, server.ports[0])
        assert not await reached(late, key="secret")
        await late.close()
        late = await Client(2, server.ports[0]).up(key="other")
        await late.close()
        await kept.close()


async def test_a_key_the_system_refuses_leaves_everything_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux keeps only so many keys for a socket (net.core.optmem_max)."""

    def config(name: str, *more: str) -> dict[str, Any]:
        peers = [{"address": a, "passive": True, "password": key(name)} for a in ("127.0.1.2", *more)]
        return {"clients": [{"prefix": "127.0.0.0/24"}], "peers": peers}

    real = sockets.set_md5

    def full(sock: socket.socket, network: Any, secret: str | None) -> None:
        if network == ip_network("127.0.1.3") and secret is not None:
            raise sockets.SocketError(errno.ENOMEM, "no room for another key")
        real(sock, network, secret)

    async with serving(**config("KEY")) as server, clients(server, 1):
        monkeypatch.setattr(sockets, "set_md5", full)
        before = server.spec
        with pytest.raises(sockets.SocketError):
            server.configure(spec_of(**config("OTHER", "127.0.1.3")))
        assert server.spec is before
        changed = await Client(250, server.ports[0]).up(key="secret")
        await changed.close()
        monkeypatch.undo()
        server.configure(spec_of(**config("OTHER", "127.0.1.3")))
        await Client(250, server.ports[0]).up(key="other")
        await Client(251, server.ports[0]).up(key="other")


def test_rfc2385_keys_of_ipv6_peers() -> None:
    network = ip_network("::1/128")
    try:
        listener = sockets.bound(IPv6Address("::1"), 0)
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with listener:
        sockets.set_md5(listener, network, "secret")
        sockets.listen(listener)
        for secret, right in (("secret", True), ("wrong", False), (None, False)):
            with sockets.unconnected("::1", IPv6Address("::1")) as sock:
                sock.settimeout(0.3)
                sockets.set_md5(sock, network, secret)
                assert (sock.connect_ex(listener.getsockname()) == 0) is right


async def test_nobody_comes_before_the_keys_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection made without one would go on without it, whatever is set on the listening socket."""
    came = []

    def setting(listener: socket.socket, *args: Any) -> None:
        with socket.socket() as early:
            came.append(early.connect_ex(listener.getsockname()))
        set_md5(listener, *args)

    set_md5 = sockets.set_md5
    monkeypatch.setattr(sockets, "set_md5", setting)
    async with serving(clients=[{"prefix": "127.0.0.0/24", "password": key("KEY")}]) as server:
        assert came == [errno.ECONNREFUSED]
        client = Client(1, server.ports[0])
        assert await reached(client, key="secret")


@pytest.mark.parametrize("room", [True, False])
async def test_who_waits_to_be_accepted_when_a_key_comes_has_none(room: bool) -> None:
    limits = {"unidentifiedConnections": 1}
    async with serving(clients=[{"prefix": "127.0.0.0/24"}], limits=limits) as server:
        silent = socket.socket()
        early, here = Client(1, server.ports[0]), ("127.0.0.1", server.ports[0])
        if not room:  # it is still too young to make room for another
            silent.bind(("127.0.0.3", 0))
            silent.connect(here)
            await until(lambda: server.entries)
        early.sock = socket.create_connection(here, source_address=(early.address, 0))
        keyed = [{"prefix": "127.0.0.0/24", "password": key("KEY")}]
        server.configure(spec_of(clients=keyed))  # the loop has not turned since
        early.sock.setblocking(False)
        early.begin()
        await until(lambda: early.closed, "it is let go")
        assert not server.established
        await Client(2, server.ports[0]).up(key="secret")
        silent.close()


def test_more_keys_than_the_system_has_room_for_are_refused_with_the_remedy() -> None:
    peers = (ip_network(int(IPv4Address("10.0.0.0")) + number) for number in range(1 << 20))

    with (
        sockets.bound(IPv4Address("127.0.0.1"), 0) as listener,
        pytest.raises(sockets.SocketError, match=r"raise net\.core\.optmem_max"),
    ):
        list(map(partial(sockets.set_md5, listener, key="secret"), peers))
