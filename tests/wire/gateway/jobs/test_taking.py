"""Jobs come in once, within bounds, and are taken by priority, held, lost and given back."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from cloister.errors import AlreadyExists, InvalidRequest, NotReady, Overloaded
from cloister.gateway.jobs.job import Accepted, Claimed, Ending, Priority, State
from fakes.job_store_on_redis import (
    BOUNDS,
    MINUTE_MS,
    MODEL,
    OTHER,
    TENANT,
    Clock,
    Kept,
    accepted,
    new_job,
    only,
    store_on,
)
from fakes.pki import MeshPki
from fakes.redis_server import RedisServer


def ids(claimed: list[Claimed]) -> list[bytes]:
    return [each.job.job_id for each in claimed]


async def test_a_job_is_kept_taken_and_answered(kept: Kept, clock: Clock) -> None:
    store, job = kept.store, new_job(clock, key="scan 7", order_key="patient 7")
    assert await store.submit([job], BOUNDS) == [Accepted(job.job_id)]
    assert (await only(kept, job)).state is State.QUEUED
    (claimed,) = await store.claim(MODEL, 10, 0)
    assert claimed.job == replace(job, key="", order_key="")
    assert claimed.attempt == 1
    assert (await only(kept, job)).state is State.RUNNING
    clock.ms += 1000
    await store.settle(MODEL, [Ending(claimed, response=b"an answer")])
    record = await only(kept, job)
    assert (record.state, record.response, record.attempts) == (State.ANSWERED, b"an answer", 1)
    assert (record.submitted_ms, record.ended_ms) == (job.submitted_ms, clock())
    assert record.kept_until_ms == clock() + job.result_ttl_s * 1000
    assert kept.dropped == []


async def test_redis_learns_no_words_of_the_tenant(kept: Kept, server: RedisServer, clock: Clock) -> None:
    await accepted(kept, new_job(clock, key="scan of Erika Mustermann", order_key="Erika Mustermann"))
    everything = b"".join(key + content for key, (_, content) in server.dumped().items())
    assert MODEL.encode() in everything
    assert TENANT.encode() in everything
    assert b"Mustermann" not in everything


async def test_the_same_job_again_is_the_same_job(kept: Kept, second: Kept, clock: Clock) -> None:
    job = await accepted(kept, new_job(clock))
    again = replace(job, submitted_ms=job.submitted_ms + 5)
    assert await second.store.submit([again, again], BOUNDS) == [Accepted(job.job_id, existed=True)] * 2
    (claimed,) = await kept.store.claim(MODEL, 10, 0)
    await kept.store.settle(MODEL, [Ending(claimed, response=b"an answer")])
    assert await second.store.submit([job], BOUNDS) == [Accepted(job.job_id, existed=True)]
    assert await kept.store.claim(MODEL, 10, 0) == []


async def test_twice_in_one_call_is_one_job(kept: Kept, clock: Clock) -> None:
    job = new_job(clock, order_key="row")
    assert await kept.store.submit([job, job], BOUNDS) == [Accepted(job.job_id), Accepted(job.job_id, existed=True)]
    assert ids(await kept.store.claim(MODEL, 10, 0)) == [job.job_id]


@pytest.mark.parametrize("other", ["request", "tenant"])
async def test_an_id_that_is_taken_by_another_job(kept: Kept, clock: Clock, other: str) -> None:
    job = await accepted(kept, new_job(clock))
    changed = {"request": replace(job, request=b"another"), "tenant": replace(job, tenant=OTHER)}[other]
    (refused,) = await kept.store.submit([changed], BOUNDS)
    assert isinstance(refused, AlreadyExists)
    assert refused.reason == "job.other"


async def test_a_key_stands_for_one_job_as_long_as_that_is_known(kept: Kept, second: Kept, clock: Clock) -> None:
    first = await accepted(kept, new_job(clock, key="scan 7"))
    later = new_job(clock, key="scan 7")
    assert await second.store.submit([later], BOUNDS) == [Accepted(first.job_id, existed=True)]
    assert await second.store.submit([replace(later, tenant=OTHER)], BOUNDS) == [Accepted(later.job_id)]
    for claimed in await kept.store.claim(MODEL, 10, 0):
        await kept.store.settle(MODEL, [Ending(claimed, response=b"an answer")])
    assert await kept.store.submit([new_job(clock, key="scan 7")], BOUNDS) == [Accepted(first.job_id, existed=True)]
    await kept.store.forget(MODEL, TENANT, [first.job_id])
    last = new_job(clock, key="scan 7")
    assert await kept.store.submit([last], BOUNDS) == [Accepted(last.job_id)]


@pytest.mark.parametrize(
    ("bounds", "reason"),
    [
        (replace(BOUNDS, jobs=2), "jobs.full"),
        (replace(BOUNDS, size_bytes=250), "jobs.full"),
        (replace(BOUNDS, tenant_jobs=2), "tenant.jobs_full"),
        (replace(BOUNDS, tenant_bytes=250), "tenant.jobs_full"),
    ],
)
async def test_what_has_no_place_is_refused_until_there_is_one(
    kept: Kept, clock: Clock, bounds: object, reason: str
) -> None:
    jobs = [new_job(clock) for _ in range(3)]
    first, other, refused = await kept.store.submit(jobs, bounds)  # type: ignore[arg-type]
    assert [first, other] == [Accepted(job.job_id) for job in jobs[:2]]
    assert isinstance(refused, Overloaded)
    assert refused.reason == reason
    (claimed,) = await kept.store.claim(MODEL, 1, 0)
    await kept.store.settle(MODEL, [Ending(claimed, response=b"an answer")])
    assert await kept.store.submit(jobs[2:], bounds) == [Accepted(jobs[2].job_id)]  # type: ignore[arg-type]


async def test_one_tenant_fills_its_own_place_only(kept: Kept, clock: Clock) -> None:
    bounds = replace(BOUNDS, tenant_jobs=1)
    ours, more, theirs = new_job(clock), new_job(clock), new_job(clock, tenant=OTHER)
    outcomes = await kept.store.submit([ours, more, theirs], bounds)
    assert outcomes[0] == Accepted(ours.job_id)
    assert isinstance(outcomes[1], Overloaded)
    assert outcomes[2] == Accepted(theirs.job_id)


async def test_a_redis_that_is_full_refuses_what_comes_and_lets_go_what_is_there(
    kept: Kept, server: RedisServer, clock: Clock
) -> None:
    job = await accepted(kept, new_job(clock))
    server.admin("CONFIG", "SET", "maxmemory", "1mb")
    try:
        (refused,) = await kept.store.submit([new_job(clock)], BOUNDS)
        assert isinstance(refused, Overloaded)
        assert refused.reason == "jobs.memory_full"
        (claimed,) = await kept.store.claim(MODEL, 10, 0)
        await kept.store.settle(MODEL, [Ending(claimed, response=b"an answer")])
        assert (await only(kept, job)).response == b"an answer"
        await kept.store.forget(MODEL, TENANT, [job.job_id])
    finally:
        server.admin("CONFIG", "SET", "maxmemory", "0")


async def test_a_name_that_is_none(kept: Kept, clock: Clock) -> None:
    with pytest.raises(InvalidRequest):
        await kept.store.submit([new_job(clock, model_name="a}b")], BOUNDS)


async def test_higher_priority_goes_first_and_the_lowest_is_not_left_for_ever(kept: Kept, clock: Clock) -> None:
    for priority in (Priority.LOW, Priority.NORMAL, Priority.HIGH):
        await kept.store.submit([new_job(clock, priority=priority) for _ in range(20)], BOUNDS)
    taken = [(await kept.store.claim(MODEL, 1, 0))[0].job.priority for _ in range(16)]
    assert taken[:3] == [Priority.HIGH] * 3
    assert {priority: taken.count(priority) for priority in Priority} == {
        Priority.HIGH: 12,
        Priority.NORMAL: 2,
        Priority.LOW: 2,
    }


async def test_within_a_priority_first_come_first_served(kept: Kept, clock: Clock) -> None:
    jobs = [new_job(clock) for _ in range(300)]
    await kept.store.submit(jobs, BOUNDS)
    taken: list[bytes] = []
    while claimed := await kept.store.claim(MODEL, 100, 0):
        taken += ids(claimed)
    assert taken == [job.job_id for job in jobs]


async def test_who_waits_is_woken_by_a_job(kept: Kept, second: Kept, clock: Clock) -> None:
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(kept.store.claim(MODEL, 10, 60_000))
        await asyncio.sleep(0.05)
        job = await accepted(second, new_job(clock, priority=Priority.LOW))
    assert ids(waiting.result()) == [job.job_id]


async def test_more_that_wait_than_there_are_connections_for(kept: Kept, second: Kept, clock: Clock) -> None:
    names = [f"tiny-{number}" for number in range(40)]
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(kept.store.claim(name, 10, 60_000)) for name in names]
        await asyncio.sleep(0.05)
        jobs = [await accepted(second, new_job(clock, model_name=name)) for name in names]
    assert [ids(task.result()) for task in waiting] == [[job.job_id] for job in jobs]


async def test_large_jobs_come_in_portions(kept: Kept, second: Kept, clock: Clock) -> None:
    jobs = [new_job(clock, request=bytes([number]) * (3 << 20)) for number in range(3)]
    larger = new_job(clock, request=bytes(5 << 20), priority=Priority.LOW)
    assert await kept.store.submit([*jobs, larger], BOUNDS) == [Accepted(job.job_id) for job in (*jobs, larger)]
    first = await kept.store.claim(MODEL, 10, 0)
    assert [each.job for each in first] == jobs[:2]
    rest = await second.store.claim(MODEL, 10, 0)
    assert [each.job for each in rest] == [jobs[2], larger]
    assert {each.attempt for each in rest} == {1}


async def test_what_an_earlier_life_held_is_given_out_first_and_counts(
    kept: Kept, server: RedisServer, pki: MeshPki, clock: Clock
) -> None:
    jobs = [await accepted(kept, new_job(clock)) for _ in range(3)]
    held = await kept.store.claim(MODEL, 2, 0)
    async with store_on(server, pki.cluster, clock) as later:
        assert await later.store.recover(MODEL) == 2
        again = await later.store.claim(MODEL, 10, 0)
        assert ids(again) == [job.job_id for job in jobs]
        assert [each.attempt for each in again] == [2, 2, 1]
        await later.store.settle(MODEL, [Ending(again[0], response=b"the first end")])
    await kept.store.settle(MODEL, [Ending(held[0], response=b"the second end")])
    assert (await only(kept, jobs[0])).response == b"the first end"


async def test_what_a_runner_has_left_is_taken_by_another(kept: Kept, second: Kept, clock: Clock) -> None:
    job = await accepted(kept, new_job(clock))
    assert len(await kept.store.claim(MODEL, 10, 0)) == 1
    assert await second.store.reclaim(MODEL, 10, 60_000) == []
    (again,) = await second.store.reclaim(MODEL, 10, 0)
    assert (again.job.job_id, again.attempt) == (job.job_id, 2)


_HELD_FOR = """
local taken = redis.call('KEYS', '*:taken')[1]
local group = redis.call('XINFO', 'GROUPS', taken)[1][2]
local held = redis.call('XPENDING', taken, group, '-', '+', 100)
for _, each in ipairs(held) do
    redis.call('XCLAIM', taken, group, each[2], 0, each[1], 'IDLE', ARGV[1], 'JUSTID')
end
return #held
"""


def held_for(server: RedisServer, idle_ms: int) -> None:
    """Have what runners hold be renewed last so long ago."""
    assert server.admin("EVAL", _HELD_FOR, 0, idle_ms) == 1


async def test_what_is_renewed_is_left_to_its_runner(
    kept: Kept, second: Kept, server: RedisServer, clock: Clock
) -> None:
    await accepted(kept, new_job(clock))
    held = await kept.store.claim(MODEL, 10, 0)
    held_for(server, 2 * MINUTE_MS)
    await kept.store.renew(MODEL, held)
    assert await second.store.reclaim(MODEL, 10, MINUTE_MS) == []
    held_for(server, 2 * MINUTE_MS)
    taken = await second.store.reclaim(MODEL, 10, MINUTE_MS)
    assert ids(taken) == ids(held)
    await kept.store.renew(MODEL, held)
    await kept.store.give_back(MODEL, held)
    assert await kept.store.claim(MODEL, 10, 0) == [], "another holds it now"


@pytest.mark.parametrize(("counted", "attempt"), [(False, 1), (True, 2)])
async def test_what_is_given_back_keeps_its_place(
    kept: Kept, second: Kept, clock: Clock, counted: bool, attempt: int
) -> None:
    first, other = [await accepted(kept, new_job(clock)) for _ in range(2)]
    (held,) = await kept.store.claim(MODEL, 1, 0)
    await kept.store.give_back(MODEL, [held], counted=counted)
    assert (await only(kept, first)).state is State.QUEUED
    taken = await second.store.claim(MODEL, 10, 0)
    assert ids(taken) == [first.job_id, other.job_id]
    assert taken[0].attempt == attempt


async def test_a_gateway_with_another_shared_key_does_not_begin(
    kept: Kept, server: RedisServer, pki: MeshPki, clock: Clock
) -> None:
    await kept.store.check_key()
    await kept.store.check_key()
    async with store_on(server, pki.cluster, clock, key=b"t" * 32) as other:
        with pytest.raises(NotReady) as refused:
            await other.store.check_key()
    assert refused.value.reason == "shared_key.other"
