"""What workers count, on the page: theirs while they are here, and of nothing that they do not serve."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import generate_latest

from cloister.api.v1.worker_pb2 import ModelCounters, WorkerCounters
from cloister.gateway.worker_metrics import MAX_SERIES, MAX_WORKERS, WorkerMetrics
from cloister.kit.metrics import Metrics
from fakes.gateway_parts import A


def counters(*models: ModelCounters) -> WorkerCounters:
    return WorkerCounters(memory_bytes=1 << 20, under_way=3, models=models)


def tiny(version: str = "1", **numbers: Any) -> ModelCounters:
    told = {"requests": 7, "rows": 9, "evaluations": 3, "batches": [1, 2], "waiting": 5, **numbers}
    return ModelCounters(name="tiny", version=version, **told)


def member(instance: str, told: WorkerCounters | None, versions: int = 1, *, simulated: bool = False) -> Any:
    models = {"tiny": {str(version): None for version in range(1, versions + 1)}}
    link = SimpleNamespace(counters=told, models=models)
    return SimpleNamespace(link=link, worker=SimpleNamespace(instance=instance, simulated=simulated))


def page(*members: Any) -> str:
    metrics = Metrics()
    WorkerMetrics(metrics, cast(Any, SimpleNamespace(members=list(members))))
    return generate_latest(metrics.registry).decode()


def test_counters_are_shown_by_worker_and_model() -> None:
    text = page(member(A, counters(tiny())))
    labels = f'model="tiny",version="1",worker="{A}"'
    assert f'cloister_worker_memory_bytes{{worker="{A}"}} 1.048576e+06' in text
    assert f'cloister_worker_under_way{{worker="{A}"}} 3.0' in text
    assert f"cloister_worker_waiting{{{labels}}} 5.0" in text
    assert f"cloister_worker_rows_total{{{labels}}} 9.0" in text
    assert f'cloister_worker_evaluation_requests_bucket{{le="1.0",{labels}}} 1.0' in text
    assert f'cloister_worker_evaluation_requests_bucket{{le="+Inf",{labels}}} 3.0' in text
    assert f"cloister_worker_evaluation_requests_sum{{{labels}}} 7.0" in text


def test_numbers_of_a_simulated_worker_say_so() -> None:
    text = page(member(A, counters(tiny()), simulated=True), member("b" * 32, counters(tiny())))
    assert f'cloister_worker_simulated{{worker="{A}"}} 1.0' in text
    assert f'cloister_worker_simulated{{worker="{"b" * 32}"}} 0.0' in text


def test_a_worker_without_a_link_or_without_a_report_has_none() -> None:
    gone = member(A, counters(tiny()))
    gone.link = None
    assert 'worker="' not in page(gone, member("b" * 32, None))


@pytest.mark.attack("J03")
def test_what_a_worker_does_not_serve_is_no_label() -> None:
    text = page(member(A, counters(tiny("2"), tiny("1"), tiny("1", requests=8), ModelCounters(name="x" * 500))))
    assert text.count("cloister_worker_waiting{") == 1
    assert 'version="2"' not in text


@pytest.mark.attack("J03")
def test_the_number_of_series_is_bounded() -> None:
    versions = 20
    many = counters(*(tiny(str(version), batches=[1] * 5000) for version in range(1, versions + 1)))
    text = page(*(member(f"{number:032x}", many, versions) for number in range(MAX_WORKERS + 20)))
    assert text.count("cloister_worker_memory_bytes{") == MAX_WORKERS
    assert text.count("cloister_worker_waiting{") == MAX_SERIES
    assert text.count("cloister_worker_evaluation_requests_bucket{") == MAX_SERIES * 10
