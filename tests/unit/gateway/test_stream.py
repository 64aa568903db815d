"""One stream of requests: order, errors as items, a bounded window, half-close, drain, cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from grpc.aio import EOF

from cloister.api.oip.inference_pb2 import ModelInferResponse, ModelStreamInferResponse
from cloister.api.v1.worker_pb2 import Failure, InferResult
from cloister.errors import CloisterError, Overloaded, Unauthenticated, Unavailable
from cloister.gateway import stream as module
from cloister.gateway.admission import Admission
from cloister.gateway.dispatch import Dispatcher
from cloister.gateway.limits import Limits, ModelLimits, TenantLimits
from cloister.gateway.link import Link
from cloister.gateway.stream import WINDOW, AnswerStream, failed_item
from cloister.gateway.tenants import Tenants
from fakes.gateway_parts import TENANT, A, WorkerEnd, infer_request, model_state, unknown


class Client:
    """The client's end of a stream."""

    def __init__(self) -> None:
        self.requests: asyncio.Queue[Any] = asyncio.Queue()
        self.answers: asyncio.Queue[bytes] = asyncio.Queue()
        self.reads = True
        self.idle = asyncio.Event()

    async def read(self) -> Any:
        if self.requests.empty():
            self.idle.set()
        return await self.requests.get()

    async def write(self, message: bytes) -> None:
        if not self.reads:
            await asyncio.get_running_loop().create_future()
        self.answers.put_nowait(message)

    def ask(self, *identifiers: str) -> None:
        for identifier in identifiers:
            self.requests.put_nowait(infer_request(identifier=identifier))

    def close(self) -> None:
        self.requests.put_nowait(EOF)

    async def item(self) -> ModelStreamInferResponse:
        return ModelStreamInferResponse.FromString(await self.answers.get())


class Scene:
    """A client, its stream, and a worker played by the test."""

    def __init__(self, *, slots: int, tenant_limit: int, **ends: float) -> None:
        self.client = Client()
        self.worker = WorkerEnd()
        self.stopping = asyncio.Event()
        self.dispatcher = Dispatcher(Limits(ModelLimits(queue=256)), unknown)
        self.tenants = Tenants(Limits(TenantLimits(calls=tenant_limit)), 1 << 30)
        self.link = Link(A, self.dispatcher)
        self._slots = slots
        self._ends = {"expires_in_s": 60.0, **ends}
        self.task: asyncio.Task[None]

    async def play(self, group: asyncio.TaskGroup) -> asyncio.Task[None]:
        self.dispatcher.attach(self.link)
        linked = group.create_task(self.link.run(self.worker))
        self.worker.hello(self._slots, model_state())
        await self.worker.heard()
        admission = Admission(self.dispatcher, self.tenants, lambda *_: None)
        stream = AnswerStream(self.client, admission, TENANT, 10)
        self.task = group.create_task(self._run(stream))
        return linked

    async def _run(self, stream: AnswerStream) -> None:
        try:
            await stream.run(self.stopping, **self._ends)
        except* (CloisterError, TimeoutError) as caught:
            self.error = caught.exceptions[0]

    async def calls(self, count: int) -> list[int]:
        """Ids of that many calls that came to the worker."""
        found: list[int] = []
        while len(found) < count:
            found += [call.call_id for call in (await self.worker.frame()).calls]
        return found


@asynccontextmanager
async def scene(slots: int = 4, *, tenant_limit: int = 999, **ends: float) -> AsyncIterator[Scene]:
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        made = Scene(slots=slots, tenant_limit=tenant_limit, **ends)
        linked = await made.play(group)
        yield made
        made.task.cancel()
        await asyncio.wait([made.task])
        linked.cancel()


def response(identifier: str) -> bytes:
    return ModelInferResponse(model_name="tiny", id=identifier).SerializeToString()


async def test_answers_come_in_the_order_of_requests() -> None:
    async with scene() as made:
        made.client.ask("a", "b", "c")
        ids = await made.calls(3)
        for call_id, identifier in reversed(list(zip(ids, "abc", strict=True))):
            made.worker.answer(call_id, response(identifier))
        assert [(await made.client.item()).infer_response.id for _ in range(3)] == ["a", "b", "c"]


async def test_a_plain_answer_says_that_it_is_the_last_and_a_sealed_one_stays_as_it_was_made() -> None:
    async with scene() as made:
        made.client.requests.put_nowait(infer_request(identifier="sealed", workers=[A]))
        made.client.ask("plain")
        for call_id in await made.calls(2):
            made.worker.answer(call_id, response("as made"))
        sealed, plain = [(await made.client.item()).infer_response for _ in range(2)]
        assert sealed.SerializeToString() == response("as made")
        assert plain.parameters["triton_final_response"].bool_param


async def test_an_error_is_an_item_and_the_stream_goes_on() -> None:
    async with scene() as made:
        made.client.requests.put_nowait(infer_request("none", identifier="a"))
        made.client.requests.put_nowait(b"\x1a\x01b\x00")
        made.client.ask("c", "d")
        first, second = await made.calls(2)
        failure = Failure(error="Overloaded", reason="queue.full", message="full")
        made.worker.say(results=[InferResult(call_id=first, failure=failure)])
        made.worker.answer(second, response("d"))
        items = [await made.client.item() for _ in range(4)]
        told = [
            (
                item.error_message,
                item.infer_response.id,
                item.infer_response.parameters["cloister-error"].string_param,
                item.infer_response.parameters["cloister-reason"].string_param,
            )
            for item in items
        ]
        assert told[0] == ("no such model", "a", "NotFound", "name.unknown")
        assert told[1][1:] == ("b", "InvalidRequest", "request.invalid")
        assert told[2] == ("full", "c", "Overloaded", "queue.full")
        assert told[3][:2] == ("", "d")


async def test_half_close_drains() -> None:
    async with scene() as made:
        made.client.ask("a", "b")
        made.client.close()
        for call_id in await made.calls(2):
            assert not made.task.done()
            made.worker.answer(call_id)
        await made.task
        assert made.client.answers.qsize() == 2
        assert made.tenants.under_way(TENANT) == 0


async def test_a_stream_without_requests_ends() -> None:
    async with scene() as made:
        made.client.close()
        await made.task


async def test_no_more_is_read_than_the_window_holds() -> None:
    async with scene(slots=WINDOW * 2) as made:
        made.client.ask(*map(str, range(WINDOW + 10)))
        ids = await made.calls(WINDOW)
        assert made.client.requests.qsize() == 10
        made.worker.answer(ids[1])
        await made.worker.heard()
        assert made.client.requests.qsize() == 10
        made.worker.answer(ids[0])
        await made.calls(2)
        assert made.client.requests.qsize() == 8


async def test_cancellation_frees_everything() -> None:
    async with scene(slots=1) as made:
        made.client.ask("a", "b", "c")
        await made.client.idle.wait()
        (sent,) = await made.calls(1)
        assert (made.dispatcher.queued, made.tenants.under_way(TENANT)) == (2, 3)
        made.task.cancel()
        await asyncio.wait([made.task])
        assert (made.dispatcher.queued, made.tenants.under_way(TENANT)) == (0, 0)
        assert list((await made.worker.frame()).cancelled) == [sent]


async def test_a_tenant_with_too_many_calls_hears_it_as_an_item() -> None:
    async with scene(tenant_limit=1) as made:
        made.client.ask("a", "b")
        await made.client.idle.wait()
        made.worker.answer(*await made.calls(1), response("a"))
        assert not (await made.client.item()).error_message
        assert (await made.client.item()).infer_response.parameters["cloister-reason"].string_param == "tenant.busy"


async def test_going_reads_no_more_and_answers_what_was_asked() -> None:
    async with scene() as made:
        made.client.ask("a")
        (call_id,) = await made.calls(1)
        made.stopping.set()
        await asyncio.sleep(0)
        made.client.ask("b")
        made.worker.answer(call_id, response("a"))
        await made.task
        assert (await made.client.item()).infer_response.id == "a"
        assert made.client.answers.empty()
        assert isinstance(made.error, Unavailable)
        assert made.error.reason == "peer.draining"


async def test_a_client_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WRITE_S", 0.01)
    async with scene() as made:
        made.client.reads = False
        made.client.ask("a", "b")
        made.worker.answer((await made.calls(2))[0])
        await made.task
        assert isinstance(made.error, Unavailable)
        assert made.error.reason == "client.stalled"
        assert made.tenants.under_way(TENANT) == 0


async def test_a_stream_ends_with_the_certificate_of_its_client() -> None:
    async with scene(expires_in_s=-1) as made:
        made.client.ask("a")
        await made.task
        assert isinstance(made.error, Unauthenticated)
        assert made.error.reason == "identity.expired"


async def test_a_stream_past_its_own_deadline_is_not_told_of_a_certificate() -> None:
    async with scene(ends_in_s=-1) as made:
        made.client.ask("a")
        await made.task
        assert isinstance(made.error, TimeoutError)


def test_a_failed_item_says_what_happened() -> None:
    item = ModelStreamInferResponse.FromString(failed_item("r-1", Overloaded("full", retry_after_s=0.25)))
    assert item.infer_response.parameters["cloister-retry-ms"].int64_param == 250
    told_nothing = ModelStreamInferResponse.FromString(failed_item("r-1", Overloaded("full")))
    assert "cloister-retry-ms" not in told_nothing.infer_response.parameters
    assert (item.error_message, item.infer_response.id) == ("full", "r-1")
    late = ModelStreamInferResponse.FromString(failed_item("r-2", TimeoutError("secret detail")))
    assert "secret" not in late.error_message
    assert late.infer_response.parameters["cloister-error"].string_param == "TimeoutError"
