"""Kernel routes in a namespace of their own: written, resolved, refused, read."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
import structlog

from agent.kernel import message
from agent.kernel.link import Links
from agent.kernel.message import RouteEntry
from agent.kernel.netlink import KernelError, RouteSocket
from agent.kernel.route import BLACKHOLE, Hop, unicast, workload
from tests.agent.fibs import PLACE, V4, V6, nlri, routes, running
from tests.agent.ground import eventually, needs_root, sh

pytestmark = [needs_root, pytest.mark.scenario]


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


@pytest.mark.parametrize(
    ("version", "prefix", "gateways"),
    [
        ("-4", "10.77.0.0/26", ("10.0.0.2", "10.0.1.2")),
        ("-6", "2001:db8:77::/64", ("2001:db8:0::2", "2001:db8:1::2")),
    ],
)
async def test_of_several_ways_one_may_go_and_come_again(
    ground: str, version: str, prefix: str, gateways: tuple[str, str]
) -> None:
    async with running() as owner:
        fib, family = owner.fib, V4 if version == "-4" else V6
        both = unicast(*(hop for gateway in gateways for hop in owner.via(gateway).hops))
        for route, ways in ((both, 2), (owner.via(gateways[1]), 1), (both, 2), (owner.via(gateways[0]), 1)):
            fib.want(family, nlri(prefix), route)
            await owner.settled()
            found = routes(ground, family=version)[prefix]
            assert len(found.get("nexthops", [found])) == ways
        fib.look_again()
        await owner.settled()
        assert fib.drift == 0


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


async def test_links_that_come_cost_no_look_at_all_routes_and_those_that_go_do(
    ground: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running() as owner:
        fib = owner.fib
        await eventually(lambda: "tentative" not in sh(f"ip -n {ground} -6 addr"))
        await owner.settled()
        looks: list[int] = []
        dump = RouteSocket.dump

        def counting(self: RouteSocket, family: int, table: int = 0, protocol: int = 0) -> list[RouteEntry]:
            looks.append(family)
            return dump(self, family, table, protocol)

        monkeypatch.setattr(RouteSocket, "dump", counting)
        sh(f"ip -n {ground} link add e2 type veth peer name p2")
        sh(f"ip -n {ground} link set p2 up && ip -n {ground} link set e2 up")
        sh(f"ip -n {ground} addr add 10.0.2.1/24 dev e2 && ip -n {ground} link set e2 name e3")
        await eventually(
            lambda: "e3" in fib.links.indexes and bool(fib.resolver.resolve(bytes((10, 0, 2, 2))))
        )
        fib.want(V4, nlri("10.77.0.0/24"), owner.via("10.0.2.2"))
        await owner.settled()
        assert not looks
        for event in ("addr del 10.0.2.1/24 dev e3", "link set e3 down", "link del e3"):
            sh(f"ip -n {ground} addr replace 10.0.2.1/24 dev e3 && ip -n {ground} link set e3 up")
            await eventually(lambda: "10.77.0.0/24" in routes(ground))
            await owner.settled()
            looks.clear()
            sh(f"ip -n {ground} {event}")
            await eventually(lambda: bool(looks) and not fib.deltas[V4].actual)
            assert not routes(ground)


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


async def test_rfc4191_3_2_of_two_routers_that_announce_themselves_the_preferred_one_is_taken(
    ground: str,
) -> None:
    """Same prefix, same metric: the kernel goes by the router preference."""
    async with running() as owner:
        await eventually(lambda: "tentative" not in sh(f"ip -n {ground} -6 addr"))
        for name, preference in (("p0", 0x18), ("p1", 0x08)):
            with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as router:
                router.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
                advertisement = struct.pack("!BBHBBHII", 134, 0, 0, 64, preference, 1800, 0, 0)
                router.sendto(advertisement, ("ff02::1", 0, 0, socket.if_nametoindex(name)))
        await eventually(lambda: len(sh(f"ip -n {ground} -6 route show default proto ra").splitlines()) == 2)
        far = bytes.fromhex("20010db80900" + "00" * 9 + "09")
        e1 = owner.fib.links.indexes["e1"]
        await eventually(lambda: [hop.interface for hop in owner.fib.resolver.resolve(far)] == [e1])
        assert "dev e1" in sh(f"ip -n {ground} -6 route get 2001:db8:900::9")


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


async def test_many_routes_over_many_next_hops_are_written(ground: str) -> None:
    """Five hundred of them are more than a socket's ordinary send buffer holds (212,992 octets)."""
    async with running() as owner:
        hops = [owner.via(f"2001:db8:{n % 2}::{n + 16:x}").hops[0] for n in range(32)]
        for n in range(600):
            owner.fib.want(V6, nlri(f"2001:db8:77:{n:x}::/64"), unicast(*hops))
        await eventually(lambda: len(routes(ground, family="-6")) == 600, 20)
        for n in range(600):
            owner.fib.want(V6, nlri(f"2001:db8:77:{n:x}::/64"), unicast(*hops[:31]))
        await owner.settled()
        assert {len(each["nexthops"]) for each in routes(ground, family="-6").values()} == {31}


async def test_a_batch_that_the_kernel_does_not_take_is_not_tried_all_the_time(
    ground: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []

    def full(self: RouteSocket, pack: Sequence[Callable[[int, int], bytes]]) -> dict[int, int]:
        tries.append(len(pack))
        raise OSError(errno.ENOBUFS, "no room")

    async with running() as owner:
        await eventually(lambda: "tentative" not in sh(f"ip -n {ground} -6 addr"))
        await owner.settled()
        monkeypatch.setattr(RouteSocket, "write", full)
        owner.fib.want(V4, nlri("10.77.0.0/24"), owner.via("10.0.0.2"))
        await asyncio.sleep(2.5)
        assert 2 <= len(tries) <= 4
        monkeypatch.undo()
        await eventually(lambda: "10.77.0.0/24" in routes(ground), 10)


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


async def test_many_refused_routes_are_one_line_and_are_not_tried_all_the_time(
    ground: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.kernel.fib._RETRY", 0.01)
    monkeypatch.setattr("agent.kernel.fib._RETRY_EACH", 3600.0)
    written: list[int] = []
    write = RouteSocket.write

    def counting(self: RouteSocket, pack: Sequence[Callable[[int, int], bytes]]) -> dict[int, int]:
        written.append(len(pack))
        return write(self, pack)

    monkeypatch.setattr(RouteSocket, "write", counting)
    with structlog.testing.capture_logs() as lines:
        async with running() as owner:
            nowhere = unicast(Hop(bytes((192, 0, 2, 1)), owner.fib.links.indexes["e0"]))
            for n in range(50):
                owner.fib.want(V4, nlri(f"10.78.{n}.0/24"), nowhere)
            await eventually(lambda: len(owner.fib.failures) == 50)
            await asyncio.sleep(0.3)
            assert sum(written) <= 5 * 50  # and not thirty times; links that settle may have been a reason
            sh(f"ip -n {ground} addr add 192.0.2.9/24 dev e0")  # it may be what was lacking
            await eventually(lambda: len(routes(ground)) == 50)
    [line] = [line for line in lines if line["event"] == "routes refused by the kernel"]
    assert line["count"] == 50
    assert line["prefixes"] == [f"10.78.{n}.0/24" for n in range(5)]
    assert "192.0.2.1" in line["route"]


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


async def test_a_dry_run_writes_nothing_and_tells_what_it_would(ground: str) -> None:
    async with running(dry_run=True) as owner:
        owner.fib.want(V4, nlri("10.77.0.0/24"), owner.via("10.0.0.2"))
        await owner.settled()
        assert not routes(ground)
        [(family, key, route)] = list(owner.fib.wanted())
        assert (family, key) == (V4, nlri("10.77.0.0/24"))
        assert route == owner.via("10.0.0.2")


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


async def test_one_route_does_not_wait_for_a_table(ground: str) -> None:
    async with running() as owner:
        fib, route = owner.fib, owner.via("10.0.0.2")
        await owner.settled()
        for n in range(50_000):
            fib.want(V4, bytes((32, 11, n >> 16, n >> 8 & 255, n & 255)), route)
        await eventually(lambda: fib.writes > 0)
        for wanted in (route, None):
            fib.want(V4, nlri("10.77.0.0/24"), wanted, soon=True)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert ((nlri("10.77.0.0/24"), PLACE.metric) in fib.deltas[V4].actual) == (wanted is not None)
            fib.sweep()
        assert len(fib.deltas[V4]) > 25_000
        await owner.settled()


async def test_events_that_do_not_end_are_answered_half_of_the_time(
    ground: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running() as owner:
        await eventually(lambda: "tentative" not in sh(f"ip -n {ground} -6 addr"))
        await owner.settled()
        looks: list[tuple[float, float]] = []
        links = RouteSocket.links

        def slow(self: RouteSocket) -> Links:
            begun = time.monotonic()
            time.sleep(0.1)
            found = links(self)
            looks.append((begun, time.monotonic()))
            return found

        monkeypatch.setattr(RouteSocket, "links", slow)
        while len(looks) < 5:
            owner.fib.look_again()
            await asyncio.sleep(0.02)
        for (begun, ended), (following, _) in pairwise(looks):
            assert following - ended >= ended - begun, "as long as it took, others have their turn"
        owner.fib.want(V4, nlri("10.77.0.0/24"), owner.via("10.0.0.2"))
        await owner.settled()
