"""A leak is found, noise and one jump are not taken for one."""

import random

import pytest
from benchmarks.report.drift import MB, Memory, drifts, slope

TIMES = [5.0 * at for at in range(120)]


def memory(*sizes_mb):
    return Memory("worker-1", TIMES, [size * MB for size in sizes_mb])


def noisy(size_mb):
    draw = random.Random(1)
    return [size_mb + draw.uniform(-3, 3) for _ in TIMES]


def test_the_slope_is_that_of_the_line_whatever_one_point_says():
    assert slope([0, 1, 2, 3, 4], [1, 3, 5, 7, 9]) == pytest.approx(2)
    assert slope([0, 1, 2, 3, 4], [1, 3, 500, 7, 9]) == pytest.approx(2)
    assert slope([1], [1]) == 0


def test_flat_memory_with_noise_does_not_grow():
    assert not memory(*noisy(200)).grows


def test_what_fills_while_it_warms_up_is_not_a_leak():
    assert not memory(*(min(200, 100 + 4 * at) for at in range(120))).grows


def test_one_jump_is_not_a_leak():
    assert not memory(*(200 if at < 100 else 220 for at in range(120))).grows


def test_a_leak_grows_whatever_the_noise():
    leaking = memory(*(size + 0.1 * at for at, size in enumerate(noisy(200))))
    assert leaking.slope_mb_per_h == pytest.approx(72, rel=0.25)
    assert leaking.growth_mb == pytest.approx(9, rel=0.25)
    assert not leaking.grows  # 9 MB of 200 in ten minutes is within the bound of such a short run
    assert memory(*(size + 0.2 * at for at, size in enumerate(noisy(200)))).grows


@pytest.mark.parametrize(
    ("p99_ms", "drifted"),
    [
        ([5.0] * 12, False),
        ([5.0] * 8 + [50.0] * 4, True),
        ([5.0] * 9 + [50.0] + [5.0] * 2, False),
        ([1.0, 99.0], False),
    ],
)
def test_latency_drifts_when_the_last_third_is_slower(p99_ms, drifted):
    assert drifts(p99_ms) is drifted
