"""Ends of one model's jobs, kept in the store many at a time.

Nothing is let go before the store has taken it: while Redis is away, ends wait here, as many as jobs may be held.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from cloister.errors import CloisterError, InvalidRequest, Unavailable
from cloister.gateway.jobs.held import Held
from cloister.gateway.jobs.job import Ending
from cloister.gateway.jobs.metrics import JobMetrics
from cloister.gateway.jobs.settings import JobsSettings
from cloister.gateway.jobs.store import JobStore
from cloister.gateway.jobs.store_watch import StoreWatch
from cloister.gateway.lanes import jittered
from cloister.kit.log import get_logger

LINGER_S: Final = 0.004
"""How long an end waits for company, where more are coming."""
COMPANY: Final = 2
"""Ends of the time before with which more are coming."""
BATCH_BYTES: Final = 4 << 20
"""Answers that are kept in one step, unless a single one is larger."""
PAUSE_S: Final = 0.25
_log = get_logger()

_End = tuple[Held, bytes, CloisterError | TimeoutError | None]


class Settling:
    """Takes ends one by one.

    Args:
        model_name: Whose jobs.
        stores: Where ends are kept.
        settings: How many, and how large, at a time.
        metrics: Counts them.
        done: Told of each job that the store has taken back.
    """

    def __init__(
        self,
        model_name: str,
        stores: StoreWatch,
        settings: JobsSettings,
        metrics: JobMetrics,
        done: Callable[[Held], None],
    ) -> None:
        self._model_name = model_name
        self._stores = stores
        self._settings = settings
        self._metrics = metrics
        self._done = done
        self._ends: deque[_End] = deque()
        self._returns: dict[tuple[bool, float], deque[Held]] = {}
        self._news = asyncio.Event()
        self._hurried = False

    def end(self, held: Held, response: bytes = b"", error: CloisterError | TimeoutError | None = None) -> None:
        """A job has an answer, or will never have one."""
        most = self._settings.max_result_bytes
        if len(response) > most:
            error = InvalidRequest(
                f"the answer has more than the {most} bytes that are kept", reason="result.too_large"
            )
            response = b""
        self._ends.append((held, response, error))
        self._news.set()

    def give_back(self, held: Held, *, counted: bool, pause_s: float = 0.0) -> None:
        """A job is for others to take, after a pause; `counted` where a worker may have had it."""
        self._returns.setdefault((counted, pause_s), deque()).append(held)
        self._news.set()

    def hurry(self) -> None:
        """Wait for no company any more."""
        self._hurried = True
        self._news.set()

    async def run(self) -> None:
        """Keep ends as they come."""
        company = 0
        while True:
            await self._news.wait()
            if company >= COMPANY and not self._hurried:
                await asyncio.sleep(LINGER_S)
            self._news.clear()
            company = len(self._ends)
            try:
                store = self._stores.store()
                while self._ends:
                    await self._settle(store, self._batch())
                for how, waiting in list(self._returns.items()):
                    await self._return(store, waiting, *how)
            except CloisterError:  # `StoreWatch` tells of it
                self._news.set()
                await asyncio.sleep(jittered(PAUSE_S))

    async def _settle(self, store: JobStore, batch: Sequence[_End]) -> None:
        endings = [Ending(held.claimed, response, error) for held, response, error in batch]
        try:
            await store.settle(self._model_name, endings)
        except Unavailable:
            self._ends.extendleft(reversed(batch))
            raise
        except Exception as error:  # one of them is bad; the others shall not wait for it
            if len(batch) == 1:
                job = endings[0].claimed.job.job_id.hex()
                _log.error("job.unsettled", model=self._model_name, job=job, exc_info=error)
                self._done(batch[0][0])  # nobody holds it any more: whoever takes it next counts another attempt
                return
            self._ends.extendleft(reversed(batch[1:]))
            await self._settle(store, batch[:1])
            return
        self._metrics.progressed()
        for held, _, ended_with in batch:
            self._metrics.ended(self._model_name, ended_with)
            self._done(held)

    def _batch(self) -> list[_End]:
        batch: list[_End] = []
        size_bytes = 0
        while self._ends and len(batch) < self._settings.batch:
            size_bytes += len(self._ends[0][1])
            if batch and size_bytes > BATCH_BYTES:
                break
            batch.append(self._ends.popleft())
        return batch

    async def _return(self, store: JobStore, waiting: deque[Held], counted: bool, pause_s: float) -> None:
        while waiting:
            batch = [waiting[at] for at in range(min(len(waiting), self._settings.batch))]
            claimed = [held.claimed for held in batch]
            await store.give_back(self._model_name, claimed, counted=counted, pause_s=pause_s)
            for held in batch:
                waiting.popleft()
                self._done(held)
