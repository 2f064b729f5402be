"""What the kernel's routes should be against what they are, and the writes between. Pure.

The idea is Felix's: both sides are declared independently and in any order, and `pending` is always the
difference; nothing depends on the history of either side. A failed write leaves its key dirty. A key that
somebody else's route occupies is left alone and remembered until that route goes. Routes of ours that
nobody wants (a former life's, most of all) are only dropped once `sweeping` is allowed: the agent allows
it when its picture of the cluster is complete, never before.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Put(Generic[K, V]):
    """Write this route; ``replaces`` ours that is there, None where there is none (then never overwrite)."""

    key: K
    value: V
    replaces: V | None


@dataclass(frozen=True, slots=True)
class Drop(Generic[K, V]):
    """Remove our route, as it was last seen."""

    key: K
    value: V


class Delta(Generic[K, V]):
    """Desired and actual values by key. ``sweeping`` False keeps every unwanted actual value for now."""

    def __init__(self) -> None:
        self.sweeping = False
        self._desired: dict[K, V] = {}
        self._actual: dict[K, V] = {}
        self._foreign: set[K] = set()
        self._dirty: dict[K, None] = {}

    # declarations

    def want(self, key: K, value: V | None) -> None:
        """Declare the desired value of one key, or with None that there shall be none."""
        if value is None:
            if self._desired.pop(key, None) is None:
                return
        else:
            if self._desired.get(key) == value:
                return
            self._desired[key] = value
        self._touch(key)

    def observe(self, actual: Mapping[K, V], foreign: set[K]) -> int:
        """A complete look: ours, and the keys others occupy. The number of surprises."""
        drift = sum(self._actual.get(key) != value for key, value in actual.items())
        drift += sum(key not in actual for key in self._actual)
        self._actual = dict(actual)
        self._foreign = set(foreign)
        self._dirty = {}
        for key in self._desired.keys() | self._actual.keys():
            self._touch(key)
        return drift

    def observed(self, key: K, value: V | None) -> bool:
        """One of ours appeared or changed (None: vanished) without our doing. True if that was news."""
        if self._actual.get(key) == value:
            return False
        if value is None:
            del self._actual[key]
        else:
            self._actual[key] = value
        self._touch(key)
        return True

    def occupied(self, key: K, foreign: bool) -> None:
        """Somebody else's route stands (or no longer stands) where ours would go."""
        if foreign:
            self._foreign.add(key)
        else:
            self._foreign.discard(key)

    def is_occupied(self, key: K) -> bool:
        return key in self._foreign

    def _touch(self, key: K) -> None:
        if self._desired.get(key) == self._actual.get(key):
            self._dirty.pop(key, None)
        else:
            self._dirty[key] = None

    # the difference

    def pending(self) -> Iterator[Put[K, V] | Drop[K, V]]:
        """What to write. Removals come first: a route must not wait for a place another gives up."""
        if self.sweeping:
            for key in self._dirty:
                if key not in self._desired:
                    yield Drop(key, self._actual[key])
        for key in self._dirty:
            if key in self._desired and (change := self.due(key)) is not None:
                yield change

    def due(self, key: K) -> Put[K, V] | Drop[K, V] | None:
        """What to write of one key."""
        if key not in self._dirty:
            return None
        value = self._desired.get(key)
        if value is not None and key not in self._foreign:
            return Put(key, value, self._actual.get(key))
        if key in self._actual and (value is not None or self.sweeping):
            # Also where it is wanted: to replace it might replace the other's, who has the place by now.
            return Drop(key, self._actual[key])
        return None

    def still(self, change: Put[K, V] | Drop[K, V]) -> bool:
        """Whether a write that was pending a moment ago is."""
        wanted, there = self._desired.get(change.key), self._actual.get(change.key)
        if isinstance(change, Put):
            return wanted == change.value and there == change.replaces and change.key not in self._foreign
        return there is not None and (wanted is None or change.key in self._foreign)

    def done(self, change: Put[K, V] | Drop[K, V]) -> None:
        """The kernel accepted it."""
        if isinstance(change, Put):
            self._actual[change.key] = change.value
        else:
            self._actual.pop(change.key, None)
        self._touch(change.key)

    # for reports

    @property
    def desired(self) -> Mapping[K, V]:
        return self._desired

    @property
    def actual(self) -> Mapping[K, V]:
        return self._actual

    @property
    def blocked(self) -> frozenset[K]:
        """Wanted, but somebody else's route is in the way."""
        return frozenset(key for key in self._foreign if key in self._desired and key not in self._actual)

    @property
    def unwanted(self) -> int:
        """Routes of ours that wait for `sweeping`."""
        return sum(key in self._actual and key not in self._desired for key in self._dirty)

    def __len__(self) -> int:
        return len(self._dirty)
