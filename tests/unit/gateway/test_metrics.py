"""What an operator sees, in few enough labels."""

from __future__ import annotations

import re

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics

from cloister.gateway.call import Call
from cloister.gateway.metrics import MAX_SERIES, RequestMetrics
from cloister.gateway.worker_times import worker_times
from cloister.kit.metrics import Metrics
from cloister.kit.traces import TraceContext
from fakes.gateway_parts import evaluation, infer_request, make_call, report

TRACE = TraceContext("a" * 32, "b" * 16, sampled=True)


class Page:
    """Metrics of a gateway whose workers serve what a test says; else every model and version."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.served: set[tuple[str, str]] | None = None
        self.asked = 0
        self.seen = RequestMetrics(self.metrics, self._serves)

    def _serves(self, model: str, version: str) -> bool:
        self.asked += 1
        return self.served is None or (model, version) in self.served

    def answer(
        self, model: str = "tiny", version: str = "1", *, total_s: float = 0.02, trace: TraceContext | None = None
    ) -> Call:
        call = make_call(infer_request(model))
        call.sent, call.trace = True, trace
        call.left_s, call.back_s = call.began_s + 0.002, call.began_s + total_s - 0.001
        call.ended_s = call.began_s + total_s
        if version:
            (call.worker_time,) = worker_times(report(evaluation(version)))
        self.seen.request_ended("answered", call)
        return call

    @property
    def text(self) -> str:
        return generate_latest(self.metrics.registry).decode()


async def test_requests_by_outcome_and_seconds_by_model_and_version() -> None:
    page = Page()
    page.answer()
    page.seen.request_ended("Overloaded", None)
    assert 'cloister_requests_total{outcome="answered"} 1.0' in page.text
    assert 'cloister_requests_total{outcome="Overloaded"} 1.0' in page.text
    assert 'cloister_request_seconds_bucket{le="0.025",model="tiny",version="1"} 1.0' in page.text
    assert 'cloister_request_seconds_bucket{le="0.01",model="tiny",version="1"} 0.0' in page.text
    assert 'cloister_request_seconds_count{model="other",version=""} 1.0' in page.text


async def test_the_phases_add_up_to_the_whole() -> None:
    page = Page()
    page.answer()
    parts = re.findall(r"cloister_request_phase_seconds_sum{.*} (.*)", page.text)
    (whole,) = re.findall(r'cloister_request_seconds_sum{model="tiny".*} (.*)', page.text)
    assert len(parts) == 7
    assert sum(map(float, parts)) == pytest.approx(float(whole)) == pytest.approx(0.02)


async def test_batches_are_seen_as_their_requests_see_them() -> None:
    page = Page()
    for _ in range(4):
        page.answer()
    assert 'cloister_batch_requests_bucket{le="4.0",model="tiny",version="1"} 4.0' in page.text
    assert 'cloister_batch_requests_bucket{le="2.0",model="tiny",version="1"} 0.0' in page.text
    assert 'cloister_batch_rows_sum{model="tiny",version="1"} 36.0' in page.text


@pytest.mark.attack("J03")
async def test_the_number_of_labels_is_bounded() -> None:
    page = Page()
    for number in range(MAX_SERIES + 50):
        page.answer(f"m{number}")
    assert page.text.count("cloister_request_seconds_count{") == MAX_SERIES + 1
    assert 'cloister_request_seconds_count{model="other",version=""} 50.0' in page.text


@pytest.mark.attack("J03")
async def test_only_what_some_worker_serves_is_a_label() -> None:
    page = Page()
    page.served = {("tiny", "1")}
    page.answer()
    page.answer(version="made up by a worker")
    assert "made up" not in page.text
    assert 'cloister_request_seconds_count{model="other",version=""} 1.0' in page.text


async def test_versions_that_are_gone_make_room_for_new_ones() -> None:
    page = Page()
    for version in range(1, MAX_SERIES + 1):
        page.answer(version=str(version))
    page.served = {("tiny", "1"), ("tiny", "1000")}
    page.answer(version="1000")
    assert set(re.findall(r'cloister_request_seconds_count{model="tiny",version="(\d+)"}', page.text)) == {"1", "1000"}


async def test_a_slow_request_that_was_traced_is_an_example_of_its_bucket() -> None:
    page = Page()
    page.answer(total_s=0.4, trace=TRACE)
    page.answer(total_s=0.02, trace=TRACE._replace(trace_id="c" * 32, sampled=False))
    lines = [line for line in openmetrics(page.metrics.registry).decode().splitlines() if "trace_id" in line]
    assert len(lines) == 1
    assert 'le="0.5",model="tiny",version="1"} 2.0 # {trace_id="' + "a" * 32 + '"} 0.' in lines[0]
    assert "trace_id" not in page.text


async def test_a_crowd_of_models_does_not_have_every_request_ask_the_fleet() -> None:
    page = Page()
    for number in range(MAX_SERIES):
        page.answer(f"m{number}")
    page.asked = 0
    for _ in range(50):
        page.answer("one-too-many")
        page.seen.request_ended("Overloaded", None)
    assert page.asked <= MAX_SERIES
    assert 'cloister_request_seconds_count{model="other",version=""} 100.0' in page.text
