"""The lab's declared state: the resources that a real cluster of this shape would have, and no others.

Reflectors are found by a label; every member peers with every reflector by one BGPPeer. A workload is a
WorkloadEndpoint, its block a confirmed BlockAffinity. The graceful restart time is short, because the lab
kills a node and shows how its routes go away.
"""

from collections.abc import Mapping

from bgpd.resources import MODELS, Resource, endpoint_name
from ctl.lab.layout import ASN, BLOCK_LENGTH, POOL, Layout, Member, Role
from ctl.lab.script import Cluster, Workload

CLUSTER_ID = "244.0.0.1"
NAMESPACE = "lab"
RESTART_TIME = 3  # seconds
_CALICO = "projectcalico.org/v3"


def resource(kind: str, name: str, spec: Mapping[str, object], **metadata: object) -> Resource:
    """A resource of these parts, read as if from a file."""
    document = {
        "apiVersion": _CALICO,
        "kind": kind,
        "metadata": {"name": name, **metadata},
        "spec": dict(spec),
    }
    return MODELS[kind].model_validate(document, by_alias=True, by_name=False)


def of_cluster(layout: Layout, port: int) -> list[Resource]:
    """What is declared before the first workload. `port` is where everyone listens for BGP."""
    return [
        resource(
            "BGPConfiguration",
            "default",
            {"nodeToNodeMeshEnabled": False, "asNumber": ASN, "listenPort": port, "bindMode": "NodeIP"},
        ),
        resource(
            "IPPool",
            "lab",
            {
                "cidr": str(POOL),
                "blockSize": BLOCK_LENGTH,
                "ipipMode": "Never",
                "vxlanMode": "Never",
                "natOutgoing": False,
            },
        ),
        resource(
            "BGPPeer",
            "reflectors",
            {
                "nodeSelector": "all()",
                "peerSelector": "role == 'reflector'",
                "maxRestartTime": f"{RESTART_TIME}s",
            },
        ),
        *map(_node, layout),
    ]


def _node(member: Member) -> Resource:
    bgp: dict[str, object] = {"ipv4Address": str(member.interface)}
    if member.role is Role.REFLECTOR:
        bgp["routeReflectorClusterID"] = CLUSTER_ID
    return resource("Node", member.name, {"bgp": bgp}, labels={"role": str(member.role)})


def of_workloads(cluster: Cluster) -> list[Resource]:
    """What is declared because of the workloads: endpoints, and the claims of blocks."""
    claims = [
        resource(
            "BlockAffinity",
            f"{node}-{str(block).replace('/', '-').replace('.', '-')}",
            {"node": node, "cidr": str(block), "state": "confirmed"},
        )
        for node, block in cluster.claims().items()
    ]
    return [*claims, *map(_endpoint, cluster.workloads.values())]


def _endpoint(workload: Workload) -> Resource:
    return resource(
        "WorkloadEndpoint",
        endpoint_name(workload.node, "lab", workload.name, "eth0"),
        {
            "orchestrator": "lab",
            "workload": workload.name,
            "endpoint": "eth0",
            "node": workload.node,
            "ipNetworks": [str(workload.prefix)],
            "interfaceName": workload.interface,
        },
        namespace=NAMESPACE,
    )
