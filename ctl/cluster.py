"""The cluster as an operator far away sees it: what services report into the datastore.

A report is as good as its age: one that is older than three of its minutes, or whose node holds no lease, is
the last word of a service that is gone. Services that were asked directly (`ctl.services`) speak for
themselves; their answers come in place of their reports. `findings` is where all this comes together: what is
wrong, once, with the earliest time it is known to be so.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from bgpd.resources import Node, ResourceSet, ServiceReport
from bgpd.resources.cairn import ServiceReportSpec
from bgpd.telemetry.reporter import EVERY
from ctl.services import ask_all

KINDS = ("Node", "NodeLease", "ServiceReport")
STALE = timedelta(seconds=3 * EVERY)
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Service:
    """A service and what is known of it. `status` None: it was asked, and `failure` is why it did not answer.

    `since`: when it became ready or ceased to be; `silent`: when it last reported, if it no longer does.
    `report`: what is known of it, if that was reported.
    """

    name: str
    node: str
    location: str
    status: Mapping[str, Any] | None
    failure: str = ""
    since: datetime | None = None
    silent: datetime | None = None
    down: Sequence[Mapping[str, Any]] = ()
    numbers: Mapping[str, float] | None = None
    report: ServiceReportSpec | None = None

    @property
    def called(self) -> str:
        """It in two words."""
        return f"{self.name} {self.node}"

    @property
    def ready(self) -> bool:
        return self.status is not None and self.silent is None and bool(self.status["ready"])

    @property
    def state(self) -> str:
        """In a word or two."""
        if self.status is None:
            return "unreachable"
        if self.silent is not None:
            return "silent"
        if self.status["mode"] != "running":
            return str(self.status["mode"])
        return "unhealthy" if not self.status["healthy"] else "ready" if self.status["ready"] else "not ready"


@dataclass(frozen=True, slots=True)
class Cluster:
    """`nodes`: declared to run an agent, None where no datastore was asked; `alive`: whose lease is held.

    `owners`: nodes by their addresses.
    """

    services: tuple[Service, ...]
    nodes: tuple[str, ...] | None = None
    alive: frozenset[str] = frozenset()
    owners: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong, and since when if that is known."""

    what: str
    since: datetime | None = None


def moment(text: str) -> datetime:
    """RFC 3339, read."""
    return datetime.fromisoformat(text)


async def asked(locations: Sequence[str], named: bool) -> list[Service]:
    """Services at their status interfaces; of those that nobody named, not the ones that are not there."""
    status, down, samples = await asyncio.gather(
        ask_all(locations, "status"),
        ask_all(locations, "peers", state="down", limit="50"),
        ask_all(locations, "samples"),
    )
    found = []
    for said, peers, numbers in zip(status, down, samples, strict=True):
        if not (named or said.there or said.document):
            continue
        document = said.document or {}
        gauges: dict[str, float] = defaultdict(float)
        for sample in (numbers.document or {"samples": ()})["samples"]:
            gauges[sample["name"]] += sample["value"]
        found.append(
            Service(
                document.get("service", ""),
                document.get("node", ""),
                said.location,
                said.document,
                said.failure,
                down=[peer for peer in (peers.document or {"peers": ()})["peers"] if peer["expected"]],
                numbers=gauges,
            )
        )
    return found


def reported(resources: ResourceSet, now: datetime) -> Cluster:
    """The cluster by what its datastore says."""
    declared = tuple(
        name
        for name, node in resources.nodes.items()
        if not is_reflector(node) or name in resources.live_nodes
    )
    services = []
    for resource in resources.of_kind("ServiceReport").values():
        assert isinstance(resource, ServiceReport)
        spec = resource.spec
        last = moment(spec.reported_at)
        here = spec.node in resources.live_nodes and now - last < STALE
        if here or spec.node in resources.nodes:
            services.append(
                Service(
                    spec.service,
                    spec.node,
                    "datastore",
                    spec.status,
                    since=moment(spec.since),
                    silent=None if here else last,
                    down=spec.down if here else (),
                    numbers=spec.numbers if here else {},
                    report=spec,
                )
            )
    owners = {
        str(address.ip): name
        for name, node in resources.nodes.items()
        if node.spec.bgp is not None
        for address in (node.spec.bgp.ipv4_address, node.spec.bgp.ipv6_address)
        if address is not None
    }
    return Cluster(tuple(services), declared, resources.live_nodes, owners)


def is_reflector(node: Node) -> bool:
    """Whether a node reflects; such a one need not run an agent, and then holds no lease."""
    return node.spec.bgp is not None and node.spec.bgp.route_reflector_cluster_id is not None


def joined(cluster: Cluster, direct: Iterable[Service]) -> Cluster:
    """The cluster with what services themselves say in place of their reports."""
    spoken = list(direct)
    known = {(service.name, service.node) for service in spoken}
    rest = [service for service in cluster.services if (service.name, service.node) not in known]
    return replace(cluster, services=(*rest, *spoken))


_UNWRITTEN = {
    "kernel_refused": "routes that the kernel refuses:",
    "kernel_blocked": "routes in whose place another program has one:",
}


def findings(cluster: Cluster) -> list[Finding]:
    """What is wrong, the gravest first; nothing if all is well.

    A peer that many miss is told once, and that a dead node's sessions are down is not told.
    """
    speaking = {service.node for service in cluster.services if service.status and not service.silent}
    silent = [service for service in cluster.services if service.silent]
    missing: dict[str, list[tuple[Service, Mapping[str, Any]]]] = defaultdict(list)
    for each in cluster.services:
        if each.status is not None and not each.silent:
            for peer in each.down:
                missing[cluster.owners.get(peer["address"], peer["node"]) or peer["address"]].append(
                    (each, peer)
                )
    lost = {name: min(moment(peer["since"]) for _, peer in sides) for name, sides in missing.items()}
    dead = [node for node in cluster.nodes or () if node not in cluster.alive and node not in speaking]
    if dead and not cluster.alive:
        return [Finding(f"none of {len(dead)} declared nodes is alive: no agent holds a lease")]
    found = [
        Finding(
            f"node {node}: no agent holds its lease",
            min(
                (each.silent for each in silent if each.node == node and each.silent), default=lost.get(node)
            ),
        )
        for node in dead
    ]
    found += [
        Finding(f"{each.name} on {each.node}: it has ceased to report", each.silent)
        for each in silent
        if each.node not in dead
    ]
    found += [Finding(each.failure) for each in cluster.services if each.status is None]
    for each in cluster.services:
        if each.status is None or each.silent:
            continue
        by_peers = each.down and each.status["healthy"] and each.status["mode"] == "running"
        if not each.status["ready"] and not by_peers:
            found.append(Finding(f"{each.name} on {each.node}: {each.status['reason']}", each.since))
        numbers = each.numbers or {}
        found += [
            Finding(f"{each.name} on {each.node}: {what} {numbers[name]:g}")
            for name, what in _UNWRITTEN.items()
            if numbers.get(name)
        ]
    found += [_missed(name, sides) for name, sides in missing.items() if name not in dead]
    return found


def _missed(name: str, sides: Sequence[tuple[Service, Mapping[str, Any]]]) -> Finding:
    """One peer, and who misses it."""
    peer = sides[0][1]
    since = min(moment(each["since"]) for _, each in sides)
    who = f"{name} ({peer['address']})" if name != peer["address"] else name
    reasons = {each["last_reason"] for _, each in sides if each["last_reason"]}
    why = f": {min(reasons)}{' and other reasons' if len(reasons) > 1 else ''}" if reasons else ""
    misses = [f"{service.name} on {service.node}" for service, _ in sides]
    by = ", ".join(misses[:_NAMED]) + (f" and {len(misses) - _NAMED} more" if len(misses) > _NAMED else "")
    return Finding(f"{by}: no session with {who}{why}", since)
