"""One node with one workload, one router (BIRD) and etcd on a segment: the place for faults of a single node.

The hold time towards the router is 9 s (keepaliveTime 3 s), so that whatever stays away for longer than a
hold time does so within a test. BIRD offers graceful restart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.scenario.harness import calico
from tests.scenario.harness.bird import Bird, preamble
from tests.scenario.harness.cairn import Agent
from tests.scenario.harness.etcd import Etcd
from tests.scenario.harness.workload import Workload
from tests.scenario.harness.world import Host, World

BLOCK, BLOCK6 = "10.244.1.0/26", "fd00:244:0:1::/122"
FAR, FAR6 = "198.51.100.0/24", "2001:db8:51::/48"  # what the router announces
SESSIONS = {"10.1.0.11": True, "fd10:1::11": True}
HOLD_TIME = 9
TOR = {"tor-ipv4": "10.1.0.1", "tor-ipv6": "fd10:1::1"}


def bird_configuration(*, password: str = "", node: str = "10.1.0.11") -> str:
    """The router: announces `FAR` and `FAR6`."""
    secret = f'password "{password}";' if password else ""
    sessions = "".join(
        f"""
protocol bgp node{version} {{
    local {own} as 64601; neighbor {peer} as 65000; {secret}
    connect delay time 1; connect retry time 2; error wait time 1, 2; graceful restart on;
    ipv{version} {{ import all; export where source = RTS_STATIC; }};
}}"""
        for version, own, peer in ((4, "10.1.0.1", node), (6, "fd10:1::1", "fd10:1::11"))
    )
    statics = f"""
protocol static {{ ipv4; route {FAR} blackhole; }}
protocol static {{ ipv6; route {FAR6} blackhole; }}"""
    return preamble("10.1.0.1") + statics + sessions


@dataclass(slots=True)
class Lone:
    """The running whole, or as much of it as a test has started."""

    world: World
    tor: Host
    node: Host
    infra: Host
    workload: Workload
    bird: Bird
    etcd: Etcd | None = None
    agent: Agent | None = None

    def configuration(self, **more: Any) -> dict[str, Any]:
        """The agent's file."""
        return {
            "node": "node1",
            "datastore": "etcd://10.1.0.2:2379",
            "syncWait": 5,
            "leaseTtl": 3,
            "exabgp": {"runDirectory": str(self.node.directory / "exabgp")},
            "http": {"port": Agent.port},
            **more,
        }

    def start_agent(self, environment: Mapping[str, str] | None = None, **more: Any) -> Agent:
        self.agent = Agent(self.node, self.configuration(**more), environment)
        return self.agent

    def start_etcd(self, **options: Any) -> Etcd:
        self.etcd = Etcd(self.infra, "10.1.0.2", **options)
        return self.etcd

    def declare(self, **peer: Any) -> None:
        """Everything: the node, its blocks, its workload, its router."""
        self.declare_node()
        self.declare_router(**peer)

    def declare_node(self) -> None:
        assert self.etcd is not None
        self.etcd.transaction(
            {
                **calico.bgp_configuration(asNumber=65000, nodeToNodeMeshEnabled=False),
                **calico.ip_pool("workloads", "10.244.0.0/16"),
                **calico.ip_pool("workloads6", "fd00:244::/48"),
                **calico.node("node1", "10.1.0.11/24", "fd10:1::11/64"),
                **calico.affinity("node1", BLOCK),
                **calico.affinity("node1", BLOCK6),
            }
        )
        self.add(self.workload.addresses, self.workload.name)

    def declare_router(self, **peer: Any) -> None:
        assert self.etcd is not None
        for name, address in TOR.items():
            spec = {"peerIP": address, "asNumber": 64601, "keepaliveTime": f"{HOLD_TIME // 3}s", **peer}
            self.etcd.put(calico.bgp_peer(name, **spec))

    def add(self, addresses: Sequence[str], name: str) -> None:
        """Declare an endpoint behind the workload's interface."""
        assert self.etcd is not None
        self.etcd.put(calico.workload_endpoint("node1", name, addresses, self.workload.interface))

    def announced(self) -> set[str]:
        """What the router has learned."""
        return {prefix for version in (4, 6) for prefix in self.bird.routes(version)}

    def learned(self) -> set[str]:
        """The routes the agent has in the kernel."""
        return {
            route.destination
            for version in (4, 6)
            for route in self.node.kernel_routes(version, protocol="179")
        }

    def expect(self, *more: str) -> None:
        """Wait until sessions are up, the router has the node's routes and the node the router's."""
        world, own = self.world, {BLOCK, BLOCK6, *more}
        world.wait_equal("sessions", self.bird.sessions, SESSIONS, 60)
        world.wait_equal("routes of the router", self.announced, own, 60)
        world.wait_until("routes of the node", lambda: {FAR, FAR6} <= self.learned(), 60)

    def exabgp_pids(self) -> list[int]:
        assert self.agent is not None
        return self.agent.exabgp_pids()


@contextmanager
def lone_node() -> Iterator[Lone]:
    """The place, with the router running; neither etcd nor an agent yet."""
    with World("lone") as world:
        world.segment("lan")
        hosts = {}
        for name, number in (("tor", 1), ("infra", 2), ("node1", 11)):
            hosts[name] = world.host(name, router=True)
            world.attach("lan", hosts[name], "eth0", f"10.1.0.{number}/24", f"fd10:1::{number}/64")
        workload = Workload(world, "w1", "10.244.1.5", "fd00:244:0:1::5")
        workload.attach(hosts["node1"])
        bird = Bird(hosts["tor"], bird_configuration())
        yield Lone(world, hosts["tor"], hosts["node1"], hosts["infra"], workload, bird)
