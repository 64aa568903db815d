"""Asking the gateway about jobs that it has, and having it drop them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final

from cloister.api.v1 import jobs_pb2 as pb
from cloister.client.job_calls import JobCalls
from cloister.client.job_records import JobStatus
from cloister.client.tasks import task_group
from cloister.errors import InternalError, NotFound
from cloister.seal.job import JobTicket

MAX_ASKED: Final = 1024
"""Jobs in one call."""
_AT_ONCE: Final = 16
_MARGIN_S: Final = 10.0


async def look(calls: JobCalls, ticket: JobTicket, wait_s: float) -> pb.Job:
    """One job as it is now, or once it has ended, if it does within `wait_s`."""
    request = pb.ResultRequest(model_name=ticket.model_name, job_id=ticket.job_id, wait_ms=int(wait_s * 1000))
    answer = await _asked(calls, request, wait_s + _MARGIN_S)
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
    """Have what became of jobs dropped; one that is not there is dropped."""

    async def dropped(ticket: JobTicket) -> None:
        try:
            await _asked(
                calls, pb.ResultRequest(model_name=ticket.model_name, job_id=ticket.job_id, forget=True), left_s
            )
        except NotFound as error:
            if error.reason != "job.unknown":
                raise

    for first in range(0, len(tickets), _AT_ONCE):
        async with task_group() as group:
            for ticket in tickets[first : first + _AT_ONCE]:
                group.create_task(dropped(ticket))


async def _asked(calls: JobCalls, request: pb.ResultRequest, left_s: float) -> pb.ResultResponse:
    answer: pb.ResultResponse = await calls.again(
        lambda stub, left_s: stub.Result(request, timeout=left_s), request.model_name, left_s
    )
    return answer


_Ask = Callable[[Any, str, Sequence[bytes], float], Awaitable[Sequence[pb.Job]]]


async def _each(calls: JobCalls, tickets: Sequence[JobTicket], left_s: float, ask: _Ask) -> list[JobStatus]:
    found: dict[bytes, JobStatus] = {}
    for model, ids in _parts(tickets):

        async def asked(stub: Any, left_s: float, model: str = model, ids: Sequence[bytes] = ids) -> Sequence[pb.Job]:
            return await ask(stub, model, ids, left_s)

        found.update((job.job_id, JobStatus.of(job)) for job in await calls.again(asked, model, left_s))
    if any(ticket.job_id not in found for ticket in tickets):
        raise _malformed()
    return [found[ticket.job_id] for ticket in tickets]


async def _now(stub: Any, model: str, ids: Sequence[bytes], left_s: float) -> Sequence[pb.Job]:
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


async def _cancelled(stub: Any, model: str, ids: Sequence[bytes], left_s: float) -> Sequence[pb.Job]:
    answer: pb.CancelResponse = await stub.Cancel(pb.CancelRequest(model_name=model, job_ids=ids), timeout=left_s)
    return answer.jobs


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
