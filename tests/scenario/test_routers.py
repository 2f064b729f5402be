"""What `render tor` says, run: each make of router beside a node that declares everything a session can have.

Both families have a session with a password (RFC 2385) and GTSM (RFC 5082). The router takes what lies in a
pool and refuses the rest. (FRR as router is also every
declared cluster's.)
"""

from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from typing import Protocol

import pytest

from bgpd.plan import SecretRef, plan_node
from bgpd.render import bird
from bgpd.render.routers import router_text
from bgpd.render.tor import Vendor, router
from tests.plan.cluster import cluster
from tests.scenario.harness.bird import Bird
from tests.scenario.harness.frr import Frr
from tests.scenario.harness.gobgp import GoBgp
from tests.scenario.harness.openbgpd import OpenBgpd
from tests.scenario.harness.world import Host, World

RESOURCES = """\
kind: Node
metadata: {name: n1}
spec: {bgp: {ipv4Address: 10.1.0.11/24, ipv6Address: 'fd10:1::11/64'}}
---
kind: BGPPeer
metadata: {name: tor4}
spec:
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
def test_a_router_configured_by_us_takes_the_nodes_routes_and_no_others(vendor: Vendor) -> None:
    plan = plan_node(cluster(RESOURCES), "n1")
    facing = router([plan], [ip_address("10.1.0.254"), ip_address("fd10:1::254")], PASSWORDS)
    with World("routers") as world:
        world.segment("rack")
        tor, node = world.host("tor", router=True), world.host("n1", router=True)
        world.attach("rack", tor, "eth0", "10.1.0.254/24", "fd10:1::254/64")
        world.attach("rack", node, "eth0", "10.1.0.11/24", "fd10:1::11/64")
        running = ROUTERS[vendor](tor, router_text(facing, vendor))
        Bird(node, bird(plan, 2, PASSWORDS))
        world.wait_equal("both sessions", running.sessions, {"10.1.0.11": True, "fd10:1::11": True}, 90)
        for version, block, hop in (
            (4, "10.244.1.0/26", "10.1.0.11"),
            (6, "fd00:244:0:1::/122", "fd10:1::11"),
        ):
            view = partial(running.routes, version)
            world.wait_equal(f"IPv{version} routes", view, {block: frozenset({hop})})
