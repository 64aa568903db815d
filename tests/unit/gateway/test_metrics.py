"""What an operator sees, in few enough labels."""

from __future__ import annotations

from prometheus_client import generate_latest

from cloister.gateway.metrics import MAX_MODELS, RequestMetrics
from cloister.kit.metrics import Metrics


def test_requests_by_outcome_and_seconds_by_model() -> None:
    metrics = Metrics()
    seen = RequestMetrics(metrics)
    seen.request_ended("answered", "tiny", 0.004)
    seen.request_ended("Overloaded", "", 0.0)
    page = generate_latest(metrics.registry).decode()
    assert 'cloister_requests_total{outcome="answered"} 1.0' in page
    assert 'cloister_requests_total{outcome="Overloaded"} 1.0' in page
    assert 'cloister_request_seconds_bucket{le="0.005",model="tiny"} 1.0' in page
    assert 'cloister_request_seconds_count{model="other"} 1.0' in page


def test_the_number_of_labels_is_bounded() -> None:
    metrics = Metrics()
    seen = RequestMetrics(metrics)
    for number in range(MAX_MODELS + 50):
        seen.request_ended("answered", f"m{number}", 0.001)
    page = generate_latest(metrics.registry).decode()
    assert page.count("cloister_request_seconds_count{") == MAX_MODELS + 1
    assert 'cloister_request_seconds_count{model="other"} 50.0' in page
