"""How much is asked and how long it takes, from counters that only go up: differences between two looks, by model.

A gateway's process counts for itself, and begins at zero when it starts: a counter that went down is a new beginning.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, NamedTuple

from cloister.api.v1.gateway_pb2 import GetStatusResponse

POINTS: Final = 90
WINDOW_S: Final = 10.0


class ModelName(NamedTuple):
    """A series: a model in one version; `other` without a version is everything without a series of its own."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class _Told:
    """What one look found of a series."""

    at_s: float
    bounds_s: Sequence[float]
    counts: Sequence[int]


@dataclass(frozen=True, slots=True)
class Rate:
    """A series over the last seconds; quantiles are None where nothing was answered.

    Attributes:
        p50_ms: As interpolated within the bucket of a histogram, as is `p99_ms`.
    """

    per_second: float
    p50_ms: float | None
    p99_ms: float | None


NONE: Final = Rate(0.0, None, None)


class Traffic:
    """The last minute and a half of every series."""

    def __init__(self) -> None:
        self._told: dict[ModelName, deque[_Told]] = {}
        self._points: dict[ModelName, deque[Rate]] = {}
        self._noted_s: float | None = None

    def note(self, status: GetStatusResponse, at_s: float) -> None:
        """Take in what a gateway says now."""
        for each in status.latencies:
            name = ModelName(each.model_name, each.model_version)
            told = self._told.setdefault(name, deque())
            now = _Told(at_s, tuple(each.bounds_s), tuple(each.counts))
            if told and sum(told[-1].counts) > sum(now.counts):
                told.clear()
            elif not told and self._noted_s is not None:  # it came since the last look, from nothing
                told.append(_Told(self._noted_s, now.bounds_s, (0,) * len(now.counts)))
            told.append(now)
            while len(told) > 2 and told[1].at_s <= at_s - WINDOW_S:
                told.popleft()
            self._points.setdefault(name, deque(maxlen=POINTS)).append(self.rate(name))
        for gone in self._told.keys() - {ModelName(one.model_name, one.model_version) for one in status.latencies}:
            del self._told[gone], self._points[gone]
        self._noted_s = at_s

    def rate(self, name: ModelName) -> Rate:
        """How a series is doing now."""
        told = self._told.get(name)
        if not told or len(told) < 2:
            return NONE
        first, last = told[0], told[-1]
        if first.bounds_s != last.bounds_s or last.at_s <= first.at_s:
            return NONE
        counts = [after - before for before, after in zip(first.counts, last.counts, strict=True)]
        return Rate(
            sum(counts) / (last.at_s - first.at_s),
            quantile_ms(last.bounds_s, counts, 0.5),
            quantile_ms(last.bounds_s, counts, 0.99),
        )

    def answered(self, name: ModelName) -> int:
        """Requests of a series since the gateway started."""
        told = self._told.get(name)
        return sum(told[-1].counts) if told else 0

    def series(self) -> Mapping[ModelName, Sequence[Rate]]:
        """The points of each series, oldest first."""
        return {name: tuple(points) for name, points in self._points.items()}


def quantile_ms(bounds_s: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """A quantile out of a histogram, in milliseconds; above the last bound it is that bound, which is the least it is.

    Args:
        bounds_s: Upper ends of the buckets, ascending.
        counts: In each bucket, and one more for what is above.
        share: 0 to 1.
    """
    total = sum(counts)
    if total <= 0:
        return None
    wanted = share * total
    for at, reached in enumerate(accumulate(counts)):
        if reached < wanted or not counts[at]:
            continue
        if at == len(bounds_s):
            break
        least = bounds_s[at - 1] if at else 0.0
        within = (wanted - (reached - counts[at])) / counts[at]
        return (least + within * (bounds_s[at] - least)) * 1000
    return bounds_s[-1] * 1000
