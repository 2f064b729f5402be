"""The JSON shapes that leave a service, over HTTP and MQTT alike: version 1.

Names as in `status`, times as RFC 3339 in UTC with milliseconds, an address family as "ipv4-unicast".
Fields are only ever added within a version; a reader ignores what it does not know.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, fields, is_dataclass
from datetime import UTC, datetime
from typing import Any

from bgpd.telemetry.distribution import Distribution
from bgpd.telemetry.logging import level
from bgpd.telemetry.readiness import readiness
from bgpd.telemetry.status import Event, PeerStatus, RoutePage, RouteStatus, Sample, StatusSource, StoreHealth
from bgpd.wire.nlri import Family

SCHEMA_VERSION = 1

Document = dict[str, Any]


def rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def plain(value: Any) -> Any:
    """Any value of ours as JSON has it: dataclasses and tuples by name, addresses and enums as text."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, Family):
        return str(value)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Collection) and not isinstance(value, bytes):
        return [plain(each) for each in value]
    return str(value)


def _reasons(why: str, healthy: bool, told: str) -> list[str]:
    if not healthy:
        return [told]
    return [why] if told in ("", "healthy") else [why, told]


def status_document(source: StatusSource, now: float) -> Document:
    """Who, how, since when, and the peers in numbers. `now`: seconds since the epoch."""
    service = source.service()
    healthy = source.healthy()
    peers = source.peers()
    ready, why = readiness(peers, now - service.started_at, healthy=healthy, mode=service.mode)
    store = source.datastore()
    return {
        "version": SCHEMA_VERSION,
        "service": service.service,
        "node": service.node,
        "software": service.version,
        "started_at": rfc3339(service.started_at),
        "asn": service.asn,
        "router_id": service.router_id,
        "cluster_id": service.cluster_id,
        "mode": service.mode,
        "log_level": level(),
        "healthy": healthy[0],
        "ready": ready,
        "reason": "; ".join(_reasons(why, *healthy)),
        "peers": {
            "total": len(peers),
            "established": sum(peer.established for peer in peers),
            "missing": [peer.name for peer in peers if peer.expected and not peer.established][:20],
            "flaps": sum(peer.flaps for peer in peers),
        },
        "datastore": None if store is None else store_document(store),
    }


def store_document(store: StoreHealth) -> Document:
    return {
        "current": store.current,
        "since": rfc3339(store.since),
        "endpoint": store.endpoint,
        "reason": store.reason,
        "resyncs": store.resyncs,
        "repairs": store.repairs,
        "reconnects": store.reconnects,
    }


def peer_document(peer: PeerStatus) -> Document:
    document = asdict(peer)
    document["since"] = rfc3339(peer.since)
    document["last_reason_at"] = None if peer.last_reason_at is None else rfc3339(peer.last_reason_at)
    document["established"] = peer.established
    document["families"] = [asdict(family) for family in peer.families]
    return document


def event_document(event: Event) -> Document:
    return {
        "version": SCHEMA_VERSION,
        "id": event.id,
        "at": rfc3339(event.at),
        "kind": event.kind,
        "severity": event.severity.value,
        "message": event.message,
        "peer": event.peer,
        "data": dict(event.data),
    }


def route_document(route: RouteStatus) -> Document:
    document = asdict(route)
    document["since"] = None if route.since is None else rfc3339(route.since)
    return document


def routes_document(page: RoutePage, offset: int, limit: int) -> Document:
    return {
        "version": SCHEMA_VERSION,
        "total": page.total,
        "offset": offset,
        "limit": limit,
        "routes": [route_document(route) for route in page.routes],
    }


def samples_document(samples: Sequence[Sample | Distribution], now: float) -> Document:
    return {
        "version": SCHEMA_VERSION,
        "at": rfc3339(now),
        "samples": [
            {
                "name": sample.name,
                "help": sample.help,
                "kind": sample.kind.value,
                "labels": dict(sample.labels),
                "value": float(sample.value),  # a truth value is a number too
            }
            for sample in samples
            if isinstance(sample, Sample)
        ],
        "distributions": [
            {
                "name": each.name,
                "help": each.help,
                "count": each.count,
                "sum": each.sum,
                "p50": each.quantile(0.5),
                "p90": each.quantile(0.9),
                "p99": each.quantile(0.99),
            }
            for each in samples
            if isinstance(each, Distribution)
        ],
    }
