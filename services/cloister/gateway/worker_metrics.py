"""What workers count, for an operator: plain numbers that came over their links, shown under the worker's instance.

Every gateway of a worker shows the same numbers, so they are not to be summed over gateways. A worker that has gone
takes its series with it, and one that claims what it does not serve is shown without that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cloister.api.v1.worker_pb2 import ModelCounters, WorkerCounters
from cloister.gateway.catalogue import Models
from cloister.gateway.fleet import Fleet
from cloister.kit.histogram import SIZES, add_buckets
from cloister.kit.metrics import Metrics

MAX_WORKERS: Final = 100
MAX_SERIES: Final = 1000
"""Of models on workers."""
_BUCKETS: Final = len(SIZES) + 1


class WorkerMetrics(Collector):
    """Tells the exporter what each worker has reported last."""

    def __init__(self, metrics: Metrics, fleet: Fleet) -> None:
        self._fleet = fleet
        metrics.registry.register(self)

    def describe(self) -> list[Metric]:
        """Nothing: what there is depends on who is attested."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All of it, as it is now; called on the exporter's thread."""
        memory = GaugeMetricFamily("cloister_worker_memory_bytes", "Resident memory.", labels=("worker",))
        busy = GaugeMetricFamily(
            "cloister_worker_under_way", "Calls of this gateway without a result.", labels=("worker",)
        )
        simulated = GaugeMetricFamily(
            "cloister_worker_simulated", "1 where its hardware is simulated and protects nothing.", labels=("worker",)
        )
        per_model = _PerModel()
        for member in self._fleet.members[:MAX_WORKERS]:
            link, worker = member.link, member.worker.instance
            counters = link.counters if link is not None else None
            if link is None or counters is None:
                continue
            simulated.add_metric((worker,), member.worker.simulated)
            memory.add_metric((worker,), counters.memory_bytes)
            busy.add_metric((worker,), counters.under_way)
            for told in served(counters, link.models):
                per_model.add(worker, told)
        yield from (memory, busy, simulated, *per_model.metrics)


class _PerModel:
    def __init__(self) -> None:
        labels = ("worker", "model", "version")
        self._waiting = GaugeMetricFamily(
            "cloister_worker_waiting", "Requests that wait for an evaluation.", labels=labels
        )
        self._rows = CounterMetricFamily("cloister_worker_rows", "Rows evaluated.", labels=labels)
        self._batches = Metric(
            "cloister_worker_evaluation_requests", "Evaluations, by how many requests shared them.", "histogram"
        )
        self._count = 0

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return self._waiting, self._rows, self._batches

    def add(self, worker: str, told: ModelCounters) -> None:
        self._count += 1
        if self._count > MAX_SERIES:
            return
        labels = (worker, told.name, told.version)
        self._waiting.add_metric(labels, told.waiting)
        self._rows.add_metric(labels, told.rows)
        counts = [*told.batches[:_BUCKETS], *[0] * (_BUCKETS - len(told.batches))]
        named = {"worker": worker, "model": told.name, "version": told.version}
        add_buckets(self._batches, named, SIZES, counts, told.requests)


def served(counters: WorkerCounters, models: Models) -> list[ModelCounters]:
    """Those counters that are about what the worker serves, each once."""
    known = {(told.name, told.version): told for told in counters.models}
    return [told for (name, version), told in known.items() if version in models.get(name, ())]
