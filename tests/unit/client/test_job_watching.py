"""How a client hears what its jobs end with: waiting, watching, states, forgetting."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from cloister.client import job_watching
from cloister.client.answer import Answer
from cloister.errors import (
    InvalidRequest,
    NotFound,
    NotReady,
    Overloaded,
    Unavailable,
)
from cloister.rpc.status import failure_of
from fakes.job_mesh import Mesh, X, ends_of, outcome_of
from fakes.serving import MODEL


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


async def test_the_result_is_waited_for(mesh: Mesh) -> None:
    mesh.desk.at_once = False
    async with mesh.client() as client, asyncio.TaskGroup() as group:
        ticket = await client.jobs.submit(MODEL, {"x": X})
        with pytest.raises(NotReady) as raised:
            await client.jobs.result(ticket, wait_s=0)
        assert raised.value.reason == "job.pending"
        mesh.desk.kept[MODEL, ticket.job_id].job.failure.CopyFrom(
            failure_of(Overloaded("forget what you have read", reason="tenant.results_full"))
        )
        with pytest.raises(NotReady, match="ended yet: forget what you have read") as raised:
            await client.jobs.result(ticket, wait_s=0)
        assert raised.value.reason == "job.pending"
        mesh.desk.kept[MODEL, ticket.job_id].job.ClearField("failure")
        waiting = group.create_task(client.jobs.result(ticket))
        await asyncio.sleep(0)
        await mesh.desk.run()
        np.testing.assert_array_equal((await waiting).outputs["y"], X * 2)


async def test_each_end_is_told_once_as_it_comes_however_often_the_connection_is_cut(mesh: Mesh) -> None:
    mesh.desk.at_once = False
    async with mesh.client() as client:
        prepared = await client.jobs.prepare(MODEL, [{"x": X + number} for number in range(6)])
        await client.jobs.send(prepared)
        numbers = {job.ticket.job_id: number for number, job in enumerate(prepared)}
        found: list[int] = []
        mesh.desk.cuts = 4
        await mesh.desk.run(2)
        async for ticket, outcome in client.jobs.watch(job.ticket for job in prepared):
            assert isinstance(outcome, Answer)
            number = numbers[ticket.job_id]
            np.testing.assert_array_equal(outcome.outputs["y"], (X + number) * 2)
            found.append(number)
            if len(found) in (2, 4):
                await mesh.desk.run(2)
    assert sorted(found) == list(range(6))
    assert mesh.desk.watches > 4


async def test_jobs_of_many_streams_are_watched_at_once(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_watching, "MAX_WATCHED", 2)
    mesh.desk.at_once = False
    async with mesh.client() as client:
        prepared = await client.jobs.prepare(MODEL, [{"x": X}] * 5)
        await client.jobs.send(prepared)
        mesh.desk.kept = dict(reversed(mesh.desk.kept.items()))
        await mesh.desk.run(1)  # the last: a stream that waits for the first holds up nobody
        async for ticket, outcome in client.jobs.watch(job.ticket for job in prepared):
            assert isinstance(outcome, Answer)
            assert ticket.job_id == prepared[-1].ticket.job_id
            break
        await mesh.desk.run()
        assert len(await ends_of(client, *prepared)) == 5


async def test_a_job_that_is_not_there_any_more_is_told_as_such(mesh: Mesh) -> None:
    mesh.desk.at_once = False
    async with mesh.client() as client:
        prepared = await client.jobs.prepare(MODEL, [{"x": X}] * 2)
        await client.jobs.send(prepared)
        await mesh.desk.lose(MODEL, prepared[0].ticket.job_id)
        await mesh.desk.run()
        ends = {ticket.job_id: outcome for ticket, outcome in await ends_of(client, *prepared)}
        lost = ends[prepared[0].ticket.job_id]
        assert isinstance(lost, NotFound)
        assert lost.reason == "job.unknown"
        assert isinstance(ends[prepared[1].ticket.job_id], Answer)
        with pytest.raises(NotFound) as raised:
            await client.jobs.result(prepared[0].ticket)
        assert raised.value.reason == "job.unknown"
        (sent,) = await client.jobs.send(prepared[:1])
        assert (sent.existed, sent.error) == (False, None)
        await mesh.desk.run()
        assert isinstance(await client.jobs.result(prepared[0].ticket), Answer)


async def test_watching_ends_when_nothing_comes(mesh: Mesh) -> None:
    mesh.desk.at_once = False
    async with mesh.client() as client:
        ticket = await client.jobs.submit(MODEL, {"x": X})
        with pytest.raises(TimeoutError):
            await anext(client.jobs.watch([ticket], timeout_s=0.05))
        mesh.desk.refuse = [Unavailable("the gateway is away")] * 100
        with pytest.raises(Unavailable):
            await anext(client.jobs.watch([ticket], timeout_s=0.2))


async def test_watching_no_jobs_ends_at_once(mesh: Mesh) -> None:
    async with mesh.client() as client:
        assert await ends_of(client) == []


@pytest.mark.parametrize("through", ["result", "watch"])
async def test_the_workers_word_about_the_request_is_its_end(through: str, mesh: Mesh) -> None:
    mesh.worker.worker.error = InvalidRequest("no input 'x'")
    async with mesh.client() as client:
        ticket = await client.jobs.submit(MODEL, {"x": X})
        with pytest.raises(InvalidRequest, match="no input 'x'"):
            await outcome_of(client, ticket, through)


async def test_a_dead_letter_is_its_end(mesh: Mesh) -> None:
    mesh.desk.workers = []
    async with mesh.client() as client:
        ticket = await client.jobs.submit(MODEL, {"x": X})
        for through in ("result", "watch"):
            with pytest.raises(NotFound, match="nobody"):
                await outcome_of(client, ticket, through)
        (status,) = await client.jobs.state([ticket])
    assert (status.state, status.attempts) == ("dead", 1)
    assert isinstance(status.error, NotFound)


async def test_states_cancelling_and_forgetting(mesh: Mesh) -> None:
    mesh.desk.at_once = False
    async with mesh.client() as client:
        prepared = await client.jobs.prepare(MODEL, [{"x": X}] * 3)
        tickets = [job.ticket for job in prepared]
        assert [each.state for each in await client.jobs.state(tickets)] == ["unknown"] * 3
        await client.jobs.send(prepared)
        assert [each.state for each in await client.jobs.state(tickets)] == ["queued"] * 3
        await mesh.desk.run(1)
        cancelled = await client.jobs.cancel(tickets[:2])
        assert [each.state for each in cancelled] == ["answered", "cancelled"]
        answered, ended, queued = await client.jobs.state(tickets)
        assert (answered.state, ended.state, queued.state) == ("answered", "cancelled", "queued")
        assert answered.submitted_at is not None
        assert answered.ended_at is not None
        assert answered.kept_until is not None
        assert answered.submitted_at <= answered.ended_at < answered.kept_until
        assert queued.ended_at is None
        with pytest.raises(NotReady) as raised:
            await client.jobs.result(tickets[1])
        assert raised.value.reason == "job.cancelled"
        await client.jobs.forget([*tickets, *tickets])
        assert [each.state for each in await client.jobs.state(tickets)] == ["unknown", "unknown", "queued"]
