"""Small clusters for the tests of plan and render, written as operators write them."""

from textwrap import dedent

from bgpd.plan import NodePlan, Peering, plan_node
from bgpd.resources import Resource, ResourceSet, load_documents

HEAD = "apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n"


def documents(text: str) -> list[Resource]:
    """Read documents whose apiVersion is left out."""
    parts = (part.strip("\n") for part in dedent(text).split("\n---\n"))
    return load_documents(
        "\n---\n".join(f"apiVersion: projectcalico.org/v3\n{part}" for part in parts), "cluster.yaml"
    )


def node(name: str, spec: str, labels: str = "{}", annotations: str = "{}") -> str:
    return (
        f"kind: Node\nmetadata: {{name: {name}, labels: {labels}, annotations: {annotations}}}\nspec: {spec}"
    )


def cluster(*texts: str) -> ResourceSet:
    """Make a snapshot of documents (without apiVersion)."""
    found: list[Resource] = []
    for text in texts:
        found.extend(documents(text))
    return ResourceSet.of(found)


def plans(resources: ResourceSet) -> dict[str, NodePlan]:
    return {name: plan_node(resources, name) for name in resources.nodes}


def session(plan: NodePlan, address: str) -> Peering:
    """Give the plan's one session with an address."""
    (found,) = [peering for peering in plan.peerings if str(peering.peer_address) == address]
    return found


def sessions(plan: NodePlan) -> set[str]:
    return {str(peering.peer_address) for peering in plan.peerings}


def announced(plan: NodePlan) -> set[str]:
    return {str(route.prefix) for route in plan.originated}


def bgp(name: str, host: int, more: str = "", labels: str = "{}") -> str:
    """Give a node 10.0.0.<host>."""
    return node(name, f"{{bgp: {{ipv4Address: 10.0.0.{host}/24{more}}}}}", labels)


THREE = "\n---\n".join(bgp(f"n{host}", host) for host in (1, 2, 3))
MESH_OFF = (
    "kind: BGPConfiguration\nmetadata: {name: default}\nspec: {nodeToNodeMeshEnabled: false, asNumber: 65000}"
)
