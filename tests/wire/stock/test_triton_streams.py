"""Triton's gRPC clients with much under way: streams, shared ids, calls that are cancelled or run out of time."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio

from fakes.gateway_parts import A
from fakes.running_gateway import Rig
from fakes.triton_clients import X, aio_client, held, refused, tensors, with_client

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_one_of_many_calls_is_cancelled_and_the_others_are_answered(rig: Rig, tmp_path: Path) -> None:
    worker = rig.workers[A]
    worker.cancelled.clear()
    worker.open_gate.clear()
    seen = len(worker.seen)
    loop = asyncio.get_running_loop()

    def use(client: triton.InferenceServerClient) -> None:
        done: queue.Queue[tuple[int, Any, Any]] = queue.Queue()
        calls = []
        for number in range(3):

            def answered(result: Any, error: Any, number: int = number) -> None:
                done.put((number, result, error))

            calls.append(client.async_infer("held", held(b"%d" % number), answered))
        asyncio.run_coroutine_threadsafe(worker.given(seen + 3), loop).result(30)
        calls[1].cancel()
        number, _, error = done.get(timeout=30)
        assert number == 1
        assert "CANCELLED" in str(error.status())
        asyncio.run_coroutine_threadsafe(rig.until(lambda _: len(worker.cancelled) == 1), loop).result(30)
        loop.call_soon_threadsafe(worker.open_gate.set)
        rest = [done.get(timeout=30) for _ in range(2)]
        assert {number: result.as_numpy("x").tobytes() for number, result, _ in rest} == {0: b"0", 2: b"2"}

    await with_client(rig, tmp_path, use)
    await rig.until(lambda status: all(each.slots_used == 0 for each in status.workers))


async def test_a_clients_deadline_is_its_own(rig: Rig, tmp_path: Path) -> None:
    worker = rig.workers[A]
    worker.open_gate.clear()
    status, _ = await with_client(
        rig, tmp_path, lambda client: refused(lambda: client.infer("held", held(), client_timeout=0.2))
    )
    assert status == "DEADLINE_EXCEEDED"
    worker.open_gate.set()
    await rig.until(lambda status: all(each.slots_used == 0 for each in status.workers))


async def test_ids_on_a_stream_may_be_shared_and_missing(rig: Rig, tmp_path: Path) -> None:
    """An id names nothing to the gateway: each request has its answer, in order, with the id that it came with."""
    ids = ["same", "same", "", "other", "same"]

    def use(client: triton.InferenceServerClient) -> None:
        done: queue.Queue[tuple[Any, Any]] = queue.Queue()
        client.start_stream(lambda result, error: done.put((result, error)))
        for number, identifier in enumerate(ids):
            client.async_stream_infer("tiny", tensors(X + number), request_id=identifier)
        answers = [done.get(timeout=30)[0] for _ in ids]
        client.stop_stream()
        assert [answer.get_response().id for answer in answers] == ids
        for number, answer in enumerate(answers):
            assert np.array_equal(answer.as_numpy("sum"), (X + number).sum(1))

    await with_client(rig, tmp_path, use)


@pytest.mark.parametrize("asked", [False, True])
async def test_each_answer_on_a_stream_says_that_it_is_the_last_of_its_request(
    rig: Rig, tmp_path: Path, asked: bool
) -> None:
    """Clients of streaming models wait for this parameter of Triton's, and some read it without looking."""

    def use(client: triton.InferenceServerClient) -> Any:
        done: queue.Queue[tuple[Any, Any]] = queue.Queue()
        client.start_stream(lambda result, error: done.put((result, error)))
        client.async_stream_infer("tiny", tensors(), enable_empty_final_response=asked, sequence_id=1)
        result, error = done.get(timeout=30)
        client.stop_stream()
        assert error is None
        return result.get_response(as_json=True)["parameters"]["triton_final_response"]["bool_param"]

    assert await with_client(rig, tmp_path, use) is True


async def test_an_error_on_a_stream_is_an_item_with_its_id(rig: Rig, tmp_path: Path) -> None:
    def use(client: triton.InferenceServerClient) -> None:
        done: queue.Queue[tuple[Any, Any]] = queue.Queue()
        client.start_stream(lambda result, error: done.put((result, error)))
        client.async_stream_infer("none", tensors(), request_id="a")
        client.async_stream_infer("tiny", tensors(X[:, :1]), request_id="b")
        client.async_stream_infer("tiny", tensors(), request_id="c")
        items = [done.get(timeout=30) for _ in range(3)]
        client.stop_stream()
        assert [bool(error) for _, error in items] == [True, True, False]
        assert "no such model" in items[0][1].message()
        assert items[2][0].get_response().id == "c"

    await with_client(rig, tmp_path, use)


async def test_a_stream_that_is_cancelled_frees_what_it_held(rig: Rig, tmp_path: Path) -> None:
    worker = rig.workers[A]
    worker.open_gate.clear()
    worker.cancelled.clear()
    seen, loop = len(worker.seen), asyncio.get_running_loop()

    def use(client: triton.InferenceServerClient) -> None:
        client.start_stream(lambda result, error: None)
        for _ in range(2):
            client.async_stream_infer("held", held())
        asyncio.run_coroutine_threadsafe(worker.given(seen + 2), loop).result(30)
        client.stop_stream(cancel_requests=True)

    await with_client(rig, tmp_path, use)
    await rig.until(lambda _: len(worker.cancelled) == 2)
    worker.open_gate.set()
    await rig.until(lambda status: all(each.slots_used == 0 for each in status.workers))


async def test_the_asyncio_client_infers_streams_and_cancels(rig: Rig, tmp_path: Path) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for number in range(5):
            yield {"model_name": "tiny", "inputs": tensors(X * number), "request_id": str(number)}
        yield {"model_name": "none", "inputs": tensors(), "request_id": "bad"}

    async with aio_client(rig, tmp_path) as client:
        assert await client.is_server_live()
        assert (await client.get_model_metadata("tiny")).name == "tiny"
        answer = await client.infer("tiny", tensors(), request_id="r")
        assert np.array_equal(answer.as_numpy("sum"), X.sum(1))
        items = [item async for item in client.stream_infer(requests())]
        assert [result.get_response().id for result, error in items if not error] == list("01234")
        assert "no such model" in items[-1][1].message()
        with pytest.raises(triton.InferenceServerException) as caught:
            await client.get_model_config("tiny")
        assert "UNIMPLEMENTED" in str(caught.value.status())
        await _cancelled(rig, client)


async def _cancelled(rig: Rig, client: triton_aio.InferenceServerClient) -> None:
    worker = rig.workers[A]
    worker.open_gate.clear()
    worker.cancelled.clear()
    seen = len(worker.seen)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(client.infer("held", held()))
        await worker.given(seen + 1)
        task.cancel()
    await rig.until(lambda _: len(worker.cancelled) == 1)
    worker.open_gate.set()
    await rig.until(lambda status: all(each.slots_used == 0 for each in status.workers))
