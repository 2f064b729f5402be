"""ExaBGP as it is, but for two habits: ``python -m agent.exabgp.launch server FILE``.

ExaBGP times keepalives and hold timers by the time of day. Set back by an hour it would send no keepalive for
an hour and lose every session; set forward, it would end them all itself. Here the time of day is read once,
and goes on from there by the monotonic clock.

And for every turn in which it works on commands it makes an event loop of asyncio and ends it again, which
takes a millisecond, longer than most of the work. Commands are generators that await nothing: they need none.
That was seen of 5.0; a later ExaBGP is left its loop.
"""

from __future__ import annotations

import asyncio
import runpy
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")


class WithoutLoop:
    """asyncio, for a module that runs by it what awaits nothing."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    @staticmethod
    def run(coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        try:
            coroutine.send(None)
        except StopIteration as ended:
            result: _Result = ended.value
            return result
        coroutine.close()
        raise RuntimeError("a command of ExaBGP awaits something")


if __name__ == "__main__":
    from exabgp.version import release

    _ahead = time.time() - time.monotonic()
    vars(time)["time"] = lambda: time.monotonic() + _ahead
    if release.startswith("5.0."):
        from exabgp.reactor import asynchronous

        vars(asynchronous)["asyncio"] = WithoutLoop()
    runpy.run_module("exabgp", run_name="__main__", alter_sys=True)
