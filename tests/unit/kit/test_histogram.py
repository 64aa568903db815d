"""Histograms as scrapers read them: what prometheus_client's own would show for the same values."""

from __future__ import annotations

from collections.abc import Iterator

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from cloister.kit.histogram import SECONDS, SIZES, Histograms


class Shown(Collector):
    def __init__(self, histograms: Histograms) -> None:
        self.histograms = histograms

    def collect(self) -> Iterator[Metric]:
        metric = Metric("some_seconds", "Of a test.", "histogram")
        self.histograms.add_to(metric, {"model": "tiny"})
        yield metric


def registry_of(histograms: Histograms) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(Shown(histograms))
    return registry


@given(st.lists(st.floats(0, 20) | st.sampled_from(SECONDS), min_size=1))
def test_the_page_is_that_of_the_library(values: list[float]) -> None:
    histograms, registry = Histograms(SECONDS), CollectorRegistry()
    theirs = prometheus_client.Histogram("some_seconds", "Of a test.", ("model",), buckets=SECONDS, registry=registry)
    for value in values:
        histograms.observe((value,))
        theirs.labels("tiny").observe(value)
    expected = [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]
    assert generate_latest(registry_of(histograms)).decode().splitlines() == expected


def test_the_latest_example_of_each_bucket_is_kept() -> None:
    histograms = Histograms(SECONDS)
    for value, trace_id in ((0.3, "a" * 32), (0.4, "b" * 32), (0.001, "c" * 32), (0.002, "")):
        histograms.observe((value,), trace_id)
    (family,) = text_string_to_metric_families(openmetrics(registry_of(histograms)).decode())
    told = {each.labels["le"]: each.exemplar for each in family.samples if each.exemplar is not None}
    assert {le: (each.labels["trace_id"], each.value) for le, each in told.items()} == {
        "0.001": ("c" * 32, 0.001),
        "0.5": ("b" * 32, 0.4),
    }


def test_fewer_values_are_those_of_the_first_series() -> None:
    histograms = Histograms(SECONDS, SIZES, SIZES)
    histograms.observe((0.5, 4, 8))
    histograms.observe((0.5,))
    shown = [Metric(f"some_{at}", "Of a test.", "histogram") for at in range(3)]
    for at, metric in enumerate(shown):
        histograms.add_to(metric, {}, at)
    assert [[sample.value for sample in metric.samples[-2:]] for metric in shown] == [[2, 1.0], [1, 4], [1, 8]]


@pytest.mark.parametrize("bounds", [SECONDS, SIZES])
def test_bounds_ascend(bounds: tuple[float, ...]) -> None:
    assert list(bounds) == sorted(set(bounds))
