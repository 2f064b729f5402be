"""TTL security (RFC 5082) between real sockets, and its change under connections it kept from coming up."""

import socket
from typing import Any

from tests.reflector.clients import Client, serving, spec_of, until


def peer(**more: Any) -> dict[str, Any]:
    return {"clients": [], "peers": [{"address": "127.0.0.3", "asn": 65000, "passive": True, **more}]}


def repeats(sock: socket.socket) -> int:
    """How often TCP has repeated what was not acknowledged: `tcpi_retransmits` of `struct tcp_info`."""
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[2]


async def test_a_peer_without_it_is_let_go_at_once_when_it_is_lifted() -> None:
    """Nothing of the peer's gets through, not even its acknowledgements: it would wait for its hold timer."""
    async with serving(**peer(ttlSecurity=1)) as server:
        client = await Client(1, server.ports[0]).connect(ttl=64)
        client.begin()
        links = server.entries["127.0.0.3"].links
        await until(lambda: any(repeats(link.sock) for link in links.values()), "our OPEN is sent again")
        assert not client.established
        server.configure(spec_of(**peer()))
        await until(lambda: client.closed, "the peer hears of the end")
        await client.close()
        again = await Client(1, server.ports[0]).up(ttl=64)
        await again.close()
