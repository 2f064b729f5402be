"""Kernel routes in a namespace of their own: written, repaired, swept; others' left alone."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import select
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import netns

from agent.kernel import message
from agent.kernel.fib import Fib
from agent.kernel.message import Place, RouteEntry
from agent.kernel.moving import forget, move
from agent.kernel.netlink import KernelError, RouteSocket
from agent.kernel.route import BLACKHOLE, Hop, KernelRoute, unicast, workload
from tests.agent.ground import eventually, namespace, needs_root, sh

pytestmark = [needs_root, pytest.mark.scenario]
PLACE = Place(254, 1024, 179)
V4, V6 = int(socket.AF_INET), int(socket.AF_INET6)


@pytest.fixture
def ground() -> Iterator[str]:
    """A namespace with two links to nowhere, in which this thread is for the test's time."""
    with namespace("fib") as name:
        for n in (0, 1):
            sh(f"ip -n {name} link add e{n} type veth peer name p{n}")
            sh(f"ip -n {name} link set e{n} up && ip -n {name} link set p{n} up")
            sh(f"ip -n {name} addr add 10.0.{n}.1/24 dev e{n}")
            sh(f"ip -n {name} -6 addr add 2001:db8:{n}::1/64 dev e{n} nodad")
        netns.pushns(name)
        try:
            yield name
        finally:
            netns.popns()


def nlri(text: str) -> bytes:
    network = ip_network(text)
    return bytes((network.prefixlen,)) + network.network_address.packed[: network.prefixlen + 7 >> 3]


def routes(name: str, what: str = "proto 179", family: str = "-4") -> dict[str, dict[str, Any]]:
    listed = json.loads(sh(f"ip -n {name} -j {family} route show {what}") or "[]")
    return {route["dst"]: route for route in listed}


class Owner:
    """A running `Fib` and how often next hops had to be resolved anew."""

    def __init__(self, place: Place, dry_run: bool) -> None:
        self.changes = 0
        self.learned: dict[bytes, tuple[bytes, ...]] = {}  # NLRI → next hops
        self.fib = Fib(
            place,
            lambda family, nlri: self.learned.get(nlri),
            self.changed,
            dry_run=dry_run,
            compare_every=3600,
        )

    def changed(self) -> None:
        self.changes += 1

    def via(self, gateway: str) -> KernelRoute:
        hops = self.fib.resolver.resolve(socket.inet_pton(V6 if ":" in gateway else V4, gateway))
        assert hops
        return unicast(*hops)

    async def settled(self) -> None:
        await eventually(lambda: self.fib.settled)


@asynccontextmanager
async def running(place: Place = PLACE, *, dry_run: bool = False) -> AsyncIterator[Owner]:
    owner = Owner(place, dry_run)
    task = asyncio.create_task(owner.fib.run())
    try:
        await owner.fib.ready.wait()
        yield owner
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        owner.fib.close()


async def test_every_kind_of_route_is_written_replaced_and_removed(ground: str) -> None:
    async with running() as owner:
        fib = owner.fib
        fib.sweep()
        e0, e1 = fib.links.indexes["e0"], fib.links.indexes["e1"]
        fib.want(V4, nlri("10.77.0.0/26"), owner.via("10.0.0.2"))
        fib.want(V4, nlri("10.77.1.0/26"), unicast(*owner.via("10.0.0.2").hops, *owner.via("10.0.1.2").hops))
        fib.want(V4, nlri("10.77.2.0/26"), BLACKHOLE)
        fib.want(V4, nlri("10.77.2.7/32"), workload(e1))
        fib.want(V4, nlri("10.77.3.0/26"), unicast(Hop(bytes((192, 0, 2, 1)), e0, onlink=True)))
        fib.want(V6, nlri("2001:db8:77::/64"), owner.via("2001:db8:0::2"))
        fib.want(V6, nlri("2001:db8:78::/64"), BLACKHOLE)
        ecmp = (*owner.via("2001:db8:0::2").hops, *owner.via("2001:db8:1::2").hops)
        fib.want(V6, nlri("2001:db8:79::/64"), unicast(*ecmp))
        await owner.settled()
        found = routes(ground)
        assert found["10.77.0.0/26"]["gateway"] == "10.0.0.2"
        assert {hop["gateway"] for hop in found["10.77.1.0/26"]["nexthops"]} == {"10.0.0.2", "10.0.1.2"}
        assert found["10.77.2.0/26"]["type"] == "blackhole"
        assert (found["10.77.2.7"]["dev"], found["10.77.2.7"]["scope"]) == ("e1", "link")
        assert found["10.77.3.0/26"]["flags"] == ["onlink"]
        found = routes(ground, family="-6")
        assert found["2001:db8:77::/64"]["gateway"] == "2001:db8::2"
        assert found["2001:db8:78::/64"]["type"] == "blackhole"
        assert len(found["2001:db8:79::/64"]["nexthops"]) == 2
        fib.want(V4, nlri("10.77.1.0/26"), BLACKHOLE)
        fib.want(V4, nlri("10.77.2.0/26"), owner.via("10.0.1.9"))
        fib.want(V6, nlri("2001:db8:78::/64"), unicast(*ecmp))
        fib.want(V6, nlri("2001:db8:79::/64"), BLACKHOLE)
        fib.want(V6, nlri("2001:db8:77::/64"), None)
        fib.want(V4, nlri("10.77.2.7/32"), None)
        await owner.settled()
        found = routes(ground)
        assert found["10.77.1.0/26"]["type"] == "blackhole"
        assert found["10.77.2.0/26"]["gateway"] == "10.0.1.9"
        assert "10.77.2.7" not in found
        found = routes(ground, family="-6")
        assert len(found["2001:db8:78::/64"]["nexthops"]) == 2
        assert found["2001:db8:79::/64"]["type"] == "blackhole"
        assert "2001:db8:77::/64" not in found
        assert fib.drift == 0
        assert not fib.failures


async def test_a_replacement_is_never_a_deletion(ground: str) -> None:
    async with running() as owner:
        owner.fib.want(V4, nlri("10.77.0.0/26"), owner.via("10.0.0.2"))
        await owner.settled()
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as monitor:
            monitor.bind((0, 0x40))
            monitor.setblocking(False)
            owner.fib.want(V4, nlri("10.77.0.0/26"), owner.via("10.0.1.2"))
            await owner.settled()
            kinds = []
            with contextlib.suppress(BlockingIOError):
                while True:
                    kinds.append(int.from_bytes(monitor.recv(65536)[4:6], "little"))
        assert kinds == [24]  # one RTM_NEWROUTE and no RTM_DELROUTE


async def test_what_others_delete_or_alter_is_put_right(ground: str) -> None:
    async with running() as owner:
        for n in range(3):
            owner.fib.want(V4, nlri(f"10.77.{n}.0/24"), owner.via("10.0.0.2"))
        owner.fib.want(V6, nlri("2001:db8:77::/64"), owner.via("2001:db8:0::2"))
        await owner.settled()
        sh(f"ip -n {ground} route del 10.77.0.0/24")
        sh(f"ip -n {ground} route change 10.77.1.0/24 via 10.0.1.7 metric 1024 proto 179")
        sh(f"ip -n {ground} -6 route del 2001:db8:77::/64")
        await eventually(lambda: owner.fib.drift == 3)
        await owner.settled()
        assert {route["gateway"] for route in routes(ground).values()} == {"10.0.0.2"}
        assert len(routes(ground)) == 3
        assert "2001:db8:77::/64" in routes(ground, family="-6")


async def test_foreign_routes_are_never_overwritten_nor_removed(ground: str) -> None:
    sh(f"ip -n {ground} route add 10.77.0.0/24 via 10.0.0.9 metric 1024 proto static")
    sh(f"ip -n {ground} route add 10.77.1.0/24 via 10.0.0.9 proto bird")
    async with running() as owner:
        owner.fib.sweep()
        owner.fib.want(V4, nlri("10.77.0.0/24"), owner.via("10.0.0.2"))
        owner.fib.want(V4, nlri("10.77.1.0/24"), owner.via("10.0.0.2"))
        await owner.settled()
        assert routes(ground, "10.77.0.0/24")["10.77.0.0/24"]["protocol"] == "static"
        assert owner.fib.deltas[V4].blocked == {(nlri("10.77.0.0/24"), 1024)}
        both = json.loads(sh(f"ip -n {ground} -j route show 10.77.1.0/24"))
        assert {route["protocol"] for route in both} == {"bird", "179"}
        owner.fib.want(V4, nlri("10.77.0.0/24"), None)
        owner.fib.want(V4, nlri("10.77.1.0/24"), None)
        await owner.settled()
        assert len(routes(ground, "10.77.1.0/24 proto bird")) == 1
        owner.fib.want(V4, nlri("10.77.0.0/24"), owner.via("10.0.0.2"))
        sh(f"ip -n {ground} route del 10.77.0.0/24 proto static")
        await eventually(lambda: "10.77.0.0/24" in routes(ground))


@pytest.mark.parametrize(
    ("prefix", "ours", "changed", "foreign"),
    [
        ("10.77.0.0/24", "10.0.0.2", "10.0.0.3", "10.0.1.9"),
        ("2001:db8:77::/64", "2001:db8::2", "2001:db8::3", "2001:db8:1::9"),
    ],
)
async def test_a_foreign_route_that_came_a_moment_ago_is_not_overwritten(
    ground: str, prefix: str, ours: str, changed: str, foreign: str
) -> None:
    """The loop was busy: what is to be written and what the kernel has told are there at once."""
    family, version = (V6, "-6") if ":" in prefix else (V4, "-4")
    async with running() as owner:
        owner.fib.want(family, nlri(prefix), owner.via(ours))
        await owner.settled()
        sh(f"ip -n {ground} {version} route replace {prefix} via {foreign} metric 1024 proto static")
        owner.fib.want(family, nlri(prefix), owner.via(changed))
        await eventually(lambda: bool(owner.fib.deltas[family].blocked))
        assert routes(ground, prefix, version)[prefix]["protocol"] == "static"


@pytest.mark.parametrize("how", ["prepend", "append"])
async def test_a_foreign_route_beside_ours_is_not_replaced_for_it(ground: str, how: str) -> None:
    """Put before or behind ours at the very same place: the kernel would replace whichever is the first."""
    async with running() as owner:
        owner.fib.want(V4, nlri("10.77.0.0/24"), owner.via("10.0.0.2"))
        await owner.settled()
        sh(f"ip -n {ground} route {how} 10.77.0.0/24 via 10.0.0.9 metric 1024 proto static")
        await eventually(lambda: bool(owner.fib.resolver.resolve(bytes((10, 77, 0, 9)))))
        owner.fib.want(V4, nlri("10.77.0.0/24"), owner.via("10.0.1.2"))
        await owner.settled()
        there = json.loads(sh(f"ip -n {ground} -j route show 10.77.0.0/24"))
        assert [route["gateway"] for route in there] == ["10.0.0.9"]
        sh(f"ip -n {ground} route del 10.77.0.0/24 proto static")
        await eventually(lambda: routes(ground).get("10.77.0.0/24", {}).get("gateway") == "10.0.1.2")


async def test_what_is_spared_stays_until_it_is_wanted_again_or_nothing_is_spared_any_more(
    ground: str,
) -> None:
    for prefix, metric in (("10.77.0.0/24", 1024), ("10.77.1.0/24", 1024), ("10.77.2.0/24", 512)):
        sh(f"ip -n {ground} route add {prefix} via 10.0.0.9 metric {metric} proto 179")
    async with running() as owner:
        fib = owner.fib
        fib.want(V4, nlri("10.77.3.0/24"), owner.via("10.0.1.2"))
        fib.sweep(sparing=True)
        await owner.settled()
        assert routes(ground).keys() >= {f"10.77.{n}.0/24" for n in range(4)}
        fib.want(V4, nlri("10.77.3.0/24"), None)
        fib.want(V4, nlri("10.77.1.0/24"), owner.via("10.0.1.2"))
        fib.want(V4, nlri("10.77.2.0/24"), owner.via("10.0.1.2"))
        await owner.settled()
        listed = sh(f"ip -n {ground} route show proto 179").splitlines()
        assert sorted(line.split()[0] + line.split("metric")[1] for line in listed) == [
            "10.77.0.0/24 1024 ", "10.77.1.0/24 1024 ", "10.77.2.0/24 1024 ",
        ]  # fmt: skip
        fib.want(V4, nlri("10.77.1.0/24"), None)
        await owner.settled()
        assert "10.77.1.0/24" not in routes(ground)
        assert routes(ground)["10.77.0.0/24"]["gateway"] == "10.0.0.9"
        fib.sweep()
        await owner.settled()
        assert "10.77.0.0/24" not in routes(ground)


async def test_what_leads_to_the_dead_alone_is_not_spared(ground: str) -> None:
    for n in range(3):
        sh(f"ip -n {ground} route add 10.77.{n}.0/24 via 10.0.0.{7 + n} metric 1024 proto 179")
    both = "nexthop via 10.0.0.7 nexthop via 10.0.0.9"
    sh(f"ip -n {ground} route add 10.77.3.0/24 metric 1024 proto 179 {both}")
    async with running() as owner:
        owner.fib.forsake({bytes((10, 0, 0, 7))})
        owner.fib.sweep(sparing=True)
        await eventually(lambda: routes(ground).keys() == {f"10.77.{n}.0/24" for n in (1, 2, 3)})
        owner.fib.forsake({bytes((10, 0, 0, 7)), bytes((10, 0, 0, 8))})
        await eventually(lambda: routes(ground).keys() == {f"10.77.{n}.0/24" for n in (2, 3)})


@pytest.mark.parametrize(
    "added", ["via 2001:db8:1::9", "nexthop via 2001:db8:1::8 nexthop via 2001:db8:1::9"]
)
async def test_what_is_appended_to_an_ipv6_route_of_ours_stays(ground: str, added: str) -> None:
    """The kernel makes one route of both, under our protocol number, and would replace or remove it whole."""
    prefix, added = "2001:db8:77::/64", added.replace("{}", "2001:db8:1")
    foreign = {f"2001:db8:1::{n}" for n in (8, 9) if f"::{n}" in added}

    def gateways() -> set[str]:
        there = json.loads(sh(f"ip -n {ground} -6 -j route show {prefix}"))
        return {hop["gateway"] for route in there for hop in route.get("nexthops", [route])}

    async def append() -> None:
        sh(f"ip -n {ground} -6 route append {prefix} proto static metric 1024 {added}")
        await eventually(lambda: bool(owner.fib.resolver.resolve(bytes.fromhex("20010db80077" + "00" * 10))))
        await owner.settled()

    sh(f"ip -n {ground} -6 route add {prefix} proto 179 metric 1024 via 2001:db8::2")
    sh(f"ip -n {ground} -6 route append {prefix} proto static metric 1024 {added}")
    async with running() as owner:  # a former life's
        fib = owner.fib
        fib.sweep()
        fib.want(V6, nlri(prefix), owner.via("2001:db8::2"))
        await owner.settled()
        assert gateways() == {"2001:db8::2", *foreign}
        fib.want(V6, nlri(prefix), owner.via("2001:db8::3"))
        await eventually(lambda: bool(fib.deltas[V6].blocked))
        assert gateways() == foreign
        sh(f"ip -n {ground} -6 route del {prefix} proto static")
        await eventually(lambda: gateways() == {"2001:db8::3"})
        await append()
        assert gateways() == {"2001:db8::3", *foreign}
        fib.want(V6, nlri(prefix), None)
        await eventually(lambda: gateways() == foreign)
        sh(f"ip -n {ground} -6 route del {prefix} proto static")
        fib.want(V6, nlri(prefix), owner.via("2001:db8::2"))
        await eventually(lambda: gateways() == {"2001:db8::2"})
        await append()
        assert fib.drift == 0
    await fib.remove_all()
    fib.close()
    assert gateways() == foreign


async def test_a_route_moves_to_another_metric_without_a_gap(ground: str) -> None:
    sh(f"ip -n {ground} route add 10.77.1.0/24 via 10.0.0.9 metric 512 proto static")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as monitor:
        monitor.bind((0, 0x40))  # RTNLGRP_IPV4_ROUTE
        async with running() as owner:
            fib = owner.fib
            fib.sweep()
            for metric, gateway in (
                (None, "10.0.0.2"),
                (512, "10.0.0.2"),
                (512, "10.0.1.2"),
                (None, "10.0.1.2"),
            ):
                for prefix in ("10.77.0.0/24", "10.77.1.0/24"):
                    fib.want(V4, nlri(prefix), owner.via(gateway), metric)
                await owner.settled()
                assert routes(ground)["10.77.0.0/24"]["gateway"] == gateway
                assert routes(ground)["10.77.0.0/24"]["metric"] == (metric or 1024)
                assert routes(ground)["10.77.1.0/24"]["metric"] == 1024  # at 512 somebody else is
            for prefix in ("10.77.0.0/24", "10.77.1.0/24"):
                fib.want(V4, nlri(prefix), None)
            await eventually(lambda: not routes(ground))
        seen = []
        while select.select([monitor], [], [], 0)[0]:
            for kind, _, _, _, body in message.messages(monitor.recv(65536)):
                entry = message.unpack(body)
                if entry is not None and entry.nlri == nlri("10.77.0.0/24"):
                    seen.append((kind == message.RTM_NEWROUTE, entry.metric))
    assert seen == [
        (True, 1024), (True, 512), (False, 1024), (True, 512), (True, 1024), (False, 512), (False, 1024)
    ]  # fmt: skip


async def test_a_former_life_is_swept_only_when_allowed(ground: str) -> None:
    for n in range(4):
        sh(f"ip -n {ground} route add 10.77.{n}.0/24 via 10.0.0.9 metric 1024 proto 179")
    async with running() as owner:
        owner.fib.want(V4, nlri("10.77.0.0/24"), owner.via("10.0.0.9"))
        owner.fib.want(V4, nlri("10.77.1.0/24"), owner.via("10.0.0.2"))
        await owner.settled()
        assert len(routes(ground)) == 4
        assert routes(ground)["10.77.1.0/24"]["gateway"] == "10.0.0.2"
        owner.fib.sweep()
        await eventually(lambda: set(routes(ground)) == {"10.77.0.0/24", "10.77.1.0/24"})


async def test_links_going_down_and_up_are_followed(ground: str) -> None:
    async with running() as owner:
        fib = owner.fib
        before = owner.changes
        fib.want(V4, nlri("10.77.0.0/24"), owner.via("10.0.0.2"))
        await owner.settled()
        sh(f"ip -n {ground} link set e0 down")
        await eventually(lambda: not fib.resolver.resolve(bytes((10, 0, 0, 2))))
        assert owner.changes > before
        fib.want(V4, nlri("10.77.0.0/24"), owner.via("10.0.1.2"))
        await eventually(lambda: routes(ground).get("10.77.0.0/24", {}).get("gateway") == "10.0.1.2")
        sh(f"ip -n {ground} link set e0 up")
        await eventually(lambda: bool(fib.resolver.resolve(bytes((10, 0, 0, 2)))))


async def test_a_default_route_that_is_left_over_is_used(ground: str) -> None:
    """Two of different metrics, the better one's link without a carrier; two of one, as routers announce."""
    async with running() as owner:
        fib, far, far6 = owner.fib, bytes((203, 0, 113, 9)), bytes.fromhex("20010db80900" + "00" * 9 + "09")
        sh(f"ip -n {ground} route add default via 10.0.0.9 metric 100 proto static")
        sh(f"ip -n {ground} route add default via 10.0.1.9 metric 200 proto static")
        await eventually(lambda: fib.resolver.resolve(far) == (Hop(bytes((10, 0, 0, 9)), 3),))
        sh(f"ip -n {ground} link set p0 down")
        await eventually(lambda: fib.resolver.resolve(far) == (Hop(bytes((10, 0, 1, 9)), 5),))
        sh(f"ip -n {ground} link set p0 up")
        await eventually(lambda: fib.resolver.resolve(far) == (Hop(bytes((10, 0, 0, 9)), 3),))
        for n in (0, 1):
            sh(f"ip -n {ground} -6 route append 2001:db8:900::/64 dev e{n} metric 1024 proto static")
        await owner.settled()
        sh(f"ip -n {ground} -6 route del 2001:db8:900::/64 dev e0")
        sh(f"ip -n {ground} -6 route add 2001:db8:901::/64 dev e0 metric 1024 proto static")
        other = bytes.fromhex("20010db80901" + "00" * 9 + "09")
        await eventually(lambda: bool(fib.resolver.resolve(other)))
        assert fib.resolver.resolve(far6) == (Hop(far6, fib.links.indexes["e1"]),)


@pytest.mark.parametrize("own", ["2001:db8::9/128", "2001:db8::8/125", "10.0.0.2/32"])
async def test_a_peer_may_announce_its_own_address(ground: str, own: str) -> None:
    """Linux takes no IPv6 gateway that it would reach by way of a gateway."""
    six = ":" in own
    family, router, far = (V6, "2001:db8::9", "2001:db8:900::1") if six else (V4, "10.0.0.2", "203.0.113.1")
    farther = [f"2001:db8:7{n}::/64" if six else f"10.77.{n}.0/24" for n in range(3)]
    sh(f"ip -n {ground} route add default via {router} proto static")
    async with running() as owner:
        fib = owner.fib
        fib.want(family, nlri(farther[0]), owner.via(router))
        await owner.settled()
        owner.learned[nlri(own)] = (socket.inet_pton(family, router),)
        assert fib.resolver.learned_changed(family, nlri(own))
        for prefix, by in ((own, router), (farther[1], router), (farther[2], far)):
            fib.want(family, nlri(prefix), owner.via(by))
            await eventually(lambda: not fib.pending or bool(fib.failures))
        assert not fib.failures
        assert len(routes(ground, family="-6" if six else "-4")) == 4
        fib.look_again()
        await owner.settled()
        assert fib.drift == 0


@pytest.mark.parametrize(("subnet", "length"), [("2001:db8:1:", 128), ("10.0.1.", 32)])
async def test_a_gateway_that_one_of_two_routes_calls_onlink_is_one_gateway(
    ground: str, subnet: str, length: int
) -> None:
    family, version = (V6, "-6") if ":" in subnet else (V4, "-4")
    far, prefix = ("2001:db8:b::{}", "2001:db8:77::/64") if family == V6 else ("203.0.113.{}", "10.77.0.0/24")
    router = f"{subnet}{':' if family == V6 else ''}9"
    sh(f"ip -n {ground} {version} route add {far.format(1)}/{length} via {router} dev e1")
    sh(f"ip -n {ground} {version} route add {far.format(2)}/{length} via {router} dev e1 onlink")
    async with running() as owner:
        hops = [hop for n in (1, 2) for hop in owner.via(far.format(n)).hops]
        assert len(hops) == 2
        owner.fib.want(family, nlri(prefix), unicast(*hops))
        await eventually(lambda: routes(ground, prefix, version).get(prefix, {}).get("gateway") == router)
        assert not owner.fib.deltas[family].blocked


async def test_a_link_that_another_program_calls_farther_than_a_link_leads_to_gateways(ground: str) -> None:
    """netlink's scope 0, which many programs leave as it is: the kernel takes no gateway there by itself."""
    sh(f"ip -n {ground} route add 10.9.0.0/24 dev e0 scope global")
    async with running() as owner:
        owner.fib.want(V4, nlri("10.77.0.0/24"), owner.via("10.9.0.5"))
        await eventually(lambda: "10.77.0.0/24" in routes(ground) or bool(owner.fib.failures))
        assert not owner.fib.failures


async def test_a_refused_route_delays_no_other(ground: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.kernel.fib._RETRY", 3600.0)
    async with running() as owner:
        nowhere = unicast(Hop(bytes((192, 0, 2, 1)), owner.fib.links.indexes["e0"]))
        owner.fib.want(V4, nlri("10.78.0.0/24"), nowhere)
        await eventually(lambda: bool(owner.fib.failures))
        owner.fib.want(V4, nlri("10.77.0.0/24"), owner.via("10.0.0.2"))
        await eventually(lambda: "10.77.0.0/24" in routes(ground), 10)
        owner.fib.want(V4, nlri("10.78.0.0/24"), owner.via("10.0.0.2"))
        owner.fib.want(V4, nlri("10.79.0.0/24"), nowhere)
        await eventually(lambda: "10.78.0.0/24" in routes(ground), 10)
        assert owner.fib.failures.keys() == {(V4, (nlri("10.79.0.0/24"), 1024))}
        owner.fib.want(V4, nlri("10.79.0.0/24"), None)
        await eventually(lambda: not owner.fib.failures)


async def test_what_happens_during_a_full_look_is_seen(ground: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the dump's back: ours is removed, a foreign one goes, another comes."""
    sh(f"ip -n {ground} route add 10.79.0.0/24 via 10.0.0.9 metric 1024 proto static")
    async with running() as owner:
        fib = owner.fib
        fib.want(V4, nlri("10.77.0.0/24"), owner.via("10.0.0.2"))
        await eventually(lambda: "tentative" not in sh(f"ip -n {ground} -6 addr"))  # links say no more
        await owner.settled()
        dump, looked = RouteSocket.dump, threading.Event()

        def slowly(self: RouteSocket, family: int, table: int = 0, protocol: int = 0) -> list[RouteEntry]:
            found = dump(self, family, table, protocol)
            if family == V4 and not looked.is_set():
                sh(f"ip -n {ground} route del 10.77.0.0/24")
                sh(f"ip -n {ground} route del 10.79.0.0/24")
                sh(f"ip -n {ground} route add 10.80.0.0/24 via 10.0.0.9 metric 1024 proto static")
                time.sleep(0.3)  # the notifications are read meanwhile
                looked.set()
            return found

        monkeypatch.setattr(RouteSocket, "dump", slowly)
        fib.look_again()
        await eventually(looked.is_set)
        await eventually(lambda: "10.77.0.0/24" in routes(ground), 15)
        assert fib.resolver.resolve(bytes((10, 79, 0, 9))) == ()
        assert fib.resolver.resolve(bytes((10, 80, 0, 9)))


async def test_a_refused_route_is_reported_and_the_rest_of_its_batch_stands(ground: str) -> None:
    async with running() as owner:
        for n in range(20):
            owner.fib.want(V4, nlri(f"10.77.{n}.0/24"), owner.via("10.0.0.2"))
        owner.fib.want(
            V4, nlri("10.78.0.0/24"), unicast(Hop(bytes((192, 0, 2, 1)), owner.fib.links.indexes["e0"]))
        )
        await eventually(lambda: len(routes(ground)) == 20)
        await eventually(
            lambda: owner.fib.failures == {(V4, (nlri("10.78.0.0/24"), 1024)): "Network is unreachable"}
        )
        sh(f"ip -n {ground} addr add 192.0.2.9/24 dev e0")
        await eventually(lambda: "10.78.0.0/24" in routes(ground))
        assert not owner.fib.failures


async def test_lost_answers_are_said_and_the_next_batch_is_answered(
    ground: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a receive buffer holds that may not be large: every second batch was never answered."""
    monkeypatch.setattr("agent.kernel.netlink._RECEIVE_BUFFER", 4096)
    kernel = RouteSocket()
    kernel._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 10, 0))

    def refused(extra: int, sequence: int) -> bytes:
        return message.pack(
            message.RTM_DELROUTE, extra, sequence, V4, nlri("10.99.0.0/24"), PLACE, message.ANY
        )

    try:
        for _ in range(3):
            with pytest.raises(KernelError, match="lost"):
                kernel.write([refused] * 500)
        assert kernel.write([refused] * 2) == {0: errno.ESRCH, 1: errno.ESRCH}
    finally:
        kernel.close()


async def test_another_table_and_metric(ground: str) -> None:
    async with running(Place(5077, 7, 179)) as owner:
        owner.fib.want(V4, nlri("10.77.0.0/24"), owner.via("10.0.0.2"))
        await owner.settled()
        assert routes(ground, "table 5077")["10.77.0.0/24"]["metric"] == 7
        assert not routes(ground)


async def test_a_dry_run_writes_nothing_and_tells_what_it_would(ground: str) -> None:
    async with running(dry_run=True) as owner:
        owner.fib.want(V4, nlri("10.77.0.0/24"), owner.via("10.0.0.2"))
        await owner.settled()
        assert not routes(ground)
        [(family, key, route)] = list(owner.fib.wanted())
        assert (family, key) == (V4, nlri("10.77.0.0/24"))
        assert route == owner.via("10.0.0.2")


async def test_another_table_or_protocol_number_takes_the_routes_along(ground: str, tmp_path: Path) -> None:
    """Whatever kind they are, with no gap within the table, and no route of another program's."""
    ours, far, far6 = "proto 179 metric 1024", "nexthop via 10.0", "nexthop via 2001:db8"
    kinds = [
        f"10.77.0.0/26 {ours} via 10.0.0.9", f"10.77.1.0/26 {ours} {far}.0.9 {far}.1.9",
        f"blackhole 10.77.2.0/26 {ours}", f"10.77.2.7 {ours} dev e1 scope link",
        f"10.77.3.0/26 {ours} via 192.0.2.1 dev e0 onlink",
        f"2001:db8:77::/64 {ours} via 2001:db8::9", f"blackhole 2001:db8:78::/64 {ours}",
        f"2001:db8:79::/64 {ours} {far6}::9 {far6}:1::9",
    ]  # fmt: skip
    await move(tmp_path, PLACE)
    for route in kinds:
        sh(f"ip -n {ground} {'-6' if ':' in route else ''} route add {route}")
    sh(f"ip -n {ground} route add 10.77.9.0/26 via 10.0.0.9 metric 512 proto 179")
    foreign = [
        "10.77.0.0/26 via 10.0.0.7 metric 7 proto bird", "10.78.0.0/26 via 10.0.0.7 metric 1024 proto static",
        "10.78.0.0/26 via 10.0.0.7 metric 1024 proto 179 table 5078",
    ]  # fmt: skip
    for route in foreign:
        sh(f"ip -n {ground} route add {route}")

    def listed(what: str) -> list[str]:
        return [
            sh(f"ip -n {ground} {version} route show {what} | sed 's/ proto 8.//'")
            for version in ("-4", "-6")
        ]

    def others() -> list[list[str]]:
        return [listed(what) for what in ("proto bird", "proto static", "table 5078")]

    before, strangers = listed("proto 179"), others()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as monitor:
        monitor.bind((0, 0x40 | 0x400))
        await move(tmp_path, Place(254, 9, 85))
        while select.select([monitor], [], [], 0)[0]:
            kinds_seen = {kind for kind, *_ in message.messages(monitor.recv(65536))}
            assert kinds_seen == {message.RTM_NEWROUTE}
    assert (listed("proto 179"), listed("proto 85")) == (["", ""], before)
    await move(tmp_path, Place(5077, 9, 86))
    assert listed("table 5077 proto 86") == before
    assert listed("proto 85") == ["", ""]
    assert others() == strangers


@pytest.mark.parametrize("calls", [0, 1, 2])
@pytest.mark.parametrize("back", [False, True])
async def test_a_move_that_was_broken_off_is_finished_or_taken_back(
    ground: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int, back: bool
) -> None:
    await move(tmp_path, PLACE)
    sh(f"ip -n {ground} route add 10.99.0.0/24 via 10.0.0.9 table 5077")
    sh(
        "for n in $(seq 0 254); do for m in 0 1; do "
        "echo route add 10.77.$m.$n via 10.0.0.9 metric 1024 proto 179; done; done"
        f" | ip -n {ground} -batch -"
    )
    write, left = RouteSocket.write, [None] * calls

    def breaks_off(self: RouteSocket, pack: Sequence[Callable[[int, int], bytes]]) -> dict[int, int]:
        if not left:
            raise OSError("broken off")
        left.pop()
        return write(self, pack)

    new = Place(5077, 1024, 85)
    with monkeypatch.context() as patched:
        patched.setattr(RouteSocket, "write", breaks_off)
        await move(tmp_path, new)
    assert len(routes(ground)) == (10 if calls == 2 else 510)
    forget(tmp_path, new)
    now = PLACE if back else new
    await move(tmp_path, now)
    assert len(routes(ground, f"table {now.table} proto {now.protocol}")) == 510
    former = new if back else PLACE
    assert not routes(ground, f"table {former.table} proto {former.protocol}")


async def test_all_of_ours_and_nothing_else_is_removed_at_the_end(ground: str) -> None:
    sh(f"ip -n {ground} route add 10.78.0.0/24 via 10.0.0.9 proto static")
    async with running() as owner:
        for n in range(600):
            owner.fib.want(V4, nlri(f"10.77.{n // 256}.{n % 256}/32"), owner.via("10.0.0.2"))
        await owner.settled()
        assert len(routes(ground)) == 600
    owner = Owner(PLACE, False)
    await owner.fib.remove_all()
    owner.fib.close()
    assert not routes(ground)
    assert "10.78.0.0/24" in routes(ground, "proto static")


async def test_a_hundred_thousand_routes_and_a_new_next_hop_for_all(ground: str) -> None:
    async with running() as owner:
        started = time.monotonic()
        for gateway in ("10.0.0.2", "10.0.1.2"):
            route = owner.via(gateway)
            for n in range(100_000):
                owner.fib.want(V4, bytes((32, 11, n >> 16, n >> 8 & 255, n & 255)), route)
            await owner.settled()
            print(f"100,000 routes via {gateway}: {time.monotonic() - started:.2f} s")
            started = time.monotonic()
        assert owner.fib.deltas[V4].actual.keys() == owner.fib.deltas[V4].desired.keys()
        assert int(sh(f"ip -n {ground} route show proto 179 via 10.0.1.2 | wc -l")) == 100_000
        assert owner.fib.drift == 0
