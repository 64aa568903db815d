"""One client's watch over its jobs: their states now, if it wants them, then each that ends, until all have.

It holds the ids, and one message at a time: a client that does not read holds up nobody but itself, and is cut off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

from cloister.errors import Unavailable
from cloister.gateway.jobs.feeds import Feeds, Watcher
from cloister.gateway.jobs.job import Record, State
from cloister.gateway.jobs.store_watch import StoreWatch
from cloister.gateway.lanes import jittered

STATES: Final = 1024
"""Of jobs without answers that one message tells."""
FIRST_GROUP: Final = 16
"""Answers that are read together at first; how large they are is not known before."""
SMALL_BYTES, LARGE_BYTES = 256 << 10, 1 << 20
"""Answers of a message: where they were fewer, more are read together the next time; where more, fewer."""
LINGER_S: Final = 0.004
"""How long an end waits for company, where others are waited for."""
RECHECK_S: Final = 5.0
RECHECK_EACH_S: Final = 0.002
"""Every so often, and for each job that anybody watches here, records are read of what has not ended: all watches of a
process together take a fiftieth of a processor for it."""
PATIENCE_S: Final = 30.0

Told = list[tuple[bytes, Record | None]]
Tell = Callable[[Told], Awaitable[None]]


class JobWatch:
    """See the module.

    Args:
        stores: Where records are.
        feeds: Tell of ends.
        model_name: Of the jobs.
        tenant: Whose they are.
        responses: Whether answers are wanted, or only that there are some.
        ends_only: Whether the states of jobs that have not ended are of no interest.
        batch: Most records that are read together.
    """

    def __init__(
        self,
        stores: StoreWatch,
        feeds: Feeds,
        model_name: str,
        tenant: str,
        *,
        responses: bool,
        ends_only: bool = False,
        batch: int,
    ) -> None:
        self._stores = stores
        self._feeds = feeds
        self._model_name = model_name
        self._tenant = tenant
        self._responses = responses
        self._ends_only = ends_only
        self._batch = batch
        self._group = FIRST_GROUP

    async def run(self, job_ids: Sequence[bytes], tell: Tell) -> None:
        """Tell until everything has ended.

        Raises:
            Unavailable: Redis was away for too long; nothing is lost, and whoever comes again hears the rest.
        """
        ids = list(dict.fromkeys(job_ids))
        if self._feeds.reads(self._model_name) or await self._any_waits(ids):
            async with self._feeds.watched(self._model_name, self._tenant, ids) as watcher:
                await self._follow(watcher, ids, tell)
        else:  # of a model that nobody knows, as like as not: there shall be no reader for every name that is asked
            await self._follow(Watcher(ids), ids, tell)

    async def _any_waits(self, job_ids: Sequence[bytes]) -> bool:
        for part in _batches(job_ids, self._batch):
            records = await self._read(part, responses=False)
            if any(record is not None and not record.state.ended for record in records):
                return True
        return False

    async def _follow(self, watcher: Watcher, job_ids: Sequence[bytes], tell: Tell) -> None:
        begun_with = list(watcher.unknown) if self._ends_only else job_ids
        await self._look(watcher, begun_with, tell, all_states=not self._ends_only)
        while watcher.waiting or watcher.ended:
            if watcher.ended:
                if told := await self._take(watcher):
                    await tell(told)
                continue
            await watcher.news(RECHECK_S + RECHECK_EACH_S * self._feeds.watched_jobs)
            if watcher.stale:
                watcher.stale = False
                await self._look(watcher, list(watcher.waiting), tell)
            elif len(watcher.waiting) > 1:
                await asyncio.sleep(LINGER_S)

    async def _look(self, watcher: Watcher, job_ids: Sequence[bytes], tell: Tell, *, all_states: bool = False) -> None:
        """Read states, and tell what is to be told of them at once; answers wait for `_take`."""
        for some in _batches(job_ids, STATES):
            told: Told = []
            for part in _batches(some, self._batch):
                for job_id, record in zip(part, await self._read(part, responses=False), strict=True):
                    if job_id not in watcher.waiting:  # it has ended meanwhile
                        continue
                    if record is not None and record.state is State.ANSWERED and self._responses:
                        watcher.end(job_id)
                    elif record is None or record.state.ended:
                        watcher.waiting.remove(job_id)
                        told.append((job_id, record))
                    elif all_states:
                        told.append((job_id, record))
            if told:
                await tell(told)

    async def _take(self, watcher: Watcher) -> Told:
        """The next ends, as many as fit well into a message."""
        group = min(self._group, self._batch) if self._responses else self._batch
        records = await self._read(watcher.ended[:group], responses=self._responses)
        job_ids, watcher.ended = watcher.ended[: len(records)], watcher.ended[len(records) :]
        told: Told = []
        for job_id, record in zip(job_ids, records, strict=True):
            if record is not None and not record.state.ended:  # the feed is only a hint
                watcher.waiting.add(job_id)
            else:
                told.append((job_id, record))
        size_bytes = sum(len(record.response) for _, record in told if record is not None)
        if size_bytes < SMALL_BYTES:
            self._group = min(2 * self._group, self._batch)
        elif size_bytes > LARGE_BYTES:
            self._group = max(1, self._group // 2)
        return told

    async def _read(self, job_ids: Sequence[bytes], *, responses: bool) -> list[Record | None]:
        """Read records; a Redis that is away is waited for, a while."""
        until_s = asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            try:
                store = self._stores.store()
                return await store.read(self._model_name, self._tenant, job_ids, responses=responses)
            except Unavailable:
                if asyncio.get_running_loop().time() >= until_s:
                    raise
                await asyncio.sleep(jittered(0.5))


def _batches(job_ids: Sequence[bytes], most: int) -> Iterator[Sequence[bytes]]:
    return (job_ids[start : start + most] for start in range(0, len(job_ids), most))
