"""Latency at half load: how fast is asked, and which turn stands for all."""

from __future__ import annotations

import pytest
from benchmarks.load.open_loop import Paced
from benchmarks.report import half_load
from benchmarks.report.half_load import LEAST_DUE, MOST_S, HalfLoad
from benchmarks.report.samples import Kind, Row
from benchmarks.report.targets import spreads


def row(per_s: float, system: str = "mesh") -> Row:
    return Row(
        kind=Kind(system, "unary", 32),
        per_s=per_s,
        of_limit=0.0,
        cpu_of_limit=0.0,
        p50_ms=1.0,
        p99_ms=2.0,
        total_cpu_us=1.0,
        spread_us=(1.0, 1.0),
        cpu_us={},
        load_cpu_us=1.0,
        memory_mb=1.0,
    )


def turn(p99_s: float, *, system: str = "mesh", lost: int = 0) -> HalfLoad:
    pace = half_load.pace(row(1000.0), seconds=3.0, warm_up_s=0.5, seed=1)
    came = Paced(
        due=1000,
        answers=1000 - lost,
        refused=lost,
        expired=0,
        errors=0,
        error="",
        unsent=0,
        elapsed_s=3.0,
        cpu_s=1.0,
        p50_s=0.002,
        p99_s=p99_s,
        refusal_p50_s=0.0,
        refusal_p99_s=0.0,
        late_p99_s=0.0001,
    )
    return HalfLoad.of(row(1000.0, system), pace, came)


@pytest.mark.parametrize(
    ("most_per_s", "asked_per_s", "seconds"),
    [(2000.0, 1000.0, 3.0), (50.0, 25.0, LEAST_DUE / 25), (1.0, 0.5, MOST_S)],
)
def test_half_of_the_most_is_asked_for_as_long_as_a_p99_needs(
    most_per_s: float, asked_per_s: float, seconds: float
) -> None:
    pace = half_load.pace(row(most_per_s), seconds=3.0, warm_up_s=0.5, seed=1)
    assert (pace.per_s, pace.seconds) == (asked_per_s, seconds)


def test_the_median_turn_stands_for_all_of_its_kind() -> None:
    found = [turn(0.020), turn(0.004), turn(0.005), turn(0.1, system="peer")]
    assert [(each.system, each.p99_ms) for each in half_load.medians(found)] == [("mesh", 5.0), ("peer", 100.0)]


def test_p99_is_held_against_p50_of_the_same_turn_and_nothing_may_be_lost() -> None:
    found = [turn(0.006), turn(0.0062), turn(0.004, lost=1), turn(0.001, system="peer")]
    assert [(each.found, each.met) for each in spreads(found)] == [
        ("3.0 ×", True),
        ("3.1 ×", False),
        ("2.0 ×", False),
    ]
