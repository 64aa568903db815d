"""Asking the gateway about jobs that it has, and having it drop them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

from cloister.api.v1 import jobs_pb2 as pb
from cloister.client.job_calls import JobCalls
from cloister.client.job_records import JobStatus
from cloister.errors import InternalError
from cloister.seal.job import JobTicket

MAX_ASKED: Final = 1024
"""Jobs in one call."""
_MARGIN_S: Final = 10.0


async def look(calls: JobCalls, ticket: JobTicket, wait_s: float) -> pb.Job:
    """One job as it is now, or once it has ended, if it does within `wait_s`."""
    request = pb.ResultRequest(model_name=ticket.model_name, job_id=ticket.job_id, wait_ms=int(wait_s * 1000))
    answer: pb.ResultResponse = await calls.again(
        lambda stub, left_s: stub.Result(request, timeout=left_s), ticket.model_name, wait_s + _MARGIN_S
    )
    if answer.job.job_id != ticket.job_id:
        raise _malformed()
    return answer.job


async def states(calls: JobCalls, tickets: Sequence[JobTicket], left_s: float) -> list[JobStatus]:
    """Where jobs are, in their order."""
    return await _each(calls, tickets, left_s, _now)


async def cancel(calls: JobCalls, tickets: Sequence[JobTicket], left_s: float) -> list[JobStatus]:
    """Have jobs not answered; where they are, in their order."""
    return await _each(calls, tickets, left_s, _cancelled)


async def forget(calls: JobCalls, tickets: Sequence[JobTicket], left_s: float) -> None:
    """Have what became of jobs dropped; one that is not there, or has not ended, stays as it is."""
    for model, ids in _parts(tickets):
        await calls.again(partial(_forgotten, model, ids), model, left_s)


_Ask = Callable[[str, Sequence[bytes], Any, float], Awaitable[Sequence[pb.Job]]]


async def _each(calls: JobCalls, tickets: Sequence[JobTicket], left_s: float, ask: _Ask) -> list[JobStatus]:
    found: dict[bytes, JobStatus] = {}
    for model, ids in _parts(tickets):
        jobs = await calls.again(partial(ask, model, ids), model, left_s)
        found.update((job.job_id, JobStatus.of(job)) for job in jobs)
    if any(ticket.job_id not in found for ticket in tickets):
        raise _malformed()
    return [found[ticket.job_id] for ticket in tickets]


async def _now(model: str, ids: Sequence[bytes], stub: Any, left_s: float) -> Sequence[pb.Job]:
    """The first that a watch says of each."""
    found: dict[bytes, pb.Job] = {}
    call = stub.Watch(pb.WatchRequest(model_name=model, job_ids=ids, without_responses=True), timeout=left_s)
    try:
        async for message in call:
            for job in message.jobs:
                found.setdefault(job.job_id, job)
            if len(found) >= len(ids):
                break
    finally:
        call.cancel()
    return list(found.values())


async def _cancelled(model: str, ids: Sequence[bytes], stub: Any, left_s: float) -> Sequence[pb.Job]:
    answer: pb.CancelResponse = await stub.Cancel(pb.CancelRequest(model_name=model, job_ids=ids), timeout=left_s)
    return answer.jobs


async def _forgotten(model: str, ids: Sequence[bytes], stub: Any, left_s: float) -> None:
    await stub.Forget(pb.ForgetRequest(model_name=model, job_ids=ids), timeout=left_s)


def _parts(tickets: Sequence[JobTicket]) -> Iterator[tuple[str, list[bytes]]]:
    by_model: dict[str, dict[bytes, None]] = {}
    for ticket in tickets:
        by_model.setdefault(ticket.model_name, {})[ticket.job_id] = None
    for model, held in by_model.items():
        ids = list(held)
        for first in range(0, len(ids), MAX_ASKED):
            yield model, ids[first : first + MAX_ASKED]


def _malformed() -> InternalError:
    return InternalError("the gateway did not answer for each job", reason="answer.malformed")
