"""A gateway that keeps jobs, one worker that answers them, and clients that trust it; all in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import numpy as np

from cloister.client import Client, JobTicket, PreparedJob
from cloister.client.answer import Answer
from fakes.job_desk import DeskGateway, JobDesk
from fakes.job_worker import Epoch, JobWorker
from fakes.serving import FakeVerifier, FakeWorker

X = np.array([[1.0, 2.0]], np.float32)


class Mesh:
    """A desk with one worker, and whom its clients trust."""

    def __init__(self, **worker: Any) -> None:
        self.verifier = FakeVerifier()
        self.epoch = Epoch()
        self.worker = JobWorker(FakeWorker(self.verifier, **worker), self.epoch)
        self.desk = JobDesk(self.worker)
        self.gateway = DeskGateway(self.desk)

    @asynccontextmanager
    async def client(self, *, timeout_s: float = 5.0, padded: bool = True, **trust: Any) -> AsyncIterator[Client]:
        bundle = self.verifier.trust(**trust)
        async with Client.over(cast(Any, self.gateway), bundle, timeout_s=timeout_s, padded=padded) as client:
            yield client


async def ends_of(client: Client, *prepared: PreparedJob) -> list[Any]:
    """All that a watch tells of these."""
    return [end async for end in client.jobs.watch([job.ticket for job in prepared])]


async def outcome_of(client: Client, ticket: JobTicket, through: str = "result") -> Answer:
    """What becomes of one job, by `result` or by `watch`; raises what it ends with."""
    if through == "result":
        return await client.jobs.result(ticket)
    ((found, outcome),) = [end async for end in client.jobs.watch([ticket])]
    assert found is ticket
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
