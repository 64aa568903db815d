"""What an operator sees of a bridge: requests in, results out, and why some are NaN."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import Counter, Gauge

from cloister.kit.metrics import Metrics


@dataclass(slots=True)
class Totals:
    """Of one stream, since this process began.

    Attributes:
        taken: Requests that were taken, also from an earlier life of this bridge or another's.
        answered: Those with a result.
        failed: Those whose result is NaN, for a reason.
        elsewhere: Those that another bridge has settled meanwhile, or that are not in Redis any more.
    """

    taken: int = 0
    answered: int = 0
    failed: int = 0
    elsewhere: int = 0

    @property
    def left(self) -> int:
        """Requests without a result; whoever starts next takes them up."""
        return self.taken - self.answered - self.failed - self.elsewhere


class Counts:
    """Counts of all streams of a bridge.

    Args:
        metrics: Whose registry these are shown in.

    Attributes:
        streams: By name.
    """

    def __init__(self, metrics: Metrics) -> None:
        registry = metrics.registry
        self.streams: dict[str, Totals] = {}
        self._taken = Counter(
            "cloister_bridge_taken_total", "Requests taken from a stream.", ("stream",), registry=registry
        )
        self._settled = Counter(
            "cloister_bridge_settled_total",
            "Requests settled: answered, failed (NaN), or elsewhere.",
            ("stream", "end", "reason"),
            registry=registry,
        )
        self._again = Counter(
            "cloister_bridge_again_total",
            "Attempts that came to nothing and are made again.",
            ("stream", "reason"),
            registry=registry,
        )
        self._under_way = Gauge(
            "cloister_bridge_under_way", "Requests taken and not settled.", ("stream",), registry=registry
        )

    def opened(self, stream: str) -> None:
        """Begin to count; a stream without requests is shown too."""
        self.streams[stream] = Totals()
        self._taken.labels(stream)
        self._under_way.labels(stream).set(0)

    def taken(self, stream: str, number: int) -> None:
        """Requests have been taken."""
        self.streams[stream].taken += number
        self._taken.labels(stream).inc(number)
        self._show(stream)

    def answered(self, stream: str) -> None:
        """A result was stored."""
        self.streams[stream].answered += 1
        self._settled.labels(stream, "answered", "").inc()
        self._show(stream)

    def failed(self, stream: str, reason: str) -> None:
        """NaN was stored."""
        self.streams[stream].failed += 1
        self._settled.labels(stream, "failed", reason).inc()
        self._show(stream)

    def elsewhere(self, stream: str) -> None:
        """There was nothing more to store."""
        self.streams[stream].elsewhere += 1
        self._settled.labels(stream, "elsewhere", "").inc()
        self._show(stream)

    def again(self, stream: str, reason: str) -> None:
        """Something has to be tried again."""
        self._again.labels(stream, reason).inc()

    def _show(self, stream: str) -> None:
        self._under_way.labels(stream).set(self.streams[stream].left)
