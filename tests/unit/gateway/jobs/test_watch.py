"""A watch: states now, then ends as they come, once each, also where the feed was trimmed or the store was away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from cloister.errors import NotFound, Unavailable
from cloister.gateway.jobs import feeds, watch
from cloister.gateway.jobs.feeds import Feeds
from cloister.gateway.jobs.job import Accepted, Ending, Job, State
from cloister.gateway.jobs.settings import JobsSettings
from cloister.gateway.jobs.store_watch import StoreWatch
from cloister.gateway.jobs.watch import JobWatch, Told
from fakes.job_store import MemoryJobStore, Shelf
from fakes.run_jobs import MODEL, TENANT, kept_job, now_ms, ready_stores

BOUNDS = JobsSettings().bounds()


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "PAUSE_S", 0.01)
    monkeypatch.setattr(watch, "LINGER_S", 0.0)


class Watching:
    """A store, its feeds, and what one watch was told."""

    def __init__(
        self,
        store: MemoryJobStore,
        stores: StoreWatch,
        feeds: Feeds,
        group: asyncio.TaskGroup,
        readers: list[asyncio.Task[None]],
    ) -> None:
        self.store, self.stores, self.feeds = store, stores, feeds
        self.shelf = store.shelf
        self.group = group
        self.readers = readers
        self.told: list[Told] = []
        self._heard = asyncio.Event()

    async def tell(self, told: Told) -> None:
        self.told.append(told)
        self._heard.set()

    def watch(
        self, *jobs: Job, tenant: str = TENANT, responses: bool = True, ends_only: bool = False, batch: int = 64
    ) -> asyncio.Task[None]:
        ids = [job.job_id for job in jobs]
        made = JobWatch(self.stores, self.feeds, MODEL, tenant, responses=responses, ends_only=ends_only, batch=batch)
        return self.group.create_task(made.run(ids, self.tell))

    async def heard(self, messages: int) -> None:
        async with asyncio.timeout(5):
            while len(self.told) < messages:
                self._heard.clear()
                await self._heard.wait()

    async def submit(self, *jobs: Job, tenant: str = TENANT) -> None:
        """As the servicer does."""
        with self.feeds.submitting(MODEL, tenant, [job.job_id for job in jobs]) as new:
            outcomes = await self.store.submit(jobs, BOUNDS)
            new |= {each.job_id for each in outcomes if isinstance(each, Accepted) and not each.existed}

    async def listening(self) -> Job:
        """Have the feed read, by a watch over the job that is returned."""
        seen = kept_job()
        await self.submit(seen)
        self.watch(seen)
        await self.heard(1)
        self.told.clear()
        return seen

    async def answer(self, *jobs: Job, response: bytes = b"answer") -> None:
        claimed = {each.job.job_id: each for each in await self.store.claim(MODEL, 1000, 0)}
        await self.store.settle(MODEL, [Ending(claimed[job.job_id], response) for job in jobs])

    def states(self) -> list[list[State | None]]:
        return [[record.state if record is not None else None for _, record in told] for told in self.told]


@asynccontextmanager
async def watching() -> AsyncIterator[Watching]:
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        readers: list[asyncio.Task[None]] = []

        def spawn(reading: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
            readers.append(group.create_task(reading, name=name))
            return readers[-1]

        store = MemoryJobStore(Shelf(), now_ms)
        stores = await ready_stores(store)
        yield Watching(store, stores, Feeds(stores, spawn), group, readers)
        for reader in readers:
            reader.cancel()


async def test_states_come_first_and_each_end_as_it_comes() -> None:
    async with watching() as rig:
        one, two = kept_job(), kept_job()
        await rig.store.submit([one, two], BOUNDS)
        task = rig.watch(one, two)
        await rig.heard(1)
        assert rig.states() == [[State.QUEUED, State.QUEUED]]
        await rig.answer(two)
        await rig.heard(2)
        ((job_id, record),) = rig.told[1]
        assert record is not None
        assert (job_id, record.state, record.response) == (two.job_id, State.ANSWERED, b"answer")
        await rig.store.cancel(MODEL, TENANT, [one.job_id])
        await task
        assert rig.states()[2:] == [[State.CANCELLED]]


async def test_what_has_ended_before_is_told_with_its_answer_and_the_watch_ends() -> None:
    async with watching() as rig:
        job = kept_job()
        await rig.store.submit([job], BOUNDS)
        await rig.answer(job)
        await rig.watch(job)
        ((told,),) = rig.told
        assert told[1] is not None
        assert told[1].response == b"answer"


async def test_without_answers_all_states_are_in_the_first_message() -> None:
    async with watching() as rig:
        jobs = [kept_job() for _ in range(200)]
        await rig.store.submit(jobs, BOUNDS)
        await rig.answer(*jobs[:150])
        task = rig.watch(*jobs, responses=False)
        await rig.heard(1)
        assert rig.states() == [[State.ANSWERED] * 150 + [State.RUNNING] * 50]
        assert not any(record.response for _, record in rig.told[0] if record is not None)
        await rig.store.cancel(MODEL, TENANT, [job.job_id for job in jobs])
        await task


async def test_anothers_job_is_one_that_is_not_there_and_nobody_waits_for_it() -> None:
    async with watching() as rig:
        job = kept_job()
        await rig.store.submit([job], BOUNDS)
        await rig.watch(job, tenant="somebody else")
        assert rig.states() == [[None]]


async def test_a_job_that_is_asked_for_twice_is_told_once() -> None:
    async with watching() as rig:
        job = kept_job()
        await rig.store.submit([job], BOUNDS)
        await rig.answer(job)
        await rig.watch(job, job)
        assert len(rig.told) == 1


async def test_many_watchers_of_a_model_share_one_reader_which_goes_when_it_has_been_alone_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with watching() as rig:
        jobs = [kept_job() for _ in range(20)]
        await rig.store.submit(jobs, BOUNDS)
        tasks = [rig.watch(job) for job in jobs]
        await rig.heard(20)
        assert sum(task.get_name() == f"ends of {MODEL}" for task in asyncio.all_tasks()) == 1
        await rig.answer(*jobs)
        await asyncio.wait(tasks)
        last = kept_job()
        await rig.store.submit([last], BOUNDS)
        (reader,) = [task for task in asyncio.all_tasks() if task.get_name() == f"ends of {MODEL}"]
        monkeypatch.setattr(feeds, "IDLE_S", 0.0)
        await rig.answer(last)
        await reader


async def test_large_answers_come_in_messages_of_about_a_megabyte() -> None:
    async with watching() as rig:
        jobs = [kept_job() for _ in range(40)]
        await rig.store.submit(jobs, BOUNDS)
        await rig.answer(*jobs, response=bytes(300_000))
        await rig.watch(*jobs)
        sizes = [sum(len(record.response) for _, record in told if record is not None) for told in rig.told]
        assert sum(sizes) == 40 * 300_000
        assert max(sizes[2:]) <= 4 * 300_000


@pytest.mark.attack("H03")
async def test_ends_that_left_the_feed_unread_are_found_in_the_records(monkeypatch: pytest.MonkeyPatch) -> None:
    async with watching() as rig:
        job = kept_job()
        await rig.store.submit([job], BOUNDS)
        task = rig.watch(job)
        await rig.heard(1)
        await rig.answer(job)
        rig.store.trim(MODEL)  # before its reader comes round
        await task
        assert rig.states()[-1] == [State.ANSWERED]


@pytest.mark.attack("H03")
async def test_a_feed_that_says_nothing_or_too_much_only_costs_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "RECHECK_S", 0.05)
    async with watching() as rig:
        job = kept_job()
        await rig.store.submit([job], BOUNDS)
        task = rig.watch(job)
        await rig.heard(1)
        rig.shelf.feed[MODEL] = [job.job_id]  # it has not ended
        rig.shelf.changed.set()
        await asyncio.sleep(0.02)
        assert len(rig.told) == 1
        await rig.answer(job)
        rig.shelf.feed[MODEL] = [bytes(16)]
        await task
        assert rig.states()[-1] == [State.ANSWERED]


async def test_a_store_that_is_away_for_a_while_is_waited_for() -> None:
    async with watching() as rig:
        job = kept_job()
        await rig.store.submit([job], BOUNDS)
        task = rig.watch(job)
        await rig.heard(1)
        rig.shelf.away = True
        await asyncio.sleep(0.05)
        rig.shelf.away = False
        await rig.answer(job)
        await task
        assert rig.states()[-1] == [State.ANSWERED]


async def test_a_store_that_stays_away_ends_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "PATIENCE_S", 0.05)
    async with watching() as rig:
        rig.shelf.away = True
        made = JobWatch(rig.stores, rig.feeds, MODEL, TENANT, responses=True, batch=8)
        with pytest.raises(Unavailable):
            await made.run([bytes(16)], rig.tell)


@pytest.mark.parametrize("ended_before", [False, True])
async def test_of_a_job_that_came_while_its_feed_was_read_nothing_is_read_but_its_end(ended_before: bool) -> None:
    async with watching() as rig:
        seen, job = await rig.listening(), kept_job()
        await rig.submit(job)
        if ended_before:
            await rig.answer(job, seen)
            await rig.heard(1)
        reads = rig.shelf.calls["read"]
        task = rig.watch(job, ends_only=True)
        if not ended_before:
            await rig.answer(job, seen)
        await task
        assert [State.ANSWERED] in rig.states()
        assert rig.shelf.calls["read"] == reads + (1 if ended_before else 2)  # one of them is of the other watch


async def test_of_a_job_that_was_there_before_the_record_is_read() -> None:
    async with watching() as rig:
        early = kept_job()
        await rig.submit(early)
        seen = await rig.listening()
        await rig.answer(early)
        await rig.submit(early)  # once more: it is there, and has ended
        reads = rig.shelf.calls["read"]
        await rig.watch(early, ends_only=True)
        assert rig.states() == [[State.ANSWERED]]
        assert rig.shelf.calls["read"] == reads + 2
        await rig.store.cancel(MODEL, TENANT, [seen.job_id])


async def test_of_another_tenant_s_new_job_a_watch_says_at_once_that_there_is_none() -> None:
    async with watching() as rig:
        seen, job = await rig.listening(), kept_job()
        await rig.submit(job)
        await rig.watch(job, tenant="other", ends_only=True)
        assert rig.states() == [[None]]
        await rig.store.cancel(MODEL, TENANT, [seen.job_id])


async def test_what_a_feed_has_told_of_new_jobs_counts_no_more_once_it_was_lost() -> None:
    async with watching() as rig:
        seen, job = await rig.listening(), kept_job()
        await rig.submit(job)
        rig.shelf.away, asked = True, rig.shelf.calls["ended_after"]
        rig.shelf.changed.set()
        for _ in range(5000):
            if rig.shelf.calls["ended_after"] >= asked + 2:
                break
            await asyncio.sleep(0.001)
        else:
            pytest.fail("the feed was not asked again")
        rig.shelf.away = False
        await rig.answer(job)
        reads = rig.shelf.calls["read"]
        await rig.watch(job, ends_only=True)
        assert [State.ANSWERED] in rig.states()
        assert rig.shelf.calls["read"] > reads + 1
        await rig.store.cancel(MODEL, TENANT, [seen.job_id])


async def test_a_model_that_nobody_has_jobs_of_gets_no_reader_whatever_its_name() -> None:
    async with watching() as rig:
        ended = kept_job()
        await rig.store.submit([ended], BOUNDS)
        await rig.answer(ended)
        for name, ids in ((MODEL, [ended.job_id]), *((f"made-up-{number}", [bytes(16)]) for number in range(20))):
            made = JobWatch(rig.stores, rig.feeds, name, TENANT, responses=True, batch=8)
            await made.run(ids, rig.tell)
        assert rig.states() == [[State.ANSWERED]] + [[None]] * 20
        assert not rig.readers


async def test_a_client_that_does_not_read_holds_one_message_and_up_no_one() -> None:
    async with watching() as rig:
        slow, quick = kept_job(), kept_job()
        await rig.store.submit([slow, quick], BOUNDS)
        gate = asyncio.Event()
        waits: list[Told] = []

        async def stuck(told: Told) -> None:
            waits.append(told)
            await gate.wait()

        made = JobWatch(rig.stores, rig.feeds, MODEL, TENANT, responses=True, batch=8)
        held = rig.group.create_task(made.run([slow.job_id], stuck))
        task = rig.watch(quick)
        await rig.heard(1)
        await rig.answer(slow, quick)
        await task
        assert len(waits) == 1
        gate.set()
        await held
        assert len(waits) == 2


def test_what_is_not_there_has_the_reason_that_clients_go_by() -> None:
    from cloister.gateway.jobs.messages import job_message

    message = job_message(bytes(16), None)
    assert (message.state, message.failure.error, message.failure.reason) == (0, NotFound.__name__, "job.unknown")
