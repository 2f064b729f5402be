"""The surroundings of this node's workloads: their interfaces' settings, and the connections of those gone.

A workload reaches everything by way of a router its network does not have (169.254.1.1, or the link-local
address of the node's end): the node's interface answers for it. So a workload's interface forwards, answers
ARP for others at once (``proxy_delay`` would wait up to 0.8 s) and does the same for neighbour discovery.
Addresses that left this node, or moved to another interface of it, have their connections forgotten: within
a second, because looking for them stops the kernel for some ten milliseconds, however few there are; at once
where an address has come back, whose new owner must not inherit.

Settings are made once per interface, and again if it is replaced. What cannot be set is said once, with the
remedy, and does not stop the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import structlog

from agent.kernel.conntrack import forget
from agent.kernel.netlink import KernelError
from bgpd.plan import NodePlan, WorkloadRoute, differing
from bgpd.plan.policy import is_host

SYSCTL = Path("/proc/sys/net")
SETTINGS: dict[int, tuple[tuple[str, str], ...]] = {
    4: (
        ("ipv4/conf/{}/proxy_arp", "1"),
        ("ipv4/conf/{}/forwarding", "1"),
        ("ipv4/neigh/{}/proxy_delay", "0"),
    ),
    6: (
        ("ipv6/conf/{}/proxy_ndp", "1"),
        ("ipv6/conf/{}/forwarding", "1"),
        ("ipv6/neigh/{}/proxy_delay", "0"),
    ),
}
FORGET_AFTER = 1.0  # seconds
CONNECTIONS = "netfilter/nf_conntrack_count"
log = structlog.get_logger("agent.workloads")


def _end(workload: WorkloadRoute) -> tuple[str, int]:
    return workload.interface, workload.prefix.version


def _addresses(workloads: Iterable[WorkloadRoute]) -> dict[bytes, str]:
    """Single addresses → interface."""
    return {each.prefix.network_address.packed: each.interface for each in workloads if is_host(each.prefix)}


class Workloads:
    """Declare with `planned` and `links_changed`; `run` carries out."""

    def __init__(self, root: Path = SYSCTL) -> None:
        self._root = root
        self._planned: tuple[WorkloadRoute, ...] = ()
        self._interfaces: Counter[tuple[str, int]] = Counter()  # of workloads, by IP version → how many
        self._present: set[bytes] = set()  # addresses
        self._indexes: dict[str, int] = {}
        self._prepared: dict[tuple[str, int], int] = {}  # (interface, version) → index it had
        self._departed: set[bytes] = set()
        self._departure = asyncio.Event()
        self._return = asyncio.Event()
        self._complained: set[str] = set()
        self._wake = asyncio.Event()

    def planned(self, plan: NodePlan) -> None:
        """The plan's workloads are now this node's."""
        gone, come = differing(self._planned, plan.workloads)
        self._planned = plan.workloads
        self._interfaces.update(map(_end, come))
        self._interfaces.subtract(map(_end, gone))
        for end in map(_end, gone):
            if not self._interfaces[end]:
                del self._interfaces[end]
        left, new = _addresses(gone), _addresses(come)
        self._departed |= {address for address, interface in left.items() if new.get(address) != interface}
        self._present.difference_update(left)
        self._present.update(new)
        if self._departed:
            self._departure.set()
            if not self._departed.isdisjoint(self._present):
                self._return.set()
        self._wake.set()

    def links_changed(self, indexes: Mapping[str, int]) -> None:
        self._indexes = dict(indexes)
        self._wake.set()

    def removed(self, index: int) -> None:
        """An interface is gone. Another may have its name and index by now."""
        self._prepared = {key: known for key, known in self._prepared.items() if known != index}
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._forget_departed())
            while True:
                await self._wake.wait()
                self._wake.clear()
                due = self._due()
                if due:  # each setting may have to wait until the kernel has done with other interfaces
                    await asyncio.to_thread(self._prepare, due)

    def prepare(self) -> None:
        """Make the settings of interfaces that are there and have not got them yet."""
        self._prepare(self._due())

    async def _forget_departed(self) -> None:
        while True:
            await self._departure.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FORGET_AFTER):
                    await self._return.wait()
            self._departure.clear()
            self._return.clear()
            departed, self._departed = self._departed, set()
            with contextlib.suppress(OSError):
                if (self._root / CONNECTIONS).read_text().strip() == "0":
                    continue
            try:
                forgotten = await asyncio.to_thread(forget, departed)
            except (KernelError, OSError) as error:
                self._complain(f"connections of departed addresses stay until they expire: {error}")
            else:
                log.debug("connections forgotten", addresses=len(departed), connections=forgotten)

    def _due(self) -> list[tuple[str, int]]:
        """The interfaces that are there and have not got their settings yet, by IP version; now they have."""
        due = []
        for name, version in self._interfaces:
            index = self._indexes.get(name)
            if index is None or self._prepared.get((name, version)) == index:
                continue
            if (self._root / f"ipv4/conf/{name}").exists():  # or it is gone, which is about to be told
                self._prepared[name, version] = index  # one without IPv6 has that too
                due.append((name, version))
        self._prepared = {key: index for key, index in self._prepared.items() if key[0] in self._indexes}
        return due

    def _prepare(self, due: Iterable[tuple[str, int]]) -> None:
        for name, version in due:
            for setting, value in SETTINGS[version]:
                self._set(self._root / setting.format(name), value)

    def _set(self, path: Path, value: str) -> None:
        try:
            if path.read_text().strip() != value:
                path.write_text(value)
        except OSError as error:
            self._complain(
                f"{path} cannot be set to {value}: {error.strerror}; give the agent a writable /proc/sys, "
                "or set it where interfaces are made"
            )

    def _complain(self, text: str) -> None:
        if text not in self._complained:
            self._complained.add(text)
            log.error("a workload's surroundings are not as they should be", reason=text)
