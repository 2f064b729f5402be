"""Others' routes that the kernel takes away without a word about them, and those that hide each other."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from agent.kernel.link import Links
from agent.kernel.message import RouteEntry
from tests.agent.fibs import V4, V6, Owner, nlri, routes, running
from tests.agent.ground import eventually, namespace, needs_root, sh

pytestmark = [needs_root, pytest.mark.scenario]
FAR = "203.0.113.0/24"


def gateways(owner: Owner) -> list[str]:
    """How what is behind the far prefix is reached."""
    hops = owner.fib.resolver.resolve(socket.inet_aton("203.0.113.1"))
    return [socket.inet_ntoa(hop.gateway) for hop in hops]


def without_ipv6(ground: str, *interfaces: str) -> None:
    """An interface that loses an IPv6 address has everything looked at for that alone."""
    for interface in interfaces:
        sh(f"ip netns exec {ground} sysctl -qw net.ipv6.conf.{interface}.disable_ipv6=1")


def once(fib: object, name: str, then: Callable[[], object]) -> None:
    """After the next call of a method of the socket something happens, before the answer is used."""
    called = getattr(fib, name)

    def instead(*arguments: int) -> list[RouteEntry] | Links:
        setattr(fib, name, called)
        answer: list[RouteEntry] | Links = called(*arguments)
        then()
        return answer

    setattr(fib, name, instead)


async def test_nexthop_objects_are_gone_with_the_carrier(ground: str) -> None:
    without_ipv6(ground, "e1", "p1")
    with namespace("far") as far:
        sh(f"ip -n {ground} link set p1 netns {far} && ip -n {far} link set p1 up")
        async with running() as owner:
            sh(f"ip -n {ground} nexthop add id 1 via 10.0.1.9 dev e1")
            sh(f"ip -n {ground} route add {FAR} nhid 1")
            await eventually(lambda: gateways(owner) == ["10.0.1.9"])
            await owner.settled()
            sh(f"ip -n {far} link set p1 down")
            await eventually(lambda: not gateways(owner))
            await owner.settled()
            sh(f"ip -n {far} link set p1 up")
            e1 = owner.fib.links.indexes["e1"]
            await eventually(lambda: e1 in owner.fib.links.up)
            await owner.settled()
            assert FAR not in routes(ground, "")
            assert not gateways(owner)


async def test_a_link_that_is_removed_while_down_takes_a_multipath_route_along(ground: str) -> None:
    sh(f"ip -n {ground} addr del 10.0.1.1/24 dev e1 && ip -n {ground} link set p1 down")
    without_ipv6(ground, "e1")
    async with running() as owner:
        ways = "nexthop via 10.0.0.9 nexthop via 169.254.0.1 dev e1 onlink"
        sh(f"ip -n {ground} route add {FAR} {ways}")
        await eventually(lambda: gateways(owner) == ["10.0.0.9"])
        sh(f"ip -n {ground} link set e1 down")
        e1 = owner.fib.links.indexes["e1"]
        await eventually(lambda: e1 not in owner.fib.links.raised)
        await owner.settled()
        assert gateways(owner) == ["10.0.0.9"]
        sh(f"ip -n {ground} link del e1")
        await eventually(lambda: not gateways(owner), 20)
        assert FAR not in routes(ground, "")


async def test_a_nexthop_object_may_go_while_everything_is_looked_at(ground: str) -> None:
    def goes() -> None:
        sh(f"ip -n {ground} nexthop del id 1")
        gone.append(True)

    gone: list[bool] = []
    sh(f"ip -n {ground} nexthop add id 1 via 10.0.1.9 dev e1 && ip -n {ground} route add {FAR} nhid 1")
    async with running() as owner:
        await owner.settled()
        assert gateways(owner) == ["10.0.1.9"]
        once(owner.fib._socket, "dump", goes)
        owner.fib.look_again()
        await eventually(lambda: bool(gone))
        await eventually(lambda: not gateways(owner), 20)


async def test_a_link_may_come_and_go_while_everything_is_looked_at(ground: str) -> None:
    def comes() -> None:
        sh(f"ip -n {ground} link set e1 up && ip -n {ground} route add {FAR} via 10.0.1.9")
        once(owner.fib._socket, "dump", lambda: once(owner.fib._socket, "dump", goes))

    def goes() -> None:
        sh(f"ip -n {ground} link set e1 down")
        gone.append(True)

    gone: list[bool] = []
    without_ipv6(ground, "e1", "p1")
    sh(f"ip -n {ground} link set e1 down")
    async with running() as owner:
        await owner.settled()
        once(owner.fib._socket, "links", comes)
        owner.fib.look_again()
        await eventually(lambda: bool(gone))
        await owner.settled()
        sh(f"ip -n {ground} link set e1 up")
        e1 = owner.fib.links.indexes["e1"]
        await eventually(lambda: e1 in owner.fib.links.up)
        await owner.settled()
        assert not gateways(owner)


@pytest.mark.parametrize(
    ("version", "prefix", "ours", "theirs"),
    [
        ("-4", "10.77.0.0/24", "10.0.0.2", "10.0.0.9"),
        ("-6", "2001:db8:77::/64", "2001:db8::2", "2001:db8::9"),
    ],
)
async def test_where_somebody_puts_a_route_of_our_number_in_anothers_place_ours_comes(
    ground: str, version: str, prefix: str, ours: str, theirs: str
) -> None:
    family = V4 if version == "-4" else V6
    async with running() as owner:
        sh(f"ip -n {ground} {version} route add {prefix} via {theirs} metric 1024 proto static")
        owner.fib.want(family, nlri(prefix), owner.via(ours))
        await eventually(lambda: bool(owner.fib.deltas[family].blocked))
        sh(f"ip -n {ground} {version} route replace {prefix} via {theirs} metric 1024 proto 179")
        await eventually(lambda: routes(ground, family=version).get(prefix, {}).get("gateway") == ours, 20)
        await owner.settled()
        assert not owner.fib.deltas[family].blocked


@pytest.mark.parametrize("how", ["prepend", "append"])
async def test_a_route_of_our_number_that_somebody_puts_beside_ours_goes(ground: str, how: str) -> None:
    """The kernel replaces none of two by what the other is."""
    prefix = "10.77.0.0/24"
    async with running() as owner:
        owner.fib.want(V4, nlri(prefix), owner.via("10.0.0.2"))
        await owner.settled()
        sh(f"ip -n {ground} route {how} {prefix} via 10.0.0.9 metric 1024 proto 179")
        await eventually(lambda: owner.fib.drift > 0)
        alone = [prefix, "via", "10.0.0.2"]
        await eventually(
            lambda: sh(f"ip -n {ground} route show {prefix} | cut -d' ' -f-3").split() == alone, 20
        )
        await owner.settled()
        assert not owner.fib.deltas[V4].blocked


async def test_two_routes_that_differ_in_their_protocol_alone_are_two(ground: str) -> None:
    async with running() as owner:
        for how, protocol in (("add", "static"), ("append", "bird")):
            sh(f"ip -n {ground} route {how} {FAR} via 10.0.0.9 proto {protocol}")
        await eventually(lambda: gateways(owner) == ["10.0.0.9"])
        await owner.settled()
        changes = owner.changes
        sh(f"ip -n {ground} route del {FAR} proto static")
        await eventually(lambda: owner.changes > changes)
        await owner.settled()
        assert gateways(owner) == ["10.0.0.9"]


async def test_of_two_routes_at_one_place_the_first_counts(ground: str) -> None:
    async with running() as owner:
        sh(f"ip -n {ground} route add {FAR} via 10.0.0.8 proto static")
        await eventually(lambda: gateways(owner) == ["10.0.0.8"])
        sh(f"ip -n {ground} route prepend {FAR} via 10.0.0.9 proto static")
        await eventually(lambda: gateways(owner) == ["10.0.0.9"], 20)


async def test_what_is_unwanted_at_another_metric_is_unwanted_where_it_was_kept(ground: str) -> None:
    prefix = "10.77.0.0/24"
    sh(f"ip -n {ground} route add {prefix} via 10.0.0.9 metric 512 proto static")
    async with running() as owner:
        owner.fib.sweep()
        owner.fib.want(V4, nlri(prefix), owner.via("10.0.0.2"))
        await owner.settled()
        owner.fib.want(V4, nlri(prefix), owner.via("10.0.0.2"), 512)
        await owner.settled()
        assert prefix in routes(ground)
        owner.fib.want(V4, nlri(prefix), None, 512)
        await eventually(lambda: prefix not in routes(ground), 20)


async def test_a_link_without_addresses_takes_its_routes_along_whatever_else_happens_at_once(
    ground: str,
) -> None:
    prefix = "10.77.0.0/24"
    without_ipv6(ground, "e1")
    sh(f"ip -n {ground} addr del 10.0.1.1/24 dev e1")
    async with running() as owner:
        sh(f"ip -n {ground} route add {FAR} via 169.254.0.1 dev e1 onlink")
        await eventually(lambda: gateways(owner) == ["169.254.0.1"])
        owner.fib.want(V4, nlri(prefix), owner.fib.workload("e1"))
        await owner.settled()
        for change in ("link set e1 down", "addr add 192.0.2.1/32 dev lo", "link set e1 up"):
            sh(f"ip -n {ground} {change}")
        assert prefix not in routes(ground)
        await eventually(lambda: prefix in routes(ground))
        await owner.settled()
        assert not gateways(owner)
        assert owner.fib.drift == 0
