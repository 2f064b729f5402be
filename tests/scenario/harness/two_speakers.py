"""A declared cluster run for real, each node by the speaker one chooses: our agent, or a rendered BIRD.

::

    rack 1, 10.1.0.0/24, fd10:1::/64          rack 2, 10.2.0.0/24, fd10:2::/64
    nodes, reflectors                          nodes, reflectors
            └──────────── tor: FRR .254, and 10.255.0.1 ────────────┘
                 a further router in rack 1, if one is declared: FRR .253

The routers run what ``render tor`` says, and announce two prefixes of their own. Nodes of one rack reach one
another directly, those of the other through the router; the kernel's main table is all that leads anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_network
from typing import Any

from bgpd.plan import NodePlan, OriginKind
from bgpd.render import BirdOptions, bird, bird_files
from bgpd.render.routers import router_text
from bgpd.render.tor import Vendor, router, routers_in
from bgpd.resources import NodeLease, dump_documents
from bgpd.resources.workload_endpoint import WorkloadEndpoint
from tests.scenario.harness.bird import Bird
from tests.scenario.harness.bird1 import Bird1
from tests.scenario.harness.cairn import Agent, Reflector
from tests.scenario.harness.declared import DeclaredCluster, plans_of
from tests.scenario.harness.frr import Frr
from tests.scenario.harness.world import Host, World

OUTSIDE = ("198.51.100.0/24", "198.51.100.128/25")
FAR_ADDRESS = IPv4Address("10.255.0.1")
Hops = frozenset[tuple[str, str]]
Table = dict[str, tuple[str, Hops]]
Told = dict[str, list[str]]


class Speaker(StrEnum):
    """What runs on a node."""

    CAIRN = "cairn"
    BIRD = "bird"
    BIRD1 = "bird 1.6"


@dataclass(frozen=True, slots=True)
class Seen:
    """What a run came to: every node's kernel, less what was there before, and what every router heard."""

    kernels: Mapping[str, Mapping[str, Any]]
    told: Mapping[str, Told]


class Run:
    """One run of a cluster. The expectations are ``routes.yaml``'s and ``plan.yaml``'s."""

    def __init__(
        self,
        world: World,
        cluster: DeclaredCluster,
        speakers: Mapping[str, Speaker],
        candidates: frozenset[str] = frozenset(),
    ) -> None:
        """``candidates`` are nodes that run a reflector, whether they are elected or not."""
        self.world = world
        self.cluster = cluster
        self.resources = cluster.resources
        self.plans = plans_of(self.resources)
        self._reflecting = candidates | {name for name, plan in self.plans.items() if plan.cluster_id}
        self._routers_as = self._known_routers()
        self.hosts = self._lay()
        self._base = {name: self._table(name) for name in self.plans}
        self.routers = {asn: self._router(asn) for asn in self._routers_as}
        self._store = world.directory / "store"
        self._store.mkdir()
        # Who is alive shows in a running cluster by itself.
        declared = [item for item in self.resources if not isinstance(item, NodeLease)]
        (self._store / "resources.yaml").write_text(dump_documents(declared))
        self.sessions = {name: self._start(name, plan, speakers[name]) for name, plan in self.plans.items()}

    def _known_routers(self) -> dict[int, list[IPv4Address | IPv6Address]]:
        found: dict[int, list[IPv4Address | IPv6Address]] = {}
        for address, numbers in routers_in(self.plans.values()).items():
            for asn in numbers:
                found.setdefault(asn, []).append(address)
        return found

    # the network

    def _lay(self) -> dict[str, Host]:
        world = self.world
        tor = world.host("tor", router=True)
        hosts = {"tor": tor}
        for rack in (1, 2):
            world.segment(f"rack{rack}")
            world.attach(f"rack{rack}", tor, f"rack{rack}", f"10.{rack}.0.254/24", f"fd10:{rack}::254/64")
        tor.ip(f"addr add {FAR_ADDRESS}/32 dev lo")
        if any(str(address).endswith(".253") for known in self._routers_as.values() for address in known):
            hosts["tor.b"] = world.host("tor.b", router=True)
            world.attach("rack1", hosts["tor.b"], "rack1", "10.1.0.253/24", "fd10:1::253/64")
            hosts["tor.b"].ip("route add 10.2.0.0/24 via 10.1.0.254")
        for name, plan in self.plans.items():
            assert plan.ipv4 is not None
            rack = int(str(plan.ipv4).split(".")[1])
            addresses = [str(plan.ipv4)] + ([str(plan.ipv6)] if plan.ipv6 is not None else [])
            hosts[name] = host = world.host(name, router=True)
            world.attach(f"rack{rack}", host, "eth0", *addresses)
            other = 3 - rack
            host.ip(f"route add 10.{other}.0.0/24 via 10.{rack}.0.254")
            if plan.ipv6 is not None:
                host.ip(f"route add fd10:{other}::/64 via fd10:{rack}::254")
            for endpoint in self.resources.endpoints_on(name):
                self._wire(host, endpoint)
        return hosts

    def _wire(self, host: Host, endpoint: WorkloadEndpoint) -> None:
        """A wire to a workload; nobody has to answer there."""
        interface = endpoint.spec.interface_name
        assert interface is not None
        self.world.link(host, interface, self.world.host(f"w.{host.name}"), "eth0")

    # the programs

    def _router(self, asn: int) -> Frr:
        addresses = self._routers_as[asn]
        text = router_text(router(list(self.plans.values()), addresses, {}), Vendor.FRR)
        if any(address in (IPv4Address("10.1.0.254"), FAR_ADDRESS) for address in addresses):
            text += f"router bgp {asn}\n no bgp network import-check\n address-family ipv4 unicast\n"
            text += "".join(f"  network {prefix}\n" for prefix in OUTSIDE)
        host = self.hosts["tor.b" if IPv4Address("10.1.0.253") in addresses else "tor"]
        return Frr(host, text)

    def _start(self, name: str, plan: NodePlan, speaker: Speaker) -> Agent | Reflector | Bird | Bird1:
        host = self.hosts[name]
        reflects = name in self._reflecting
        options = BirdOptions(reflector=reflects, scan_time=1)
        if speaker is Speaker.BIRD:
            return Bird(host, bird(plan, 2, {}, options))
        if speaker is Speaker.BIRD1:
            for workload in plan.workloads:  # what Felix does beside BIRD 1.6
                if workload.prefix.version == 4:
                    host.ip(f"route add {workload.prefix} dev {workload.interface} scope link")
            texts = bird_files(plan, 1, {}, options)
            versions = {4: texts["bird.conf"]}
            if plan.ipv6 is not None:
                versions[6] = texts["bird6.conf"]
            return Bird1(host, versions)
        common = {"datastore": str(self._store), "node": name, "http": {"port": 9178}}
        if reflects:
            return Reflector(host, common | {"http": {"port": Reflector.port}})
        return Agent(host, common | {"exabgp": {"runDirectory": str(host.directory / "exabgp")}})

    # what has to come of it

    def settle(self) -> Seen:
        """Wait until all sessions are up, every router was told and every kernel holds what is expected."""
        routes = self.cluster.expected("routes")
        for name, plan in self.plans.items():
            wanted = {str(peering.peer_address): True for peering in plan.peerings}
            self.world.wait_equal(f"sessions of {name}", self.sessions[name].sessions, wanted, 90)
        for asn, addresses in self._routers_as.items():
            expected: Told = {}
            for address in addresses:
                for prefix, told in routes["told"].get(str(address), {}).items():
                    expected.setdefault(prefix, []).extend(told)
            wanted_told = {prefix: sorted(told) for prefix, told in expected.items()}
            self.world.wait_equal(f"what AS {asn} is told", partial(self.told, asn), wanted_told, 60)
        for name, plan in self.plans.items():
            self.world.wait_equal(
                f"kernel of {name}", partial(self.kernel, name), self.expected_kernel(plan, routes), 60
            )
        return Seen(
            {name: self.kernel(name) for name in self.plans},
            {str(asn): self.told(asn) for asn in self.routers},
        )

    def expected_kernel(self, plan: NodePlan, routes: Mapping[str, Any]) -> Table:
        """A node's routes: what it learns, its blocks, its workloads, and what the routers announce."""
        if plan.node in self._reflecting:
            return {}
        table: Table = {}
        for prefix, origins in self._from_routers(plan, routes).items():
            table[prefix] = "unicast", origins
        for prefix, origins in routes["learned"][plan.node].items():
            version = 6 if ":" in prefix else 4
            hops = frozenset(self._way(plan, self.plans[origin], version) for origin in origins)
            # RFC 4271 §9.1.2.2 e: what is nearer is better, and a node of the same subnet is nearest.
            near = frozenset(hop for hop in hops if not hop[0].endswith("254"))
            table[prefix] = "unicast", near or hops
        for route in plan.originated:
            if route.kind is OriginKind.SERVICE:  # delivered here, by others
                table.pop(str(route.prefix), None)
        for hole in plan.blackholes:
            table[str(hole.prefix)] = "blackhole", frozenset({("", "lo" if hole.prefix.version == 6 else "")})
        for workload in plan.workloads:
            table[str(workload.prefix)] = "unicast", frozenset({("", workload.interface)})
        for peering in plan.peerings:
            if peering.reachable_by is not None:
                table[f"{peering.peer_address}/32"] = (
                    "unicast",
                    frozenset({(str(peering.reachable_by), "eth0")}),
                )
        return table

    @staticmethod
    def _way(plan: NodePlan, other: NodePlan, version: int) -> tuple[str, str]:
        """Directly to a node of the same subnet, else through the rack's router."""
        own: IPv4Interface | IPv6Interface | None = plan.ipv4 if version == 4 else plan.ipv6
        address = other.address(version)
        assert own is not None
        assert address is not None
        if address in own.network:
            return str(address), "eth0"
        return str(own.network[254 if version == 4 else 0x254]), "eth0"

    def _from_routers(self, plan: NodePlan, routes: Mapping[str, Any]) -> dict[str, Hops]:
        """What the routers' announcements lead to: their own, and those of nodes of another AS."""
        found: dict[str, Hops] = {}
        for peering in plan.peerings:
            address = peering.peer_address
            if peering.peer_node is not None or address.version != 4:
                continue
            hop = str(peering.reachable_by or address)
            if address not in plan.ipv4.network and peering.reachable_by is None:  # type: ignore[union-attr]  # all have one
                hop = str(plan.ipv4.network[254])  # type: ignore[union-attr]  # all have one
            refused = {
                prefix
                for compiled in peering.import_policy.filters
                for rule in compiled.rules
                if not rule.accept and rule.prefix is not None
                for prefix in OUTSIDE
                if rule.prefix.holds(ip_network(prefix))
            }
            announced = set(OUTSIDE) if str(address) != "10.1.0.253" else set()
            for at in self._routers_as[peering.peer_asn]:
                for prefix, told in routes["told"].get(str(at), {}).items():
                    numbers = {word for text in told for word in text.split()}
                    if str(peering.local_asn) not in numbers and ":" not in prefix:
                        announced.add(prefix)
            for prefix in announced - refused:
                found[prefix] = found.get(prefix, frozenset()) | {(hop, "eth0")}
        return found

    # what there is

    def kernel(self, name: str) -> Table:
        base = self._base[name]
        return {place: route for place, route in self._table(name).items() if place not in base}

    def _table(self, name: str) -> Table:
        host = self.hosts[name]
        routes = [*host.kernel_routes(4), *host.kernel_routes(6)]
        return {
            route.destination: (route.type, route.next_hops)
            for route in routes
            if not route.destination.startswith(("fe80::", "ff00::"))
        }

    def told(self, asn: int) -> Told:
        """What nodes told a router, in the words of ``routes.yaml``; its own announcements left out."""
        frr = self.routers[asn]
        found: Told = {}
        for version in (4, 6):
            for prefix in frr.show(f"bgp ipv{version} unicast").get("routes", {}):
                for path in frr.show(f"bgp ipv{version} unicast {prefix}").get("paths", []):
                    if words := _words(path):
                        found.setdefault(prefix, []).append(words)
        return {prefix: sorted(told) for prefix, told in found.items()}


def _words(path: Mapping[str, Any]) -> str:
    """One of FRR's paths as ``routes.yaml`` writes it; empty for the router's own."""
    peer = path["peer"]["peerId"]
    if peer in ("0.0.0.0", "::"):
        return ""
    hop = next(hop["ip"] for hop in path["nexthops"] if hop.get("scope", "global") == "global")
    words = ["path", *path["aspath"]["string"].split(), "next hop", hop]
    if path.get("metric"):
        words += ["med", str(path["metric"])]
    communities = [*_numbers(path, "community"), *_numbers(path, "largeCommunity")]
    if communities:
        words += ["communities", *(":".join(map(str, each)) for each in sorted(communities))]
    return " ".join(words)


def _numbers(path: Mapping[str, Any], kind: str) -> list[tuple[int, ...]]:
    text = path.get(kind, {}).get("string", "")
    return [tuple(map(int, word.split(":"))) for word in text.split() if word[0].isdigit()]
