"""CalicoNodeStatus: this node's status, written into the resource of whoever asks for it, as often as asked.

A request names a node, the classes it wants (Agent, BGP, Routes) and a period; the status goes into the same
resource, in Calico's words. Everything is read from the agent's `StatusSource`, so it says what `cairn
status` says. A conflict means that somebody changed the request meanwhile: the next turn has the newer one.
Calico's reporter lists every route; here at most `MOST_ROUTES` per family, for an etcd value has its limits.

Requests are watched apart from the plan's resources: a status that is written is no reason to plan again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any, Literal

import structlog

from bgpd.datastore import Changes, Conflict, Datastore, DatastoreError, Entry, Interests, Snapshot
from bgpd.resources import CalicoNodeStatus, Key
from bgpd.resources.node_status import NodeStatusReport, NodeStatusSpec
from bgpd.telemetry.documents import rfc3339
from bgpd.telemetry.status import PeerStatus, RouteQuery, StatusSource

PERIOD = 10  # seconds, where a request names none
MOST_ROUTES = 2000

_STATES = {
    "IDLE": "Idle", "CONNECT": "Connect", "ACTIVE": "Active", "OPENSENT": "OpenSent",
    "OPENCONFIRM": "OpenConfirm", "ESTABLISHED": "Established",
}  # fmt: skip
_TYPES = {"mesh": "NodeMesh", "node": "NodePeer", "global": "GlobalPeer"}

log = structlog.get_logger("agent.node_status")


def report(
    source: StatusSource, classes: Sequence[Literal["Agent", "BGP", "Routes"]], now: float
) -> NodeStatusReport:
    """What the classes ask for, as of `now` (seconds since the epoch)."""
    peers = source.peers()
    document: dict[str, Any] = {"lastUpdated": rfc3339(now)}
    if "Agent" in classes:
        document["agent"] = {"birdV4": _daemon(source), "birdV6": _daemon(source)}
    if "BGP" in classes:
        document["bgp"] = {
            key: value
            for version in (4, 6)
            for key, value in _sessions(
                version, [peer for peer in peers if (":" in peer.address) == (version == 6)]
            ).items()
        }
    if "Routes" in classes:
        types = {peer.name: peer for peer in peers}
        document["routes"] = {
            f"routesV{version}": _routes(source, f"ipv{version}-unicast", types) for version in (4, 6)
        }
    return NodeStatusReport.model_validate(document, by_alias=True, by_name=False)


def _daemon(source: StatusSource) -> dict[str, Any]:
    service = source.service()
    started = rfc3339(service.started_at)
    return {
        "state": "Ready" if source.healthy()[0] else "NotReady",
        "version": f"cairn {service.version}",
        "routerID": service.router_id,
        "lastBootTime": started,
        "lastReconfigurationTime": started,
    }


def _sessions(version: int, peers: Sequence[PeerStatus]) -> dict[str, Any]:
    up = sum(peer.established for peer in peers)
    return {
        f"numberEstablishedV{version}": up,
        f"numberNotEstablishedV{version}": len(peers) - up,
        f"peersV{version}": [
            {
                "peerIP": peer.address,
                "type": _TYPES.get(peer.kind, "NodePeer"),
                "state": _STATES.get(peer.state),
                "since": rfc3339(peer.since),
            }
            for peer in peers
        ],
    }


def _routes(source: StatusSource, family: str, peers: dict[str, PeerStatus]) -> list[dict[str, Any]]:
    page = source.routes(RouteQuery(family=family, limit=MOST_ROUTES))
    found = []
    for route in page.routes[:MOST_ROUTES]:
        peer = peers.get(route.peer)
        mesh = peer is not None and peer.kind == "mesh"
        found.append(
            {
                "type": "FIB" if route.best else "RIB",
                "destination": route.prefix,
                "gateway": route.next_hop,
                "learnedFrom": {
                    "sourceType": "NodeMesh" if mesh else "BGPPeer",
                    "peerIP": peer.address if peer is not None else None,
                },
            }
        )
    return found


class NodeStatusWriter:
    """Keeps the status of all requests for one node current. `run` until cancelled."""

    def __init__(
        self, store: Datastore, source: StatusSource, node: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._source = source
        self._node = node
        self._clock = clock
        self._requests: dict[Key, Entry] = {}
        self._due: dict[Key, float] = {}  # on the clock of the loop
        self._said: dict[Key, str] = {}  # why one cannot be written, as last told
        self._changed = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._write())

    async def _follow(self) -> None:
        async with aclosing(self._store.watch(Interests(frozenset({CalicoNodeStatus.KIND})))) as stream:
            async for news in stream:
                if isinstance(news, Snapshot):
                    self._requests = {
                        entry.resource.key: entry for entry in news.entries if self._ours(entry)
                    }
                elif isinstance(news, Changes):
                    for change in news.changes:
                        known = self._requests.pop(change.key, None)
                        if change.entry is not None and self._ours(change.entry):
                            self._requests[change.key] = change.entry
                            if known is None or _spec(known) != _spec(change.entry):
                                self._due.pop(change.key, None)  # another wish: answered at once
                self._due = {key: due for key, due in self._due.items() if key in self._requests}
                self._said = {key: why for key, why in self._said.items() if key in self._requests}
                self._changed.set()

    def _ours(self, entry: Entry) -> bool:
        request = entry.resource
        return (
            isinstance(request, CalicoNodeStatus)
            and request.spec.node == self._node
            and request.spec.update_period_seconds != 0
        )

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            for key, entry in list(self._requests.items()):
                if self._due.get(key, 0.0) <= loop.time():
                    period = await self._answer(entry)
                    self._due[key] = loop.time() + period
            soonest = min((self._due.get(key, 0.0) for key in self._requests), default=None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(soonest):
                    await self._changed.wait()

    async def _answer(self, entry: Entry) -> float:
        request = entry.resource
        assert isinstance(request, CalicoNodeStatus)
        spec = _spec(entry)
        status = report(self._source, spec.classes or (), self._clock())
        try:
            await self._store.update(request.model_copy(update={"status": status}), entry.revision)
        except Conflict:
            return 1.0  # the watch brings the newer one
        except DatastoreError as error:
            if self._said.get(request.key) != (reason := str(error)):
                self._said[request.key] = reason
                log.warning("a node status cannot be written", request=request.metadata.name, reason=reason)
        else:
            self._said.pop(request.key, None)
        return float(spec.update_period_seconds or PERIOD)


def _spec(entry: Entry) -> NodeStatusSpec:
    assert isinstance(entry.resource, CalicoNodeStatus)
    return entry.resource.spec
