"""What operators and auditors see of jobs: how much waits, and what nobody will answer. Nothing of their content."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

from cloister.api.v1.jobs_pb2 import (
    DeadLetter,
    JobQueue,
    ListDeadLettersRequest,
    ListDeadLettersResponse,
    ListQueuesRequest,
    ListQueuesResponse,
)
from cloister.api.v1.jobs_pb2_grpc import JobsStub
from cloister.rpc.channel import Peer

_PAGE: Final = 500


async def job_queues(gateway: Peer, model: str = "", timeout_s: float = 10.0) -> Sequence[JobQueue]:
    """How many jobs wait and run, by model; of one model, or of all. Roles: operator, auditor."""
    request = ListQueuesRequest(model_name=model)
    answer: ListQueuesResponse = await gateway.stub(JobsStub).ListQueues(request, timeout=timeout_s)
    return answer.queues


async def dead_letters(gateway: Peer, model: str, timeout_s: float = 10.0) -> AsyncIterator[DeadLetter]:
    """Jobs of a model that nobody will answer, with the reasons, oldest first. Roles: operator, auditor."""
    stub = gateway.stub(JobsStub)
    after = ""
    while True:
        request = ListDeadLettersRequest(model_name=model, after=after, most=_PAGE)
        page: ListDeadLettersResponse = await stub.ListDeadLetters(request, timeout=timeout_s)
        for letter in page.letters:
            yield letter
        if not page.next or page.next == after:
            return
        after = page.next
