"""Peers without sockets: they speak to a `Reflector` in real octets and replay what they are told."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_network
from typing import Any

from bgpd.rib.path import SourceKind
from bgpd.rib.reflection import Speaker
from bgpd.session.decoders import Decoders
from bgpd.session.events import Established
from bgpd.wire.attributes import AttributeSet, encode_attributes, for_old_speaker
from bgpd.wire.capabilities import AddPath, Capabilities, GracefulRestart
from bgpd.wire.framing import Framer
from bgpd.wire.iana import MessageType, RefreshSubtype, SegmentType
from bgpd.wire.messages import HEADER_LENGTH, Open, RouteRefresh, decode, negotiate
from bgpd.wire.nlri import IPV4_UNICAST, IPV6_UNICAST, Family, nlri_of, prefix_of
from bgpd.wire.update import UpdateDecoder, encode_end_of_rib, encode_updates, encode_withdrawals
from reflector.core import Reflector
from reflector.member import Member, MemberOptions

ASN = 65000
BOTH = frozenset({IPV4_UNICAST, IPV6_UNICAST})
V4, V6 = IPV4_UNICAST, IPV6_UNICAST


def address(text: str) -> bytes:
    return IPv4Address(text).packed


def speaker(number: int = 1, cluster: int | None = None, asn: int = ASN) -> Speaker:
    return Speaker(
        asn, bytes((10, 255, 0, number)), bytes((10, 255, 1, number if cluster is None else cluster))
    )


def reflector(
    number: int = 1, cluster: int | None = None, *, deferral: float = 0.0, **more: Any
) -> Reflector:
    return Reflector(speaker(number, cluster), started=0.0, deferral=deferral, **more)


def key(prefix: str) -> bytes:
    return nlri_of(ip_network(prefix))


def family_of(prefix: str) -> Family:
    return V6 if ":" in prefix else V4


def path_of(*numbers: int) -> tuple[tuple[SegmentType, tuple[int, ...]], ...]:
    return ((SegmentType.AS_SEQUENCE, numbers),) if numbers else ()


@dataclass(slots=True)
class Told:
    """One route as a peer holds it."""

    attributes: AttributeSet
    next_hop: bytes


@dataclass
class SimulatedPeer:
    """One peer of one reflector, with the Adj-RIB-In it has made of what it was sent."""

    reflector: Reflector
    number: int
    kind: SourceKind = SourceKind.CLIENT
    asn: int = ASN
    options: MemberOptions | None = None
    capabilities: dict[str, Any] = field(default_factory=dict)
    ours: dict[str, Any] = field(default_factory=dict)
    sends_paths: bool = False
    takes_paths: bool = False
    decoders: Decoders = field(default_factory=Decoders)

    def __post_init__(self) -> None:
        self.name = f"192.0.2.{self.number}"
        self.next_hop = address(self.name)
        self.next_hop6 = bytes.fromhex("20010db8") + bytes(11) + bytes((self.number,))
        self.options = self.options or MemberOptions(self.kind)
        if self.sends_paths:
            self.capabilities["add_path"] = adds_path(AddPath.SEND)
            self.ours["add_path"] = adds_path(AddPath.RECEIVE)
        if self.takes_paths:
            self.capabilities["add_path"] = adds_path(AddPath.RECEIVE)
            self.ours["add_path"] = adds_path(AddPath.SEND)
        self.member: Member | None = None
        self.view: dict[Family, dict[bytes, Told]] = {V4: {}, V6: {}}
        self.messages: list[str] = []  # what it was told, in short: "eor", "update", "borr", "eorr"
        self.stale: dict[Family, set[bytes]] = {}

    def offer(self, asn: int, **more: Any) -> Capabilities:
        fields: dict[str, Any] = {
            "families": BOTH,
            "asn4": asn,
            "route_refresh": True,
            "enhanced_refresh": True,
        }
        return Capabilities(**(fields | more))

    def up(self, now: float = 0.0, **more: Any) -> "SimulatedPeer":
        """Come up; `more` changes the peer's capabilities for this session."""
        local_asn = self.options.local_asn or self.reflector.speaker.asn if self.options else 0
        local = Open(local_asn, 90, self.reflector.speaker.bgp_identifier, self.offer(local_asn, **self.ours))
        remote = Open(
            self.asn, 90, bytes((10, 0, 0, self.number)), self.offer(self.asn, **(self.capabilities | more))
        )
        negotiated = negotiate(local, remote)
        assert self.options is not None
        event = Established(negotiated, remote, self.asn, negotiated.internal)
        self.member = self.reflector.established(
            self.name, self.options, self.name, event, now, address("192.0.2.254")
        )
        self.hears = self.decoders(negotiated, negotiated.internal)
        back = negotiate(remote, local)
        self.learns = UpdateDecoder(back, back.internal)
        self.max_length = negotiated.max_length
        self.framer = Framer()
        self.framer.max_length = back.max_length
        self.view = {V4: {}, V6: {}}
        self.messages = []
        self.stale = {}
        return self

    def down(
        self, now: float = 0.0, retain: frozenset[Family] = frozenset(), *, crossed: bool = False
    ) -> None:
        assert self.member is not None
        self.reflector.closed(self.member, retain, now, crossed=crossed)
        self.member = None

    # What it says

    def say(self, *octets: bytes) -> None:
        """Whole messages, through the decoder of the session."""
        assert self.member is not None
        updates = [self.hears.decode(message[HEADER_LENGTH:]) for message in octets]
        self.reflector.update(self.member, updates)

    def announce(self, *prefixes: str, path_id: int | None = None, **attributes: Any) -> None:
        for prefix in prefixes:
            family = family_of(prefix)
            next_hop = attributes.get("next_hop", self.next_hop if family == V4 else self.next_hop6)
            values = {"next_hop": next_hop, **attributes}
            if self.kind is not SourceKind.EXTERNAL:
                values = {"local_pref": 100, **values}
            else:
                values = {"as_path": path_of(self.asn), **values}
            item = (b"" if path_id is None else path_id.to_bytes(4, "big")) + key(prefix)
            block = encode_attributes(**values)
            if not self.hears.interner.context.asn4:
                block = for_old_speaker(block)
            self.say(*encode_updates(family, block, next_hop, [item], 65535))

    def withdraw(self, *prefixes: str, path_id: int | None = None) -> None:
        for prefix in prefixes:
            item = (b"" if path_id is None else path_id.to_bytes(4, "big")) + key(prefix)
            self.say(*encode_withdrawals(family_of(prefix), [item]))

    def end_of_rib(self, *families: Family) -> None:
        self.say(*(encode_end_of_rib(family) for family in families or (V4, V6)))

    def refresh(self, subtype: int = RefreshSubtype.REQUEST, family: Family = V4, now: float = 0.0) -> None:
        assert self.member is not None
        self.reflector.refresh(self.member, family, subtype, now)

    # What it is told

    def read(self, limit: int = 1 << 20, turns: int = 1 << 20) -> "SimulatedPeer":
        """Take what there is (at most `turns` times) and replay it."""
        assert self.member is not None
        for _ in range(turns):
            buffers = self.reflector.take(self.member, limit)
            if not buffers:
                break
            for buffer in buffers:
                self.framer.feed(bytes(buffer))
            for kind, body in self.framer:
                self.heard(kind, body)
        return self

    def heard(self, kind: int, body: bytes) -> None:
        if kind == MessageType.ROUTE_REFRESH:
            message = decode(kind, body)
            assert isinstance(message, RouteRefresh)
            if message.subtype == RefreshSubtype.BEGIN:
                self.messages.append("borr")
                self.stale[message.family] = set(self.view[message.family])
            else:
                assert message.subtype == RefreshSubtype.END
                self.messages.append("eorr")
                for item in self.stale.pop(message.family):
                    del self.view[message.family][item]
            return
        update = self.learns.decode(body)
        assert not update.errors, update.errors
        if update.end_of_rib is not None:
            self.messages.append("eor")
            return
        self.messages.append("update")
        for unreach in update.unreach:
            for item in unreach.nlri:
                self.view[unreach.family].pop(item, None)
                self.stale.get(unreach.family, set()).discard(item)
        for reach in update.reach:
            for item in reach.nlri:
                self.view[reach.family][item] = Told(reach.attributes, reach.attributes.next_hop)
                self.stale.get(reach.family, set()).discard(item)

    def turn(self) -> "SimulatedPeer":
        """Have the reflector decide, and read everything."""
        self.reflector.flush()
        return self.read()

    # What it has

    @property
    def prefixes(self) -> set[str]:
        """The prefixes of both families, whatever their path identifiers."""
        found = set()
        for family, view in self.view.items():
            assert self.member is not None
            assert self.member.negotiated is not None
            skip = 4 if family in self.member.negotiated.add_path_send else 0
            found |= {str(prefix_of(item[skip:], family)) for item in view}
        return found

    def told(self, prefix: str) -> AttributeSet:
        return self.view[family_of(prefix)][key(prefix)].attributes

    def paths(self, prefix: str) -> list[AttributeSet]:
        """All paths of a prefix over add-path."""
        view = self.view[family_of(prefix)]
        return [told.attributes for item, told in view.items() if item[4:] == key(prefix)]


def graceful(
    *families: Family, seconds: int = 120, restarting: bool = False, forwarding: bool = True
) -> GracefulRestart:
    return GracefulRestart(
        seconds, restarting, True, tuple((family, forwarding) for family in families or (V4, V6))
    )


def adds_path(mode: AddPath, *families: Family) -> tuple[tuple[Family, AddPath], ...]:
    return tuple((family, mode) for family in families or (V4, V6))


def settle(*peers: SimulatedPeer) -> None:
    """Everybody reads everything."""
    for peer in peers:
        if peer.member is not None:
            peer.turn()


def external(core: Reflector, number: int, asn: int, **options: Any) -> SimulatedPeer:
    chosen = MemberOptions(SourceKind.EXTERNAL, **options)
    return SimulatedPeer(core, number, SourceKind.EXTERNAL, asn, chosen)


def why(core: Reflector, prefix: str) -> str:
    core.flush()
    (path,) = core.ribs[V4].candidates(key(prefix))
    return path.ineligible or ""


def restartable(core: Reflector, number: int, *, seconds: int = 120, **more: Any) -> SimulatedPeer:
    """A peer with graceful restart on both sides."""
    return SimulatedPeer(
        core,
        number,
        capabilities={"graceful_restart": graceful(seconds=seconds)},
        ours={"graceful_restart": graceful()},
        **more,
    )


def tick(core: Reflector, now: float) -> None:
    if core.tick(now):
        core.flush()
