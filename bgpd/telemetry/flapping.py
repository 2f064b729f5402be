"""When a session that is lost again and again deserves an event of its own. Pure.

`MANY` losses within `WITHIN` seconds are flapping; it is told once, and while it goes on again after as long.
"""

from collections import deque

MANY = 3
WITHIN = 900.0  # seconds


class Flapping:
    """Remembers losses by session; what has been quiet for long is forgotten."""

    def __init__(self) -> None:
        self._lost: dict[str, deque[float]] = {}
        self._told: dict[str, float] = {}
        self._forget_from = 0.0  # not with every loss: thousands may come at once

    def lost(self, name: str, now: float) -> bool:
        """Note that a session was lost; True if it is to be called flapping now."""
        if now >= self._forget_from:
            self._forget(now)
        losses = self._lost.setdefault(name, deque(maxlen=MANY))
        losses.append(now)
        many = len(losses) == MANY and now - losses[0] <= WITHIN
        if not many or now - self._told.get(name, float("-inf")) < WITHIN:
            return False
        self._told[name] = now
        return True

    def _forget(self, now: float) -> None:
        self._forget_from = now + WITHIN
        for name in [name for name, losses in self._lost.items() if now - losses[-1] > WITHIN]:
            del self._lost[name]
            self._told.pop(name, None)
