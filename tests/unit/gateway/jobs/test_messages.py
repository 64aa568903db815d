"""What the gateway tells of jobs on the wire."""

from __future__ import annotations

import pytest

from cloister.errors import AlreadyExists, CloisterError, Overloaded
from cloister.gateway.jobs.job import Accepted, QueueCounts
from cloister.gateway.jobs.messages import submitted_message

ID = bytes(16)


def counts(waiting: int, oldest_s: float) -> QueueCounts:
    return QueueCounts(model_name="tiny", waiting=waiting, running=1, size_bytes=0, oldest_s=oldest_s, dead=0)


@pytest.mark.parametrize(
    ("waiting", "oldest_s", "refused", "least_s", "most_s"),
    [(1000, 30.0, 100, 2.25, 4.5), (1000, 0.5, 1, 0.75, 1.5), (10, 5000.0, 1000, 7.5, 15.0), (0, 0.0, 1, 0.75, 1.5)],
    ids=["as fast as it goes", "at once", "hardly ever", "empty by now"],
)
def test_who_is_refused_hears_when_there_may_be_room_for_all_of_it(
    waiting: int, oldest_s: float, refused: int, least_s: float, most_s: float
) -> None:
    full_s = counts(waiting, oldest_s).gone_in_s(refused)
    told = submitted_message(ID, Overloaded("full", reason="jobs.full"), full_s)
    assert least_s <= told.retry_after_s <= most_s


@pytest.mark.parametrize(
    ("outcome", "wait_s"),
    [
        (Accepted(ID), 0.0),
        (AlreadyExists("taken", reason="job.other"), 0.0),
        (Overloaded("too fast", reason="tenant.too_fast", retry_after_s=7.0), 7.0),
    ],
    ids=["accepted", "taken", "too fast"],
)
def test_who_need_not_come_again_is_told_no_time_and_who_has_one_keeps_it(
    outcome: Accepted | CloisterError, wait_s: float
) -> None:
    assert submitted_message(ID, outcome, 30.0).retry_after_s == wait_s
