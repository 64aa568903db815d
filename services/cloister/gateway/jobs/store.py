"""Where jobs are kept. See `JobStore`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cloister.errors import CloisterError
from cloister.gateway.jobs.job import Accepted, Claimed, Ending, Job, QueueCounts, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Most that one model's queue may hold, in all and of one tenant.

    Attributes:
        tenant_kept_bytes: Of its jobs that have ended: answers that are kept, and 1 KB for each end that is known.
    """

    jobs: int
    size_bytes: int
    tenant_jobs: int
    tenant_bytes: int
    tenant_kept_bytes: int


class JobStore(Protocol):
    """Jobs in Redis, each step one atomic script on the keys of one model.

    Everything read from Redis is held against its MAC before it is believed; what does not hold is dropped, counted
    and logged, and is never another job's answer (attacks H01, H02).

    Raises, all of them: Unavailable, when Redis does not answer in time; then nothing is known of what was done, and
    the same call may be made again.
    """

    async def submit(self, jobs: Sequence[Job], bounds: Bounds) -> list[Accepted | CloisterError]:
        """Keep jobs of one model, each once; in their order, what became of each.

        An Overloaded (`jobs.full`, `tenant.jobs_full`, `tenant.results_full`) or AlreadyExists (`job.other`: the id is
        taken by another request) stands for a job that is not kept.
        """

    async def recover(self, model_name: str, held: Sequence[Claimed] = ()) -> int:
        """Let go what this consumer has in Redis beside `held`, so that `claim` gives it out first; returns how much.

        Called before the first `claim` of a model, for what an earlier life held, and after each that failed: it may
        have taken jobs of which no reply tells.
        """

    async def claim(self, model_name: str, most: int, block_ms: int, *, kept_bytes: int = 0) -> list[Claimed]:
        """Take jobs that nobody has; waits for one for so long, a second at most.

        Tenants take turns, each with an equal part; within a tenant's part its priorities count. What has expired is
        ended instead (`job.expired`), and never given out. Fewer than there are may come, because an answer of Redis
        is bounded in bytes.

        Args:
            model_name: Of the queue.
            most: So many at most.
            block_ms: How long to wait.
            kept_bytes: Of a tenant that has more kept of its ended jobs, none are taken; 0 where that does not count.
        """

    async def reclaim(self, model_name: str, most: int, idle_ms: int) -> list[Claimed]:
        """Take jobs that another runner has held and not renewed for so long, by Redis's clock."""

    async def renew(self, model_name: str, claimed: Sequence[Claimed]) -> None:
        """Go on holding what is under way."""

    async def give_back(
        self, model_name: str, claimed: Sequence[Claimed], *, counted: bool = False, pause_s: float = 0.0
    ) -> None:
        """Let others take jobs, after a while if so asked; the attempt counts only where a worker may have had them."""

    async def settle(self, model_name: str, endings: Sequence[Ending]) -> None:
        """End jobs: keep the end and acknowledge the entry in one step; of two ends of one job the first counts."""

    async def read(
        self, model_name: str, tenant: str, job_ids: Sequence[bytes], *, responses: bool = True
    ) -> list[Record | None]:
        """What is known of a tenant's jobs; None of those that are not there, or another's.

        With `responses` it may be of the first of them only, one at least, where those have some 8 MB together.
        """

    async def kept_bytes(self, model_name: str, tenant: str) -> int:
        """How much is kept of a tenant's jobs that have ended; see `Bounds`."""

    async def cancel(self, model_name: str, tenant: str, job_ids: Sequence[bytes]) -> list[Record | None]:
        """End jobs that have not ended, as `State.CANCELLED`."""

    async def forget(self, model_name: str, tenant: str, job_ids: Sequence[bytes]) -> None:
        """Drop the ends of jobs that have ended."""

    async def expire(self, model_name: str) -> int:
        """End jobs whose time has passed as dead letters (`job.expired`); returns how many."""

    async def ended_after(self, model_name: str, after: str, block_ms: int) -> tuple[str, list[bytes]]:
        """Ids of jobs that ended after a point in the feed of ends, and the next point; waits as `claim` does.

        "$" is answered at once, with the point that is now. Ids are hints, which Redis may leave out or make up: what
        has become of a job its record says.

        Raises:
            Unavailable: The feed is bounded, and ends after this point may have left it (`jobs.feed_trimmed`): begin
                again at "$", and read records.
        """

    async def queues(self) -> list[QueueCounts]:
        """Every model that has jobs."""

    async def dead_letters(self, model_name: str, after: str, most: int) -> tuple[str, list[tuple[str, Record]]]:
        """Tenant and record of jobs that ended without an answer, oldest first, and where to go on ("" at the end)."""
