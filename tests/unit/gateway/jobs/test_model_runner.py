"""Jobs of one model: claimed within bounds, sent as calls, tried again or not, settled together, given back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cloister.errors import (
    CloisterError,
    InternalError,
    InvalidRequest,
    NotFound,
    NotReady,
    Overloaded,
    SealBroken,
    Unavailable,
)
from cloister.gateway.directory import Directory
from cloister.gateway.jobs import model_runner, sending
from cloister.gateway.jobs.job import State
from cloister.gateway.jobs.settings import JobsSettings
from cloister.gateway.tenant_file import TenantEntry, TenantsFile
from cloister.rpc.status import reason_of
from fakes.gateway_parts import TENANT, A, B, infer_request, make_call
from fakes.run_jobs import kept_job, now_ms, refuse, running, take
from fakes.running_jobs import MINUTE_MS, job_envelope


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between attempts are for a mesh, not for a test."""
    monkeypatch.setattr(sending, "pause_s", lambda _attempt: 0.01)
    monkeypatch.setattr(sending, "UNCOUNTED_S", 0.01)
    monkeypatch.setattr(model_runner, "PAUSE_S", 0.01)


async def test_a_job_goes_to_a_worker_in_its_tenants_name_and_its_answer_is_kept() -> None:
    async with running() as rig:
        worker = await rig.mesh.add(A)
        job = kept_job(tenant="spiffe://demo.cloister.internal/client/bea")
        await rig.submit(job)
        call = await take(worker)
        assert (call.request, call.tenant, call.model_version) == (job.request, job.tenant, "1")
        assert 0 < call.timeout_ms <= 300_000
        worker.answer(call.call_id, b"the answer")
        record = await rig.ended(job)
        assert (record.state, record.response, record.attempts) == (State.ANSWERED, b"the answer", 1)
        assert rig.counted()["cloister_jobs_ended_total", "tiny", "answered"] == 1


async def test_no_more_is_claimed_than_can_be_sent_soon_and_slots_are_left_for_requests() -> None:
    async with running(JobsSettings(slot_share=0.5)) as rig:
        worker = await rig.mesh.add(A, 4)
        jobs = [kept_job() for _ in range(20)]
        await rig.submit(*jobs)
        frame = await worker.frame()
        assert len(frame.calls) == 2  # half of the slots
        await rig.until(
            jobs[2], lambda record: record.state is State.RUNNING
        )  # it waits for the first slot that is free
        await asyncio.sleep(0.05)  # nothing more comes, however long one waits
        states = [(await rig.record(job)).state for job in jobs]
        assert states.count(State.RUNNING) == 3
        worker.answer(frame.calls[0].call_id)
        assert (await take(worker)).request == jobs[2].request


async def test_without_a_worker_nothing_is_claimed_and_what_was_is_given_back_uncounted() -> None:
    async with running() as rig:
        job, second = kept_job(), kept_job()
        await rig.submit(job, second)
        await rig.mesh.add(A, 1)
        await rig.until(second, lambda record: record.state is State.RUNNING)
        await rig.mesh.kill(A)
        record = await rig.until(second, lambda record: record.state is State.QUEUED)
        assert record.attempts == 0


@pytest.mark.parametrize(
    "error",
    [InvalidRequest("bad", reason="request.expired"), SealBroken()],
    ids=["invalid", "seal"],
)
async def test_what_a_worker_has_found_wrong_is_a_dead_letter_at_once(error: CloisterError) -> None:
    async with running() as rig:
        worker = await rig.mesh.add(A)
        job = kept_job()
        await rig.submit(job)
        refuse(worker, await take(worker), error)
        record = await rig.ended(job)
        assert (record.state, record.attempts) == (State.DEAD, 1)
        assert record.error is not None
        assert (type(record.error), reason_of(record.error)) == (type(error), error.reason)


@pytest.mark.attack("H08")
@pytest.mark.parametrize(
    ("error", "reason"),
    [(InternalError("broken"), "internal"), (Unavailable("going"), "peer.unavailable"), (NotFound("gone"), None)],
    ids=["internal", "unavailable", "unknown"],
)
async def test_what_may_pass_is_tried_again_and_after_the_last_attempt_is_a_dead_letter_with_the_last_reason(
    error: CloisterError, reason: str | None
) -> None:
    async with running(JobsSettings(attempts=3)) as rig:
        worker = await rig.mesh.add(A)
        job = kept_job()
        await rig.submit(job)
        for _ in range(3):
            refuse(worker, await take(worker), error)
        record = await rig.ended(job)
        assert (record.state, record.attempts) == (State.DEAD, 3)
        assert record.error is not None
        assert reason_of(record.error) == (reason or "name.unknown")
        assert rig.counted()["cloister_jobs_ended_total", "tiny", reason_of(record.error)] == 1


async def test_a_worker_without_room_is_no_attempt() -> None:
    async with running(JobsSettings(attempts=1)) as rig:
        worker = await rig.mesh.add(A)
        job = kept_job()
        await rig.submit(job)
        for _ in range(3):
            refuse(worker, await take(worker), Overloaded("full", reason="slots.full"))
        worker.answer((await take(worker)).call_id)
        record = await rig.ended(job)
        assert (record.state, record.attempts) == (State.ANSWERED, 1)


async def test_a_job_that_comes_too_late_for_its_deadline_does_not_hold_up_the_others() -> None:
    async with running() as rig:
        worker = await rig.mesh.add(A, 2)
        requests = [make_call() for _ in range(2)]
        for request in requests:
            rig.mesh.dispatcher.submit(request)
        first, second = (await worker.frame()).calls
        rig.mesh.dispatcher.lanes["tiny"].held_s = 8.0  # a slow model, of which other requests have all slots
        late, job = kept_job(not_after_ms=now_ms() + 1500), kept_job()
        await rig.submit(late)
        await rig.until(late, lambda record: record.state is State.RUNNING)
        await rig.submit(job)
        worker.answer(first.call_id)
        worker.answer(second.call_id)
        while (call := await take(worker)).request != job.request:
            worker.answer(call.call_id)


async def test_a_worker_that_has_not_the_key_sends_the_job_to_another_within_the_same_attempt() -> None:
    async with running(JobsSettings(attempts=1)) as rig:
        without, having = await rig.mesh.add(A, 3), await rig.mesh.add(B, 2)
        job = kept_job()
        await rig.submit(job)
        refuse(without, await take(without), NotReady("no such epoch", reason="epoch.unknown"))
        having.answer((await take(having)).call_id, b"opened")
        record = await rig.ended(job)
        assert (record.response, record.attempts) == (b"opened", 1)


async def test_a_job_that_no_worker_has_the_key_of_does_not_go_round_for_ever() -> None:
    async with running(JobsSettings(attempts=2)) as rig:
        worker = await rig.mesh.add(A)
        job = kept_job()
        await rig.submit(job)
        for _ in range(2):
            refuse(worker, await take(worker), NotReady("no such epoch", reason="epoch.unknown"))
        record = await rig.ended(job)
        assert record.error is not None
        assert (reason_of(record.error), record.attempts) == ("job.key_unknown", 2)


async def test_jobs_that_nobody_can_open_take_no_room_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "pause_s", lambda _attempt: 20.0)
    monkeypatch.setattr(model_runner, "MAX_HELD", 4)
    async with running() as rig:
        worker = await rig.mesh.add(A, 2)
        junk = [kept_job(tenant="spiffe://demo.cloister.internal/client/mallory") for _ in range(40)]
        await rig.submit(*junk)
        refuse(worker, await take(worker), NotReady("no such epoch", reason="epoch.unknown"))
        job = kept_job()
        await rig.submit(job)
        refused = 1
        while (call := await take(worker)).tenant != job.tenant:
            refused += 1
            refuse(worker, call, NotReady("no such epoch", reason="epoch.unknown"))
        worker.answer(call.call_id, b"an answer")
        assert (await rig.ended(job)).response == b"an answer"
        assert refused <= 6, "what was held already, and not all of them"
        for _ in range(refused, len(junk)):
            refuse(worker, await take(worker), NotReady("no such epoch", reason="epoch.unknown"))
        await rig.until(junk[-1], lambda record: record.attempts == 1 and len(rig.runner) == 0)


@pytest.mark.attack("H08")
async def test_a_job_whose_worker_was_lost_with_it_is_tried_again_and_the_attempt_counts() -> None:
    async with running() as rig:
        worker = await rig.mesh.add(A)
        job = kept_job()
        await rig.submit(job)
        await take(worker)
        other = await rig.mesh.add(B)
        await rig.mesh.kill(A)
        other.answer((await take(other)).call_id)
        record = await rig.ended(job)
        assert (record.state, record.attempts) == (State.ANSWERED, 2)
        assert rig.counted()["cloister_jobs_attempts_total", "tiny", "worker.lost"] == 1


async def test_an_answer_that_is_too_large_to_keep_is_a_dead_letter() -> None:
    async with running(JobsSettings(max_result_bytes=10)) as rig:
        worker = await rig.mesh.add(A)
        job = kept_job()
        await rig.submit(job)
        worker.answer((await take(worker)).call_id, b"more than ten bytes")
        record = await rig.ended(job)
        assert record.error is not None
        assert (record.state, reason_of(record.error)) == (State.DEAD, "result.too_large")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"request": infer_request()}, "job.not_sealed"),
        ({"request": b"\xff"}, "request.invalid"),
        ({"request": job_envelope(model="other")}, "job.not_sealed"),
        ({"tenant": "a tenant that is none any more"}, "tenant.unknown"),
        ({"not_after_ms": 1}, "job.expired"),
    ],
    ids=["plain", "junk", "other model", "tenant", "late"],
)
async def test_a_bad_entry_ends_and_the_others_go_on(changes: dict[str, Any], reason: str) -> None:
    async with running() as rig:
        worker = await rig.mesh.add(A, 1)
        bad, good = kept_job(**changes), kept_job()
        await rig.submit(bad, good)
        worker.answer((await take(worker)).call_id)
        record = await rig.ended(bad)
        assert record.error is not None
        assert (record.state, reason_of(record.error)) == (State.DEAD, reason)
        assert (await rig.ended(good)).state is State.ANSWERED


async def test_a_tenant_that_may_not_see_the_model_any_more_has_nothing_computed() -> None:
    directory = Directory("demo.cloister.internal", TenantsFile(tenants={"radiology": TenantEntry(models=("other",))}))
    async with running(directory=directory) as rig:
        await rig.mesh.add(A)
        job = kept_job(tenant="radiology")
        await rig.submit(job)
        record = await rig.ended(job)
        assert (record.state, type(record.error)) == (State.DEAD, NotFound)


@pytest.mark.attack("H08")
async def test_who_was_given_it_too_often_by_others_that_died_is_not_given_it_again() -> None:
    async with running(JobsSettings(attempts=2)) as rig:
        job = kept_job()
        await rig.submit(job)
        for _ in range(2):
            (claimed,) = await rig.store.claim("tiny", 1, 0)
            await rig.store.give_back("tiny", [claimed], counted=True)
        await rig.mesh.add(A)
        record = await rig.ended(job)
        assert record.error is not None
        assert reason_of(record.error) == "job.attempts_exhausted"


async def test_what_another_has_left_lying_is_taken_after_its_time() -> None:
    async with running(JobsSettings(hold_s=0.5)) as rig:
        job = kept_job()
        await rig.submit(job)
        await rig.store.claim("tiny", 1, 0)  # by somebody who dies now
        worker = await rig.mesh.add(A)
        worker.answer((await take(worker)).call_id)
        assert (await rig.ended(job)).attempts == 2


async def test_what_is_under_way_for_long_is_held_on_to() -> None:
    async with running(JobsSettings(hold_s=0.5)) as rig:
        worker = await rig.mesh.add(A)
        job = kept_job()
        await rig.submit(job)
        await take(worker)
        await rig.asked("renew", 5)  # for longer than it is held without
        assert await rig.store.reclaim("tiny", 10, 400) == []


@pytest.mark.attack("H03")
async def test_jobs_of_a_claim_whose_reply_was_lost_are_taken_at_once_and_what_is_held_is_not_taken_again() -> None:
    async with running(JobsSettings(hold_s=600, slot_share=1)) as rig:
        worker = await rig.mesh.add(A, 4)
        held, lost = kept_job(), kept_job()
        await rig.submit(held)
        first = await take(worker)
        rig.shelf.lost_replies = 1
        await rig.submit(lost)
        second = await take(worker)
        assert second.request == lost.request
        for call in (first, second):
            worker.answer(call.call_id, b"the answer")
        assert [(await rig.ended(job)).attempts for job in (held, lost)] == [1, 2]


async def test_while_the_store_is_away_answers_are_kept_here_and_settled_when_it_is_back() -> None:
    async with running() as rig:
        worker = await rig.mesh.add(A)
        job = kept_job()
        await rig.submit(job)
        call = await take(worker)
        rig.shelf.away = True
        worker.answer(call.call_id, b"kept")
        await rig.asked("settle", 2)
        rig.shelf.away = False
        record = await rig.ended(job)
        assert (record.response, record.attempts) == (b"kept", 1)


async def test_one_job_that_cannot_be_settled_does_not_hold_up_the_others() -> None:
    async with running() as rig:
        worker = await rig.mesh.add(A, 8)
        jobs = [kept_job() for _ in range(4)]
        rig.shelf.spoilt.add(jobs[1].job_id)
        await rig.submit(*jobs)
        seen = 0
        while seen < 4:
            for call in (await worker.frame()).calls:
                worker.answer(call.call_id)
                seen += 1
        for job in (jobs[0], jobs[2], jobs[3]):
            assert (await rig.ended(job)).state is State.ANSWERED
        assert (await rig.record(jobs[1])).state is State.RUNNING


async def test_at_the_end_what_was_sent_may_be_answered_and_the_rest_is_given_back() -> None:
    async with running() as rig:
        worker = await rig.mesh.add(A, 1)
        sent, waiting = kept_job(), kept_job()
        await rig.submit(sent, waiting)
        call = await take(worker)
        await rig.until(waiting, lambda record: record.state is State.RUNNING)
        rig.stopping.set()
        record = await rig.until(waiting, lambda record: record.state is State.QUEUED)
        assert record.attempts == 0
        worker.answer(call.call_id)
        assert (await rig.ended(sent)).state is State.ANSWERED


async def test_what_is_not_answered_in_the_grace_is_given_back_as_an_attempt() -> None:
    async with running() as rig:
        worker = await rig.mesh.add(A)
        job = kept_job()
        await rig.submit(job)
        await take(worker)
        rig.stopping.set()
        rig.runner.abandon()
        await rig.until(job, lambda record: record.attempts == 1 and record.state is State.RUNNING)
        (claimed,) = await rig.store.claim("tiny", 1, 1000)
        assert claimed.attempt == 2


async def test_a_call_lasts_no_longer_than_its_job_may_wait() -> None:
    hour = [now_ms()]
    async with running(wall_ms=lambda: hour[0]) as rig:
        worker = await rig.mesh.add(A)
        job = kept_job(not_after_ms=hour[0] + MINUTE_MS, tenant=TENANT)
        await rig.submit(job)
        call = await take(worker)
        assert 0 < call.timeout_ms <= MINUTE_MS
        hour[0] = job.not_after_ms
        refuse(worker, call, TimeoutError())
        record = await rig.ended(job)
        assert record.error is not None
        assert reason_of(record.error) == "job.expired"
