"""Which peers, in which order, which window of them: what 5,000 sessions need to stay readable. Pure."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from bgpd.telemetry.documents import SCHEMA_VERSION, Document, peer_document
from bgpd.telemetry.status import PeerStatus, Sample, SampleKind

DOWN = "down"
_DRAWN = 48


def _address(peer: PeerStatus) -> tuple[int, int]:
    try:
        address = ip_address(peer.address)
    except ValueError:
        return 0, 0
    return address.version, int(address)


def _prefixes(count: str) -> Callable[[PeerStatus], int]:
    return lambda peer: sum(getattr(family, count) for family in peer.families)


SORTS: dict[str, Callable[[PeerStatus], Any]] = {
    "name": lambda peer: peer.name,
    "address": _address,
    "asn": lambda peer: peer.asn or 0,
    "state": lambda peer: (peer.established, peer.state),  # those that are down come first
    "since": lambda peer: peer.since,
    "kind": lambda peer: peer.kind,
    "flaps": lambda peer: peer.flaps,
    "lag": lambda peer: peer.lag,
    "received": _prefixes("received"),
    "accepted": _prefixes("accepted"),
    "rejected": _prefixes("rejected"),
    "advertised": _prefixes("advertised"),
}


@dataclass(frozen=True, slots=True)
class PeerQuery:
    """`state`: one of RFC 4271's in any case, or "down" for all but ESTABLISHED. `search`: part of a name,
    address, AS number, node, description or reason. `sort`: a name of `SORTS`, `descending` or not. `limit`
    None: all."""

    state: str | None = None
    kind: str | None = None
    search: str | None = None
    sort: str | None = None
    descending: bool = False
    offset: int = 0
    limit: int | None = None


def select(peers: Sequence[PeerStatus], query: PeerQuery) -> list[PeerStatus]:
    """All peers that match, in order; equal ones stay as they were."""
    found = [peer for peer in peers if _matches(peer, query)]
    if query.sort is not None:
        found.sort(key=SORTS[query.sort], reverse=query.descending)
    return found


def _matches(peer: PeerStatus, query: PeerQuery) -> bool:
    if query.state is not None:
        state = query.state.upper()
        if peer.established if state == DOWN.upper() else peer.state != state:
            return False
    if query.kind is not None and peer.kind != query.kind:
        return False
    if query.search is None:
        return True
    wanted = query.search.casefold()
    texts = (
        peer.name,
        peer.address,
        str(peer.asn or ""),
        peer.node or "",
        peer.description,
        peer.last_reason,
    )
    return any(wanted in text.casefold() for text in texts)


def peers_document(peers: Sequence[PeerStatus], query: PeerQuery) -> Document:
    """The answer of /api/v1/peers."""
    found = select(peers, query)
    stop = None if query.limit is None else query.offset + query.limit
    return {
        "version": SCHEMA_VERSION,
        "total": len(found),
        "offset": query.offset,
        "limit": query.limit,
        "states": dict(Counter(peer.state for peer in found)),
        "peers": [peer_document(peer) for peer in found[query.offset : stop]],
    }


def role(service: str, peer: PeerStatus) -> str:
    """What a peer is in the picture: a router of another AS, a reflector, or a node."""
    if peer.asn is not None and peer.local_asn is not None and peer.asn != peer.local_asn:
        return "routers"
    if service == "agent":
        return "nodes" if peer.kind == "mesh" else "reflectors"
    return "reflectors" if peer.kind in ("non-client", "mesh") else "nodes"


def graph_document(service: str, node: str, peers: Sequence[PeerStatus]) -> Document:
    """The answer of /api/v1/graph: the service's peers by role, never more than a picture can hold."""
    groups: dict[str, list[PeerStatus]] = {"reflectors": [], "nodes": [], "routers": []}
    for peer in peers:
        groups[role(service, peer)].append(peer)
    return {
        "version": SCHEMA_VERSION,
        "service": service,
        "node": node,
        "groups": [
            {
                "role": name,
                "total": len(members),
                "states": dict(Counter(peer.state for peer in members)),
                "peers": [
                    _drawn(peer) for peer in sorted(members, key=lambda peer: peer.established)[:_DRAWN]
                ],
            }
            for name, members in groups.items()
            if members
        ],
    }


def _drawn(peer: PeerStatus) -> Document:
    return {"name": peer.name, "address": peer.address, "state": peer.state, "reason": peer.last_reason}


def totals(peers: Sequence[PeerStatus]) -> list[Sample]:
    """Sums over all peers, for charts; Prometheus sums by itself."""
    gauge = SampleKind.GAUGE
    made = [
        Sample("updates_received", "UPDATEs received.", _updates(peer.messages_received for peer in peers)),
        Sample("flaps", "Sessions lost.", sum(peer.flaps for peer in peers)),
        Sample(
            "sessions_established", "Sessions established.", sum(peer.established for peer in peers), gauge
        ),
    ]
    if any("update" in peer.messages_sent for peer in peers):  # a reflector does not count them
        made.append(Sample("updates_sent", "UPDATEs sent.", _updates(peer.messages_sent for peer in peers)))
    for count, text in (
        ("received", "Prefixes received."),
        ("rejected", "Prefixes rejected."),
        ("advertised", "Prefixes announced."),
    ):
        made.append(Sample(f"prefixes_{count}", text, sum(map(_prefixes(count), peers)), gauge))
    return made


def _updates(counts: Iterable[Mapping[str, int]]) -> int:
    return sum(each.get("update", 0) for each in counts)
