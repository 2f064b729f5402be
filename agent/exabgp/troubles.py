"""Why peers do not come up, from what ExaBGP says of them and from its silence. Sans-IO.

It tells of each connection that came about, and of its end; of an attempt that came to nothing it says
nothing. But how long it pauses between attempts is known: a peer that it has been silent of for longer cannot
be reached.
"""

from __future__ import annotations

from collections.abc import Iterable

_AT_ONCE, _AFTER_A_PAUSE = 10.0, 75.0  # seconds; the longest pause is 60
UNREACHED = "no connection comes about (not reachable, nothing listens there, or another password)"


class Troubles:
    """Moments are the caller's."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[str, float]] = {}  # peer → reason, when
        self._silent_from: dict[str, float] = {}  # from then on silence says that there is no connection

    def listening(self, peers: Iterable[str], now: float, *, pausing: bool) -> None:
        """What is said of them is heard from now on; ``pausing``: ExaBGP may be between two attempts."""
        pause = _AFTER_A_PAUSE if pausing else _AT_ONCE
        self._silent_from |= dict.fromkeys(peers, now + pause)

    def connected(self, peer: str) -> None:
        self._silent_from.pop(peer, None)

    def down(self, peer: str, reason: str, now: float, *, was_up: bool) -> bool:
        """A connection ended. True if that is another reason than before."""
        before, self._last[peer] = self._last.get(peer), (reason, now)
        self._silent_from[peer] = now + (_AT_ONCE if was_up else _AFTER_A_PAUSE)
        return before is None or before[0] != reason

    def forget(self, peer: str) -> None:
        """It is up, or nobody's concern any more."""
        self._last.pop(peer, None)
        self._silent_from.pop(peer, None)

    def of(self, peer: str, now: float) -> tuple[str, float] | None:
        """The latest, and when that was; None while there is none, and of a peer that is up."""
        silent_from = self._silent_from.get(peer, now)
        return (UNREACHED, silent_from) if silent_from < now else self._last.get(peer)
