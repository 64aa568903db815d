"""A token bucket: the rate it keeps, and that no clock and no number can break it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.gateway.bucket import Bucket


def test_a_burst_and_then_the_rate() -> None:
    bucket = Bucket(10.0, 3)
    assert [bucket.take(5.0) for _ in range(3)] == [0.0] * 3
    assert bucket.take(5.0) == pytest.approx(0.1)
    assert bucket.take(5.05) == pytest.approx(0.05)
    assert bucket.take(5.1) == 0.0
    assert bucket.take(5.1) == pytest.approx(0.1)


def test_without_a_burst_a_second_of_the_rate_comes_at_once_and_one_at_least() -> None:
    quick, slow = Bucket(5.0), Bucket(0.1)
    assert [quick.take(0.0) > 0 for _ in range(6)] == [False] * 5 + [True]
    assert [slow.take(0.0) > 0 for _ in range(2)] == [False, True]


def test_what_is_refused_takes_nothing() -> None:
    bucket = Bucket(1.0, 1)
    assert bucket.take(0.0) == 0.0
    for _ in range(1000):
        assert bucket.take(0.5) == pytest.approx(0.5)
    assert bucket.take(1.0) == 0.0


def test_it_is_full_again_after_a_while() -> None:
    bucket = Bucket(10.0, 2)
    bucket.take(0.0)
    bucket.take(0.0)
    assert not bucket.full(0.1)
    assert bucket.full(0.2)


@given(
    rate=st.floats(0.001, 1e6),
    burst=st.integers(0, 1 << 20),
    times=st.lists(st.floats(allow_nan=False, min_value=-1e12, max_value=1e12), max_size=30),
)
@pytest.mark.attack("G26")
def test_whatever_the_clock_says_nobody_waits_longer_than_for_one_token(
    rate: float, burst: int, times: list[float]
) -> None:
    bucket = Bucket(rate, burst)
    for now_s in times:
        wait_s = bucket.take(now_s)
        rounding_s = 1e-9 * (1 / rate + max(map(abs, times)))
        assert 0.0 <= wait_s <= 1 / rate + rounding_s


@given(rate=st.floats(0.5, 1000), burst=st.integers(1, 50), gaps=st.lists(st.floats(0, 1), min_size=1, max_size=200))
def test_never_more_than_the_burst_and_the_rate(rate: float, burst: int, gaps: list[float]) -> None:
    bucket, now_s, taken = Bucket(rate, burst), 0.0, 0
    for gap_s in gaps:
        now_s += gap_s
        taken += bucket.take(now_s) == 0.0
    assert taken <= burst + now_s * rate + 1e-6
