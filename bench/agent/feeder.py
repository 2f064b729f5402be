"""A client of the reflector that stands for the rest of the cluster: it announces whatever it is told to."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterable, Mapping, Sequence

from bench.agent.kernel import inside
from bgpd.session.config import SessionConfig
from bgpd.session.events import Closed
from bgpd.session.fsm import State
from bgpd.session.session import Session
from bgpd.wire.attributes import encode_attributes
from bgpd.wire.capabilities import Capabilities
from bgpd.wire.nlri import IPV4_UNICAST
from bgpd.wire.update import encode_end_of_rib, encode_updates


class Feeder:
    """One session. `announce` replaces what was announced of the same prefixes before."""

    def __init__(self, namespace: str, local: str, remote: str, asn: int) -> None:
        self._where = (namespace, local, remote)
        capabilities = Capabilities(families=frozenset({IPV4_UNICAST}), asn4=asn, route_refresh=True)
        config = SessionConfig(asn, socket.inet_aton(local), capabilities, peer_asn=asn, hold_time=180)
        self._session = Session(config, time.monotonic(), initiated=True)
        self._socket: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None
        self._up = asyncio.Event()

    async def start(self) -> None:
        """Connect; returns when the session is established."""
        namespace, local, remote = self._where
        deadline = time.monotonic() + 20
        while self._socket is None:
            with inside(namespace):
                connection = socket.socket()
            connection.setblocking(False)
            connection.bind((local, 0))
            try:
                await asyncio.get_running_loop().sock_connect(connection, (remote, 179))
                self._socket = connection
            except ConnectionRefusedError:
                connection.close()
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.1)
        self._session.connected(time.monotonic())
        self._task = asyncio.create_task(self._run(self._socket))
        async with asyncio.timeout(20):
            await self._up.wait()

    async def _run(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while not self._session.closed:
            if data := self._session.data_to_send():
                await loop.sock_sendall(connection, data)
            timer = self._session.next_timer()
            wait = 1.0 if timer is None else max(0.01, min(1.0, timer - time.monotonic()))
            try:
                async with asyncio.timeout(wait):
                    received = await loop.sock_recv(connection, 65536)
                if not received:
                    return
                self._session.receive_data(received, time.monotonic())
            except TimeoutError:
                pass
            self._session.handle_timer(time.monotonic())
            for event in self._session.events():
                if isinstance(event, Closed):
                    return
            if self._session.state is State.ESTABLISHED:
                self._up.set()

    async def announce(self, routes: Mapping[bytes, Sequence[bytes]]) -> None:
        """Next hop (4 octets) → NLRI."""
        data = b"".join(
            message
            for next_hop, nlri in routes.items()
            for message in encode_updates(
                IPV4_UNICAST, encode_attributes(next_hop=next_hop, local_pref=100), next_hop, nlri
            )
        )
        assert self._socket is not None
        await asyncio.get_running_loop().sock_sendall(self._socket, data + encode_end_of_rib(IPV4_UNICAST))

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()


def hosts(first: str, count: int) -> Iterable[bytes]:
    """``count`` consecutive /32 NLRI."""
    start = int.from_bytes(socket.inet_aton(first), "big")
    return (b"\x20" + (start + number).to_bytes(4, "big") for number in range(count))
