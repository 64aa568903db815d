"""What an operator sees of the requests: how they ended, how long they took for each model, who waits.

Names follow kit/metrics.py, whose registry they share. Models are labelled up to a limit, because a mesh may serve any
number; a name that no worker serves is never a label, because a client may make up any number.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from prometheus_client import Counter, Histogram

from cloister.gateway.fleet import Fleet
from cloister.kit.metrics import Metrics

MAX_MODELS: Final = 100
OTHER: Final = "other"
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class RequestMetrics:
    """Counts requests of both kinds, single and streamed."""

    def __init__(self, metrics: Metrics) -> None:
        self._ended = Counter(
            "cloister_requests_total", "Inference requests that ended.", ("outcome",), registry=metrics.registry
        )
        self._seconds = Histogram(
            "cloister_request_seconds",
            "Time from a request's last byte to its answer.",
            ("model",),
            buckets=_SECONDS,
            registry=metrics.registry,
        )
        # Looking a label up costs as much as counting.
        self._outcomes: dict[str, Counter] = {}
        self._models: dict[str, Histogram] = {}

    def request_ended(self, outcome: str, model: str, seconds: float) -> None:
        """Count one request.

        Args:
            outcome: `answered`, `cancelled`, or the class of its error.
            model: A model that some worker serves, or empty.
            seconds: How long it took.
        """
        counter = self._outcomes.get(outcome)
        if counter is None:
            counter = self._outcomes[outcome] = self._ended.labels(outcome)
        counter.inc()
        histogram = self._models.get(model)
        if histogram is None:
            label = model if model and len(self._models) < MAX_MODELS else OTHER
            histogram = self._seconds.labels(label)
            if label == model:
                self._models[model] = histogram
        histogram.observe(seconds)


def watch_fleet(metrics: Metrics, fleet: Fleet) -> None:
    """Let the gauges show the fleet as it is when they are read."""
    metrics.queued.set_function(lambda: fleet.dispatcher.queued)
    metrics.slots.set_function(lambda: sum(member.link.slots for member in fleet.members if member.link))
    metrics.slots_used.set_function(lambda: sum(member.link.used for member in fleet.members if member.link))
    for simulated in (False, True):
        metrics.workers.labels(str(simulated).lower()).set_function(partial(_count, fleet, simulated))


def _count(fleet: Fleet, simulated: bool) -> int:
    return sum(member.worker.simulated == simulated for member in fleet.members)
