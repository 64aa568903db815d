"""The judge of crash tests sees what it is there for: each rule is broken once in what was found, and it says so."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chaos import journal
from chaos.cut import PAIRS, cuts
from chaos.found import Found, Kept
from chaos.strikes import Target, strikes
from chaos.verdict import Verdict, judged
from chaos.work import Kind, Wanted, wanted
from cloister.api.v1 import jobs_pb2 as pb
from cloister.api.v1.worker_pb2 import Failure

ANSWERED, DEAD, QUEUED = pb.JOB_STATE_ANSWERED, pb.JOB_STATE_DEAD, pb.JOB_STATE_QUEUED


def truth(x: np.ndarray) -> np.ndarray:
    return x[:, :4] * 2


def answered(number: int, at_ms: int = 0, **changes: Any) -> Kept:
    """A job that went as it should."""
    job = Wanted(number=number, kind=Kind.ORDERED, rows=2, priority="normal", order_key="row")
    end = {"y": base64.b64encode(truth(job.x).tobytes()).decode(), "receipt": f"receipt {number}"}
    times = {"submitted_ms": 1000 + number, "ended_ms": 2000 + (at_ms or number)}
    record = pb.Job(job_id=bytes([number]) * 16, state=ANSWERED, attempts=1, **times)
    kept = Kept(wanted=job, accepted={"n": number}, ends=[end], lost=0, record=record, again=end)
    return replace(kept, **changes)


def expired(number: int) -> Kept:
    """A job that died in time, with a reason."""
    kept = answered(number)
    end = {"error": "TimeoutError", "reason": "job.expired"}
    record = pb.Job(job_id=kept.record.job_id, state=DEAD, failure=Failure(error="TimeoutError", reason="job.expired"))
    return replace(kept, wanted=replace(kept.wanted, kind=Kind.BRIEF), ends=[end], again=end, record=record)


def good() -> Found:
    letter = pb.DeadLetter(job_id=expired(4).record.job_id)
    return Found(jobs=[answered(1), answered(2), expired(4)], queues=[pb.JobQueue(dead=1)], letters=[letter])


def changed(job: Kept, **fields: Any) -> Kept:
    record = pb.Job()
    record.CopyFrom(job.record)
    for name, value in fields.items():
        setattr(record, name, value)
    return replace(job, record=record)


def another_end(job: Kept) -> Kept:
    return replace(job, ends=[*job.ends, *job.ends])


def without_reason(job: Kept) -> Kept:
    record = pb.Job(job_id=job.record.job_id, state=DEAD)
    return replace(job, record=record)


BREAKS: dict[str, Callable[[Found], Any]] = {
    "every job was submitted": lambda found: found.unsent.append(answered(9).wanted),
    "every job was accepted in the end": lambda found: found.jobs.append(answered(9, accepted=None)),
    "what was accepted is never unknown": lambda found: found.jobs.append(answered(9, lost=1)),
    "every accepted job has an end": lambda found: found.jobs.append(changed(answered(9), state=QUEUED)),
    "every client saw one end of each job": lambda found: found.jobs.append(another_end(answered(9))),
    "an end stays what it was": lambda found: found.jobs.append(
        answered(9, again={**answered(9).ends[0], "receipt": "of a second computing"})
    ),
    "every dead letter has a reason": lambda found: found.jobs.__setitem__(2, without_reason(found.jobs[2])),
    "no job expires before its time": lambda found: found.jobs.__setitem__(
        2, replace(found.jobs[2], wanted=answered(4).wanted)
    ),
    "every answer is right, and of its own job": lambda found: found.jobs.append(
        answered(9, ends=answered(8).ends, again=answered(8).again)
    ),
    "queues are empty when all jobs have ended": lambda found: found.queues.append(pb.JobQueue(running=1)),
    "no dead letter is there twice": lambda found: found.letters.append(found.letters[0]),
    "every dead letter is of a job that ended so": lambda found: found.letters.append(pb.DeadLetter(job_id=b"\1" * 16)),
    "every job that ended so is a dead letter": lambda found: found.letters.clear(),
    "jobs of a row end in order": lambda found: found.jobs.append(answered(9, at_ms=1)),
}


def test_what_went_well_is_called_so_and_counted() -> None:
    verdict = judged(good(), truth)
    assert verdict.held
    assert (verdict.jobs, verdict.accepted) == (3, 3)
    assert verdict.answers == {"a result": 2}
    assert verdict.dead == {"job.expired": 1}
    assert verdict.attempts == {1: 2, 0: 1}


@pytest.mark.parametrize("rule", BREAKS)
def test_each_rule_that_is_broken_is_told(rule: str) -> None:
    found = good()
    BREAKS[rule](found)
    verdict = judged(found, truth)
    assert not verdict.held
    assert set(verdict.complaints) == {rule}


def test_nothing_at_all_is_no_success() -> None:
    assert not Verdict().held


def test_an_input_that_no_model_takes_must_be_refused() -> None:
    right = {"error": "InvalidRequest", "reason": "tensor.shape"}
    wrong = replace(answered(1).wanted, kind=Kind.WRONG)
    assert judged(Found(jobs=[answered(1, wanted=wrong, ends=[right], again=right)]), truth).held
    assert not judged(Found(jobs=[answered(1, wanted=wrong)]), truth).held


def test_what_came_too_late_may_be_refused_and_nothing_else() -> None:
    late = replace(answered(9).wanted, kind=Kind.BRIEF)
    refusal = {"error": "InvalidRequest", "reason": "job.expired"}
    refused = answered(9, wanted=late, accepted=None, ends=[refusal], again=None, record=pb.Job())
    verdict = judged(Found(jobs=[*good().jobs, refused], letters=good().letters), truth)
    assert verdict.held
    assert (verdict.refused, verdict.accepted) == (1, 3)
    for wrong in (replace(refused, wanted=answered(9).wanted), replace(refused, accepted={"n": 9})):
        assert not judged(Found(jobs=[*good().jobs, wrong], letters=good().letters), truth).held


def test_a_seed_says_everything() -> None:
    assert strikes(3, 40, 1.0) == strikes(3, 40, 1.0) != strikes(4, 40, 1.0)
    assert {strike.target for strike in strikes(3, 12, 1.0)} == set(Target)
    assert cuts(3, 9) == cuts(3, 9) != cuts(4, 9)
    assert {frozenset(cut.pair) for cut in cuts(3, len(PAIRS))} == {frozenset(pair) for pair in PAIRS}
    assert wanted(3, 200) == wanted(3, 200) != wanted(4, 200)
    assert {job.kind for job in wanted(3, 200)} == set(Kind)
    assert not {job.number for job in wanted(3, 9, owner=0)} & {job.number for job in wanted(3, 9, owner=1)}


def test_a_journal_goes_on_after_a_line_that_was_torn(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    assert journal.read(path) == []
    with journal.opened(path) as notes:
        notes.note([{"n": 1}, {"n": 2}])
    with path.open("ab") as torn:
        torn.write(b'{"n": 3, "wh')
    assert [each["n"] for each in journal.read(path)] == [1, 2]
    with journal.opened(path) as notes:
        notes.note([{"n": 4}])
    assert [each["n"] for each in journal.read(path)] == [1, 2, 4]
