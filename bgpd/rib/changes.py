"""What changed in a Loc-RIB between two looks at it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from bgpd.rib.path import Path

Run: TypeAlias = tuple[Path, list[bytes], bytes]
"""Prefixes that had no path before and have exactly this one now.

With their NLRI field as received, ready to be sent on, or empty when it must be built.
"""


Move: TypeAlias = tuple[Path | None, Path | None, list[bytes]]
"""The best path before and now, and prefixes in a row of which that is so."""


@dataclass(slots=True)
class Changes:
    """What happened since the last time, in order: first `fresh`, then `moved`.

    `moved` maps a prefix to its best path before (after `fresh`); the one it has now is in the Loc-RIB. Both
    may be the same object: then only other paths of the prefix changed, which matters to add-path alone.
    `gone`: none of them has any path now, so that nobody need look.
    """

    fresh: list[Run] = field(default_factory=list)
    moved: dict[bytes, Path | None] = field(default_factory=dict)
    gone: bool = False
    _moves: list[Move] | None = None

    def __bool__(self) -> bool:
        return bool(self.fresh or self.moved)

    def moves(self, best: Mapping[bytes, Path]) -> list[Move]:
        """Whose best path is another one now, by `best`. Worked out once for all who ask."""
        if self._moves is None:
            self._moves = []
            before: Path | None = None
            after: Path | None = None
            some: list[bytes] = []
            gone = self.gone
            for nlri, old in self.moved.items():
                new = None if gone else best.get(nlri)
                if old is new:
                    continue
                if old is not before or new is not after:
                    before, after, some = old, new, []
                    self._moves.append((old, new, some))
                some.append(nlri)
        return self._moves
