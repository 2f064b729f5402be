"""What the agent says it tells its peers: in pages, with every attribute, as `announcements` words them."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent.announcements import Announcements
from agent.status import AgentStatus
from bgpd.plan import plan_node
from bgpd.resources import ResourceSet, load_documents
from bgpd.telemetry.status import Direction, RouteQuery

HEAD = "apiVersion: projectcalico.org/v3\nkind: "
TEXT = f"""
{HEAD}BGPConfiguration
metadata: {{name: default}}
spec: {{asNumber: 64512}}
---
{HEAD}Node
metadata: {{name: n1}}
spec: {{bgp: {{ipv4Address: 10.0.0.1/24}}}}
---
{HEAD}Node
metadata: {{name: n2}}
spec: {{bgp: {{ipv4Address: 10.0.0.2/24}}}}
---
{HEAD}BGPPeer
metadata: {{name: tor}}
spec: {{node: n1, peerIP: 10.0.0.77, asNumber: 64999, filters: [all]}}
---
{HEAD}BGPFilter
metadata: {{name: all}}
spec:
  exportV4:
    - action: Accept
      operations:
        - addCommunity: {{value: "64512:7"}}
        - addCommunity: {{value: "64512:1:2"}}
        - setPriority: {{value: 77}}
---
{HEAD}IPPool
metadata: {{name: pool}}
spec: {{cidr: 10.77.0.0/16}}
"""
BLOCK = f"""---
{HEAD}BlockAffinity
metadata: {{name: n1-%s}}
spec: {{node: n1, cidr: 10.77.%s.0/26, state: confirmed}}
"""


@pytest.fixture
def status() -> AgentStatus:
    blocks = "".join(BLOCK % (number, number) for number in range(30))
    plan = plan_node(ResourceSet.of(load_documents(TEXT + blocks, "test")), "n1")
    told = {str(each.peer_address): Announcements().of(plan, each) for each in plan.peerings}
    speaker = SimpleNamespace(
        outbox=SimpleNamespace(peer=lambda address: SimpleNamespace(wanted=told[address]))
    )
    agent = SimpleNamespace(
        plan=plan,
        learned=SimpleNamespace(
            peers={str(each.peer_address): SimpleNamespace(peering=each) for each in plan.peerings}
        ),
        sessions=SimpleNamespace(speaker_of=lambda address: speaker),
    )
    return AgentStatus(cast("Any", agent))


def test_pages_follow_one_another_over_all_peers(status: AgentStatus) -> None:
    seen = []
    for offset in range(0, 70, 7):
        page = status.routes(RouteQuery(Direction.OUT, offset=offset, limit=7))
        assert page.total == 60
        seen += [(route.peer, route.prefix) for route in page.routes]
    assert len(seen) == len(set(seen)) == 60
    assert {peer for peer, _ in seen} == {"Mesh_10_0_0_2", "Node_10_0_0_77"}


def test_routes_are_found_by_prefix_peer_and_family(status: AgentStatus) -> None:
    def found(**query: Any) -> list[str]:
        page = status.routes(RouteQuery(Direction.OUT, **query))
        assert page.total == len(page.routes)
        return [route.prefix for route in page.routes]

    assert found(prefix="10.77.3.0/26") == ["10.77.3.0/26"] * 2
    assert found(prefix="10.77.3.0/26", peer="Node_10_0_0_77") == ["10.77.3.0/26"]
    assert found(prefix="10.77.3.0/26", peer="10.0.0.2") == ["10.77.3.0/26"]
    assert found(prefix="10.77.2.0/23", longer=True, peer="10.0.0.2") == ["10.77.2.0/26", "10.77.3.0/26"]
    assert found(prefix="10.77.2.0/23") == []
    assert found(prefix="::/0", longer=True) == []
    assert found(family="ipv6-unicast") == []
    assert found(peer="nobody") == []


def test_attributes_are_told_as_they_are_sent(status: AgentStatus) -> None:
    [mesh, tor] = status.routes(RouteQuery(Direction.OUT, prefix="10.77.3.0/26")).routes
    assert (mesh.next_hop, mesh.as_path, mesh.med, mesh.communities) == ("10.0.0.1", "", None, ())
    assert mesh.reason == "told to Mesh_10_0_0_2: block 10.77.3.0/26, affinity to n1 confirmed"
    assert (tor.next_hop, tor.as_path, tor.med) == ("10.0.0.1", "64512", 77)
    assert (tor.communities, tor.large_communities) == (("64512:7",), ("64512:1:2",))
