"""Jobs through a gateway, a real Redis, and what gives them to workers."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cloister.api.v1 import jobs_pb2
from cloister.errors import (
    InvalidRequest,
    NotAllowed,
    NotFound,
    NotReady,
    Overloaded,
    SealBroken,
    Unavailable,
)
from cloister.gateway.jobs import store_watch
from cloister.gateway.jobs.settings import JobsSettings
from cloister.gateway.limits import ModelTable
from fakes.gateway_parts import A, B, infer_request, model_state
from fakes.pki import MeshPki
from fakes.running_gateway import running_gateway
from fakes.running_jobs import MODEL, JobsRig, answered_by, job_envelope, running_jobs, submission
from fakes.worker_link import FakeWorker

ANSWERED, DEAD = jobs_pb2.JOB_STATE_ANSWERED, jobs_pb2.JOB_STATE_DEAD
QUEUED, CANCELLED = jobs_pb2.JOB_STATE_QUEUED, jobs_pb2.JOB_STATE_CANCELLED


@pytest.fixture
async def rig(tmp_path: Path, pki: MeshPki) -> AsyncIterator[JobsRig]:
    async with running_jobs(tmp_path, pki) as made:
        yield made


@pytest.fixture
async def worker(rig: JobsRig) -> FakeWorker:
    found = await rig.gateway.worker(A)
    await rig.until_ready()
    return found


async def test_jobs_are_answered_and_their_watch_ends_with_the_last(rig: JobsRig, worker: FakeWorker) -> None:
    asked = [submission(b"job %d" % number) for number in range(300)]
    accepted = await rig.submit(*asked)
    assert [each.job_id for each in accepted] == [each.job_id for each in asked]
    assert not any(each.existed or each.HasField("failure") for each in accepted)
    rig.run()
    told = await rig.watch([each.job_id for each in asked])
    ended = {job.job_id: job for job in told if job.state == ANSWERED}
    assert {each.job_id: (A, b"job %d" % number) for number, each in enumerate(asked)} == {
        job_id: answered_by(job) for job_id, job in ended.items()
    }
    assert all(job.attempts == 1 for job in ended.values())
    assert len(worker.seen) == 300
    assert {call.tenant for call in worker.seen} == {f"spiffe://{rig.gateway.pki.cluster}/client/ann"}
    assert worker.most_together > 1  # they share frames


async def test_submitted_twice_it_is_one_job(rig: JobsRig, worker: FakeWorker) -> None:
    job = submission(key="row 1")
    (first,), (again,) = await rig.submit(job), await rig.submit(job)
    (renamed,) = await rig.submit(submission(key="row 1"))
    assert (first.existed, again.existed, renamed.existed) == (False, True, True)
    assert renamed.job_id == job.job_id
    rig.run()
    assert (await rig.result(job.job_id)).state == ANSWERED
    assert len(worker.seen) == 1


async def test_each_submission_is_refused_for_itself(rig: JobsRig, worker: FakeWorker) -> None:
    good = submission()
    answers = await rig.submit(submission(request=infer_request()), good, submission(not_after_ms=5))
    assert [each.failure.reason for each in answers] == ["job.not_sealed", "", "job.expired"]
    assert [each.failure.error for each in answers] == ["InvalidRequest", "", "InvalidRequest"]
    assert (await rig.result(good.job_id, wait_s=0)).state == QUEUED


async def test_a_result_is_waited_for_and_forgotten_when_it_was_had(rig: JobsRig, worker: FakeWorker) -> None:
    job = submission(b"sealed")
    await rig.submit(job)
    assert (await rig.result(job.job_id, wait_s=0.05)).state == QUEUED
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(rig.result(job.job_id, forget=True))
        rig.run()
    assert answered_by(waiting.result()) == (A, b"sealed")
    with pytest.raises(NotFound) as caught:
        await rig.result(job.job_id, wait_s=0)
    assert caught.value.reason == "job.unknown"


async def test_many_are_forgotten_together_and_what_has_not_ended_is_not(rig: JobsRig, worker: FakeWorker) -> None:
    ended, waiting = submission(), submission()
    await rig.submit(ended)
    rig.run()
    await rig.result(ended.job_id)
    await rig.stop_running()
    await rig.submit(waiting)
    request = jobs_pb2.ForgetRequest(model_name=MODEL, job_ids=[ended.job_id, waiting.job_id, bytes(16)])
    await (await rig.jobs("bea")).Forget(request, timeout=10)
    assert (await rig.result(ended.job_id, wait_s=0)).state == ANSWERED
    await (await rig.jobs()).Forget(request, timeout=10)
    told = await rig.states([ended.job_id, waiting.job_id])
    assert [job.state for job in told] == [0, QUEUED]


async def test_what_is_cancelled_ends_there_and_a_late_answer_changes_nothing(rig: JobsRig, worker: FakeWorker) -> None:
    worker.open_gate.clear()
    under_way, waiting = submission(), submission()
    await rig.submit(under_way)
    rig.run()
    await worker.given(1)
    await rig.stop_claiming()
    await rig.submit(waiting)
    stub = await rig.jobs()
    request = jobs_pb2.CancelRequest(model_name=MODEL, job_ids=[under_way.job_id, waiting.job_id, bytes(16)])
    told = (await stub.Cancel(request, timeout=10)).jobs
    assert [job.state for job in told] == [CANCELLED, CANCELLED, 0]
    assert told[2].failure.reason == "job.unknown"
    worker.open_gate.set()
    await rig.stop_running()
    assert (await rig.result(under_way.job_id, wait_s=0)).state == CANCELLED


@pytest.mark.attack("H01")
async def test_a_tenant_finds_only_its_own_jobs(rig: JobsRig, worker: FakeWorker) -> None:
    job = submission()
    await rig.submit(job)
    with pytest.raises(NotFound):
        await rig.result(job.job_id, name="bea", wait_s=0)
    (told,) = await rig.watch([job.job_id], name="bea")
    assert told.failure.reason == "job.unknown"
    stub = await rig.jobs("bea")
    (cancelled,) = (await stub.Cancel(jobs_pb2.CancelRequest(model_name=MODEL, job_ids=[job.job_id]), timeout=9)).jobs
    assert cancelled.failure.reason == "job.unknown"
    (taken,) = await rig.submit(submission(job_id=job.job_id), name="bea")
    assert taken.failure.reason == "job.other"
    assert (await rig.result(job.job_id, wait_s=0)).state == QUEUED


async def test_a_name_that_nobody_has_heard_of_begins_no_queue(rig: JobsRig, worker: FakeWorker) -> None:
    job = submission(request=job_envelope(model="made-up"))
    with pytest.raises(NotFound):
        await rig.submit(job, model="made-up")
    with pytest.raises(NotFound):
        await rig.submit(job, model="{tiny}")
    assert rig.redis.admin("KEYS", "*made-up*") == []


async def test_a_model_of_the_settings_has_a_queue_before_it_has_a_worker(tmp_path: Path, pki: MeshPki) -> None:
    async with running_jobs(tmp_path, pki, models={MODEL: ModelTable(queue=9)}) as rig:
        await rig.until_ready()
        job = submission()
        await rig.submit(job)
        rig.run()
        assert (await rig.result(job.job_id, wait_s=0.1)).state == QUEUED
        await rig.gateway.worker(A)
        assert (await rig.result(job.job_id)).state == ANSWERED


async def test_a_full_queue_refuses_loudly_and_says_when_to_come_again(tmp_path: Path, pki: MeshPki) -> None:
    async with running_jobs(tmp_path, pki, jobs=JobsSettings(max_jobs=2, tenant_jobs=2)) as rig:
        await rig.gateway.worker(A)
        await rig.until_ready()
        answers = await rig.submit(submission(), submission(), submission())
        assert [each.failure.error for each in answers] == ["", "", Overloaded.__name__]
        assert answers[2].retry_after_s > 0


@pytest.mark.parametrize("role", ["client", "owner"])
async def test_who_is_no_operator_sees_no_queues(rig: JobsRig, worker: FakeWorker, role: str) -> None:
    stub = await rig.jobs("sue", role)
    for call, request in (
        (stub.ListQueues, jobs_pb2.ListQueuesRequest()),
        (stub.ListDeadLetters, jobs_pb2.ListDeadLettersRequest(model_name=MODEL)),
    ):
        with pytest.raises(NotAllowed):
            await call(request, timeout=10)


async def test_operators_see_queues_and_dead_letters_with_their_reasons(rig: JobsRig, worker: FakeWorker) -> None:
    worker.refused = SealBroken()
    dead, waiting = submission(), submission()
    await rig.submit(dead)
    rig.run()
    assert (await rig.result(dead.job_id)).failure.reason == "seal.broken"
    await rig.stop_running()
    await rig.submit(waiting)
    stub = await rig.jobs("olga", "operator")
    (queue,) = (await stub.ListQueues(jobs_pb2.ListQueuesRequest(), timeout=10)).queues
    assert (queue.model_name, queue.waiting, queue.running, queue.dead) == (MODEL, 1, 0, 1)
    assert queue.bytes == len(waiting.request)
    page = await stub.ListDeadLetters(jobs_pb2.ListDeadLettersRequest(model_name=MODEL), timeout=10)
    (letter,) = page.letters
    assert (letter.job_id, letter.failure.error, letter.attempts) == (dead.job_id, "SealBroken", 1)
    assert letter.tenant.endswith("/client/ann")
    status = await rig.gateway.until(lambda status: any(each.dead for each in status.job_queues))
    assert status.jobs == "ready"


@pytest.mark.parametrize(
    "request_of",
    [
        lambda: ("Submit", jobs_pb2.SubmitRequest(model_name=MODEL)),
        lambda: ("Submit", jobs_pb2.SubmitRequest(model_name=MODEL, jobs=[submission()] * 1025)),
        lambda: ("Result", jobs_pb2.ResultRequest(model_name=MODEL, job_id=b"short")),
        lambda: ("Cancel", jobs_pb2.CancelRequest(model_name=MODEL, job_ids=[bytes(16)] * 1025)),
    ],
    ids=["none", "too many", "no id", "too many ids"],
)
async def test_calls_of_the_wrong_size_are_refused_whole(rig: JobsRig, worker: FakeWorker, request_of: object) -> None:
    method, request = request_of()  # type: ignore[operator]
    with pytest.raises(InvalidRequest):
        await getattr(await rig.jobs(), method)(request, timeout=10)


async def test_a_job_whose_worker_was_lost_with_it_is_answered_by_another(rig: JobsRig, worker: FakeWorker) -> None:
    worker.open_gate.clear()
    job = submission(b"sealed")
    await rig.submit(job)
    rig.run()
    await worker.given(1)
    await rig.gateway.worker(B)
    await worker.die()
    ended = await rig.result(job.job_id)
    assert answered_by(ended) == (B, b"sealed")
    assert ended.attempts == 2


@pytest.mark.attack("H08")
async def test_who_runs_jobs_may_die_and_another_answers_what_it_held(tmp_path: Path, pki: MeshPki) -> None:
    async with running_jobs(tmp_path, pki, jobs=JobsSettings(hold_s=0.5)) as rig:
        worker = await rig.gateway.worker(A, slots=8)
        await rig.until_ready()
        worker.open_gate.clear()
        asked = [submission() for _ in range(6)]
        await rig.submit(*asked)
        rig.run(name="first")
        await worker.given(3)
        rig.kill_running()
        worker.open_gate.set()
        rig.run(name="second")
        told = await rig.watch([each.job_id for each in asked])
        assert sum(job.state == ANSWERED for job in told) == 6


async def test_a_redis_that_is_killed_and_started_again_loses_nothing(
    tmp_path: Path, pki: MeshPki, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_watch, "LOOK_S", 0.1)
    monkeypatch.setattr(store_watch, "TRY_S", 0.1)
    async with running_jobs(tmp_path, pki, redis_lines="appendfsync always") as rig:
        worker = await rig.gateway.worker(A, slots=8)
        await rig.until_ready()
        worker.open_gate.clear()
        asked = [submission() for _ in range(50)]
        await rig.submit(*asked)
        rig.run()
        await worker.given(2)
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(rig.watch([each.job_id for each in asked]))
            await asyncio.to_thread(rig.redis.kill)
            worker.open_gate.set()
            await rig.gateway.until(lambda status: status.jobs == "state.unavailable")
            with pytest.raises(Unavailable):
                await rig.submit(submission())
            raw = await rig.gateway.raw()
            assert await raw.infer(infer_request(), timeout=10)  # requests are answered all the same
            await asyncio.to_thread(rig.redis.start)
        ended = [job for job in watching.result() if job.state == ANSWERED]
        assert {job.job_id for job in ended} == {each.job_id for each in asked}


async def test_a_mesh_without_redis_answers_requests_and_says_how_to_have_jobs(tmp_path: Path, pki: MeshPki) -> None:
    async with running_gateway(tmp_path, pki) as gateway:
        await gateway.worker(A)
        rig = JobsRig(gateway, None, None)  # type: ignore[arg-type]
        with pytest.raises(NotReady, match=r"\[redis\]") as caught:
            await rig.submit(submission())
        assert caught.value.reason == "jobs.off"
        assert (await gateway.status()).jobs == "jobs.off"


@pytest.mark.attack("H06")
async def test_nothing_is_kept_in_a_redis_that_lets_strangers_in(
    tmp_path: Path, pki: MeshPki, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_watch, "TRY_S", 0.1)
    async with running_jobs(tmp_path, pki, redis_lines="tls-auth-clients no") as rig:
        await rig.gateway.worker(A)
        await rig.gateway.until(lambda status: status.jobs == "redis.exposed")
        with pytest.raises(NotReady, match="tls-auth-clients") as caught:
            await rig.submit(submission())
        assert caught.value.reason == "redis.exposed"
        assert rig.redis.admin("DBSIZE") == 0
        assert await (await rig.gateway.raw()).infer(infer_request(), timeout=10)


async def test_a_watch_ends_when_its_gateway_goes(rig: JobsRig, worker: FakeWorker) -> None:
    job = submission()
    await rig.submit(job)
    call = (await rig.jobs()).Watch(jobs_pb2.WatchRequest(model_name=MODEL, job_ids=[job.job_id]), timeout=30)
    stream = aiter(call)
    assert (await anext(stream)).jobs[0].state == QUEUED
    rig.gateway.lifecycle.stop()
    with pytest.raises(Unavailable):
        await anext(stream)


async def test_requests_have_slots_while_jobs_take_all_they_may(rig: JobsRig, worker: FakeWorker) -> None:
    worker.slow_s = 0.02
    asked = [submission() for _ in range(128)]
    await rig.submit(*asked)
    rig.run()
    await worker.given(6)
    raw = await rig.gateway.raw()
    for _ in range(10):
        await raw.infer(infer_request(tensor=b"somebody waits"), timeout=2)
    assert len(worker.seen) < len(asked) + 10  # they were answered before all jobs were


async def test_a_model_of_which_nothing_can_be_answered_holds_up_no_other(rig: JobsRig) -> None:
    stuck = await rig.gateway.worker(A, models=[model_state("stuck")])
    stuck.open_gate.clear()
    await rig.gateway.worker(B)
    await rig.until_ready()
    await rig.submit(submission(request=job_envelope(model="stuck")), model="stuck")
    rig.run()
    await stuck.given(1)
    asked = [submission() for _ in range(20)]
    await rig.submit(*asked)
    told = await rig.watch([each.job_id for each in asked])
    assert sum(job.state == ANSWERED for job in told) == 20


async def test_what_nobody_answers_in_time_is_a_dead_letter(rig: JobsRig, worker: FakeWorker) -> None:
    worker.open_gate.clear()
    job = submission(not_after_ms=submission().not_after_ms - 600_000 + 1500)
    await rig.submit(job)
    rig.run()
    ended = await rig.result(job.job_id)
    assert (ended.state, ended.failure.reason) == (DEAD, "job.expired")


async def test_random_ids_are_nobodys(rig: JobsRig, worker: FakeWorker) -> None:
    told = await rig.watch([secrets.token_bytes(16) for _ in range(3)])
    assert {job.failure.reason for job in told} == {"job.unknown"}
