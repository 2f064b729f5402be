"""The IPIP device's netlink messages; this suite's kernels need not have IPIP."""

from __future__ import annotations

import errno
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from agent.kernel.ipip import DEVICE, bring_about

OWN, INSIDE = "10.0.0.1", "10.77.0.9"


class Link(dict[str, Any]):
    """A link as pyroute2 reports it: fields and attributes by one name."""


def link(index: int, name: str, up: bool = True, **more: Any) -> Link:
    return Link(index=index, ifname=name, flags=int(up), mtu=1500, **more)


def tunnel(local: str = OWN, up: bool = True, remote: str = "0.0.0.0") -> Link:
    data = {"ipip_local": local, "ipip_remote": remote}
    return link(9, DEVICE, up, linkinfo={"kind": "ipip", "data": data})


def _address(index: int, local: str, length: int, scope: int) -> Link:
    return Link(index=index, local=local, prefixlen=length, scope=scope)


class Kernel:
    """Reports links and their addresses, and records what is asked."""

    def __init__(self, *links: Link, inside: str = INSIDE, stays: bool = True) -> None:
        self.links, self.stays = list(links), stays  # ``stays``: what is made
        self.addresses = [_address(1, "127.0.0.1", 8, 254), _address(2, OWN, 24, 0)]
        if any(each["index"] == 9 for each in links):
            self.addresses.append(_address(9, inside, 32, 0))
        self.asked: list[tuple[str, dict[str, Any]]] = []

    async def link(self, command: str, **words: Any) -> list[Link]:
        if command == "get":
            found = [each for each in self.links if words.items() <= each.items()]
            if not found:
                raise NetlinkError(errno.ENODEV)
            return found
        self.asked.append((command, words))
        if command == "del":
            self.links = [each for each in self.links if each["index"] != words["index"]]
        if command == "add":
            self.links += [tunnel()][: self.stays]
        return []

    async def addr(self, command: str, **words: Any) -> None:
        self.asked.append((f"{command} address", words))

    async def get_addr(self, family: int = 0, index: int = 0) -> AsyncIterator[Link]:
        return self._each([each for each in self.addresses if index in (0, each["index"])])

    async def _each(self, found: list[Link]) -> AsyncIterator[Link]:
        for each in found:
            yield each


ETH0 = link(2, "eth0")
ADD = {"ifname": DEVICE, "kind": "ipip", "ipip_local": OWN, "ipip_ttl": 64, "ipip_pmtudisc": 1}


async def test_the_device_is_made_with_room_for_the_outer_header() -> None:
    kernel = Kernel(ETH0)
    await bring_about(kernel, OWN, INSIDE)
    assert kernel.asked == [
        ("add", ADD),
        ("set", {"index": 9, "state": "up", "mtu": 1480}),
        ("add address", {"index": 9, "address": INSIDE, "prefixlen": 32, "scope": 0}),
    ]


async def test_what_is_right_is_left_alone_and_what_is_down_comes_up() -> None:
    kernel = Kernel(ETH0, tunnel())
    await bring_about(kernel, OWN, INSIDE)
    assert kernel.asked == []
    kernel = Kernel(ETH0, tunnel(up=False))  # its maker may have died before it had set anything
    await bring_about(kernel, OWN, INSIDE)
    assert kernel.asked == [("set", {"index": 9, "state": "up", "mtu": 1480})]


async def test_another_near_end_or_a_fixed_far_one_means_another_device_and_nobodys_wish_none() -> None:
    for other in (tunnel("10.0.0.99"), tunnel(remote="10.0.0.2")):
        kernel = Kernel(ETH0, other)
        await bring_about(kernel, OWN, INSIDE)
        assert [command for command, _ in kernel.asked] == ["del", "add", "set"]
    kernel = Kernel(ETH0, tunnel(), inside="10.77.0.8")
    await bring_about(kernel, OWN, INSIDE)
    assert [(command, words["address"]) for command, words in kernel.asked] == [
        ("del address", "10.77.0.8"), ("add address", INSIDE)
    ]  # fmt: skip
    kernel = Kernel(ETH0, tunnel())
    await bring_about(kernel, None, None)
    assert kernel.asked == [("del", {"index": 9})]
    kernel = Kernel(ETH0)
    await bring_about(kernel, None, None)
    assert kernel.asked == []


async def test_a_device_that_somebody_removes_meanwhile_ends_nothing() -> None:
    kernel = Kernel(ETH0, stays=False)
    await bring_about(kernel, OWN, INSIDE)
    assert kernel.asked == [("add", ADD)]


def test_the_message_on_the_wire() -> None:
    """rtnetlink(7): RTM_NEWLINK with IFLA_INFO_KIND "ipip" and the IFLA_IPTUN attributes."""
    code = "import json, sys, pyroute2; batch = pyroute2.IPBatch()"
    code += "; batch.link('add', **json.loads(sys.argv[1])); print(bytes(batch.batch).hex())"
    words = [sys.executable, "-c", code, json.dumps(ADD)]  # it leaves sockets open when it goes
    data = bytes.fromhex(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    [message] = MarshalRtnl().parse(data)
    info = message.get_attr("IFLA_LINKINFO")
    assert message["header"]["type"] == 16
    assert message.get_attr("IFLA_IFNAME") == DEVICE
    assert info.get_attr("IFLA_INFO_KIND") == "ipip"
    tunnel = info.get_attr("IFLA_INFO_DATA")
    assert tunnel.get_attr("IFLA_IPIP_LOCAL") == OWN
    assert tunnel.get_attr("IFLA_IPIP_TTL") == 64
    assert tunnel.get_attr("IFLA_IPIP_PMTUDISC") == 1
    assert tunnel.get_attr("IFLA_IPIP_REMOTE") is None
    assert bytes((8, 0, 2, 0)) + socket.inet_aton(OWN) in data
