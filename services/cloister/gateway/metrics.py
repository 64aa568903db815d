"""What an operator sees of the requests: how they ended, and for each model where their time went.

Names follow kit/metrics.py, whose registry they share. A series is a model in a version that some worker serves, up to
a limit: a name that no worker serves is never a label, because a client may make up any number. A request costs two
microseconds here, which is why nothing of it goes through prometheus_client before somebody asks for the page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from cloister.api.v1.gateway_pb2 import ModelLatency
from cloister.gateway.call import Call
from cloister.gateway.fleet import Fleet
from cloister.gateway.link import Link
from cloister.gateway.timing import Phases, phases
from cloister.kit.histogram import SECONDS, SIZES, Histograms
from cloister.kit.metrics import Metrics

MAX_SERIES: Final = 100
OTHER: Final = "other"
CROWDED: Final = 1000
"""Requests without a place among the series between two looks for one: a look asks the whole fleet."""

Serves = Callable[[str, str], bool]
"""Whether some worker serves a model in a version, or, where that is empty, in any."""
_Labels = tuple[str, str]
_BOUNDS: Final = (SECONDS, *[SECONDS] * len(Phases._fields), SIZES, SIZES)
"""Of each version of a model: whole requests, their phases, the requests and the rows of their evaluations."""
_REQUESTS: Final = len(_BOUNDS) - 2


class RequestMetrics(Collector):
    """Counts requests of both kinds, single and streamed, and tells the exporter of them when it asks.

    Args:
        metrics: Whose registry these share.
        serves: Asked when something is to become a label.
    """

    def __init__(self, metrics: Metrics, serves: Serves) -> None:
        self._serves = serves
        self._outcomes: dict[str, int] = {}
        self._series: dict[_Labels, Histograms] = {}
        self._crowded = 0
        metrics.registry.register(self)

    def request_ended(self, outcome: str, call: Call | None) -> None:
        """Count one request.

        Args:
            outcome: `answered`, `cancelled`, or the class of its error.
            call: None where it never became one.
        """
        self._outcomes[outcome] = self._outcomes.get(outcome, 0) + 1
        if call is None or not call.sent:
            self._of("", "").observe((0.0 if call is None else call.ended_s - call.began_s,))
            return
        worker, trace = call.worker_time, call.trace
        series = self._of(call.route.model_name, worker.model_version if worker is not None else "")
        example = trace.trace_id if trace is not None and trace.sampled else ""
        whole_s = call.ended_s - call.began_s
        if worker is None:
            series.observe((whole_s,), example)
        else:
            series.observe((whole_s, *phases(call, call.ended_s), worker.requests, worker.rows), example)

    def _of(self, model: str, version: str) -> Histograms:
        series = self._series.get((model, version))
        if series is not None:
            return series
        if model and len(self._series) >= MAX_SERIES:
            self._forget()
        if not model or len(self._series) >= MAX_SERIES or not self._serves(model, version):
            model, version = OTHER, ""
        return self._series.setdefault((model, version), Histograms(*_BOUNDS))

    def _forget(self) -> None:
        """Make room for what is served now, by what no worker serves any more; looked for once in `CROWDED` times."""
        self._crowded += 1
        if self._crowded % CROWDED != 1:
            return
        for model, version in list(self._series):
            if model != OTHER and not self._serves(model, version):
                del self._series[model, version]

    def latencies(self) -> Iterator[ModelLatency]:
        """How long the requests of each series took, for GetStatus."""
        for (model, version), series in self._series.items():
            bounds_s, counts, sum_s = series.told()
            yield ModelLatency(model_name=model, model_version=version, bounds_s=bounds_s, counts=counts, sum_s=sum_s)

    def describe(self) -> list[Metric]:
        """Nothing: what there is depends on what was asked for."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All of it, as it is now; called on the exporter's thread."""
        ended = CounterMetricFamily("cloister_requests", "Inference requests that ended.", labels=("outcome",))
        for outcome, count in list(self._outcomes.items()):
            ended.add_metric((outcome,), count)
        yield ended
        whole = _histogram("cloister_request_seconds", "Time from a request's last byte to its answer.")
        parts = _histogram("cloister_request_phase_seconds", "Where the time of answered requests went.")
        requests = _histogram("cloister_batch_requests", "How many requests a request shared its evaluation with.")
        rows = _histogram("cloister_batch_rows", "How many rows the evaluation of a request had.")
        for (model, version), series in list(self._series.items()):
            labels = {"model": model, "version": version}
            series.add_to(whole, labels)
            for at, phase in enumerate(Phases._fields, 1):
                series.add_to(parts, {**labels, "phase": phase}, at)
            series.add_to(requests, labels, _REQUESTS)
            series.add_to(rows, labels, _REQUESTS + 1)
        yield from (whole, parts, requests, rows)


def _histogram(name: str, documentation: str) -> Metric:
    return Metric(name, documentation, "histogram")


def watch_fleet(metrics: Metrics, fleet: Fleet) -> None:
    """Let the gauges show the fleet as it is when they are read."""
    metrics.queued.set_function(lambda: fleet.dispatcher.queued)
    metrics.slots.set_function(lambda: sum(link.granted for link in _links(fleet)))
    metrics.slots_used.set_function(lambda: sum(link.used for link in _links(fleet)))
    for simulated in (False, True):
        metrics.workers.labels(str(simulated).lower()).set_function(partial(_count, fleet, simulated))


def _links(fleet: Fleet) -> Iterator[Link]:
    """The links as they are; on the exporter's thread, where one may end between two looks at its member."""
    return (link for member in fleet.members if (link := member.link) is not None)


def _count(fleet: Fleet, simulated: bool) -> int:
    return sum(member.worker.simulated == simulated for member in fleet.members)
