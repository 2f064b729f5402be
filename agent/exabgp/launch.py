"""ExaBGP as it is, but on a clock that never jumps: ``python -m agent.exabgp.launch server FILE``.

ExaBGP times keepalives and hold timers by the time of day. Set back by an hour it would send no keepalive for
an hour and lose every session; set forward, it would end them all itself. Here the time of day is read once,
and goes on from there by the monotonic clock.
"""

from __future__ import annotations

import runpy
import time

if __name__ == "__main__":
    _ahead = time.time() - time.monotonic()
    vars(time)["time"] = lambda: time.monotonic() + _ahead
    runpy.run_module("exabgp", run_name="__main__", alter_sys=True)
