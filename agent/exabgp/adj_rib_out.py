"""The Adj-RIB-Out of every peer of one ExaBGP process, and the order in which ExaBGP may be told of it.

ExaBGP acknowledges a command when the route is in its queue, not when it is on the wire, and it sends a
queue grouped by attribute set in the order the sets first appeared. Two changes of one prefix in one
queue can therefore leave in the wrong order, and the peer keeps the older. This module is why that never
happens here. It is pure: commands come out as text, acknowledgements and events go in as method calls.

The rule: **never the same (peer, prefix) in flight twice.** A prefix is in flight from the moment it is
commanded until a *barrier* has passed. A barrier is raised only when a prefix in flight must change:
everything else of that peer is sent, all acknowledgements are awaited, ``announce eor`` is commanded, and
the first End-of-RIB ExaBGP reports as sent to that peer *after* that command's acknowledgement proves
that its queue was empty. (Any End-of-RIB will do, also one left over from an earlier session: ExaBGP
sends one only with an empty queue, and its reports and acknowledgements share one ordered pipe.)

A session coming up is the same rule again. ExaBGP itself repeats whatever it had been told (its cache),
so all of that is in flight; routes it was never told are announced at once; then one End-of-RIB per
family ends both the initial table (RFC 4724 §4: a restarted speaker's stale routes are released only
now) and the barrier; changes and withdrawals follow. Commands still unacknowledged at that moment may
have met the repetition in either order, so the whole cache is flushed once more behind the barrier.

Nothing is commanded for a peer that is not up. Acknowledgements carry no identity: they answer commands
in order, except that a command that names no established peer is refused out of turn. Such commands
(End-of-RIB, flush, refresh, teardown) are therefore sent only when nothing else awaits an answer.

Left out: which routes a peer should have (the plan), and pipes, clocks and processes (``channel``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

WINDOW, LIMIT = 4, 48
UNKNOWN = "?"  # attributes ExaBGP was given by someone who can no longer be asked; equal to no real clause


class Purpose(Enum):
    """Why a command was sent, hence how its answer is read."""

    ROUTES = auto()
    END_OF_RIB = auto()
    FLUSH = auto()
    REQUEST = auto()


@dataclass(frozen=True, slots=True)
class Command:
    """One line for ExaBGP. ``attributes`` None means withdraw; ``routes`` are prefixes as text."""

    text: str
    purpose: Purpose
    peers: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    attributes: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """ExaBGP answered ``error``: these routes did not reach its queue for these peers."""

    peers: tuple[str, ...]
    routes: tuple[str, ...]
    attributes: str | None


class _Barrier(Enum):
    NONE = auto()
    COMMANDED = auto()  # `announce eor` awaits its acknowledgement
    AWAITED = auto()  # acknowledged; the report of its sending is awaited


_Group = tuple[bool, str | None]  # (IPv6?, attributes): what one command line can carry


class AdjRibOut:
    """What one peer shall have (`want`), what ExaBGP was told for it, and what is in flight.

    Prefixes are canonical text ("10.0.0.0/26"), attributes are ExaBGP's own words, next hop included.
    """

    __slots__ = (
        "_barrier",
        "_carried",
        "_confirm_due",
        "_exact",
        "_families_due",
        "_flush_due",
        "_held",
        "_in_flight",
        "_inherited",
        "_ready",
        "_sparing",
        "_stuck",
        "_told",
        "_want",
        "address",
        "families",
        "up",
        "updates",
    )

    def __init__(self, address: str) -> None:
        self.address = address
        self.up = False
        self.updates = 0  # seen to be sent, in all its sessions
        self.families: tuple[str, ...] = ()
        self._carried: frozenset[bool] = frozenset()
        self._want: dict[str, str] = {}
        self._told: dict[str, str] = {}
        self._in_flight: set[str] = set()
        self._ready: dict[_Group, dict[str, None]] = {}
        self._held: set[str] = set()
        self._barrier = _Barrier.NONE
        self._families_due: list[str] = []
        self._flush_due = False
        self._confirm_due = False
        self._stuck = False
        self._exact = False  # since a barrier ExaBGP has sent nothing but what was commanded
        self._inherited = False  # its queue may hold what a former agent commanded
        self._sparing: Collection[str] | None = None  # see `spare`

    # what the peer shall have

    def want(self, prefix: str, attributes: str | None) -> None:
        """Declare one route, or with None its absence. Only the latest word on a prefix counts."""
        before = self._want.get(prefix)
        if before == attributes:
            return
        if attributes is None:
            del self._want[prefix]
        else:
            self._want[prefix] = attributes
        if self.up and (":" in prefix) in self._carried:
            told = self._told.get(prefix)
            if prefix in self._in_flight:
                if attributes == told:
                    self._held.discard(prefix)
                else:
                    self._held.add(prefix)
                return
            if before != told:
                self._unready(prefix, before)
            if attributes != told:
                self._ready.setdefault((":" in prefix, attributes), {})[prefix] = None

    def spare(self, but: Collection[str] | None) -> None:
        """Leave alone what a former agent told of single addresses, `but` these; None: of no address."""
        if self._sparing != but:
            self._sparing = but
            if self.up:
                self._rebuild()

    def _spares(self, prefix: str) -> bool:
        if self._sparing is None or prefix in self._sparing or prefix in self._want:
            return False
        return self._told[prefix] == UNKNOWN and prefix.endswith("/128" if ":" in prefix else "/32")

    def _unready(self, prefix: str, attributes: str | None) -> None:
        key = (":" in prefix, attributes)
        group = self._ready.get(key)
        if group is not None:
            group.pop(prefix, None)
            if not group:
                del self._ready[key]

    @property
    def wanted(self) -> Mapping[str, str]:
        return self._want

    @property
    def settled(self) -> bool:
        """While it is up: told everything, and nothing waits for a barrier. (The last words may still be in
        flight.)
        """
        busy = self._ready or self._held or self._families_due or self._flush_due or self._confirm_due
        return not busy and self._barrier is _Barrier.NONE

    def confirm(self) -> None:
        """Have everything proven to be on the wire, by one more barrier; then `settled` says so."""
        self._confirm_due = bool(self._in_flight)

    @property
    def in_sync(self) -> bool:
        """This session's initial table and its End-of-RIB are out."""
        return self.up and not self._families_due

    # the session

    def session_up(self, families: Sequence[str], uncertain: bool) -> None:
        """The session is established; ExaBGP repeats its cache. ``uncertain``: unanswered commands exist."""
        self.up = True
        self.families = tuple(families)
        self._carried = frozenset(family.startswith("ipv6") for family in families)
        self._families_due = list(families)
        self._flush_due = self._flush_due or uncertain
        self._barrier = _Barrier.NONE
        self._stuck = self._exact = False
        self._in_flight.update(self._told)
        self._rebuild()

    def session_down(self) -> None:
        self.up = False
        self._confirm_due = self._flush_due = self._inherited = False

    def forget(self) -> None:
        """ExaBGP itself is new: it was told nothing."""
        self.session_down()
        self._told.clear()
        self._in_flight.clear()

    def adopt(self, prefixes: Iterable[str]) -> None:
        """ExaBGP's cache, told by someone else, holds these prefixes with attributes unknown."""
        self._told = dict.fromkeys(prefixes, UNKNOWN)
        self._inherited = True

    def remembered(self, prefixes: Iterable[str]) -> None:
        """ExaBGP's cache holds these; what else it was told went with a peer that it took for another."""
        forgotten = self._told.keys() - set(prefixes)
        for prefix in forgotten:
            del self._told[prefix]
        if forgotten and self.up:
            self._rebuild()

    def _rebuild(self) -> None:
        self._ready.clear()
        self._held.clear()
        for prefix in self._want.keys() | self._told.keys():
            attributes = self._want.get(prefix)
            if attributes == self._told.get(prefix) or (":" in prefix) not in self._carried:
                continue
            if attributes is None and self._spares(prefix):
                continue
            if prefix in self._in_flight:
                self._held.add(prefix)
            else:
                self._ready.setdefault((":" in prefix, attributes), {})[prefix] = None

    # commands

    @property
    def sendable(self) -> bool:
        return self.up and bool(self._ready) and self._barrier is _Barrier.NONE

    def batch(self, limit: int) -> tuple[_Group, tuple[str, ...]]:
        """The next routes that may share one line. Only while `sendable`."""
        key, group = next(iter(self._ready.items()))
        return key, tuple(prefix for prefix, _ in zip(group, range(limit), strict=False))

    def can_take(self, key: _Group, prefixes: Sequence[str]) -> bool:
        group = self._ready.get(key) if self.sendable else None
        return group is not None and all(prefix in group for prefix in prefixes)

    def commanded(self, key: _Group, prefixes: Sequence[str]) -> None:
        group = self._ready[key]
        attributes = key[1]
        for prefix in prefixes:
            del group[prefix]
            if attributes is None:
                self._told.pop(prefix, None)
            else:
                self._told[prefix] = attributes
        self._in_flight.update(prefixes)
        self._flush_due = self._flush_due or self._inherited
        if not group:
            del self._ready[key]

    def refused(self, prefixes: Sequence[str], attributes: str | None) -> None:
        """ExaBGP did not take these: it holds them unchanged. Not tried again until wanted differently, but
        for what was to be withdrawn, with the next session.
        """
        if attributes is None:
            self._told |= dict.fromkeys(prefixes, UNKNOWN)

    @property
    def barrier_due(self) -> bool:
        """An End-of-RIB (or a flush) must be commanded before anything else can move."""
        if not self.families or self._ready or self._stuck or self._barrier is not _Barrier.NONE:
            return False
        return self.up and bool(self._families_due or self._held or self._flush_due or self._confirm_due)

    def barrier_command(self) -> Command:
        if not self._families_due and self._flush_due:
            self._flush_due = self._exact = self._inherited = False
            self._families_due = [self.families[0]]
            return Command(f"neighbor {self.address} flush adj-rib out", Purpose.FLUSH, (self.address,))
        family = self._families_due.pop(0) if self._families_due else self.families[0]
        self._barrier = _Barrier.COMMANDED
        return Command(f"neighbor {self.address} announce eor {family}", Purpose.END_OF_RIB, (self.address,))

    def barrier_answered(self, done: bool) -> None:
        if self._barrier is not _Barrier.COMMANDED:
            return  # the session fell meanwhile
        if done:
            self._barrier = _Barrier.AWAITED
        else:  # refused: not established, though nobody said so yet; the state event will
            self._barrier = _Barrier.NONE
            self._stuck = True

    def end_of_rib_sent(self) -> None:
        """ExaBGP put an End-of-RIB on the wire."""
        self.updates += 1
        if self._barrier is not _Barrier.AWAITED:
            return
        self._barrier = _Barrier.NONE
        if not self._families_due and not self._flush_due:
            self._in_flight.clear()
            self._confirm_due = self._inherited = False
            self._exact = True
            for prefix in self._held:
                self._ready.setdefault((":" in prefix, self._want.get(prefix)), {})[prefix] = None
            self._held.clear()

    def sent(self, prefixes: Iterable[str]) -> None:
        """ExaBGP put an UPDATE on the wire, with these, as far as it was read."""
        self.updates += 1
        if self._exact:
            for prefix in self._in_flight.intersection(prefixes):
                self._in_flight.discard(prefix)
                if prefix in self._held:
                    self._held.discard(prefix)
                    self._ready.setdefault((":" in prefix, self._want.get(prefix)), {})[prefix] = None

    def refresh_asked(self) -> None:
        """The peer wants everything again: what ExaBGP sends from now on may be a repetition.

        ExaBGP says nothing at all where there is nothing to repeat, and the peer (an agent that adopted its
        session, most of all) would wait in vain. So an End-of-RIB per family follows, which ends it for both.
        """
        self._exact = False
        if self.up:
            self._families_due = list(self.families)


class Outbox:
    """The command stream of one ExaBGP process: which line may be written next.

    ``window`` is how many lines may await their acknowledgement, ``limit`` how many prefixes share a line.
    ExaBGP works through 50 steps of what it was commanded, one per prefix, and then sleeps for up to a full
    round of its loop unless another line is waiting. So a line is kept shorter than that, and the next ones
    are there in time: a table then goes out as fast as ExaBGP can work.
    """

    def __init__(self, window: int = WINDOW, limit: int = LIMIT) -> None:
        self.window = window
        self.limit = limit
        self.peers: dict[str, AdjRibOut] = {}
        self._unanswered: deque[Command] = deque()
        self._requests: deque[str] = deque()
        self._turn: deque[str] = deque()

    def peer(self, address: str) -> AdjRibOut:
        """The Adj-RIB-Out of a peer, made on first use."""
        found = self.peers.get(address)
        if found is None:
            found = self.peers[address] = AdjRibOut(address)
            self._turn.append(address)
        return found

    def drop_peer(self, address: str) -> None:
        """The peer is no longer configured in ExaBGP."""
        if self.peers.pop(address, None) is not None:
            self._turn.remove(address)

    def request(self, text: str) -> None:
        """Queue a command of another kind; it goes out alone, in turn, and nothing follows before its answer:
        what ExaBGP says that it has been told is all that it has been told.
        """
        self._requests.append(text)

    def session_up(self, address: str, families: Sequence[str]) -> None:
        uncertain = any(address in command.peers and command.routes for command in self._unanswered)
        self.peer(address).session_up(families, uncertain)

    def session_down(self, address: str) -> None:
        if address in self.peers:
            self.peers[address].session_down()

    def restarted(self) -> None:
        """ExaBGP is a new process: no cache, no sessions, no unanswered commands."""
        self._unanswered.clear()
        self._requests.clear()
        for peer in self.peers.values():
            peer.forget()

    def asked(self, command: Command) -> None:
        """A command was written without asking here; its answer is still to come."""
        self._unanswered.append(command)

    @property
    def oldest(self) -> Command | None:
        """The command the next acknowledgement, and any answer line before it, belongs to."""
        return self._unanswered[0] if self._unanswered else None

    @property
    def settled(self) -> bool:
        return not self._unanswered and all(peer.settled for peer in self.peers.values() if peer.up)

    def commands(self) -> Iterator[Command]:
        """The lines that may be written now; each counts as written once taken."""
        while (command := self._next()) is not None:
            self._unanswered.append(command)
            yield command

    def _next(self) -> Command | None:
        asking = any(command.purpose is Purpose.REQUEST for command in self._unanswered)
        if asking or len(self._unanswered) >= self.window:
            return None
        alone = bool(self._requests) or any(peer.barrier_due for peer in self.peers.values())
        if alone:
            if self._unanswered:
                return None  # let the window run empty: its answer may come out of turn
            return self._alone()
        return self._routes()

    def _alone(self) -> Command:
        if self._requests:
            return Command(self._requests.popleft(), Purpose.REQUEST)
        return next(peer for peer in self.peers.values() if peer.barrier_due).barrier_command()

    def _routes(self) -> Command | None:
        for _ in range(len(self._turn)):
            first = self.peers[self._turn[0]]
            self._turn.rotate(-1)
            if not first.sendable:
                continue
            key, prefixes = first.batch(self.limit)
            peers = tuple(peer.address for peer in self.peers.values() if peer.can_take(key, prefixes))
            for address in peers:
                self.peers[address].commanded(key, prefixes)
            attributes = key[1]
            selector = " , ".join(f"neighbor {address}" for address in peers)
            verb = "withdraw attributes" if attributes is None else f"announce attributes {attributes}"
            text = f"{selector} {verb} nlri {' '.join(prefixes)}"
            return Command(text, Purpose.ROUTES, peers, prefixes, attributes)
        return None

    def acknowledged(self, done: bool) -> Refused | None:
        """One ``done`` or ``error`` arrived for the oldest command; what was refused, if routes were."""
        if not self._unanswered:
            return None
        command = self._unanswered.popleft()
        if command.purpose is Purpose.END_OF_RIB and command.peers[0] in self.peers:
            self.peers[command.peers[0]].barrier_answered(done)
        if done or command.purpose is not Purpose.ROUTES:
            return None
        for address in command.peers:
            if address in self.peers:
                self.peers[address].refused(command.routes, command.attributes)
        return Refused(command.peers, command.routes, command.attributes)

    def end_of_rib_sent(self, address: str) -> None:
        if address in self.peers:
            self.peers[address].end_of_rib_sent()

    def sent(self, address: str, prefixes: Iterable[str]) -> None:
        if address in self.peers:
            self.peers[address].sent(prefixes)

    def refresh_asked(self, address: str) -> None:
        if address in self.peers:
            self.peers[address].refresh_asked()
