"""Deadlines of a session and of a peer, with time given by the caller (RFC 4271 section 10, RFC 9687).

A deadline is a point on the caller's monotonic clock, in seconds; infinity means "stopped". Nothing here
reads a clock. `received` and `sent` run once per chunk of data, so they do no more than store a number.

Jitter: RFC 4271 section 10 wants the timers multiplied by a random factor between 0.75 and 1.0, drawn anew
each time. The caller gives a function that returns such factors (`Jitter`), so that a test, or a replay of a
recorded session, gets the same ones again. The hold timers are not jittered: they are promises.
"""

from collections.abc import Callable
from math import inf

from bgpd.session.fsm import Input

Jitter = Callable[[], float]
"""Returns the next factor, 0.75 to 1.0."""

OPEN_HOLD_TIME = 240.0
"""Seconds to wait for the peer's OPEN; RFC 4271 section 8.2.2 suggests 4 minutes."""

SEND_HOLD_TIME = 480.0
"""Seconds; RFC 9687 section 5 recommends the larger of 8 minutes and twice the hold time."""


def no_jitter() -> float:
    """The factor 1: timers run their full time."""
    return 1.0


def keepalive_interval(hold_time: int, wanted: float | None) -> float:
    """Seconds between KEEPALIVEs for a negotiated `hold_time`: a third of it, or less if `wanted`.

    Never under one second (RFC 4271 section 4.4); infinity for a hold time of zero.
    """
    if not hold_time:
        return inf
    third = hold_time / 3
    return max(1.0, third if wanted is None else min(wanted, third))


class SessionTimers:
    """HoldTimer, KeepaliveTimer and SendHoldTimer of one connection."""

    __slots__ = ("hold", "hold_time", "interval", "jitter", "keepalive", "send_hold", "send_hold_time")

    def __init__(self, jitter: Jitter) -> None:
        self.jitter = jitter
        self.hold = self.keepalive = self.send_hold = inf
        self.hold_time = self.interval = self.send_hold_time = inf

    def wait_for_open(self, now: float, hold_time: float) -> None:
        """OPEN is sent: only HoldTimer runs, with its large initial value."""
        self.hold = now + hold_time

    def negotiated(self, now: float, hold_time: int, interval: float, send_hold_time: float) -> None:
        """The OPENs agree on `hold_time` seconds; zero stops all three timers for good."""
        self.hold_time = float(hold_time) if hold_time else inf
        self.interval = interval
        self.send_hold_time = send_hold_time if hold_time and send_hold_time else inf
        self.received(now)
        self.sent(now)

    def received(self, now: float) -> None:
        """A KEEPALIVE or UPDATE came in."""
        self.hold = now + self.hold_time

    def sent(self, now: float) -> None:
        """A KEEPALIVE or UPDATE went out to TCP: it is as good as the KEEPALIVE that was due."""
        self.send_hold = now + self.send_hold_time
        self.schedule_keepalive(now)

    def schedule_keepalive(self, now: float) -> None:
        """Start KeepaliveTimer anew, jittered, but never under a second."""
        self.keepalive = now + max(1.0, self.interval * self.jitter())

    def stop(self) -> None:
        """Stop all three for good, whatever is still reported received or sent."""
        self.hold = self.keepalive = self.send_hold = inf
        self.hold_time = self.interval = self.send_hold_time = inf

    def next(self) -> float | None:
        """The nearest deadline; None when nothing runs."""
        nearest = min(self.hold, self.keepalive, self.send_hold)
        return None if nearest == inf else nearest

    def expired(self, now: float) -> Input | None:
        """The input of one deadline that has passed, the gravest first; None when none has."""
        if self.hold <= now:
            return Input.HOLD_TIMER_EXPIRES
        if self.send_hold <= now:
            return Input.SEND_HOLD_TIMER_EXPIRES
        if self.keepalive <= now:
            return Input.KEEPALIVE_TIMER_EXPIRES
        return None


class PeerTimers:
    """ConnectRetryTimer and IdleHoldTimer of a durable peer."""

    __slots__ = ("connect_retry", "idle_hold", "jitter")

    def __init__(self, jitter: Jitter) -> None:
        self.jitter = jitter
        self.connect_retry = self.idle_hold = inf

    def retry_after(self, now: float, seconds: float) -> None:
        """Start ConnectRetryTimer, jittered."""
        self.connect_retry = now + seconds * self.jitter()

    def hold_idle(self, now: float, seconds: float) -> None:
        """Start IdleHoldTimer; infinity: no automatic start at all."""
        self.idle_hold = now + seconds

    def stop(self) -> None:
        """Stop both."""
        self.connect_retry = self.idle_hold = inf

    def next(self) -> float | None:
        """The nearest deadline; None when nothing runs."""
        nearest = min(self.connect_retry, self.idle_hold)
        return None if nearest == inf else nearest

    def expired(self, now: float) -> Input | None:
        """The input of one deadline that has passed, which stops by that; None when none has."""
        if self.idle_hold <= now:
            self.idle_hold = inf
            return Input.IDLE_HOLD_TIMER_EXPIRES
        if self.connect_retry <= now:
            self.connect_retry = inf
            return Input.CONNECT_RETRY_TIMER_EXPIRES
        return None
