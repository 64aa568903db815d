"""The verifier's time, carried on without the host's calendar (attacks I03)."""

from datetime import UTC, datetime, timedelta

import pytest

from cloister.errors import CloisterError
from cloister.worker.clock import TOLERANCE_S, ClockJumped, MeshClock, counter_s
from fakes.results import Clock

HEARD = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def counter():
    return Clock()


@pytest.fixture
def clock(counter):
    made = MeshClock(counter)
    made.hear(HEARD)
    return made


def test_time_goes_on_from_what_was_heard(counter):
    clock = MeshClock(counter)
    with pytest.raises(RuntimeError):
        clock.now()
    clock.hear(HEARD)
    counter.pass_s(90)
    assert clock.now() == HEARD + timedelta(seconds=90)
    assert clock.lasts_s(HEARD + timedelta(seconds=100)) == 10
    assert clock.lasts_s(HEARD) == -90
    clock.hear(HEARD + timedelta(seconds=120))
    assert clock.now() == HEARD + timedelta(seconds=120)


def test_the_clock_never_goes_back(clock, counter):
    counter.pass_s(100)
    before = clock.now()
    clock.hear(HEARD + timedelta(seconds=70))  # the verifier says that 30 s less have gone by
    assert clock.now() == before
    counter.pass_s(29)
    assert clock.now() == before
    counter.pass_s(11)
    assert clock.now() == HEARD + timedelta(seconds=110)


def test_a_result_that_was_heard_before_does_not_hold_the_clock(clock, counter):
    for _ in range(10):
        counter.pass_s(25)
        clock.hear(HEARD)
        clock.hear(HEARD - timedelta(seconds=10))
    assert clock.now() == HEARD + timedelta(seconds=250)


@pytest.mark.parametrize("jump_s", [TOLERANCE_S, -TOLERANCE_S])
def test_a_time_far_from_the_counter_stops_the_worker(clock, counter, jump_s):
    counter.pass_s(1000)
    at = HEARD + timedelta(seconds=1000 + jump_s)
    clock.hear(at)
    other = MeshClock(counter)
    other.hear(HEARD)
    with pytest.raises(ClockJumped, match=r"the host plays with time, or the verifier's clock was set"):
        other.hear(HEARD + timedelta(seconds=jump_s + (1 if jump_s > 0 else -1)))


def test_years_ago_is_no_time(clock):
    with pytest.raises(ClockJumped):
        clock.hear(HEARD - timedelta(days=3650))
    assert clock.lasts_s(HEARD + timedelta(hours=1)) <= 3600


def test_a_jump_is_no_failure_that_anybody_tries_again_after():
    assert not issubclass(ClockJumped, CloisterError | OSError)


def test_a_host_that_turns_its_counter_back_wins_nothing(clock, counter):
    counter.pass_s(500)
    assert clock.counter_s() == 1500
    counter.pass_s(-400)
    assert clock.counter_s() == 1500
    counter.pass_s(10)
    assert clock.counter_s() == 1510
    assert clock.now() == HEARD + timedelta(seconds=510)


def test_the_hosts_calendar_moves_nothing(monkeypatch):
    clock = MeshClock()
    clock.hear(HEARD)
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert abs((clock.now() - HEARD).total_seconds()) < 5


def test_the_counter_only_goes_up():
    before = counter_s()
    assert counter_s() >= before
