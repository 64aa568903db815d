"""A clock that is set back is not believed, and one that was wrong once locks nobody out for good."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cloister.errors import NotReady
from cloister.kit.host_clock import TOLERANCE, HostClock

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


class Host:
    """Whose clock shows what it likes."""

    def __init__(self) -> None:
        self.shows = NOON

    def __call__(self) -> datetime:
        return self.shows


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def clock(host: Host) -> HostClock:
    """Something was vouched for at noon."""
    clock = HostClock(host)
    clock.vouched(clock.now())
    return clock


def test_it_goes_as_the_hosts_does(host: Host, clock: HostClock) -> None:
    for _ in range(3):
        host.shows += HOUR
        assert clock.now() == host.shows


@pytest.mark.attack("I03")
@pytest.mark.parametrize("shows", [datetime(1970, 1, 1, tzinfo=UTC), NOON - HOUR, NOON - TOLERANCE - SECOND])
def test_a_clock_that_is_set_back_tells_no_time_until_it_has_caught_up(
    host: Host, clock: HostClock, shows: datetime
) -> None:
    host.shows = shows
    for _ in range(2):
        with pytest.raises(NotReady) as raised:
            clock.now()
        assert raised.value.reason == "clock.set_back"
    host.shows = NOON + SECOND
    assert clock.now() == NOON + SECOND


@pytest.mark.attack("I03")
def test_a_clock_that_was_ahead_while_nothing_was_vouched_for_may_go_back(host: Host, clock: HostClock) -> None:
    host.shows = NOON + timedelta(days=3650)
    assert clock.now() == host.shows
    host.shows = NOON + HOUR
    assert clock.now() == host.shows


@pytest.mark.attack("I03")
def test_a_clock_that_is_corrected_a_little_stands_still(host: Host, clock: HostClock) -> None:
    host.shows = NOON - TOLERANCE
    assert clock.now() == NOON
    host.shows = NOON + SECOND
    assert clock.now() == NOON + SECOND


@pytest.mark.attack("I03")
def test_a_restart_under_a_clock_before_the_record_is_refused(host: Host) -> None:
    recorded = NOON + TOLERANCE
    HostClock(host).start_after(None, was_ahead=False)
    HostClock(host).start_after(recorded, was_ahead=False)
    with pytest.raises(NotReady, match="clock_was_ahead") as raised:
        HostClock(host).start_after(recorded + SECOND, was_ahead=False)
    assert raised.value.reason == "clock.set_back"


def test_an_operator_can_say_that_the_clock_was_wrong(host: Host) -> None:
    HostClock(host).start_after(NOON + timedelta(days=3650), was_ahead=True)
