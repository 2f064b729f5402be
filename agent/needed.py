"""What this node needs besides its peers: etcd, and the gateways of other programs' routes.

The plan keeps workloads from their addresses: a route to one behind an interface would cut this node off,
and from etcd in such a way that nothing declared could put it right. A gateway counts where others' routes
say that it is on its link: by our own route alone, or by none (onlink), a workload may be one.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from threading import Thread

from agent.kernel.fib import Fib
from agent.kernel.resolve import truncate
from bgpd.plan import Needed
from bgpd.resources.scalars import IPAddress

_PATIENCE = 5.0  # seconds for names to be looked up
_AT_MOST_EVERY = 1.0  # seconds: what changes without end is looked at once in a while


class Needs:
    """``present``: what is needed, as last looked at. Names are looked up every so often; of those that
    cannot be, what is known of them counts.
    """

    def __init__(self, hosts: tuple[str, ...], fib: Fib, look_up_every: float) -> None:
        self.present: tuple[Needed, ...] = ()
        self.doubtful = asyncio.Event()  # routes have changed
        self._hosts = hosts
        self._fib = fib
        self._look_up_every = look_up_every
        self._servers: dict[str, frozenset[IPAddress]] = {}
        self._look_up_at = 0.0

    async def look(self) -> bool:
        """Whether something else is needed than before."""
        now = asyncio.get_running_loop().time()
        if now >= self._look_up_at:
            self._look_up_at = now + self._look_up_every
            self._servers |= await _servers_at(self._hosts)
        before, self.present = self.present, tuple(sorted(self._found(), key=str))
        return self.present != before

    async def change(self) -> None:
        """Wait until something else is needed."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._look_up_at):
                    await self.doubtful.wait()
            await asyncio.sleep(_AT_MOST_EVERY)
            self.doubtful.clear()
            if await self.look():
                return

    def _found(self) -> Iterator[Needed]:
        servers = frozenset[IPAddress]().union(*self._servers.values())
        yield from (Needed(address, "etcd") for address in servers)
        names = {index: name for name, index in self._fib.links.indexes.items()}
        for gateway, index in _gateways(self._fib):
            if (address := ip_address(gateway)) not in servers and index in names:
                yield Needed(address, f"a gateway on {names[index]}", names[index])


def _gateways(fib: Fib) -> Iterator[tuple[bytes, int]]:
    """Each with the interface that leads to it."""
    gateways: set[tuple[bytes, int]] = set()
    on_link: dict[int, set[bytes]] = {}
    for entry in fib.others():
        for hop in entry.route.hops:
            if hop.gateway:
                gateways.add((hop.gateway, hop.interface))
            else:
                on_link.setdefault(hop.interface, set()).add(entry.nlri)
    for address, index in gateways:
        networks = on_link.get(index, ())
        if any(truncate(address, length) in networks for length in range(len(address) * 8 + 1)):
            yield address, index


async def _servers_at(hosts: tuple[str, ...]) -> dict[str, frozenset[IPAddress]]:
    lookups = {host: _looked_up(host) for host in hosts}
    if lookups:
        await asyncio.wait(lookups.values(), timeout=_PATIENCE)
    return {host: found for host, each in lookups.items() if each.done() and (found := each.result())}


def _looked_up(host: str) -> asyncio.Future[frozenset[IPAddress]]:
    """Nothing if that fails. In a thread that nobody waits for: where no name server answers it takes a
    minute.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[frozenset[IPAddress]] = loop.create_future()

    def look_up() -> None:
        found = frozenset[IPAddress]()
        with contextlib.suppress(OSError, UnicodeError):
            infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            found = frozenset(ip_address(sockaddr[0]) for *_, sockaddr in infos)
        with contextlib.suppress(RuntimeError):  # the agent has ended
            loop.call_soon_threadsafe(answer.set_result, found)

    Thread(target=look_up, name=f"look up {host}", daemon=True).start()
    return answer
