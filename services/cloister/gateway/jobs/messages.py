"""What is known of jobs, as messages of the wire."""

from __future__ import annotations

from typing import Final

from cloister.api.v1 import jobs_pb2
from cloister.errors import CloisterError, NotFound, Overloaded
from cloister.gateway.jobs.job import Accepted, QueueCounts, Record, State
from cloister.gateway.lanes import jittered
from cloister.rpc.status import failure_of

SOONEST_S: Final = 1.0
"""When to come again to a queue that is full, however fast it empties."""
_STATES: Final = {
    State.QUEUED: jobs_pb2.JOB_STATE_QUEUED,
    State.RUNNING: jobs_pb2.JOB_STATE_RUNNING,
    State.ANSWERED: jobs_pb2.JOB_STATE_ANSWERED,
    State.DEAD: jobs_pb2.JOB_STATE_DEAD,
    State.CANCELLED: jobs_pb2.JOB_STATE_CANCELLED,
}


def job_message(job_id: bytes, record: Record | None) -> jobs_pb2.Job:
    """One job; None stands for one that its tenant does not have."""
    if record is None:
        return jobs_pb2.Job(job_id=job_id, failure=failure_of(unknown_job()))
    error = record.error
    return jobs_pb2.Job(
        job_id=job_id,
        state=_STATES[record.state],
        response=record.response,
        failure=failure_of(error) if error is not None else None,
        attempts=record.attempts,
        submitted_ms=record.submitted_ms,
        ended_ms=record.ended_ms,
        kept_until_ms=record.kept_until_ms,
    )


def submitted_message(job_id: bytes, outcome: Accepted | CloisterError, full_s: float) -> jobs_pb2.Submitted:
    """What became of one submission.

    Args:
        job_id: As it was submitted.
        outcome: Of it.
        full_s: When there may be room for all that had none.
    """
    if isinstance(outcome, Accepted):
        return jobs_pb2.Submitted(job_id=outcome.job_id, existed=outcome.existed)
    wait_s = (outcome.retry_after_s or jittered(max(SOONEST_S, full_s))) if isinstance(outcome, Overloaded) else 0.0
    return jobs_pb2.Submitted(job_id=job_id, failure=failure_of(outcome), retry_after_s=wait_s)


def queue_message(counts: QueueCounts) -> jobs_pb2.JobQueue:
    """How much of one model waits."""
    return jobs_pb2.JobQueue(
        model_name=counts.model_name,
        waiting=counts.waiting,
        running=counts.running,
        bytes=counts.size_bytes,
        oldest_s=counts.oldest_s,
        dead=counts.dead,
    )


def letter_message(tenant: str, record: Record) -> jobs_pb2.DeadLetter:
    """One dead letter."""
    return jobs_pb2.DeadLetter(
        job_id=record.job_id,
        tenant=tenant,
        failure=failure_of(record.error) if record.error is not None else None,
        attempts=record.attempts,
        submitted_ms=record.submitted_ms,
        ended_ms=record.ended_ms,
    )


def unknown_job() -> NotFound:
    """What a tenant hears of a job that is not there, or another's."""
    return NotFound("there is no such job: never submitted by this identity, or kept no longer", reason="job.unknown")
