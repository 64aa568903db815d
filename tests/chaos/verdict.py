"""Whether nothing was lost: what must hold of jobs, whatever was killed or cut, and each job of which it does not."""

from __future__ import annotations

import base64
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from chaos.found import Found, Kept
from chaos.remains import left_lying
from chaos.work import Kind
from cloister.api.v1.jobs_pb2 import JobState
from cloister.cli.mesh_folder import Mesh
from fakes.running_mesh import CLUSTER, CONFIG, MODEL, RunningMesh, probe

Truth = Callable[[NDArray[np.float32]], NDArray[np.float32]]
TOLERANCE = 1e-5
"""Batches are of other sizes than ours, and rounding with them; answers to other jobs lie whole units away."""
EXPIRED = "job.expired"


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What was counted, and what should not be.

    Attributes:
        refused: Jobs whose time had passed before anybody could take them.
        answers: By what is inside: a result, or an error about the content.
        dead: Dead letters by reason.
        attempts: How many jobs were given to a worker so often.
        complaints: By rule, the jobs that break it.
    """

    jobs: int = 0
    accepted: int = 0
    refused: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    dead: Counter[str] = field(default_factory=Counter)
    attempts: Counter[int] = field(default_factory=Counter)
    complaints: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def look_at(self, mesh: RunningMesh) -> None:
        """Hold what lies in Redis against the rules too; the mesh is down."""
        name = f"{CLUSTER}:jobs:{{{MODEL}}}"
        for rule, what in left_lying(Mesh.read(mesh.folder).redis_folder, name, self.accepted):
            self.complaints[rule].append(what)

    @property
    def held(self) -> bool:
        """Whether every rule held, and there was anything to hold it to."""
        return not self.complaints and self.accepted > 0


def judged(found: Found, truth: Truth) -> Verdict:
    """Hold everything that was found against the rules."""
    verdict = Verdict(jobs=len(found.jobs) + len(found.unsent))
    for each in found.unsent:
        verdict.complaints["every job was submitted"].append(f"{each.number}")
    for job in found.jobs:
        if too_late(job):
            verdict.refused += 1
            continue
        verdict.accepted += job.accepted is not None
        verdict.attempts[job.record.attempts] += 1
        for rule in broken(job, truth):
            verdict.complaints[rule].append(described(job))
        if job.record.state == JobState.JOB_STATE_ANSWERED:
            verdict.answers["a result" if job.again and "y" in job.again else "an error of the content, sealed"] += 1
        elif job.record.state == JobState.JOB_STATE_DEAD:
            verdict.dead[job.record.failure.reason] += 1
    for rule, what in left_over(found):
        verdict.complaints[rule].append(what)
    for rule, what in out_of_order(found):
        verdict.complaints[rule].append(what)
    return verdict


def broken(job: Kept, truth: Truth) -> Iterator[str]:
    """The rules that one job breaks."""
    state, failure = job.record.state, job.record.failure
    if job.accepted is None:
        yield "every job was accepted in the end"
    if job.lost:
        yield "what was accepted is never unknown"
    if state not in (JobState.JOB_STATE_ANSWERED, JobState.JOB_STATE_DEAD):
        yield "every accepted job has an end"
    if len(job.ends) != 1:
        yield "every client saw one end of each job"
    if any(_gist(end) != _gist(job.again) for end in job.ends):
        yield "an end stays what it was"
    if state == JobState.JOB_STATE_DEAD:
        if not failure.reason:
            yield "every dead letter has a reason"
        if failure.reason == EXPIRED and job.wanted.kind is not Kind.BRIEF:
            yield "no job expires before its time"
    for end in (*job.ends, *([job.again] if job.again else [])):
        if state == JobState.JOB_STATE_ANSWERED and not right(job, end, truth):
            yield "every answer is right, and of its own job"


def too_late(job: Kept) -> bool:
    """Whether a job was refused, as it should be, because its time had passed before it came; and is not there."""
    refused = [end.get("reason") for end in job.ends] == [
        EXPIRED
    ] and job.record.state == JobState.JOB_STATE_UNSPECIFIED
    return refused and job.accepted is None and job.wanted.kind is Kind.BRIEF


def right(job: Kept, end: Mapping[str, Any], truth: Truth) -> bool:
    """Whether an end says what OpenVINO does in this process: an error for an input that no model takes."""
    if job.wanted.kind is Kind.WRONG:
        return end.get("error") == "InvalidRequest"
    if "y" not in end:
        return False
    y = np.frombuffer(base64.b64decode(end["y"]), np.float32)
    expected = truth(job.wanted.x)
    return y.size == expected.size and bool(np.allclose(y.reshape(expected.shape), expected, atol=TOLERANCE))


def left_over(found: Found) -> Iterator[tuple[str, str]]:
    """What should be empty, or there once."""
    for queue in found.queues:
        if queue.waiting or queue.running or queue.bytes:
            told = f"{queue.model_name}: {queue.waiting} wait, {queue.running} run, {queue.bytes} bytes"
            yield "queues are empty when all jobs have ended", told
    letters = Counter(letter.job_id for letter in found.letters)
    dead = {job.record.job_id for job in found.jobs if job.record.state == JobState.JOB_STATE_DEAD}
    for job_id, count in letters.items():
        if count > 1:
            yield "no dead letter is there twice", job_id.hex()
        if job_id not in dead:
            yield "every dead letter is of a job that ended so", job_id.hex()
    for job_id in dead - letters.keys():
        yield "every job that ended so is a dead letter", job_id.hex()


def out_of_order(found: Found) -> Iterator[tuple[str, str]]:
    """Jobs of one row whose ends are not in the order in which they were accepted."""
    rows: defaultdict[str, list[Kept]] = defaultdict(list)
    for job in found.jobs:
        if job.wanted.order_key and job.record.ended_ms:
            rows[job.wanted.order_key].append(job)
    for row in rows.values():
        row.sort(key=lambda job: (job.record.submitted_ms, job.wanted.number))
        for before, after in pairwise(row):
            if after.record.ended_ms < before.record.ended_ms:
                yield "jobs of a row end in order", f"{described(before)}, then {described(after)}"


def described(job: Kept) -> str:
    """Of one job, for a person."""
    record = job.record
    state = JobState.Name(record.state).removeprefix("JOB_STATE_").lower()
    return (
        f"{job.wanted.number} {job.wanted.kind.value} {record.job_id.hex()[:8]} {state} {record.failure.reason}".strip()
    )


def openvino() -> Truth:
    """What the model answers in this process."""
    compiled = ov.Core().compile_model(probe(), "CPU", CONFIG)
    return lambda x: np.array(compiled(x)[0])


def _gist(end: Mapping[str, Any] | None) -> tuple[Any, ...]:
    """Of an end: a second computing of the same job would have another receipt."""
    return tuple((end or {}).get(name) for name in ("y", "receipt", "error", "reason"))
