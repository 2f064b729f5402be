"""Durations counted into buckets: what Prometheus calls a histogram, without any clock or registry.

A service holds one per thing it measures and calls `observe` on its hot path: one bisection, no allocation.
Metrics and the web page read it from the service's `StatusSource`. Quantiles are estimated by linear
interpolation within a bucket, as Prometheus' `histogram_quantile` does.
"""

from bisect import bisect_left
from collections.abc import Sequence

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Distribution:
    """Counts of durations in seconds. `name` without prefix and suffix, e.g. "datastore_to_wire_seconds"."""

    __slots__ = ("bounds", "counts", "help", "name", "sum")

    def __init__(self, name: str, text: str, bounds: Sequence[float] = BOUNDS) -> None:
        self.name = name
        self.help = text
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration; a negative one (a clock set back) counts as none."""
        seconds = max(0.0, seconds)
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds

    @property
    def count(self) -> int:
        return sum(self.counts)

    def cumulative(self) -> list[tuple[str, float]]:
        """`le` and count per bucket, "+Inf" last."""
        total, buckets = 0, []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        return buckets

    def quantile(self, fraction: float) -> float | None:
        """An estimate; above the last bound it is the last bound. None if nothing was observed."""
        rank = fraction * self.count
        if not self.count:
            return None
        before, low = 0, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            if before + count >= rank and count:
                return low + (bound - low) * (rank - before) / count
            before, low = before + count, bound
        return self.bounds[-1]


class Stopwatch:
    """Measures from the first `start` to the next `stop` into a distribution. Times are the caller's."""

    __slots__ = ("distribution", "since")

    def __init__(self, distribution: Distribution) -> None:
        self.distribution = distribution
        self.since: float | None = None

    def start(self, now: float) -> None:
        """Begin, unless it is running already."""
        if self.since is None:
            self.since = now

    def stop(self, now: float) -> None:
        """Count, if it is running."""
        if self.since is not None:
            self.distribution.observe(now - self.since)
            self.since = None

    def cancel(self) -> None:
        """Nothing came of it."""
        self.since = None
