"""Redis is set back, emptied, killed or replaced (attack H03): jobs are lost or done again, and end all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloister.errors import Unavailable
from cloister.gateway.jobs.job import Accepted, Ending, State
from fakes.job_store_on_redis import (
    BOUNDS,
    MINUTE_MS,
    MODEL,
    TENANT,
    Clock,
    Kept,
    accepted,
    answered,
    jobs_redis,
    key_of,
    lives_ms,
    new_job,
    only,
    store_on,
)
from fakes.pki import MeshPki
from fakes.redis_server import RedisServer
from fakes.redis_topologies import DURABLE, clustered, watched


@pytest.fixture
def durable(tmp_path: Path, pki: MeshPki) -> Iterator[RedisServer]:
    with jobs_redis(tmp_path / "durable", pki, lines=DURABLE) as server:
        yield server


async def until_there(kept: Kept) -> None:
    """Until Redis, or the one in its place, takes what is written."""
    async with asyncio.timeout(60):
        while True:
            try:
                await kept.store.expire(MODEL)
                await kept.store.check_key()
            except Unavailable:
                await asyncio.sleep(0.05)
                continue
            return


@pytest.mark.attack("H03")
async def test_a_job_that_was_answered_before_redis_was_set_back_is_answered_again(
    kept: Kept, server: RedisServer, clock: Clock
) -> None:
    job, later = await accepted(kept, new_job(clock, key="scan 7")), new_job(clock)
    older = server.dumped()
    claimed = await answered(kept, job, b"the first answer")
    await accepted(kept, later)
    server.set_back(older)
    assert (await only(kept, job)).state is State.QUEUED
    assert await kept.store.read(MODEL, TENANT, [later.job_id]) == [None], "its client submits it again"
    assert await kept.store.submit([job, later], BOUNDS) == [
        Accepted(job.job_id, existed=True),
        Accepted(later.job_id),
    ]
    await kept.store.settle(MODEL, [Ending(claimed, response=b"the second answer")])
    assert (await only(kept, job)).response == b"the second answer"
    await answered(kept, later, b"an answer")
    assert (await kept.store.queues()) == []


@pytest.mark.attack("H03")
async def test_a_job_that_runs_when_redis_is_emptied_ends_all_the_same(
    kept: Kept, server: RedisServer, clock: Clock
) -> None:
    job, waiting = [await accepted(kept, new_job(clock)) for _ in range(2)]
    (claimed,) = await kept.store.claim(MODEL, 1, 0)
    server.admin("FLUSHALL")
    server.admin("SCRIPT", "FLUSH")
    await kept.store.renew(MODEL, [claimed])
    await kept.store.give_back(MODEL, [claimed])
    assert await kept.store.reclaim(MODEL, 10, 0) == []
    assert await kept.store.recover(MODEL) == 0
    assert await kept.store.cancel(MODEL, TENANT, [job.job_id]) == [None]
    await kept.store.settle(MODEL, [Ending(claimed, response=b"an answer")])
    assert (await only(kept, job)).response == b"an answer"
    assert await kept.store.submit([job, waiting], BOUNDS) == [
        Accepted(job.job_id, existed=True),
        Accepted(waiting.job_id),
    ]
    await answered(kept, waiting, b"an answer")


@pytest.mark.attack("H03")
async def test_entries_without_a_group_are_given_out(kept: Kept, server: RedisServer, clock: Clock) -> None:
    job = await accepted(kept, new_job(clock))
    (claimed,) = await kept.store.claim(MODEL, 10, 0)
    server.admin("XGROUP", "DESTROY", key_of(kept, "taken"), "gateways")
    await kept.store.renew(MODEL, [claimed])
    assert (await only(kept, job)).state is State.QUEUED
    (again,) = await kept.store.claim(MODEL, 10, 0)
    assert (again.job.job_id, again.attempt) == (job.job_id, 2)


@pytest.mark.attack("H03")
async def test_an_older_end_of_the_same_job_is_an_end_of_that_job(
    kept: Kept, server: RedisServer, clock: Clock
) -> None:
    job = await accepted(kept, new_job(clock))
    queued = server.dumped()
    await kept.store.cancel(MODEL, TENANT, [job.job_id])
    cancelled = server.admin("HGET", key_of(kept, "job", job), "t")
    server.set_back(queued)
    await answered(kept, job, b"an answer")
    server.admin("HSET", key_of(kept, "job", job), "t", cancelled)
    record = await only(kept, job)
    assert (record.state, record.response) == (State.CANCELLED, b"")


@pytest.mark.attack("H03")
async def test_what_was_accepted_is_there_after_a_kill(durable: RedisServer, pki: MeshPki, clock: Clock) -> None:
    async with store_on(durable, pki.cluster, clock) as kept:
        ended, held, waits = [await accepted(kept, new_job(clock, order_key=str(at))) for at in range(3)]
        first, _ = await kept.store.claim(MODEL, 2, 0)
        await kept.store.settle(MODEL, [Ending(first, response=b"an answer")])
        durable.kill()
        with pytest.raises(Unavailable):
            await kept.store.read(MODEL, TENANT, [ended.job_id])
        durable.start()
        await until_there(kept)
        assert (await only(kept, ended)).response == b"an answer"
        assert (await only(kept, held)).state is State.RUNNING
        await answered(kept, waits, b"an answer")
        (again,) = await kept.store.reclaim(MODEL, 10, 0)
        assert (again.job.job_id, again.attempt) == (held.job_id, 2)


@pytest.mark.attack("H03")
async def test_clocks_of_gateways_and_of_redis_may_differ(
    kept: Kept, server: RedisServer, pki: MeshPki, clock: Clock
) -> None:
    assert abs(clock() - server.admin("TIME")[0] * 1000) > 24 * 60 * MINUTE_MS, "no gateway goes by Redis's clock"
    behind = Clock(clock() - 5 * MINUTE_MS)
    async with store_on(server, pki.cluster, behind, consumer="gateway-2") as slow:
        job = await accepted(slow, new_job(behind))
        clock.ms = job.not_after_ms - 1
        (claimed,) = await kept.store.claim(MODEL, 10, 0)
        await slow.store.settle(MODEL, [Ending(claimed, response=b"an answer")])
        assert (await only(slow, job)).response == (await only(kept, job)).response == b"an answer"
    (name,) = [key for key in lives_ms(server) if b":job:" in key]
    assert lives_ms(server)[name] >= 10 * MINUTE_MS, "known for longer than its life, by either clock"


@pytest.mark.attack("H03")
async def test_a_failover_to_a_replica_loses_no_job_that_it_has(tmp_path: Path, pki: MeshPki, clock: Clock) -> None:
    with watched(tmp_path / "watched", pki) as group:
        async with store_on(group, pki.cluster, clock) as kept:
            ended, waits = [await accepted(kept, new_job(clock)) for _ in range(2)]
            (first,) = await kept.store.claim(MODEL, 1, 0)
            await kept.store.settle(MODEL, [Ending(first, response=b"an answer")])
            group.master.admin("WAIT", 1, 5000)
            group.master.kill()
            await until_there(kept)
            assert (await only(kept, ended)).response == b"an answer"
            await answered(kept, waits, b"an answer")


async def test_jobs_of_many_models_in_a_redis_cluster(tmp_path: Path, pki: MeshPki, clock: Clock) -> None:
    with clustered(tmp_path / "cluster", pki) as group:
        async with store_on(group, pki.cluster, clock) as kept:
            await kept.store.check_key()
            for number in range(6):
                name = f"tiny-{number}"
                jobs = [new_job(clock, model_name=name, key=f"scan {at}", order_key="row") for at in range(2)]
                assert await kept.store.submit(jobs, BOUNDS) == [Accepted(job.job_id) for job in jobs]
                for job in jobs:
                    await answered(kept, job, b"an answer")
                point, _ = await kept.store.ended_after(name, "$", 0)
                assert await kept.store.ended_after(name, point, 20) == (point, [])
                assert await kept.store.claim(name, 10, 20) == []
                await kept.store.forget(name, TENANT, [jobs[0].job_id])
                await accepted(kept, new_job(clock, model_name=name))
            assert [each.waiting for each in await kept.store.queues()] == [1] * 6
            assert {bool(lives_ms(node)) for node in group.nodes} == {True}
