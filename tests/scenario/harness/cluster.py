"""The cluster of the scenarios, running: etcd, both routers, both reflectors, three agents.

`declared` is what has been written to etcd, kept here apart from any code of Cairn; what every kernel and
router has to hold is derived from it. `expect_exact` compares all of them.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from tests.scenario.harness import calico
from tests.scenario.harness.bird import Bird
from tests.scenario.harness.cairn import Agent, Reflector
from tests.scenario.harness.etcd import Etcd
from tests.scenario.harness.frr import Frr
from tests.scenario.harness.mosquitto import Mosquitto
from tests.scenario.harness.topology import (
    ASN,
    NODES,
    RACK,
    REFLECTORS,
    SERVER_NETS,
    TOR_ASN,
    address,
    bird_configuration,
    frr_configuration,
    gateway,
    lay_network,
    version_of,
)
from tests.scenario.harness.workload import Workload
from tests.scenario.harness.world import Host, KernelRoute, World

CLUSTER_ID = "244.0.0.1"
RESTART_TIME = 20  # seconds for which what a dead reflector said still counts
STANDALONE = ("rr2",)
POOLS = ("10.244.", "fd00:244:")
Hops = frozenset[tuple[str, str]]
Table = dict[str, tuple[str, Hops]]  # destination → (type, next hops)


@dataclass(slots=True)
class Declared:
    """What the datastore says, for the expectations: block → node, workload → node; and what other
    clients of the reflectors announce: prefix → rack and next hop.
    """

    blocks: dict[str, str] = field(default_factory=dict)
    workloads: dict[str, tuple[Workload, str]] = field(default_factory=dict)
    foreign: dict[str, tuple[int, str]] = field(default_factory=dict)


class Cluster:
    """The running whole. `Cluster(world)` returns when all sessions are up and every table is exact."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.declared = Declared()
        self.broken = False
        self.disputed: set[str] = set()  # announced by itself although in a block of its node
        self.usual: dict[str, calico.Entry] = {}  # what is declared but for blocks and workloads
        self.ignored: set[str] = set()  # destinations that a test has put into a node's kernel by hand
        self.hosts = lay_network(world)
        self.server, self.infra = self.hosts["server"], self.hosts["infra"]
        self.etcd = Etcd(self.infra, "10.7.0.2")
        self.broker = Mosquitto(self.infra, "10.7.0.2")
        self._base = {
            (name, version): self._table(self.hosts[name], version) for name in NODES for version in (4, 6)
        }
        self.frr = Frr(self.hosts["tor1"], frr_configuration())
        self.bird = Bird(self.hosts["tor2"], bird_configuration())
        self._declare()
        self.reflectors = {
            name: Reflector(self.hosts[name], self._reflector_file(name)) for name in REFLECTORS
        }
        self.agents = {name: Agent(self.hosts[name], self._agent_file(name)) for name in NODES}
        self.expect_sessions()
        self.expect_exact()

    def _declare(self) -> None:
        usual = self.usual
        usual["settings"] = calico.bgp_configuration(asNumber=ASN, nodeToNodeMeshEnabled=False)
        usual["pool4"] = calico.ip_pool("workloads", "10.244.0.0/16")
        usual["pool6"] = calico.ip_pool("workloads6", "fd00:244::/48")
        usual["reflectors"] = calico.bgp_peer(
            "reflectors",
            nodeSelector="!has(route-reflector)",  # the reflectors share a cluster and need no session
            peerSelector="has(route-reflector)",
            maxRestartTime=f"{RESTART_TIME}s",
        )
        for rack in (1, 2):
            for version in (4, 6):
                name = f"tor{rack}-ipv{version}"
                usual[name] = calico.bgp_peer(
                    name,
                    nodeSelector=f"rack == 'rack{rack}' && !has(route-reflector)",
                    peerIP=gateway(rack, version),
                    asNumber=TOR_ASN[rack],
                )
        for name, rack in RACK.items():
            labels = {"rack": f"rack{rack}"}
            usual[name] = calico.node(
                name,
                f"{address(name, 4)}/24",
                f"{address(name, 6)}/64",
                cluster_id=CLUSTER_ID if name in REFLECTORS else "",
                labels=labels | ({"route-reflector": "true"} if name in REFLECTORS else {}),
            )
        self.etcd.transaction({key: text for entry in usual.values() for key, text in entry.items()})
        for number, name in enumerate(NODES, 1):
            for cidr in (f"10.244.{number}.0/26", f"fd00:244:0:{number}::/122"):
                self.etcd.transaction(calico.affinity(name, cidr) | calico.block(name, cidr))
                self.declared.blocks[cidr] = name

    def _reflector_file(self, name: str) -> dict[str, Any]:
        """rr1 learns its clients from the datastore, rr2 takes everybody of the racks from its own file."""
        common = {
            "listen": [{"address": "0.0.0.0"}, {"address": "::"}],
            "http": {"port": Reflector.port},
            "mqtt": {"host": self.broker.address},
        }
        if name in STANDALONE:
            racks = (f"10.{rack}.0.0/24" for rack in (1, 2)), (f"fd10:{rack}::/64" for rack in (1, 2))
            return common | {
                "asn": ASN,
                "routerId": address(name, 4),
                "clusterId": CLUSTER_ID,
                "clients": [
                    {"prefix": prefix, "gracefulRestartTime": RESTART_TIME}
                    for prefixes in racks
                    for prefix in prefixes
                ],
            }
        return common | {"datastore": self.etcd.datastore, "node": name}

    def _agent_file(self, name: str) -> dict[str, Any]:
        return {
            "datastore": self.etcd.datastore,
            "node": name,
            "exabgp": {"runDirectory": str(self.hosts[name].directory / "exabgp")},
            "http": {"port": Agent.port},
            "mqtt": {"host": self.broker.address},
        }

    # What is written to etcd, as Calico's CNI plugin and IPAM do

    def add(self, workload: Workload, node: str, created: datetime | None = None) -> None:
        """Wire a workload to a node and register it."""
        workload.attach(self.hosts[node])
        self.etcd.put(
            calico.workload_endpoint(node, workload.name, workload.addresses, workload.interface, created)
        )
        self.declared.workloads[workload.name] = workload, node

    def remove(self, workload: Workload) -> None:
        """Unregister a workload and cut its wire."""
        _, node = self.declared.workloads.pop(workload.name)
        self.etcd.delete(
            *calico.workload_endpoint(node, workload.name, workload.addresses, workload.interface)
        )
        workload.detach()

    def move(self, workload: Workload, node: str, created: datetime | None = None) -> None:
        """Take a workload with its addresses to another node: new endpoint first, then the old one goes."""
        _, old = self.declared.workloads[workload.name]
        self.add(workload, node, created)
        self.etcd.delete(
            *calico.workload_endpoint(old, workload.name, workload.addresses, workload.interface)
        )

    def claim(self, cidr: str, node: str) -> None:
        """Give a node a block."""
        self.etcd.put(calico.affinity(node, cidr) | calico.block(node, cidr))
        self.declared.blocks[cidr] = node

    def release(self, cidr: str) -> None:
        """Take a block back from its node."""
        node = self.declared.blocks.pop(cidr)
        self.etcd.delete(*calico.affinity(node, cidr), *calico.block(node, cidr))

    # What has to follow from it

    def announced(self, version: int) -> dict[str, str]:
        """Prefix → the node that announces it: blocks, and workloads outside their node's blocks."""
        found = {cidr: node for cidr, node in self.declared.blocks.items() if version_of(cidr) == version}
        for workload, node in self.declared.workloads.values():
            for host in map(_host_route, workload.addresses):
                own = [cidr for cidr, owner in found.items() if owner == node]
                inside = any(_within(host, cidr) for cidr in own) and host not in self.disputed
                if version_of(host) == version and not inside:
                    found[host] = node
        return found

    def expected_kernel(self, name: str, version: int) -> Table:
        """What Cairn has to have written into a node's main table."""
        rack = RACK[name]
        table: Table = {SERVER_NETS[version]: ("unicast", frozenset({(gateway(rack, version), "eth0")}))}
        for prefix, node in self.announced(version).items():
            if node == name:
                table[prefix] = "blackhole", frozenset({("", "lo" if version == 6 else "")})
            else:
                via = address(node, version) if RACK[node] == rack else gateway(rack, version)
                table[prefix] = "unicast", frozenset({(via, "eth0")})
        for prefix, (there, next_hop) in self.declared.foreign.items():
            if version_of(prefix) == version:
                via = next_hop if there == rack else gateway(rack, version)
                table[prefix] = "unicast", frozenset({(via, "eth0")})
        owners = {  # of an address that two nodes claim, the one that was declared last
            host: (workload.interface, node)
            for workload, node in self.declared.workloads.values()
            for host in map(_host_route, workload.addresses)
        }
        for host, (interface, node) in owners.items():
            if version_of(host) == version and node == name:
                table[host] = "unicast", frozenset({("", interface)})
        return table

    def expected_router(self, rack: int, version: int) -> dict[str, frozenset[str]]:
        """Prefix → BGP next hop a router has to prefer for every workload prefix."""
        other = "10.9.0.{}" if version == 4 else "fd10:9::{}"
        return {
            prefix: frozenset({address(node, version) if RACK[node] == rack else other.format(RACK[node])})
            for prefix, node in self.announced(version).items()
        }

    def kernel(self, name: str, version: int) -> Table:
        """A node's main table less what was there before Cairn; a destination twice is an error."""
        base = self._base[name, version]
        return {
            destination: route
            for destination, route in self._table(self.hosts[name], version).items()
            if destination not in base and destination not in self.ignored
        }

    def _table(self, host: Host, version: int) -> Table:
        routes = [route for route in host.kernel_routes(version) if not _is_wiring(route)]
        table = {route.destination: (route.type, route.next_hops) for route in routes}
        assert len(table) == len(routes), f"duplicate routes on {host.name}: {routes}"
        return table

    def expect_exact(self, timeout: float = 120.0) -> None:
        """Wait until every node's kernel and both routers hold exactly what the declared state says."""
        for version in (4, 6):
            for name in NODES:
                self.world.wait_equal(
                    f"IPv{version} kernel routes of {name}",
                    partial(self.kernel, name, version),
                    self.expected_kernel(name, version),
                    timeout,
                )
                base = self._base[name, version]
                now = self._table(self.hosts[name], version)
                assert {d: now.get(d) for d in base} == base, f"foreign routes of {name} were touched"
            for rack, router in ((1, self.frr), (2, self.bird)):
                self.world.wait_equal(
                    f"IPv{version} routes of tor{rack}",
                    partial(_workload_routes, router, version),
                    self.expected_router(rack, version),
                    timeout,
                )

    def expect_sessions(self, timeout: float = 120.0) -> None:
        """Wait until routers and nodes see all their peers established."""
        for rack, router in ((1, self.frr), (2, self.bird)):
            other = 3 - rack
            names = [name for name in NODES if RACK[name] == rack]
            wanted = {address(name, version): True for name in names for version in (4, 6)}
            wanted |= {f"10.9.0.{other}": True, f"fd10:9::{other}": True}
            self.world.wait_equal(f"sessions of tor{rack}", router.sessions, wanted, timeout)
        for name, agent in self.agents.items():
            peers = [address(reflector, version) for reflector in REFLECTORS for version in (4, 6)]
            peers += [gateway(RACK[name], version) for version in (4, 6)]
            self.world.wait_equal(f"sessions of {name}", agent.sessions, dict.fromkeys(peers, True), timeout)


def _workload_routes(router: Frr | Bird, version: int) -> dict[str, frozenset[str]]:
    routes = router.routes(version)
    return {prefix: hops for prefix, hops in routes.items() if prefix.startswith(POOLS)}


def _host_route(address: str) -> str:
    return f"{address}/{128 if ':' in address else 32}"


def _within(inner: str, outer: str) -> bool:
    a, b = ipaddress.ip_network(inner), ipaddress.ip_network(outer)
    return a.version == b.version and int(a.network_address) >> (b.max_prefixlen - b.prefixlen) == int(
        b.network_address
    ) >> (b.max_prefixlen - b.prefixlen)


def _is_wiring(route: KernelRoute) -> bool:
    """Routes that come and go with a workload's wire: the link-local net and the gateway's own address."""
    return route.destination.startswith(("fe80::", "169.254.", "ff00::"))
