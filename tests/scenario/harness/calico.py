"""Calico's resources as its own tools write them into etcd: key and JSON value, made without Cairn's code.

So that a scenario proves that Cairn reads what Calico writes, nothing here imports `bgpd`. Shapes and keys
are those of Calico's etcd v3 datastore (resources v3, IPAM v2).
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

_RESOURCES = "/calico/resources/v3/projectcalico.org"
_CREATED = datetime(2026, 1, 1, tzinfo=UTC)
Entry = dict[str, str]  # etcd key → JSON text


def _resource(
    kind: str,
    plural: str,
    name: str,
    spec: Mapping[str, Any],
    *,
    namespace: str = "",
    labels: Mapping[str, str] | None = None,
    created: datetime = _CREATED,
) -> Entry:
    metadata: dict[str, Any] = {"name": name, "creationTimestamp": f"{created:%Y-%m-%dT%H:%M:%SZ}"}
    if namespace:
        metadata["namespace"] = namespace
    if labels:
        metadata["labels"] = dict(labels)
    path = "/".join(filter(None, (_RESOURCES, plural, namespace, name)))
    value = {"kind": kind, "apiVersion": "projectcalico.org/v3", "metadata": metadata, "spec": dict(spec)}
    return {path: json.dumps(value)}


def altered(entry: Entry, **spec: Any) -> Entry:
    """The same resource with other fields in its spec (camelCase)."""
    [(key, text)] = entry.items()
    value = json.loads(text)
    return {key: json.dumps({**value, "spec": {**value["spec"], **spec}})}


def bgp_filter(name: str, **spec: Any) -> Entry:
    """A BGPFilter with the given fields (camelCase)."""
    return _resource("BGPFilter", "bgpfilters", name, spec)


def node(
    name: str,
    ipv4: str,
    ipv6: str = "",
    *,
    asn: int | None = None,
    cluster_id: str = "",
    labels: Mapping[str, str] | None = None,
) -> Entry:
    """A Node; addresses as in ``10.1.0.11/24``; `cluster_id` makes it a route reflector."""
    bgp: dict[str, Any] = {"ipv4Address": ipv4}
    if ipv6:
        bgp["ipv6Address"] = ipv6
    if asn is not None:
        bgp["asNumber"] = asn
    if cluster_id:
        bgp["routeReflectorClusterID"] = cluster_id
    return _resource("Node", "nodes", name, {"bgp": bgp}, labels=labels)


def bgp_configuration(name: str = "default", **spec: Any) -> Entry:
    """A BGPConfiguration with the given fields (camelCase)."""
    return _resource("BGPConfiguration", "bgpconfigurations", name, spec)


def bgp_peer(name: str, **spec: Any) -> Entry:
    """A BGPPeer with the given fields (camelCase)."""
    return _resource("BGPPeer", "bgppeers", name, spec)


def ip_pool(name: str, cidr: str, **spec: Any) -> Entry:
    """An IPPool without encapsulation."""
    size = 26 if ipaddress.ip_network(cidr).version == 4 else 122
    defaults = {
        "cidr": cidr,
        "blockSize": size,
        "ipipMode": "Never",
        "vxlanMode": "Never",
        "nodeSelector": "all()",
    }
    return _resource("IPPool", "ippools", name, {**defaults, **spec})


def workload_endpoint(
    node: str, pod: str, addresses: Sequence[str], interface: str, created: datetime | None = None
) -> Entry:
    """A pod's endpoint in namespace `default`, created now; dashes in names are doubled as Calico does it."""
    name = "-".join(part.replace("-", "--") for part in (node, "k8s", pod, "eth0"))
    spec = {
        "orchestrator": "k8s",
        "node": node,
        "pod": pod,
        "endpoint": "eth0",
        "containerID": f"{pod}0123456789abcdef",
        "ipNetworks": [str(ipaddress.ip_network(address)) for address in addresses],
        "interfaceName": interface,
        "profiles": ["kns.default"],
    }
    labels = {"projectcalico.org/namespace": "default", "projectcalico.org/orchestrator": "k8s"}
    return _resource(
        "WorkloadEndpoint",
        "workloadendpoints",
        name,
        spec,
        namespace="default",
        labels=labels,
        created=created or datetime.now(UTC),
    )


def affinity(node: str, cidr: str, state: str = "confirmed") -> Entry:
    """A node's claim to a block."""
    block = ipaddress.ip_network(cidr)
    key = f"/calico/ipam/v2/host/{node}/ipv{block.version}/block/{_in_key(cidr)}"
    return {key: json.dumps({"state": state, "deleted": False})}


def block(node: str, cidr: str, allocated: Sequence[str] = ()) -> Entry:
    """The IPAM block itself, with some of its addresses given out."""
    network = ipaddress.ip_network(cidr)
    used = [int(ipaddress.ip_address(address)) - int(network.network_address) for address in allocated]
    size = network.num_addresses
    value = {
        "cidr": cidr,
        "affinity": f"host:{node}",
        "strictAffinity": False,
        "allocations": [used.index(ordinal) if ordinal in used else None for ordinal in range(size)],
        "unallocated": [ordinal for ordinal in range(size) if ordinal not in used],
        "attributes": [{"handle_id": f"k8s-pod-network.{address}", "secondary": {}} for address in allocated],
        "deleted": False,
    }
    return {f"/calico/ipam/v2/assignment/ipv{network.version}/block/{_in_key(cidr)}": json.dumps(value)}


def _in_key(cidr: str) -> str:
    return cidr.replace("/", "-")
