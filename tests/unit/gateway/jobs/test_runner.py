"""Jobs of several models: one that is bad stops no other, what waits too long ends, and who stands still says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cloister.gateway.directory import Directory
from cloister.gateway.jobs import model_runner, runner
from cloister.gateway.jobs.job import Claimed, Job, Record, State
from cloister.gateway.jobs.metrics import JobMetrics
from cloister.gateway.jobs.runner import Runner
from cloister.gateway.jobs.settings import JobsSettings
from cloister.kit.metrics import Metrics
from cloister.rpc.status import reason_of
from fakes.gateway_parts import A, model_state
from fakes.job_store import MemoryJobStore, Shelf
from fakes.linked_workers import Mesh, mesh
from fakes.run_jobs import kept_job, now_ms, ready_stores, take
from fakes.running_jobs import job_envelope

BOUNDS = JobsSettings().bounds()


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LOOK_S", 0.01)
    monkeypatch.setattr(runner, "EXPIRE_S", 0.02)
    monkeypatch.setattr(runner, "SETTLE_S", 0.5)
    monkeypatch.setattr(model_runner, "BLOCK_MS", 10)


class Moody(MemoryJobStore):
    """A store that breaks for one model."""

    broken = ""

    async def claim(self, model_name: str, most: int, block_ms: int, *, kept_bytes: int = 0) -> list[Claimed]:
        if model_name == self.broken:
            raise ValueError("something that nobody thought of")
        return await super().claim(model_name, most, block_ms, kept_bytes=kept_bytes)


class All:
    """A runner of all models.

    Attributes:
        told: Whether jobs go on, as it said from time to time.
    """

    def __init__(self, made: Mesh, store: Moody, metrics: JobMetrics) -> None:
        self.mesh, self.store, self.metrics = made, store, metrics
        self.told: list[bool] = []
        self.runner: Runner
        self.stopping = asyncio.Event()

    async def serving(self, well: bool) -> None:
        self.told.append(well)

    async def ended(self, job: Job) -> Record:
        async with asyncio.timeout(5):
            while True:
                (record,) = await self.store.read(job.model_name, job.tenant, [job.job_id])
                assert record is not None
                if record.state.ended:
                    return record
                await asyncio.sleep(0.005)


@asynccontextmanager
async def all_models(grace_s: float = 0.6) -> AsyncIterator[All]:
    async with mesh() as made:
        store = Moody(Shelf(), now_ms)
        stores = await ready_stores(store)
        metrics = JobMetrics(Metrics(), stores)
        rig = All(made, store, metrics)
        rig.runner = Runner(
            stores,
            made.dispatcher,
            Directory(),
            JobsSettings(),
            metrics,
            max_call_s=300.0,
            grace_s=grace_s,
            wall_ms=now_ms,
            stopping=rig.stopping,
        )
        async with asyncio.TaskGroup() as group:
            task = group.create_task(rig.runner.run(rig.serving))
            try:
                yield rig
            finally:
                rig.stopping.set()
            await task
            assert rig.runner.held() == {}


def job_for(model: str) -> Job:
    return kept_job(model_name=model, request=job_envelope(model=model))


async def test_a_model_whose_store_breaks_stops_no_other() -> None:
    async with all_models() as rig:
        rig.store.broken = "broken"
        worker = await rig.mesh.add(A, 4, model_state("broken"), model_state("good"))
        bad, good = job_for("broken"), job_for("good")
        for job in (bad, good):
            await rig.store.submit([job], BOUNDS)
        worker.answer((await take(worker)).call_id)
        assert (await rig.ended(good)).state is State.ANSWERED
        rig.store.broken = ""
        worker.answer((await take(worker)).call_id)
        assert (await rig.ended(bad)).state is State.ANSWERED


async def test_what_waits_too_long_ends_though_its_model_has_no_worker() -> None:
    async with all_models() as rig:
        job = kept_job(not_after_ms=now_ms() + 30)
        await rig.store.submit([job], BOUNDS)
        await rig.runner._stores.look()
        record = await rig.ended(job)
        assert record.error is not None
        assert (record.state, reason_of(record.error)) == (State.DEAD, "job.expired")


async def test_who_stands_still_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    async with all_models() as rig:
        assert rig.runner.well
        monkeypatch.setattr(runner, "STALLED_S", -1.0)
        assert not rig.runner.well


async def test_without_a_store_it_is_not_well_and_with_it_again_it_is() -> None:
    async with all_models() as rig:
        rig.store.shelf.away = True
        await rig.runner._stores.look()
        assert not rig.runner.well
        rig.store.shelf.away = False
        await rig.runner._stores.look()
        assert rig.runner.well


async def test_at_the_end_it_waits_no_longer_than_the_grace_and_gives_the_rest_back() -> None:
    async with all_models() as rig:
        worker = await rig.mesh.add(A)
        job = job_for("tiny")
        await rig.store.submit([job], BOUNDS)
        await take(worker)  # and never answers
        rig.stopping.set()
    (claimed,) = await rig.store.claim("tiny", 1, 0)
    assert claimed.attempt == 2


async def test_a_model_that_is_there_again_after_it_was_not_is_run_again() -> None:
    async with all_models() as rig:
        await rig.mesh.add(A)
        await rig.mesh.kill(A)
        job = job_for("tiny")
        await rig.store.submit([job], BOUNDS)
        worker = await rig.mesh.add(A)
        worker.answer((await take(worker)).call_id)
        assert (await rig.ended(job)).state is State.ANSWERED
