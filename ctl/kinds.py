"""What operators call the kinds of resources, and what they want to see of each.

The names are the kind in any case, its plural, and the short forms of calicoctl, which fingers know. A view
is a list of columns, each a head and the path of a field in the resource's document.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType

from bgpd.resources import ELSEWHERE, MODELS, left_elsewhere
from ctl.exits import Failure, usage

_SHORT: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Node": ("no", "nos"),
        "BGPConfiguration": ("bgpconfig", "bgpconfigs"),
        "BGPPeer": ("bgpp", "bgpps", "bp", "bps", "peer", "peers"),
        "BGPFilter": ("filter", "filters"),
        "IPPool": ("ipp", "ipps", "pool", "pools"),
        "WorkloadEndpoint": ("wep", "weps", "workload", "workloads", "endpoint", "endpoints"),
        "BlockAffinity": ("blockaffinities", "affinity", "affinities"),
        "IPAMBlock": ("block", "blocks"),
        "IPAMHandle": ("handle", "handles"),
        "CalicoNodeStatus": ("caliconodestatuses",),
        "NodeLease": ("lease", "leases"),
        "ServiceReport": ("report", "reports"),
        "ServiceQuestion": ("question", "questions"),
    }
)
_SHORT_ELSEWHERE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "ClusterInformation": ("clusterinfo",),
        "FelixConfiguration": ("felixconfig",),
        "GlobalNetworkPolicy": ("gnp",),
        "HostEndpoint": ("hep",),
        "IPReservation": ("reservation",),
        "KubeControllersConfiguration": ("kubecontrollersconfig",),
        "NetworkPolicy": ("policy", "policies", "np"),
        "NetworkSet": ("netset",),
    }
)


@dataclass(frozen=True, slots=True)
class Field:
    """A column of a view: its head, the field's path (`spec.bgp.asNumber`), and whether only wide has it.

    Of two paths with `|` between them the first that is set counts.
    """

    head: str
    path: str
    wide: bool = False


_NAME = Field("NAME", "metadata.name")
_LABELS = Field("LABELS", "metadata.labels", wide=True)
_VIEWS: Mapping[str, tuple[Field, ...]] = MappingProxyType(
    {
        "Node": (
            _NAME,
            Field("ASN", "spec.bgp.asNumber"),
            Field("IPV4", "spec.bgp.ipv4Address"),
            Field("IPV6", "spec.bgp.ipv6Address"),
            Field("CLUSTER ID", "spec.bgp.routeReflectorClusterID", wide=True),
            _LABELS,
        ),
        "BGPConfiguration": (
            _NAME,
            Field("LOGSEVERITY", "spec.logSeverityScreen"),
            Field("MESHENABLED", "spec.nodeToNodeMeshEnabled"),
            Field("ASNUMBER", "spec.asNumber"),
            Field("LISTENPORT", "spec.listenPort", wide=True),
        ),
        "BGPPeer": (
            _NAME,
            Field("PEERIP", "spec.peerIP"),
            Field("NODE", "spec.node"),
            Field("ASN", "spec.asNumber"),
            Field("NODESELECTOR", "spec.nodeSelector", wide=True),
            Field("PEERSELECTOR", "spec.peerSelector", wide=True),
            Field("FILTERS", "spec.filters", wide=True),
        ),
        "IPPool": (
            _NAME,
            Field("CIDR", "spec.cidr"),
            Field("SELECTOR", "spec.nodeSelector"),
            Field("NAT", "spec.natOutgoing", wide=True),
            Field("IPIPMODE", "spec.ipipMode", wide=True),
            Field("VXLANMODE", "spec.vxlanMode", wide=True),
            Field("DISABLED", "spec.disabled", wide=True),
            Field("DISABLEBGPEXPORT", "spec.disableBGPExport", wide=True),
        ),
        "WorkloadEndpoint": (
            Field("NAMESPACE", "metadata.namespace", wide=True),
            Field("NAME", "metadata.name", wide=True),
            Field("WORKLOAD", "spec.workload|spec.pod"),
            Field("NODE", "spec.node"),
            Field("NETWORKS", "spec.ipNetworks"),
            Field("INTERFACE", "spec.interfaceName"),
        ),
        "BlockAffinity": (
            Field("NODE", "spec.node"),
            Field("CIDR", "spec.cidr"),
            Field("STATE", "spec.state"),
        ),
        "IPAMBlock": (Field("CIDR", "spec.cidr"), Field("AFFINITY", "spec.affinity")),
        "IPAMHandle": (Field("HANDLE", "spec.handleID"), Field("BLOCKS", "spec.block")),
        "NodeLease": (_NAME, Field("SINCE", "spec.since"), Field("HOLDER", "spec.holder", wide=True)),
        "ServiceReport": (
            Field("SERVICE", "spec.service"),
            Field("NODE", "spec.node"),
            Field("READY", "spec.status.ready"),
            Field("SINCE", "spec.since"),
            Field("REPORTED", "spec.reportedAt"),
            Field("WHY", "spec.status.reason"),
        ),
    }
)


def kind_named(name: str) -> str:
    """The kind an operator means; a usage failure with the nearest name if there is none."""
    names = {alias: kind for kind in MODELS for alias in names_of(kind)}
    kind = names.get(name.lower())
    if kind is None:
        raise unknown(name)
    return kind


def names_of(kind: str) -> tuple[str, ...]:
    """Everything a kind may be called, lower case."""
    return (kind.lower(), f"{kind.lower()}s", *_SHORT.get(kind, ()))


def unknown(name: str) -> Failure:
    """No kind is called `name`."""
    for kind in ELSEWHERE:
        called = (kind.lower(), f"{kind.lower()[:-1]}ies", *_SHORT_ELSEWHERE.get(kind, ()))
        if name.lower() in called or name.lower().removesuffix("s") in called:
            return usage(left_elsewhere(kind), "calicoctl and kubectl have it")
    names = {alias: kind for kind in MODELS for alias in names_of(kind)}
    near = get_close_matches(name.lower(), names, n=1, cutoff=0.6)
    hint = f"did you mean {names[near[0]]}?" if near else f"known: {', '.join(sorted(MODELS))}"
    return usage(f"no kind of resource is called {name!r}", hint)


def view_of(kind: str) -> tuple[Field, ...]:
    """What `cairn get` shows of a kind."""
    return _VIEWS.get(kind, (_NAME,))


def cell(document: Mapping[str, object], path: str) -> str:
    """The field at `path` as a table's cell; empty if it is not set."""
    value: object = None
    for choice in path.split("|"):
        value = document
        for part in choice.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value:
            break
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case Mapping():
            return ",".join(f"{key}={item}" for key, item in value.items())
        case list():
            return ",".join(map(str, value))
        case _:
            return str(value)
