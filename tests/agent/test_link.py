"""Interfaces and addresses as the kernel tells them, with pyroute2's decoder as the oracle."""

from __future__ import annotations

import socket

import pytest
from pyroute2 import AsyncIPRoute, netns

from agent.kernel import message
from agent.kernel.link import Links, unpack_link
from agent.kernel.netlink import RouteSocket
from tests.agent.ground import namespace, needs_root, sh

pytestmark = [needs_root]


async def oracle() -> Links:
    indexes: dict[str, int] = {}
    up: set[int] = set()
    raised: set[int] = set()
    addresses: set[bytes] = set()
    async with AsyncIPRoute() as route:
        async for link in await route.get_links():
            indexes[str(link.get("ifname"))] = link["index"]
            if link["flags"] & 1:
                raised.add(link["index"])
            if link["flags"] & 1 and (link["flags"] & 0x40 or link.get("operstate") == "UNKNOWN"):
                up.add(link["index"])
        async for address in await route.get_addr():
            text = address.get("local") or address.get("address")
            addresses.add(socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text))
    return Links(indexes, frozenset(up), frozenset(addresses), frozenset(raised))


async def test_links_and_addresses_of_every_kind_are_what_pyroute2_reads() -> None:
    with namespace("links") as inside:
        for command in (
            "link add veth0 type veth peer name veth1", "link set veth0 up",  # without a carrier
            "link add e0 type veth peer name p0", "link set e0 up", "link set p0 up",
            "link add br0 type bridge", "link set br0 up", "link set p0 master br0",
            "link add vxlan0 type vxlan id 7 dstport 4789 local 10.0.0.1", "link set vxlan0 up",
            "addr add 10.0.0.1/24 dev e0", "addr add 10.9.0.1 peer 10.9.0.2/32 dev e0",
            "addr add 10.0.0.7/32 dev lo", "-6 addr add 2001:db8::1/64 dev br0 nodad",
        ):  # fmt: skip
            sh(f"ip -n {inside} {command}")
        for n in range(200):  # more than one answer holds
            sh(f"ip -n {inside} link add x{n} type veth peer name y{n}")
        netns.pushns(inside)
        kernel = RouteSocket()
        try:
            read = kernel.links()
            assert read == await oracle()
        finally:
            kernel.close()
            netns.popns()
        assert len(read.indexes) == 407
        names = {name for name, index in read.indexes.items() if index in read.up}
        assert names == {"lo", "e0", "p0", "br0", "vxlan0"}
        assert read.raised == {*read.up, read.indexes["veth0"]}


class Interrupted:
    """A netlink socket whose first dumps end at once, by a change of what is dumped."""

    def __init__(self, real: socket.socket, times: int) -> None:
        self._real, self._times, self._answer = real, times, b""

    def send(self, request: bytes) -> None:
        if self._times:
            self._times -= 1
            sequence = next(message.messages(request))[2]
            kind, flags = message.NLMSG_DONE, message.NLM_F_DUMP_INTR
            self._answer = message.HEADER.pack(message.HEADER.size + 4, kind, flags, sequence, 0) + bytes(4)
        else:
            self._real.send(request)

    def recv(self, length: int) -> bytes:
        answer, self._answer = self._answer or self._real.recv(length), b""
        return answer


def test_links_that_an_interrupted_dump_leaves_out_are_not_taken_for_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel = RouteSocket()
    try:
        real = kernel._socket
        for times in (0, 1, 4):
            monkeypatch.setattr(kernel, "_socket", Interrupted(real, times))
            assert "lo" in kernel.links().indexes
        monkeypatch.undo()
    finally:
        kernel.close()


def test_a_bridges_word_about_its_port_is_none_about_the_interface() -> None:
    body = bytes((socket.AF_BRIDGE, 0)) + bytes(2) + (7).to_bytes(4, "little") + bytes(8)
    assert unpack_link(body) is None
    assert unpack_link(bytes(1) + body[1:]) is not None
