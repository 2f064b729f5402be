"""Bursts of changes and faults of every kind, faster than anything can follow: at rest everything is exact.

What is declared otherwise (sessions, AS numbers, filters, pools, whole nodes) is as usual again before the
rest, so that what has to be there follows from blocks and workloads alone, whatever came in between.
"""

import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from random import Random
from typing import Any, Final

import pytest

from tests.scenario.faults import ON_THE_CLUSTER
from tests.scenario.harness import calico
from tests.scenario.harness.cairn import Agent, Reflector
from tests.scenario.harness.cluster import Cluster
from tests.scenario.harness.topology import NODES, REFLECTORS
from tests.scenario.harness.workload import Workload

pytestmark = ON_THE_CLUSTER
ROUNDS = 60 if os.environ.get("CAIRN_LONG_FAULTS") else 5
PAUSES = (0, 0, 0.02, 0.1, 0.5, 1.5)
LENGTHS = (0, 0.3, 1, 4)  # seconds a fault lasts
BLOCKS = [*(f"10.244.{n}.0/26" for n in range(40, 46)), *(f"fd00:244:0:{n}::/122" for n in range(40, 46))]
NOTHING = [{"action": "Reject", "matchOperator": "In", "cidr": "0.0.0.0/0"}]
NOTHING6 = [{"action": "Reject", "matchOperator": "In", "cidr": "::/0"}]
NOWHERE = {"secretKeyRef": {"name": "nowhere", "key": "word"}}
GONE: Final = None
OTHERWISE: tuple[tuple[str, Mapping[str, Any] | None], ...] = (
    ("settings", GONE),
    ("settings", {"nodeToNodeMeshEnabled": True}),
    ("settings", {"asNumber": 65010}),
    ("settings", {"serviceClusterIPs": [{"cidr": "10.99.0.0/16"}]}),
    ("reflectors", GONE),
    ("reflectors", {"password": NOWHERE}),
    ("reflectors", {"filters": ["nothing"]}),
    ("reflectors", {"maxRestartTime": "40s"}),
    ("tor1-ipv4", GONE),
    ("tor1-ipv6", {"filters": ["nothing"]}),
    ("tor2-ipv4", {"keepOriginalNextHop": True}),
    ("tor2-ipv6", {"asNumber": 64999}),
    ("node1", GONE),
    ("node2", {"bgp": {"ipv4Address": "10.1.0.12/24", "ipv6Address": "fd10:1::12/64", "asNumber": 65020}}),
    ("rr1", GONE),
    ("pool4", GONE),
    ("pool4", {"disableBGPExport": True}),
    ("pool6", {"vxlanMode": "CrossSubnet"}),
    ("pool6", {"nodeSelector": "rack == 'rack9'"}),
)


class Bursts:
    """One thing after another, as chance has it."""

    def __init__(self, cluster: Cluster, random: Random) -> None:
        self._cluster, self._random = cluster, random
        self._altered: set[str] = set()
        self.done: list[str] = []  # for whoever has to find out what it was
        self._workloads = [
            Workload(cluster.world, f"b{n}", f"10.244.1.{40 + n}", f"fd00:244:0:1::{40 + n}")
            for n in range(3)
        ]
        cluster.etcd.put(
            calico.bgp_filter(
                "nothing", exportV4=NOTHING, importV4=NOTHING, exportV6=NOTHING6, importV6=NOTHING6
            )
        )

    def one(self) -> None:
        """Something is done."""
        kinds: tuple[Callable[[], object], ...] = (
            self._block, self._block, self._workload, self._workload, self._otherwise, self._otherwise,
            self._usual, self._fault, self._fault,
        )  # fmt: skip
        self._random.choice(kinds)()

    def rest(self) -> None:
        """Everything is declared as usual."""
        while self._altered:
            self._usual()

    def _log(self, *words: object) -> None:
        self.done.append(" ".join(map(str, words)))

    def _block(self) -> None:
        cidr, node = self._random.choice(BLOCKS), self._random.choice(NODES)
        self._log("block", cidr, node)
        if cidr in self._cluster.declared.blocks:
            self._cluster.release(cidr)
        else:
            self._cluster.claim(cidr, node)

    def _workload(self) -> None:
        """Comes to a node, moves to another or goes; its addresses are in a block of node1's."""
        workload, node = self._random.choice(self._workloads), self._random.choice(NODES)
        _, home = self._cluster.declared.workloads.get(workload.name, (workload, ""))
        self._log("workload", workload.name, home, node)
        if not home:
            self._cluster.add(workload, node)
        elif home == node:
            self._cluster.remove(workload)
        else:
            self._cluster.move(workload, node)

    def _otherwise(self) -> None:
        name, fields = self._random.choice(OTHERWISE)
        self._log(name, fields)
        self._altered.add(name)
        usual = self._cluster.usual[name]
        if fields is None:
            self._cluster.etcd.delete(*usual)
        else:
            self._cluster.etcd.put(calico.altered(usual, **fields))

    def _usual(self) -> None:
        if self._altered:
            name = self._random.choice(sorted(self._altered))
            self._log(name, "as usual")
            self._altered.discard(name)
            self._cluster.etcd.put(self._cluster.usual[name])

    # faults

    def _fault(self) -> None:
        cluster, random = self._cluster, self._random
        agent = cluster.agents[random.choice(NODES)]
        reflector = cluster.reflectors[random.choice(REFLECTORS)]
        faults: tuple[Callable[[], object], ...] = (
            lambda: self._end(agent), lambda: self._end(reflector), lambda: self._freeze(agent.program.pid),
            lambda: self._freeze(reflector.program.pid), lambda: self._exabgp(agent), self._etcd,
            lambda: self._unplug(agent), lambda: self._flush(agent), lambda: self._alter(agent),
        )  # fmt: skip
        fault = random.randrange(len(faults))
        self._log("fault", fault, agent.host.name, reflector.host.name)
        faults[fault]()

    def _last(self) -> None:
        time.sleep(self._random.choice(LENGTHS))

    def _end(self, service: Agent | Reflector) -> None:
        if self._random.random() < 0.5:
            service.program.kill()
        else:
            service.program.stop()
        self._last()
        service.restart()

    def _freeze(self, pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        self._last()
        os.kill(pid, signal.SIGCONT)

    def _exabgp(self, agent: Agent) -> None:
        with suppress(ProcessLookupError):  # it may end just now, or there is none
            for pid in self._random.sample(agent.exabgp_pids(), 1):
                os.kill(pid, self._random.choice((signal.SIGKILL, signal.SIGTERM)))

    def _etcd(self) -> None:
        self._cluster.etcd.program.kill()
        self._last()
        self._cluster.etcd.restart()

    def _unplug(self, agent: Agent) -> None:
        self._cluster.world.cable(agent.host, "eth0", plugged=False)
        self._last()
        self._cluster.world.cable(agent.host, "eth0", plugged=True)

    def _flush(self, agent: Agent) -> None:
        agent.host.run("ip", self._random.choice(("-4", "-6")), "route", "flush", "proto", "179")

    def _alter(self, agent: Agent) -> None:
        """Some routes are made to lead nowhere."""
        version = self._random.choice((4, 6))
        routes = agent.host.kernel_routes(version, protocol="179")
        for route in self._random.sample(routes, min(3, len(routes))):
            agent.host.ip(f"route replace unreachable {route.destination} proto 179 metric 1024")


@pytest.mark.parametrize("seed", [1])
@pytest.mark.timeout(60 + 120 * ROUNDS)
def test_whatever_happens_in_bursts_everything_is_exact_at_rest(cluster: Cluster, seed: int) -> None:
    random = Random(seed)
    bursts = Bursts(cluster, random)
    for _ in range(ROUNDS):
        bursts.done.clear()
        for _ in range(random.randint(2, 14)):
            bursts.one()
            time.sleep(random.choice(PAUSES))
        bursts.rest()
        try:
            cluster.expect_exact()
            cluster.expect_sessions()
            cluster.expect_exact(10)
        except AssertionError as error:
            raise AssertionError("; ".join(bursts.done)) from error
    for cidr in BLOCKS:
        if cidr in cluster.declared.blocks:
            cluster.release(cidr)
    for workload, _ in list(cluster.declared.workloads.values()):
        if workload.name.startswith("b"):
            cluster.remove(workload)
    cluster.expect_exact()
