"""The store of jobs on Redis; what each step does there, and what of it is believed, say its parts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from cloister.errors import CloisterError
from cloister.gateway.jobs.job import Accepted, Claimed, Ending, Job, QueueCounts, Record
from cloister.gateway.jobs.keeping.census import Census
from cloister.gateway.jobs.keeping.claims import Claims
from cloister.gateway.jobs.keeping.ends import Ends
from cloister.gateway.jobs.keeping.feed import Feed
from cloister.gateway.jobs.keeping.records import Records
from cloister.gateway.jobs.keeping.shelf import Shelf
from cloister.gateway.jobs.keeping.submissions import Submissions
from cloister.gateway.jobs.keeping.view import View
from cloister.gateway.jobs.store import Bounds
from cloister.kit.redis import CONNECTIONS, Client


class RedisJobStore:
    """The `JobStore` of one gateway process. Called on its event loop only.

    Args:
        client: Open for as long as the store is used.
        shared_key: 32 bytes that every gateway has and Redis has not.
        cluster: Trust domain.
        consumer: A name that this process keeps when it starts again, and no other has at the same time.
        timeout_s: Deadline of each exchange with Redis.
        connections: How many the client has, all of them for this store; at least two.
        now_ms: Unix time.
        on_dropped: Told the reason whenever something in Redis was not believed.
    """

    def __init__(
        self,
        client: Client,
        *,
        shared_key: bytes,
        cluster: str,
        consumer: str,
        timeout_s: float = 2.0,
        connections: int = CONNECTIONS,
        now_ms: Callable[[], int] = lambda: int(time.time() * 1000),
        on_dropped: Callable[[str], None] = lambda reason: None,
    ) -> None:
        shelf = Shelf(
            client,
            Records(shared_key, cluster),
            cluster=cluster,
            timeout_s=timeout_s,
            connections=connections,
            now_ms=now_ms,
            on_dropped=on_dropped,
        )
        self._submissions = Submissions(shelf)
        self._view = View(shelf)
        self._ends = Ends(shelf, self._view)
        self._claims = Claims(shelf, self._ends, consumer)
        self._feed = Feed(shelf)
        self._census = Census(shelf)

    async def check_key(self) -> None:
        """Check, before anything else, that this Redis was written to under our shared key.

        Raises:
            NotReady: Under another (`shared_key.other`).
            Unavailable: Redis does not answer.
        """
        await self._census.check_key()

    async def submit(self, jobs: Sequence[Job], bounds: Bounds) -> list[Accepted | CloisterError]:
        """See `JobStore`."""
        return await self._submissions.submit(jobs, bounds)

    async def recover(self, model_name: str, held: Sequence[Claimed] = ()) -> int:
        """See `JobStore`."""
        return await self._claims.recover(model_name, held)

    async def claim(self, model_name: str, most: int, block_ms: int, *, kept_bytes: int = 0) -> list[Claimed]:
        """See `JobStore`."""
        return await self._claims.claim(model_name, most, block_ms, kept_bytes=kept_bytes)

    async def reclaim(self, model_name: str, most: int, idle_ms: int) -> list[Claimed]:
        """See `JobStore`."""
        return await self._claims.reclaim(model_name, most, idle_ms)

    async def renew(self, model_name: str, claimed: Sequence[Claimed]) -> None:
        """See `JobStore`."""
        await self._claims.renew(model_name, claimed)

    async def give_back(
        self, model_name: str, claimed: Sequence[Claimed], *, counted: bool = False, pause_s: float = 0.0
    ) -> None:
        """See `JobStore`."""
        await self._claims.give_back(model_name, claimed, counted=counted, pause_s=pause_s)

    async def settle(self, model_name: str, endings: Sequence[Ending]) -> None:
        """See `JobStore`."""
        await self._ends.settle(model_name, endings)

    async def read(
        self, model_name: str, tenant: str, job_ids: Sequence[bytes], *, responses: bool = True
    ) -> list[Record | None]:
        """See `JobStore`."""
        return await self._view.read(model_name, tenant, job_ids, responses=responses)

    async def kept_bytes(self, model_name: str, tenant: str) -> int:
        """See `JobStore`."""
        return await self._view.kept_bytes(model_name, tenant)

    async def cancel(self, model_name: str, tenant: str, job_ids: Sequence[bytes]) -> list[Record | None]:
        """See `JobStore`."""
        return await self._ends.cancel(model_name, tenant, job_ids)

    async def forget(self, model_name: str, tenant: str, job_ids: Sequence[bytes]) -> None:
        """See `JobStore`."""
        await self._ends.forget(model_name, tenant, job_ids)

    async def expire(self, model_name: str) -> int:
        """See `JobStore`."""
        return await self._ends.expire(model_name)

    async def ended_after(self, model_name: str, after: str, block_ms: int) -> tuple[str, list[bytes]]:
        """See `JobStore`."""
        return await self._feed.ended_after(model_name, after, block_ms)

    async def queues(self) -> list[QueueCounts]:
        """See `JobStore`."""
        return await self._census.queues()

    async def dead_letters(self, model_name: str, after: str, most: int) -> tuple[str, list[tuple[str, Record]]]:
        """See `JobStore`."""
        return await self._census.dead_letters(model_name, after, most)
