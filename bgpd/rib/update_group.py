"""An update group: the peers of one family that are told the same, and how changes become messages.

Two peers belong to the same group when the bytes they are sent can only differ by what is their own:
the same family, the same role and export policy, the same negotiated encoding. The group turns the
changes of the Loc-RIB into segments of its `ExportLog`, each change once.

`UpdateGroup` tells the best path of each prefix (RFC 4271 9.2); `AddPathGroup` tells several, each
under a path identifier of its own (RFC 7911).
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

from bgpd.rib.changes import Changes, Move, Run
from bgpd.rib.choices import Choices
from bgpd.rib.export_log import Cursor, ExportLog, Segment
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.path import Path, Source
from bgpd.rib.reflection import Advert, Export
from bgpd.wire.attributes import AttributeSet
from bgpd.wire.errors import UnsendableError
from bgpd.wire.messages import HEADER_LENGTH, MARKER
from bgpd.wire.nlri import IPV4_UNICAST
from bgpd.wire.update import encode_updates, encode_withdrawals

MESSAGE_OCTETS = 4096  # RFC 4271 4.1
_RUNS = 512  # of a snapshot in one segment
_FIXED_OCTETS = HEADER_LENGTH + 4
# Header and empty withdrawn routes of an UPDATE, by the length of the message.
_HEADS = [MARKER + size.to_bytes(2, "big") + b"\x02\0\0" for size in range(MESSAGE_OCTETS + 1)]
_LENGTHS = [length.to_bytes(2, "big") for length in range(MESSAGE_OCTETS + 1)]


def _total(by_source: dict[Source, list[bytes]]) -> int:
    return sum(map(len, by_source.values()))


ExportOfPrefix: TypeAlias = Callable[[bytes, Path], Advert | None]

Wanted: TypeAlias = tuple[tuple[bytes, Path, Advert], ...]
"""The paths of a prefix that are told, each with its identifier and what it looks like."""


class UpdateGroup:
    """Tells its peers the best path of each prefix.

    `export` gives what a path looks like to this group, or None when it may not be told; it must be
    pure. `export_prefix` instead when the answer depends on the prefix too (a policy with prefix
    rules), which costs a call per prefix. `told` says at less cost whether `export` gives anything.
    """

    def __init__(
        self,
        loc_rib: LocRib,
        export: Export,
        *,
        export_prefix: ExportOfPrefix | None = None,
        told: Callable[[Path], bool] | None = None,
        max_length: int = MESSAGE_OCTETS,
    ) -> None:
        self.loc_rib = loc_rib
        self.family = loc_rib.family
        self._classic = self.family == IPV4_UNICAST
        self.export = export
        self.export_prefix = export_prefix
        self.told = told if export_prefix is None else None
        self.max_length = max_length
        self.log = ExportLog(self._snapshot, self._catch_up)

    def replace_export(self, export: Export) -> None:
        """From now on tell paths differently; readers that start again get everything in the new way."""
        self.export = export
        if self.log.based:
            self.log.rebase()

    def no_longer_told(self, successor: "UpdateGroup | None") -> list[bytes]:
        """The items a peer of this group has that one of `successor` has not; all of them without one."""
        return [
            nlri
            for nlri, path in self.loc_rib.best.items()
            if self.advert(nlri, path) is not None
            and (successor is None or successor.advert(nlri, path) is None)
        ]

    def join(self, source: Source) -> Cursor:
        """Take in a peer that has nothing yet. Changes taken from the Loc-RIB must have been applied."""
        return self.log.join(source)

    def leave(self, cursor: Cursor) -> None:
        """Let a peer go."""
        self.log.leave(cursor)

    def apply(self, changes: Changes) -> None:
        """Append what `changes` mean for the peers of this group, if it has any."""
        if not self.log.based:
            return
        segments: list[Segment] = []
        if changes.fresh:
            segments += self._fresh(changes.fresh)
        dead = brief = 0
        if changes.moved:
            moved, dead, brief = self._moved(changes)
            segments += moved
        if segments:
            self.log.append(segments, dead, brief)

    # From paths to segments

    def _announce(self, path: Path, nlri: list[bytes]) -> Iterator[Segment]:
        """Segments that tell everybody but its source of `path`."""
        if self.export_prefix is not None:
            by_advert: dict[Advert, list[bytes]] = {}
            for prefix in nlri:
                advert = self.export_prefix(prefix, path)
                if advert is not None:
                    by_advert.setdefault(advert, []).append(prefix)
            for advert, prefixes in by_advert.items():
                yield self._segment(advert, prefixes, path.source)
            return
        advert = self.export(path)
        if advert is not None:
            yield self._segment(advert, nlri, path.source)

    def _segment(self, advert: Advert, nlri: list[bytes], skip: Source) -> Segment:
        parts: list[bytes] = []
        self._encode(parts, advert, nlri, b"")
        return Segment(b"".join(parts), (nlri,), skip)

    def _segments(self, announced: dict[tuple[Advert, Source], list[bytes]]) -> Iterator[Segment]:
        """Those of one source after another make one segment."""
        parts: list[bytes] = []
        touched: list[list[bytes]] = []
        current: Source | None = None
        for (advert, source), nlri in announced.items():
            if source is not current:
                if touched:
                    yield Segment(b"".join(parts), touched, current)
                parts, touched, current = [], [], source
            self._encode(parts, advert, nlri, b"")
            touched.append(nlri)
        if touched:
            yield Segment(b"".join(parts), touched, current)

    def _encode(self, parts: list[bytes], advert: Advert, nlri: list[bytes], raw: bytes) -> None:
        """Append messages to `parts`; `raw` is what all of `nlri` are in a field, or nothing."""
        attributes, next_hop = advert
        if self._classic and not next_hop:
            field = raw or b"".join(nlri)
            length = len(attributes)
            size = _FIXED_OCTETS + length + len(field)
            if size <= MESSAGE_OCTETS:
                parts.append(_HEADS[size])
                parts.append(_LENGTHS[length])
                parts.append(attributes)
                parts.append(field)
                return
        parts += self._messages(advert, nlri)

    def _messages(self, advert: Advert, nlri: list[bytes]) -> list[bytes]:
        """What does not fit into a message is withdrawn instead (RFC 8654 4), whatever it is told with."""
        attributes, next_hop = advert
        next_hop = next_hop or AttributeSet.of(attributes).next_hop
        try:
            return encode_updates(self.family, attributes, next_hop, nlri, self.max_length)
        except UnsendableError as error:
            room = error.room
        fitting = [item for item in nlri if len(item) <= room]
        beyond = [item for item in nlri if len(item) > room]
        messages = encode_withdrawals(self.family, beyond, self.max_length)
        if fitting:
            messages += encode_updates(self.family, attributes, next_hop, fitting, self.max_length)
        return messages

    def _withdrawal(
        self, nlri: Sequence[bytes], skip: Source | None = None, only: Source | None = None
    ) -> Segment:
        data = b"".join(encode_withdrawals(self.family, nlri, self.max_length))
        return Segment(data, (nlri,), skip, only)

    def advert(self, nlri: bytes, path: Path | None) -> Advert | None:
        """What a path of a prefix looks like to this group, or None."""
        if path is None:
            return None
        return self.export(path) if self.export_prefix is None else self.export_prefix(nlri, path)

    def _fresh(self, runs: list[Run]) -> Iterator[Segment]:
        """Runs of one source after another make one segment.

        The hot path of a full table: what came as one IPv4 field goes out as one, and nothing but the
        header is encoded.
        """
        if self.export_prefix is not None:
            for path, nlri, _raw in runs:
                yield from self._announce(path, nlri)
            return
        export = self.export
        parts: list[bytes] = []
        touched: list[list[bytes]] = []
        current = runs[0][0].source
        for path, nlri, raw in runs:
            if path.source is not current:
                yield Segment(b"".join(parts), touched, current)
                parts, touched, current = [], [], path.source
            advert = export(path)
            if advert is None:
                continue
            self._encode(parts, advert, nlri, raw)
            touched.append(nlri)
        if touched:
            yield Segment(b"".join(parts), touched, current)

    def _moved(self, changes: Changes) -> tuple[list[Segment], int, int]:
        """What is told of prefixes whose paths changed, how many entries a joiner needs no more (what was
        withdrawn or replaced), and how many prefixes are withdrawn from anybody.
        """
        announced: dict[tuple[Advert, Source], list[bytes]] = {}
        withdrawn: dict[Source, list[bytes]] = {}
        addressed: dict[Source, list[bytes]] = {}
        each = self.export_prefix is not None
        before: Path | None = None
        after: Path | None = None
        was: Advert | None = None
        now: Advert | None = None
        replaced = 0
        for old, new, some in self._alike(changes.moves(self.loc_rib.best)):
            if new is None and old is not None and self.told is not None:
                if self.told(old):
                    withdrawn.setdefault(old.source, []).extend(some)
                continue
            if each or old is not before:
                before, was = old, self.advert(some[0], old)
            if each or new is not after:
                after, now = new, self.advert(some[0], new)
            if now is not None and new is not None:
                if was is not None and old is not None:
                    if old.source is not new.source:
                        addressed.setdefault(new.source, []).extend(some)
                    elif was == now:
                        continue
                    replaced += len(some)
                announced.setdefault((now, new.source), []).extend(some)
            elif was is not None and old is not None:
                withdrawn.setdefault(old.source, []).extend(some)
        segments = [self._withdrawal(prefixes, skip=source) for source, prefixes in withdrawn.items()]
        segments += self._segments(announced)
        segments += [self._withdrawal(prefixes, only=source) for source, prefixes in addressed.items()]
        gone = _total(withdrawn)
        return segments, gone + replaced, gone + _total(addressed)

    def _alike(self, moves: list[Move]) -> list[Move]:
        """The same, cut into what looks alike to this group: the prefix may count too."""
        if self.export_prefix is None:
            return moves
        return [(old, new, [nlri]) for old, new, some in moves for nlri in some]

    def _snapshot(self) -> Iterator[Segment]:
        runs: list[Run] = [(path, nlri, b"") for path, nlri in self.loc_rib.by_path().items()]
        for at in range(0, len(runs), _RUNS):
            yield from self._fresh(runs[at : at + _RUNS])

    def _catch_up(self, touched: set[bytes]) -> Iterator[Segment]:
        """The present state of some prefixes, for readers of whom nothing is known.

        A source may still hold another's path of a prefix that is now its own, so it is told to
        forget it; to withdraw what a peer does not have means nothing (RFC 4271 3.1).
        """
        announced: dict[Path, list[bytes]] = {}
        addressed: dict[Source, list[bytes]] = {}
        gone: list[bytes] = []
        for nlri in touched:
            path = self.loc_rib.best.get(nlri)
            if path is None or self.advert(nlri, path) is None:
                gone.append(nlri)
            else:
                announced.setdefault(path, []).append(nlri)
                addressed.setdefault(path.source, []).append(nlri)
        if gone:
            yield self._withdrawal(gone)
        for path, prefixes in announced.items():
            yield from self._announce(path, prefixes)
        for source, prefixes in addressed.items():
            yield self._withdrawal(prefixes, only=source)


class PathIdentifiers:
    """The path identifiers of one family, shared by its groups: one for each path somebody is told of.

    One that nobody is told of any more is used again, as late as possible, so that neither peers that come
    and go nor identifiers that a peer makes up add up to anything.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[Source, int], bytes] = {}
        self._uses: dict[bytes, int] = {}
        self._free: deque[bytes] = deque()

    def of(self, path: Path) -> bytes:
        """The identifier of a path; it is given away for good only by `hold`."""
        key = (path.source, path.path_id)
        identifier = self._known.get(key)
        if identifier is None:
            identifier = self._free.popleft() if self._free else (len(self._uses) + 1).to_bytes(4, "big")
            self._known[key] = identifier
            self._uses[identifier] = 0
        return identifier

    def hold(self, path: Path, prefixes: int = 1) -> None:
        """So many more prefixes of a group tell of this path."""
        self._uses[self.of(path)] += prefixes

    def release(self, path: Path, prefixes: int = 1) -> None:
        """So many fewer do."""
        key = (path.source, path.path_id)
        identifier = self._known[key]
        self._uses[identifier] -= prefixes
        if not self._uses[identifier]:
            del self._known[key]
            self._free.append(identifier)

    def __len__(self) -> int:
        return len(self._known)


class AddPathGroup(UpdateGroup):
    """Tells its peers up to `limit` paths of each prefix, best first (RFC 7911).

    A path identifier stands for one (source, received identifier); it is this speaker's own and says
    nothing to others (RFC 7911 3).
    """

    def __init__(
        self,
        loc_rib: LocRib,
        export: Export,
        *,
        limit: int,
        identifiers: PathIdentifiers | None = None,
        export_prefix: ExportOfPrefix | None = None,
        max_length: int = MESSAGE_OCTETS,
    ) -> None:
        super().__init__(loc_rib, export, export_prefix=export_prefix, max_length=max_length)
        self.limit = limit
        loc_rib.tells_all = True
        self.identifiers = PathIdentifiers() if identifiers is None else identifiers
        self._told: dict[bytes, Wanted] = {}

    def replace_export(self, export: Export) -> None:
        """From now on tell paths differently. What is told must stay the same set of paths."""
        self.export = export
        if self.log.based:
            self._tell_all()
            self.log.rebase()

    def leave(self, cursor: Cursor) -> None:
        """Let a peer go; after the last one nothing is remembered."""
        super().leave(cursor)
        if not self.log.based:
            self._remember({})

    def no_longer_told(self, successor: UpdateGroup | None) -> list[bytes]:
        """As for one path, but items."""
        items = self.items()
        return list(items - successor.items() if isinstance(successor, AddPathGroup) else items)

    def items(self) -> set[bytes]:
        """What is told: path identifier and NLRI."""
        return {identifier + nlri for nlri, told in self._told.items() for identifier, _, _ in told}

    def _tell_all(self) -> None:
        self._remember({nlri: wanted for nlri, wanted in self._all_wanted(self.loc_rib.best) if wanted})

    def _remember(self, told: dict[bytes, Wanted]) -> None:
        before, self._told = self._told, told
        for every in told.values():
            for _, path, _ in every:
                self.identifiers.hold(path)
        for every in before.values():
            for _, path, _ in every:
                self.identifiers.release(path)

    def _all_wanted(self, prefixes: Iterable[bytes]) -> Iterator[tuple[bytes, Wanted]]:
        """What is to be told of each prefix; one object where prefixes in a row have the same paths."""
        adverts: dict[Path, Advert | None] = {}
        seen: Choices = ()
        wanted: Wanted = ()
        for nlri in prefixes:
            paths = self.loc_rib.choices(nlri)
            if self.export_prefix is not None or (paths is not seen and paths != seen):
                seen, wanted = paths, self._wanted(nlri, adverts)
            yield nlri, wanted

    def _wanted(self, nlri: bytes, adverts: dict[Path, Advert | None]) -> Wanted:
        """What is to be told of a prefix; `adverts` remembers what paths look like, from prefix to prefix."""
        wanted = []
        for path in self.loc_rib.leading(nlri, self.limit):
            if path in adverts:
                advert = adverts[path]
            else:
                advert = self.advert(nlri, path)
                if self.export_prefix is None:
                    adverts[path] = advert
            if advert is not None:
                wanted.append((self.identifiers.of(path), path, advert))
                if len(wanted) == self.limit:
                    break
        return tuple(wanted)

    def _fresh(self, runs: list[Run]) -> Iterator[Segment]:
        yield from self._news([nlri for _path, items, _raw in runs for nlri in items])[0]

    def _moved(self, changes: Changes) -> tuple[list[Segment], int, int]:
        return self._news(changes.moved)

    def _news(self, prefixes: Iterable[bytes]) -> tuple[list[Segment], int, int]:
        """As `_moved`. What is told no more is released last, so that no identifier changes hands within."""
        announced: dict[tuple[Advert, Source], list[bytes]] = {}
        withdrawn: dict[Source, list[bytes]] = {}
        released: list[tuple[Path, int]] = []
        replaced = 0
        for told, wanted, some in self._differences(prefixes):
            was = {identifier: (path, advert) for identifier, path, advert in told}
            for identifier, path, advert in wanted:
                old = was.pop(identifier, None)
                if old is None:
                    self.identifiers.hold(path, len(some))
                elif old[1] == advert:
                    continue
                else:
                    replaced += len(some)
                announced.setdefault((advert, path.source), []).extend([identifier + nlri for nlri in some])
            for identifier, (path, _) in was.items():
                withdrawn.setdefault(path.source, []).extend([identifier + nlri for nlri in some])
                released.append((path, len(some)))
        for path, count in released:
            self.identifiers.release(path, count)
        segments = [self._withdrawal(items, skip=source) for source, items in withdrawn.items()]
        segments += self._segments(announced)
        gone = _total(withdrawn)
        return segments, gone + replaced, gone

    def _differences(self, prefixes: Iterable[bytes]) -> list[tuple[Wanted, Wanted, list[bytes]]]:
        """What was told and what is told from now on; one entry where prefixes in a row have the same."""
        found: list[tuple[Wanted, Wanted, list[bytes]]] = []
        before: Wanted = ()
        after: Wanted = ()
        some: list[bytes] = []
        for nlri, wanted in self._all_wanted(prefixes):
            told = self._told.get(nlri, ())
            if told is wanted:
                continue
            if told is not before or wanted is not after or not some:
                before, after, some = told, wanted, []
                found.append((told, wanted, some))
            some.append(nlri)
            if wanted:
                self._told[nlri] = wanted
            else:
                del self._told[nlri]
        return found

    def _snapshot(self) -> Iterator[Segment]:
        if not self.log.based:
            self._tell_all()
        yield from self._all(self._told)

    def _all(self, prefixes: Iterable[bytes]) -> Iterator[Segment]:
        announced: dict[Source, dict[Advert, list[bytes]]] = {}
        before: Wanted = ()
        lists: list[tuple[bytes, list[bytes]]] = []
        for nlri in prefixes:
            told = self._told.get(nlri, ())
            if told is not before:
                before = told
                lists = [
                    (identifier, announced.setdefault(path.source, {}).setdefault(advert, []))
                    for identifier, path, advert in told
                ]
            for identifier, items in lists:
                items.append(identifier + nlri)
        for source, adverts in announced.items():
            for advert, items in adverts.items():
                yield self._segment(advert, items, source)

    def _catch_up(self, touched: set[bytes]) -> Iterator[Segment]:
        """As for one path, but `touched` holds items: what is not told any more is withdrawn."""
        prefixes = {item[4:] for item in touched}
        told = {
            identifier + nlri: path.source
            for nlri in prefixes
            for identifier, path, _ in self._told.get(nlri, ())
        }
        gone: Sequence[bytes] = [item for item in touched if item not in told]
        if gone:
            yield self._withdrawal(gone)
        yield from self._all(prefixes)
        # An identifier may have been another's before: its present source is told to forget that.
        addressed: dict[Source, list[bytes]] = {}
        for item in touched:
            if item in told:
                addressed.setdefault(told[item], []).append(item)
        for source, items in addressed.items():
            yield self._withdrawal(items, only=source)
