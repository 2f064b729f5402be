"""The kernel's forwarding table kept as wanted: dumps, batches, notifications and repair around `Delta`.

Declare with `want`, and the writes follow. Everything that happens to our routes without us (somebody
deletes or alters one, an interface takes its routes along) is seen by notification and put right; a link
that goes down, or loses an address, drops IPv4 routes without saying so, and is answered by a full look (any
other event of links by a look at the links alone); so is a nexthop object (ip-nexthop(8)) of others' routes
that goes, and a link that loses its carrier and those objects with it, or goes when it was down and takes a
multipath route along; and a full look is also taken every so often, and whenever notifications were lost.

Routes are ours by protocol number and table. Creation uses NLM_F_EXCL, so that even a foreign route that
appeared a moment ago is not overwritten; replacement is used only where our own route was seen and is atomic;
removal names our protocol number, so that the kernel itself refuses to remove another's. A prefix that is
wanted at another metric than before stands at both for a moment, and never at neither; where another's stands
at the new one, it stays at the old one and leads where it would lead there.

IPv6 makes one multipath route of ours and of what somebody appends at its place, shows it under one
protocol number, and would replace or remove it whole. So what was added to what we wrote is taken for
another's, who has the place by now; and hops that we take out are named one by one: each of them has kept the
protocol number it came with.

With ``dry_run`` nothing is written and `wanted` tells what would be; links and routes are read all the same.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import itertools
import os
import socket
from collections.abc import Callable, Iterator, Set
from dataclasses import replace

import structlog

from agent.kernel import message
from agent.kernel.delta import Delta, Drop, Put
from agent.kernel.link import DELADDR, DELLINK, NEWLINK, Link, Links
from agent.kernel.message import ANY, Place, RouteEntry
from agent.kernel.netlink import BATCH, KernelError, Monitor, RouteSocket
from agent.kernel.resolve import Learned, Resolver
from agent.kernel.route import KernelRoute, RouteType, unicast, workload
from bgpd.wire.nlri import IPV4_UNICAST, IPV6_UNICAST, prefix_of

FAMILIES: tuple[int, ...] = (socket.AF_INET, socket.AF_INET6)
_MAIN, _LOCAL = 254, 255
_SETTLE = 0.02  # seconds a burst of link or route events may last before it is answered
_LONGEST_SETTLE = 1.0  # where an answer takes longer: as long as the last one took
_RETRY = 1.0  # seconds before refused routes are tried again
_RETRY_EACH = 0.001  # and for each of them, a hundred times what a try takes, while nothing else changes
_NAMED = 5  # of many routes
_NLM_F_REPLACE, _NLM_F_APPEND = 0x100, 0x800

log = structlog.get_logger("agent.kernel")
Spot = tuple[bytes, int]  # NLRI and metric
Change = Put[Spot, KernelRoute] | Drop[Spot, KernelRoute]


class Fib:
    """One routing table of the kernel. ``changed`` is called with the next hops that lead elsewhere, and with
    none when something else has changed: interfaces, or routes that no next hop leads by way of.
    """

    def __init__(
        self,
        place: Place,
        learned: Learned,
        changed: Callable[[Set[bytes]], None],
        *,
        dry_run: bool = False,
        default_route: bool = True,
        compare_every: float = 60.0,
    ) -> None:
        self.place = place
        self.dry_run = dry_run
        self.resolver = Resolver(learned, default_route=default_route)
        self.links = Links({}, frozenset(), frozenset(), frozenset())
        self.deltas = {family: Delta[Spot, KernelRoute]() for family in FAMILIES}
        self.drift = 0  # routes of ours found altered or gone, since the start
        self._drifted: list[tuple[int, bytes]] = []  # of which nothing was said yet
        self.writes = 0
        self.failures: dict[tuple[int, Spot], str] = {}
        self.ready = asyncio.Event()
        self.applied: Callable[[bool], None] = lambda _: None  # a round of writing is over; whether all went
        # An interface, by its index, is down or (True) removed, though it may be back when anybody looks.
        self.went: Callable[[int, bool], None] = lambda *_: None
        self._changed = changed
        self._compare_every = compare_every
        self._socket = RouteSocket()
        self._monitor: Monitor | None = None
        self._elsewhere: dict[tuple[int, bytes], int] = {}  # wanted, but not at the ordinary metric
        self._kept: dict[tuple[int, bytes], int] = {}  # not at its metric yet → the former one
        self._spared: set[tuple[int, bytes]] = set()  # unwanted, and to stay all the same
        self._forsaken: Set[bytes] = frozenset()
        # The node's routes, not the agent's, by family, NLRI, table and metric: there may be several of one.
        self._own: dict[tuple[int, bytes, int, int], dict[tuple[KernelRoute, int], RouteEntry]] = {}
        self._objects: set[int] = set()  # the nexthop objects these have their hops from
        self._shared: set[int] = set()  # and the interfaces of those, and of multipath routes
        self._meanwhile: list[tuple[bool, int, RouteEntry]] | None = None  # seen during a full look
        self._told_blocked: set[tuple[int, bytes]] = set()
        self._wake = asyncio.Event()
        self._look = True
        self._look_at_links = False
        self._raised: set[int] = set()  # interfaces on which there may be routes
        self._lowered: set[int] = set()  # those that went since the last full look, with the routes on them
        self._resolve = False
        self._answer_at = 0.0  # events wait until then
        self._soon: dict[tuple[int, Spot], None] = {}  # to be written before all else
        self._refused: set[tuple[int, Change]] = set()  # until when they are tried again:
        self._retry_at = 0.0
        self._unwritten = False  # the kernel took not even the message

    # declarations

    def want(
        self,
        family: int,
        nlri: bytes,
        route: KernelRoute | None,
        metric: int | None = None,
        *,
        soon: bool = False,
    ) -> None:
        """``metric``: where it shall stand if not at the ordinary one. ``soon``: not after a whole table."""
        ordinary, delta = self.place.metric, self.deltas[family]
        wanted = metric if metric and route is not None else ordinary
        former = self._elsewhere.pop((family, nlri), ordinary)
        if former != wanted:
            if (family, nlri) not in self._kept and (nlri, former) in delta.actual:
                self._kept[family, nlri] = former
            else:
                delta.want((nlri, former), None)
        if route is not None:
            self._spared.discard((family, nlri))
        if wanted != ordinary:
            self._elsewhere[family, nlri] = wanted
        delta.want((nlri, wanted), route)
        if (family, nlri) in self._kept:
            self._follow(family, nlri)
        if soon:
            changing = (at for at in (former, wanted) if delta.due((nlri, at)) is not None)
            self._soon.update(((family, (nlri, at)), None) for at in changing)
        self._wake.set()

    def workload(self, interface: str) -> KernelRoute | None:
        """The route to a workload behind an interface, if that exists."""
        index = self.links.indexes.get(interface)
        return workload(index) if index is not None and index in self.links.up else None

    def sweep(self, *, sparing: bool = False) -> None:
        """Routes nobody wants may go: only with a complete picture of what is wanted.

        ``sparing`` what is left of a former life, prefix by prefix until it is wanted again or `forsake`n, or
        this is called without.
        """
        self._spared.clear()
        for family, delta in self.deltas.items():
            delta.sweeping = True
            if sparing:
                left = {nlri for nlri, _ in delta.actual} - {nlri for nlri, _ in delta.desired}
                self._spared |= {(family, nlri) for nlri in left}
        self.forsake(self._forsaken)

    def forsake(self, gateways: Set[bytes]) -> None:
        """What leads nowhere but to these is not spared, from now on."""
        self._forsaken = gateways
        for family, delta in self.deltas.items() if self._spared and gateways else ():
            for (nlri, _), route in delta.actual.items():
                if route.hops and all(hop.gateway in gateways for hop in route.hops):
                    self._spared.discard((family, nlri))
        self._wake.set()

    def wanted(self) -> Iterator[tuple[int, bytes, KernelRoute]]:
        for family, delta in self.deltas.items():
            for (nlri, _), route in delta.desired.items():
                yield family, nlri, route

    def others(self) -> Iterator[RouteEntry]:
        """The node's routes that are not the agent's."""
        return (entry for several in self._own.values() for entry in several.values())

    @property
    def settled(self) -> bool:
        return self.ready.is_set() and not self._look and not self._look_at_links and not self.pending

    @property
    def pending(self) -> bool:
        """Whether something is wanted that has not been written."""
        return next(self._pending(), None) is not None

    # life

    async def run(self) -> None:
        """Until cancelled; the routes stay (see `remove_all`)."""
        loop = asyncio.get_running_loop()
        self._monitor = Monitor(
            self._socket.port, self._route_event, self._link_event, self._next_hop_event, self.look_again
        )
        next_look = loop.time() + self._compare_every
        try:
            while True:
                begun = loop.time()
                answering = begun >= self._answer_at
                whole = (self._look and answering) or begun >= next_look
                if whole or (self._look_at_links and answering):
                    self._look = self._look_at_links = False
                    try:
                        if whole:
                            await self._observe()
                            next_look = loop.time() + self._compare_every
                        else:
                            self.links = await asyncio.to_thread(self._socket.links)
                            self._raised |= self.links.raised
                            self._resolve = True
                    except (KernelError, OSError) as error:
                        log.error("routes cannot be read", error=str(error))
                        self._look = True
                        await asyncio.sleep(_RETRY)
                        continue
                if self._resolve and (whole or answering):
                    self._resolve = False
                    self._retry_at = 0.0  # what was refused may be possible now
                    self._changed(self._tell_resolver())
                    self._answer_at = loop.time() + min(loop.time() - begun, _LONGEST_SETTLE)
                self.ready.set()
                self._wake.clear()
                self._tell_drifted()
                await self._apply()
                self._tell_blocked()
                if self._look or self._look_at_links or self._resolve:
                    await asyncio.sleep(_RETRY if self._unwritten else _SETTLE)
                    continue
                until = min(next_look, self._retry_at) if self._refused else next_look
                try:
                    async with asyncio.timeout_at(until):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            self._monitor.close()
            self._monitor = None

    def close(self) -> None:
        self._socket.close()

    # looking

    def look_again(self) -> None:
        self._look = True
        self._wake.set()

    def _link_event(self, kind: int, link: Link | None) -> None:
        """An interface, with None an address, has come, changed or gone."""
        self._look_at_links = True
        self._wake.set()
        if link is None:
            self._look = self._look or kind == DELADDR
            return
        if not link.usable and (link.index in self._shared or not self.ready.is_set()):
            self._look = True
        if link.up and kind == NEWLINK:
            self._raised.add(link.index)
        else:
            if link.index in self._raised:  # else no route was on it alone
                self._raised.remove(link.index)
                self._lowered.add(link.index)
                self._look = True
            self.went(link.index, kind == DELLINK)

    def _next_hop_event(self, identifier: int) -> None:
        """What becomes of routes by way of an object that goes, or is taken out of a group, is not told."""
        if identifier in self._objects or not self.ready.is_set():
            self.look_again()

    def _went(self, route: KernelRoute, lowered: Set[int] = frozenset()) -> bool:
        """Whether a route that is not there any more went with its interfaces: that is nobody's doing."""
        present = self.links.raised - lowered - self._lowered
        return bool(route.hops) and all(hop.interface not in present for hop in route.hops)

    def _interesting(self, entry: RouteEntry) -> bool:
        return entry.table in (_MAIN, self.place.table, _LOCAL if self.dry_run else _MAIN)

    def _ours(self, entry: RouteEntry) -> bool:
        return entry.protocol == self.place.protocol

    def _in_our_table(self, entry: RouteEntry) -> bool:
        return entry.table == self.place.table

    async def _observe(self) -> None:
        """The full look: links, addresses, every route; what others changed is now known.

        What happens meanwhile may be in what was read or not, so it is gone through once more afterwards.
        """
        self._meanwhile = []
        try:
            await self._look_at_all()
        finally:
            events, self._meanwhile = self._meanwhile, None
        for event in events:
            self._route_event(*event)
        self._objects, self._shared = set(), set()
        for entry in self.others():
            self._note(entry)
        self._resolve = True

    async def _look_at_all(self) -> None:
        lowered, self._lowered = self._lowered, set()
        self.links = await asyncio.to_thread(self._socket.links)
        self._raised |= self.links.raised
        self._own = {}
        for family in FAMILIES:
            ours: dict[Spot, KernelRoute] = {}
            foreign: set[Spot] = set()
            second: list[tuple[Spot, KernelRoute]] = []
            for entry in await asyncio.to_thread(self._socket.dump, family):
                spot = entry.nlri, entry.metric
                if self._ours(entry):
                    if self._in_our_table(entry) and spot in ours and family == socket.AF_INET:
                        second.append((spot, entry.route))
                    elif self._in_our_table(entry):
                        ours[spot], added = self._parted(entry)
                        if added is not None:
                            self._keep(replace(entry, route=added))
                            foreign.add(spot)
                elif self._interesting(entry):
                    self._keep(entry)
                    if self._in_our_table(entry):
                        foreign.add(spot)
            if not self.dry_run:
                delta = self.deltas[family]
                went_along = sum(
                    spot not in ours and self._went(route, lowered) for spot, route in delta.actual.items()
                )
                drift = delta.observe(ours, foreign) - went_along
                if self.ready.is_set() and drift:
                    self.drift += drift
                    log.warning("routes were changed by others", routes=drift)
                self._remove_second(family, second)

    def _remove_second(self, family: int, routes: list[tuple[Spot, KernelRoute]]) -> None:
        """Routes of our number beside ours: the kernel goes by the first, and that is the one we replace."""
        wanted = [each for each in routes if each[0] in self.deltas[family].desired]
        self._look = self._look or len(wanted) > BATCH
        named = [
            functools.partial(self._pack, message.RTM_DELROUTE, 0, family, spot, route)
            for spot, route in wanted[:BATCH]
        ]
        if named:
            self._socket.write(named)

    def _parted(self, entry: RouteEntry) -> tuple[KernelRoute, KernelRoute | None]:
        """What of a route under our protocol number is ours, and what somebody has added (IPv6)."""
        known = self.deltas[entry.family].actual.get((entry.nlri, entry.metric))
        if entry.family == socket.AF_INET6 and known is not None and known != entry.route:
            ours = set(known.hops).intersection(entry.route.hops)
            added = set(entry.route.hops) - ours
            if ours and added:
                return unicast(*ours), unicast(*added)
        return entry.route, None

    def _keep(self, entry: RouteEntry) -> None:
        key = (entry.family, entry.nlri, entry.table, entry.metric)
        self._own.setdefault(key, {})[entry.route, entry.protocol] = entry

    def _note(self, entry: RouteEntry) -> None:
        """What can take this route along without a word about it."""
        if entry.next_hop_id:
            self._objects.add(entry.next_hop_id)
        if entry.next_hop_id or len(entry.route.hops) > 1:
            self._shared.update(hop.interface for hop in entry.route.hops)

    def _tell_resolver(self) -> set[bytes]:
        usable = []
        for entry in self.others():
            if self.dry_run and entry.table == _LOCAL:
                local = KernelRoute(RouteType.UNICAST, entry.route.hops)
                usable.append(RouteEntry(entry.family, entry.nlri, entry.table, entry.metric, 0, local))
            else:
                usable.append(entry)
        addresses = frozenset[bytes]() if self.dry_run else self.links.addresses
        return self.resolver.changed(usable, self.links.up, addresses)

    def _route_event(self, new: bool, flags: int, entry: RouteEntry) -> None:
        self._note(entry)
        if self._meanwhile is not None:
            self._meanwhile.append((new, flags, entry))
            return
        if not self._interesting(entry):
            return
        delta, spot = self.deltas[entry.family], (entry.nlri, entry.metric)
        known = self._own.get((entry.family, entry.nlri, entry.table, entry.metric), {})
        if self._ours(entry):
            if known and new and flags & _NLM_F_REPLACE:
                self.look_again()  # perhaps it was theirs
            if self._in_our_table(entry) and not self.dry_run:
                if new and not flags & _NLM_F_REPLACE and entry.family == socket.AF_INET:
                    self._look = self._look or spot in delta.actual  # beside it
                if new and self._parted(entry)[1] is not None:
                    delta.occupied(spot, True)
                    self._look = True
                elif delta.observed(spot, entry.route if new else None) and (
                    new or not self._went(entry.route)
                ):
                    self.drift += 1
                    self._drifted.append((entry.family, entry.nlri))
                self._wake.set()
            return
        if not new:
            self._look = known.pop((entry.route, entry.protocol), None) is None or self._look
        else:
            if flags & _NLM_F_REPLACE:
                self._look = len(known) > 1 or self._look  # which of them?
                known.clear()
            elif known and entry.family == socket.AF_INET and not flags & _NLM_F_APPEND:
                self._look = True  # it stands before them
            self._keep(entry)
        if self._in_our_table(entry):
            delta.occupied(spot, new)
            if new and flags & _NLM_F_REPLACE:
                delta.observed(spot, None)
        if entry.family == socket.AF_INET6 and (flags & _NLM_F_APPEND or len(entry.route.hops) > 1):
            self._look = True  # IPv6 tells of multipath routes piece by piece
        self._resolve = True
        self._wake.set()

    # writing

    def _pending(self) -> Iterator[tuple[int, Change]]:
        for family, delta in self.deltas.items():
            for change in delta.pending():
                if isinstance(change, Put) or not self._stays(family, change.key[0]):
                    yield family, change

    def _due(self) -> Iterator[tuple[int, Change]]:
        """What is pending, but for what the kernel has just refused."""
        if not self._refused:
            return self._pending()
        return (each for each in self._pending() if each not in self._refused)

    def _due_soon(self) -> list[tuple[int, Change]]:
        """What need not wait: what one peer has changed, behind the whole table of another."""
        found = []
        for family, spot in list(itertools.islice(self._soon, BATCH)):
            del self._soon[family, spot]
            change = self.deltas[family].due(spot)
            staying = isinstance(change, Drop) and self._stays(family, spot[0])
            if change is not None and not staying and (family, change) not in self._refused:
                found.append((family, change))
        return found

    def _stays(self, family: int, nlri: bytes) -> bool:
        """Whether a prefix is spared, or wanted at a metric where it does not stand yet."""
        if (family, nlri) in self._spared:
            return True
        spot, delta = (nlri, self._elsewhere.get((family, nlri), self.place.metric)), self.deltas[family]
        return spot in delta.desired and spot not in delta.actual and not delta.is_occupied(spot)

    def _follow(self, family: int, nlri: bytes) -> None:
        """What is kept at its former metric leads where it is wanted to, and goes when the new one is had."""
        metric, delta = self._kept[family, nlri], self.deltas[family]
        spot = nlri, self._elsewhere.get((family, nlri), self.place.metric)
        route = delta.desired.get(spot)
        if route is None or spot in delta.actual:
            del self._kept[family, nlri]
            route = None
        if spot[1] != metric:
            delta.want((nlri, metric), route)

    async def _apply(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._retry_at <= now:
            self._refused.clear()
        for family, nlri in list(self._kept):
            self._follow(family, nlri)
        changes = list(self._due())
        refused: list[tuple[int, Change]] = []
        self._unwritten = False
        for start in range(0, len(changes), BATCH):
            if self._monitor is not None:
                self._monitor.read()  # who has come meanwhile shall not be overwritten
            refused += self._write(self._due_soon())
            chunk = changes[start : start + BATCH]
            refused += self._write([each for each in chunk if self.deltas[each[0]].still(each[1])])
            await asyncio.sleep(0)
        if refused and not self._refused:
            self._retry_at = now + max(_RETRY, len(refused) * _RETRY_EACH)
        self._refused.update(refused)
        if self.failures:
            due = {(family, change.key) for family, change in self._pending()}
            self.failures = {key: reason for key, reason in self.failures.items() if key in due}
        if not changes:
            return
        for family, nlri in list(self._kept):
            self._follow(family, nlri)
        if next(self._due(), None) is not None:  # what has moved may go from where it was
            self._wake.set()
        self.applied(not refused)

    def _tell_drifted(self) -> None:
        if self._drifted:
            named = [_prefix(family, nlri) for family, nlri in self._drifted[:_NAMED]]
            log.warning("routes were changed by others", routes=len(self._drifted), prefixes=named)
            self._drifted.clear()

    def _tell_blocked(self) -> None:
        """Name each route that cannot be had because somebody else's stands there, once."""
        blocked = {(family, nlri) for family, delta in self.deltas.items() for nlri, _ in delta.blocked}
        for family, nlri in blocked - self._told_blocked:
            log.warning("a route of someone else is in the way and stays", prefix=_prefix(family, nlri))
        self._told_blocked = blocked

    def _write(self, chunk: list[tuple[int, Change]]) -> list[tuple[int, Change]]:
        """One batch; what of it was refused and is worth trying again."""
        errors: dict[int, int] = {}
        if chunk and not self.dry_run:
            try:
                errors = self._socket.write([self._packer(family, change) for family, change in chunk])
            except (KernelError, OSError) as error:
                log.error("routes cannot be written", error=str(error))
                self._look = self._unwritten = True
                return chunk
        refused: list[tuple[int, Change]] = []
        new: dict[str, list[tuple[int, Change]]] = {}  # by reason
        for place, (family, change) in enumerate(chunk):
            code = errors.get(place, 0)
            key = (family, change.key)
            if not code or code == errno.ESRCH:  # what was to be removed is not there, or another's
                self._look = self._look or (code != 0 and isinstance(change, Put))
                self.deltas[family].done(change)
                self.failures.pop(key, None)
                self.writes += 1
            elif code == errno.EEXIST:
                self.deltas[family].occupied(change.key, True)
                self._look = True
            else:
                reason = os.strerror(code)
                if self.failures.get(key) != reason:
                    new.setdefault(reason, []).append((family, change))
                self.failures[key] = reason
                refused.append((family, change))
        for reason, those in new.items():
            named = [_prefix(family, change.key[0]) for family, change in those[:_NAMED]]
            log.error(
                "routes refused by the kernel",
                reason=reason,
                count=len(those),
                prefixes=named,
                route=str(those[0][1].value),
            )
        return refused

    def _packer(self, family: int, change: Change) -> Callable[[int, int], bytes]:
        if isinstance(change, Drop):
            named = family == socket.AF_INET6 and change.value.type is RouteType.UNICAST
            kind, flags, route = message.RTM_DELROUTE, 0, change.value if named else ANY
        elif change.replaces is None:
            kind, flags, route = message.RTM_NEWROUTE, message.NLM_F_CREATE | message.NLM_F_EXCL, change.value
        elif family == socket.AF_INET6 and set() < set(change.value.hops) < set(change.replaces.hops):
            surplus = unicast(*set(change.replaces.hops).difference(change.value.hops))
            kind, flags, route = message.RTM_DELROUTE, 0, surplus
        else:
            kind, flags, route = (
                message.RTM_NEWROUTE,
                message.NLM_F_CREATE | message.NLM_F_REPLACE,
                change.value,
            )
        return functools.partial(self._pack, kind, flags, family, change.key, route)

    def _pack(
        self, kind: int, flags: int, family: int, spot: Spot, route: KernelRoute, extra: int, sequence: int
    ) -> bytes:
        nlri, metric = spot
        place = self.place if metric == self.place.metric else self.place._replace(metric=metric)
        return message.pack(kind, flags | extra, sequence, family, nlri, place, route)

    async def remove_all(self) -> None:
        """Take every route of ours out: the agent leaves this node for good."""
        self._socket.close()
        self._socket = RouteSocket()  # a dump that was cut short may have left answers on the old one
        await self._observe()
        for delta in self.deltas.values():
            for spot in list(delta.desired):
                delta.want(spot, None)
        self.sweep()
        await self._apply()


def _prefix(family: int, nlri: bytes) -> str:
    return str(prefix_of(nlri, IPV4_UNICAST if family == socket.AF_INET else IPV6_UNICAST))
