"""What an operator sees of jobs: how many came, how they ended, how long the queues are, and whether there is progress.

A label is the name of a model that is known, up to a limit; reasons are those of `errors`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cloister.errors import CloisterError
from cloister.gateway.jobs.job import Accepted
from cloister.gateway.jobs.store_watch import READY, StoreWatch
from cloister.gateway.refusals import bounded
from cloister.kit.metrics import Metrics
from cloister.rpc.status import reason_of

ANSWERED: Final = "answered"
MAX_SHOWN: Final = 100
"""Queues of one page."""
_GAUGES: Final = (
    ("cloister_jobs_waiting", "Jobs that nobody has taken yet.", "waiting"),
    ("cloister_jobs_running", "Jobs that some worker may have.", "running"),
    ("cloister_jobs_bytes", "Requests of jobs that have not ended.", "size_bytes"),
    ("cloister_jobs_oldest_seconds", "How long the oldest job that waits has waited.", "oldest_s"),
    ("cloister_jobs_dead_letters", "Dead letters that are kept.", "dead"),
)


class JobMetrics(Collector):
    """Counts jobs, and tells the exporter of them and of the queues when it asks.

    Args:
        metrics: Whose registry these share.
        stores: Knows how the queues are.

    Attributes:
        held: How many jobs of each model this process holds; None where it gives none to workers.
        progressed_at: When this process last found that jobs go on, on the clock of `time.monotonic`.
    """

    def __init__(self, metrics: Metrics, stores: StoreWatch) -> None:
        self.held: Callable[[], dict[str, int]] | None = None
        self.progressed_at = time.monotonic()
        self._stores = stores
        self._models: set[str] = set()
        self._words: set[str] = set()
        self._submitted: dict[tuple[str, str], int] = {}
        self._ended: dict[tuple[str, str], int] = {}
        self._attempts: dict[tuple[str, str], int] = {}
        if not stores.is_off:
            metrics.registry.register(self)

    def submitted(self, model: str, outcome: Accepted | CloisterError) -> None:
        """Count one submission."""
        accepted = "existed" if isinstance(outcome, Accepted) and outcome.existed else "accepted"
        self._count(self._submitted, model, accepted if isinstance(outcome, Accepted) else reason_of(outcome))

    def ended(self, model: str, error: BaseException | None, count: int = 1) -> None:
        """Count jobs that ended alike: with an answer, or with this error."""
        self._count(self._ended, model, ANSWERED if error is None else reason_of(error), count)

    def attempted(self, model: str, what: str) -> None:
        """Count one try to have a job answered: `answered`, or why it was not."""
        self._count(self._attempts, model, what)

    def progressed(self) -> None:
        """Something was taken, answered or settled, or there was nothing to take."""
        self.progressed_at = time.monotonic()

    def describe(self) -> list[Metric]:
        """Nothing: what there is depends on what was asked for."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All of it, as it is now; called on the exporter's thread."""
        ready = self._stores.state == READY
        yield GaugeMetricFamily("cloister_jobs_ready", "Whether jobs can be kept now; 0 is an alarm.", value=ready)
        yield _counter("cloister_jobs_submitted", "Jobs asked for, by what came of it.", self._submitted, "outcome")
        queues = list(self._stores.queues.values())[:MAX_SHOWN]
        for name, documentation, field in _GAUGES:
            gauge = GaugeMetricFamily(name, documentation, labels=["model"])
            for counts in queues:
                gauge.add_metric([counts.model_name], getattr(counts, field))
            yield gauge
        if self.held is None:
            return
        yield _counter("cloister_jobs_ended", "Jobs that ended here: answered, or the reason why not.", self._ended)
        yield _counter("cloister_jobs_attempts", "Tries to have a job answered.", self._attempts, "outcome")
        held = GaugeMetricFamily("cloister_jobs_held", "Jobs that this process has taken.", labels=["model"])
        for model, count in self.held().items():
            held.add_metric([model], count)
        yield held
        idle_s = time.monotonic() - self.progressed_at
        yield GaugeMetricFamily("cloister_jobs_idle_seconds", "Since jobs last went on here.", value=idle_s)

    def _count(self, counts: dict[tuple[str, str], int], model: str, what: str, count: int = 1) -> None:
        key = bounded(model, self._models), bounded(what, self._words)
        counts[key] = counts.get(key, 0) + count


def _counter(name: str, documentation: str, counts: dict[tuple[str, str], int], label: str = "reason") -> Metric:
    family = CounterMetricFamily(name, documentation, labels=["model", label])
    for labels, count in list(counts.items()):  # in one step: this is the exporter's thread
        family.add_metric(labels, count)
    return family
