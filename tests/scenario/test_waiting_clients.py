"""A reflector whose client waits: Calico's BIRD does where a global BGPPeer names the greater address.

::

    client 10.1.0.11      rr 10.1.0.12
      └─────────────────────┘
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from bgpd.plan import plan_node
from bgpd.render import bird
from bgpd.resources import BGPConfiguration, BGPPeer, Node, Resource, ResourceSet, to_document
from tests.scenario.harness.bird import Bird, preamble
from tests.scenario.harness.cairn import Reflector
from tests.scenario.harness.world import Host, World

pytestmark = [pytest.mark.scenario, pytest.mark.peer("bird"), pytest.mark.timeout(200)]

CLUSTER: tuple[Resource, ...] = (
    BGPConfiguration(metadata={"name": "default"}, spec={"nodeToNodeMeshEnabled": False}),
    Node(metadata={"name": "client"}, spec={"bgp": {"ipv4Address": "10.1.0.11/24"}}),
    Node(
        metadata={"name": "rr"},
        spec={"bgp": {"ipv4Address": "10.1.0.12/24", "routeReflectorClusterID": "244.0.0.1"}},
    ),
    BGPPeer(metadata={"name": "the-reflector"}, spec={"peerIP": "10.1.0.12", "asNumber": 64512}),
)
HTTP = {"port": Reflector.port}
CLIENT = f"""{preamble("10.1.0.11", kernel=False)}
protocol static {{ ipv4; route 10.64.1.0/26 blackhole; }}
protocol bgp Global_10_1_0_12 {{
    local 10.1.0.11 as 64512; neighbor 10.1.0.12 as 64512; multihop; passive on;
    ipv4 {{ import all; export where source = RTS_STATIC; next hop self; }};
}}
"""


@pytest.fixture
def hosts() -> Iterator[dict[str, Host]]:
    with World("waiting") as world:
        world.segment("rack")
        found = {name: world.host(name) for name in ("client", "rr")}
        world.attach("rack", found["client"], "eth0", "10.1.0.11/24")
        world.attach("rack", found["rr"], "eth0", "10.1.0.12/24")
        yield found


@pytest.mark.parametrize("speaker", ["cairn", "bird"])
def test_a_client_that_waits_is_connected_to(hosts: dict[str, Host], speaker: str) -> None:
    rr = hosts["rr"]
    client = Bird(hosts["client"], CLIENT)
    reflector: Bird | Reflector
    if speaker == "bird":
        reflector = Bird(rr, bird(plan_node(ResourceSet.of(CLUSTER), "rr"), 2))
    else:
        (rr.directory / "state").mkdir()
        rr.write("state/cluster.yaml", yaml.safe_dump_all(map(to_document, CLUSTER)))
        reflector = Reflector(rr, {"datastore": str(rr.directory / "state"), "node": "rr", "http": HTTP})
    world = rr.world
    for _ in range(2):  # and once more when the client comes back
        world.wait_until("a session", lambda: client.sessions() == {"10.1.0.12": True}, 60)
        world.wait_until("the reflector's view", lambda: reflector.sessions() == {"10.1.0.11": True}, 10)
        client.program.kill()
        client.restart()
