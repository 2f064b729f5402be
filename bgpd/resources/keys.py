"""Where each resource lives: its identity, and the etcd key that Calico gives to it.

Calico's v3 kinds live below ``/calico/resources/v3/projectcalico.org/``, its address management below
``/calico/ipam/v2/``; both are kept to the letter, so that ``calicoctl`` in etcd mode and Cairn read one
another's data. What is ours alone (the cluster's Cairn settings, the nodes' liveness leases, services'
reports) lives below ``/cairn/v1/``, where no tool of Calico's looks.

A ``Key`` is the identity everywhere else in the program. Names are the resource's own, with these three
forms: ``BlockAffinity`` is named ``<node>/<cidr>``, ``IPAMBlock`` by its CIDR, ``WorkloadEndpoint`` by
Calico's compound name (``<node>-<orchestrator>-<workload>-<endpoint>``, a dash inside a part doubled) in its
namespace.
"""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import NamedTuple

CALICO_RESOURCES = "/calico/resources/v3/projectcalico.org/"
CALICO_IPAM = "/calico/ipam/v2/"
CAIRN_ROOT = "/cairn/v1/"
SECRETS_ROOT = "/cairn/secrets/"
ROOTS = (CALICO_RESOURCES, CALICO_IPAM, CAIRN_ROOT)

# Kinds stored as whole documents: plural in the key, and whether a namespace precedes the name.
_PLURALS = {
    "Node": "nodes",
    "BGPConfiguration": "bgpconfigurations",
    "BGPPeer": "bgppeers",
    "BGPFilter": "bgpfilters",
    "IPPool": "ippools",
    "WorkloadEndpoint": "workloadendpoints",
    "CalicoNodeStatus": "caliconodestatuses",
    "IPAMConfiguration": "ipamconfigurations",
}
_KIND_OF_PLURAL = {plural: kind for kind, plural in _PLURALS.items()}
_NAMESPACED = frozenset({"WorkloadEndpoint"})
_CAIRN_PLURALS = {
    "CairnConfiguration": "configurations",
    "NodeLease": "leases",
    "ServiceReport": "reports",
    "ServiceQuestion": "questions",
}
_CAIRN_KIND_OF_PLURAL = {plural: kind for kind, plural in _CAIRN_PLURALS.items()}

_AFFINITY = re.compile(r"host/(?P<node>[^/]+)/ipv(?P<version>[46])/block/(?P<cidr>[^/]+)")
_BLOCK = re.compile(r"assignment/ipv(?P<version>[46])/block/(?P<cidr>[^/]+)")
_HANDLE = re.compile(r"handle/(?P<id>[^/]+)")

KINDS = (*_PLURALS, "BlockAffinity", "IPAMBlock", "IPAMHandle", "IPAMConfig", *_CAIRN_PLURALS)


class Key(NamedTuple):
    """The identity of a resource; orders by kind, name, namespace."""

    kind: str
    name: str
    namespace: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def etcd_prefix(kind: str, node: str = "") -> str:
    """Give the etcd prefix under which every resource of ``kind`` lives (``IPAMConfig``: its one key).

    With ``node``, block affinities are narrowed to that node's. Raises ``KeyError`` for a kind that is not
    ours.
    """
    if kind in _PLURALS:
        return f"{CALICO_RESOURCES}{_PLURALS[kind]}/"
    if kind in _CAIRN_PLURALS:
        return f"{CAIRN_ROOT}{_CAIRN_PLURALS[kind]}/"
    prefixes = {
        "BlockAffinity": f"{CALICO_IPAM}host/{node}/" if node else f"{CALICO_IPAM}host/",
        "IPAMBlock": f"{CALICO_IPAM}assignment/",
        "IPAMHandle": f"{CALICO_IPAM}handle/",
        "IPAMConfig": f"{CALICO_IPAM}config",
    }
    return prefixes[kind]


def secret_key(name: str, key: str) -> str:
    """Give the etcd key of a password; no kind of resource lies there, so nothing lists or watches it."""
    return f"{SECRETS_ROOT}{name}/{key}"


def etcd_key(key: Key) -> str:
    """Give the etcd key of a resource. Raises ``ValueError`` for a key of no known kind or with a malformed
    name.
    """
    if key.kind == "BlockAffinity":
        node, _, cidr = key.name.partition("/")
        network = _network(cidr)
        if not node or network is None:
            raise ValueError(f"a BlockAffinity is named <node>/<cidr>, not {key.name!r}")
        return f"{CALICO_IPAM}host/{node}/ipv{network.version}/block/{_dashed(network)}"
    if key.kind == "IPAMBlock":
        network = _network(key.name)
        if network is None:
            raise ValueError(f"an IPAMBlock is named by its CIDR, not {key.name!r}")
        return f"{CALICO_IPAM}assignment/ipv{network.version}/block/{_dashed(network)}"
    if key.kind == "IPAMConfig":
        return f"{CALICO_IPAM}config"
    if key.kind not in KINDS:
        raise ValueError(f"no kind named {key.kind!r} is stored")
    if not key.name or "/" in key.name or "/" in key.namespace:
        raise ValueError(f"{key.kind} name {key.name!r} cannot be a part of an etcd key")
    if key.kind in _NAMESPACED:
        if not key.namespace:
            raise ValueError(f"{key.kind} {key.name} needs a namespace")
        return f"{etcd_prefix(key.kind)}{key.namespace}/{key.name}"
    return f"{etcd_prefix(key.kind)}{key.name}"


def key_of_etcd(path: str) -> Key | None:
    """Give the key a path stands for, or ``None`` for a path that is none of ours (other kinds of
    Calico's).
    """
    if path.startswith(CALICO_RESOURCES):
        plural, _, rest = path[len(CALICO_RESOURCES) :].partition("/")
        kind = _KIND_OF_PLURAL.get(plural)
        parts = rest.split("/")
        if kind is None or not all(parts) or len(parts) != (2 if kind in _NAMESPACED else 1):
            return None
        return Key(kind, parts[-1], parts[0] if kind in _NAMESPACED else "")
    if path.startswith(CAIRN_ROOT):
        plural, _, name = path[len(CAIRN_ROOT) :].partition("/")
        cairn_kind = _CAIRN_KIND_OF_PLURAL.get(plural)
        return Key(cairn_kind, name) if cairn_kind and name and "/" not in name else None
    if path.startswith(CALICO_IPAM):
        return _ipam_key(path[len(CALICO_IPAM) :])
    return None


def affinity_key(node: str, cidr: IPv4Network | IPv6Network) -> Key:
    """Give the key of the affinity of a block to a node."""
    return Key("BlockAffinity", f"{node}/{cidr}")


def endpoint_name(node: str, orchestrator: str, workload: str, endpoint: str) -> str:
    """Compose a WorkloadEndpoint's name of its parts; a dash inside a part is doubled.

    Some orchestrators have no workload part of their own: as ``workload`` give the pod's name for ``k8s``,
    the container's ID for ``cni``, and for ``libnetwork`` that word again.
    """
    return "-".join(part.replace("-", "--") for part in (node, orchestrator, workload, endpoint))


def endpoint_name_parts(name: str) -> list[str] | None:
    """Split a WorkloadEndpoint's name into node, orchestrator, workload, endpoint; ``None`` if it is not
    four.
    """
    parts = [""]
    index = 0
    while index < len(name):
        if name[index] != "-":
            parts[-1] += name[index]
        elif name.startswith("--", index):
            parts[-1] += "-"
            index += 1
        else:
            parts.append("")
        index += 1
    return parts if len(parts) == 4 and all(parts) else None


def _ipam_key(rest: str) -> Key | None:
    if rest == "config":
        return Key("IPAMConfig", "default")
    if found := _HANDLE.fullmatch(rest):
        return Key("IPAMHandle", found["id"])
    found = _AFFINITY.fullmatch(rest) or _BLOCK.fullmatch(rest)
    network = _network(found["cidr"].replace("-", "/", 1)) if found else None
    if found is None or network is None or str(network.version) != found["version"]:
        return None
    if node := found.groupdict().get("node"):
        return affinity_key(node, network)
    return Key("IPAMBlock", str(network))


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text) if "%" not in text else None  # no zone: that may be any text
    except ValueError:
        return None


def _dashed(network: IPv4Network | IPv6Network) -> str:
    return str(network).replace("/", "-")
