"""The addresses a node declares for itself, found in a real kernel."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from agent.registration import found_addresses, why_absent
from tests.agent.ground import needs_root, sh

pytestmark = [needs_root, pytest.mark.scenario]


@pytest.mark.parametrize("routes", [0, 2000])
async def test_a_node_is_found_among_any_number_of_routes(ground: str, tmp_path: Path, routes: int) -> None:
    """What the kernel has to tell of them takes several reads."""
    batch = tmp_path / "batch"
    lines = [f"route add 10.{77 + n // 256}.{n % 256}.0/24 via 10.0.0.9 proto static" for n in range(routes)]
    batch.write_text("\n".join(lines))
    sh(f"ip -n {ground} -batch {batch}")
    sh(f"ip -n {ground} route add default via 10.0.0.9")
    sh(f"ip -n {ground} -6 route add default via 2001:db8:1::9")
    assert await found_addresses() == {4: "10.0.0.1/24", 6: "2001:db8:1::1/64"}


@pytest.mark.parametrize("version", [4, 6])
async def test_a_node_that_is_declared_with_an_address_of_another_machine_says_so(
    ground: str, version: int
) -> None:
    own, other = {4: ("10.0.0.1", "10.0.0.7"), 6: ("2001:db8:1::1", "2001:db8:1::7")}[version]
    assert ground
    assert f"{other} is declared for this node and is no address of this machine" in why_absent(
        ip_address(other)
    )
    assert why_absent(ip_address(own)).startswith("is it reachable")
    assert why_absent(None).startswith("is it reachable")
