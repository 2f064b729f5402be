"""The kinds of Calico that are not ours: what they are about is done by others, and theirs to read."""

_FELIX = (
    "FelixConfiguration",
    "GlobalNetworkPolicy",
    "GlobalNetworkSet",
    "HostEndpoint",
    "NetworkPolicy",
    "NetworkSet",
    "Profile",
    "StagedGlobalNetworkPolicy",
    "StagedKubernetesNetworkPolicy",
    "StagedNetworkPolicy",
    "Tier",
)
_CALICO = ("ClusterInformation", "IPReservation", "KubeControllersConfiguration")
ELSEWHERE = frozenset((*_FELIX, *_CALICO))


def left_elsewhere(kind: str) -> str:
    """Say who has a kind of ``ELSEWHERE``."""
    whom = "Felix" if kind in _FELIX else "Calico's own programs"
    return f"{kind} is a kind of Calico's that Cairn leaves to {whom}"
