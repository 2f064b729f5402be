"""What becomes of every field of every resource: which are acted on, which are only kept, and why.

One table, from which the reference page is written; a test holds it against the models, so that no field can
come without a word here. Every field is parsed, checked and written again unharmed, whether it is acted on
or not; unknown fields in a store are kept too, in files they are refused.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from pydantic import BaseModel

from bgpd.resources.base import models_in
from bgpd.resources.codec import MODELS


class Support(NamedTuple):
    """Whether a field is acted on, and what it does or why it does nothing."""

    acted_on: bool
    what: str


def _acts(what: str) -> Support:
    return Support(True, what)


def _kept(why: str) -> Support:
    return Support(False, why)


_WIREGUARD = _kept("Cairn sets up no WireGuard")
_INFORMATION = _kept("information about the node for people and other tools")
_IPAM = _kept("a matter of address management, which decides where new addresses come from; routes do not")
_POLICY = _kept("a matter of network policy, which Cairn leaves to Felix or whoever enforces it")
_WORKLOAD = _kept("identifies the workload; part of the resource's name")
_LOCAL_WORKLOADS = _kept(
    "Cairn has no sessions with workloads of its own node; a BGPPeer with it gets a warning"
)
_STATUS = _acts("written by the agent of the node that `spec.node` names")
_PASSWORD = {
    "secretKeyRef.name": _acts("which secret: a directory, part of a variable's name, part of an etcd key"),
    "secretKeyRef.key": _acts("which entry of it; one that is nowhere keeps the session down"),
    "secretKeyRef.optional": _kept("a password that is declared and missing always keeps the session down"),
}
_FILTER_RULE = {
    "cidr": _acts("compared with the route's prefix by `matchOperator`"),
    "prefixLength.min": _acts("the shortest length that fits, never shorter than the CIDR itself"),
    "prefixLength.max": _acts("the longest length that fits; without it any"),
    "matchOperator": _acts("Equal, NotEqual, In, NotIn"),
    "source": _acts("RemotePeers: only routes learned by BGP"),
    "interface": _acts(
        "the workload's interface, with `*` and `?`; what has none, as a block or a learned route, fits "
        "`*` alone"
    ),
    "peerType": _acts("whether the session is within the AS"),
    "communities.values": _acts("one community, standard or large, that the route carries"),
    "asPathPrefix": _acts("the AS numbers the path begins with"),
    "priority": _acts("the route's priority: 2147483647 less its LOCAL_PREF"),
    "action": _acts("the first rule that fits decides, over all filters in their order"),
    "operations.addCommunity.value": _acts("added to what the route carries"),
    "operations.prependASPath.prefix": _acts("put in front of the path, in this order"),
    "operations.setPriority.value": _acts("LOCAL_PREF within the AS, MED out of it, metric in the kernel"),
}
_DAEMON = {
    "state": _STATUS,
    "version": _STATUS,
    "routerID": _STATUS,
    "lastBootTime": _STATUS,
    "lastReconfigurationTime": _STATUS,
}
_PEER_STATUS = {"peerIP": _STATUS, "type": _STATUS, "state": _STATUS, "since": _STATUS}
_ROUTE_STATUS = {
    "type": _STATUS,
    "destination": _STATUS,
    "gateway": _STATUS,
    "interface": _STATUS,
    "learnedFrom.sourceType": _STATUS,
    "learnedFrom.peerIP": _STATUS,
}


def _below(fields: Mapping[str, Support], *places: str) -> dict[str, Support]:
    """Give the same fields at several places."""
    return {f"{place}.{name}": support for place in places for name, support in fields.items()}


SUPPORT: Mapping[str, Mapping[str, Support]] = MappingProxyType(
    {
        "Node": {
            "spec.bgp.asNumber": _acts("the node's AS number; without it the cluster's"),
            "spec.bgp.ipv4Address": _acts("where it speaks BGP; its subnet is what CrossSubnet asks for"),
            "spec.bgp.ipv6Address": _acts(
                "the same for IPv6; without an IPv4 address the Identifier is a hash"
            ),
            "spec.bgp.ipv4IPIPTunnelAddr": _acts("the node's end of IP-in-IP tunnels"),
            "spec.bgp.routeReflectorClusterID": _acts("makes the node a route reflector: no mesh, clients"),
            "spec.bgp.interface": _INFORMATION,
            "spec.ipv4VXLANTunnelAddr": _acts("the node's end of VXLAN tunnels"),
            "spec.vxlanTunnelMACAddr": _acts("the MAC address of its VXLAN device"),
            "spec.ipv6VXLANTunnelAddr": _acts("the same for IPv6"),
            "spec.vxlanTunnelMACAddrV6": _acts("the same for IPv6"),
            "spec.orchRefs.nodeName": _INFORMATION,
            "spec.orchRefs.orchestrator": _INFORMATION,
            "spec.wireguard.interfaceIPv4Address": _WIREGUARD,
            "spec.wireguard.interfaceIPv6Address": _WIREGUARD,
            "spec.addresses.address": _INFORMATION,
            "spec.addresses.type": _INFORMATION,
            "spec.interfaces.name": _INFORMATION,
            "spec.interfaces.addresses": _INFORMATION,
            "status.wireguardPublicKey": _WIREGUARD,
            "status.wireguardPublicKeyV6": _WIREGUARD,
            "status.podCIDRs": _INFORMATION,
        },
        "BGPConfiguration": {
            "spec.logSeverityScreen": _acts("BIRD's log; agent and reflector have `logLevel` in their files"),
            "spec.nodeToNodeMeshEnabled": _acts("whether nodes without a cluster ID peer with one another"),
            "spec.asNumber": _acts("the AS number of nodes and peers that have none of their own; 64512"),
            "spec.serviceClusterIPs.cidr": _acts("announced by every node not excluded from load balancers"),
            "spec.serviceExternalIPs.cidr": _acts("the same"),
            "spec.serviceLoadBalancerIPs.cidr": _acts("the same; one of more addresses only if aggregated"),
            "spec.serviceLoadBalancerAggregation": _acts(
                "Enabled announces the CIDR; Disabled only one of a single address: no resource has the "
                "services' own"
            ),
            "spec.communities.name": _acts("a name for use in prefixAdvertisements"),
            "spec.communities.value": _acts("its value, standard or large"),
            "spec.prefixAdvertisements.cidr": _acts("what is announced out of it gets the communities"),
            "spec.prefixAdvertisements.communities": _acts(
                "values or names; the node's own list replaces the cluster's"
            ),
            "spec.listenPort": _acts("the port of this node, or of all; peers connect to it"),
            "spec.bindMode": _acts(
                "NodeIP: reflector and BIRD listen at the node's addresses only; an agent always does"
            ),
            **_below(_PASSWORD, "spec.nodeMeshPassword"),
            "spec.nodeMeshMaxRestartTime": _acts("graceful restart time of mesh and elected sessions; 120 s"),
            "spec.ignoredInterfaces": _acts(
                "BIRD's direct protocol; an agent announces no interface's routes"
            ),
            "spec.ipv4NormalRoutePriority": _acts("the priority of ordinary routes; 1024"),
            "spec.ipv6NormalRoutePriority": _acts("the same for IPv6"),
            "spec.localWorkloadPeeringIPV4": _LOCAL_WORKLOADS,
            "spec.localWorkloadPeeringIPV6": _LOCAL_WORKLOADS,
            "spec.programClusterRoutes": _kept(
                "the agent always writes the cluster's routes; let no Felix beside it do so too"
            ),
        },
        "BGPPeer": {
            "spec.node": _acts("the one node it is for; without it and nodeSelector it is for all"),
            "spec.nodeSelector": _acts("the nodes it is for"),
            "spec.peerIP": _acts("the other side; a node's address makes the session on both nodes"),
            "spec.peerSelector": _acts("the nodes at the other side"),
            "spec.localWorkloadSelector": _LOCAL_WORKLOADS,
            "spec.asNumber": _acts("the peer's; without it the cluster's"),
            "spec.localASNumber": _acts("our AS number on this session"),
            "spec.nextHopMode": _acts(
                "what reflector and BIRD pass on; an agent announces its own routes alone, with itself"
            ),
            "spec.keepOriginalNextHop": _acts("to another AS as `nextHopMode: Keep`"),
            **_below(_PASSWORD, "spec.password"),
            "spec.sourceAddress": _acts("UseNodeIP: the node's address; None: what the system chooses"),
            "spec.maxRestartTime": _acts("graceful restart time; 120 s"),
            "spec.keepaliveTime": _acts("the hold time is three times as long"),
            "spec.numAllowedLocalASNumbers": _acts("how often our AS number may be in a received path"),
            "spec.ttlSecurity": _acts("GTSM (RFC 5082): how many hops the peer may be away"),
            "spec.reachableBy": _acts("the gateway to the peer: a host route in the kernel, or in BIRD"),
            "spec.filters": _acts(
                "BGPFilters in their order; one that does not exist is refused by `cairn apply`"
            ),
            "spec.reversePeering": _acts("Manual: no session is made on the other node"),
        },
        "BGPFilter": _below(_FILTER_RULE, "spec.exportV4", "spec.importV4", "spec.exportV6", "spec.importV6"),
        "IPPool": {
            "spec.cidr": _acts("what lies in a pool may be announced"),
            "spec.vxlanMode": _acts(
                "Always, CrossSubnet: the agent's routes to other nodes go through VXLAN"
            ),
            "spec.ipipMode": _acts("the same through IP-in-IP"),
            "spec.natOutgoing": _kept("address translation of outgoing connections is Felix's"),
            "spec.disabled": _IPAM,
            "spec.disableBGPExport": _acts(
                "nothing out of the pool is announced but where a BGPFilter accepts it"
            ),
            "spec.blockSize": _IPAM,
            "spec.nodeSelector": _IPAM,
            "spec.namespaceSelector": _IPAM,
            "spec.allowedUses": _IPAM,
            "spec.assignmentMode": _IPAM,
            "status": _IPAM,
        },
        "WorkloadEndpoint": {
            "spec.orchestrator": _WORKLOAD,
            "spec.workload": _WORKLOAD,
            "spec.node": _acts("the node that has it"),
            "spec.containerID": _WORKLOAD,
            "spec.pod": _WORKLOAD,
            "spec.endpoint": _WORKLOAD,
            "spec.serviceAccountName": _POLICY,
            "spec.ipNetworks": _acts(
                "its addresses; announced one by one are those outside the node's blocks, and inside them "
                "those a BGPFilter accepts"
            ),
            "spec.ipNATs.internalIP": _kept("address translation is Felix's"),
            "spec.ipNATs.externalIP": _kept("address translation is Felix's"),
            "spec.ipNATs.source": _kept("address translation is Felix's"),
            "spec.ipv4Gateway": _kept("what the workload's own network plugin sets up inside"),
            "spec.ipv6Gateway": _kept("what the workload's own network plugin sets up inside"),
            "spec.profiles": _POLICY,
            "spec.interfaceName": _acts("where its route leads; filters can ask for it"),
            "spec.mac": _kept("the agent routes to the interface; the kernel asks for the MAC address"),
            "spec.ports.name": _POLICY,
            "spec.ports.protocol": _POLICY,
            "spec.ports.port": _POLICY,
            "spec.ports.hostPort": _POLICY,
            "spec.ports.hostIP": _POLICY,
            "spec.allowSpoofedSourcePrefixes": _POLICY,
            "spec.qosControls": _kept("limits of bandwidth and connections are Felix's"),
        },
        "BlockAffinity": {
            "spec.state": _acts("only a confirmed one, or one without any state, is announced"),
            "spec.node": _acts("the node that has the block"),
            "spec.cidr": _acts("announced whole, and a blackhole on the node for what is unassigned"),
            "spec.deleted": _acts("a deleted one is not announced"),
            "spec.type": _IPAM,
        },
        "IPAMBlock": {
            "spec.cidr": _acts("which block"),
            "spec.affinity": _kept("the BlockAffinity decides whose block it is, as for Calico's BIRD"),
            "spec.affinityClaimTime": _IPAM,
            "spec.strictAffinity": _IPAM,
            "spec.allocations": _kept(
                "checked by `cairn validate`; workloads are known from their endpoints"
            ),
            "spec.unallocated": _IPAM,
            "spec.attributes.handle_id": _IPAM,
            "spec.attributes.secondary": _IPAM,
            "spec.attributes.alternate": _IPAM,
            "spec.sequenceNumber": _IPAM,
            "spec.sequenceNumberForAllocation": _IPAM,
            "spec.deleted": _IPAM,
            "spec.hostAffinity": _kept("a former form of `affinity`, which is what is read"),
        },
        "IPAMHandle": {"spec.handleID": _IPAM, "spec.block": _IPAM, "spec.deleted": _IPAM},
        "IPAMConfig": {
            "spec.strictAffinity": _IPAM,
            "spec.autoAllocateBlocks": _IPAM,
            "spec.maxBlocksPerHost": _IPAM,
            "spec.kubeVirtVMAddressPersistence": _IPAM,
        },
        "IPAMConfiguration": {
            "spec.strictAffinity": _IPAM,
            "spec.autoAllocateBlocks": _IPAM,
            "spec.minIPReclaimAgeSeconds": _IPAM,
            "spec.maxBlocksPerHost": _IPAM,
            "spec.kubeVirtVMAddressPersistence": _IPAM,
        },
        "CalicoNodeStatus": {
            "spec.node": _acts("whose status is wanted"),
            "spec.classes": _acts("Agent, BGP, Routes"),
            "spec.updatePeriodSeconds": _acts("how often; 0 stops it"),
            "status.lastUpdated": _STATUS,
            **_below(_DAEMON, "status.agent.birdV4", "status.agent.birdV6"),
            "status.bgp.numberEstablishedV4": _STATUS,
            "status.bgp.numberNotEstablishedV4": _STATUS,
            "status.bgp.numberEstablishedV6": _STATUS,
            "status.bgp.numberNotEstablishedV6": _STATUS,
            **_below(_PEER_STATUS, "status.bgp.peersV4", "status.bgp.peersV6"),
            **_below(_ROUTE_STATUS, "status.routes.routesV4", "status.routes.routesV6"),
        },
        "CairnConfiguration": {
            "spec.reflectors.count": _acts("how many reflectors are elected, at least two"),
            "spec.reflectors.nodeSelector": _acts("of which nodes; all"),
            "spec.reflectors.spreadLabel": _acts("spread over the values of this label"),
            "spec.reflectors.clusterID": _acts("their common cluster ID"),
            "spec.maxPrefixes": _acts("how many prefixes are taken from one peer"),
            "spec.whenReflectorsLost": _acts("Keep or Expire what was learned when all sessions are gone"),
        },
    }
)
"""By kind and by path below the document; what all kinds have (``metadata``) is left out, and so are kinds
that services write for one another."""


def fields_of(model: type[BaseModel], above: str = "") -> Iterator[str]:
    """Give the path of every field of a model that has no fields of its own below it."""
    for name, field in model.model_fields.items():
        path = f"{above}.{field.alias or name}".lstrip(".")
        if path in ("apiVersion", "kind", "metadata"):
            continue
        parts = dict.fromkeys(models_in(field.annotation))
        if not parts:
            yield path
        for part in parts:
            yield from fields_of(part, path)


def kinds_written_by_services() -> frozenset[str]:
    """Give the kinds that nobody declares."""
    return frozenset(MODELS) - frozenset(SUPPORT)
