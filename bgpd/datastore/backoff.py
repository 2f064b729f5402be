"""How long to wait before trying again: longer each time, never in step with others.

"Full jitter": a uniformly random part of an exponentially growing bound. A thousand agents that lost the
same etcd in the same millisecond come back spread over the bound instead of all at once.
"""

from random import Random


class Backoff:
    """`next()` gives seconds; the bound doubles from `first` to `limit` until `reset()`."""

    def __init__(self, first: float = 0.1, limit: float = 5.0, random: Random | None = None) -> None:
        self._first = first
        self._limit = limit
        self._bound = first
        self._random = random or Random()  # noqa: S311 - spreads load, keeps no secret

    def next(self) -> float:
        bound, self._bound = self._bound, min(self._bound * 2, self._limit)
        return self._random.uniform(bound / 4, bound)

    def reset(self) -> None:
        self._bound = self._first
