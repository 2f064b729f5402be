"""TCP MD5 (RFC 2385) between real sockets, and keys that change."""

import errno
import socket
from ipaddress import IPv6Address, ip_network
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
        listener = sockets.listening(IPv6Address("::1"), 0)
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with listener:
        sockets.set_md5(listener, network, "secret")
        for secret, right in (("secret", True), ("wrong", False), (None, False)):
            with sockets.unconnected("::1", IPv6Address("::1")) as sock:
                sock.settimeout(0.3)
                sockets.set_md5(sock, network, secret)
                assert (sock.connect_ex(listener.getsockname()) == 0) is right
