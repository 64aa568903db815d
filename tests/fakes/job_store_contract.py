"""What every store of jobs does, whether it is on Redis or a fake: each test is run on both."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cloister.errors import AlreadyExists, CloisterError, Overloaded, Unavailable
from cloister.gateway.jobs.job import Accepted, Claimed, Ending, Job, Priority, State
from cloister.gateway.jobs.settings import JobsSettings
from cloister.gateway.jobs.store import JobStore
from cloister.rpc.status import reason_of
from fakes.run_jobs import MODEL, TENANT, kept_job, now_ms

BOUNDS = JobsSettings().bounds()


async def accepted(store: JobStore, *jobs: Job, **bounds: Any) -> list[Accepted | CloisterError]:
    return await store.submit(jobs, replace(BOUNDS, **bounds))


async def taken(store: JobStore, most: int = 10) -> list[Claimed]:
    return await store.claim(MODEL, most, 0)


async def state(store: JobStore, job: Job, tenant: str = TENANT) -> State | None:
    (record,) = await store.read(MODEL, tenant, [job.job_id])
    return record.state if record is not None else None


def ids(claimed: Sequence[Claimed]) -> list[bytes]:
    return [each.job.job_id for each in claimed]


class JobStoreContract:
    """Subclasses have fixtures `store` and `other`: two processes' stores on the same jobs."""

    async def test_submitted_again_it_is_the_same_and_under_another_request_refused(self, store: JobStore) -> None:
        job = kept_job(key="row 1")
        assert await accepted(store, job) == [Accepted(job.job_id)]
        assert await accepted(store, job) == [Accepted(job.job_id, existed=True)]
        assert await accepted(store, kept_job(key="row 1")) == [Accepted(job.job_id, existed=True)]
        (refused,) = await accepted(store, kept_job(job_id=job.job_id, tenant="another"))
        assert isinstance(refused, AlreadyExists)
        assert refused.reason == "job.other"

    async def test_a_queue_has_bounds_in_all_and_for_each_tenant(self, store: JobStore) -> None:
        _, own = await accepted(store, kept_job(), kept_job(), tenant_jobs=1)
        (whole,) = await accepted(store, kept_job(tenant="another"), jobs=1)
        assert [type(own), type(whole)] == [Overloaded, Overloaded]
        assert [reason_of(each) for each in (own, whole) if isinstance(each, Overloaded)] == [
            "tenant.jobs_full",
            "jobs.full",
        ]

    async def test_jobs_are_taken_by_priority_then_as_they_came_and_once(
        self, store: JobStore, other: JobStore
    ) -> None:
        low, first, second, high = (
            kept_job(priority=each) for each in (Priority.LOW, Priority.NORMAL, Priority.NORMAL, Priority.HIGH)
        )
        await accepted(store, low, first, second, high)
        claimed = await taken(store, 3)
        assert ids(claimed) == [high.job_id, first.job_id, second.job_id]
        assert [each.attempt for each in claimed] == [1, 1, 1]
        assert ids(await taken(other)) == [low.job_id]
        assert await taken(store) == []

    async def test_given_back_it_is_taken_again_and_counts_where_a_worker_had_it(
        self, store: JobStore, other: JobStore
    ) -> None:
        job = kept_job()
        await accepted(store, job)
        await store.give_back(MODEL, await taken(store))
        (again,) = await taken(other)
        assert again.attempt == 1
        await other.give_back(MODEL, [again], counted=True)
        (third,) = await taken(store)
        assert third.attempt == 2

    async def test_put_off_it_is_taken_when_the_pause_is_over_and_holds_up_nothing(
        self, store: JobStore, other: JobStore
    ) -> None:
        first, second = kept_job(), kept_job()
        await accepted(store, first, second)
        await store.give_back(MODEL, await taken(store, 1), counted=True, pause_s=0.2)
        assert await state(store, first) in (State.QUEUED, State.RUNNING)
        assert ids(await taken(other)) == [second.job_id]
        (again,) = await other.claim(MODEL, 10, 1000)
        assert (again.job.job_id, again.attempt) == (first.job_id, 2)

    async def test_tenants_take_turns_whatever_their_priorities(self, store: JobStore) -> None:
        many = [kept_job(priority=Priority.HIGH) for _ in range(40)]
        await accepted(store, *many)
        few = [kept_job(tenant="clinic", priority=Priority.LOW) for _ in range(3)]
        one = kept_job(tenant="surgery")
        await accepted(store, *few)
        await accepted(store, one)
        first = await taken(store, 9)
        assert sorted(each.job.tenant for each in first) == ["clinic"] * 3 + [TENANT] * 5 + ["surgery"]
        assert len(await taken(store, 9)) == 9
        late = kept_job(tenant="clinic", priority=Priority.LOW)
        await accepted(store, late)
        assert late.job_id in ids(await taken(store, 2)), "a turn is not far away"

    async def test_turns_go_round_where_one_is_taken_at_a_time(self, store: JobStore) -> None:
        names = ["a", "b", "c"]
        await accepted(store, *(kept_job(tenant=tenant) for tenant in names for _ in range(4)))
        served = [(await taken(store, 1))[0].job.tenant for _ in range(12)]
        assert [sorted(served[at : at + 3]) for at in range(0, 12, 3)] == [names] * 4

    async def test_whose_answers_fill_its_room_gets_no_more_until_it_forgets_and_others_do(
        self, store: JobStore
    ) -> None:
        jobs = [kept_job() for _ in range(3)]
        await accepted(store, *jobs)
        await store.settle(MODEL, [Ending(each, b"a" * 2000) for each in await taken(store, 2)])
        (refused,) = await accepted(store, kept_job(), tenant_kept_bytes=6000)
        assert isinstance(refused, Overloaded)
        assert refused.reason == "tenant.results_full"
        other = kept_job(tenant="another")
        assert await accepted(store, other, tenant_kept_bytes=6000) == [Accepted(other.job_id)]
        assert ids(await store.claim(MODEL, 10, 0, kept_bytes=6000)) == [other.job_id]
        assert await state(store, jobs[2]) is State.QUEUED
        assert (await store.kept_bytes(MODEL, TENANT), await store.kept_bytes(MODEL, "nobody")) == (6048, 0)
        await store.forget(MODEL, TENANT, [jobs[0].job_id])
        assert ids(await store.claim(MODEL, 10, 0, kept_bytes=6000)) == [jobs[2].job_id]
        (taken_in,) = await accepted(store, kept_job(), tenant_kept_bytes=6000)
        assert isinstance(taken_in, Accepted)

    async def test_what_its_holder_does_not_renew_another_takes_and_what_it_does_is_its_own(
        self, store: JobStore, other: JobStore
    ) -> None:
        lost, kept = kept_job(), kept_job()
        await accepted(store, lost, kept)
        claimed = await taken(store)
        await asyncio.sleep(0.8)
        await store.renew(MODEL, [each for each in claimed if each.job.job_id == kept.job_id])
        (found,) = await other.reclaim(MODEL, 10, 700)
        assert (found.job.job_id, found.attempt) == (lost.job_id, 2)

    async def test_who_starts_again_under_its_name_gets_what_it_held(self, store: JobStore) -> None:
        job = kept_job()
        await accepted(store, job)
        await taken(store)
        assert await store.recover(MODEL) == 1
        (again,) = await taken(store)
        assert (again.job.job_id, again.attempt) == (job.job_id, 2)

    async def test_what_one_goes_on_holding_is_not_let_go(self, store: JobStore) -> None:
        first, second = kept_job(), kept_job()
        await accepted(store, first)
        (held,) = await taken(store)
        await accepted(store, second)
        await taken(store)
        assert await store.recover(MODEL, [held]) == 1
        assert [each.job.job_id for each in await taken(store)] == [second.job_id]

    async def test_of_two_ends_the_first_counts(self, store: JobStore) -> None:
        job = kept_job()
        await accepted(store, job)
        (claimed,) = await taken(store)
        await store.settle(MODEL, [Ending(claimed, b"first")])
        await store.settle(MODEL, [Ending(claimed, b"second")])
        await store.settle(MODEL, [Ending(claimed, error=Unavailable("late"))])
        (record,) = await store.read(MODEL, TENANT, [job.job_id])
        assert record is not None
        assert (record.state, record.response, record.attempts) == (State.ANSWERED, b"first", 1)
        (bare,) = await store.read(MODEL, TENANT, [job.job_id], responses=False)
        assert bare is not None
        assert bare.response == b""

    async def test_cancelled_it_has_ended_and_is_not_given_out(self, store: JobStore) -> None:
        waiting, running = kept_job(), kept_job()
        await accepted(store, running)
        (claimed,) = await taken(store)
        await accepted(store, waiting)
        records = await store.cancel(MODEL, TENANT, [waiting.job_id, running.job_id, bytes(16)])
        assert [each.state if each is not None else None for each in records] == [State.CANCELLED] * 2 + [None]
        await store.settle(MODEL, [Ending(claimed, b"late")])
        assert await state(store, running) is State.CANCELLED
        assert await taken(store) == []

    async def test_another_tenant_reads_cancels_and_forgets_nothing(self, store: JobStore) -> None:
        job = kept_job()
        await accepted(store, job)
        assert await state(store, job, "another") is None
        assert await store.cancel(MODEL, "another", [job.job_id]) == [None]
        await store.settle(MODEL, [Ending(each, b"answer") for each in await taken(store)])
        await store.forget(MODEL, "another", [job.job_id])
        assert await state(store, job) is State.ANSWERED
        await store.forget(MODEL, TENANT, [job.job_id])
        assert await state(store, job) is None

    async def test_a_row_is_answered_one_after_the_other(self, store: JobStore) -> None:
        first, second, free = kept_job(order_key="row"), kept_job(order_key="row"), kept_job()
        await accepted(store, first, second, free)
        claimed = await taken(store)
        assert ids(claimed) == [first.job_id, free.job_id]
        await store.settle(MODEL, [Ending(claimed[0], b"answer")])
        assert ids(await taken(store)) == [second.job_id]

    async def test_what_has_expired_ends_as_a_dead_letter_with_its_reason(self, store: JobStore) -> None:
        job = kept_job(not_after_ms=now_ms() + 20)
        await accepted(store, job)
        await asyncio.sleep(0.05)
        assert await taken(store) == []
        await store.expire(MODEL)
        after, letters = await store.dead_letters(MODEL, "", 10)
        ((tenant, record),) = letters
        assert record.error is not None
        assert (after, tenant, record.job_id, reason_of(record.error)) == ("", TENANT, job.job_id, "job.expired")

    async def test_the_feed_tells_of_ends_after_a_point(self, store: JobStore) -> None:
        job = kept_job()
        await accepted(store, job)
        point, told = await store.ended_after(MODEL, "$", 0)
        assert told == []
        await store.cancel(MODEL, TENANT, [job.job_id])
        later, told = await store.ended_after(MODEL, point, 500)
        assert told == [job.job_id]
        assert (await store.ended_after(MODEL, later, 10))[1] == []

    async def test_queues_say_how_much_waits(self, store: JobStore) -> None:
        jobs = [kept_job() for _ in range(3)]
        await accepted(store, *jobs)
        await taken(store, 1)
        (counts,) = await store.queues()
        assert (counts.model_name, counts.waiting, counts.running, counts.dead) == (MODEL, 2, 1, 0)
        assert counts.size_bytes == sum(len(job.request) for job in jobs)
