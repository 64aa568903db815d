"""What queues lost in Cluster Serving, against a gateway with a real Redis: each test says what holds here.

docs/guides/from-cluster-serving.md has the list, with the tests of all else that went wrong there.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cloister.api.v1 import jobs_pb2
from cloister.errors import CloisterError, NotFound, Overloaded
from fakes.gateway_parts import A
from fakes.pki import MeshPki
from fakes.running_jobs import MODEL, JobsRig, answered_by, running_jobs, submission

ANSWERED = jobs_pb2.JOB_STATE_ANSWERED


@pytest.fixture
async def rig(tmp_path: Path, pki: MeshPki) -> AsyncIterator[JobsRig]:
    async with running_jobs(tmp_path, pki) as made:
        await made.gateway.worker(A)
        await made.until_ready()
        yield made


async def keys(rig: JobsRig, part: str, kind: str) -> list[bytes]:
    """Keys in Redis with this in their names, of this type."""
    words = ("SCAN", 0, "MATCH", f"*{part}*", "COUNT", 100_000, "TYPE", kind)
    _, found = await asyncio.to_thread(rig.redis.admin, *words)
    return list(found)


async def test_what_is_answered_is_acknowledged_and_leaves_the_queue(rig: JobsRig) -> None:
    asked = [submission() for _ in range(40)]
    await rig.submit(*asked)
    rig.run()
    told = await rig.watch([job.job_id for job in asked])
    assert sum(job.state == ANSWERED for job in told) == 40
    streams = await keys(rig, MODEL, "stream")
    assert streams
    for stream in streams:
        groups = await asyncio.to_thread(rig.redis.admin, "XINFO", "GROUPS", stream)
        for group in groups:
            named = dict(zip(group[::2], group[1::2], strict=True))
            assert named[b"pending"] == 0
            assert await asyncio.to_thread(rig.redis.admin, "XLEN", stream) == 0


async def test_a_result_expires(rig: JobsRig) -> None:
    job = submission(result_ttl_s=1)
    await rig.submit(job)
    rig.run()
    assert (await rig.watch([job.job_id]))[-1].state == ANSWERED
    for key in await keys(rig, job.job_id.hex(), "hash") + await keys(rig, job.job_id.hex(), "string"):
        assert await asyncio.to_thread(rig.redis.admin, "PTTL", key) != -1, "it ends, or has ended"
    async with asyncio.timeout(20):
        while (ended := await rig.result(job.job_id, wait_s=0)).response:  # noqa: ASYNC110  # Redis's clock
            await asyncio.sleep(0.1)
    assert (ended.state, ended.failure.reason) == (ANSWERED, "answer.expired")


async def test_a_full_redis_refuses_what_comes_and_trims_nothing_that_was_accepted(rig: JobsRig) -> None:
    memory = await asyncio.to_thread(rig.redis.admin, "INFO", "memory")
    await asyncio.to_thread(rig.redis.admin, "CONFIG", "SET", "maxmemory", int(memory["used_memory"]) + (6 << 20))
    accepted: list[bytes] = []
    refused: CloisterError | str = ""
    while not refused:
        job = submission(secrets.token_bytes(200_000))
        try:
            (answer,) = await rig.submit(job)
        except Overloaded as error:
            refused = error
        else:
            if answer.HasField("failure"):
                refused = answer.failure.error
            else:
                accepted.append(job.job_id)
        assert len(accepted) < 1000
    assert refused == "Overloaded" or isinstance(refused, Overloaded)
    assert len(accepted) > 5
    rig.run()
    told = await rig.watch(accepted)
    assert sorted(job.job_id for job in told if job.state == ANSWERED) == sorted(accepted)


async def test_one_corrupt_record_stops_nothing_and_is_said_to_be_gone(rig: JobsRig) -> None:
    asked = [submission(b"%d" % number) for number in range(20)]
    await rig.submit(*asked)
    spoiled = asked[7]
    (record,) = await keys(rig, spoiled.job_id.hex(), "hash")
    await asyncio.to_thread(rig.redis.admin, "HSET", record, "h", b"\x00 not a record")
    rig.run()
    others = [job for job in asked if job is not spoiled]
    told = await rig.watch([job.job_id for job in others])
    assert {answered_by(job)[1] for job in told if job.state == ANSWERED} == {
        b"%d" % number for number in range(20) if number != 7
    }
    with pytest.raises(NotFound) as caught:
        await rig.result(spoiled.job_id, wait_s=0)
    assert caught.value.reason == "job.unknown"


async def test_who_starts_again_meets_no_group_that_is_busy(rig: JobsRig) -> None:
    for life in range(3):
        job = submission(b"life %d" % life)
        await rig.submit(job)
        rig.run(name="same")
        assert answered_by(await rig.result(job.job_id))[1] == b"life %d" % life
        if life == 1:
            rig.kill_running()
        else:
            await rig.stop_running()


async def test_jobs_that_nobody_answers_are_seen_to_wait_while_everything_listens(rig: JobsRig) -> None:
    """4: health there was an open port; and a job that had stopped stayed green."""
    asked = [submission() for _ in range(3)]
    await rig.submit(*asked)
    stub = await rig.jobs("olga", "operator")

    async def queues() -> list[jobs_pb2.JobQueue]:
        return list((await stub.ListQueues(jobs_pb2.ListQueuesRequest(model_name=MODEL), timeout=10)).queues)

    (before,) = await queues()
    async with asyncio.timeout(20):
        while (later := (await queues())[0]).oldest_s <= before.oldest_s:  # noqa: ASYNC110  # Redis's clock
            await asyncio.sleep(0.01)
    assert (later.waiting, later.running) == (3, 0)
    rig.run()
    await rig.watch([job.job_id for job in asked])
    assert not any(found.waiting or found.running for found in await queues())
