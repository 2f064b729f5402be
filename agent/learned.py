"""What the peers have told this node, and what of it is kept when they fall silent. Sans-IO.

UPDATEs arrive as the octets the peer sent and are decoded by our own codec; every accepted path of every
peer is in the Loc-RIB of its family. ExaBGP drops all knowledge with a session, so the receiving side of
graceful restart (RFC 4724 §4.2, RFC 8538) is here: routes of a peer that went away as it had promised to
come back are stale, still used, and swept at its End-of-RIB or when its time is over.

**Fail static.** When no session within the AS is left (the reflectors are lost), nobody can say anything
anew, and forgetting would turn a control-plane failure into an outage. What those peers said then stays
without a time limit, except what leads *through* a lost peer itself, until one of them returns or the next
hop is known to be a dead node (`dead`). What peers of other ASes said stays likewise when no session is left
at all. A node known dead loses its stale routes at once, sooner than any timer would take them.
``whenReflectorsLost: Expire`` leaves all of that to the peers' restart times, over our own restart too.

Long-lived restart (RFC 9494 §4.2): after its restart time the stale routes of a peer whose OPEN offers a
long-lived stale time are used for that much longer where there is nothing better, but for those marked
NO_LLGR. ExaBGP cannot offer the capability for us; as an agent passes no route on, nobody else is misled.

Left out: next hops (the resolver), the kernel, and which peers exist (the plan).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from agent.exabgp.events import EXABGP_ENDED
from agent.link_local import beside
from agent.peer_in import PeerIn
from bgpd.plan.model import Peering
from bgpd.plan.policy import local_pref_of
from bgpd.plan.route_policy import changed, facts_of
from bgpd.rib.changes import Changes
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.path import Cost, Path, Source, SourceKind
from bgpd.rib.reflection import Speaker, ineligibility, long_lived_stale
from bgpd.wire.attributes import AttributeSet
from bgpd.wire.capabilities import Negotiated
from bgpd.wire.errors import UnsendableError
from bgpd.wire.iana import AttributeCode, MessageType, RefreshSubtype
from bgpd.wire.interner import Interner
from bgpd.wire.malformed import EVERY, Malformed
from bgpd.wire.messages import Notification, Open, RouteRefresh, decode, negotiate
from bgpd.wire.nlri import IPV4_UNICAST, IPV6_UNICAST, Family
from bgpd.wire.update import Reach, UpdateDecoder

FAMILIES = (IPV4_UNICAST, IPV6_UNICAST)
_DEFAULT_ROUTE = b"\0"
_QUIET = 5.0  # seconds after which a peer that sends no End-of-RIB is taken to have told everything
_REFRESHED = 10.0  # seconds a route refresh may take; a peer with nothing to say may not answer at all
_HARD_RESET = "(6,9)"
_TOO_MANY = ("prefixes from this peer (maxPrefixes)", "routes altogether (maxRoutes)")
_ROOM_EVERY = 30.0  # seconds between two looks whether there is room for what was refused


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is refused whoever says it."""

    bgp_identifier: bytes
    cluster_id: bytes | None
    max_routes: int
    accept_default: bool
    normal_priority: tuple[int, int] = (1024, 1024)
    keep_when_lost: bool = True


@dataclass(frozen=True, slots=True)
class Retained:
    """How long the routes of a peer are kept that is ``up``, should it go, or away: see `PeerIn`."""

    up: bool
    stale_until: float | None
    restart_time: int
    long_lived: Mapping[Family, int]
    long_lived_until: Mapping[Family, float]
    held: bool


class Learned:
    """All peers' routes. ``cost`` says of a next hop how far it is, or that it is unreachable."""

    def __init__(self, bounds: Bounds, cost: Cost, sync_wait: float) -> None:
        self.bounds = bounds
        self.ribs = {family: LocRib(family, cost) for family in FAMILIES}
        self.peers: dict[str, PeerIn] = {}
        self._sync_wait = sync_wait
        self._ordinary_is = bounds.normal_priority  # what other ASes' routes were given
        self._dead: frozenset[bytes] = frozenset()
        self._undecided: set[tuple[Family, bytes]] = set()  # new prefixes since the last `take_changes`
        self._reminded = False  # a former agent noted whom to wait for

    @property
    def fail_static(self) -> bool:
        """Whether routes are kept because nobody is left to ask."""
        return any(peer.held for peer in self.peers.values())

    def _alone(self, peer: PeerIn) -> bool:
        """Whether no session is left that could say the same: within the AS only the AS's own can."""
        return not any(
            each.up and (each.peering.internal or not peer.peering.internal) for each in self.peers.values()
        )

    # which peers there are

    def configure(self, peerings: Iterable[Peering]) -> list[str]:
        """The sessions the plan wants now. A peer no longer wanted takes its routes along.

        Returns the addresses of peers of whom other routes count now: they must be asked to say it all again.
        """
        wanted = {str(peering.peer_address): peering for peering in peerings}
        ordinary, self._ordinary_is = self._ordinary_is, self.bounds.normal_priority
        for address in self.peers.keys() - wanted.keys():
            gone = self.peers.pop(address)
            self._drop(gone)
        again = []
        for address, peering in wanted.items():
            known = self.peers.get(address)
            if known is None:
                kind = SourceKind.NON_CLIENT if peering.internal else SourceKind.EXTERNAL
                source = Source(kind, address, bytes(4), peering.peer_asn, peering.name)
                self.peers[address] = PeerIn(peering, source)
                continue
            if _reception(known.peering) != _reception(peering) or (
                not peering.internal and ordinary != self.bounds.normal_priority
            ):
                again.append(address)
            known.peering = peering
            known.source.kind = SourceKind.NON_CLIENT if peering.internal else SourceKind.EXTERNAL
            known.source.asn, known.source.name = peering.peer_asn, peering.name
        return again

    # sessions

    def session_up(self, address: str, sent: bytes, received: bytes, adopted: bool, now: float) -> Negotiated:
        """A session, with the bodies of both OPENs. Raises ProtocolError if they cannot be read.

        ``adopted``: it was up before we looked, so everything is asked for again and stale until it comes. An
        end of what was being told when we came is not the end of that (RFC 7313 §4: an end without its
        beginning is ignored); only a peer that has nothing to repeat may just say so.
        """
        local, remote = decode(MessageType.OPEN, sent), decode(MessageType.OPEN, received)
        assert isinstance(local, Open)
        assert isinstance(remote, Open)
        peer = self.peers[address]
        negotiated = negotiate(local, remote)
        peer.up, peer.negotiated = True, negotiated
        loopback = peer.peering.peer_address.is_loopback
        interner = Interner(negotiated.asn4, negotiated.internal, loopback)
        peer.decoder = UpdateDecoder(negotiated, negotiated.internal, interner)
        peer.source.bgp_identifier = remote.bgp_identifier
        peer.source.asn = remote.asn
        says_end = negotiated.enhanced_refresh if adopted else negotiated.graceful_restart is not None
        patience = min(self._sync_wait, _REFRESHED) if adopted else self._sync_wait
        peer.sync_by = now + (patience if says_end else min(patience, _QUIET))
        peer.sync_latest = now + self._sync_wait
        peer.awaited = set(negotiated.families) & set(FAMILIES)
        peer.ended = set()
        peer.amid = dict.fromkeys(peer.awaited, False) if adopted else {}
        if adopted:
            for rib in self.ribs.values():
                rib.mark_stale(peer.source)
        elif not peer.ours:
            self._release_unforwarded(peer, negotiated)
        peer.held = peer.ours = peer.recalled = False
        restart = negotiated.graceful_restart
        peer.restart_time = restart.restart_time if restart is not None else 0
        peer.stale_until = peer.sync_by
        peer.long_lived = {family: seconds for family, _, seconds in remote.capabilities.long_lived}
        self._reconsider(peer)
        self._resume([each for each in self.peers.values() if not self._alone(each)], now)
        return negotiated

    def _release_unforwarded(self, peer: PeerIn, negotiated: Negotiated) -> None:
        """RFC 4724 §4.2: a peer that lost its forwarding state cannot carry its own stale routes.

        Routes by way of others (a reflector's) do not depend on it and wait for the End-of-RIB.
        """
        peer.taken = None
        restart = negotiated.graceful_restart
        forwarding = {family for family, kept in restart.families if kept} if restart else set()
        for family, rib in self.ribs.items():
            if family not in forwarding:
                rib.revise(peer.source, self._unless_through(peer), stale_only=True)

    def _unless_through(self, peer: PeerIn) -> _Filter:
        return _Filter(frozenset((ip_address(peer.peering.peer_address).packed,)))

    def session_down(self, address: str, reason: str, now: float) -> None:
        """The session ended, in ExaBGP's words why; what is kept follows from what was negotiated.

        When our own ExaBGP ended (`EXABGP_ENDED`) we are the restarting speaker of RFC 4724 §4.1: all
        forwarding state stays until the peer has told everything again or our own restart time is over.
        """
        peer = self.peers.get(address)
        if peer is None or not peer.up:
            return
        restart = peer.negotiated.graceful_restart if peer.negotiated else None
        peer.up, peer.decoder, peer.awaited = False, None, set()
        peer.taken = None
        last = self.bounds.keep_when_lost and self._alone(peer)
        notified = reason.startswith("notification ")  # "closing without sending any notification" is none
        graceful = (
            restart is not None and _HARD_RESET not in reason and (restart.notification or not notified)
        )
        kept = {family for family, _ in restart.families} if restart is not None and graceful else set()
        patience = restart.restart_time if restart is not None and graceful else 0
        peer.ours = reason == EXABGP_ENDED
        if peer.ours:
            kept, patience = set(FAMILIES), peer.peering.graceful_restart
        for family, rib in self.ribs.items():
            if family in kept or last:
                rib.mark_stale(peer.source)
                if family not in kept:
                    rib.revise(peer.source, self._unless_through(peer))
            else:
                rib.drop(peer.source)
        self._reconsider(peer)
        peer.stale_until = now + patience
        peer.long_lived = {family: time for family, time in peer.long_lived.items() if family in kept}
        if self.bounds.keep_when_lost:
            for other in self.peers.values():
                other.held = other.held or (not other.up and self._alone(other))
        self._bury()

    def _resume(self, peers: Iterable[PeerIn], now: float) -> None:
        """A session is back: those still away have their restart time, counted from now, to follow, and what
        was left to them before (our own restart time, where it was we who went away).
        """
        for peer in peers:
            if peer.held:
                peer.held = False
                patience = max(self._sync_wait, peer.restart_time)
                peer.stale_until = max(now + patience, peer.stale_until or 0.0)

    # over a restart of our own

    def retained(self) -> dict[str, Retained]:
        """What the next agent has to know of each peer that it should wait for."""
        found = {}
        for address, peer in self.peers.items():
            restart = peer.negotiated.graceful_restart if peer.negotiated is not None else None
            kept = {family for family, _ in restart.families} if restart is not None else set()
            if kept if peer.up else peer.away:
                found[address] = Retained(
                    peer.up,
                    None if peer.up else peer.stale_until,
                    peer.restart_time,
                    {
                        family: time
                        for family, time in peer.long_lived.items()
                        if family in kept or not peer.up
                    },
                    dict(peer.long_lived_until),
                    peer.held,
                )
        return found

    def recall(self, retained: Mapping[str, Retained], now: float) -> None:
        """What a former agent knew: a peer that was up is away as of now, until it is seen."""
        self._reminded = bool(retained)
        for address, known in retained.items():
            if (peer := self.peers.get(address)) is not None:
                peer.recalled, peer.held, peer.restart_time = True, known.held, known.restart_time
                peer.stale_until = now + known.restart_time if known.up else known.stale_until
                peer.long_lived, peer.long_lived_until = dict(known.long_lived), dict(known.long_lived_until)

    @property
    def recalling(self) -> bool:
        """Whether peers of a former life may still come to tell again what the kernel has of them."""
        return any(peer.recalled for peer in self.peers.values()) or not self.synced

    def _drop(self, peer: PeerIn) -> None:
        for rib in self.ribs.values():
            rib.drop(peer.source)

    def dead(self, addresses: Iterable[bytes]) -> None:
        """Addresses of nodes known dead: what leads to them and has nobody alive to vouch for it goes."""
        self._dead = frozenset(addresses)
        self._bury()

    def _bury(self) -> None:
        if not self._dead:
            return
        for peer in self.peers.values():
            if not peer.up:
                peer.taken = None
                for rib in self.ribs.values():
                    rib.revise(peer.source, _Filter(self._dead), stale_only=True)

    # messages

    def message(self, address: str, type: int, body: bytes, now: float) -> Malformed | None:
        """One message of an established session. Raises ProtocolError where the session must end.

        Gives what the log must tell of: an UPDATE with attributes at fault, once in a while.
        """
        peer = self.peers.get(address)
        if peer is None or peer.decoder is None or peer.negotiated is None:
            return None
        if type == MessageType.UPDATE:
            self._await(peer, min(now + _QUIET, peer.sync_latest))
            self._update(peer, peer.decoder, body)
            malformed, peer.decoder.malformed = peer.decoder.malformed, None
            if malformed is not None and now >= peer.malformed_told:
                peer.malformed_told = now + EVERY
                return malformed
        elif type == MessageType.ROUTE_REFRESH:
            refresh = decode(type, body)
            if isinstance(refresh, RouteRefresh) and refresh.family in self.ribs:
                if refresh.subtype == RefreshSubtype.BEGIN:
                    peer.amid.pop(refresh.family, None)
                    self.ribs[refresh.family].mark_stale(peer.source)
                    peer.stale_until = now + self._sync_wait
                    self._await(peer, peer.sync_latest)
                elif refresh.subtype == RefreshSubtype.END and refresh.family not in peer.amid:
                    self._ended(peer, refresh.family)
        elif type == MessageType.NOTIFICATION:
            notification = decode(type, body)
            if isinstance(notification, Notification):
                peer.last_notification = notification
        return None

    @staticmethod
    def _await(peer: PeerIn, until: float) -> None:
        """A peer that is telling what there is, is waited for."""
        if peer.awaited and until > peer.sync_by:
            peer.sync_by = until
            peer.stale_until = max(until, peer.stale_until or 0.0)

    def _update(self, peer: PeerIn, decoder: UpdateDecoder, body: bytes) -> None:
        update = decoder.decode(body)
        peer.updates += 1
        peer.malformed += len(update.errors)
        for unreach in update.unreach:
            if (rib := self.ribs.get(unreach.family)) is not None:
                if peer.taken is not None:
                    received = rib.received(peer.source)
                    peer.taken -= sum(map(_counts, map(received.get, set(unreach.nlri))))
                rib.withdraw(peer.source, unreach.nlri)
        for reach in (beside(each, peer.peering.peer_address) for each in update.reach):
            if reach.family in self.ribs:
                if reach.family in peer.amid:
                    peer.amid[reach.family] = True
                told = reach if peer.peering.internal else self._ordinary(reach)
                self._reach(peer, told)
        if update.end_of_rib in self.ribs and not peer.amid.get(update.end_of_rib):
            self._ended(peer, update.end_of_rib)

    def _ordinary(self, reach: Reach) -> Reach:
        """What another AS tells has the ordinary priority: filters may give it a higher one, or a lower."""
        attributes = reach.attributes
        if attributes.local_pref is not None:
            return reach
        normal = self.bounds.normal_priority[reach.family != IPV4_UNICAST]
        raw = attributes.rewritten({AttributeCode.LOCAL_PREF: local_pref_of(normal).to_bytes(4, "big")})
        return reach._replace(attributes=AttributeSet.of(raw, attributes.next_hop))

    def _reach(self, peer: PeerIn, reach: Reach) -> None:
        rib = self.ribs[reach.family]
        loop = self._loop(peer, reach.attributes)
        groups: dict[tuple[AttributeSet, str | None], list[bytes]] = {}
        received = rib.received(peer.source)
        taken = self._taken(peer)
        for nlri in dict.fromkeys(reach.nlri):  # one told twice is one
            attributes, ineligible = reach.attributes, loop
            if ineligible is None and nlri == _DEFAULT_ROUTE and not self.bounds.accept_default:
                ineligible = "a default route is not accepted (acceptDefault)"
            if ineligible is None and peer.peering.import_policy.filters:
                attributes, ineligible = self._filtered(peer, reach.family, nlri, attributes)
            counted = _counts(received.get(nlri))
            if ineligible is None and not counted:
                ineligible = self._over(peer, reach.family, nlri, taken)
            taken += (ineligible is None) - counted
            groups.setdefault((attributes, ineligible), []).append(nlri)
        peer.taken = taken
        for (attributes, ineligible), nlris in groups.items():
            rib.announce(peer.source, attributes, nlris, ineligible=ineligible)

    def _taken(self, peer: PeerIn) -> int:
        """How many routes of a peer count."""
        if peer.taken is None:
            received = (rib.received(peer.source) for rib in self.ribs.values())
            peer.taken = sum(_counts(path) for paths in received for path in paths.values())
        return peer.taken

    def with_room(self, now: float) -> list[str]:
        """The peers of whom routes were too many, and would no longer be: to be asked to say it all again."""
        found = []
        for address, peer in self.peers.items():
            if not peer.over_limit or not peer.up or now < peer.ask_at:
                continue
            peer.ask_at = now + _ROOM_EVERY
            limit = peer.peering.max_prefixes
            if (limit is None or self._taken(peer) < limit) and self._routes() < self.bounds.max_routes:
                received = (rib.received(peer.source) for rib in self.ribs.values())
                peer.over_limit = any(_too_many(path) for paths in received for path in paths.values())
                if peer.over_limit:
                    found.append(address)
        return found

    def _routes(self) -> int:
        return sum(len(rib.best) for rib in self.ribs.values())

    def _over(self, peer: PeerIn, family: Family, nlri: bytes, taken: int) -> str | None:
        """Why one more prefix is too many, if it is. ``taken``: of this peer's."""
        limit, most = peer.peering.max_prefixes, self.bounds.max_routes
        if limit is not None and taken >= limit:
            peer.over_limit = True
            return f"more than {limit} {_TOO_MANY[0]}"
        if nlri in self.ribs[family].best or (family, nlri) in self._undecided:
            return None
        if self._routes() + len(self._undecided) >= most:
            peer.over_limit = True
            return f"more than {most} {_TOO_MANY[1]}"
        self._undecided.add((family, nlri))
        return None

    def _loop(self, peer: PeerIn, attributes: AttributeSet) -> str | None:
        """Why a route must not be used whatever the policy: it has been here already, or leads nowhere."""
        bounds = self.bounds
        ours = Speaker(peer.peering.local_asn, bounds.bgp_identifier, bounds.cluster_id or b"")
        return ineligibility(attributes, ours, peer.peering.allowed_own_as)

    def _filtered(
        self, peer: PeerIn, family: Family, nlri: bytes, attributes: AttributeSet
    ) -> tuple[AttributeSet, str | None]:
        normal = self.bounds.normal_priority[0 if family == IPV4_UNICAST else 1]
        facts = facts_of(nlri, family, attributes, normal)
        decision = peer.peering.import_policy.decide(facts)
        if not decision.accept:
            return attributes, decision.reason
        try:
            return changed(attributes, decision), None
        except UnsendableError as error:
            return attributes, f"{decision.reason}: {error}"

    def _ended(self, peer: PeerIn, family: Family) -> None:
        peer.awaited.discard(family)
        peer.ended.add(family)
        peer.taken = None
        peer.long_lived_until.pop(family, None)
        self.ribs[family].sweep_stale(peer.source)

    # time

    def tick(self, now: float) -> None:
        """Let go what has waited long enough."""
        if not self.bounds.keep_when_lost:
            self._resume(self.peers.values(), now)
        for peer in self.peers.values():
            if peer.up and peer.awaited and now >= peer.sync_by:
                peer.awaited.clear()
            if peer.stale_until is not None and now >= peer.stale_until and not peer.held:
                since, peer.stale_until, peer.taken = peer.stale_until, None, None
                for family, rib in self.ribs.items():
                    if peer.up:
                        rib.sweep_stale(peer.source)
                        peer.long_lived_until.pop(family, None)
                    elif (seconds := peer.long_lived.get(family, 0)) > 0:
                        rib.revise(peer.source, long_lived_stale, stale_only=True)
                        peer.long_lived_until.setdefault(family, since + seconds)
                    else:
                        rib.drop(peer.source)
            for family, until in list(peer.long_lived_until.items()):
                if now >= until and peer.stale_until is None and not peer.held:
                    del peer.long_lived_until[family]
                    peer.taken = None
                    self.ribs[family].drop(peer.source)
            peer.recalled = peer.recalled and peer.away

    def next_timer(self) -> float | None:
        return min(self._times(), default=None)

    def _times(self) -> Iterator[float]:
        for peer in self.peers.values():
            if peer.up and peer.awaited:
                yield peer.sync_by
            if peer.held:
                continue
            if peer.stale_until is not None:
                yield peer.stale_until
            else:
                yield from peer.long_lived_until.values()

    # what follows

    @property
    def synced(self) -> bool:
        """Every session that is up has told everything (or been given time enough)."""
        return all(peer.synced for peer in self.peers.values() if peer.up)

    @property
    def unheard(self) -> bool:
        """Whether there are peers whose routes none that is up could have told instead of them."""
        if self.bounds.keep_when_lost:
            return any(self._alone(peer) for peer in self.peers.values())
        if any(peer.up for peer in self.peers.values()):
            return False
        return any(peer.recalled or not self._reminded for peer in self.peers.values())

    def take_changes(self) -> dict[Family, Changes]:
        self._undecided.clear()
        return {family: rib.take_changes() for family, rib in self.ribs.items()}

    def next_hops(self, family: Family, nlri: bytes) -> tuple[bytes, ...]:
        """The next hops of a prefix: of all paths equally good (ECMP).

        What a peer that is away said last counts only where none that is up says as much: a block that
        moved while a reflector was dead must not be shared between its old node and its new one.
        """
        rib = self.ribs[family]
        best = rib.best.get(nlri)
        if best is not None and len(rib.candidates(nlri)) == 1:  # nearly always
            return (best.attributes.next_hop,)
        paths = rib.multipath(nlri)
        up = {peer.source for peer in self.peers.values() if peer.up}
        present = [path for path in paths if path.source in up]
        return tuple(sorted({path.attributes.next_hop for path in present or paths}))

    def _reconsider(self, peer: PeerIn) -> None:
        """`peer` came or went, which changes what its paths count beside others."""
        for rib in self.ribs.values():
            rib.reconsider([nlri for nlri in rib.received(peer.source) if len(rib.candidates(nlri)) > 1])


def _counts(path: Path | None) -> bool:
    """Whether a path is one that is taken."""
    return path is not None and path.ineligible is None


def _too_many(path: Path) -> bool:
    """Whether a path is refused for that reason alone."""
    return path.ineligible is not None and path.ineligible.endswith(_TOO_MANY)


def _reception(peering: Peering) -> tuple[object, ...]:
    """What decides which of a peer's routes count."""
    return peering.import_policy, peering.allowed_own_as, peering.max_prefixes


class _Filter:
    """For `LocRib.revise`: takes out paths by way of certain next hops."""

    def __init__(self, next_hops: frozenset[bytes]) -> None:
        self._next_hops = next_hops

    def __call__(self, path: Path) -> Path | None:
        return None if path.attributes.next_hop[:16] in self._next_hops else path
