"""The reflector without its sockets: members, RIBs, update groups, graceful restart.

A *member* is a peer with an Established session, or one whose routes are kept through its restart.
This module is told what sessions report and what time it is; it answers with cursors to read from.
It does no I/O, so every rule of reflection, of refresh and of restart can be tested without a socket.

RFC 4456 (reflection), RFC 4724 and RFC 8538 (graceful restart, as helper and as restarting speaker),
RFC 9494 (long-lived), RFC 2918 and RFC 7313 (refresh), RFC 7911 (add-path), RFC 8212 (no policy), RFC 9234
(roles).

A policy that changes needs no new session: for import the peer is asked to send everything again
(`change` says so), for export the member moves to another update group and is told the difference.
"""

from collections.abc import Collection, Iterable

from bgpd.rib.export_log import Buffer, Cursor
from bgpd.rib.loc_rib import PATH_ID_OCTETS, LocRib, Received
from bgpd.rib.path import Path, Source, SourceKind
from bgpd.rib.reflection import (
    Speaker,
    ineligibility,
    long_lived_stale,
)
from bgpd.rib.update_group import UpdateGroup
from bgpd.session.events import Established
from bgpd.wire.capabilities import Negotiated
from bgpd.wire.iana import RefreshSubtype
from bgpd.wire.messages import RouteRefresh, encode
from bgpd.wire.nlri import IPV4_UNICAST, IPV6_UNICAST, Family
from bgpd.wire.update import Told, encode_end_of_rib, encode_withdrawals
from reflector.admission import external, filtered
from reflector.deferral import Deferral
from reflector.groups import Groups
from reflector.guests import Guests
from reflector.member import GroupKey, Member, MemberOptions, Reading

FAMILIES = (IPV4_UNICAST, IPV6_UNICAST)
READ_OCTETS = 1 << 18  # how much a peer is given at a time, so that many peers take turns
STALE_PATH_TIME = 360.0  # seconds a peer that came back may take until End-of-RIB (RFC 4724 4.2)
REFRESH_TIME = 360.0  # seconds from the beginning to the end of a route refresh (RFC 7313 4)
REFRESH_RATE = 1 << 22  # octets per second that are encoded anew only because peers ask for everything again


class Reflector:
    """The RIBs of one speaker and the peers that take part in them."""

    def __init__(
        self, speaker: Speaker, *, started: float, deferral: float = 0.0, unexpected_clients: bool = False
    ) -> None:
        """`deferral`: for how many seconds at most End-of-RIB is held back after the start."""
        self.speaker = speaker
        self.ribs = {family: LocRib(family) for family in FAMILIES}
        self.members: dict[str, Member] = {}
        self.groups = Groups(speaker, self.ribs)
        self.deferral = Deferral(started, deferral, unexpected_clients=unexpected_clients)
        self.changes = 0
        self.defects: dict[str, Exception] = {}
        """Members who cannot be told what changed; their sessions must end."""
        self.paths_refused = 0
        self._guests = Guests()
        self._now = started
        self._refresh_from: dict[GroupKey, float] = {}
        self._refresh_waits = False
        self._difference: tuple[UpdateGroup, UpdateGroup | None, int, bytes] | None = None

    @property
    def draining(self) -> bool:
        """Whether everything is told as the last resort (RFC 8326)."""
        return self.groups.draining

    # Sessions

    def established(
        self,
        name: str,
        options: MemberOptions,
        address: str,
        event: Established,
        now: float,
        local_address: bytes = b"",
    ) -> Member:
        """A session came up: a new member, or the return of one whose routes were kept."""
        self.flush()
        self.deferral.stirred(now)
        member = self.members.get(name)
        identifier, negotiated = event.open.bgp_identifier, event.negotiated
        if member is not None and not self._same(member, options, identifier, event.asn):
            self.forget(member)
            member = None
        if member is None:
            source = Source(options.kind, address, identifier, event.asn, name)
            member = self.members[name] = Member(name, source, options)
        self._stop_reading(member)
        self._returned(member, negotiated, now)
        member.options = options
        member.local_address = local_address
        member.negotiated = negotiated
        member.up_at = member.news_at = now
        member.adds_paths = negotiated.add_path_receive
        member.awaiting_eor = set(negotiated.families) if negotiated.graceful_restart is not None else set()
        member.heard_eor.clear()
        member.overfull.clear()
        member.wanted_again.clear()
        self.flush()
        for family in FAMILIES:
            if family in negotiated.families:
                if options.tells:
                    member.readings[family] = self._join(member, family)
                else:
                    member.control += encode_end_of_rib(family)
        return member

    def _join(self, member: Member, family: Family) -> Reading:
        key, group = self.groups.of(member, family)
        cursor = group.join(member.source)
        return Reading(key, group, cursor, group.log.position)

    @staticmethod
    def _same(member: Member, options: MemberOptions, identifier: bytes, asn: int) -> bool:
        source = member.source
        return source.kind is options.kind and source.bgp_identifier == identifier and source.asn == asn

    def _returned(self, member: Member, negotiated: Negotiated, now: float) -> None:
        """What the peer says it kept decides what is still kept for it (RFC 4724 4.2, RFC 9494 4.2).

        The restart timer has done its work; from now on another one bounds the wait for End-of-RIB. The
        long-lived timer goes on running.
        """
        restart = negotiated.graceful_restart
        kept = {family for family, forwarding in restart.families if forwarding} if restart else set()
        long_lived = {family for family, forwarding, _ in negotiated.long_lived if forwarding}
        for family in {*member.stale_until, *member.long_lived_until}:
            waiting = family in member.stale_until
            same_items = (family in member.adds_paths) == (family in negotiated.add_path_receive)
            if family in negotiated.families and same_items and family in (kept if waiting else long_lived):
                if waiting:
                    member.stale_until[family] = now + STALE_PATH_TIME
                    member.long_lived_until.pop(family, None)
            else:
                self._sweep(member, family)

    def change(self, member: Member, options: MemberOptions) -> bool:
        """Take new options of a live session; whether the peer must be asked to send everything again."""
        before, member.options = member.options, options
        if options.export_side != before.export_side and member.negotiated is not None:
            for family in FAMILIES:
                if family in member.readings:
                    member.readings[family].moving = True
                elif options.tells and family in member.negotiated.families:
                    self.flush()
                    member.readings[family] = self._join(member, family)
                    member.readings[family].eor_at = None
        return options.import_side != before.import_side

    def closed(
        self, member: Member, retain: Collection[Family], now: float, *, crossed: bool = False
    ) -> None:
        """A session ended. `retain`: the families whose routes may be kept as stale (RFC 4724 4.2).

        `crossed`: it lost against another one that is on its way, which is no restart of the peer's.
        """
        negotiated = member.negotiated
        self._stop_reading(member)
        member.negotiated, member.lasted = None, now - member.up_at
        member.awaiting_eor.clear()
        member.heard_eor.clear()
        member.refresh_until.clear()
        restart = negotiated.graceful_restart if negotiated is not None else None
        long_lived = {family: seconds for family, _, seconds in negotiated.long_lived} if negotiated else {}
        for family, rib in self.ribs.items():
            kept = (
                family in retain and negotiated is not None and (restart is not None or family in long_lived)
            )
            # Its long-lived time goes on (RFC 9494 4.2: not set anew before the peer has told everything).
            lingers = kept and family in long_lived and member.long_lived(family)
            if member.returning(family) and not lingers and not (kept and crossed):
                self._sweep(member, family)  # what was not confirmed before the next end is gone
            if not kept or not rib.received(member.source):
                rib.drop(member.source, add_path=family in member.adds_paths)
                member.long_lived_until.pop(family, None)
                continue
            rib.mark_stale(member.source)
            if lingers:
                self._make_long_lived(member, family)
                continue
            # A family of the long-lived capability alone has no restart time before (RFC 9494 4.2).
            restarts = restart is not None and any(family == known for known, _ in restart.families)
            seconds = restart.restart_time if restart is not None and restarts else 0
            member.stale_until[family] = now + seconds
            lifetime = min(long_lived.get(family, 0), member.options.long_lived_stale_time)
            if lifetime:
                member.long_lived_until[family] = now + seconds + lifetime
        if not member.stale_until and not member.long_lived_until:
            del self.members[member.name]

    def forget(self, member: Member) -> None:
        """Take a peer out with everything it said."""
        self._stop_reading(member)
        for family, rib in self.ribs.items():
            rib.drop(member.source, add_path=family in member.adds_paths)
        self.members.pop(member.name, None)

    def forget_guests(self) -> list[Member]:
        """Take out who is away and nobody named, beyond what there is room for; whom."""
        surplus = self._guests.surplus(self.members.values(), self.deferral.expected)
        for member in surplus:
            self.forget(member)
        return surplus

    def _stop_reading(self, member: Member) -> None:
        for reading in member.readings.values():
            self._leave(reading)
        member.readings.clear()
        member.control.clear()
        self.defects.pop(member.name, None)

    def _leave(self, reading: Reading) -> None:
        if self.groups.leave(reading):
            self._difference = None

    # What a peer says

    def update(self, member: Member, updates: Iterable[Told]) -> None:
        """Take in UPDATEs; nothing is decided or sent before `flush`."""
        if member.negotiated is None:
            return
        member.news_at = max(member.news_at, self._now)
        source, options, speaker, ribs = member.source, member.options, self.speaker, self.ribs
        add_path, allowed = member.adds_paths, options.allowed_own_as
        checked = options.kind is SourceKind.EXTERNAL or options.local_asn is not None
        learned: dict[Family, list[Received]] = {family: [] for family in ribs}
        coming: dict[tuple[Family, bytes], set[bytes]] = {}  # of `learned`, what has identifiers, by prefix

        def learn() -> None:
            for family, routes in learned.items():
                if routes:
                    ribs[family].learn(source, routes, add_path=family in add_path)
                    routes.clear()
            coming.clear()

        current: Family | None = None
        routes: list[Received] | None = None  # of the current family
        waiting = False  # whether there is anything to learn
        leaving: Family | None = None
        gone: list[bytes] = []  # of that family, withdrawn by UPDATEs in a row
        for reach, unreach, end_of_rib, _errors in updates:
            if unreach:
                if waiting:
                    learn()
                    waiting = False
                for family, items in unreach:
                    if family is not leaving:
                        self._withdraw(member, leaving, gone)
                        leaving, gone = family, []
                    gone += items
            if gone and (reach or end_of_rib is not None):
                self._withdraw(member, leaving, gone)
                gone = []
            for family, attributes, items, raw in reach:
                waiting = True
                if family is not current:
                    current, routes = family, learned.get(family)
                if routes is None:
                    continue
                kept = items
                if add_path and family in add_path:
                    kept = self._within_limit(member, family, items, coming)
                received, reason = attributes, ineligibility(attributes, speaker, allowed)
                if checked:
                    received, reason = external(member, received, reason)
                if options.import_filters:
                    routes += filtered(member, family, received, kept, reason)
                else:
                    routes.append((received, kept, raw, reason))
            if end_of_rib is not None:
                learn()
                self._end_of_rib(member, end_of_rib)
        self._withdraw(member, leaving, gone)
        learn()

    def _withdraw(self, member: Member, family: Family | None, items: list[bytes]) -> None:
        if family is None or not items:
            return
        if family in self.ribs:
            self.ribs[family].withdraw(member.source, items, add_path=family in member.adds_paths)
        if family in member.overfull:
            self._less_full(member, family, items)

    def _within_limit(
        self,
        member: Member,
        family: Family,
        items: list[bytes],
        coming: dict[tuple[Family, bytes], set[bytes]],
    ) -> list[bytes]:
        """What a peer may say besides what it has said: so many paths of one prefix, and no more (RFC 7911).

        What is kept of before its restart counts when it is said again. What is not taken in is counted and
        its prefix noted; see `_less_full`. `coming` is yet to be learned.
        """
        rib, limit = self.ribs[family], member.options.path_limit
        anew = member.returning(family)
        known, kept = rib.confirmed(member.source) if anew else rib.received(member.source), []
        for item in items:
            nlri = item[PATH_ID_OCTETS:]
            if item not in known:
                new = coming.setdefault((family, nlri), set())
                if len(new) + rib.held(member.source, nlri, anew) >= limit and item not in new:
                    self.paths_refused += 1
                    member.overfull.setdefault(family, set()).add(nlri)
                    continue
                new.add(item)
            kept.append(item)
        return kept

    @staticmethod
    def _less_full(member: Member, family: Family, items: list[bytes]) -> None:
        """A peer withdrew paths: if others of those prefixes were not taken in, it will be asked for them."""
        noted = member.overfull[family]
        gone = noted.intersection(item[PATH_ID_OCTETS:] for item in items)
        if gone:
            noted -= gone
            member.wanted_again.add(family)

    def _end_of_rib(self, member: Member, family: Family) -> None:
        member.awaiting_eor.discard(family)
        member.heard_eor.add(family)
        if member.returning(family):
            self._sweep(member, family)

    def _sweep(self, member: Member, family: Family) -> None:
        member.stale_until.pop(family, None)
        member.long_lived_until.pop(family, None)
        member.refresh_until.pop(family, None)
        swept = self.ribs[family].sweep_stale(member.source, add_path=family in member.adds_paths)
        if swept and member.overfull.get(family):  # there may be room now
            member.overfull[family].clear()
            member.wanted_again.add(family)

    def refresh(self, member: Member, family: Family, subtype: int, now: float) -> None:
        """A ROUTE-REFRESH: send all again, or mark the beginning or end of the peer's own re-sending.

        The marks mean nothing before the peer's End-of-RIB, nor an end without a beginning (RFC 7313 4).
        """
        rib = self.ribs.get(family)
        if rib is None:
            return
        if subtype == RefreshSubtype.BEGIN:
            if family not in member.awaiting_eor:
                rib.mark_stale(member.source)
                member.refresh_until[family] = now + REFRESH_TIME
        elif subtype == RefreshSubtype.END:
            if family in member.refresh_until:
                self._sweep(member, family)
        else:
            reading = member.readings.get(family)
            if reading is not None:
                reading.refresh_due = True

    # Time

    def tick(self, now: float) -> bool:
        """Do what is due: stale routes whose time is over, the end of the start-up deferral.

        Whether there may be something to flush or to send.
        """
        self._now = now
        stirred, self._refresh_waits = self._refresh_waits, False
        if self._refresh_from:
            self._refresh_from = {key: at for key, at in self._refresh_from.items() if at > now}
        for member in list(self.members.values()):
            for family, until in list(member.refresh_until.items()):
                if now >= until:
                    self._sweep(member, family)
                    stirred = True
            if not member.stale_until and not member.long_lived_until:
                continue
            stirred = True
            for family, until in list(member.stale_until.items()):
                if now < until:
                    continue
                del member.stale_until[family]
                if family in member.long_lived_until and not member.established:
                    self._make_long_lived(member, family)
                else:
                    self._sweep(member, family)
            for family, until in list(member.long_lived_until.items()):
                if family not in member.stale_until and now >= until:
                    self._sweep(member, family)
            if not member.established and not member.stale_until and not member.long_lived_until:
                self.forget(member)
        return self.deferral.ends(self.members, now) or stirred

    def _make_long_lived(self, member: Member, family: Family) -> None:
        """The restart time is over, the long-lived time begins (RFC 9494 4.2)."""
        self.ribs[family].revise(
            member.source, long_lived_stale, stale_only=True, add_path=family in member.adds_paths
        )

    # What peers are told

    def drain(self, draining: bool = True) -> None:
        """Tell everybody everything again, as the last resort, so that traffic moves away (RFC 8326).

        With False everything is told as it is.
        """
        if self.draining is draining:
            return
        self.flush()
        self.groups.drain(draining)
        for member in self.members.values():
            self.tell_again(member)

    @staticmethod
    def tell_again(member: Member) -> None:
        """Have a member told everything it is told, from the beginning."""
        for reading in member.readings.values():
            reading.refresh_due = True

    def flush(self) -> bool:
        """Decide, and append to the logs what changed; whether anything did."""
        changed = False
        for family, rib in self.ribs.items():
            changes = rib.take_changes()
            if not changes:
                continue
            changed = True
            self.changes += 1
            failed = self.groups.apply(family, changes)
            if failed:
                self._difference = None
                for member in self.members.values():
                    reading = member.readings.get(family)
                    if reading is not None and reading.group in failed:
                        self.defects[member.name] = failed[reading.group]
        return changed

    def take(self, member: Member, limit: int = READ_OCTETS) -> list[Buffer]:
        """The next whole messages for a member; empty when it has everything."""
        buffers: list[Buffer] = []
        if member.control:
            buffers.append(bytes(member.control))
            member.control.clear()
        for family, reading in list(member.readings.items()):
            self._read(member, family, reading, limit, buffers)
        if len(member.readings) > 1:
            first = next(iter(member.readings))
            if member.readings[first].cursor.behind:  # its turn was not enough; the next is another's
                member.readings[first] = member.readings.pop(first)
        return buffers

    def _read(
        self, member: Member, family: Family, reading: Reading, limit: int, buffers: list[Buffer]
    ) -> None:
        """Read on in the log of one family, and what its end is followed by: End-of-RIB, marks, a move."""
        negotiated = member.negotiated
        enhanced = negotiated is not None and negotiated.enhanced_refresh
        while True:
            cursor = reading.cursor
            while cursor.behind and not buffers:
                buffers += cursor.take(limit)
            eor_at = reading.eor_at
            # Moved to a catch-up chain, a cursor may stand behind `eor_at` with most yet to be told.
            position = reading.group.log.position
            passed = eor_at is not None and cursor.lag <= position - max(eor_at, cursor.floor)
            if passed and self.deferral.until is None:
                reading.eor_at = None
                buffers.append(encode_end_of_rib(family))
            if cursor.behind:
                return
            if reading.refreshing:
                reading.refreshing = False
                if enhanced:
                    buffers.append(encode(RouteRefresh(family, RefreshSubtype.END)))
            if reading.moving:
                withdrawals = self._move(member, family, reading)
                if withdrawals:
                    buffers.append(withdrawals)
                if family not in member.readings:
                    if reading.eor_at is not None:  # it was held back; now there is nothing left to wait for
                        buffers.append(encode_end_of_rib(family))
                    return
                continue
            # A peer that was offered graceful restart ignores marks before End-of-RIB (RFC 7313 4), whatever
            # it offers itself.
            if not reading.refresh_due or (enhanced and reading.eor_at is not None):
                return
            # One family after the other: some peers keep a single mark for all of them (FRR 8 does).
            if enhanced and any(other.refreshing for other in member.readings.values()):
                return
            if self.flush():  # news of this moment: withdrawals are not in a table that begins again
                continue
            if not self._renew(reading):
                return
            reading.refresh_due, reading.refreshing = False, True
            if enhanced:
                buffers.append(encode(RouteRefresh(family, RefreshSubtype.BEGIN)))
            reading.group.log.restart(cursor)

    def _renew(self, reading: Reading) -> bool:
        """Have the log begin with the present state, so that who starts again is not taken back in time.

        Nothing must have been taken in since the last `flush`. False when the log was written anew too
        recently for the sake of a peer that asks again and again.
        """
        log = reading.group.log
        if log.dead or not log.whole:
            if self._refresh_from.get(reading.key, self._now) > self._now:
                self._refresh_waits = True
                return False
            log.rebase()
            self._refresh_from[reading.key] = self._now + log.octets / REFRESH_RATE
        return True

    def _move(self, member: Member, family: Family, reading: Reading) -> bytes:
        """Change groups, if everything is read; what is not told any more, as withdrawals."""
        self.flush()
        if reading.cursor.behind:
            return b""
        reading.moving = False
        before, version = reading.group, self.ribs[family].version
        after: UpdateGroup | None = None
        cursor: Cursor | None = None
        if member.options.tells:
            key, after = self.groups.of(member, family)
            if after is before:
                return b""
            cursor = after.join(member.source)
        known = self._difference
        if known is None or known[:3] != (before, after, version):
            gone = before.no_longer_told(after)
            data = b"".join(encode_withdrawals(family, gone, before.max_length))
            known = self._difference = (before, after, version, data)
        self._leave(reading)
        if after is None or cursor is None:
            del member.readings[family]
        else:
            reading.key, reading.group, reading.cursor = key, after, cursor
            if reading.eor_at is not None:
                reading.eor_at = after.log.position
        return known[3]

    # What can be asked

    def told(self, member: Member, family: Family, nlri: bytes) -> Path | None:
        """The path of a prefix that a member has when it has read everything, None if it has none."""
        reading, path = member.readings.get(family), self.ribs[family].best.get(nlri)
        if reading is None or path is None or path.source is member.source:
            return None
        return path if reading.group.advert(nlri, path) is not None else None

    def advertised_count(self, member: Member, family: Family) -> int:
        """How many prefixes a member has when it has read everything; an upper bound where its group is not
        told all that is the best: by filters, communities, roles, as a non-client, long-lived stale. To count
        those, every prefix would have to be looked at for each question.
        """
        reading, rib = member.readings.get(family), self.ribs[family]
        if reading is None:
            return 0
        return len(rib) - rib.best_count(member.source)
