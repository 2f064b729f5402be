"""Kernel routes beside those of others, of a former life and of the dead: kept, repaired, swept."""

from __future__ import annotations

import json
import socket
from ipaddress import ip_address

import pytest
import structlog

from tests.agent.fibs import PLACE, V4, V6, Owner, nlri, routes, running
from tests.agent.ground import eventually, needs_root, sh

pytestmark = [needs_root, pytest.mark.scenario]


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


async def test_what_goes_with_its_interface_was_changed_by_nobody(ground: str) -> None:
    """The end of any workload, and no reason for an alert."""
    hosts = {V4: "10.77.0.{}/32", V6: "fd00:77::{}/128"}

    def ours() -> list[str]:
        return sorted(route for family in ("-4", "-6") for route in routes(ground, family=family))

    def want(number: int) -> None:
        for family, host in hosts.items():
            owner.fib.want(family, nlri(host.format(number)), owner.fib.workload(f"w{number}"))

    for number in (1, 2, 3):
        sh(f"ip -n {ground} link add w{number} type veth peer name x{number}")
        sh(f"ip -n {ground} link set x{number} up && ip -n {ground} link set w{number} up")
    async with running() as owner:
        await eventually(lambda: None not in map(owner.fib.workload, ("w1", "w2", "w3")))
        for number in (1, 2, 3):
            want(number)
        await eventually(lambda: len(ours()) == 6)
        await owner.settled()
        sh(f"ip -n {ground} link del w1")
        sh(f"ip -n {ground} link set w2 down && ip -n {ground} link set w2 up")
        await eventually(lambda: owner.fib.workload("w1") is None)
        want(1)
        await eventually(lambda: len(ours()) == 4)
        await owner.settled()
        assert owner.fib.drift == 0
        for family, host in (("-4", "10.77.0.3"), ("-6", "fd00:77::3")):
            sh(f"ip -n {ground} {family} route del {host} proto 179")
        await eventually(lambda: owner.fib.drift == 2)
        await eventually(lambda: len(ours()) == 4)


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


async def test_what_is_kept_at_its_former_metric_follows_its_next_hop_until_the_new_one_is_free(
    ground: str,
) -> None:
    def standing(protocol: str = "179") -> set[str]:
        listed = sh(f"ip -n {ground} route show root 10.77.0.0/16 proto {protocol}").splitlines()
        return {" ".join(line.split()[n] for n in (0, 2, -1)) for line in listed}

    sh(f"ip -n {ground} route add 10.77.0.0/24 via 10.0.0.9 metric 512 proto static")
    async with running() as owner:
        fib = owner.fib
        fib.sweep()
        fib.want(V4, nlri("10.77.0.0/24"), owner.via("10.0.0.2"))
        await owner.settled()
        for gateway in ("10.0.0.2", "10.0.0.3", "10.0.0.4"):
            fib.want(V4, nlri("10.77.0.0/24"), owner.via(gateway), 512)
            await owner.settled()
            assert standing() == {f"10.77.0.0/24 {gateway} 1024"}
        fib.want(V4, nlri("10.77.0.0/24"), owner.via("10.0.0.5"), 300)
        await owner.settled()
        assert standing() == {"10.77.0.0/24 10.0.0.5 300"}
        fib.want(V4, nlri("10.77.0.0/24"), owner.via("10.0.0.6"), 512)
        await owner.settled()
        assert standing() == {"10.77.0.0/24 10.0.0.6 300"}
        assert standing("static") == {"10.77.0.0/24 10.0.0.9 512"}
        sh(f"ip -n {ground} route del 10.77.0.0/24 proto static")
        await eventually(lambda: standing() == {"10.77.0.0/24 10.0.0.6 512"})
        sh(f"ip -n {ground} route add 10.77.0.0/24 via 10.0.0.9 metric 1024 proto static")
        fib.want(V4, nlri("10.77.0.0/24"), owner.via("10.0.0.6"))
        await owner.settled()
        fib.want(V4, nlri("10.77.0.0/24"), None)
        await eventually(lambda: not standing())
        assert standing("static") == {"10.77.0.0/24 10.0.0.9 1024"}


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


@pytest.mark.parametrize("version", ["-4", "-6"])
async def test_nexthop_objects_of_others_routes_may_go_and_shrink(ground: str, version: str) -> None:
    """As FRR has them; the kernel changes and removes routes with them, and says so of the objects alone."""
    subnet, prefix, far = (
        ("10.0.{}.9", "203.0.113.0/24", "203.0.113.1")
        if version == "-4"
        else ("2001:db8:{}::9", "2001:db8:900::/64", "2001:db8:900::1")
    )
    family = V4 if version == "-4" else V6

    def gateways() -> list[str]:
        hops = owner.fib.resolver.resolve(socket.inet_pton(family, far))
        return [socket.inet_ntop(family, hop.gateway) for hop in hops]

    async with running() as owner:
        await eventually(lambda: "tentative" not in sh(f"ip -n {ground} -6 addr"))
        await owner.settled()
        for n in (0, 1):
            sh(f"ip -n {ground} nexthop add id {n + 1} via {subnet.format(n)} dev e{n}")
        sh(f"ip -n {ground} nexthop add id 10 group 1/2")
        sh(f"ip -n {ground} {version} route add {prefix} nhid 10 proto zebra")
        await eventually(lambda: len(gateways()) == 2)
        await owner.settled()
        sh(f"ip -n {ground} nexthop del id 2")
        await eventually(lambda: len(gateways()) == 1, 20)
        sh(f"ip -n {ground} nexthop replace id 1 via {subnet.format(1)} dev e1")
        await eventually(lambda: [ip_address(each) for each in gateways()] == [ip_address(subnet.format(1))])
        sh(f"ip -n {ground} nexthop del id 1")
        await eventually(lambda: not gateways(), 20)


async def test_many_routes_that_others_remove_are_few_lines_and_come_back(ground: str) -> None:
    with structlog.testing.capture_logs() as lines:
        async with running() as owner:
            for n in range(600):
                owner.fib.want(V4, nlri(f"10.77.{n // 256}.{n % 256}/32"), owner.via("10.0.0.2"))
            await owner.settled()
            sh(f"ip -n {ground} route flush table main proto 179")
            await eventually(lambda: owner.fib.drift == 600)
            await owner.settled()
            assert len(routes(ground)) == 600
    told = [line for line in lines if line["event"] == "routes were changed by others"]
    assert sum(line["routes"] for line in told) == 600
    assert len(told) < 60
    assert all(len(line["prefixes"]) <= 5 for line in told)


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
