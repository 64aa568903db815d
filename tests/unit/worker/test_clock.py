"""The verifier's time, carried on without the host's calendar (attacks I03)."""

from datetime import UTC, datetime, timedelta

import pytest

from cloister.worker.clock import MeshClock, counter_s
from fakes.results import Clock

HEARD = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def test_time_goes_on_from_what_was_heard():
    counter = Clock()
    clock = MeshClock(counter)
    with pytest.raises(RuntimeError):
        clock.now()
    clock.hear(HEARD)
    counter.pass_s(90)
    assert clock.now() == HEARD + timedelta(seconds=90)
    assert clock.lasts_s(HEARD + timedelta(seconds=100)) == 10
    assert clock.lasts_s(HEARD) == -90
    clock.hear(HEARD + timedelta(hours=1))
    assert clock.now() == HEARD + timedelta(hours=1)


def test_the_hosts_calendar_moves_nothing(monkeypatch):
    clock = MeshClock()
    clock.hear(HEARD)
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert abs((clock.now() - HEARD).total_seconds()) < 5


def test_the_counter_only_goes_up():
    before = counter_s()
    assert counter_s() >= before
