"""The IPIP device (RFC 2003), by way of pyroute2.

One device without a fixed far end: where a packet goes is said by its route's gateway, the far node's own
address, taken to be on the device ("onlink"). So there are no entries to keep, unlike VXLAN's. IPv4 only.

A kernel without IPIP refuses the device, and the routes then go straight, which works wherever the nodes'
network lets it.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address
from typing import Any

from pyroute2 import AsyncIPRoute

from agent.kernel.tunnel_address import furnish, link_of, loosen

DEVICE = "ipip.cairn"
_OVERHEAD = 20  # octets of the outer header
_IFF_UP = 1
_GLOBAL = 0  # scope
_ANYWHERE = IPv4Address(0)  # no fixed far end


async def ensure(local: str | None, inside: str | None) -> None:
    """Have the device, its near end at this node's own address and another inside; with None have none.

    Raises pyroute2's NetlinkError where the kernel refuses.
    """
    async with AsyncIPRoute() as route:
        await bring_about(route, local, inside)
    if local is not None:
        loosen(DEVICE)


async def bring_about(route: Any, local: str | None, inside: str | None) -> None:
    """`ensure` over a given rtnetlink connection."""
    present = await link_of(route, ifname=DEVICE)
    if present is not None and (local is None or not _fits(present, local)):
        await route.link("del", index=present["index"])
        present = None
    if local is None:
        return
    made = present is None
    if made:
        await route.link("add", ifname=DEVICE, kind="ipip", ipip_local=local, ipip_ttl=64, ipip_pmtudisc=1)
        present = await link_of(route, ifname=DEVICE)
    if present is None:
        return  # somebody has removed it, which is heard, and it is made again
    index = present["index"]
    if made or not present["flags"] & _IFF_UP:  # or left half made by a former agent
        mtu = await _mtu(route, local)
        await route.link("set", index=index, state="up", **({"mtu": mtu} if mtu else {}))
    await furnish(route, index, local, inside or local)


def _fits(link: Any, local: str) -> bool:
    info = link.get("linkinfo")
    data = info.get("data") if info is not None else None
    if data is None or info.get("kind") != "ipip":
        return False
    return data.get("ipip_local") == local and data.get("ipip_remote") in (None, str(_ANYWHERE))


async def _mtu(route: Any, local: str) -> int | None:
    """What fits into a packet of the link that has the node's address."""
    for address in [each async for each in await route.get_addr(family=socket.AF_INET)]:
        if address.get("local") == local and address["scope"] == _GLOBAL:
            link = await link_of(route, index=address["index"])
            if link is not None:
                return int(link.get("mtu")) - _OVERHEAD
    return None
