"""Items in the order of their keys, of which a few can be replaced for the price of a few.

The routes of a node with thousands of workloads are such a sequence: sorted once, then changed item by item.
A change makes a new sequence; the former one stays as it is.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from operator import is_, itemgetter
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=tuple[Any, ...])
T = TypeVar("T")


def differing(former: Sequence[T], present: Sequence[T]) -> tuple[Sequence[T], Sequence[T]]:
    """Give what only the former one has and what only the present one has. An item is the same where it is
    the same object, which a plan goes on using as long as nothing about it changes.
    """
    head = _alike(former, present)
    former, present = former[head:], present[head:]
    tail = _alike(former[::-1], present[::-1])
    former, present = former[: len(former) - tail], present[: len(present) - tail]
    before, after = set(map(id, former)), set(map(id, present))
    return (
        [item for item in former if id(item) not in after],
        [item for item in present if id(item) not in before],
    )


def _alike(one: Sequence[T], other: Sequence[T]) -> int:
    """Count the items that both begin with."""
    pairs = enumerate(map(is_, one, other))
    return next((index for index, same in pairs if not same), min(len(one), len(other)))


class Ordered(Generic[K, T]):
    """``items`` in the order of their ``keys``, which are unique."""

    __slots__ = ("items", "keys")

    def __init__(self, pairs: Mapping[K, T] | None = None) -> None:
        ordered = sorted((pairs or {}).items(), key=itemgetter(0))
        self.keys: list[K] = [key for key, _ in ordered]
        self.items: tuple[T, ...] = tuple([item for _, item in ordered])

    def get(self, key: K) -> T | None:
        index = bisect_left(self.keys, key)
        return self.items[index] if index < len(self.keys) and self.keys[index] == key else None

    def between(self, first: K, last: K) -> tuple[T, ...]:
        """Give the items with keys from ``first`` up to, not including, ``last``."""
        return self.items[bisect_left(self.keys, first) : bisect_left(self.keys, last)]

    def changed(self, gone: Iterable[K], come: Mapping[K, T]) -> "Ordered[K, T]":
        """Give the sequence without the keys of ``gone`` and with the items of ``come`` at theirs."""
        gone = list(gone)
        if not gone and not come:
            return self
        if not self.keys or 4 * len(come) > len(self.keys):
            pairs = dict(zip(self.keys, self.items, strict=True))
            for key in gone:
                pairs.pop(key, None)
            return Ordered({**pairs, **come})
        keys, items = list(self.keys), list(self.items)
        for key in gone:
            index = bisect_left(keys, key)
            if index < len(keys) and keys[index] == key:
                del keys[index], items[index]
        for key, item in come.items():
            index = bisect_left(keys, key)
            if index < len(keys) and keys[index] == key:
                items[index] = item
            else:
                keys.insert(index, key)
                items.insert(index, item)
        changed: Ordered[K, T] = Ordered()
        changed.keys, changed.items = keys, tuple(items)
        return changed
