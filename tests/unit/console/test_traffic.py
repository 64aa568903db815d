"""Rates and quantiles from counters that only go up."""

from __future__ import annotations

import pytest

from cloister.api.v1.gateway_pb2 import GetStatusResponse, ModelLatency
from cloister.console.traffic import NONE, POINTS, ModelName, Traffic, quantile_ms

NAME = ModelName("iris", "1")
BOUNDS = (0.001, 0.01, 0.1)


def status(*counts: int) -> GetStatusResponse:
    return GetStatusResponse(
        latencies=[ModelLatency(model_name="iris", model_version="1", bounds_s=BOUNDS, counts=counts)]
    )


def test_a_rate_is_what_came_between_two_looks() -> None:
    traffic = Traffic()
    traffic.note(status(5, 0, 0, 0), 100.0)
    assert traffic.rate(NAME) == NONE
    traffic.note(status(5, 10, 0, 0), 102.0)
    assert traffic.rate(NAME).per_second == 5.0
    assert traffic.answered(NAME) == 15
    assert traffic.rate(NAME).p50_ms == pytest.approx(5.5)


def test_a_series_that_came_since_the_last_look_came_from_nothing() -> None:
    traffic = Traffic()
    traffic.note(GetStatusResponse(), 100.0)
    traffic.note(status(30, 0, 0, 0), 102.0)
    assert traffic.rate(NAME).per_second == 15.0


def test_old_looks_are_forgotten_and_idleness_is_seen() -> None:
    traffic = Traffic()
    for second in range(200):
        traffic.note(status(min(second, 50), 0, 0, 0), float(second))
    assert traffic.rate(NAME) == NONE
    assert len(traffic.series()[NAME]) == POINTS


def test_a_gateway_that_started_again_begins_anew() -> None:
    traffic = Traffic()
    traffic.note(status(500, 0, 0, 0), 1.0)
    traffic.note(status(3, 0, 0, 0), 2.0)
    assert traffic.rate(NAME) == NONE
    traffic.note(status(6, 0, 0, 0), 3.0)
    assert traffic.rate(NAME).per_second == 3.0


def test_a_series_that_is_not_told_of_any_more_goes() -> None:
    traffic = Traffic()
    traffic.note(status(1, 0, 0, 0), 1.0)
    traffic.note(GetStatusResponse(), 2.0)
    assert not traffic.series()


@pytest.mark.parametrize(
    ("counts", "share", "wanted"),
    [
        ((0, 0, 0, 0), 0.5, None),
        ((10, 0, 0, 0), 0.5, 0.5),
        ((0, 10, 0, 0), 0.99, 9.91),
        ((5, 0, 5, 0), 0.5, 1.0),
        ((0, 0, 0, 7), 0.5, 100.0),
    ],
)
def test_quantiles(counts: tuple[int, ...], share: float, wanted: float | None) -> None:
    assert quantile_ms(BOUNDS, counts, share) == (None if wanted is None else pytest.approx(wanted))
