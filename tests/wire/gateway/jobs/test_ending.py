"""Jobs end once, and what became of them is told for as long as it was asked to be kept, and no longer."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from cloister.errors import InvalidRequest, Unavailable
from cloister.gateway.jobs.job import Accepted, Ending, Priority, State
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
    lives_ms,
    new_job,
    only,
)
from fakes.redis_server import RedisServer

LASTING = {"models", "feed", "turns", "taken", "news", "dead", "letters"}
"""Kinds of keys that stay when no job is left; each is bounded."""


def kind(key: bytes) -> str:
    """What a key is for: the word after the model's."""
    return key.decode().rpartition(":jobs:")[2].rpartition("}:")[2].partition(":")[0]


def kinds(server: RedisServer) -> set[str]:
    return {kind(key) for key in lives_ms(server)}


@pytest.mark.attack("H08")
async def test_of_two_ends_the_first_counts(kept: Kept, second: Kept, clock: Clock) -> None:
    job = await accepted(kept, new_job(clock))
    (first,) = await kept.store.claim(MODEL, 10, 0)
    (other,) = await second.store.reclaim(MODEL, 10, 0)
    await kept.store.settle(MODEL, [Ending(first, response=b"the first end")])
    await second.store.settle(MODEL, [Ending(other, error=Unavailable("late", reason="worker.lost"))])
    record = await only(kept, job)
    assert (record.state, record.response) == (State.ANSWERED, b"the first end")
    assert await kept.store.dead_letters(MODEL, "", 10) == ("", [])
    assert await second.store.reclaim(MODEL, 10, 0) == []
    assert kept.dropped == second.dropped == []


@pytest.mark.attack("H08")
async def test_two_runners_never_hold_one_job_and_each_job_ends_once(kept: Kept, second: Kept, clock: Clock) -> None:
    jobs = [new_job(clock) for _ in range(500)]
    await kept.store.submit(jobs, BOUNDS)
    taken: list[bytes] = []

    async def run(by: Kept) -> None:
        while claimed := await by.store.claim(MODEL, 7, 0):
            taken.extend(each.job.job_id for each in claimed)
            await by.store.settle(MODEL, [Ending(each, response=each.job.job_id) for each in claimed])

    async with asyncio.TaskGroup() as group:
        group.create_task(run(kept))
        group.create_task(run(second))
    assert sorted(taken) == sorted(job.job_id for job in jobs)
    records = await kept.store.read(MODEL, TENANT, [job.job_id for job in jobs])
    assert [record.response for record in records if record] == [job.job_id for job in jobs]


@pytest.mark.attack("H08")
async def test_a_runner_that_ends_before_it_hears_that_it_has_settled_settles_again(
    kept: Kept, server: RedisServer, clock: Clock
) -> None:
    job = await accepted(kept, new_job(clock))
    (claimed,) = await kept.store.claim(MODEL, 10, 0)
    for response in (b"an answer", b"an answer", b"sealed once more"):
        await kept.store.settle(MODEL, [Ending(claimed, response=response)])
    assert (await only(kept, job)).response == b"an answer"
    assert await kept.store.recover(MODEL) == 0


async def test_a_job_without_an_answer_is_a_dead_letter_with_the_reason(kept: Kept, clock: Clock) -> None:
    jobs = [await accepted(kept, new_job(clock, tenant=tenant)) for tenant in (TENANT, OTHER, TENANT)]
    claimed = await kept.store.claim(MODEL, 10, 0)
    error = Unavailable("every worker was lost with it", reason="worker.lost")
    await kept.store.settle(MODEL, [Ending(each, error=error) for each in claimed])
    record = await only(kept, jobs[0])
    assert record.state is State.DEAD
    assert isinstance(record.error, Unavailable)
    assert (record.error.reason, str(record.error)) == (error.reason, str(error))
    next_page, letters = await kept.store.dead_letters(MODEL, "", 2)
    assert letters == [(TENANT, record), (OTHER, await only(kept, jobs[1]))] or len(letters) == 2
    last, rest = await kept.store.dead_letters(MODEL, next_page, 2)
    told = [(tenant, each.job_id) for tenant, each in (*letters, *rest)]
    assert sorted(told) == sorted((job.tenant, job.job_id) for job in jobs)
    assert last == ""
    with pytest.raises(InvalidRequest):
        await kept.store.dead_letters(MODEL, "everything", 2)


async def test_a_deadline_that_passed_is_told_as_one(kept: Kept, clock: Clock) -> None:
    job = await accepted(kept, new_job(clock))
    (claimed,) = await kept.store.claim(MODEL, 10, 0)
    await kept.store.settle(MODEL, [Ending(claimed, error=TimeoutError())])
    assert isinstance((await only(kept, job)).error, TimeoutError)


async def test_what_is_cancelled_is_not_computed_and_stays_so(kept: Kept, clock: Clock) -> None:
    waits, runs = [await accepted(kept, new_job(clock, priority=each)) for each in (Priority.LOW, Priority.HIGH)]
    (claimed,) = await kept.store.claim(MODEL, 1, 0)
    foreign = await kept.store.cancel(MODEL, OTHER, [waits.job_id])
    assert foreign == [None]
    unknown = secrets.token_bytes(16)
    records = await kept.store.cancel(MODEL, TENANT, [waits.job_id, runs.job_id, unknown])
    assert [record.state if record else None for record in records] == [State.CANCELLED, State.CANCELLED, None]
    assert await kept.store.claim(MODEL, 10, 0) == []
    await kept.store.settle(MODEL, [Ending(claimed, response=b"too late")])
    assert (await only(kept, runs)).state is State.CANCELLED
    again = await kept.store.cancel(MODEL, TENANT, [waits.job_id])
    assert again == [records[0]]
    assert await kept.store.dead_letters(MODEL, "", 10) == ("", [])


async def test_what_is_too_late_is_never_given_out(kept: Kept, clock: Clock) -> None:
    job, later = await accepted(kept, new_job(clock)), await accepted(kept, new_job(clock, not_after_ms=clock() * 2))
    clock.ms = job.not_after_ms
    assert [each.job.job_id for each in await kept.store.claim(MODEL, 10, 0)] == [later.job_id]
    record = await only(kept, job)
    assert record.state is State.DEAD
    assert record.error is not None
    assert getattr(record.error, "reason", "") == "job.expired"
    assert record.attempts == 0


async def test_what_nobody_takes_in_time_expires(kept: Kept, clock: Clock) -> None:
    jobs = [new_job(clock) for _ in range(200)]
    await kept.store.submit(jobs, BOUNDS)
    assert await kept.store.expire(MODEL) == 0
    clock.ms += 11 * MINUTE_MS
    assert await kept.store.expire(MODEL) == 200
    assert (await only(kept, jobs[0])).state is State.DEAD
    assert len((await kept.store.dead_letters(MODEL, "", 1000))[1]) == 200
    assert await kept.store.claim(MODEL, 10, 0) == []
    clock.ms += 8 * 24 * 60 * MINUTE_MS
    assert kept.dropped == []


async def test_what_others_have_is_not_there(kept: Kept, clock: Clock) -> None:
    job = await accepted(kept, new_job(clock))
    await answered(kept, job, b"an answer")
    assert await kept.store.read(MODEL, OTHER, [job.job_id]) == [None]
    await kept.store.forget(MODEL, OTHER, [job.job_id])
    assert (await only(kept, job)).response == b"an answer"
    await kept.store.forget(MODEL, TENANT, [job.job_id])
    assert await kept.store.read(MODEL, TENANT, [job.job_id]) == [None]


async def test_what_has_not_ended_is_not_forgotten(kept: Kept, clock: Clock) -> None:
    job = await accepted(kept, new_job(clock))
    await kept.store.forget(MODEL, TENANT, [job.job_id])
    assert (await only(kept, job)).state is State.QUEUED


async def test_an_answer_goes_when_its_time_is_over_and_the_end_stays_known(
    kept: Kept, server: RedisServer, clock: Clock
) -> None:
    job = await accepted(kept, new_job(clock, result_ttl_s=600, key="scan 7"))
    await answered(kept, job, b"an answer")
    (answer,) = [key for key in lives_ms(server) if kind(key) == "answer"]
    assert 0 < lives_ms(server)[answer] <= 600_000
    assert server.admin("PEXPIRE", answer, 0) == 1  # Redis's clock goes on
    clock.ms += 600_000  # and ours
    record = await only(kept, job)
    assert (record.state, record.response) == (State.ANSWERED, b"")
    assert getattr(record.error, "reason", "") == "answer.expired"
    assert await kept.store.submit([job], BOUNDS) == [Accepted(job.job_id, existed=True)]
    assert kept.dropped == []


async def test_states_are_read_without_answers(kept: Kept, clock: Clock) -> None:
    job = await accepted(kept, new_job(clock))
    await answered(kept, job, b"an answer")
    (record,) = await kept.store.read(MODEL, TENANT, [job.job_id], responses=False)
    assert record is not None
    assert (record.state, record.response, record.error) == (State.ANSWERED, b"", None)


async def test_large_answers_are_read_in_portions(kept: Kept, clock: Clock) -> None:
    jobs = [new_job(clock) for _ in range(4)]
    await kept.store.submit(jobs, BOUNDS)
    sizes = (3 << 20, 3 << 20, 3 << 20, 5 << 20)
    responses = {job.job_id: job.job_id[:1] * size for job, size in zip(jobs, sizes, strict=True)}
    claimed = await kept.store.claim(MODEL, 10, 0)
    await kept.store.settle(MODEL, [Ending(each, response=responses[each.job.job_id]) for each in claimed])
    wanted, portions = list(responses), []
    while left := wanted[sum(portions) :]:
        records = await kept.store.read(MODEL, TENANT, left)
        assert [record.response for record in records if record] == [responses[each] for each in left[: len(records)]]
        portions.append(len(records))
    assert portions == [2, 2]  # 8 MB at most: whoever reads has many answers, and not so much memory


async def test_who_watches_hears_of_each_end_once(kept: Kept, second: Kept, clock: Clock) -> None:
    jobs = [new_job(clock) for _ in range(5)]
    await kept.store.submit(jobs, BOUNDS)
    point, nothing = await second.store.ended_after(MODEL, "$", 60_000)
    assert nothing == []
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(second.store.ended_after(MODEL, point, 60_000))
        await asyncio.sleep(0.05)
        claimed = await kept.store.claim(MODEL, 10, 0)
        await kept.store.settle(MODEL, [Ending(each, response=b"an answer") for each in claimed])
    point, ended = waiting.result()
    assert ended == [job.job_id for job in jobs]
    assert await second.store.ended_after(MODEL, point, 0) == (point, [])
    with pytest.raises(InvalidRequest):
        await second.store.ended_after(MODEL, "yesterday", 0)


async def test_who_falls_behind_the_feed_is_told(kept: Kept, server: RedisServer, pki: object, clock: Clock) -> None:
    begun, _ = await kept.store.ended_after(MODEL, "$", 0)
    assert begun == "0-0"
    await answered(kept, await accepted(kept, new_job(clock)), b"an answer")
    first, _ = await kept.store.ended_after(MODEL, begun, 0)
    await answered(kept, await accepted(kept, new_job(clock)), b"an answer")
    (feed,) = [key for key in lives_ms(server) if kind(key) == "feed"]
    server.admin("XTRIM", feed, "MAXLEN", 1)
    for behind in (begun, first):
        with pytest.raises(Unavailable) as missed:
            await kept.store.ended_after(MODEL, behind, 0)
        assert missed.value.reason == "jobs.feed_trimmed"
    now, _ = await kept.store.ended_after(MODEL, "$", 0)
    assert await kept.store.ended_after(MODEL, now, 0) == (now, [])


async def test_queues_are_counted(kept: Kept, clock: Clock) -> None:
    assert await kept.store.queues() == []
    await kept.store.submit([new_job(clock) for _ in range(3)], BOUNDS)
    await accepted(kept, new_job(clock, model_name="another", priority=Priority.HIGH))
    held = await kept.store.claim(MODEL, 2, 0)
    other, tiny = await kept.store.queues()
    assert (other.model_name, other.waiting, other.running) == ("another", 1, 0)
    assert (tiny.waiting, tiny.running, tiny.size_bytes, tiny.dead) == (1, 2, 300, 0)
    assert 0 <= tiny.oldest_s < 60
    await kept.store.give_back(MODEL, held[:1])
    await kept.store.settle(MODEL, [Ending(held[1], error=Unavailable("gone"))])
    _, tiny = await kept.store.queues()
    assert (tiny.waiting, tiny.running, tiny.size_bytes, tiny.dead) == (2, 0, 200, 1)


async def test_a_model_that_is_not_used_any_more_leaves_nothing(kept: Kept, server: RedisServer, clock: Clock) -> None:
    job = await accepted(kept, new_job(clock))
    await answered(kept, job, b"an answer")
    await kept.store.forget(MODEL, TENANT, [job.job_id])
    assert kinds(server) <= LASTING
    clock.ms += 61 * MINUTE_MS
    assert await kept.store.queues() == []
    assert lives_ms(server) == {}


@pytest.mark.parametrize("how", ["forgotten", "left"])
async def test_of_many_jobs_that_ended_only_what_is_bounded_or_expires_is_left(
    kept: Kept, server: RedisServer, clock: Clock, how: str
) -> None:
    for _ in range(20):
        jobs = [new_job(clock, key=secrets.token_hex(4), order_key=f"row {at % 10}") for at in range(100)]
        await kept.store.submit(jobs, BOUNDS)
        await kept.store.cancel(MODEL, TENANT, [jobs[5].job_id, jobs[15].job_id])
        while claimed := await kept.store.claim(MODEL, 50, 0):
            dead, *rest = claimed
            endings = [Ending(each, response=b"an answer") for each in rest]
            await kept.store.settle(MODEL, [Ending(dead, error=Unavailable("gone")), *endings])
        if how == "forgotten":
            await kept.store.forget(MODEL, TENANT, [job.job_id for job in jobs])
    mortal = {"job", "answer", "key", "kept"}
    assert kinds(server) <= LASTING | (mortal if how == "left" else set())
    left = lives_ms(server)
    assert all(life_ms > 0 for key, life_ms in left.items() if kind(key) in {*mortal, "letters"})
    assert all(server.admin("XLEN", key) == 0 for key in left if kind(key) == "taken")
    assert kept.dropped == []
