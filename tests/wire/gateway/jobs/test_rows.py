"""Jobs of one row are given out one after the other, whatever becomes of those before, and Redis cannot change that."""

from __future__ import annotations

import asyncio

import pytest

from cloister.gateway.jobs.job import Accepted, Claimed, Ending, Job, Priority, State
from fakes.job_store_on_redis import (
    BOUNDS,
    MINUTE_MS,
    MODEL,
    OTHER,
    TENANT,
    Clock,
    Kept,
    accepted,
    answered,
    key_of,
    new_job,
    only,
    put_before,
)
from fakes.redis_server import RedisServer


def in_row(clock: Clock, **changes: object) -> Job:
    return new_job(clock, order_key="patient 7", **changes)


async def row(kept: Kept, clock: Clock, count: int) -> list[Job]:
    jobs = [in_row(clock) for _ in range(count)]
    assert await kept.store.submit(jobs, BOUNDS) == [Accepted(job.job_id) for job in jobs]
    return jobs


async def taken(kept: Kept) -> list[bytes]:
    return [each.job.job_id for each in await kept.store.claim(MODEL, 10, 0)]


async def test_a_row_is_answered_one_after_the_other(kept: Kept, second: Kept, clock: Clock) -> None:
    jobs = await row(kept, clock, 2)
    jobs += [
        await accepted(by, in_row(clock, priority=each)) for by, each in ((second, Priority.HIGH), (kept, Priority.LOW))
    ]
    for job in jobs:
        await answered(second, job, b"an answer")
        await second.store.forget(MODEL, TENANT, [job.job_id])
    jobs = [await accepted(kept, in_row(clock))]
    await answered(kept, jobs[0], b"an answer")
    assert kept.dropped == second.dropped == []


async def test_rows_do_not_wait_for_each_other(kept: Kept, clock: Clock) -> None:
    first, _ = await row(kept, clock, 2)
    theirs = await accepted(kept, in_row(clock, tenant=OTHER))
    other = await accepted(kept, new_job(clock, order_key="patient 8"))
    alone = await accepted(kept, new_job(clock))
    assert sorted(await taken(kept)) == sorted(job.job_id for job in (first, theirs, other, alone))


async def test_many_gateways_that_submit_to_one_row_make_one_row(kept: Kept, second: Kept, clock: Clock) -> None:
    jobs = [in_row(clock) for _ in range(40)]

    async def send(by: Kept, part: list[Job]) -> None:
        for at in range(0, len(part), 4):
            outcomes = await by.store.submit(part[at : at + 4], BOUNDS)
            assert outcomes == [Accepted(job.job_id) for job in part[at : at + 4]]

    async with asyncio.TaskGroup() as group:
        group.create_task(send(kept, jobs[:20]))
        group.create_task(send(second, jobs[20:]))
    order: list[bytes] = []
    while claimed := await kept.store.claim(MODEL, 10, 0):
        (each,) = claimed
        order.append(each.job.job_id)
        await kept.store.settle(MODEL, [Ending(each, response=b"an answer")])
    assert sorted(order) == sorted(job.job_id for job in jobs)
    for part in (jobs[:20], jobs[20:]):
        assert [job_id for job_id in order if job_id in {job.job_id for job in part}] == [job.job_id for job in part]
    assert kept.dropped == second.dropped == []


@pytest.mark.parametrize("which", [[0], [1], [2], [1, 2], [2, 1], [0, 1], [1, 3], [3], [1, 2, 3], [3, 2, 1], [2, 1, 3]])
async def test_those_that_are_cancelled_are_stepped_over(kept: Kept, clock: Clock, which: list[int]) -> None:
    jobs = await row(kept, clock, 4)
    await kept.store.cancel(MODEL, TENANT, [jobs[at].job_id for at in which])
    for at, job in enumerate(jobs):
        if at not in which:
            await answered(kept, job, b"an answer")
    assert await taken(kept) == []
    assert kept.dropped == []


async def test_those_that_are_cancelled_one_by_one_while_the_first_runs(kept: Kept, clock: Clock) -> None:
    jobs = await row(kept, clock, 4)
    (first,) = await kept.store.claim(MODEL, 10, 0)
    for at in (2, 1):
        await kept.store.cancel(MODEL, TENANT, [jobs[at].job_id])
        assert await taken(kept) == []
    last = await accepted(kept, in_row(clock))
    await kept.store.settle(MODEL, [Ending(first, response=b"an answer")])
    await answered(kept, jobs[3], b"an answer")
    await answered(kept, last, b"an answer")
    assert kept.dropped == []


async def test_those_that_expire_are_stepped_over(kept: Kept, clock: Clock) -> None:
    first, second, third = in_row(clock), in_row(clock), in_row(clock, not_after_ms=clock() + 60 * MINUTE_MS)
    await kept.store.submit([first, second, third], BOUNDS)
    clock.ms += 11 * MINUTE_MS
    assert await kept.store.expire(MODEL) == 2
    await answered(kept, third, b"an answer")
    assert kept.dropped == []


async def test_a_row_goes_on_after_a_dead_letter(kept: Kept, clock: Clock) -> None:
    first, second = await row(kept, clock, 2)
    (claimed,) = await kept.store.claim(MODEL, 10, 0)
    await kept.store.settle(MODEL, [Ending(claimed, error=TimeoutError())])
    assert (await only(kept, first)).state is State.DEAD
    await answered(kept, second, b"an answer")


@pytest.mark.attack("H01")
async def test_a_job_that_is_put_before_its_turn_is_not_given_out(
    kept: Kept, server: RedisServer, clock: Clock
) -> None:
    _, second = await row(kept, clock, 2)
    (held,) = await kept.store.claim(MODEL, 10, 0)
    put_before(server, kept, second)
    assert await taken(kept) == []
    assert kept.dropped == ["row.forged"]
    await kept.store.settle(MODEL, [Ending(held, response=b"an answer")])
    await answered(kept, second, b"an answer")


@pytest.mark.attack("H01")
@pytest.mark.parametrize("what", ["proof of another", "detour of another", "junk", "both of another"])
async def test_nobody_else_can_say_that_it_is_a_jobs_turn(
    kept: Kept, server: RedisServer, clock: Clock, what: str
) -> None:
    others = [new_job(clock, order_key="patient 8") for _ in range(4)]
    await kept.store.submit(others, BOUNDS)
    (held,) = await kept.store.claim(MODEL, 10, 0)
    await kept.store.cancel(MODEL, TENANT, [others[1].job_id])
    detour = server.admin("HGET", key_of(kept, "job", others[2]), "i")
    await kept.store.settle(MODEL, [Ending(held, response=b"an answer")])
    proof = server.admin("HGET", key_of(kept, "job", others[2]), "p")
    assert detour
    assert proof
    await taken(kept)

    _, second = await row(kept, clock, 2)
    await taken(kept)
    fields = {
        "proof of another": ("p", proof),
        "detour of another": ("i", detour),
        "junk": ("p", b"\x00" * 32, "i", b"junk"),
        "both of another": ("p", proof, "i", detour),
    }[what]
    put_before(server, kept, second)
    server.admin("HSET", key_of(kept, "job", second), *fields)
    assert await taken(kept) == []
    assert kept.dropped == ["row.forged"]


@pytest.mark.attack("H01")
async def test_a_row_whose_first_is_lost_goes_on_when_that_would_have_expired(
    kept: Kept, server: RedisServer, clock: Clock
) -> None:
    first, second = in_row(clock), in_row(clock, not_after_ms=clock() + 60 * MINUTE_MS)
    await kept.store.submit([first, second], BOUNDS)
    server.admin("DEL", key_of(kept, "job", first))
    assert await taken(kept) == []
    clock.ms += 11 * MINUTE_MS
    await kept.store.expire(MODEL)
    await answered(kept, second, b"an answer")
    assert kept.dropped == ["job.missing", "job.lost"]


@pytest.mark.attack("H01")
@pytest.mark.parametrize("what", ["lost", "forged", "unknown", "wrong type"])
async def test_a_row_whose_last_is_not_believed_takes_jobs_all_the_same(
    kept: Kept, server: RedisServer, clock: Clock, what: str
) -> None:
    (first,) = await row(kept, clock, 1)
    (name,) = [key for key in server.admin("KEYS", "*") if b":row:" in key]
    if what == "lost":
        server.admin("DEL", key_of(kept, "job", first))
    elif what == "forged":
        server.admin("HSET", key_of(kept, "job", first), "h", b"x" * 300)
    elif what == "unknown":
        server.admin("RPUSH", name, "somebody")
    else:
        server.admin("SET", name, "text")
    later = await accepted(kept, in_row(clock))
    assert later.job_id in await taken(kept)
    assert kept.dropped


async def test_a_claimed_job_of_a_row_that_changed_meanwhile_ends(kept: Kept, second: Kept, clock: Clock) -> None:
    jobs = await row(kept, clock, 3)
    held: list[Claimed] = await kept.store.claim(MODEL, 10, 0)
    async with asyncio.TaskGroup() as group:
        group.create_task(second.store.cancel(MODEL, TENANT, [jobs[1].job_id]))
        group.create_task(kept.store.settle(MODEL, [Ending(held[0], response=b"an answer")]))
        group.create_task(second.store.cancel(MODEL, TENANT, [jobs[0].job_id]))
    await answered(kept, jobs[2], b"an answer")
