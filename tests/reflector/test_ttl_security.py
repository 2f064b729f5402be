"""TTL security (RFC 5082) between real sockets, and its change under connections it kept from coming up."""

import asyncio
import socket
from typing import Any

import pytest

from bgpd.session.admission import local_open
from bgpd.session.fsm import State
from bgpd.wire.messages import KEEPALIVE, encode
from tests.reflector.clients import Client, serving, spec_of, until

TCP_DEFER_ACCEPT = 9


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


async def test_rfc5082_3_packets_from_afar_are_dropped() -> None:
    peers = [{"address": "127.0.0.3", "passive": True, "ttlSecurity": 1}]
    async with serving(clients=[], peers=peers) as server:
        far = await Client(1, server.ports[0]).connect(ttl=254)
        far.begin()
        await until(lambda: far.session is not None and far.session.state is State.OPENCONFIRM)
        await asyncio.sleep(0.5)
        assert far.session is not None
        assert far.session.state is State.OPENCONFIRM, "it hears us, but we do not hear it"
        assert not server.established
        await far.close()
        near = await Client(1, server.ports[0]).up(ttl=255, least_ttl=255)
        assert len(server.established) == 1
        await near.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("at_once", [True, False])
async def test_rfc5082_3_what_came_with_the_handshake_counts_no_more(address: str, at_once: bool) -> None:
    """Whole messages can be there before the connection is accepted, and with it its least TTL is set."""
    own = "127.0.0.3" if address == "127.0.0.1" else "::1"
    peers = [{"address": own, "asn": 65000, "passive": True, "ttlSecurity": 1}]
    listen = {"address": address, "port": 0}
    async with serving(clients=[], peers=peers, listen=listen) as server:

        def speak(ttl: int) -> socket.socket:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            sock = socket.socket(family)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
            else:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
            if at_once:  # the handshake's last segment waits for data
                sock.setsockopt(socket.IPPROTO_TCP, TCP_DEFER_ACCEPT, 5)
            sock.bind((own, 0))
            sock.connect((address, server.ports[0]))
            sock.sendall(encode(local_open(Client(1, 0).config)) + KEEPALIVE)
            return sock

        with speak(254):  # the server's loop does not turn meanwhile
            await asyncio.sleep(0.3)
            assert server.entries[own].peer.state is not State.ESTABLISHED
            assert not server.established
    async with serving(clients=[], peers=peers, listen=listen) as server:
        with speak(255):
            await until(lambda: server.established)
