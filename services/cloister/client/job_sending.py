"""Submitting prepared jobs: many in one call, in bounded batches, the same bytes as often as need be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Final

from cloister.api.v1 import jobs_pb2 as pb
from cloister.client.attempts import FIRST_PAUSE_S, LONGEST_PAUSE_S, pause_after_s
from cloister.client.job_calls import JobCalls
from cloister.client.job_records import PreparedJob, Sent
from cloister.errors import CloisterError, InternalError
from cloister.rpc.status import from_failure, told_to_wait

MAX_JOBS: Final = 256
MAX_BYTES: Final = 8 << 20
"""Of one call; a job that is larger goes alone."""


async def send(calls: JobCalls, prepared: Sequence[PreparedJob], timeout_s: float) -> list[Sent]:
    """Submit jobs, in their order; what became of each, in their order.

    One that is refused for want of room is submitted again when the gateway says, until the time is up.

    Raises:
        CloisterError, TimeoutError: What concerns all of them. Whatever was accepted is; all may be submitted again.
    """
    until_s = time.monotonic() + timeout_s
    found: dict[int, Sent] = {}
    for batch in _batches(prepared):
        waiting, ceiling_s = batch, FIRST_PAUSE_S
        while waiting:
            model = prepared[waiting[0]].ticket.model_name
            left_s = max(until_s - time.monotonic(), 0.001)
            answers = await _submit(calls, model, [prepared[number] for number in waiting], left_s)
            found.update(zip(waiting, answers, strict=True))
            pause_s = _pause_s([answer.error for answer in answers], ceiling_s)
            if pause_s is None or time.monotonic() + pause_s >= until_s:
                break
            waiting = [number for number in waiting if _passes(found[number].error)]
            ceiling_s = min(ceiling_s * 2, LONGEST_PAUSE_S)
            await asyncio.sleep(pause_s)
    return [found[number] for number in range(len(prepared))]


async def _submit(calls: JobCalls, model: str, jobs: Sequence[PreparedJob], left_s: float) -> list[Sent]:
    request = pb.SubmitRequest(model_name=model, jobs=[job.submission for job in jobs])
    answer: pb.SubmitResponse = await calls.again(
        lambda stub, left_s: stub.Submit(request, timeout=left_s), model, left_s
    )
    if len(answer.jobs) != len(jobs):
        raise InternalError("the gateway did not answer for each job", reason="answer.malformed")
    return [_sent(said) for said in answer.jobs]


def _sent(said: pb.Submitted) -> Sent:
    if not said.HasField("failure"):
        return Sent(said.job_id, said.existed)
    return Sent(said.job_id, error=told_to_wait(from_failure(said.failure), said.retry_after_s))


def _passes(error: CloisterError | TimeoutError | None) -> bool:
    return isinstance(error, CloisterError) and error.retryable


def _pause_s(errors: Sequence[CloisterError | TimeoutError | None], ceiling_s: float) -> float | None:
    """How long to wait before those that may pass are submitted again; None where there are none."""
    return max((pause_after_s(error, ceiling_s) for error in errors if _passes(error)), default=None)


def _batches(prepared: Sequence[PreparedJob]) -> Iterator[list[int]]:
    """Numbers of jobs that go in one call: of one model, bounded by count and size."""
    batch: list[int] = []
    size_bytes = 0
    for number, job in enumerate(prepared):
        more_bytes = len(job.submission.request)
        other = batch and job.ticket.model_name != prepared[batch[0]].ticket.model_name
        if batch and (other or len(batch) == MAX_JOBS or size_bytes + more_bytes > MAX_BYTES):
            yield batch
            batch, size_bytes = [], 0
        batch.append(number)
        size_bytes += more_bytes
    if batch:
        yield batch
