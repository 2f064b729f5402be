"""What the reflector tells of itself (`StatusSource`), read from its parts when asked."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network
from itertools import islice

from bgpd.rib.loc_rib import PATH_ID_OCTETS, LocRib
from bgpd.session.counters import MessageCounters
from bgpd.telemetry.distribution import Distribution
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
)
from bgpd.wire.nlri import Family, nlri_of, prefix_of
from reflector.entry import Entry
from reflector.member import Member
from reflector.server import Server

Look = Callable[[bytes, Family, LocRib, RouteQuery], Iterator[RouteStatus]]
ROWS = 5000  # a page never has more routes: the table may be large, and so may the number of peers


class ReflectorStatus:
    """The `StatusSource` of a reflector."""

    def __init__(
        self,
        server: Server,
        name: str,
        version: str,
        *,
        started_at: float,
        store: Callable[[], StoreHealth | None],
        plan: Callable[[], Mapping[str, object]],
        problems: Callable[[], Sequence[str]],
        moment: Callable[[float], float],
        invalid: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """`moment` gives the wall time of a time on the server's clock; `invalid` what cannot be read."""
        self._server = server
        self._name = name
        self._version = version
        self._started_at = started_at
        self._store = store
        self._plan = plan
        self._problems = problems
        self._invalid = invalid
        self._moment = moment

    @property
    def events(self) -> EventRing:
        return self._server.events

    def service(self) -> ServiceStatus:
        server = self._server
        speaker = server.spec.speaker
        draining = "draining" if server.reflector.draining else "running"
        return ServiceStatus(
            service="reflector",
            node=self._name,
            version=self._version,
            started_at=self._started_at,
            asn=speaker.asn,
            router_id=str(ip_address(speaker.bgp_identifier)),
            cluster_id=str(ip_address(speaker.cluster_id)),
            mode="stopping" if server.stopping else draining,
        )

    def working(self) -> tuple[bool, str]:
        return (True, "healthy") if self._server.ports else (False, "not listening")

    def healthy(self) -> tuple[bool, str]:
        problems = self._problems()
        working, why = self.working()
        if working and problems:
            return False, "; ".join(problems)
        return working, unread(self._invalid()) or why if working else why

    def peers(self) -> Sequence[PeerStatus]:
        return [self._peer(entry) for _, entry in sorted(self._server.entries.items())]

    def _peer(self, entry: Entry) -> PeerStatus:
        spec, peer, member = entry.spec, entry.peer, self._server.reflector.members.get(entry.name)
        session = peer.session
        opened = session.peer_open if session is not None else None
        up = session is not None and member is not None
        source = member.source if member is not None else None
        counters = peer.counters
        failed = counters.last_error_at
        return PeerStatus(
            name=spec.name if spec.single else entry.address,
            address=entry.address,
            port=spec.port,
            state=peer.state.name,
            since=entry.since,
            asn=source.asn if source is not None else spec.session.peer_asn,
            local_asn=spec.session.local_asn,
            bgp_identifier=str(ip_address(opened.bgp_identifier)) if opened is not None else "",
            kind=spec.kind,
            description=spec.description,
            flaps=counters.closed,
            malformed=counters.messages.attribute_faults,
            last_reason="" if up else entry.why_down,
            last_reason_at=self._moment(failed) if failed is not None and not up else None,
            hold_time=member.negotiated.hold_time if member is not None and member.negotiated else 0,
            lag=member.lag if member is not None else 0,
            restarting=member is not None and not member.established,
            expected=spec.single,
            families=tuple(self._families(member)) if member is not None else (),
            messages_received=_counts(counters.messages.received),
            messages_sent=_sent(counters.messages.sent),
        )

    def _families(self, member: Member) -> Iterator[FamilyStatus]:
        reflector = self._server.reflector
        for family, rib in reflector.ribs.items():
            negotiated = member.negotiated
            received = rib.received(member.source)
            if not received and (negotiated is None or family not in negotiated.families):
                continue
            rejected = rib.refused(member.source)
            yield FamilyStatus(
                family=str(family),
                received=len(received),
                accepted=len(received) - rejected,
                rejected=rejected,
                advertised=reflector.advertised_count(member, family),
                end_of_rib=family in member.heard_eor,
            )

    # Routes

    def routes(self, query: RouteQuery) -> RoutePage:
        """Only the prefixes of the page asked for are explained: a table of 100,000 is not walked for 50.

        `total` counts prefixes. What everybody is told, of many prefixes, ends at `ROWS` routes.
        """
        if query.peer is not None:
            query = replace(query, peer=self._address_of(query.peer))
        total, window = 0, range(query.offset, query.offset + query.limit)
        chosen: list[RouteStatus] = []
        for family, rib in self._server.reflector.ribs.items():
            if query.family not in (None, str(family)):
                continue
            nlris = self._prefixes(query, family, rib)
            look: Look = self._candidates
            if query.direction is Direction.OUT:
                look = self._advertised
                if query.peer is not None:
                    readers = [
                        link.member for entry, link in self._server.live() if entry.address == query.peer
                    ]
                    told = self._server.reflector.told
                    nlris = [
                        nlri
                        for nlri in nlris
                        if any(member and told(member, family, nlri) for member in readers)
                    ]
            start, stop = max(0, window.start - total), max(0, window.stop - total)
            for nlri in nlris[start:stop]:
                chosen += islice(look(nlri, family, rib, query), ROWS - len(chosen))
            total += len(nlris)
        return RoutePage(total, tuple(chosen))

    def _address_of(self, peer: str) -> str:
        """What the RIB knows a peer by, which may be meant by its name."""
        return next((entry.address for entry in self._server.entries.values() if _called(entry, peer)), peer)

    def _prefixes(self, query: RouteQuery, family: Family, rib: LocRib) -> list[bytes]:
        """What matches, in order, as raw NLRI: nothing is turned into text to be compared."""
        said = None
        if query.peer is not None and query.direction is not Direction.OUT:
            said = self._said_by(query.peer, family, rib)
        if query.prefix is None:
            return sorted(rib.prefixes() if said is None else said)
        wanted = ip_network(query.prefix, strict=False)
        if (wanted.version == 4) != (family.afi == 1):
            return []
        exact = nlri_of(wanted)
        if not query.longer:
            there = bool(rib.candidates(exact)) and (said is None or exact in said)
            return [exact] if there else []
        return within(rib.prefixes() if said is None else said, wanted)

    def _said_by(self, peer: str, family: Family, rib: LocRib) -> set[bytes]:
        """The prefixes of the peer at this address."""
        found: set[bytes] = set()
        for member in self._server.reflector.members.values():
            source = member.source
            if peer != source.address:
                continue
            items = rib.received(source)
            found.update((item[PATH_ID_OCTETS:] for item in items) if family in member.adds_paths else items)
        return found

    def _advertised(
        self, nlri: bytes, family: Family, _rib: LocRib, query: RouteQuery
    ) -> Iterator[RouteStatus]:
        for entry, link in self._server.live():
            member = link.member
            name = entry.spec.name if entry.spec.single else entry.address
            if member is None or query.peer not in (None, entry.address):
                continue
            path = self._server.reflector.told(member, family, nlri)
            if path is not None:
                text = str(prefix_of(nlri, family))
                yield route_status(text, family, path, best=True, reason=f"told to {name}")

    def _candidates(
        self, nlri: bytes, family: Family, rib: LocRib, query: RouteQuery
    ) -> Iterator[RouteStatus]:
        text = str(prefix_of(nlri, family))
        for place, (path, reason) in enumerate(rib.explain(nlri)):
            if query.peer in (None, path.source.address):
                best = place == 0 and path.ineligible is None
                yield route_status(text, family, path, best=best, reason=reason.value)

    # The rest

    def plan(self) -> Mapping[str, object]:
        return self._plan()

    def samples(self) -> Sequence[Sample | Distribution]:
        server, reflector, gauge = self._server, self._server.reflector, SampleKind.GAUGE
        logs = [group.log for group in reflector.groups]
        lag = max((member.lag for member in reflector.members.values()), default=0)
        samples: list[Sample | Distribution] = [
            server.decision,
            server.convergence,
            Sample("strangers", "Connections of undeclared peers.", server.strangers),
            Sample(
                "paths_refused", "Paths beyond addPath.receiveLimit of a prefix.", reflector.paths_refused
            ),
            Sample("update_groups", "Update groups with readers.", sum(log.based for log in logs), gauge),
            Sample(
                "export_log_octets", "Octets of encoded UPDATEs held.", sum(log.octets for log in logs), gauge
            ),
            Sample("max_lag_octets", "Octets the slowest client is behind.", lag, gauge),
        ]
        for family, rib in reflector.ribs.items():
            labels = (("family", str(family)),)
            samples.append(Sample("best_routes", "Prefixes with a best path.", len(rib), gauge, labels))
            samples.append(
                Sample("decisions", "Turns in which the Loc-RIB changed.", rib.version, labels=labels)
            )
        samples += rejections(
            path.ineligible
            for member in reflector.members.values()
            for rib in reflector.ribs.values()
            if rib.refused(member.source)
            for path in rib.received(member.source).values()
            if path.ineligible is not None
        )
        return samples

    def datastore(self) -> StoreHealth | None:
        return self._store()

    async def drain(self, draining: bool = True) -> None:
        self._server.drain(draining)

    async def operate(self, verb: PeerVerb, peer: str, reason: str) -> None:
        entries = [entry for entry in self._server.entries.values() if _called(entry, peer)]
        if not entries:
            raise LookupError(f"there is no peer {peer!r} here")
        for entry in entries:
            self._server.operate(entry, verb, reason)


def _called(entry: Entry, name: str) -> bool:
    return name == entry.address or (entry.spec.single and name == entry.spec.name)


def _counts(counters: MessageCounters) -> Mapping[str, int]:
    return {
        "open": counters.opens,
        "update": counters.updates,
        "notification": counters.notifications,
        "keepalive": counters.keepalives,
        "route_refresh": counters.route_refreshes,
    }


def _sent(counters: MessageCounters) -> Mapping[str, int]:
    """Without the UPDATEs: they are octets that many peers share, and nobody counts them for one."""
    return {kind: number for kind, number in _counts(counters).items() if kind != "update"}
