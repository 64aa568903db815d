"""One model's jobs: taken from the store as fast as its workers are free for them, and settled as they end.

Those of a model are claimed together, go to links as calls that share frames, and are settled together. Redis may be
away at any time: what is held is held on to, and settled when it is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final

from cloister.errors import CloisterError, InvalidRequest
from cloister.gateway.directory import Directory
from cloister.gateway.dispatch import Dispatcher
from cloister.gateway.jobs.checked import NOT_SEALED
from cloister.gateway.jobs.held import Held, exhausted_job
from cloister.gateway.jobs.job import Claimed
from cloister.gateway.jobs.metrics import JobMetrics
from cloister.gateway.jobs.sending import Sending
from cloister.gateway.jobs.settings import JobsSettings
from cloister.gateway.jobs.settling import Settling
from cloister.gateway.jobs.store import JobStore
from cloister.gateway.jobs.store_watch import StoreWatch
from cloister.gateway.lanes import jittered
from cloister.gateway.wire import Route, read_route
from cloister.kit.log import get_logger

BLOCK_MS: Final = 500
"""How long to wait in Redis for the first job of an empty queue."""
LINGER_S: Final = 0.003
"""Between two claims, so that under load each brings many."""
PAUSE_S: Final = 0.5
ROOM_S: Final = 0.25
"""How often to look for room that nothing tells of: slots that a worker has granted."""
SOON_S: Final = 0.05
"""Jobs are claimed ahead as many as can be sent within this time, so that a slot that becomes free is filled."""
MAX_HELD: Final = 4096
MAX_HELD_BYTES: Final = 64 << 20
_UNREAD: Final = Route("", "", "", None)
_log = get_logger()


class ModelRunner:
    """Runs the jobs of one model.

    Args:
        model_name: Which.
        stores: Where jobs are.
        dispatcher: Finds workers.
        directory: Whether a tenant may still have this model answer.
        settings: Attempts, shares, sizes.
        metrics: Counts attempts and ends.
        max_call_s: The most that one attempt may take.
        wall_ms: Unix time in milliseconds.
        stopping: Nothing is claimed any more once it is set.
    """

    def __init__(
        self,
        model_name: str,
        stores: StoreWatch,
        dispatcher: Dispatcher,
        directory: Directory,
        settings: JobsSettings,
        metrics: JobMetrics,
        *,
        max_call_s: float,
        wall_ms: Callable[[], int],
        stopping: asyncio.Event,
    ) -> None:
        self._model_name = model_name
        self._stores = stores
        self._dispatcher = dispatcher
        self._directory = directory
        self._settings = settings
        self._metrics = metrics
        self._stopping = stopping
        self._loop = asyncio.get_running_loop()
        self._held: dict[bytes, Held] = {}
        self._held_bytes = 0
        self._room = asyncio.Event()
        self._settling = Settling(model_name, stores, settings, metrics, self._forget)
        self._sending = Sending(
            model_name,
            dispatcher,
            self._settling,
            settings,
            metrics,
            max_call_s=max_call_s,
            wall_ms=wall_ms,
            freed=self._room.set,
        )
        self._reclaim_at_s = 0.0
        self._recovered = False

    def __len__(self) -> int:
        return len(self._held)

    async def run(self) -> None:
        """Claim, send and settle until stopping, then until nothing is held."""
        async with asyncio.TaskGroup() as group:
            settling = group.create_task(self._settling.run())
            renewing = group.create_task(self._renewing())
            await self._claiming()
            self._sending.leave()
            self._settling.hurry()
            while self._held:
                await self._room_within(ROOM_S)
                self._sending.give_back_ready()
            renewing.cancel()
            settling.cancel()

    def abandon(self) -> None:
        """Wait for no worker any longer: what is under way is let go, and whoever takes it begins again."""
        self._sending.leave()
        for held in list(self._held.values()):
            self._sending.abandon(held)

    async def _claiming(self) -> None:
        while not self._stopping.is_set():
            most = self._wanted()
            if most <= 0:
                await self._room_within(ROOM_S)
                self._sending.send()
                continue
            try:
                claimed = await self._claim(self._stores.store(), most)
                self._metrics.progressed()
                self._take(claimed)
            except CloisterError:  # `StoreWatch` tells of it
                self._recovered = False
                await self._pause()
            except Exception as error:  # this model waits, not the others
                self._recovered = False
                _log.error("jobs.model_failed", model=self._model_name, exc_info=error)
                await self._pause()
            else:
                await asyncio.sleep(LINGER_S if claimed else 0)

    async def _claim(self, store: JobStore, most: int) -> Sequence[Claimed]:
        """Take so many jobs: those that others have left lying, else those that wait."""
        name, now_s, hold_s = self._model_name, self._loop.time(), self._settings.hold_s
        if not self._recovered:
            await store.recover(name, [held.claimed for held in self._held.values()])
            self._recovered = True
        if now_s >= self._reclaim_at_s:
            self._reclaim_at_s = now_s + hold_s / 2
            left = await store.reclaim(name, most, int(hold_s * 1000))
            if left:
                self._reclaim_at_s = now_s  # there may be more
                return left
        return await store.claim(name, most, BLOCK_MS, kept_bytes=self._settings.tenant_kept_bytes)

    def _wanted(self) -> int:
        """How many jobs to claim now: what fills the slots, and what can be sent soon after."""
        most_calls = self._sending.most_calls
        if not most_calls:
            self._sending.give_back_ready()  # its workers are gone; others may have some
            return 0
        lane = self._dispatcher.lanes.get(self._model_name)
        held_s = lane.held_s if lane is not None else 0.0
        batch = self._settings.batch
        soon = max(1, min(int(most_calls * SOON_S / held_s), batch)) if held_s else 1
        wanted = most_calls + soon - self._sending.calls - len(self._sending.ready)
        wanted = min(wanted, MAX_HELD - len(self._held), batch)
        if self._held and wanted > 0:
            each_bytes = max(1, self._held_bytes // len(self._held))
            wanted = min(wanted, (MAX_HELD_BYTES - self._held_bytes) // each_bytes)
        return wanted

    def _take(self, claimed: Sequence[Claimed]) -> None:
        for each in claimed:
            known = self._held.get(each.job.job_id)
            if known is not None and known.call is not None:  # it was not renewed in time, and is ours again
                known.claimed = each
                continue
            held = self._held[each.job.job_id] = Held(each, _UNREAD)
            self._held_bytes += held.size_bytes
            try:
                held.route = self._check(each)
            except CloisterError as error:
                self._settling.end(held, error=error)
            else:
                self._sending.ready.append(held)
        if not self._stopping.is_set():  # else it came as we were going
            self._sending.send()

    def _check(self, claimed: Claimed) -> Route:
        """See whether a job may be sent; raises what it ends with if not."""
        if claimed.attempt > self._settings.attempts:
            raise exhausted_job()
        self._directory.check_entitled(claimed.job.tenant, self._model_name)
        route = read_route(claimed.job.request)
        if not route.job or route.model_name != self._model_name:
            raise InvalidRequest(NOT_SEALED, reason="job.not_sealed")
        return route

    def _forget(self, held: Held) -> None:
        """A job is settled, or somebody else's: it is held no longer."""
        if self._held.get(job_id := held.claimed.job.job_id) is held:  # else it has come back already
            del self._held[job_id]
        self._held_bytes -= held.size_bytes
        self._room.set()

    async def _renewing(self) -> None:
        """Go on holding what is held; where that fails for long, another takes it, and the first end counts."""
        while True:
            await asyncio.sleep(self._settings.hold_s / 4)
            with suppress(CloisterError):  # `StoreWatch` tells of it
                for some in self._chunks():
                    await self._stores.store().renew(self._model_name, some)

    def _chunks(self) -> Iterator[list[Claimed]]:
        claimed = [held.claimed for held in self._held.values()]
        most = self._settings.batch
        return (claimed[start : start + most] for start in range(0, len(claimed), most))

    async def _pause(self) -> None:
        """Wait a while, or until stopping."""
        with suppress(TimeoutError):
            async with asyncio.timeout(jittered(PAUSE_S)):
                await self._stopping.wait()

    async def _room_within(self, seconds: float) -> None:
        self._room.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._room.wait()
