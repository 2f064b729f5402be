"""What a node needs to be reached as it is: etcd, and gateways that are on their links without its agent."""

from __future__ import annotations

import pytest

from agent.needed import Needs
from tests.agent.fibs import V4, nlri, routes, running
from tests.agent.ground import eventually, needs_root, sh

pytestmark = [needs_root, pytest.mark.scenario]


async def test_a_gateway_counts_where_others_say_that_it_is_on_its_link(ground: str) -> None:
    """A workload may be one by our own route alone, or by none, and may go before what leads by way of it."""
    sh(f"ip -n {ground} link add w1 type veth peer name x1")
    sh(f"ip -n {ground} link set x1 up && ip -n {ground} link set w1 up")
    async with running() as owner:
        needs = Needs((), owner.fib, 3600.0)
        await eventually(lambda: owner.fib.workload("w1") is not None)
        owner.fib.want(V4, nlri("10.77.0.5/32"), owner.fib.workload("w1"))
        await eventually(lambda: "10.77.0.5" in routes(ground))
        for route in (
            "192.168.0.0/16 via 10.77.0.5 dev w1", "10.0.0.0/8 via 10.77.0.6 dev w1 onlink",
            "192.168.1.0/24 via 10.0.0.9", "192.168.2.0/24 via 10.0.1.9", "2001:db8:9::/64 via 2001:db8:0::9",
        ):  # fmt: skip
            sh(f"ip -n {ground} route add {route}")
        await eventually(lambda: len([each for each in owner.fib.others() if each.protocol == 3]) == 5)
        assert await needs.look()
        assert {(str(item.address), item.interface[:1]) for item in needs.present} == {
            ("10.0.0.9", "e"),
            ("10.0.1.9", "e"),
            ("2001:db8::9", "e"),
        }
        assert not await needs.look()


async def test_a_server_counts_whether_or_not_another_ones_name_can_be_looked_up(ground: str) -> None:
    async with running() as owner:
        needs = Needs(("10.7.0.2", "no..name", "fd00::2"), owner.fib, 0.0)
        assert await needs.look()
        assert [f"{item.address} {item.whose}" for item in needs.present] == ["10.7.0.2 etcd", "fd00::2 etcd"]
        assert not await needs.look()
