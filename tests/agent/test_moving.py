"""Routes that move to another table, metric or protocol number."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from agent.kernel import message
from agent.kernel.message import Place
from agent.kernel.moving import forget, move
from agent.kernel.netlink import RouteSocket
from tests.agent.fibs import PLACE, V4, nlri, routes, running
from tests.agent.ground import eventually, needs_root, sh

pytestmark = [needs_root, pytest.mark.scenario]


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
                assert routes(ground)["10.77.1.0/24"]["gateway"] == gateway
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


async def test_another_table_and_metric(ground: str) -> None:
    async with running(Place(5077, 7, 179)) as owner:
        owner.fib.want(V4, nlri("10.77.0.0/24"), owner.via("10.0.0.2"))
        await owner.settled()
        assert routes(ground, "table 5077")["10.77.0.0/24"]["metric"] == 7
        assert not routes(ground)


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
