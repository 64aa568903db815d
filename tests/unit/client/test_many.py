"""Many requests: an outcome for each, in any order, and none lost; by both faces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, closing
from typing import Any, cast

import numpy as np
import pytest

from cloister.client import Client, Outcome, SyncClient
from cloister.client import sync as module
from cloister.errors import InvalidRequest, NotFound, Unavailable
from fakes.serving import MODEL, FakeVerifier, FakeWorker
from fakes.streaming_gateway import StreamingGateway

VERIFIER = FakeVerifier()
COUNT = 50


def x(number: int) -> dict[str, Any]:
    return {"x": np.full((1, 2), number, np.float32)}


def doubled(outcome: Outcome) -> bool:
    return outcome.answer is not None and float(outcome.answer.outputs["y"][0, 0]) == 2.0 * outcome.number


@pytest.fixture
def gateway() -> StreamingGateway:
    return StreamingGateway(FakeWorker(VERIFIER))


@pytest.fixture
async def client(gateway: StreamingGateway) -> AsyncIterator[Client]:
    async with Client.over(cast(Any, gateway), VERIFIER.trust()) as connected:
        yield connected


@pytest.fixture
def plain(gateway: StreamingGateway, monkeypatch: pytest.MonkeyPatch) -> Iterator[SyncClient]:
    @asynccontextmanager
    async def connect(*_: object, **__: object) -> AsyncIterator[Client]:
        async with Client.over(cast(Any, gateway), VERIFIER.trust()) as connected:
            yield connected

    monkeypatch.setattr(module.Client, "connect", connect)
    with SyncClient("gateway:1", trust="trust.json", identity="client") as mesh:
        yield mesh


async def test_each_request_has_one_outcome(client: Client, gateway: StreamingGateway) -> None:
    outcomes = [outcome async for outcome in client.infer_each(MODEL, map(x, range(COUNT)), concurrency=7)]
    assert sorted(outcome.number for outcome in outcomes) == list(range(COUNT))
    assert all(doubled(outcome) for outcome in outcomes)
    assert len(gateway.streams) == 1


async def test_one_that_fails_is_an_outcome_and_the_others_go_on(client: Client) -> None:
    many = [{"x": [1.0]} if number == 3 else x(number) for number in range(10)]
    outcomes = {outcome.number: outcome async for outcome in client.infer_each(MODEL, cast(Any, many))}
    assert isinstance(outcomes[3].error, InvalidRequest)
    assert outcomes[3].answer is None
    with pytest.raises(InvalidRequest, match="NumPy"):
        outcomes[3].result()
    assert all(doubled(outcome) for number, outcome in outcomes.items() if number != 3)


async def test_inputs_are_taken_no_faster_than_outcomes(client: Client) -> None:
    taken: list[int] = []

    def many() -> Iterator[dict[str, Any]]:
        for number in range(COUNT):
            taken.append(number)
            yield x(number)

    async with aclosing(client.infer_each(MODEL, many(), concurrency=4)) as outcomes:
        for seen in range(1, COUNT):
            await anext(outcomes)
            assert len(taken) <= seen + 4


async def test_leaving_the_loop_gives_up_what_is_under_way(client: Client, gateway: StreamingGateway) -> None:
    async with aclosing(client.infer_each(MODEL, map(x, range(COUNT)), concurrency=4)) as outcomes:
        await anext(outcomes)
    asked = len(gateway.carried)
    await asyncio.sleep(0.01)
    assert asked == len(gateway.carried) < COUNT
    assert doubled(Outcome(5, await client.infer(MODEL, x(5))))  # and the client can go on


async def test_what_taking_inputs_raises_comes_out_as_it_is(client: Client) -> None:
    def many() -> Iterator[dict[str, Any]]:
        yield x(0)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk"):
        await client.infer_many(MODEL, many())


async def test_a_mistake_in_the_call_is_raised_and_ends_only_the_call(client: Client) -> None:
    with pytest.raises(AttributeError):
        await client.infer_many(MODEL, [x(1)], parameters=cast(Any, 3))
    with pytest.raises(ValueError, match="concurrency"):
        await client.infer_many(MODEL, [x(1)], concurrency=0)
    assert doubled(Outcome(5, await client.infer(MODEL, x(5))))


async def test_all_answers_come_in_order_and_progress_is_told(client: Client) -> None:
    told: list[tuple[int, int | None]] = []
    many = [x(number) for number in range(COUNT)]
    answers = await client.infer_many(MODEL, many, progress=lambda done, total: told.append((done, total)))
    assert all(doubled(Outcome(number, answer)) for number, answer in enumerate(answers))
    assert told == [(number + 1, COUNT) for number in range(COUNT)]
    await client.infer_many(MODEL, iter(many[:1]), progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (1, None)


async def test_the_first_failure_ends_all_where_all_answers_are_wanted(client: Client) -> None:
    with pytest.raises(NotFound):
        await client.infer_many(MODEL, [x(1)], version="9")


async def test_a_stream_that_breaks_off_is_opened_anew(client: Client, gateway: StreamingGateway) -> None:
    async with client.stream() as streaming:
        for number in range(1, 4):
            assert doubled(Outcome(number, await streaming.infer(MODEL, x(number))))
            gateway.streams[-1].break_off()
            await asyncio.sleep(0)
    assert len(gateway.streams) == 4  # the last for the end of the conversation
    with pytest.raises(RuntimeError, match="ended"):
        await streaming.infer(MODEL, x(1))


async def test_streams_need_a_client_that_runs() -> None:
    with pytest.raises(RuntimeError, match=r"Client\.connect"):
        async with Client(cast(Any, StreamingGateway()), VERIFIER.trust()).stream():
            raise AssertionError("unreachable")


def test_the_plain_face_yields_the_same_outcomes(plain: SyncClient, gateway: StreamingGateway) -> None:
    many = [{"x": [1.0]} if number == 3 else x(number) for number in range(COUNT)]
    outcomes = {outcome.number: outcome for outcome in plain.infer_each(MODEL, cast(Any, many), concurrency=7)}
    assert isinstance(outcomes.pop(3).error, InvalidRequest)
    assert len(outcomes) == COUNT - 1
    assert all(doubled(outcome) for outcome in outcomes.values())
    assert len(gateway.streams) == 1


def test_the_plain_face_leaves_its_loop_and_goes_on(plain: SyncClient, gateway: StreamingGateway) -> None:
    with closing(plain.infer_each(MODEL, map(x, range(COUNT)), concurrency=4)) as outcomes:
        next(outcomes)
    assert len(gateway.carried) < COUNT
    assert doubled(Outcome(5, plain.infer(MODEL, x(5))))


def test_the_plain_face_tells_progress_in_the_callers_thread(plain: SyncClient) -> None:
    told: list[tuple[int, int | None]] = []
    answers = plain.infer_many(MODEL, [x(1), x(2)], progress=lambda done, total: told.append((done, total)))
    assert [float(answer.outputs["y"][0, 0]) for answer in answers] == [2.0, 4.0]
    assert told == [(1, 2), (2, 2)]
    with pytest.raises(NotFound):
        plain.infer_many(MODEL, [x(1)], version="9")


def test_the_plain_faces_stream_is_for_several_threads(plain: SyncClient, gateway: StreamingGateway) -> None:
    with plain.stream() as mesh, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda number: mesh.infer(MODEL, x(number)), range(20)))
    assert all(doubled(Outcome(number, answer)) for number, answer in enumerate(answers))
    assert len(gateway.streams) == 1


async def test_the_plain_face_works_where_a_loop_runs_already(plain: SyncClient) -> None:
    """As in a notebook."""
    assert doubled(Outcome(4, plain.infer(MODEL, x(4))))


async def test_a_client_that_another_task_closes_leaves_no_request_without_an_outcome(
    gateway: StreamingGateway,
) -> None:
    asked = silenced(gateway)
    async with asyncio.TaskGroup() as group:
        async with Client.over(cast(Any, gateway), VERIFIER.trust()) as client:
            work = group.create_task(ended(client.infer_each(MODEL, map(x, range(3)))))
            await asked.wait()
        async with asyncio.timeout(10):
            assert await work == "peer.closed"
    assert await ended(client.infer_each(MODEL, map(x, range(3)))) == "peer.closed"


def silenced(gateway: StreamingGateway) -> asyncio.Event:
    """Have the gateway answer nothing; the event says that it was asked."""
    asked = asyncio.Event()

    async def silent(*_: object, **__: object) -> Any:
        asked.set()
        await asyncio.Event().wait()

    gateway.ModelInfer = silent  # type: ignore[method-assign]  # a gateway that never answers
    return asked


async def ended(outcomes: AsyncIterator[Outcome]) -> str:
    """Why they ended before the last."""
    with pytest.raises(Unavailable) as caught:
        _ = [outcome async for outcome in outcomes]
    return caught.value.reason
