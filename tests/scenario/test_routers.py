"""What `render tor` says, run: each make of router beside nodes that declare everything a session can have.

One node has a session of either family with a password (RFC 2385) and GTSM (RFC 5082); another, in another AS
and behind another router, knows the router by an address two hops away; three are in the router's own AS, so
that it is their route reflector and tells them all paths to what two of them announce (RFC 7911). The router
takes what lies in a pool and refuses the rest. (FRR as router is also every declared cluster's.)
"""

from collections.abc import Callable
from ipaddress import ip_address
from typing import Protocol

import pytest

from bgpd.plan import SecretRef
from bgpd.render import bird
from bgpd.render.routers import router_text
from bgpd.render.tor import Vendor, router
from tests.plan.cluster import cluster, plans
from tests.scenario.harness.bird import Bird
from tests.scenario.harness.frr import Frr
from tests.scenario.harness.gobgp import GoBgp
from tests.scenario.harness.openbgpd import OpenBgpd
from tests.scenario.harness.world import Host, World

RESOURCES = """\
kind: BGPConfiguration
metadata: {name: default}
spec: {nodeToNodeMeshEnabled: false, serviceClusterIPs: [{cidr: 10.96.0.0/16}]}
---
kind: Node
metadata: {name: n1, labels: {node.kubernetes.io/exclude-from-external-load-balancers: true}}
spec: {bgp: {ipv4Address: 10.1.0.11/24, ipv6Address: 'fd10:1::11/64'}}
---
kind: Node
metadata: {name: far, labels: {node.kubernetes.io/exclude-from-external-load-balancers: true}}
spec: {bgp: {ipv4Address: 10.2.0.12/24, asNumber: 64702}}
---
kind: Node
metadata: {name: i1, labels: {inside: true}}
spec: {bgp: {ipv4Address: 10.1.0.21/24, asNumber: 64600}}
---
kind: Node
metadata: {name: i2, labels: {inside: true}}
spec: {bgp: {ipv4Address: 10.1.0.22/24, asNumber: 64600}}
---
kind: Node
metadata: {name: i3, labels: {inside: true, node.kubernetes.io/exclude-from-external-load-balancers: true}}
spec: {bgp: {ipv4Address: 10.1.0.23/24, asNumber: 64600}}
---
kind: BGPPeer
metadata: {name: inside}
spec: {nodeSelector: has(inside), peerIP: 10.1.0.254, asNumber: 64600}
---
kind: BGPPeer
metadata: {name: far}
spec: {node: far, peerIP: 10.255.0.254, asNumber: 64600, reachableBy: 10.2.0.254, ttlSecurity: 2}
---
kind: BlockAffinity
spec: {node: far, cidr: 10.244.2.0/26}
---
kind: BGPPeer
metadata: {name: tor4}
spec:
  node: n1
  peerIP: 10.1.0.254
  asNumber: 64600
  localASNumber: 64700
  ttlSecurity: 1
  keepaliveTime: 5s
  maxRestartTime: 30s
  password: {secretKeyRef: {name: tor, key: word}}
---
kind: BGPPeer
metadata: {name: tor6}
spec:
  node: n1
  peerIP: 'fd10:1::254'
  asNumber: 64600
  localASNumber: 64700
  ttlSecurity: 1
  password: {secretKeyRef: {name: tor, key: word}}
---
kind: IPPool
metadata: {name: p4}
spec: {cidr: 10.244.0.0/16}
---
kind: IPPool
metadata: {name: p6}
spec: {cidr: 'fd00:244::/48'}
---
kind: BlockAffinity
spec: {node: n1, cidr: 10.244.1.0/26}
---
kind: BlockAffinity
spec: {node: n1, cidr: 172.20.1.0/26}
---
kind: BlockAffinity
spec: {node: n1, cidr: 'fd00:244:0:1::/122'}
"""
PASSWORDS = {SecretRef("tor", "word"): "rack.1-word"}


class Running(Protocol):
    """What is asked of a router."""

    def sessions(self) -> dict[str, bool]: ...
    def routes(self, version: int = 4) -> dict[str, frozenset[str]]: ...


def bird_router(host: Host, text: str) -> Running:
    return Bird(host, "log stderr all;\nprotocol device { scan time 1; }\n" + text)


ROUTERS: dict[Vendor, Callable[[Host, str], Running]] = {
    Vendor.FRR: Frr,
    Vendor.BIRD: bird_router,
    Vendor.GOBGP: lambda host, text: GoBgp(host, text, "toml"),
    Vendor.OPENBGPD: OpenBgpd,
}


@pytest.mark.scenario
@pytest.mark.peer("bird")
@pytest.mark.parametrize("vendor", [pytest.param(v, marks=pytest.mark.peer(str(v))) for v in ROUTERS])
def test_a_router_configured_by_us_passes_on_the_nodes_routes_and_no_others(vendor: Vendor) -> None:
    found = plans(cluster(RESOURCES))
    addresses = [ip_address(text) for text in ("10.1.0.254", "10.255.0.254", "fd10:1::254")]
    facing = router(list(found.values()), addresses, PASSWORDS)
    with World("routers") as world:
        tor, between, nodes = world.host("tor", router=True), world.host("between", router=True), {}
        for segment in ("rack", "middle", "beyond"):
            world.segment(segment)
        world.attach("rack", tor, "eth1", "10.1.0.254/24", "fd10:1::254/64")
        world.attach("middle", tor, "eth2", "10.3.0.254/24")
        world.attach("middle", between, "eth1", "10.3.0.1/24")
        world.attach("beyond", between, "eth2", "10.2.0.254/24")
        tor.ip("address add 10.255.0.254/32 dev lo", "route add 10.2.0.0/24 via 10.3.0.1")
        between.ip("route add 10.255.0.254/32 via 10.3.0.254")
        for name, plan in found.items():
            assert plan.ipv4 is not None
            host = world.host(name, router=True)
            more = (str(plan.ipv6),) if plan.ipv6 is not None else ()
            world.attach("beyond" if name == "far" else "rack", host, "eth0", str(plan.ipv4), *more)
            nodes[name] = Bird(host, bird(plan, 2, PASSWORDS))
        running = ROUTERS[vendor](tor, router_text(facing, vendor))
        up = {str(session.address): True for session in facing.sessions}
        assert len(up) == 6
        world.wait_equal("all sessions", running.sessions, up, 90)
        wanted = {
            4: {"10.244.1.0/26": "10.1.0.11", "10.244.2.0/26": "10.2.0.12"},
            6: {"fd00:244:0:1::/122": "fd10:1::11"},
        }
        for version, hops in wanted.items():

            def blocks(version: int = version) -> dict[str, frozenset[str]]:
                return {p: hops for p, hops in running.routes(version).items() if p != "10.96.0.0/16"}

            world.wait_equal(f"IPv{version} routes", blocks, {p: frozenset({hop}) for p, hop in hops.items()})

        def as_paths(node: str, prefix: str) -> set[str]:
            return {path.attributes.get("BGP.as_path", "") for path in nodes[node].paths().get(prefix, ())}

        # An AS to each rack: each hears of the other through the router alone.
        world.wait_equal("n1's way", lambda: as_paths("n1", "10.244.2.0/26"), {"64600 64702"})
        world.wait_equal("far's way", lambda: as_paths("far", "10.244.1.0/26"), {"64600 64700"})

        def services() -> set[str]:
            return {path.next_hop for path in nodes["i3"].paths().get("10.96.0.0/16", ())}

        world.wait_equal("both ways to the services", services, {"10.1.0.21", "10.1.0.22"})
