"""Gives jobs to workers: one `ModelRunner` for each model that has some, none of which can stop another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from cloister.errors import CloisterError
from cloister.gateway.directory import Directory
from cloister.gateway.dispatch import Dispatcher
from cloister.gateway.jobs.job import expired_job
from cloister.gateway.jobs.metrics import JobMetrics
from cloister.gateway.jobs.model_runner import ModelRunner
from cloister.gateway.jobs.settings import JobsSettings
from cloister.gateway.jobs.store_watch import READY, StoreWatch
from cloister.kit.log import get_logger

LOOK_S: Final = 0.2
"""How often to look which models have workers."""
EXPIRE_S: Final = 5.0
STALLED_S: Final = 60.0
"""Without a claim, an answer or an end for so long, a runner is not well."""
AGAIN_S: Final = 5.0
SETTLE_S: Final = 2.0
"""Kept of the grace at the end for giving back what no worker has answered."""
_log = get_logger()


class Runner:
    """All models of one process.

    Args:
        stores: Where jobs are.
        dispatcher: Finds workers, and says which models have some.
        directory: Whether a tenant may still have a model answer.
        settings: Attempts, shares, sizes.
        metrics: Counts, and knows when there was progress.
        max_call_s: The most that one attempt may take.
        grace_s: How long what is under way may take at the end.
        wall_ms: Unix time in milliseconds.
        stopping: Once it is set, nothing is claimed, and `run` ends.
    """

    def __init__(
        self,
        stores: StoreWatch,
        dispatcher: Dispatcher,
        directory: Directory,
        settings: JobsSettings,
        metrics: JobMetrics,
        *,
        max_call_s: float,
        grace_s: float,
        wall_ms: Callable[[], int],
        stopping: asyncio.Event,
    ) -> None:
        self._stores = stores
        self._dispatcher = dispatcher
        self._directory = directory
        self._settings = settings
        self._metrics = metrics
        self._max_call_s = max_call_s
        self._grace_s = grace_s
        self._wall_ms = wall_ms
        self._stopping = stopping
        self._models: dict[str, ModelRunner] = {}

    @property
    def well(self) -> bool:
        """Whether jobs go on, as far as it is up to this process."""
        return self._stores.state == READY and time.monotonic() - self._metrics.progressed_at < STALLED_S

    def held(self) -> dict[str, int]:
        """How many jobs of each model are held."""
        return {name: len(model) for name, model in list(self._models.items())}

    async def run(self, serving: Callable[[bool], Awaitable[None]]) -> None:
        """Run jobs until stopping; what is under way then has the grace to end, and the rest is given back.

        Args:
            serving: Told from time to time whether jobs go on.
        """
        async with asyncio.TaskGroup() as group:
            loops = [
                group.create_task(self._expiring(), name="jobs expire"),
                group.create_task(self._telling(serving), name="jobs told"),
            ]
            tasks = await self._following(group)
            await _ended(tasks, max(0.0, self._grace_s - SETTLE_S))
            for model in self._models.values():
                model.abandon()
            await _ended(tasks, SETTLE_S)
            if left := sum(self.held().values()):
                _log.warning("jobs.left", jobs=left)  # whoever comes next takes them, once nobody holds them any more
            for task in (*loops, *tasks):
                task.cancel()

    async def _following(self, group: asyncio.TaskGroup) -> set[asyncio.Task[None]]:
        """Have a runner for each model that has workers, until stopping; returns the tasks that run then."""
        tasks = set[asyncio.Task[None]]()
        while not self._stopping.is_set():
            for name in list(self._dispatcher.served()):
                if name not in self._models:
                    model = self._models[name] = self._made(name)
                    task = group.create_task(self._keep(name, model), name=f"jobs of {name}")
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
            if not self._models:
                self._metrics.progressed()  # nobody could take any
            await self._unless_stopping(LOOK_S)
        return tasks

    def _made(self, name: str) -> ModelRunner:
        return ModelRunner(
            name,
            self._stores,
            self._dispatcher,
            self._directory,
            self._settings,
            self._metrics,
            max_call_s=self._max_call_s,
            wall_ms=self._wall_ms,
            stopping=self._stopping,
        )

    async def _keep(self, name: str, model: ModelRunner) -> None:
        """Run one model; where that fails, what it held is taken again in a while, by whoever is there."""
        try:
            await model.run()
        except Exception as error:
            _log.error("jobs.model_failed", model=name, exc_info=error)
            await self._unless_stopping(AGAIN_S)
        self._models.pop(name, None)

    async def _unless_stopping(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _expiring(self) -> None:
        """End what has waited too long, also of models without workers; each process of each gateway does."""
        while True:
            await asyncio.sleep(EXPIRE_S)
            for name in {*self._stores.queues, *self._models}:
                try:
                    if count := await self._stores.store().expire(name):
                        self._metrics.ended(name, expired_job(), count)
                except CloisterError:  # `StoreWatch` tells of it
                    break
                except Exception as error:
                    _log.error("jobs.expiry_failed", model=name, exc_info=error)

    async def _telling(self, serving: Callable[[bool], Awaitable[None]]) -> None:
        was = True
        while True:
            well = self.well
            if was and not well and self._stores.state == READY:
                _log.error("jobs.stalled", held=sum(self.held().values()))
            was = well
            await serving(well)
            await asyncio.sleep(LOOK_S * 5)


async def _ended(tasks: set[asyncio.Task[None]], within_s: float) -> None:
    if tasks:
        await asyncio.wait(tasks, timeout=within_s)
