"""Echoes through a fault: one every 10 ms on each flow, every loss counted, and the account kept.

With ``CAIRN_LOSSES=FILE`` each account is added to a file as the row of a table: docs/operations/faults.md
is written from it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.scenario.harness.cluster import Cluster
from tests.scenario.harness.pinger import Losses, Pinger
from tests.scenario.harness.workload import Workload
from tests.scenario.harness.world import Host, World

Flow = tuple[Host, Workload]  # from a host to all addresses of a workload


@dataclass(slots=True)
class Account:
    """What became of the echoes, by flow; complete when `counted` is over."""

    losses: dict[str, Losses] = field(default_factory=dict)

    @property
    def sent(self) -> int:
        return sum(losses.sent for losses in self.losses.values())

    @property
    def lost(self) -> int:
        return sum(len(losses.lost) for losses in self.losses.values())

    @property
    def longest_gap(self) -> float:
        """The longest time any flow had no answer, in seconds."""
        return max(losses.longest_gap for losses in self.losses.values())

    def lost_outside(self, times: Sequence[tuple[float, float]]) -> int:
        """How many were lost that were sent at none of these times (monotonic, from and to)."""
        return sum(
            not any(begin <= when <= end for begin, end in times)
            for losses in self.losses.values()
            for when in losses.lost_at
        )

    def of(self, workload: Workload) -> Account:
        """The flows to one workload."""
        ends = tuple(f"→ {address}" for address in workload.addresses)
        return Account({flow: losses for flow, losses in self.losses.items() if flow.endswith(ends)})

    def __str__(self) -> str:
        return "\n".join(f"{flow}: {losses}" for flow, losses in self.losses.items() if losses.lost)


@contextmanager
def counted(world: World, what: str, flows: Iterable[Flow]) -> Iterator[Account]:
    """Echoes on all flows while the block runs, and for half a second before and after."""
    account = Account()
    pingers = {
        f"{source.name} → {place}": Pinger(source, place)
        for source, target in flows
        for place in target.addresses
    }
    for pinger in pingers.values():
        pinger.begun()
    time.sleep(0.5)
    yield account
    time.sleep(0.5)
    for pinger in pingers.values():
        pinger.finish()
    account.losses |= {flow: pinger.losses() for flow, pinger in pingers.items()}
    assert all(losses.sent > 50 for losses in account.losses.values())
    stated(what, account.sent, account.lost, account.longest_gap)


def stated(what: str, sent: int, lost: int, longest_gap: float | None = None) -> None:
    """Add a row to the account that is kept, if one is."""
    if report := os.environ.get("CAIRN_LOSSES"):
        with Path(report).open("a") as file:
            gap = "–" if longest_gap is None else f"{longest_gap:.2f}"
            file.write(f"| {what} | {sent} | {lost} | {gap} |\n")


@contextmanager
def no_echo_lost(cluster: Cluster, what: str, *, but: str = "") -> Iterator[None]:
    """Echoes to the workloads of node1 and node3, from outside, across racks and within one: all answered.

    Not those of the workload named by `but`, which are expected to be lost.
    """
    first, second, third = (workload(cluster, name) for name in ("w1", "w2", "w3"))
    for target in (first, third):
        reach_everywhere(cluster, target)
    flows = [(cluster.server, first), (cluster.server, third), (first.host, third)]
    flows += [(second.host, first)] if second.name != but else []
    with counted(cluster.world, what, flows) as account:
        yield
    assert not account.lost, f"{account}\n{cluster.world.dump()}"


def workload(cluster: Cluster, name: str) -> Workload:
    """A workload of the cluster by name."""
    return cluster.declared.workloads[name][0]


def reach(world: World, source: Host, target: Workload) -> None:
    """Wait until a workload answers, IPv4 and IPv6. The routes are there; ARP may take a moment."""
    for place in target.addresses:
        world.wait_until(f"{place} answering {source.name}", partial(source.pings, place))


def reach_everywhere(cluster: Cluster, target: Workload) -> None:
    """From the router's side, and from a workload on every node."""
    reach(cluster.world, cluster.server, target)
    for other, _ in cluster.declared.workloads.values():
        if other is not target and len(other.addresses) >= len(target.addresses):
            reach(cluster.world, other.host, target)
