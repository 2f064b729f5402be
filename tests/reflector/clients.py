"""Clients with real sockets on 127.x addresses, and a server to connect them to."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any, ClassVar

from bgpd.session.config import SessionConfig
from bgpd.session.events import Closed, Established, RefreshRequested, UpdatesReceived
from bgpd.session.fsm import State
from bgpd.session.session import Session
from bgpd.telemetry.status import EventRing
from bgpd.wire.attributes import encode_attributes
from bgpd.wire.capabilities import Capabilities
from bgpd.wire.iana import SegmentType
from bgpd.wire.messages import Notification, Open
from bgpd.wire.nlri import IPV4_UNICAST, IPV6_UNICAST, Family, nlri_of
from bgpd.wire.update import encode_updates, encode_withdrawals
from reflector import sockets
from reflector.config import ReflectorConfig
from reflector.server import Server
from reflector.spec import ReflectorSpec, from_config

ASN = 65000
PATIENCE = 60.0  # seconds; how long a test waits before it gives up


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Wait for something that must come about."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in sockets, not in this loop
            await asyncio.sleep(0.01)
    assert condition(), what


def spec_of(**config: Any) -> ReflectorSpec:
    document = {
        "asn": ASN,
        "routerId": "10.255.255.254",
        "listen": {"address": "127.0.0.1", "port": 0},
        "clients": [{"prefix": "127.0.0.0/8"}],
    } | config
    return from_config(ReflectorConfig.model_validate(document), {"KEY": "secret", "OTHER": "other"})


@contextlib.asynccontextmanager
async def serving(**config: Any) -> AsyncIterator[Server]:
    """A running server; whatever is still connected at the end is told why."""
    server = Server(spec_of(**config), asyncio.get_running_loop(), EventRing(), lambda: 0.0)
    server.start()
    try:
        yield server
    finally:
        server.stop("the test is over")
        await asyncio.sleep(0)


def family_of(prefix: str) -> Family:
    return IPV6_UNICAST if ":" in prefix else IPV4_UNICAST


def sessions(server: Server) -> dict[str, float | None]:
    """When each Established session began: it has not been reset if that is the same."""
    return {entry.address: link.session.established_since for entry, link in server.live()}


class Client:
    """One BGP speaker on a socket of its own, on the same loop as the server."""

    everybody: ClassVar[list["Client"]] = []

    def __init__(self, number: int, port: int, *, asn: int = ASN, **capabilities: Any) -> None:
        self.address = f"127.0.{number // 250}.{number % 250 + 2}"
        self.port = port
        self.asn = asn
        offered: dict[str, Any] = {
            "families": frozenset({IPV4_UNICAST}),
            "asn4": asn,
            "route_refresh": True,
            "enhanced_refresh": True,
        }
        self.config = SessionConfig(
            asn,
            IPv4Address(f"10.0.{number // 250}.{number % 250 + 1}").packed,
            Capabilities(**(offered | capabilities)),
        )
        self.view: dict[bytes, bytes] = {}
        self.said: dict[str, bytes] = {}
        self.closed: Closed | None = None
        self.session: Session | None = None
        self.sock: socket.socket | None = None
        self.reader: asyncio.Task[None] | None = None
        self.end_of_rib = 0
        self.everybody.append(self)

    @property
    def families(self) -> frozenset[Family]:
        return self.config.capabilities.families

    @property
    def established(self) -> bool:
        return self.session is not None and self.session.state is State.ESTABLISHED

    @property
    def peer_open(self) -> Open:
        assert self.session is not None
        assert self.session.peer_open is not None
        return self.session.peer_open

    @property
    def notification(self) -> Notification | None:
        return self.closed.received if self.closed is not None else None

    async def connect(
        self,
        *,
        key: str | None = None,
        ttl: int | None = None,
        least_ttl: int | None = None,
        receive_buffer: int | None = None,
    ) -> "Client":
        """TCP; raises TimeoutError or OSError."""
        loop = asyncio.get_running_loop()
        self.sock = sock = sockets.unconnected("127.0.0.1", IPv4Address(self.address))
        if key is not None:
            sockets.set_md5(sock, ip_network("127.0.0.1"), key)
        if ttl is not None:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
        if least_ttl is not None:
            sock.setsockopt(socket.IPPROTO_IP, sockets.IP_MINTTL, least_ttl)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        async with asyncio.timeout(1.0):
            await loop.sock_connect(sock, ("127.0.0.1", self.port))
        sock.setblocking(False)
        return self

    async def up(self, **options: Any) -> "Client":
        """TCP and BGP, until Established."""
        await self.connect(**options)
        self.begin()
        await until(lambda: self.established or self.closed, f"{self.address} comes up")
        assert self.established, self.closed
        return self

    def begin(self) -> None:
        self.closed = None
        self.session = Session(self.config, asyncio.get_running_loop().time(), initiated=True)
        self.session.connected(asyncio.get_running_loop().time())
        self.view = {}
        self.end_of_rib = 0
        self.reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        session, sock = self.session, self.sock
        assert session is not None
        assert sock is not None
        try:
            await loop.sock_sendall(sock, session.data_to_send())
            while data := await loop.sock_recv(sock, 1 << 18):
                session.receive_data(data, loop.time())
                for event in session.events():
                    if isinstance(event, UpdatesReceived):
                        self._learn(event)
                    elif isinstance(event, RefreshRequested):
                        for prefix, attributes in self.said.items():
                            self.send(prefix, attributes)
                    elif isinstance(event, Closed):
                        self.closed = event
                    else:
                        assert not isinstance(event, Established) or session.negotiated is not None
                out = session.data_to_send()
                if out:
                    await loop.sock_sendall(sock, out)
        except OSError:
            pass
        if self.closed is None:
            session.connection_lost(loop.time())
            self.closed = next(e for e in session.events() if isinstance(e, Closed))

    def _learn(self, event: UpdatesReceived) -> None:
        for reach, unreach, end_of_rib, _errors in event.updates:
            for _family, withdrawn in unreach:
                for item in withdrawn:
                    self.view.pop(item, None)
            for _family, attributes, announced, _raw in reach:
                self.view.update(dict.fromkeys(announced, attributes.raw))
            self.end_of_rib += end_of_rib is not None

    def announce(self, *prefixes: str, med: int | None = None) -> None:
        external = self.asn != ASN
        for prefix in prefixes:
            self.said[prefix] = encode_attributes(
                next_hop=self._next_hop(prefix),  # put in where it is of IPv4
                as_path=((SegmentType.AS_SEQUENCE, (self.asn,)),) if external else (),
                local_pref=None if external else 100,
                med=med,
            )
            self.send(prefix, self.said[prefix])

    def _next_hop(self, prefix: str) -> bytes:
        six = family_of(prefix) == IPV6_UNICAST
        return IPv6Address(f"2001:db8::{self.address}").packed if six else IPv4Address(self.address).packed

    def send(self, prefix: str, attributes: bytes) -> None:
        items = [nlri_of(ip_network(prefix))]
        for message in encode_updates(family_of(prefix), attributes, self._next_hop(prefix), items):
            self.write(message)

    def withdraw(self, prefix: str) -> None:
        self.said.pop(prefix, None)
        for message in encode_withdrawals(family_of(prefix), [nlri_of(ip_network(prefix))]):
            self.write(message)

    def write(self, octets: bytes) -> None:
        """Small things only: they fit into the socket's buffer."""
        assert self.sock is not None
        assert self.sock.send(octets) == len(octets)

    async def write_all(self, octets: bytes) -> None:
        assert self.sock is not None
        await asyncio.get_running_loop().sock_sendall(self.sock, octets)

    async def stall(self) -> None:
        """Read nothing more."""
        if self.reader is not None:
            self.reader.cancel()
            await asyncio.gather(self.reader, return_exceptions=True)

    def go_on(self) -> None:
        self.reader = asyncio.create_task(self._read())

    def has(self, *prefixes: str) -> bool:
        return set(self.view) == {nlri_of(ip_network(prefix)) for prefix in prefixes}

    async def close(self) -> None:
        await self.stall()
        if self.sock is not None:
            self.sock.close()


@contextlib.asynccontextmanager
async def clients(server: Server | int, *numbers: int, **more: Any) -> AsyncIterator[list[Client]]:
    """Established clients, closed in the end."""
    port = server if isinstance(server, int) else server.ports[0]
    chosen = [Client(number, port, **more) for number in numbers]
    try:
        for client in chosen:
            await client.up()
        yield chosen
    finally:
        for client in chosen:
            await client.close()


async def reached(client: Client, **options: Any) -> bool:
    """Whether TCP comes about."""
    try:
        await client.connect(**options)
    except (TimeoutError, OSError):
        return False
    return True
