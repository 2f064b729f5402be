"""What the agent tells of itself (`bgpd.telemetry.status.StatusSource`), read from its parts when asked."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_network

from agent.exabgp.speaker import Speaker
from agent.forwarding import AF
from agent.learned import FAMILIES
from agent.node import Agent
from agent.peer_in import PeerIn
from bgpd.resources import scalars
from bgpd.rib.loc_rib import PATH_ID_OCTETS, LocRib
from bgpd.telemetry.distribution import Distribution
from bgpd.telemetry.documents import plain
from bgpd.telemetry.route_status import rejections, route_status, within
from bgpd.telemetry.status import (
    Direction,
    EventRing,
    FamilyStatus,
    PeerStatus,
    PeerVerb,
    RoutePage,
    RouteQuery,
    RouteStatus,
    Sample,
    SampleKind,
    ServiceStatus,
    StoreHealth,
    unread,
    why_down,
)
from bgpd.wire.nlri import Family, nlri_of, prefix_of

_ATTACH_TIME = 20.0  # seconds an ExaBGP may take to be attached before that is ill health
_CLAUSE = re.compile(r"([\w-]+) (?:\[ (.*?) \]|(\S+))")


class AgentStatus:
    """The `StatusSource` of an agent."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def close(self) -> None:
        """The agent is over, and not kept by who has this: aiohttp remembers whom it has called."""
        del self._agent

    @property
    def events(self) -> EventRing:
        return self._agent.events

    def service(self) -> ServiceStatus:
        agent, plan = self._agent, self._agent.plan
        return ServiceStatus(
            service="agent",
            node=agent.config.node,
            version=agent.version,
            started_at=agent.started_at,
            asn=plan.asn if plan else None,
            router_id=str(plan.router_id) if plan else "",
            cluster_id=str(plan.cluster_id) if plan and plan.cluster_id else "",
            mode=agent.mode,
        )

    def healthy(self) -> tuple[bool, str]:
        if self._agent.plan is None:
            return False, f"no plan: {self._agent.plan_error}"
        working, why = self.working()
        return working, unread(self._agent.invalid) or why if working else why

    def working(self) -> tuple[bool, str]:
        lost = [
            f"{name} ({speaker.last_error or 'starting'})"
            for name, speaker in self._agent.sessions.speakers.items()
            if not speaker.attached and speaker.detached_for > _ATTACH_TIME
        ]
        if lost:
            return False, f"ExaBGP is not attached: {', '.join(lost)}"
        return True, "healthy"

    def peers(self) -> Sequence[PeerStatus]:
        return [self._peer(address, peer) for address, peer in sorted(self._agent.learned.peers.items())]

    def _peer(self, address: str, peer: PeerIn) -> PeerStatus:
        agent, peering = self._agent, peer.peering
        speaker = agent.sessions.speaker_of(address)
        reason, at = self._why_down(address, peer, speaker)
        return PeerStatus(
            name=peering.name,
            address=address,
            port=peering.peer_port,
            state="ESTABLISHED" if peer.up else "ACTIVE",
            since=peer.planned if peer.since is None else peer.since,
            asn=peering.peer_asn,
            local_asn=peering.local_asn,
            bgp_identifier=str(ip_address(peer.source.bgp_identifier)) if peer.up else "",
            kind=str(peering.kind),
            node=peering.peer_node,
            description=peering.reason,
            flaps=peer.flaps,
            malformed=peer.malformed,
            last_reason=reason,
            last_reason_at=at,
            hold_time=peer.negotiated.hold_time if peer.up and peer.negotiated else 0,
            restarting=not peer.up and peer.stale_until is not None,
            families=tuple(self._family(address, peer, family, speaker) for family in peering.families),
            messages_received={"update": peer.updates},
            messages_sent={"update": speaker.outbox.peer(address).updates} if speaker is not None else {},
        )

    def _why_down(self, address: str, peer: PeerIn, speaker: Speaker | None) -> tuple[str, float | None]:
        """Why a session is not up, and when that was last so; what can't be tried is so at any time."""
        if problem := self._agent.sessions.problems.get(peer.peering.name):
            return problem, None
        trouble = speaker.trouble(address) if speaker is not None else None
        if trouble is None:
            return peer.lost, peer.since if peer.lost else None
        latest, ago = trouble
        return why_down(peer.lost, latest), time.time() - ago

    def _family(self, address: str, peer: PeerIn, family: Family, speaker: Speaker | None) -> FamilyStatus:
        received = self._agent.learned.ribs[family].received(peer.source)
        rejected = sum(path.ineligible is not None for path in received.values())
        advertised = 0
        if speaker is not None and peer.up:
            wanted = speaker.outbox.peer(address).wanted
            advertised = sum((":" in prefix) == (family.afi == 2) for prefix in wanted)
        return FamilyStatus(
            family=str(family),
            received=len(received),
            accepted=len(received) - rejected,
            rejected=rejected,
            advertised=advertised,
            end_of_rib=family in peer.ended,
        )

    def routes(self, query: RouteQuery) -> RoutePage:
        return self._advertised(query) if query.direction is Direction.OUT else self._known(query)

    def _advertised(self, query: RouteQuery) -> RoutePage:
        """What each peer is told, peer by peer; only the routes of the page asked for are put into words."""
        plan = self._agent.plan
        reasons = {} if plan is None else {str(each.prefix): each.reason for each in plan.originated}
        total, chosen = 0, []
        for address, peer in sorted(self._agent.learned.peers.items()):
            speaker = self._agent.sessions.speaker_of(address)
            if speaker is None or query.peer not in (None, peer.peering.name, address):
                continue
            wanted = speaker.outbox.peer(address).wanted
            found = _matching(query, wanted)
            start, stop = max(0, query.offset - total), max(0, query.offset + query.limit - total)
            total += len(found)
            if start < min(stop, len(found)):
                chosen += [
                    _told(prefix, wanted[prefix], peer, reasons.get(prefix, ""))
                    for prefix in sorted(found)[start:stop]
                ]
        return RoutePage(total, tuple(chosen))

    def _known(self, query: RouteQuery) -> RoutePage:
        """Only the prefixes of the page asked for are explained; `total` counts prefixes."""
        total, chosen = 0, []
        for family in FAMILIES:
            if query.family not in (None, str(family)):
                continue
            rib = self._agent.learned.ribs[family]
            nlris = self._prefixes(query, family, rib)
            start, stop = max(0, query.offset - total), max(0, query.offset + query.limit - total)
            for nlri in nlris[start:stop]:
                text = str(prefix_of(nlri, family))
                for place, (path, reason) in enumerate(rib.explain(nlri)):
                    if query.peer in (None, path.source.name, path.source.address):
                        best = place == 0 and path.ineligible is None
                        chosen.append(route_status(text, family, path, best=best, reason=reason.value))
            total += len(nlris)
        return RoutePage(total, tuple(chosen))

    def _prefixes(self, query: RouteQuery, family: Family, rib: LocRib) -> list[bytes]:
        known: set[bytes] | None = None
        if query.peer is not None:
            known = set()
            for peer in self._agent.learned.peers.values():
                if query.peer in (peer.source.name, peer.source.address):
                    added = peer.negotiated is not None and family in peer.negotiated.add_path_receive
                    known.update(item[PATH_ID_OCTETS if added else 0 :] for item in rib.received(peer.source))
        if query.prefix is None:
            return sorted(rib.prefixes() if known is None else known)
        wanted = ip_network(query.prefix, strict=False)
        if (wanted.version == 4) != (family.afi == 1):
            return []
        if query.longer:
            return within(rib.prefixes() if known is None else known, wanted)
        nlri = nlri_of(wanted)
        return [nlri] if rib.candidates(nlri) and (known is None or nlri in known) else []

    def plan(self) -> Mapping[str, object]:
        return {} if self._agent.plan is None else plain(self._agent.plan)

    def samples(self) -> Sequence[Sample | Distribution]:
        agent, fib = self._agent, self._agent.fib
        gauge = SampleKind.GAUGE
        made: list[Sample | Distribution] = [
            agent.to_wire.distribution,
            agent.to_kernel.distribution,
            Sample("exabgp_restarts", "Times an ExaBGP process ended.", sum(
                speaker.restarts for speaker in agent.sessions.speakers.values())),
            Sample("kernel_writes", "Kernel routes written or removed.", fib.writes),
            Sample("kernel_drift", "Routes found altered or removed by others.", fib.drift),
            Sample("kernel_refused", "Wanted routes the kernel refuses.", len(fib.failures), gauge),
            Sample("in_sync", "What is not wanted may be removed.", agent.in_sync, gauge),
            Sample("fail_static", "No session is left, all is kept.", agent.learned.fail_static, gauge),
            Sample("workloads_waiting", "Workloads without an interface.", agent.forwarding.waiting, gauge),
        ]  # fmt: skip
        for family, af in AF.items():
            labels = (("family", str(family)),)
            delta = fib.deltas[af]
            made += [
                Sample("kernel_routes", "Routes wanted in the kernel.", len(delta.desired), gauge, labels),
                Sample("kernel_pending", "Routes not as wanted.", len(delta), gauge, labels),
                Sample(
                    "kernel_blocked", "Routes another program occupies.", len(delta.blocked), gauge, labels
                ),
            ]
        made += rejections(
            path.ineligible
            for rib in agent.learned.ribs.values()
            for peer in agent.learned.peers.values()
            for path in rib.received(peer.source).values()
            if path.ineligible is not None
        )
        return made

    def datastore(self) -> StoreHealth | None:
        return self._agent.store.health()

    async def drain(self, draining: bool = True) -> None:
        await self._agent.drain(draining)

    async def operate(self, verb: PeerVerb, peer: str, reason: str) -> None:
        raise NotImplementedError("an agent's sessions are those of its plan; change what is declared")


def _matching(query: RouteQuery, told: Mapping[str, str]) -> list[str]:
    """The prefixes of those told that are asked for."""
    found = list(told)
    if query.prefix is not None:
        wanted = ip_network(query.prefix, strict=False)
        if not query.longer:
            found = [str(wanted)] if str(wanted) in told else []
        else:
            found = [prefix for prefix in found if scalars.within(ip_network(prefix), wanted)]
    if query.family is not None:
        found = [prefix for prefix in found if (":" in prefix) == (query.family == "ipv6-unicast")]
    return found


def _told(prefix: str, clause: str, peer: PeerIn, reason: str) -> RouteStatus:
    """A route as `agent.announcements.clause` has it written."""
    words = {name: several or one for name, several, one in _CLAUSE.findall(clause)}
    address = peer.peering.local_address
    local_pref, med = words.get("local-preference"), words.get("med")
    return RouteStatus(
        prefix=prefix,
        family="ipv6-unicast" if ":" in prefix else "ipv4-unicast",
        next_hop=str(address) if address is not None else "self",
        peer=peer.peering.name,
        best=True,
        reason=f"told to {peer.peering.name}" + (f": {reason}" if reason else ""),
        origin="igp",
        as_path=words.get("as-path", "" if peer.peering.internal else str(peer.peering.local_asn)),
        local_pref=None if local_pref is None else int(local_pref),
        med=None if med is None else int(med),
        communities=tuple(words.get("community", "").split()),
        large_communities=tuple(words.get("large-community", "").split()),
    )
