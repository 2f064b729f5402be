"""The VXLAN device and its entries (RFC 7348), by way of pyroute2.

One device per IP version of the underlay, without learning and without flooding: for every far node there is
a neighbour entry (address inside → MAC) and a forwarding entry (MAC → the node's address outside). `ensure`
brings all of that about from whatever is there, and removes entries nobody wants; it may be called at any
time and changes nothing that is right. A device of our name that somebody made otherwise (another port, with
learning, with a far end or a link of its own) is made anew, as none of that can be changed in place. What is
right includes an MTU that somebody has made smaller, but none that leaves no room for the outer headers,
whether the node's link got its address later or another MTU.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from typing import Any

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from agent.kernel.tunnel_address import furnish, link_of, loosen

DEVICES = {4: "vxlan.cairn", 6: "vxlan6.cairn"}
VNI = 4096
PORT = 4789
_OVERHEAD = {4: 50, 6: 70}  # octets of the outer headers
_PERMANENT, _NTF_SELF = 0x80, 0x02
_ORDINARY_MTU = 1500
_NEVER = (  # what a device of ours has not
    "vxlan_learning", "vxlan_group", "vxlan_group6", "vxlan_link", "vxlan_collect_metadata", "vxlan_proxy",
    "vxlan_rsc", "vxlan_gbp", "vxlan_gpe",
)  # fmt: skip
_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8
_GLOBAL = 0  # scope
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


@dataclass(frozen=True, slots=True)
class Far:
    """A node at the other end: its address inside (what routes lead to), its device's MAC, and outside."""

    inside: str
    mac: str
    underlay: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """A device, this node's own address outside, inside (IPv4) and MAC, and everyone behind it."""

    version: int
    local: str
    inside: str
    mac: str
    far: tuple[Far, ...]


async def ensure(wanted: list[Wanted]) -> None:
    """Make devices and entries as wanted; devices of ours that are not wanted go.

    Raises pyroute2's NetlinkError where the kernel refuses, OSError where a setting cannot be made; what does
    not depend on that is done.
    """
    failed: list[NetlinkError | OSError] = []
    async with AsyncIPRoute() as route:
        for version, name in DEVICES.items():
            device = next((each for each in wanted if each.version == version), None)
            try:
                await _bring_about(route, name, device)
            except (NetlinkError, OSError) as error:
                failed.append(error)
    if failed:
        raise failed[0]


async def _bring_about(route: Any, name: str, device: Wanted | None) -> None:
    present = await link_of(route, ifname=name)
    if present is not None and (device is None or not _fits(present, device)):
        await route.link("del", index=present["index"])
        present = None
    if device is None:
        return
    if present is None:
        await _create(route, name, device)
        present = await link_of(route, ifname=name)
    if present is None:
        return
    up, room = present["flags"] & _IFF_UP, await _room(route, device)
    settings: dict[str, Any] = {"mtu": room} if not up or present.get("mtu") > room else {}
    if present.get("address") != device.mac:
        settings["address"] = device.mac
    if not up or settings:
        await route.link("set", index=present["index"], state="up", **settings)
    try:
        if device.version == 4:
            await furnish(route, present["index"], device.local, device.inside)
            loosen(name)
    finally:
        await _entries(route, present["index"], device)


async def _create(route: Any, name: str, wanted: Wanted) -> None:
    local = {"vxlan_local" if wanted.version == 4 else "vxlan_local6": wanted.local}
    try:
        await route.link(
            "add", ifname=name, kind="vxlan", vxlan_id=VNI, vxlan_port=PORT, vxlan_learning=False,
            address=wanted.mac, **local
        )  # fmt: skip
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise
        what = f"{name} cannot be made: another VXLAN device has VNI {VNI} and port {PORT}; remove it"
        raise OSError(error.code, what) from error


def _fits(link: Any, wanted: Wanted) -> bool:
    info = link.get("linkinfo")
    data = info.get("data") if info is not None else None
    if data is None or info.get("kind") != "vxlan":
        return False
    local = data.get("vxlan_local") or data.get("vxlan_local6")
    found = (data.get("vxlan_id"), data.get("vxlan_port"), local)
    return found == (VNI, PORT, wanted.local) and not any(data.get(name) for name in _NEVER)


async def _room(route: Any, wanted: Wanted) -> int:
    """The MTU that leaves room for the outer headers on the link that has the node's address. As long as none
    has it, or only the loopback, the links that carry the packets are taken for ordinary ones.
    """
    mtu, family = _ORDINARY_MTU, _FAMILY[wanted.version]
    for address in [each async for each in await route.get_addr(family=family)]:  # to its end, else EBUSY
        if wanted.local in (address.get("local"), address.get("address")) and address["scope"] == _GLOBAL:
            link = await link_of(route, index=address["index"])
            if link is not None and not link["flags"] & _IFF_LOOPBACK:
                mtu = int(link.get("mtu"))
    return mtu - _OVERHEAD[wanted.version]


async def _entries(route: Any, index: int, wanted: Wanted) -> None:
    """Raises NetlinkError, but only when all others are as they should be."""
    family = _FAMILY[wanted.version]
    neighbours = {far.inside: far.mac for far in wanted.far}
    forwarding = {far.mac: far.underlay for far in wanted.far}
    failed: list[NetlinkError] = []

    async def attempt(change: Any, harmless: int = 0) -> None:
        try:
            await change
        except NetlinkError as error:
            if error.code != harmless:
                failed.append(error)

    present: dict[str, str] = {}
    async for entry in await route.get_neighbours(family=family, ifindex=index):
        if entry["ifindex"] == index and entry["state"] & _PERMANENT:
            present[entry.get("dst")] = entry.get("lladdr")
    for address in present.keys() - neighbours.keys():
        removal = route.neigh("del", dst=address, lladdr=present[address], ifindex=index)
        await attempt(removal, errno.ENOENT)
    for address, mac in neighbours.items():
        if present.get(address) != mac:
            await attempt(route.neigh("replace", dst=address, lladdr=mac, ifindex=index, state=_PERMANENT))
    present = {}
    async for entry in await route.get_neighbours(family=socket.AF_BRIDGE, ifindex=index):
        if entry["ifindex"] == index and entry.get("dst"):
            present[entry.get("lladdr")] = entry.get("dst")
    for mac, underlay in present.items():
        if forwarding.get(mac) != underlay:
            removal = route.fdb("del", ifindex=index, lladdr=mac, dst=underlay, flags=_NTF_SELF)
            await attempt(removal, errno.ENOENT)
    for mac, underlay in forwarding.items():
        if present.get(mac) != underlay:
            entry = {"lladdr": mac, "dst": underlay, "flags": _NTF_SELF, "state": _PERMANENT}
            await attempt(route.fdb("add", ifindex=index, **entry))
    if failed:
        raise failed[0]
