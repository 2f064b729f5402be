"""The Loc-RIB of one family: every path of every prefix, the best of each, and what changed.

Most prefixes of a cluster have exactly one path, and most UPDATEs bring prefixes nobody has seen. So
the ordinary case is a single entry in `best`, made for a whole UPDATE by one dictionary update; the
list of candidates exists only for prefixes that need one (several paths, or an ineligible one).

An Adj-RIB-In (RFC 4271 3.2) is kept per source as a dictionary from the received item to its path:
it tells what a withdrawal withdraws, what vanishes with a session, and what is stale.

Decisions are taken when changes are asked for, once per prefix, however many UPDATEs touched it in
between. The result then depends on the paths present and not on the order of their arrival.

An *item* is a raw NLRI, preceded by its 4-octet path identifier when the source sends add-path
(RFC 7911 3). Left out: what a change means for a peer (see `update_group`).
"""

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import TypeAlias, cast

from bgpd.rib.changes import Changes, Run
from bgpd.rib.choices import Choices, Sharing, has
from bgpd.rib.decision import Reason, beats, best, eligible, equals, explain, ordered
from bgpd.rib.path import Cost, Path, Source
from bgpd.wire.attributes import AttributeSet
from bgpd.wire.nlri import Family

PATH_ID_OCTETS = 4
JOINED_OCTETS = 2048  # runs of one path in a row become one, up to about what a message carries

Received: TypeAlias = tuple[AttributeSet, list[bytes], bytes, str | None]
"""Attributes, items, their concatenation as received (or nothing), and why they are ineligible."""


class AdjRibIn:
    """What one source announced for one family, by item; and the part of it that is stale.

    Stale items are those a restarting or refreshing peer has not announced again yet
    (RFC 4724 4.2, RFC 7313 4): all that are not `confirmed`, while that is not None. So to mark everything
    stale costs nothing, however often a peer has us do it.
    """

    __slots__ = ("_paths", "confirmed", "last", "unsorted_items", "unsorted_paths")

    def __init__(self) -> None:
        self._paths: dict[bytes, Path] = {}
        self.unsorted_paths: list[Path] = []  # with `unsorted_items`: what `paths` has yet to take in
        self.unsorted_items: list[list[bytes]] = []
        self.confirmed: set[bytes] | None = None
        self.last: Path | None = None

    @property
    def paths(self) -> dict[bytes, Path]:
        """Item to path. Filled in when first asked for: during a full table nobody asks."""
        if self.unsorted_paths:
            paths = self._paths
            for path, items in zip(self.unsorted_paths, self.unsorted_items, strict=True):
                for item in items:
                    paths[item] = path
            self.unsorted_paths, self.unsorted_items = [], []
        return self._paths


def _same(old: Path, attributes: AttributeSet, ineligible: str | None) -> bool:
    """Whether announcing this where `old` is says nothing new."""
    return old.attributes is attributes and old.ineligible == ineligible and not old.long_lived_stale


def _loses(path: Path, best: Path) -> bool:
    """Whether a path is out before MED is looked at, so that it has no influence on the choice at all."""
    return (path.rank or path.ranked()) > (best.rank or best.ranked())


class LocRib:
    """All paths of one family.

    `cost` gives the interior cost of a next hop (RFC 4271 9.1.2.2 e); without it all next hops are
    equally near, as for a reflector that forwards no packets. `tells_all` is set while somebody wants to
    hear of changes among the paths that are not best (add-path, ECMP).
    """

    def __init__(self, family: Family, cost: Cost | None = None) -> None:
        self.family = family
        self.best: dict[bytes, Path] = {}
        self.version = 0
        self._losers: Counter[Source] = Counter()  # paths that are not best, at version `_losers_of` if any
        self._losers_of = -1
        self.tells_all = False
        self._cost = cost
        self._sharing = Sharing()
        self._candidates: dict[bytes, Choices] = {}  # by prefix, where `best` does not say it all
        self._adj: dict[Source, AdjRibIn] = {}
        self._fresh: list[Run] = []
        self._before: dict[bytes, Path | None] = {}
        self._gone = True  # whether no prefix of `_before` has a path
        self._undecided: dict[bytes, None] = {}  # in the order in which news of them came

    # What a source says

    def announce(
        self,
        source: Source,
        attributes: AttributeSet,
        items: list[bytes],
        *,
        raw: bytes = b"",
        ineligible: str | None = None,
        add_path: bool = False,
    ) -> None:
        """Take in paths with one attribute set; see `learn`."""
        self.learn(source, [(attributes, items, raw, ineligible)], add_path=add_path)

    def learn(self, source: Source, routes: Iterable[Received], *, add_path: bool = False) -> None:
        """Take in paths, in order; each replaces what `source` said of that item before."""
        adj = self._adj.get(source)
        if adj is None:
            adj = self._adj[source] = AdjRibIn()
        if add_path:
            for attributes, items, _raw, ineligible in routes:
                self._announce_by_id(adj, source, attributes, items, ineligible)
            return
        best, candidates, before, fresh = self.best, self._candidates, self._before, self._fresh
        replace, unknown, quiet = self._replace, self.best.keys().isdisjoint, self._cost is None
        ordinary = quiet and adj.confirmed is None
        path = adj.last
        for attributes, items, raw, ineligible in routes:
            new = unknown(items)
            said: Path | None = None  # what the source said before of the first of them, if that is sorted
            if not new and not adj.unsorted_paths:
                said = adj.paths.get(items[0])
                if said is not None and _same(said, attributes, ineligible):
                    path = adj.last = said
            if path is None or path.attributes is not attributes or path.ineligible != ineligible:
                path = adj.last = Path(source, attributes, ineligible)
            if (
                new
                and ordinary
                and ineligible is None
                and (not candidates or candidates.keys().isdisjoint(items))
                and (not before or before.keys().isdisjoint(items))
            ):
                known = len(best)
                for item in items:
                    best[item] = path
                adj.unsorted_paths.append(path)
                adj.unsorted_items.append(items)
                if len(best) - known < len(items):  # some are said twice
                    fresh.append((path, list(dict.fromkeys(items)), b""))
                elif fresh and raw and (last := fresh[-1])[0] is path and 0 < len(last[2]) < JOINED_OCTETS:
                    fresh[-1] = (path, last[1] + items, last[2] + raw)
                else:
                    fresh.append((path, items, raw))
                continue
            self._losers_of = -1
            if adj.confirmed is not None:
                adj.confirmed.update(items)
            rest = items
            if said is None and quiet and not new:
                taken = self._learn_besides(path, items)
                rest = items[taken:]
                if taken:
                    adj.unsorted_paths.append(path)
                    adj.unsorted_items.append(items[:taken] if rest else items)
                if not rest:
                    continue
            paths = adj.paths
            for item in rest:
                old = paths.get(item)
                if old is path:
                    continue
                if old is None or not _same(old, attributes, ineligible):
                    paths[item] = path
                    replace(item, old, path)

    def _learn_besides(self, path: Path, items: list[bytes]) -> int:
        """Take in a path of prefixes that have paths of other sources, but none of this one; of how many.

        It stops at the first prefix that may have one of this source. That is seen from the paths there are,
        so what the source said before need not be looked up, nor sorted for it.
        """
        best, candidates, undecided = self.best, self._candidates, self._undecided
        source, rank, tells_all = path.source, path.rank or path.ranked(), self.tells_all
        pair: Choices = ()  # a best path and this one: what prefixes in a row have in common
        ahead: Path | None = None
        free: Choices | None = None  # paths of which none is of this source
        for taken, item in enumerate(items):
            current = best.get(item)
            if (
                current is None
                or (undecided and item in undecided)
                or (
                    current is not ahead
                    and rank <= (least := current.rank or current.ranked())
                    and (rank < least or beats(path, current) is not False)
                )
            ):
                if (current is not None and current.source is source) or has(
                    candidates.get(item, ()), source
                ):
                    return taken
                self._replace(item, None, path)
                continue
            if current is not ahead:
                if current.source is source:
                    return taken
                ahead, pair = current, (current, path)
            choices = candidates.setdefault(item, pair)
            if choices is not pair:
                if choices is not free:
                    if has(choices, source):
                        return taken
                    free = choices
                candidates[item] = self._sharing.more(choices, path)
            if tells_all:
                self._before.setdefault(item, current)
                self._gone = False
        return len(items)

    def _announce_by_id(
        self,
        adj: AdjRibIn,
        source: Source,
        attributes: AttributeSet,
        items: list[bytes],
        ineligible: str | None,
    ) -> None:
        """As `announce`, for items with path identifiers: one path per identifier, shared by its items."""
        by_id: dict[bytes, Path] = {}
        if adj.confirmed is not None:
            adj.confirmed.update(items)
        for item in items:
            path_id = item[:PATH_ID_OCTETS]
            path = by_id.get(path_id)
            if path is None:
                path = by_id[path_id] = Path(source, attributes, ineligible, int.from_bytes(path_id, "big"))
            old = adj.paths.get(item)
            if old is None or not _same(old, attributes, ineligible):
                adj.paths[item] = path
                self._replace(item[PATH_ID_OCTETS:], old, path)

    def _replace(self, nlri: bytes, old: Path | None, new: Path | None) -> None:
        """Exchange one path of a prefix for another; either may be absent."""
        self._gone = False
        choices = self._candidates.get(nlri)
        current = self.best.get(nlri)
        if (
            current is not None
            and current is not old
            and self._cost is None
            and nlri not in self._undecided
            and (old is None or _loses(old, current))
        ):
            # What goes, if anything, did not count beside the best. What comes doesn't either, or wins:
            # nothing is left to decide, unless MED has a word in it.
            if new is None or (new.rank or new.ranked()) > (current.rank or current.ranked()):
                wins: bool | None = False
            else:
                wins = new.rank < current.rank or beats(new, current)
            if wins is not None:
                self._losers_of = -1  # it may be all that changes: then there is no new version
                self._exchange(nlri, choices, current, old, new)
                if wins or self.tells_all:
                    self._before.setdefault(nlri, current)
                if wins and new is not None:
                    self.best[nlri] = new
                return
        self._before.setdefault(nlri, current)
        if (
            choices is None
            and current is old
            and self._cost is None
            and (new is None or new.ineligible is None)
        ):
            if new is None:
                self.best.pop(nlri, None)
            else:
                self.best[nlri] = new
            return
        if (
            choices is not None
            and old is not None
            and new is None
            and len(choices) == 2
            and self._cost is None
            and nlri not in self._undecided
        ):
            for left in choices:
                if left is not old:
                    break
            if left.ineligible is None:
                self.best[nlri] = left
                del self._candidates[nlri]
            else:
                self.best.pop(nlri, None)
                self._candidates[nlri] = (left,)
            return
        self._undecided[nlri] = None
        self._exchange(nlri, choices, current, old, new)

    def _exchange(
        self,
        nlri: bytes,
        choices: Choices | None,
        current: Path | None,
        old: Path | None,
        new: Path | None,
    ) -> None:
        """Keep the list of candidates, or do away with it when only the best path is left."""
        if choices is None:
            choices = () if current is None else (current,)
        if old is not None:
            choices = self._sharing.fewer(choices, old)
        if new is not None:
            choices = self._sharing.more(choices, new)
        elif len(choices) == 1 and current in choices and nlri not in self._undecided:
            self._candidates.pop(nlri, None)
            return
        self._candidates[nlri] = choices

    def withdraw(self, source: Source, items: Iterable[bytes], *, add_path: bool = False) -> None:
        """Take out what `source` announced; items it never announced are ignored."""
        adj = self._adj.get(source)
        if adj is None:
            return
        pop, candidates, before = adj.paths.pop, self._candidates, self._before
        for item in items:
            old = pop(item, None)
            if old is None:
                continue
            if adj.confirmed is not None:
                adj.confirmed.discard(item)
            nlri = item[PATH_ID_OCTETS:] if add_path else item
            if nlri in candidates:
                self._replace(nlri, old, None)
            else:  # the only path of its prefix
                before.setdefault(nlri, old)
                del self.best[nlri]

    def drop(self, source: Source, *, add_path: bool = False) -> None:
        """Take out everything `source` announced."""
        adj = self._adj.get(source)
        if adj is None:
            return
        paths, candidates = adj.paths, self._candidates
        if add_path:
            self.withdraw(source, list(paths), add_path=True)
        elif candidates and not candidates.keys().isdisjoint(paths):
            self.withdraw(source, [item for item in paths if item in candidates])
        del self._adj[source]
        # What is left are the only paths of their prefixes, and mostly all there is to tell.
        if len(paths) == len(self.best):
            self.best.clear()
        else:
            for item in paths:
                del self.best[item]
        if self._before:
            for item, path in paths.items():
                self._before.setdefault(item, path)
        else:
            self._before = cast("dict[bytes, Path | None]", paths)  # nobody else has it any more

    def mark_stale(self, source: Source) -> None:
        """Everything `source` has announced so far is stale until it is announced again."""
        adj = self._adj.get(source)
        if adj is not None:
            adj.confirmed = set()
            adj.last = None

    def sweep_stale(self, source: Source, *, add_path: bool = False) -> int:
        """Take out what is still stale; gives how many items that were."""
        adj = self._adj.get(source)
        if adj is None or adj.confirmed is None:
            return 0
        confirmed, adj.confirmed = adj.confirmed, None
        stale = [item for item in adj.paths if item not in confirmed]
        self.withdraw(source, stale, add_path=add_path)
        return len(stale)

    def revise(
        self,
        source: Source,
        change: Callable[[Path], Path | None],
        *,
        stale_only: bool = False,
        add_path: bool = False,
    ) -> None:
        """Exchange each path of `source` for what `change` makes of it; None takes it out.

        For what happens to a path without an UPDATE: an import policy that changed, or long-lived
        staleness. `change` is called once per distinct path.
        """
        adj = self._adj.get(source)
        if adj is None:
            return
        done: dict[Path, Path | None] = {}
        adj.last = None
        spared = adj.paths.keys() if adj.confirmed is None else adj.confirmed
        for item, old in list(adj.paths.items()):
            if stale_only and item in spared:
                continue
            if old not in done:
                done[old] = change(old)
            new = done[old]
            if new is old:
                continue
            if new is None:
                del adj.paths[item]
                if adj.confirmed is not None:
                    adj.confirmed.discard(item)
            else:
                adj.paths[item] = new
            self._replace(item[PATH_ID_OCTETS:] if add_path else item, old, new)

    # What follows from it

    def reconsider(self, nlri: Iterable[bytes] | None = None) -> None:
        """Decide anew, for all prefixes or some: the interior costs changed."""
        chosen = list(self.prefixes()) if nlri is None else list(nlri)
        self._gone = False
        for prefix in chosen:
            current = self.best.get(prefix)
            if prefix not in self._candidates:
                if current is None:
                    continue
                self._candidates[prefix] = (current,)
            self._before.setdefault(prefix, current)
            self._undecided[prefix] = None

    def take_changes(self) -> Changes:
        """Decide what is undecided, and give what changed since the last call."""
        if self._undecided:
            self._decide()
        if not self._fresh and not self._before:
            return Changes()
        changes = Changes(self._fresh, self._before, self._gone)
        self._fresh, self._before, self._gone = [], {}, True
        self.version += 1
        return changes

    def _decide(self) -> None:
        seen: Choices = ()  # prefixes in a row mostly have the same paths
        choice: Path | None = None
        for nlri in self._undecided:
            choices = self._candidates[nlri]
            if choices != seen:
                seen, choice = choices, best(choices, self._cost)
            if choice is None:
                self.best.pop(nlri, None)
                if not choices:
                    del self._candidates[nlri]
            else:
                self.best[nlri] = choice
                if len(choices) == 1:
                    del self._candidates[nlri]
        self._undecided.clear()

    # What can be asked; all of it as of the last `take_changes`

    def choices(self, nlri: bytes) -> Choices:
        """All paths of a prefix, eligible or not; mostly one object for prefixes that came together."""
        choices = self._candidates.get(nlri)
        if choices is None:
            only = self.best.get(nlri)
            choices = () if only is None else (only,)
        return choices

    def candidates(self, nlri: bytes) -> list[Path]:
        """The same as a list of its own."""
        return list(self.choices(nlri))

    def leading(self, nlri: bytes, most: int) -> Iterable[Path]:
        """The eligible paths of a prefix, best first, each chosen when it is asked for; in any order where
        there are no more than `most`.
        """
        choices = self.choices(nlri)
        return eligible(choices, self._cost) if len(choices) <= most else ordered(choices, self._cost)

    def multipath(self, nlri: bytes) -> list[Path]:
        """The paths of a prefix that are equally good up to the interior cost (for ECMP)."""
        return equals(self.candidates(nlri), self._cost)

    def explain(self, nlri: bytes) -> list[tuple[Path, Reason]]:
        """All paths of a prefix, best first, each with the step that decided over it."""
        return explain(self.candidates(nlri), self._cost)

    def received(self, source: Source) -> Mapping[bytes, Path]:
        """What `source` announced, by item: its Adj-RIB-In."""
        adj = self._adj.get(source)
        return {} if adj is None else adj.paths

    def confirmed(self, source: Source) -> Container[bytes]:
        """The items of `source`, stale ones left out."""
        adj = self._adj.get(source)
        if adj is None:
            return ()
        return adj.paths if adj.confirmed is None else adj.confirmed

    def held(self, source: Source, nlri: bytes, fresh: bool) -> int:
        """How many paths of a prefix a source has that sends identifiers; `fresh`: without stale ones."""
        choices = self._candidates.get(nlri) or self.candidates(nlri)
        adj = self._adj.get(source)
        if adj is None or not choices:
            return 0
        confirmed = adj.confirmed if fresh else None
        return sum(
            path.source is source
            and (confirmed is None or path.path_id.to_bytes(PATH_ID_OCTETS, "big") + nlri in confirmed)
            for path in choices
        )

    def best_count(self, source: Source) -> int:
        """How many of the best paths are of `source`."""
        adj = self._adj.get(source)
        if adj is None:
            return 0
        if self._losers_of != self.version:
            known = self.best
            self._losers = Counter(
                path.source
                for nlri, choices in self._candidates.items()
                for path in choices
                if path is not known.get(nlri)
            )
            self._losers_of = self.version
        return len(adj.paths) - self._losers[source]

    def refused(self, source: Source) -> int:
        """How many items of `source` are ineligible."""
        adj = self._adj.get(source)
        if adj is None or not self._candidates:  # an ineligible path is always on a list of candidates
            return 0
        return sum(path.ineligible is not None for path in adj.paths.values())

    def stale_count(self, source: Source) -> int:
        """How many items of `source` are stale."""
        adj = self._adj.get(source)
        return 0 if adj is None or adj.confirmed is None else len(adj.paths) - len(adj.confirmed)

    def prefixes(self) -> Iterator[bytes]:
        """Every prefix that has a path, eligible or not."""
        yield from self.best
        yield from (nlri for nlri in self._candidates if nlri not in self.best)

    def by_path(self) -> dict[Path, list[bytes]]:
        """The best paths, each with its prefixes; sources stand together."""
        by_source: dict[Source, dict[Path, list[bytes]]] = {}
        last: Path | None = None
        group: list[bytes] = []
        for nlri, path in self.best.items():
            if path is not last:  # mostly prefixes of one path follow each other
                last, group = path, by_source.setdefault(path.source, {}).setdefault(path, [])
            group.append(nlri)
        groups: dict[Path, list[bytes]] = {}
        for some in by_source.values():
            groups.update(some)
        return groups

    def __len__(self) -> int:
        return len(self.best)
