"""What a job is to a gateway: routing, sizes and times around bytes that it cannot read."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from cloister.errors import CloisterError, Overloaded, Unavailable

JOB_ID_BYTES: Final = 16


class Priority(Enum):
    """Which of a model's jobs are taken first; within one, those that came first."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class State(Enum):
    """Where a job is; the last three are ends, and a job has one end."""

    QUEUED = "queued"
    RUNNING = "running"
    ANSWERED = "answered"
    DEAD = "dead"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing will become of it any more."""
        return self in (State.ANSWERED, State.DEAD, State.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it was submitted.

    Attributes:
        job_id: 16 bytes, the client's choice.
        tenant: Whose it is.
        model_name: Of the queue that it waits in.
        request: A serialised ModelInferRequest around a SealedJob.
        submitted_ms: Unix time, as is `not_after_ms`.
        not_after_ms: It is not answered later.
        key: The tenant's own name for it; may be empty, as it is in every job that was claimed: Redis knows no names.
        order_key: Jobs of one tenant and model that share it are answered one after the other; may be empty, as `key`.
        result_ttl_s: How long its end is kept.
    """

    job_id: bytes
    tenant: str
    model_name: str
    request: bytes = field(repr=False)
    submitted_ms: int
    not_after_ms: int
    key: str = ""
    priority: Priority = Priority.NORMAL
    order_key: str = ""
    result_ttl_s: int = 86_400


@dataclass(frozen=True, slots=True)
class Accepted:
    """A job is kept; under `job_id`, which is another's where the same was submitted before."""

    job_id: bytes
    existed: bool = False


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job that one runner has taken.

    Attributes:
        entry_id: Of its entry: the stream, a colon, the id there.
        attempt: From 1: how often it has been taken by somebody who may have given it to a worker.
        header: The job's record as the store keeps it; for the store alone.
    """

    job: Job
    entry_id: str
    attempt: int
    header: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Ending:
    """What became of a claimed job: an answer, or the error it ends with."""

    claimed: Claimed
    response: bytes = field(default=b"", repr=False)
    error: CloisterError | TimeoutError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known of a job now.

    Attributes:
        response: A serialised ModelInferResponse around a SealedJobResult, once answered.
        error: Why it is a dead letter; of an answered job, why its answer cannot be had: `answer.expired`, or
            `answer.lost` where Redis has none that the end vouches for; of a queued one, what keeps it there.
    """

    job_id: bytes
    state: State
    attempts: int = 0
    submitted_ms: int = 0
    ended_ms: int = 0
    kept_until_ms: int = 0
    response: bytes = field(default=b"", repr=False)
    error: CloisterError | TimeoutError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueCounts:
    """How much of one model waits."""

    model_name: str
    waiting: int
    running: int
    size_bytes: int
    oldest_s: float
    dead: int

    def gone_in_s(self, jobs: int) -> float:
        """In how many seconds so many will have been taken, as fast as they were since the oldest came."""
        return jobs * self.oldest_s / max(1, self.waiting)


def full_results() -> Overloaded:
    """Why a tenant's jobs are not taken, and those that wait go on waiting."""
    return Overloaded(
        "what became of your earlier jobs of this model fills the room that you have for it: forget (Forget) what you "
        "have read, and give jobs a shorter result_ttl_s; until there is room none are taken, and what waits waits on",
        reason="tenant.results_full",
    )


def expired_job() -> Unavailable:
    """What a job ends with whose time has passed."""
    return Unavailable("no worker has answered the job in its time", reason="job.expired")
