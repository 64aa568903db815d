"""One stream for many requests: order, errors as items, and an end that nobody waits through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from grpc.aio import EOF

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelInferResponse, ModelStreamInferResponse
from cloister.client import carriers
from cloister.client.carriers import ERROR_PARAMETER, REASON_PARAMETER, RETRY_PARAMETER, TIMING_PARAMETER, Aside, Stream
from cloister.client.tasks import background
from cloister.errors import CloisterError, InvalidRequest, Overloaded, Unavailable


class FakeCall:
    """A bidirectional call whose other end is the test."""

    def __init__(self) -> None:
        self.written: asyncio.Queue[ModelInferRequest] = asyncio.Queue()
        self.to_read: asyncio.Queue[Any] = asyncio.Queue()
        self.write_error: CloisterError | None = None
        self.cancelled = False
        self.metadata: tuple[tuple[str, str], ...] = ()

    async def write(self, message: ModelInferRequest) -> None:
        if self.write_error is not None:
            raise self.write_error
        await self.written.put(message)

    async def read(self) -> Any:
        item = await self.to_read.get()
        if isinstance(item, Exception):
            raise item
        return item.SerializeToString() if isinstance(item, ModelStreamInferResponse) else item

    def cancel(self) -> None:
        self.cancelled = True

    def answer(self, text: str) -> None:
        self.to_read.put_nowait(ModelStreamInferResponse(infer_response=ModelInferResponse(id=text)))


class FakePeer:
    def __init__(self, call: FakeCall) -> None:
        self.call = call

    def stub(self, _: object) -> Any:
        return self

    def ModelStreamInfer(self, timeout: float, metadata: tuple[tuple[str, str], ...] = ()) -> FakeCall:
        assert timeout > 0
        self.call.metadata = metadata
        return self.call


@asynccontextmanager
async def opened(aside: Aside | None = None) -> AsyncIterator[tuple[Stream, FakeCall]]:
    call = FakeCall()
    async with background() as tasks:
        stream = Stream.begun(cast(Any, FakePeer(call)), tasks, 60.0, aside)
        yield stream, call
        stream.close()
    assert call.cancelled


def request(name: str) -> ModelInferRequest:
    return ModelInferRequest(model_name=name)


async def test_answers_go_to_their_requests_in_order() -> None:
    async with opened() as (stream, call), asyncio.TaskGroup() as group:
        tasks = [group.create_task(stream.carry(request(name), 5.0)) for name in "abc"]
        asked = [(await call.written.get()).model_name for _ in tasks]
        for name in asked:
            call.answer(f"answer to {name}")
        assert [(await task).id for task in tasks] == ["answer to a", "answer to b", "answer to c"]


async def test_requests_leave_in_the_order_in_which_they_were_asked_however_slow_the_stream() -> None:
    """A worker takes a sealed request that a thousand later ones of its session overtook for a replay."""
    async with opened() as (stream, call), asyncio.TaskGroup() as group:
        call.written = asyncio.Queue(maxsize=1)
        tasks, left = [], []
        for number in range(60):
            tasks.append(group.create_task(stream.carry(request(str(number)), 5.0)))
            if number % 3 == 2:  # there is room again, and somebody new comes at the same moment
                left.append((await call.written.get()).model_name)
        while len(left) < len(tasks):
            left.append((await call.written.get()).model_name)
        for name in left:
            call.answer(name)
    assert left == [str(number) for number in range(60)]
    assert [task.result().id for task in tasks] == left


async def test_what_its_caller_gave_up_before_it_left_is_never_sent() -> None:
    async with opened() as (stream, call), asyncio.TaskGroup() as group:
        call.written = asyncio.Queue(maxsize=1)
        for name in ("a", "b"):
            group.create_task(stream.carry(request(name), 5.0))
        while not call.written.full():  # noqa: ASYNC110 - tasks that begin
            await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            await stream.carry(request("gone"), 0.01)
        group.create_task(stream.carry(request("c"), 5.0))
        assert [(await call.written.get()).model_name for _ in "abc"] == ["a", "b", "c"]
        for name in "abc":
            call.answer(name)


async def test_an_error_is_an_item_and_the_stream_goes_on() -> None:
    async with opened() as (stream, call):
        item = ModelStreamInferResponse(error_message="too many")
        item.infer_response.parameters[ERROR_PARAMETER].string_param = "Overloaded"
        item.infer_response.parameters[REASON_PARAMETER].string_param = "queue.full"
        item.infer_response.parameters[RETRY_PARAMETER].int64_param = 250
        async with asyncio.TaskGroup() as group:
            first = group.create_task(raises(stream.carry(request("a"), 5.0), Overloaded))
            second = group.create_task(stream.carry(request("b"), 5.0))
            for _ in range(2):
                await call.written.get()
            call.to_read.put_nowait(item)
            call.answer("fine")
        refused = first.result()
        assert isinstance(refused, Overloaded)
        assert (refused.reason, refused.retry_after_s) == ("queue.full", 0.25)
        assert second.result().id == "fine"
        assert not stream.ended


async def raises(work: Any, kind: type[CloisterError]) -> CloisterError:
    with pytest.raises(kind) as caught:
        await work
    return caught.value


@pytest.mark.parametrize("end", [EOF, Unavailable("the gateway drains")])
async def test_the_end_of_the_stream_ends_what_waits_and_what_comes(end: Any) -> None:
    async with opened() as (stream, call):
        async with asyncio.TaskGroup() as group:
            group.create_task(raises(stream.carry(request("a"), 5.0), Unavailable))
            await call.written.get()
            call.to_read.put_nowait(end)
        assert stream.ended
        await raises(stream.carry(request("b"), 5.0), Unavailable)


async def test_a_write_that_fails_ends_the_stream() -> None:
    async with opened() as (stream, call):
        call.write_error = Unavailable("connection lost")
        await raises(stream.carry(request("a"), 5.0), Unavailable)
        assert stream.ended


async def test_a_caller_that_gives_up_leaves_the_others_in_order() -> None:
    async with opened() as (stream, call):
        with pytest.raises(TimeoutError):
            await stream.carry(request("a"), 0.01)
        async with asyncio.TaskGroup() as group:
            second = group.create_task(stream.carry(request("b"), 5.0))
            for _ in range(2):
                await call.written.get()
            call.answer("late answer to a")
            call.answer("answer to b")
        assert second.result().id == "answer to b"


async def test_an_answer_to_nobody_ends_the_stream() -> None:
    async with opened() as (stream, call):
        async with asyncio.TaskGroup() as group:
            first = group.create_task(stream.carry(request("a"), 5.0))
            await call.written.get()
            call.answer("answer to a")
            call.answer("unasked")
        assert first.result().id == "answer to a"
        await raises(stream.carry(request("b"), 5.0), InvalidRequest)


def timed_item(text: str) -> ModelStreamInferResponse:
    item = ModelStreamInferResponse(infer_response=ModelInferResponse(id=text))
    item.infer_response.parameters[TIMING_PARAMETER].string_param = f"total;dur={text}"
    return item


async def test_a_timed_stream_takes_the_timing_out_of_each_answer() -> None:
    async with opened(Aside(timed=True, traceparent="00-x")) as (stream, call):
        assert dict(call.metadata) == {"server-timing": "1", "traceparent": "00-x"}
        asides = [Aside(), Aside()]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(stream.carry(request("a"), 5.0, aside)) for aside in asides]
            for number in "12":
                await call.written.get()
                call.to_read.put_nowait(timed_item(number))
    assert [task.result() for task in tasks] == [ModelInferResponse(id="1"), ModelInferResponse(id="2")]
    assert [aside.timing for aside in asides] == ["total;dur=1", "total;dur=2"]


async def test_a_stream_that_asked_for_no_timing_leaves_answers_as_they_came() -> None:
    async with opened() as (stream, call):
        assert call.metadata == ()
        aside = Aside()
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(stream.carry(request("a"), 5.0, aside))
            await call.written.get()
            call.to_read.put_nowait(timed_item("1"))
        assert TIMING_PARAMETER in asked.result().parameters
    assert aside.timing == ""


async def test_an_answer_that_is_none_ends_the_stream_for_the_one_it_came_for_too() -> None:
    async with opened() as (stream, call), asyncio.TaskGroup() as group:
        tasks = [group.create_task(raises(stream.carry(request(name), 60.0), InvalidRequest)) for name in "ab"]
        for _ in tasks:
            await call.written.get()
        call.to_read.put_nowait(b"\xff\xff")
        async with asyncio.timeout(10):
            assert {(await task).reason for task in tasks} == {"stream.malformed"}


async def test_a_request_that_is_too_large_is_refused_and_the_stream_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """GRPC would end the whole stream for it."""
    monkeypatch.setattr(carriers, "MAX_MESSAGE_BYTES", 100)
    async with opened() as (stream, call):
        for large in (request("a" * 100), request("a" * 100).SerializeToString()):
            with pytest.raises(InvalidRequest) as caught:
                await stream.exchange(large, 60.0)
            assert caught.value.reason == "message.too_large"
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(stream.carry(request("b"), 60.0))
            await call.written.get()
            call.answer("fine")
        assert asked.result().id == "fine"
