from __future__ import annotations

from datetime import timedelta

import pytest

from cloister.errors import EvidenceRejected, NotReady, Overloaded
from cloister.provisioner.releases.rates import Rates
from cloister.provisioner.releases.used_results import UsedResults
from fakes.results import NOW, Clock, good_result


@pytest.mark.attack("E06")
def test_a_result_serves_once() -> None:
    used = UsedResults(started_at=NOW, last_release_at=None)
    used.use(good_result(), now=NOW)
    with pytest.raises(EvidenceRejected) as again:
        used.use(good_result(), now=NOW)
    assert again.value.reason == "token.used"
    used.use(good_result(ear_id="another"), now=NOW)


def test_a_result_of_the_very_second_of_the_start_is_good() -> None:
    used = UsedResults(started_at=NOW + timedelta(milliseconds=900), last_release_at=None)
    used.use(good_result(), now=NOW)


def test_an_earlier_one_is_not() -> None:
    used = UsedResults(started_at=NOW + timedelta(seconds=1), last_release_at=None)
    with pytest.raises(NotReady) as refused:
        used.use(good_result(), now=NOW)
    assert refused.value.reason == "token.before_start"


@pytest.mark.attack("E06")
@pytest.mark.parametrize(("ago_s", "issued_s"), [(1, 0), (1, 28), (1, 29), (30, 0), (-600, 30)])
def test_what_may_have_been_used_before_the_start_is_refused(ago_s: int, issued_s: int) -> None:
    used = UsedResults(started_at=NOW, last_release_at=NOW - timedelta(seconds=ago_s))
    with pytest.raises(NotReady) as refused:
        used.use(good_result(issued_at=NOW + timedelta(seconds=issued_s)), now=NOW)
    assert refused.value.reason == "token.before_start"


@pytest.mark.parametrize(("ago_s", "issued_s"), [(1, 30), (31, 0), (86_400, 0), (-600, 31)])
def test_what_cannot_have_been_used_is_not(ago_s: int, issued_s: int) -> None:
    used = UsedResults(started_at=NOW, last_release_at=NOW - timedelta(seconds=ago_s))
    used.use(good_result(issued_at=NOW + timedelta(seconds=issued_s)), now=NOW)


def test_results_are_remembered_until_they_have_expired_and_no_longer() -> None:
    used = UsedResults(started_at=NOW, last_release_at=None, capacity=2)
    for number in range(2):
        used.use(good_result(ear_id=str(number)), now=NOW)
    with pytest.raises(Overloaded):
        used.use(good_result(ear_id="2"), now=NOW + timedelta(minutes=5))
    later = NOW + timedelta(minutes=6, seconds=1)
    used.use(good_result(ear_id="2", issued_at=later, expires_at=later + timedelta(minutes=5)), now=later)


def test_a_bucket_refills_steadily() -> None:
    clock = Clock()
    rates = Rates(per_minute=60, monotonic=clock)
    for _ in range(60):
        rates.take("a")
    with pytest.raises(Overloaded) as refused:
        rates.take("a")
    assert refused.value.reason == "release.too_often"
    rates.take("b")
    clock.pass_s(1)
    rates.take("a")
    with pytest.raises(Overloaded):
        rates.take("a")


def test_buckets_are_bounded() -> None:
    rates = Rates(per_minute=1, monotonic=Clock(), capacity=2)
    for name in ("a", "b", "c"):
        rates.take(name)
    rates.take("a")
    with pytest.raises(Overloaded):
        rates.take("c")
