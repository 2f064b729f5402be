"""What this node needs besides its peers: etcd, and the gateways of other programs' routes.

The plan keeps workloads from their addresses: a route to one behind an interface would cut this node off,
and from etcd in such a way that nothing declared could put it right.
"""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address

from agent.kernel.fib import Fib
from bgpd.datastore import Datastore
from bgpd.plan import Needed

_PATIENCE = 5.0  # seconds for names to be looked up


async def needed_of(store: Datastore, fib: Fib, known: tuple[Needed, ...]) -> tuple[Needed, ...]:
    """As of now; of names that cannot be looked up, what is ``known`` of them."""
    try:
        async with asyncio.timeout(_PATIENCE):
            servers = {Needed(ip_address(address), "etcd") for address in await _addresses(store.hosts)}
    except (OSError, TimeoutError, UnicodeError):
        servers = {item for item in known if not item.interface}
    names = {index: name for name, index in fib.links.indexes.items()}
    gateways = (
        Needed(ip_address(gateway), f"a gateway on {names[index]}", names[index])
        for gateway, index in fib.gateways()
        if index in names
    )
    taken = {item.address for item in servers}
    return tuple(sorted((*servers, *(item for item in gateways if item.address not in taken)), key=str))


async def _addresses(hosts: tuple[str, ...]) -> set[str]:
    loop = asyncio.get_running_loop()
    found = [await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM) for host in hosts]
    return {str(sockaddr[0]) for answers in found for *_, sockaddr in answers}
