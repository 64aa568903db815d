"""Jobs through a gateway, a real Redis, and the process that gives them to workers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cloister.api.v1 import jobs_pb2
from fakes.gateway_parts import A
from fakes.pki import MeshPki
from fakes.running_jobs import JobsRig, answered_by, running_jobs, submission


@pytest.fixture
async def rig(tmp_path: Path, pki: MeshPki) -> AsyncIterator[JobsRig]:
    async with running_jobs(tmp_path, pki) as made:
        yield made


async def test_jobs_are_answered_and_their_watch_ends_with_the_last(rig: JobsRig) -> None:
    await rig.gateway.worker(A)
    await rig.until_ready()
    asked = [submission(b"job %d" % number) for number in range(300)]
    accepted = await rig.submit(*asked)
    assert [each.job_id for each in accepted] == [each.job_id for each in asked]
    assert not any(each.existed or each.HasField("failure") for each in accepted)
    rig.run()
    told = await rig.watch([each.job_id for each in asked])
    ended = {job.job_id: job for job in told if job.state == jobs_pb2.JOB_STATE_ANSWERED}
    assert {each.job_id: (A, b"job %d" % number) for number, each in enumerate(asked)} == {
        job_id: answered_by(job) for job_id, job in ended.items()
    }
    assert all(job.attempts == 1 for job in ended.values())
