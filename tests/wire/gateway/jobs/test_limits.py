"""What one tenant may ask of a gateway about jobs: each counts, and so does whoever waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloister.api.v1 import jobs_pb2
from cloister.errors import Overloaded
from cloister.gateway.jobs.settings import JobsSettings
from fakes.gateway_parts import A
from fakes.pki import MeshPki
from fakes.running_jobs import MODEL, running_jobs, submission

QUEUED, ANSWERED = jobs_pb2.JOB_STATE_QUEUED, jobs_pb2.JOB_STATE_ANSWERED


@pytest.mark.attack("G25")
async def test_who_watches_or_waits_has_so_many_streams_open_as_it_may(tmp_path: Path, pki: MeshPki) -> None:
    async with running_jobs(tmp_path, pki, stream_limit=2) as rig:
        await rig.gateway.worker(A)
        await rig.until_ready()
        job = submission()
        await rig.submit(job)
        request = jobs_pb2.WatchRequest(model_name=MODEL, job_ids=[job.job_id])
        calls = [(await rig.jobs()).Watch(request, timeout=30) for _ in range(2)]
        for call in calls:
            assert (await anext(aiter(call))).jobs[0].state == QUEUED
        with pytest.raises(Overloaded) as caught:
            await rig.watch([job.job_id])
        assert caught.value.reason == "tenant.busy"
        with pytest.raises(Overloaded) as caught:
            await rig.result(job.job_id, wait_s=5)
        assert caught.value.reason == "tenant.busy"
        assert (await rig.result(job.job_id, wait_s=0)).state == QUEUED
        (theirs,) = await rig.watch([job.job_id], name="bob")
        assert not theirs.state, "another tenant is told that it has no such job"
        for call in calls:
            call.cancel()


@pytest.mark.attack("G26")
async def test_each_job_counts_in_its_tenants_rate(tmp_path: Path, pki: MeshPki) -> None:
    async with running_jobs(tmp_path, pki, tenant_rate=0.01, tenant_burst=3) as rig:
        await rig.gateway.worker(A)
        await rig.until_ready()
        answers = await rig.submit(*(submission() for _ in range(5)))
        assert [each.failure.reason for each in answers] == ["", "", "", "tenant.too_fast", "tenant.too_fast"]
        assert 0 < answers[4].retry_after_s <= 100
        with pytest.raises(Overloaded):
            await rig.submit(submission())


async def test_whose_answers_fill_its_room_is_told_to_forget_and_goes_on_when_it_has(
    tmp_path: Path, pki: MeshPki
) -> None:
    async with running_jobs(tmp_path, pki, jobs=JobsSettings(tenant_kept_bytes=2048)) as rig:
        worker = await rig.gateway.worker(A)
        await rig.until_ready()
        jobs = [submission() for _ in range(4)]
        await rig.submit(*jobs)
        rig.run()
        told = [each.state for each in [await rig.result(job.job_id) for job in jobs[:2]]]
        assert told == [ANSWERED] * 2
        (refused,) = await rig.submit(submission())
        assert (refused.failure.reason, refused.failure.error) == ("tenant.results_full", "Overloaded")
        assert "Forget" in refused.failure.message
        waits = [job for job in [await rig.result(job.job_id, wait_s=0) for job in jobs] if job.state == QUEUED]
        assert {job.failure.reason for job in waits} <= {"tenant.results_full"}
        ended = {job.job_id for job in jobs if (await rig.result(job.job_id, wait_s=0)).state == ANSWERED}
        request = jobs_pb2.ForgetRequest(model_name=MODEL, job_ids=list(ended))
        await (await rig.jobs()).Forget(request, timeout=10)
        for job in jobs:
            if job.job_id not in ended:
                await rig.result(job.job_id, forget=True)
        assert len(worker.seen) == 4
        (accepted,) = await rig.submit(submission())
        assert not accepted.HasField("failure")
