"""A StatusSource of thousands of peers and a hundred thousand routes."""

from ipaddress import ip_address, ip_network

from bgpd.telemetry.distribution import Distribution
from bgpd.telemetry.status import (
    FamilyStatus,
    PeerStatus,
    RoutePage,
    RouteQuery,
    RouteStatus,
    Sample,
    SampleKind,
    ServiceStatus,
)
from tests.telemetry.source import Source


def _peer(number: int, now: float) -> PeerStatus:
    if number < 4:
        kind, name, asn = "external", f"tor-rack-{number + 1}", 65000 + number
    elif number < 6:
        kind, name, asn = "non-client", f"reflector-{number - 2}", 64512
    else:
        kind, name, asn = "client", f"node-{number - 5:04}", 64512
    up = number % 611 != 7
    return PeerStatus(
        name=name,
        address=str(ip_address("10.64.0.1") + number),
        state="ESTABLISHED" if up else "ACTIVE",
        since=now - 60 * (number % 5000) - 5,
        asn=asn,
        local_asn=64512,
        bgp_identifier=str(ip_address("10.64.0.1") + number),
        kind=kind,
        description="rack switch" if kind == "external" else "",
        flaps=number % 3,
        last_reason="" if up else "hold timer expired",
        hold_time=90,
        families=(FamilyStatus("ipv4-unicast", 20, 19, 1, 100_000, True),) if up else (),
        messages_received={"update": 40 + number, "keepalive": 9},
        messages_sent={"update": 4000, "keepalive": 10},
    )


class Big(Source):
    """`count` peers; every tenth prefix has three candidates. Only the page asked for is built."""

    def __init__(self, count: int, prefixes: int, now: float) -> None:
        super().__init__()
        self.peer_list = [_peer(number, now) for number in range(count)]
        self.prefixes = prefixes
        self.started_at = now - 7200
        self.store = None
        self.turns = 0
        self.convergence = Distribution("received_to_wire_seconds", "From an UPDATE received to the wire.")
        self.ring.add(now - 60, "session.up", "node-0001 (10.64.0.7) is Established", peer="node-0001")

    def service(self) -> ServiceStatus:
        return ServiceStatus(
            "reflector", "rr-1", "1.2.3", self.started_at, 64512, "10.0.0.1", "10.0.0.1", self.mode
        )

    def samples(self) -> list[Sample | Distribution]:  # type: ignore[override]  # a wider list, only read
        self.turns += 137
        for number in range(20):
            self.convergence.observe(0.0004 * (1 + (number * self.turns) % 17))
        gauge = SampleKind.GAUGE
        family = (("family", "ipv4-unicast"),)
        return [
            Sample("decisions", "Turns in which the Loc-RIB changed.", self.turns, labels=family),
            Sample("best_routes", "Prefixes with a best path.", self.prefixes, gauge, family),
            self.convergence,
        ]

    def routes(self, query: RouteQuery) -> RoutePage:
        self.queries.append(query)
        numbers = range(self.prefixes)
        if query.prefix is not None:
            wanted = ip_network(query.prefix, strict=False)
            first = int(wanted.network_address) - int(ip_address("100.64.0.0"))
            span = wanted.num_addresses
            if query.longer:
                numbers = range(max(0, first), max(0, min(self.prefixes, first + span)))
            else:
                exact = wanted.prefixlen == 32 and 0 <= first < self.prefixes
                numbers = range(first, first + 1) if exact else range(0)
        chosen = numbers[query.offset : query.offset + query.limit]
        return RoutePage(len(numbers), tuple(route for number in chosen for route in self._paths(number)))

    def _paths(self, number: int) -> list[RouteStatus]:
        prefix = f"{ip_address('100.64.0.0') + number}/32"
        peers = [self.peer_list[(number + step * 7) % len(self.peer_list)] for step in range(3)]
        best = RouteStatus(
            prefix, "ipv4-unicast", peers[0].address, peers[0].name, best=True, reason="only path",
            origin="igp", local_pref=100, communities=("64512:100",),
        )  # fmt: skip
        if number % 10:
            return [best]
        longer = RouteStatus(
            prefix, "ipv4-unicast", peers[1].address, peers[1].name, reason="longer AS_PATH",
            origin="igp", as_path="65001 65002", local_pref=100, med=10,
        )  # fmt: skip
        looped = RouteStatus(
            prefix, "ipv4-unicast", peers[2].address, peers[2].name, reason="ineligible",
            ineligible="our CLUSTER_ID is in CLUSTER_LIST", origin="igp", local_pref=100,
            cluster_list=("10.0.0.1",),
        )  # fmt: skip
        return [best, longer, looped]
