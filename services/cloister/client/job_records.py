"""What a client keeps of a job, and what it is told of one."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, Self

from google.protobuf.message import DecodeError

from cloister.api.v1 import jobs_pb2 as pb
from cloister.errors import CloisterError, InvalidRequest
from cloister.rpc.status import from_failure
from cloister.seal.job import JobTicket

_PRIORITIES: Final = {
    "high": pb.JOB_PRIORITY_HIGH,
    "normal": pb.JOB_PRIORITY_NORMAL,
    "low": pb.JOB_PRIORITY_LOW,
}


class JobState(StrEnum):
    """Where a job is; the last three are ends."""

    UNKNOWN = "unknown"
    QUEUED = "queued"
    RUNNING = "running"
    ANSWERED = "answered"
    DEAD = "dead"
    CANCELLED = "cancelled"


_STATES: Final = {
    pb.JOB_STATE_QUEUED: JobState.QUEUED,
    pb.JOB_STATE_RUNNING: JobState.RUNNING,
    pb.JOB_STATE_ANSWERED: JobState.ANSWERED,
    pb.JOB_STATE_DEAD: JobState.DEAD,
    pb.JOB_STATE_CANCELLED: JobState.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class PreparedJob:
    """A sealed job that may be submitted, as often as need be: it is always the same one.

    Attributes:
        ticket: Opens its answer.
        submission: What goes to the gateway.
    """

    ticket: JobTicket
    submission: pb.Submission = field(repr=False)

    def to_bytes(self) -> bytes:
        """Return what `from_bytes` reads: for a file of mode 0600, since it holds ticket and request in clear."""
        kept = pb.KeptSubmission(ticket=self.ticket.to_bytes(), model_name=self.ticket.model_name, job=self.submission)
        return kept.SerializeToString(deterministic=True)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read one; raises InvalidRequest for what is none (reason `ticket.malformed`)."""
        try:
            kept = pb.KeptSubmission.FromString(raw)
        except DecodeError:
            kept = pb.KeptSubmission()
        ticket = JobTicket.from_bytes(kept.ticket)
        if (kept.model_name, kept.job.job_id) != (ticket.model_name, ticket.job_id):
            raise InvalidRequest("this is no prepared job, or not all of one", reason="ticket.malformed")
        return cls(ticket, kept.job)


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one submission.

    Attributes:
        job_id: Of the job that is kept: under a key, an earlier one's where that existed.
        existed: Whether it had been submitted before.
        error: Why it is not accepted; None where it is.
    """

    job_id: bytes
    existed: bool = False
    error: CloisterError | TimeoutError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """What the gateway says of a job; nobody vouches for it.

    Attributes:
        attempts: How often it was given to a worker.
        submitted_at: Aware UTC, as are the next two; None where it is not known, or not yet.
        ended_at: When its end was kept.
        kept_until: Until when.
        error: Why there is no answer: of a dead letter, or of a job that is not there.
    """

    job_id: bytes
    state: JobState
    attempts: int
    submitted_at: datetime | None
    ended_at: datetime | None
    kept_until: datetime | None
    error: CloisterError | TimeoutError | None

    @classmethod
    def of(cls, job: pb.Job) -> Self:
        """Read what came."""
        return cls(
            job_id=job.job_id,
            state=_STATES.get(job.state, JobState.UNKNOWN),
            attempts=job.attempts,
            submitted_at=_moment(job.submitted_ms),
            ended_at=_moment(job.ended_ms),
            kept_until=_moment(job.kept_until_ms),
            error=from_failure(job.failure) if job.HasField("failure") else None,
        )


def priority_of(word: str) -> pb.JobPriority:
    """The priority of this name; raises InvalidRequest for another word."""
    if word not in _PRIORITIES:
        raise InvalidRequest(f"'{word[:32]}' is no priority: it is {', '.join(_PRIORITIES)}")
    return _PRIORITIES[word]


def _moment(unix_ms: int) -> datetime | None:
    if not 0 < unix_ms < 1 << 47:
        return None
    return datetime.fromtimestamp(unix_ms / 1000, UTC)
