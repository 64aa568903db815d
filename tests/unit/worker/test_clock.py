"""The verifier's time, carried on without the host's calendar (attacks I03)."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import cloister.worker
from cloister.errors import CloisterError
from cloister.worker.clock import STILL_READS, TOLERANCE_S, ClockJumped, MeshClock, counter_s
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


@pytest.mark.attack("I03")
@pytest.mark.parametrize("told", [datetime(1970, 1, 1, tzinfo=UTC), HEARD + timedelta(days=3652)])
def test_1970_and_ten_years_on_are_no_time_and_there_is_none_after(clock, told):
    with pytest.raises(ClockJumped):
        clock.hear(told)
    for ask in (clock.now, clock.counter_s, lambda: clock.lasts_s(HEARD)):
        with pytest.raises(ClockJumped):
            ask()


@pytest.mark.attack("I03")
async def test_a_counter_that_stands_still_is_found_out_and_ends_the_worker(clock, counter):
    """Whoever finds it may be a request, which fails alone: the clock itself tells the worker to end."""
    counter.pass_s(10)
    for _ in range(STILL_READS):
        assert clock.counter_s() == 1010
    counter.pass_s(1e-6)  # it goes, if slowly
    for _ in range(STILL_READS + 1):
        clock.counter_s()
    with pytest.raises(ClockJumped, match="stands still"):
        clock.now()
    with pytest.raises(ClockJumped, match="stands still"):
        async with asyncio.timeout(5):
            await clock.watching()


def test_the_counter_of_this_machine_never_stands_still():
    clock = MeshClock()
    for _ in range(3 * STILL_READS):
        clock.counter_s()


@pytest.mark.attack("I03")
@pytest.mark.parametrize("steps", [[-301], [-100, 50, -100, 30, -101], [-150, 1e6, -151]])
def test_a_counter_that_goes_back_by_minutes_in_all_is_found_out(clock, counter, steps):
    for step_s in steps[:-1]:
        counter.pass_s(step_s)
        clock.counter_s()
    counter.pass_s(steps[-1])
    with pytest.raises(ClockJumped, match="went back by 301 s"):
        clock.counter_s()


@pytest.mark.attack("I03")
def test_what_a_counter_went_back_by_is_forgiven_by_the_next_signed_time(clock, counter):
    """Which would tell, were the worker's time wrong by then."""
    for at in range(1, 6):
        counter.pass_s(-200)
        clock.counter_s()
        counter.pass_s(260)
        clock.hear(HEARD + timedelta(seconds=260 * at))
    assert clock.now() == HEARD + timedelta(seconds=1300)


@pytest.mark.attack("I03")
def test_a_lease_is_not_longer_where_the_counter_goes_back_during_it(clock, counter):
    ends_at_s = clock.counter_s() + 600
    for _ in range(3):  # 100 s on, 90 s back
        counter.pass_s(100)
        clock.counter_s()
        counter.pass_s(-90)
        clock.counter_s()
    counter.pass_s(300)
    assert clock.counter_s() == ends_at_s


@pytest.mark.attack("I03")
def test_a_counter_rushed_by_ten_years_ends_every_lease_and_then_the_worker(clock, counter):
    ends_at_s = clock.counter_s() + 600
    counter.pass_s(10 * 365 * 86_400)
    assert clock.counter_s() > ends_at_s
    with pytest.raises(ClockJumped):
        clock.hear(HEARD + timedelta(seconds=5))


def test_a_jump_is_no_failure_that_anybody_tries_again_after():
    assert not issubclass(ClockJumped, CloisterError | OSError)


def test_a_host_that_turns_its_counter_back_wins_nothing(clock, counter):
    counter.pass_s(500)
    assert clock.counter_s() == 1500
    counter.pass_s(-250)
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


@pytest.mark.attack("I03")
def test_nothing_in_the_worker_asks_the_host_for_the_time_of_day():
    """Nor for a clock of its own: what lasts is counted by `MeshClock`, and only timings are taken otherwise."""
    asked = re.compile(r"time\.(time|time_ns|monotonic|localtime|gmtime)\(|datetime\.(now|today|utcnow)\(")
    files = sorted(Path(cloister.worker.__file__).parent.glob("*.py"))
    assert len(files) > 40
    assert not [file.name for file in files if asked.search(file.read_text())]
