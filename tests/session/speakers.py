"""Speakers and messages for the tests of this package."""

from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import Any

from bgpd.session.config import SessionConfig
from bgpd.session.events import Closed, Event
from bgpd.session.fsm import State
from bgpd.session.session import Session
from bgpd.wire.capabilities import Capabilities, GracefulRestart
from bgpd.wire.framing import Framer
from bgpd.wire.iana import MessageType
from bgpd.wire.messages import KEEPALIVE, Notification, Open, decode, encode, message
from bgpd.wire.nlri import IPV4_UNICAST, IPV6_UNICAST, Family

NOW = 1000.0
LOCAL_ASN = 65000
BOTH = frozenset({IPV4_UNICAST, IPV6_UNICAST})


def identifier(text: str) -> bytes:
    return IPv4Address(text).packed


LOCAL_ID = identifier("10.0.0.1")
PEER_ID = identifier("10.0.0.2")


def offer(asn: int | None, **more: Any) -> Capabilities:
    """Capabilities of a modern speaker; `more` replaces any of them."""
    fields: dict[str, Any] = {
        "families": BOTH,
        "asn4": asn,
        "route_refresh": True,
        "enhanced_refresh": True,
    }
    return Capabilities(**(fields | more))


def config(capabilities: Capabilities | None = None, **more: Any) -> SessionConfig:
    """Ours: AS 65000, 10.0.0.1, any peer."""
    fields: dict[str, Any] = {
        "local_asn": LOCAL_ASN,
        "bgp_identifier": LOCAL_ID,
        "capabilities": capabilities or offer(LOCAL_ASN),
    }
    return SessionConfig(**(fields | more))


def peer_open(
    asn: int = LOCAL_ASN,
    bgp_identifier: bytes = PEER_ID,
    hold_time: int = 90,
    capabilities: Capabilities | None = None,
) -> bytes:
    """An OPEN of the peer's, internal unless another AS is given."""
    return encode(Open(asn, hold_time, bgp_identifier, capabilities or offer(asn)))


def raw_open(
    version: int = 4,
    my_as: int = LOCAL_ASN,
    hold_time: int = 90,
    bgp_identifier: bytes = PEER_ID,
    parameters: bytes = b"",
) -> bytes:
    """An OPEN octet by octet, for those that `Open` would not encode."""
    body = bytes((version,)) + my_as.to_bytes(2, "big") + hold_time.to_bytes(2, "big") + bgp_identifier
    return message(MessageType.OPEN, body + bytes((len(parameters),)) + parameters)


def four_octet_asn(asn: int) -> bytes:
    """The optional parameter with the four-octet AS capability (RFC 6793)."""
    return bytes((2, 6, 65, 4)) + asn.to_bytes(4, "big")


def announcement(third: int = 0) -> bytes:
    """An UPDATE of an internal peer: 10.9.<third>.0/24, next hop 10.0.0.2."""
    attributes = bytes.fromhex("400101004002004003040a00000240050400000064")
    body = b"\0\0" + len(attributes).to_bytes(2, "big") + attributes + bytes((24, 10, 9, third & 255))
    return message(MessageType.UPDATE, body)


BROKEN_UPDATE = message(MessageType.UPDATE, b"\xff\xff\0\0")
"""Withdrawn routes that overrun the message: a session reset, 3/1."""


def refresh(family: Family = IPV4_UNICAST, subtype: int = 0, more: bytes = b"") -> bytes:
    body = family.afi.to_bytes(2, "big") + bytes((subtype, family.safi)) + more
    return message(MessageType.ROUTE_REFRESH, body)


def opensent(ours: SessionConfig | None = None, now: float = NOW, **more: Any) -> Session:
    """A session whose OPEN is out; nothing left to read from it."""
    session = Session(ours or config(), now, **more)
    session.connected(now)
    session.data_to_send()
    return session


def openconfirm(ours: SessionConfig | None = None, theirs: bytes | None = None, **more: Any) -> Session:
    session = opensent(ours, **more)
    session.receive_data(theirs or peer_open(), NOW)
    session.data_to_send()
    session.events()
    assert session.state is State.OPENCONFIRM
    return session


def established(ours: SessionConfig | None = None, theirs: bytes | None = None, **more: Any) -> Session:
    session = openconfirm(ours, theirs, **more)
    session.receive_data(KEEPALIVE, NOW)
    session.events()
    assert session.state is State.ESTABLISHED
    return session


def sent(data: bytes) -> list[object]:
    """The messages in what a session wants written: decoded, but UPDATEs as bytes."""
    framer = Framer(65535)
    framer.feed(data)
    found: list[object] = [
        body if kind == MessageType.UPDATE else decode(kind, body) for kind, body in framer
    ]
    assert framer.pending == 0
    return found


def closing(session: Session) -> Closed:
    """The Closed event, which must be the last."""
    events = session.events()
    assert session.closed
    assert isinstance(events[-1], Closed)
    assert not any(isinstance(event, Closed) for event in events[:-1])
    return events[-1]


def complaint(session: Session) -> tuple[int, int]:
    """Code and subcode of the NOTIFICATION that a session ended with, which must be what it says it sent."""
    closed = closing(session)
    last = sent(session.data_to_send())[-1]
    assert isinstance(last, Notification)
    assert last == closed.sent
    return last.code, last.subcode


def kinds(events: Sequence[Event]) -> list[str]:
    return [type(event).__name__ for event in events]


def graceful(
    families: frozenset[Family] = BOTH,
    *,
    notification: bool = False,
    restarting: bool = False,
    forwarding: bool = True,
) -> GracefulRestart:
    return GracefulRestart(
        120, restarting, notification, tuple((family, forwarding) for family in sorted(families))
    )
