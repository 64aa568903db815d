"""What runs the jobs of one model, over a store in memory and workers that a test plays."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from cloister.api.v1.worker_pb2 import InferCall, InferResult, WorkerFrame
from cloister.errors import CloisterError
from cloister.gateway.directory import Directory
from cloister.gateway.jobs.job import Job, Record
from cloister.gateway.jobs.metrics import JobMetrics
from cloister.gateway.jobs.model_runner import ModelRunner
from cloister.gateway.jobs.settings import JobsSettings
from cloister.gateway.jobs.store_watch import StoreWatch
from cloister.kit.metrics import Metrics
from cloister.rpc.status import failure_of
from fakes.gateway_parts import TENANT, WorkerEnd
from fakes.job_store import MemoryJobStore, Shelf
from fakes.linked_workers import Mesh, mesh
from fakes.running_jobs import MINUTE_MS, job_envelope, now_ms

MODEL = "tiny"


async def ready_stores(store: MemoryJobStore) -> StoreWatch:
    """A store that was found fit."""
    stores = StoreWatch(store, _fit)
    await stores.look()
    return stores


async def _fit() -> None:
    """It may hold jobs."""


def kept_job(**changes: Any) -> Job:
    """A job that lives for ten minutes."""
    fields: dict[str, Any] = {
        "job_id": secrets.token_bytes(16),
        "tenant": TENANT,
        "model_name": MODEL,
        "request": job_envelope(),
        "submitted_ms": now_ms(),
        "not_after_ms": now_ms() + 10 * MINUTE_MS,
        **changes,
    }
    return Job(**fields)


class Running:
    """A runner and what is around it.

    Attributes:
        mesh: Its workers.
        shelf: Where jobs lie.
        store: As a client's gateway has it.
        metrics: What was counted.
    """

    def __init__(self, made: Mesh, store: MemoryJobStore, metrics: JobMetrics, settings: JobsSettings) -> None:
        self.mesh = made
        self.store = store
        self.shelf = store.shelf
        self.metrics = metrics
        self.stopping = asyncio.Event()
        self.runner: ModelRunner
        self._bounds = settings.bounds()

    async def submit(self, *jobs: Job) -> None:
        await self.store.submit(jobs, self._bounds)

    async def record(self, job: Job) -> Record:
        (record,) = await self.store.read(job.model_name, job.tenant, [job.job_id])
        assert record is not None
        return record

    async def ended(self, job: Job) -> Record:
        """Wait for the end of a job."""
        return await self.until(job, lambda record: record.state.ended)

    async def asked(self, step: str, more: int) -> None:
        """Wait until the store has been asked so many more times for a step."""
        wanted = self.shelf.calls.get(step, 0) + more
        async with asyncio.timeout(10):
            while self.shelf.calls.get(step, 0) < wanted:
                await asyncio.sleep(0.005)

    async def until(self, job: Job, wanted: Callable[[Record], bool]) -> Record:
        async with asyncio.timeout(10):
            while not wanted(record := await self.record(job)):
                await asyncio.sleep(0.005)
        return record

    def counted(self) -> dict[tuple[str, ...], float]:
        """Every count that is not 0, by name and labels."""
        samples = [sample for family in self.metrics.collect() for sample in family.samples]
        return {(each.name, *each.labels.values()): each.value for each in samples if each.value}


@asynccontextmanager
async def running(
    settings: JobsSettings | None = None,
    directory: Directory | None = None,
    *,
    consumer: str = "one",
    wall_ms: Callable[[], int] = now_ms,
    **limits: Any,
) -> AsyncIterator[Running]:
    """A runner at work; `limits` are its mesh's, and `wall_ms` is what it takes for Unix time."""
    settings = settings or JobsSettings()
    async with mesh(**limits) as made:
        shelf = Shelf()
        stores = await ready_stores(MemoryJobStore(shelf, now_ms, consumer))
        metrics = JobMetrics(Metrics(), stores)
        metrics.held = dict
        rig = Running(made, MemoryJobStore(shelf, now_ms, "a client's"), metrics, settings)
        rig.runner = ModelRunner(
            MODEL,
            stores,
            made.dispatcher,
            directory or Directory(),
            settings,
            metrics,
            max_call_s=300.0,
            wall_ms=wall_ms,
            stopping=rig.stopping,
        )
        async with asyncio.TaskGroup() as group:
            task = group.create_task(rig.runner.run())
            yield rig
            shelf.away = False
            rig.stopping.set()
            rig.runner.abandon()
            shelf.changed.set()
            try:
                async with asyncio.timeout(3):
                    await asyncio.wait([task])
            finally:
                task.cancel()


async def take(worker: WorkerEnd) -> InferCall:
    """The only call of the next frame that has some."""
    async with asyncio.timeout(5):
        while not (frame := await worker.frame()).calls:
            pass
    (call,) = frame.calls
    return call


def refuse(worker: WorkerEnd, call: InferCall, error: CloisterError | TimeoutError) -> None:
    """Answer a call with an error in clear."""
    worker.to_gateway.put_nowait(
        WorkerFrame(results=[InferResult(call_id=call.call_id, failure=failure_of(error))]).SerializeToString()
    )
