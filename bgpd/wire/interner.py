"""Where attribute sets come from: each distinct one is validated and kept once.

The `Interner` finds the set of a received block with one dictionary lookup. A block not seen before is
skimmed attribute by attribute, and there too each attribute's own bytes are looked up first: an AS_PATH or
a community list is validated once however many sets carry it. Validation is never skipped, only not
repeated. Whatever is not verbatim canonical goes to `examination`, which is slow and says exactly what is
wrong.

Memory. Sets are held strongly and swept: when their octets have doubled since the last sweep (or the owner
calls `sweep`), those that only the interner still refers to are dropped. So what a peer makes us keep is at
most twice what its routes need, plus a few megabytes. Weak references would drop sets at once, but on the
hottest path there is they cost an object of some 80 octets per set and more time than all of a set's
creation; a sweep costs less than 0.1 µs per set and is paid once per doubling. The lookups of single
attributes and of irregular blocks are caches of fixed size, cleared when full, and admit short keys only: a
hostile peer can make them useless, but not large.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from .attribute_rows import ROWS, Context, next_hop_fault
from .attributes import NEXT_HOP_BIT, AttributeSet
from .errors import AttributeFault
from .examination import encode_attribute
from .iana import AttributeCode, AttributeFlag
from .ordinary import Recogniser

_EXTENDED: Final = int(AttributeFlag.EXTENDED_LENGTH)
_OPTIONAL: Final = int(AttributeFlag.OPTIONAL)
_TRANSITIVE: Final = int(AttributeFlag.TRANSITIVE)
_PARTIAL: Final = int(AttributeFlag.PARTIAL)

MANDATORY: Final = 1 << AttributeCode.ORIGIN | 1 << AttributeCode.AS_PATH
CLASSIC_MANDATORY: Final = MANDATORY | NEXT_HOP_BIT


def _reference_counts(objects: Iterable[object]) -> list[int]:
    return list(map(sys.getrefcount, objects))


_UNSHARED: Final = _reference_counts({b"": AttributeSet(b"", 0)}.values())[0]
"""What `_reference_counts` reports for an object that only a dictionary refers to."""


class Interner:
    """The attribute sets received in one context: octets per AS number, and side of the AS border.

    Sessions of one context share one interner. `len()` is the number of sets held.
    """

    FACTS: Final = 4096
    FACT_OCTETS: Final = 512
    MEMOS: Final = 2048
    MEMO_OCTETS: Final = 1024
    SWEEP_FLOOR: Final = 4 << 20
    SET_OCTETS: Final = 256  # what a set costs beside its bytes, roughly

    __slots__ = (
        "_bound",
        "_facts",
        "_memos",
        "_octets",
        "_ordinary",
        "_ordinary_multiprotocol",
        "context",
        "multiprotocol",
        "sets",
    )

    def __init__(self, asn4: bool = True, internal: bool = False, loopback: bool = True) -> None:
        self.context = Context(asn4, internal, loopback)
        self.sets: dict[bytes, AttributeSet] = {}
        """IPv4 sets with NEXT_HOP, by `raw`; on four-octet sessions that is also what a block looks like."""
        self.multiprotocol: dict[bytes, AttributeSet] = {}
        """Sets with the next hop outside, by its counted octets followed by `raw`."""
        self._facts: dict[bytes, int] = {}
        self._memos: dict[bytes, tuple[AttributeSet, tuple[AttributeFault, ...]]] = {}
        self._octets = 0
        self._bound = self.SWEEP_FLOOR
        # Blocks with two-octet AS numbers are never what the sets are known by.
        self._ordinary: Recogniser | None = None
        self._ordinary_multiprotocol: Recogniser | None = None
        if asn4:
            self._ordinary = Recogniser(internal=internal, loopback=loopback, next_hop=True)
            self._ordinary_multiprotocol = Recogniser(internal=internal, loopback=loopback, next_hop=False)

    def __len__(self) -> int:
        return len(self.sets) + len(self.multiprotocol)

    def admit(self, block: bytes) -> AttributeSet | None:
        """The set of a new IPv4 block that is canonical and faultless as it stands; None if it is not."""
        ordinary = self._ordinary
        present = (ordinary is not None and ordinary.present(block)) or self._skim(block)
        if present & CLASSIC_MANDATORY != CLASSIC_MANDATORY:
            return None
        return self._keep(self.sets, block, AttributeSet(block, present))

    def admit_multiprotocol(self, key: bytes, block: bytes) -> AttributeSet | None:
        """The same for a block whose MP_REACH_NLRI was cut out; `key` is that of `multiprotocol`."""
        ordinary = self._ordinary_multiprotocol
        present = (ordinary is not None and ordinary.present(block)) or self._skim(block)
        if present & CLASSIC_MANDATORY != MANDATORY:
            return None
        next_hop = key[1 : 1 + key[0]]
        if next_hop_fault(next_hop, self.context.loopback) is not None:
            return None
        return self._keep(self.multiprotocol, key, AttributeSet(block, present, next_hop))

    def intern(self, pieces: Mapping[int, bytes], next_hop: bytes = b"") -> AttributeSet:
        """The set of attributes already judged, by code and in order.

        With a `next_hop` of 16 or 32 octets NEXT_HOP is left out; with one of 4 it is put in (RFC 8950 §3
        lets MP_REACH_NLRI carry an IPv4 route with an IPv4 next hop, which is the same route as one
        without).
        """
        if next_hop:
            pieces = {code: piece for code, piece in pieces.items() if code != AttributeCode.NEXT_HOP}
        if len(next_hop) == 4:
            pieces = {
                **pieces,
                AttributeCode.NEXT_HOP: encode_attribute(AttributeCode.NEXT_HOP, _TRANSITIVE, next_hop),
            }
            pieces = {code: pieces[code] for code in _with_next_hop_placed(pieces)}
        raw = b"".join(pieces.values())
        outside = len(next_hop) > 4
        key = bytes((len(next_hop),)) + next_hop + raw if outside else raw
        store = self.multiprotocol if outside else self.sets
        known = store.get(key)
        if known is not None:
            return known
        present = sum(1 << code for code in pieces)
        return self._keep(store, key, AttributeSet(raw, present, next_hop if outside else None))

    def memo(self, block: bytes) -> tuple[AttributeSet, tuple[AttributeFault, ...]] | None:
        """What an irregular IPv4 block was found to mean, if it is remembered."""
        return self._memos.get(block)

    def remember(self, block: bytes, attributes: AttributeSet, faults: Sequence[AttributeFault]) -> None:
        """Remember what an irregular IPv4 block means."""
        if len(block) <= self.MEMO_OCTETS:
            if len(self._memos) >= self.MEMOS:
                self._memos.clear()
            self._memos[block] = attributes, tuple(faults)

    def sweep(self) -> int:
        """Drop the sets nobody else refers to; how many those were."""
        self._memos.clear()
        dropped = 0
        for store in (self.sets, self.multiprotocol):
            counts = _reference_counts(store.values())
            if min(counts, default=_UNSHARED + 1) > _UNSHARED:
                continue
            for key in [key for key, count in zip(store, counts, strict=True) if count <= _UNSHARED]:
                del store[key]
                self._octets -= len(key) + self.SET_OCTETS
                dropped += 1
        self._bound = self._octets + max(self.SWEEP_FLOOR, self._octets)
        return dropped

    def _keep(self, store: dict[bytes, AttributeSet], key: bytes, made: AttributeSet) -> AttributeSet:
        self._octets += len(key) + self.SET_OCTETS
        if self._octets > self._bound:
            self.sweep()
        store[key] = made
        return made

    def _skim(self, block: bytes) -> int:
        """The `present` bits of a block in which every attribute can stand as it is, once; 0 otherwise."""
        facts = self._facts
        position, end, present = 0, len(block), 0
        try:
            while position < end:
                stop = position + 3 + block[position + 2]
                bit = facts.get(block[position:stop])
                if bit is None:
                    if block[position] & _EXTENDED:
                        stop = position + 4 + (block[position + 2] << 8 | block[position + 3])
                    bit = facts.get(block[position:stop]) or self._fact(block[position:stop], stop - position)
                if present & bit or not bit:
                    return 0
                present |= bit
                position = stop
        except IndexError:  # the block ends inside a header
            return 0
        return present

    def _fact(self, piece: bytes, length: int) -> int:
        """The bit of an attribute that can stand as it is, else 0; a positive answer is remembered."""
        if len(piece) != length:
            return 0
        flags, code = piece[0], piece[1]
        row = ROWS.get(code)
        if row is None:
            if flags & 0xEF != _OPTIONAL | _TRANSITIVE | _PARTIAL or code in _NEVER_VERBATIM:
                return 0
        else:
            allowed = flags & ~_EXTENDED
            if allowed != row.flags and (
                allowed != row.flags | _PARTIAL or row.flags != _OPTIONAL | _TRANSITIVE
            ):
                return 0
            if code in _NEVER_VERBATIM or (row.internal_only and not self.context.internal):
                return 0
            if not self.context.asn4 and code in _AS_CODES:
                return 0
            value = piece[4 if flags & _EXTENDED else 3 :]
            if row.check(value, self.context) is not None or row.without_repeats(value) != value:
                return 0
        bit = 1 << code
        if length <= self.FACT_OCTETS:
            if len(self._facts) >= self.FACTS:
                self._facts.clear()
            self._facts[piece] = bit
        return bit


_AS_CODES: Final = frozenset({AttributeCode.AS_PATH, AttributeCode.AGGREGATOR})
_NEVER_VERBATIM: Final = frozenset(
    {
        0,
        AttributeCode.MP_REACH_NLRI,
        AttributeCode.MP_UNREACH_NLRI,
        AttributeCode.AS4_PATH,
        AttributeCode.AS4_AGGREGATOR,
    }
)


def _with_next_hop_placed(pieces: Mapping[int, bytes]) -> list[int]:
    """The codes in order, NEXT_HOP moved behind the lower ones that lead."""
    others = [code for code in pieces if code != AttributeCode.NEXT_HOP]
    place = next((at for at, code in enumerate(others) if code > AttributeCode.NEXT_HOP), len(others))
    return [*others[:place], AttributeCode.NEXT_HOP, *others[place:]]
