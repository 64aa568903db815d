"""Releases in an hour, as the log counts them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from cloister.api.v1.audit_pb2 import AuditRecord
from cloister.errors import LogBroken, Overloaded
from cloister.provisioner.releases.quotas import Quotas
from fakes.results import MODEL, NOW

RELEASED = "key.released"


class Log:
    """Lines that somebody has written, and how often it was looked into."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.looks: list[int] = []

    def write(self, event: str, at: datetime, model: str = MODEL) -> None:
        said = {"event": event, "model": model, "time": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
        self.lines.append(json.dumps(said).encode())

    def newest(self, wanted: int) -> Iterator[AuditRecord]:
        self.looks.append(wanted)
        return (AuditRecord(record=line) for line in self.lines[-wanted:])


def ago(**time: float) -> datetime:
    return NOW - timedelta(**time)


@pytest.mark.attack("F14")
def test_so_many_in_an_hour_and_the_next_when_the_oldest_is_an_hour_old() -> None:
    quotas = Quotas(RELEASED, Log().newest)
    for minute in range(3):
        quotas.take(MODEL, 3, NOW + timedelta(minutes=minute))
    with pytest.raises(Overloaded) as refused:
        quotas.take(MODEL, 3, NOW + timedelta(minutes=10))
    assert (refused.value.reason, refused.value.retry_after_s) == ("rate.exceeded", 50 * 60)
    with pytest.raises(Overloaded) as refused:
        quotas.take(MODEL, 1, NOW + timedelta(minutes=60))
    assert refused.value.retry_after_s == 2 * 60
    quotas.take(MODEL, 3, NOW + timedelta(minutes=60))


def test_each_model_has_its_own_count_and_without_a_bound_none() -> None:
    quotas = Quotas(RELEASED, Log().newest)
    quotas.take("other", 1, NOW)
    quotas.take(MODEL, 1, NOW)
    quotas.take(MODEL, 0, NOW)
    with pytest.raises(Overloaded) as refused:
        quotas.take(MODEL, 2, NOW)
    assert refused.value.retry_after_s == 3600


def test_a_release_that_did_not_come_onto_the_log_leaves_its_place() -> None:
    quotas = Quotas(RELEASED, Log().newest)
    quotas.give_back(MODEL, NOW)
    quotas.take(MODEL, 1, NOW)
    quotas.give_back("other", NOW)
    quotas.give_back(MODEL, ago(seconds=1))
    with pytest.raises(Overloaded):
        quotas.take(MODEL, 1, NOW)
    quotas.give_back(MODEL, NOW)
    quotas.take(MODEL, 1, NOW)


def test_a_restart_forgets_nothing() -> None:
    log = Log()
    log.write(RELEASED, ago(minutes=61))
    log.write(RELEASED, ago(minutes=59))
    log.write("key.refused", ago(minutes=50))
    log.write(RELEASED, ago(minutes=40), "other")
    log.write(RELEASED, ago(minutes=1))
    quotas = Quotas(RELEASED, log.newest)
    with pytest.raises(Overloaded) as refused:
        quotas.take(MODEL, 2, NOW)
    assert refused.value.retry_after_s == 60
    quotas.take(MODEL, 3, NOW)
    assert len(log.looks) == 1


def test_a_long_hour_is_read_whole_and_no_more_than_that() -> None:
    log = Log()
    for second in range(20_000):
        log.write(RELEASED, ago(hours=4) + timedelta(seconds=second * 0.72))
    quotas = Quotas(RELEASED, log.newest)
    with pytest.raises(Overloaded):
        quotas.take(MODEL, 4999, NOW)
    quotas.take(MODEL, 5001, NOW)
    assert log.looks == [1024, 4096, 16384]


def test_without_a_bound_the_log_is_not_read() -> None:
    log = Log()
    quotas = Quotas(RELEASED, log.newest)
    quotas.take(MODEL, 0, NOW)
    assert log.looks == []


@pytest.mark.attack("F14")
def test_a_log_that_could_not_be_read_is_read_again_and_not_taken_for_an_empty_one() -> None:
    log = Log()
    log.write(RELEASED, ago(minutes=1))
    broken = iter([LogBroken("a line is missing", reason="log.truncated")])

    def newest(wanted: int) -> Iterator[AuditRecord]:
        for error in broken:
            raise error
        return log.newest(wanted)

    quotas = Quotas(RELEASED, newest)
    with pytest.raises(LogBroken):
        quotas.take(MODEL, 1, NOW)
    with pytest.raises(Overloaded):
        quotas.take(MODEL, 1, NOW)
