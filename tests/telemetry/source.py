"""A StatusSource whose answers a test sets."""

from bgpd.telemetry.status import (
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
)


class Store:
    current = False
    since = 950.0
    endpoint = "127.0.0.1:2379"
    reason = "nothing listens there"
    resyncs = 2
    repairs = 1
    reconnects = 3


class Source:
    def __init__(self) -> None:
        self.ring = EventRing(50)
        self.health = (True, "")
        self.works = (True, "")
        self.mode = "running"
        self.called = "agent"
        self.started_at = 1000.0
        self.peer_list: list[PeerStatus] = []
        self.queries: list[RouteQuery] = []
        self.store: Store | None = Store()
        self.drained = 0
        self.operated: list[tuple[PeerVerb, str, str]] = []

    @property
    def events(self) -> EventRing:
        return self.ring

    def service(self) -> ServiceStatus:
        return ServiceStatus(
            self.called, "node-a", "1.2.3", self.started_at, 64512, "10.0.0.1", "", self.mode
        )

    def working(self) -> tuple[bool, str]:
        return self.works

    def healthy(self) -> tuple[bool, str]:
        return self.health

    def peers(self) -> list[PeerStatus]:
        return self.peer_list

    def routes(self, query: RouteQuery) -> RoutePage:
        self.queries.append(query)
        return RoutePage(
            7, (RouteStatus("10.1.0.0/26", "ipv4-unicast", "10.0.0.2", "rr1", best=True, since=0.0),)
        )

    def plan(self) -> dict[str, object]:
        return {"node": "node-a"}

    def samples(self) -> list[Sample]:
        return [
            Sample("exabgp_restarts", "Restarts.", 4),
            Sample("in_sync", "A truth value.", True, SampleKind.GAUGE),
            Sample("kernel_routes", "Routes.", 5, SampleKind.GAUGE, (("state", "wanted"),)),
            Sample("kernel_routes", "Routes.", 6, SampleKind.GAUGE, (("state", "present"),)),
        ]

    def datastore(self) -> Store | None:
        return self.store

    async def drain(self, draining: bool = True) -> None:
        self.drained += draining
        self.mode = "draining" if draining else "running"

    async def operate(self, verb: PeerVerb, peer: str, reason: str) -> None:
        if peer not in {known.name for known in self.peer_list}:
            raise LookupError(f"there is no peer {peer!r} here")
        self.operated.append((verb, peer, reason))


def peer(name: str, state: str = "ESTABLISHED", **more: object) -> PeerStatus:
    families = (
        FamilyStatus("ipv4-unicast", received=10, accepted=8, rejected=2, advertised=3, end_of_rib=True),
    )
    fields: dict[str, object] = {
        "address": "10.0.0.2",
        "since": 1010.0,
        "asn": 64512,
        "flaps": 2,
        "lag": 17,
        "families": families,
        "messages_received": {"update": 5, "keepalive": 9},
        "messages_sent": {"update": 1},
        "kind": "mesh",
    }
    return PeerStatus(name=name, state=state, **{**fields, **more})  # type: ignore[arg-type]  # shorthand
