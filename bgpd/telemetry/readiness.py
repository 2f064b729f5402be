"""When a service is ready, by the rule Calico's users know, and who keeps it from being so.

For the first 30 seconds: every expected peer Established and no graceful restart in progress. Afterwards: at
least one. No peers at all is ready. Unhealthy or draining is never ready. Pure.
"""

from collections.abc import Sequence

from bgpd.telemetry.status import PeerStatus

FIRST_PHASE = 30.0
_NAMED = 5


def readiness(
    peers: Sequence[PeerStatus], age: float, *, healthy: tuple[bool, str] = (True, ""), mode: str = "running"
) -> tuple[bool, str]:
    """Whether it is ready, and why (not). `age`: seconds since the service started."""
    ok, reason = healthy
    if not ok:
        return False, f"unhealthy: {reason}"
    if mode != "running":
        return False, mode
    expected = [peer for peer in peers if peer.expected]
    if not expected:
        return True, "no peers are expected"
    down = [peer for peer in expected if not peer.established]
    restarting = [peer for peer in expected if peer.restarting]
    if age < FIRST_PHASE:
        if down:
            return False, f"waiting for {_names(down)}"
        if restarting:
            return False, f"graceful restart in progress with {_names(restarting)}"
        return True, "all peers are established"
    if len(down) == len(expected):
        return False, f"no peer is established: {_names(down)}"
    if down:
        return (
            True,
            f"{len(expected) - len(down)} of {len(expected)} peers established; missing {_names(down)}",
        )
    return True, "all peers are established"


def _names(peers: Sequence[PeerStatus]) -> str:
    texts = [
        f"{peer.name} ({peer.address}, {peer.state}{', ' + peer.last_reason if peer.last_reason else ''})"
        for peer in peers[:_NAMED]
    ]
    more = f" and {len(peers) - _NAMED} more" if len(peers) > _NAMED else ""
    return ", ".join(texts) + more
