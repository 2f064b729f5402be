"""What an IPv4 tunnel's device needs beside itself: an address, and a reverse path filter that is not strict.

What arrives at a device without any address is dropped wherever reverse paths are looked at, loosely too. The
address is that of the tunnel's near end, as in Calico: a node's own packets leave with it and come back
through the tunnel. If it is the one the node has on another device, it has the scope of the link here, so
that nobody finds it in two places; packets that come with such an address need a filter that is not strict.
"""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import Any

from pyroute2.netlink.exceptions import NetlinkError

_SYSCTL = Path("/proc/sys/net/ipv4/conf")
_GLOBAL, _LINK = 0, 253  # scopes
_HOST = 32
_STRICT, _LOOSE = "1", "2"


async def link_of(route: Any, **which: str | int) -> Any | None:
    """The interface of this ``ifname`` or ``index``, if there is one. ``route``: an rtnetlink connection.

    Asked for alone: of 250 interfaces pyroute2 reads a tenth of a second, in which the loop does nothing
    else, and makes 20,000 objects that only a collection of garbage gets rid of.
    """
    try:
        return next(iter(await route.link("get", **which)), None)
    except NetlinkError as error:
        if error.code == errno.ENODEV:
            return None
        raise


async def furnish(route: Any, index: int, local: str, inside: str) -> None:
    """Let the device have its address ``inside``, and no other of ours; ``local`` is the node's own.

    ``route``: an rtnetlink connection.
    """
    wanted = (inside, _LINK if inside == local else _GLOBAL)
    present = set()
    async for each in await route.get_addr(family=socket.AF_INET, index=index):
        if each["index"] == index and each["prefixlen"] == _HOST:
            present.add((each.get("local"), each["scope"]))
    for address, _ in present - {wanted}:
        await route.addr("del", index=index, address=address, prefixlen=_HOST)
    if wanted not in present:
        await route.addr("add", index=index, address=inside, prefixlen=_HOST, scope=wanted[1])


def loosen(name: str, root: Path = _SYSCTL) -> None:
    """No strict reverse path filter on this device: the larger of its own setting and that of all counts.

    Raises OSError, with the remedy.
    """
    own = root / name / "rp_filter"
    if max((root / "all" / "rp_filter").read_text().strip(), own.read_text().strip()) == _STRICT:
        try:
            own.write_text(_LOOSE)
        except OSError as error:
            what = f"{own} cannot be set to {_LOOSE}: {error.strerror}; give the agent a writable /proc/sys"
            raise OSError(error.errno, what) from error
