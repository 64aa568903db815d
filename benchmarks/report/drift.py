"""Whether something that was watched for long has stayed as it was: memory by its slope, latency by its last third."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

MB = 1e6
WARM_UP = 0.25
"""Share of a run that is not judged: caches, pools and allocators fill."""
GROWTH, GROWTH_MB = 0.03, 4.0
"""What a process may grow by while it is judged: a share of its size, and on top of that so many MB."""
SLOWER, SLOWER_MS = 2.0, 5.0
"""How many times the p99 of the first third the p99 of the last third may be, and on top of that so many ms."""


@dataclass(frozen=True, slots=True)
class Memory:
    """One process over time.

    Attributes:
        name: Of the process.
        at_s: When it was looked at.
        rss_bytes: What it had then.
    """

    name: str
    at_s: Sequence[float]
    rss_bytes: Sequence[float]

    @property
    def judged(self) -> tuple[Sequence[float], Sequence[float]]:
        """Times and sizes after the warm-up."""
        begin_s = self.at_s[0] + WARM_UP * (self.at_s[-1] - self.at_s[0])
        first = next(at for at, time_s in enumerate(self.at_s) if time_s >= begin_s)
        return self.at_s[first:], self.rss_bytes[first:]

    @property
    def slope_mb_per_h(self) -> float:
        """How fast it grows after the warm-up."""
        return slope(*self.judged) * 3600 / MB

    @property
    def growth_mb(self) -> float:
        """What that came to while it was judged."""
        at_s, _ = self.judged
        return slope(*self.judged) * (at_s[-1] - at_s[0]) / MB

    @property
    def bound_mb(self) -> float:
        """What it may come to."""
        return GROWTH * median(self.judged[1]) / MB + GROWTH_MB

    @property
    def grows(self) -> bool:
        """Whether it grew by more than it may."""
        return self.growth_mb > self.bound_mb


def slope(at: Sequence[float], values: Sequence[float]) -> float:
    """Of the line through the points, by Theil and Sen: the median of the slopes between any two; 0 of fewer than two.

    A single jump, or a look at a bad moment, moves it little; a leak moves it wholly.
    """
    points = list(zip(at, values, strict=True))
    slopes = [(b - a) / (at_b - at_a) for (at_a, a), (at_b, b) in combinations(points, 2) if at_b > at_a]
    return median(slopes) if slopes else 0.0


def drifts(p99_ms: Sequence[float]) -> bool:
    """Whether the last third of the minutes is slower than it may be; of fewer than six, nothing can be said."""
    third = len(p99_ms) // 3
    if third < 2:
        return False
    return median(p99_ms[-third:]) > SLOWER * median(p99_ms[:third]) + SLOWER_MS
