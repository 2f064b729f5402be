"""The containerlab topology: what it mounts is there, and its addresses agree with the declared state."""

from ipaddress import ip_interface
from pathlib import Path

import yaml

import agent.config
from bgpd.plan import plan_node
from bgpd.resources import ResourceSet, load_documents

FOLDER = Path(__file__).resolve().parents[2] / "configs/containerlab"
TOPOLOGY = yaml.safe_load((FOLDER / "cairn.clab.yml").read_text())["topology"]


def addresses(node: str, device: str) -> set[str]:
    words = [line.split() for line in TOPOLOGY["nodes"][node]["exec"]]
    return {line[3] for line in words if line[:3] == ["ip", "addr", "add"] and line[-1] == device}


def test_what_is_mounted_is_there_and_links_join_nodes_that_exist() -> None:
    for node in TOPOLOGY["nodes"].values():
        for bind in node["binds"]:
            assert (FOLDER / bind.split(":")[0]).exists(), bind
    ends = [end for link in TOPOLOGY["links"] for end in link["endpoints"]]
    assert len(ends) == len(set(ends))
    assert {end.partition(":")[0] for end in ends} == set(TOPOLOGY["nodes"])
    assert agent.config.load(FOLDER / "agent.yaml").http is not None


def test_nodes_peer_with_the_router_at_the_other_end_of_their_link() -> None:
    text = (FOLDER / "state/cluster.yaml").read_text()
    resources = ResourceSet.of(load_documents(text, "cluster.yaml"))
    router = (FOLDER / "frr.conf").read_text()
    tor = {str(ip_interface(each).ip) for device in ("eth1", "eth2") for each in addresses("tor", device)}
    for name in ("node1", "node2"):
        plan = plan_node(resources, name)
        [peering] = plan.peerings
        own = resources.nodes[name].ipv4
        assert str(own) in addresses(name, "eth1")
        assert str(peering.peer_address) in tor
        assert own is not None
        assert peering.peer_address in own.network
        assert f"neighbor {own.ip} remote-as {plan.asn}" in router
        assert f"router bgp {peering.peer_asn}" in router
        [workload] = addresses(name, "lo")
        assert any(ip_interface(workload).ip in route.prefix for route in plan.originated)
