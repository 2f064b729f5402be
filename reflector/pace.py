"""When the reflector decides and tells: at once, after a rest amid a burst, or in the first lull of a crowd.

So a burst among many peers is told in few large steps, sessions that all begin at once are served first, and
a single change is told at once, also when others follow a hundred times a second.
"""

import asyncio
from collections.abc import Callable

from reflector.link import CHUNK_OCTETS

INPUT_OCTETS = 1 << 23  # read per turn, over all peers
LEAST_READ_OCTETS = 1 << 13
LONGEST_REST = 0.05  # seconds between two flushes at most
FEW = 8  # reasons for a flush; more of them are a burst, and it is told in larger steps
UNSETTLED = 0.2  # seconds after a session came or went in which others are expected to follow
LULL = 0.001  # seconds without news after which a crowd of sessions is told what there is


class Pace:
    """Calls `flush` once for all reasons there are, and says how much is read from a peer at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, flush: Callable[[], None]) -> None:
        self.read_octets = CHUNK_OCTETS
        self._loop = loop
        self._flush = flush
        self._due = False
        self._reasons = 0  # for the next flush
        self._rest_until = 0.0
        self._settled_at = 0.0
        self._stirs = 0  # sessions that came or went, one soon after the other

    def stir(self, peers: int) -> None:
        """A session came or went; so many there are now."""
        now = self._loop.time()
        self._stirs = self._stirs + 1 if now < self._settled_at else 1
        self._settled_at = now + UNSETTLED
        self.read_octets = max(LEAST_READ_OCTETS, min(CHUNK_OCTETS, INPUT_OCTETS // max(1, peers)))

    def ask(self) -> None:
        """There is a reason: flush soon; amid a burst not before as much time has passed for what else there
        is as the last flush took, and while a crowd of sessions comes or goes in the first lull.
        """
        self._reasons += 1
        if self._due:
            return
        self._due = True
        now = self._loop.time()
        if self._stirs > FEW and now < self._settled_at:
            self._in_lull(0, now + LONGEST_REST)
        elif now < self._rest_until:
            self._loop.call_at(self._rest_until, self._carry_out)
        else:
            self._loop.call_soon(self._carry_out)

    def _in_lull(self, reasons: int, latest: float) -> None:
        """Flush if there is no more reason than a moment ago, at the `latest` by that time."""
        now = self._loop.time()
        if reasons == self._reasons or now >= latest:
            self._carry_out()
        else:
            self._loop.call_at(min(now + LULL, latest), self._in_lull, self._reasons, latest)

    def _carry_out(self) -> None:
        self._due = False
        began = self._loop.time()
        self._flush()
        ended = self._loop.time()
        if ended < self._settled_at or self._reasons > FEW:
            self._rest_until = ended + min(LONGEST_REST, ended - began)
        self._reasons = 0
