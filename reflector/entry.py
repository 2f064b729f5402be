"""A peer as the server knows it: what was declared of it, its sessions and the sockets they run on."""

import socket
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address

from bgpd.session.config import SessionConfig
from bgpd.session.fsm import State
from bgpd.session.peer import Peer
from bgpd.session.session import Session
from bgpd.telemetry.status import why_down
from reflector.link import Link
from reflector.spec import PeerSpec

FORGOTTEN_AFTER = 120.0  # seconds that a client nobody named is remembered after its last connection
REMEMBERED = 5_000  # how many such clients are remembered at most

Recalled = IPv4Address | IPv6Address | None


@dataclass(slots=True, eq=False)
class Entry:
    """A peer and its connections."""

    spec: PeerSpec
    address: str
    peer: Peer
    links: dict[Session, Link] = field(default_factory=dict)
    attempts: dict[int, socket.socket] = field(default_factory=dict)
    deadline: float = 0.0
    since: float = 0.0
    parted: float = 0.0  # when its last connection ended, on the loop's clock
    recalled: Recalled = None  # our address that this client knew before our restart, until all is told
    unreached: bool = False  # the last attempt to connect to it came to nothing
    warned: tuple[int, int] | None = None  # of which limit, and what share of it, it was said to be near
    overfull: bool = False  # said that it sends more paths of a prefix than are taken in
    went_down: str = ""  # why the last session that was up ended

    @property
    def name(self) -> str:
        """The name of its member: the address it comes from."""
        return self.address

    @property
    def why_down(self) -> str:
        """Why it went down, and what has come of it since."""
        known = why_down(self.went_down, self.peer.counters.last_error)
        return known if known or self.peer.enabled else "disabled by the operator"


def same_session(old: SessionConfig, new: SessionConfig) -> bool:
    """Whether a session that is up need not be made anew: only our own patience changed."""
    return old == replace(
        new,
        open_hold_time=old.open_hold_time,
        send_hold_time=old.send_hold_time,
        keepalive_time=old.keepalive_time,
        passive=old.passive,
    )


def another(old: PeerSpec, new: PeerSpec) -> bool:
    """Whether it is another peer now, of another kind or another AS: what is known of it is not its own."""
    before, after = old.session.peer_asn, new.session.peer_asn  # None: any
    return old.member.kind is not new.member.kind or (before != after and None not in (before, after))


def needs_connection(spec: PeerSpec) -> tuple[object, ...]:
    """What of a spec is fixed for a TCP connection once it is made."""
    return (spec.local_address, spec.ttl_security, spec.multihop)


def forgettable(entries: Iterable[Entry], members: Container[str], now: float) -> Iterator[Entry]:
    """Clients that nobody named and that have been away for long; the longest away if they are too many.

    One that is kept out until an operator lets it in is remembered as long as there is room.
    """
    away = [
        entry
        for entry in entries
        if not entry.links
        and not entry.attempts
        and entry.recalled is None
        and not entry.spec.single
        and entry.name not in members
    ]
    away.sort(key=lambda entry: entry.parted)
    surplus = len(away) - REMEMBERED
    for place, entry in enumerate(away):
        kept_out = entry.peer.state is State.IDLE
        if place < surplus or (not kept_out and entry.parted + FORGOTTEN_AFTER <= now):
            yield entry
