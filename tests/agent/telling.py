"""`Learned` with a clock, and peers that tell it things."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, ip_address, ip_network

from agent.learned import Bounds, Learned
from bgpd.plan.model import Peering, PeeringKind
from bgpd.plan.policy import (
    ExportPolicy,
    ImportPolicy,
)
from bgpd.wire.attributes import encode_attributes
from bgpd.wire.capabilities import Capabilities, GracefulRestart
from bgpd.wire.iana import MessageType, SegmentType
from bgpd.wire.messages import Open, RouteRefresh
from bgpd.wire.nlri import IPV4_UNICAST, Family, nlri_of, prefix_of
from bgpd.wire.update import encode_end_of_rib, encode_updates, encode_withdrawals

ASN = 65000
OWN = IPv4Address("10.0.0.1").packed
HEADER = 19


def peering(address: str, asn: int = ASN, **options: object) -> Peering:
    policy = options.pop("import_policy", ImportPolicy(internal=asn == ASN))
    assert isinstance(policy, ImportPolicy)
    return Peering(
        name=f"peer_{address}", kind=PeeringKind.GLOBAL, peer_address=ip_address(address), peer_port=179,
        local_address=IPv4Address("10.0.0.1"), local_asn=ASN, peer_asn=asn, families=(IPV4_UNICAST,),
        import_policy=policy, export_policy=ExportPolicy(), reason="a test", **options,  # type: ignore[arg-type]  # any of its fields
    )  # fmt: skip


def opened(
    asn: int = ASN, *, restart: int | None = 120, kept: bool = True, refresh: bool = True, long_lived: int = 0
) -> bytes:
    graceful = None
    if restart is not None:
        graceful = GracefulRestart(restart_time=restart, families=((IPV4_UNICAST, kept),))
    capabilities = Capabilities(
        families=frozenset({IPV4_UNICAST}), asn4=asn, route_refresh=refresh, enhanced_refresh=refresh,
        graceful_restart=graceful, long_lived=((IPV4_UNICAST, True, long_lived),) if long_lived else (),
    )  # fmt: skip
    return Open(asn, 90, IPv4Address("10.0.0.9").packed, capabilities).body()


class Cluster:
    """`Learned` with a clock, and peers to speak as."""

    def __init__(self, *peerings: Peering, unreachable: Sequence[str] = (), **bounds: int | bool) -> None:
        limits = Bounds(
            OWN,
            None,
            int(bounds.get("max_routes", 1000)),
            bool(bounds.get("accept_default")),
            keep_when_lost=bool(bounds.get("keep", True)),
        )
        self.now = 0.0
        self.unreachable = {IPv4Address(text).packed for text in unreachable}
        self.learned = Learned(limits, lambda hop: None if hop in self.unreachable else 0, sync_wait=30.0)
        self.learned.configure(peerings)

    def up(self, address: str, asn: int = ASN, *, adopted: bool = False, **options: object) -> None:
        received = opened(asn, **options)  # type: ignore[arg-type]  # any of its own
        self.learned.session_up(address, opened(), received, adopted, self.now)

    def down(self, address: str, reason: str = "closing connection") -> None:
        self.learned.session_down(address, reason, self.now)

    def update(self, address: str, message: bytes) -> None:
        self.learned.message(address, MessageType.UPDATE, message[HEADER:], self.now)

    def announce(
        self,
        address: str,
        *prefixes: str,
        next_hop: str = "10.0.0.9",
        path: tuple[int, ...] = (),
        communities: tuple[int, ...] = (),
    ) -> None:
        attributes = encode_attributes(
            as_path=((SegmentType.AS_SEQUENCE, path),) if path else (),
            local_pref=100,
            communities=communities,
        )
        nlri = [nlri_of(ip_network(prefix)) for prefix in prefixes]
        for message in encode_updates(IPV4_UNICAST, attributes, IPv4Address(next_hop).packed, nlri):
            self.update(address, message)

    def withdraw(self, address: str, *prefixes: str) -> None:
        for message in encode_withdrawals(IPV4_UNICAST, [nlri_of(ip_network(prefix)) for prefix in prefixes]):
            self.update(address, message)

    def end(self, address: str, family: Family = IPV4_UNICAST) -> None:
        self.update(address, encode_end_of_rib(family))

    def refresh(self, address: str, subtype: int) -> None:
        body = RouteRefresh(IPV4_UNICAST, subtype).body()
        self.learned.message(address, MessageType.ROUTE_REFRESH, body, self.now)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.learned.tick(self.now)

    @property
    def routes(self) -> set[str]:
        self.learned.take_changes()
        return {str(prefix_of(nlri, IPV4_UNICAST)) for nlri in self.learned.ribs[IPV4_UNICAST].best}

    def why_not(self, prefix: str) -> str:
        self.learned.take_changes()
        [path] = self.learned.ribs[IPV4_UNICAST].candidates(nlri_of(ip_network(prefix)))
        return path.ineligible or ""


def synced(cluster: Cluster) -> bool:
    return cluster.learned.synced


def fail_static(cluster: Cluster) -> bool:
    return cluster.learned.fail_static


def unheard(cluster: Cluster) -> bool:
    return cluster.learned.unheard


P, Q, R = "10.0.0.2", "10.0.0.3", "10.0.0.4"
A, B, C = "10.77.0.0/26", "10.77.1.0/26", "10.77.2.0/26"
