"""Which ExaBGP processes a plan comes to."""

from pathlib import Path

from agent.sessions import configurations, one_per_address
from bgpd.plan import plan_node
from tests.plan.cluster import MESH_OFF, THREE, cluster

PEER = "kind: BGPPeer\nmetadata: {{name: p{0}}}\nspec: {{peerIP: '192.0.2.1:{0}', asNumber: 65001}}"


def test_two_peerings_of_one_address_come_to_one_session() -> None:
    plan = plan_node(cluster(MESH_OFF, THREE, PEER.format(179), PEER.format(1790)), "n1")
    assert len(plan.peerings) == 2
    (kept,) = one_per_address(plan).values()
    (name,) = configurations(plan, {}, Path("/run/x"))
    assert name == f"peer-{kept.peer_address}"
