"""Answers that are made by holding the loop, one at a time, with as much time between them for the sessions.

A crowd that asks at the same moment would otherwise be answered in one turn of the loop: a hundred searches
of a large table are a minute in which no KEEPALIVE is sent and none is read.
"""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

_Answer = TypeVar("_Answer")


class BusyError(Exception):
    """So many wait already that another would have to wait for long."""


class Turns:
    """A queue of at most `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting = 0
        self._one = asyncio.Lock()
        self._free_at = 0.0

    async def take(self, make: Callable[[], _Answer]) -> _Answer:
        """What `make` gives, when it is its turn. Raises BusyError."""
        if self._waiting >= self._most:
            raise BusyError(f"{self._waiting} such answers are awaited; ask again")
        self._waiting += 1
        try:
            async with self._one:
                await asyncio.sleep(max(0.0, self._free_at - time.monotonic()))
                began = time.monotonic()
                try:
                    return make()
                finally:
                    self._free_at = 2 * time.monotonic() - began
        finally:
            self._waiting -= 1
