"""Jobs on a real redis-server: each step does what the seam says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from cloister.gateway.jobs.job import Accepted, Ending, State
from fakes.job_store_on_redis import BOUNDS, MODEL, TENANT, Clock, Kept, jobs_redis, new_job, store_on
from fakes.pki import MeshPki
from fakes.redis_server import RedisServer


@pytest.fixture(scope="session")
def pki() -> MeshPki:
    return MeshPki()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(tmp_path: Path, pki: MeshPki) -> Iterator[RedisServer]:
    with jobs_redis(tmp_path / "redis", pki) as server:
        yield server


@pytest.fixture
async def kept(server: RedisServer, pki: MeshPki, clock: Clock) -> AsyncIterator[Kept]:
    async with store_on(server, pki.cluster, clock) as kept:
        yield kept
        assert kept.dropped == []


async def test_a_job_is_kept_taken_and_answered(kept: Kept, clock: Clock) -> None:
    store, job = kept.store, new_job(clock)
    assert await store.submit([job], BOUNDS) == [Accepted(job.job_id)]
    (before,) = await store.read(MODEL, TENANT, [job.job_id])
    assert before is not None
    assert before.state is State.QUEUED
    point, ids = await store.ended_after(MODEL, "$", 0)
    assert ids == []
    (claimed,) = await store.claim(MODEL, 10, 0)
    assert claimed.job == job
    assert claimed.attempt == 1
    (running,) = await store.read(MODEL, TENANT, [job.job_id])
    assert running is not None
    assert running.state is State.RUNNING
    await store.settle(MODEL, [Ending(claimed, response=b"an answer")])
    _, ids = await store.ended_after(MODEL, point, 0)
    assert ids == [job.job_id]
    (record,) = await store.read(MODEL, TENANT, [job.job_id])
    assert record is not None
    assert (record.state, record.response, record.attempts) == (State.ANSWERED, b"an answer", 1)
    assert record.ended_ms == clock()
