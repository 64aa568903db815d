"""The `[jobs]` table of the gateway's settings: how much may wait, for how long, and how it is given to workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cloister.gateway.jobs.store import Bounds

MAX_PROCESSES: Final = 16
MAX_BYTES: Final = 64 << 20
"""Of one job, or one answer: as large as a message of the worker link may be."""
MAX_LIFE_S: Final = 30 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsSettings:
    """Settings of jobs; they count where there is a table `[redis]`.

    Attributes:
        enabled: Whether jobs are on where there is a Redis.
        processes: Processes of this gateway that give jobs to workers; 0 where other gateways do.
        max_jobs: Most jobs of one model that have not ended, of all tenants.
        max_bytes: Of their requests.
        tenant_jobs: Likewise of one tenant.
        tenant_bytes: Of its requests.
        tenant_kept_bytes: Of what became of its jobs: answers that are kept, and 1 KB for each end that is known. A
            tenant that has more submits nothing, and nothing more of it is answered, until it forgets or time has.
        max_job_bytes: Largest request of a job.
        max_result_bytes: Largest answer that is kept; a job with a larger one is a dead letter.
        attempts: How often a job is given to a worker at most.
        hold_s: A job that somebody has taken, and not renewed for so long, is given to another.
        job_life_s: Longest that a job may wait for its answer. The provisioner keeps the keys for so long.
        result_ttl_s: How long what became of a job is kept, at most, and where its client does not say.
        batch: Most jobs in one command to Redis.
        slot_share: Part of a worker's slots, as they are granted to this process, that jobs take; the rest is for
            requests that come meanwhile.
    """

    enabled: bool = True
    processes: int = 1
    max_jobs: int = 100_000
    max_bytes: int = 1 << 28
    tenant_jobs: int = 50_000
    tenant_bytes: int = 1 << 27
    tenant_kept_bytes: int = 1 << 27
    max_job_bytes: int = 16 << 20
    max_result_bytes: int = 16 << 20
    attempts: int = 5
    hold_s: float = 30.0
    job_life_s: int = 86_400
    result_ttl_s: int = 86_400
    batch: int = 128
    slot_share: float = 0.5

    def __post_init__(self) -> None:
        """Raise ValueError for what makes no sense."""
        counts = (
            "max_jobs",
            "max_bytes",
            "tenant_jobs",
            "tenant_bytes",
            "tenant_kept_bytes",
            "attempts",
            "result_ttl_s",
        )
        for name in counts:
            if getattr(self, name) < 1:
                raise ValueError(f"jobs.{name} must be 1 or more")
        for name in ("max_job_bytes", "max_result_bytes"):
            if not 1 <= getattr(self, name) <= MAX_BYTES:
                raise ValueError(f"jobs.{name} must be 1 to {MAX_BYTES}")
        if not 0 <= self.processes <= MAX_PROCESSES:
            raise ValueError(f"jobs.processes must be 0 to {MAX_PROCESSES}")
        if not 0.5 <= self.hold_s <= 3600:
            raise ValueError("jobs.hold_s must be 0.5 to 3600")
        if not 1 <= self.job_life_s <= MAX_LIFE_S:
            raise ValueError(f"jobs.job_life_s must be 1 to {MAX_LIFE_S}")
        if not 1 <= self.batch <= 128:
            raise ValueError("jobs.batch must be 1 to 128")
        if not 0.01 <= self.slot_share <= 1:
            raise ValueError("jobs.slot_share must be 0.01 to 1")

    def bounds(self) -> Bounds:
        """What one queue may hold."""
        return Bounds(
            jobs=self.max_jobs,
            size_bytes=self.max_bytes,
            tenant_jobs=self.tenant_jobs,
            tenant_bytes=self.tenant_bytes,
            tenant_kept_bytes=self.tenant_kept_bytes,
        )
