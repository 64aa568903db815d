"""Jobs without `async`: the same jobs, the same answers, the same errors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast

import numpy as np
import pytest

from cloister.client import Client, SyncClient
from cloister.client import sync as module
from cloister.client.answer import Answer
from cloister.errors import NotFound, Unavailable
from fakes.job_desk import DeskGateway, JobDesk
from fakes.job_worker import Epoch, JobWorker
from fakes.serving import MODEL, FakeVerifier, FakeWorker

X = np.ones((1, 2), np.float32)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> JobDesk:
    verifier = FakeVerifier()
    desk = JobDesk(JobWorker(FakeWorker(verifier), Epoch()))

    @asynccontextmanager
    async def connect(*_: object, **__: object) -> AsyncIterator[Client]:
        async with Client.over(cast(Any, DeskGateway(desk)), verifier.trust()) as client:
            yield client

    monkeypatch.setattr(module.Client, "connect", connect)
    return desk


@pytest.fixture
def mesh(desk: JobDesk) -> Iterator[SyncClient]:
    with SyncClient("gateway:1", trust="trust.json", identity="client") as mesh:
        yield mesh


def test_a_job_and_its_answer(mesh: SyncClient) -> None:
    ticket = mesh.jobs.submit(MODEL, {"x": X}, key="mine")
    np.testing.assert_array_equal(mesh.jobs.result(ticket).outputs["y"], X * 2)


def test_many_jobs_are_prepared_sent_and_watched(mesh: SyncClient) -> None:
    prepared = mesh.jobs.prepare(MODEL, ({"x": X * number} for number in range(3)))
    assert [sent.error for sent in mesh.jobs.send(prepared)] == [None] * 3
    ends = {ticket.job_id: outcome for ticket, outcome in mesh.jobs.watch(job.ticket for job in prepared)}
    for number, job in enumerate(prepared):
        outcome = ends[job.ticket.job_id]
        assert isinstance(outcome, Answer)
        np.testing.assert_array_equal(outcome.outputs["y"], X * 2 * number)


def test_a_watch_may_be_left(mesh: SyncClient) -> None:
    prepared = mesh.jobs.prepare(MODEL, [{"x": X}] * 3)
    mesh.jobs.send(prepared)
    for _ in mesh.jobs.watch([job.ticket for job in prepared]):
        break
    assert len(list(mesh.jobs.watch([job.ticket for job in prepared]))) == 3


def test_states_cancelling_and_forgetting(mesh: SyncClient, desk: JobDesk) -> None:
    desk.at_once = False
    ticket = mesh.jobs.submit(MODEL, {"x": X})
    assert [each.state for each in mesh.jobs.state([ticket])] == ["queued"]
    assert [each.state for each in mesh.jobs.cancel([ticket])] == ["cancelled"]
    mesh.jobs.forget([ticket])
    with pytest.raises(NotFound):
        mesh.jobs.result(ticket)


def test_errors_of_a_watch_come_as_they_are(mesh: SyncClient, desk: JobDesk) -> None:
    ticket = mesh.jobs.submit(MODEL, {"x": X})
    desk.refuse = [Unavailable("away")] * 100
    with pytest.raises(Unavailable):
        next(mesh.jobs.watch([ticket], timeout_s=0.1))
