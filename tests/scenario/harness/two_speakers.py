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

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, partial
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from bgpd.datastore import Secrets
from bgpd.plan import NodePlan
from bgpd.render import BirdOptions, bird, bird_files
from bgpd.render.routers import router_text
from bgpd.render.tor import Vendor, router, routers_in
from bgpd.resources import NodeLease, dump_documents
from bgpd.resources.bgp_configuration import DEFAULT_ROUTE_PRIORITY
from bgpd.resources.workload_endpoint import WorkloadEndpoint
from tests.scenario.harness.bird import Bird
from tests.scenario.harness.bird1 import Bird1
from tests.scenario.harness.cairn import COMMAND, Agent, Reflector
from tests.scenario.harness.declared import DeclaredCluster, plans_of
from tests.scenario.harness.frr import Frr
from tests.scenario.harness.world import Host, KernelRoute, World

OUTSIDE = {4: ("198.51.100.0/24", "198.51.100.128/25"), 6: ("2001:db8:51::/48", "2001:db8:51:8000::/49")}
FAR_ADDRESS = IPv4Address("10.255.0.1")
TUNNEL = "dev vxlan.cairn"
_ATTRIBUTES = frozenset(
    {
        "aggregatorAs", "aggregatorId", "aspath", "atomicAggregate", "clusterList", "community",
        "extendedCommunity", "largeCommunity", "locPrf", "metric", "nexthops", "origin", "originatorId",
    }
)  # fmt: skip
Told = dict[str, list[str]]


class Speaker(StrEnum):
    """What runs on a node."""

    CAIRN = "cairn"
    BIRD = "bird"
    BIRD1 = "bird 1.6"


@dataclass(frozen=True, slots=True)
class Seen:
    """What a run came to: every node's kernel, less what was there before, and what every router heard.

    Of the kernels without tunnels and metrics, which not every speaker can have.
    """

    kernels: Mapping[str, Mapping[str, str]]
    told: Mapping[str, Mapping[str, list[str]]]


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
        self._speakers = speakers
        self.plans = plans_of(self.resources)
        self._reflecting = candidates | {name for name, plan in self.plans.items() if plan.cluster_id}
        self._routers_as = self._known_routers()
        secrets = {peering.password for plan in self.plans.values() for peering in plan.peerings}
        self._passwords, _ = Secrets(cluster.secrets, {}).read_all(each for each in secrets if each)
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
            addresses = [str(address) for address in (plan.ipv4, plan.ipv6) if address is not None]
            rack = 1 if addresses[0].startswith(("10.1.", "fd10:1:")) else 2
            hosts[name] = host = world.host(name, router=True)
            world.attach(f"rack{rack}", host, "eth0", *addresses)
            other = 3 - rack
            if plan.ipv4 is not None:
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
        self.world.link(host, interface, self.world.host(f"{interface}.{host.name}"), "eth0")

    # the programs

    def _router(self, asn: int) -> Frr:
        addresses = self._routers_as[asn]
        facing = router(list(self.plans.values()), addresses, self._passwords)
        text = router_text(facing, Vendor.FRR)
        text += f"router bgp {asn}\n no bgp network import-check\n"
        for version, prefixes in OUTSIDE.items():
            if any(self._announces(address) and address.version == version for address in addresses):
                text += f" address-family ipv{version} unicast\n"
                text += "".join(f"  network {prefix}\n" for prefix in prefixes)
                text += " exit-address-family\n"
        host = self.hosts["tor.b" if IPv4Address("10.1.0.253") in addresses else "tor"]
        return Frr(host, text)

    @staticmethod
    def _announces(address: IPv4Address | IPv6Address) -> bool:
        """Whether the router at this address has prefixes of its own."""
        return str(address) in ("10.1.0.254", "fd10:1::254", str(FAR_ADDRESS))

    def _start(self, name: str, plan: NodePlan, speaker: Speaker) -> Agent | Reflector | Bird | Bird1:
        host = self.hosts[name]
        reflects = name in self._reflecting
        options = BirdOptions(reflector=reflects, scan_time=1)
        if speaker is Speaker.BIRD:
            return Bird(host, bird(plan, 2, self._passwords, options))
        if speaker is Speaker.BIRD1:
            for workload in plan.workloads:  # what Felix does beside BIRD 1.6
                if workload.prefix.version == 4:
                    host.ip(f"route add {workload.prefix} dev {workload.interface} scope link metric 1024")
            texts = bird_files(plan, 1, self._passwords, options)
            versions = {4: texts["bird.conf"]}
            if plan.ipv6 is not None:
                versions[6] = texts["bird6.conf"]
            return Bird1(host, versions)
        secrets = str(self.cluster.secrets)
        common = {"datastore": str(self._store), "node": name}
        if reflects:
            return Reflector(host, common | {"http": {"port": Reflector.port}, "secrets": secrets})
        return Agent(
            host,
            common
            | {
                "http": {"port": Agent.port},
                "secrets": {"directory": secrets},
                "exabgp": {"runDirectory": str(host.directory / "exabgp")},
            },
        )

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
        kernels = self.cluster.expected("kernels")
        for name in self.plans:
            wanted_kernel = kernels[name]
            if self._speakers[name] is not Speaker.CAIRN:
                wanted_kernel = without_tunnels(wanted_kernel)
            if self._speakers[name] is Speaker.BIRD:
                wanted_kernel = without_metrics(wanted_kernel)
            self.world.wait_equal(f"kernel of {name}", partial(self.kernel, name), wanted_kernel, 60)
        return Seen(
            {name: without_metrics(without_tunnels(self.kernel(name))) for name in self.plans},
            {str(asn): self.attributes(asn) for asn in self.routers},
        )

    def check_exabgp(self) -> None:
        """What one agent's ExaBGP processes run is what `cairn render exabgp` shows, to the letter."""
        agents = [agent for agent in self.sessions.values() if isinstance(agent, Agent)]
        for agent in agents[:1]:
            root = agent.host.directory / "exabgp"
            running = {path: path.read_text() for path in sorted(root.glob("*/exabgp.conf"))}
            words = ("--node", agent.host.name, "--datastore", str(self._store))
            more = ("--secrets", str(self.cluster.secrets), "--run-directory", str(root))
            shown = agent.host.run(COMMAND, "render", "exabgp", *words, *more, timeout=120.0)
            assert shown == "".join(f"# ---- {path}\n{text}" for path, text in running.items())

    # what there is

    def kernel(self, name: str) -> dict[str, str]:
        """A node's routes, less those it had before, in the words of ``kernels.yaml``."""
        base = self._base[name]
        return {place: route for place, route in self._table(name).items() if place not in base}

    def _table(self, name: str) -> dict[str, str]:
        host = self.hosts[name]
        names = self._link_local if self._speakers[name] is Speaker.BIRD1 else {}
        return {
            route.destination: _way(route, names)
            for route in [*host.kernel_routes(4), *host.kernel_routes(6)]
            if not route.destination.startswith(("fe80::", "ff00::"))
        }

    @cached_property
    def _link_local(self) -> Mapping[str, str]:
        """Global address by link-local address, of the routers: BIRD 1.6 always forwards to the latter."""
        known: dict[str, str] = {}
        for name in ("tor", "tor.b"):
            host = self.hosts.get(name)
            for link in json.loads(host.run("ip", "-6", "-j", "addr", "show")) if host else ():
                inside = {item["scope"]: item["local"] for item in link["addr_info"]}
                if "global" in inside and "link" in inside:
                    known[inside["link"]] = inside["global"]
        return known

    def attributes(self, asn: int) -> dict[str, list[str]]:
        """Every attribute of everything a router was told, as FRR writes it."""
        frr = self.routers[asn]
        found: dict[str, list[str]] = {}
        for version in (4, 6):
            for prefix in frr.show(f"bgp ipv{version} unicast").get("routes", {}):
                for path in frr.show(f"bgp ipv{version} unicast {prefix}").get("paths", []):
                    kept = {name: value for name, value in path.items() if name in _ATTRIBUTES}
                    kept["from"] = path["peer"]["peerId"]
                    kept["nexthops"] = [hop["ip"] for hop in path["nexthops"]]
                    found.setdefault(prefix, []).append(json.dumps(kept, sort_keys=True))
        return {prefix: sorted(paths) for prefix, paths in found.items()}

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


def _way(route: KernelRoute, names: Mapping[str, str]) -> str:
    """``via 10.1.0.12, via 10.1.0.13``, ``dev cali1``, ``blackhole``, ``via 10.1.0.254 metric 512``.

    The wire to the rack is not named, nor the metric of ordinary priority.
    """
    ways = sorted(
        " ".join(
            [f"via {names.get(gateway, gateway)}"] * bool(gateway)
            + [f"dev {interface}"] * (interface != "eth0")
        )
        for gateway, interface in route.next_hops
    )
    metric = f" metric {route.metric}" if route.metric != DEFAULT_ROUTE_PRIORITY else ""
    return (", ".join(ways) if route.type == "unicast" else route.type) + metric


def without_tunnels(kernel: Mapping[str, str]) -> dict[str, str]:
    """What a BIRD has of it: a tunnel is not BIRD's to lead packets into."""
    return {place: way for place, way in kernel.items() if TUNNEL not in way}


def without_metrics(kernel: Mapping[str, str]) -> dict[str, str]:
    """What BIRD 2 makes of it: its kernel protocol has one metric, that of ordinary priority, for all."""
    return {place: way.partition(" metric ")[0] for place, way in kernel.items()}


def _words(path: Mapping[str, Any]) -> str:
    """One of FRR's paths as ``routes.yaml`` writes it; empty for the router's own."""
    peer = path["peer"]["peerId"]
    if peer in ("0.0.0.0", "::"):
        return ""
    hop = next(hop["ip"] for hop in path["nexthops"] if hop.get("scope", "global") == "global")
    numbers = path["aspath"]["string"].replace("Local", "")  # as FRR writes an empty path
    words = ["path", *numbers.split(), "next hop", hop]
    if path.get("metric"):
        words += ["med", str(path["metric"])]
    communities = [*_numbers(path, "community"), *_numbers(path, "largeCommunity")]
    if communities:
        words += ["communities", *(":".join(map(str, each)) for each in sorted(communities))]
    return " ".join(words)


def _numbers(path: Mapping[str, Any], kind: str) -> list[tuple[int, ...]]:
    text = path.get(kind, {}).get("string", "")
    return [tuple(map(int, word.split(":"))) for word in text.split() if word[0].isdigit()]
