"""Triton's own gRPC clients, blocking and asyncio, unchanged, over mutual TLS: what their users expect of a server."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc import service_pb2

from cloister import __version__
from cloister.rpc.spiffe import server_name
from fakes.gateway_parts import A
from fakes.networks import FEATURES
from fakes.running_gateway import Rig
from fakes.serving_mesh import stock_client

pytestmark = pytest.mark.asyncio(loop_scope="module")
X = np.arange(2 * FEATURES, dtype=np.float32).reshape(2, FEATURES)


def tensors(x: np.ndarray = X) -> list[triton.InferInput]:
    given = triton.InferInput("x", list(x.shape), "FP32")
    given.set_data_from_numpy(x)
    return [given]


def held(content: bytes = b"abc") -> list[triton.InferInput]:
    given = triton.InferInput("x", [len(content)], "UINT8")
    given.set_data_from_numpy(np.frombuffer(content, np.uint8))
    return [given]


async def with_client(rig: Rig, folder: Path, use: Callable[[triton.InferenceServerClient], Any]) -> Any:
    """What `use` makes of a blocking client, off the loop that the gateway runs on."""

    def run() -> Any:
        with stock_client(rig, folder) as client:
            return use(client)

    return await asyncio.to_thread(run)


@asynccontextmanager
async def aio_client(rig: Rig, folder: Path) -> AsyncIterator[triton_aio.InferenceServerClient]:
    files = rig.pki.identity("client", "ann").write(folder)
    async with triton_aio.InferenceServerClient(
        f"127.0.0.1:{rig.port}",
        ssl=True,
        root_certificates=str(files.trust_roots),
        private_key=str(files.private_key),
        certificate_chain=str(files.certificate),
        channel_args=[("grpc.ssl_target_name_override", server_name(rig.pki.cluster, "gateway"))],
    ) as client:
        yield client


def refused(ask: Callable[[], Any]) -> tuple[str, str]:
    """Status and message of the error that Triton's users catch."""
    with pytest.raises(triton.InferenceServerException) as caught:
        ask()
    return str(caught.value.status()).removeprefix("StatusCode."), str(caught.value.message())


async def test_metadata_readiness_and_index(rig: Rig, tmp_path: Path) -> None:
    def use(client: triton.InferenceServerClient) -> None:
        assert client.is_server_live(headers={"x-request-id": "7"})
        assert client.is_server_ready()
        server = client.get_server_metadata()
        assert (server.name, server.version) == ("cloister", __version__)
        model = client.get_model_metadata("tiny", as_json=True)
        assert (model["name"], model["versions"], model["platform"]) == ("tiny", ["1"], "openvino")
        assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1", str(FEATURES)]}]
        ready = [client.is_model_ready(*named) for named in (("tiny",), ("tiny", "1"), ("tiny", "2"), ("none",))]
        assert ready == [True, True, False, False]
        index = client.get_model_repository_index()
        assert {(each.name, each.version, each.state) for each in index.models} >= {("tiny", "1", "READY")}
        assert refused(lambda: client.get_model_metadata("none")) == ("NOT_FOUND", "no such model")
        assert refused(lambda: client.get_model_metadata("tiny", "9")) == ("NOT_FOUND", "no such model")

    await with_client(rig, tmp_path, use)


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.get_model_config("tiny"),
        lambda client: client.get_inference_statistics("tiny"),
        lambda client: client.get_trace_settings(),
        lambda client: client.update_trace_settings(settings={"trace_rate": "1"}),
        lambda client: client.get_log_settings(),
        lambda client: client.update_log_settings({"log_info": True}),
        lambda client: client.get_system_shared_memory_status(),
        lambda client: client.register_system_shared_memory("region", "/key", 64),
        lambda client: client.unregister_cuda_shared_memory(),
    ],
)
async def test_what_is_tritons_own_is_unimplemented(rig: Rig, tmp_path: Path, call: Callable[[Any], Any]) -> None:
    status, _ = await with_client(rig, tmp_path, lambda client: refused(lambda: call(client)))
    assert status == "UNIMPLEMENTED"


async def test_loading_is_for_operators(rig: Rig, tmp_path: Path) -> None:
    for call in ("load_model", "unload_model"):
        status, message = await with_client(
            rig, tmp_path, lambda client, call=call: refused(lambda: getattr(client, call)("tiny"))
        )
        assert (status, message) == ("PERMISSION_DENIED", "the role client may not call this")


async def test_outputs_come_as_asked_with_the_id_and_the_version(rig: Rig, tmp_path: Path) -> None:
    def use(client: triton.InferenceServerClient) -> None:
        whole = client.infer("tiny", tensors(), request_id="r-1")
        assert np.array_equal(whole.as_numpy("sum"), X.sum(1))
        response = whole.get_response()
        assert (response.model_name, response.model_version, response.id) == ("tiny", "1", "r-1")
        wanted = [triton.InferRequestedOutput(name) for name in ("sum", "p")]
        some = client.infer("tiny", tensors(), outputs=wanted, model_version="1").get_response()
        assert [output.name for output in some.outputs] == ["sum", "p"]
        one = client.infer("tiny", tensors(), outputs=wanted[:1])
        assert one.as_numpy("p") is None

    await with_client(rig, tmp_path, use)


async def test_typed_contents_are_answered_with_the_bits_of_raw_ones(rig: Rig, tmp_path: Path) -> None:
    def use(client: triton.InferenceServerClient) -> None:
        typed = service_pb2.ModelInferRequest(model_name="tiny", id="t")
        tensor = typed.inputs.add(name="x", datatype="FP32", shape=X.shape)
        tensor.contents.fp32_contents.extend(X.ravel().tolist())
        answer = client._client_stub.ModelInfer(typed, timeout=30)
        raw = client.infer("tiny", tensors(), request_id="t").get_response()
        assert answer == raw
        tensor.contents.fp32_contents.pop()
        with pytest.raises(grpc.RpcError) as caught:
            client._client_stub.ModelInfer(typed, timeout=30)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "tensor 'x'" in caught.value.details()

    await with_client(rig, tmp_path, use)


async def test_errors_have_the_status_that_tritons_users_branch_on(rig: Rig, tmp_path: Path) -> None:
    wrong_name = triton.InferInput("y", [2, FEATURES], "FP32")
    wrong_name.set_data_from_numpy(X)
    ints = triton.InferInput("x", [2, FEATURES], "INT32")
    ints.set_data_from_numpy(X.astype(np.int32))
    words = triton.InferInput("x", [2], "BYTES")
    words.set_data_from_numpy(np.array([b"a", b"b"], object))

    def use(client: triton.InferenceServerClient) -> None:
        for model, given, options, status, word in (
            ("none", tensors(), {}, "NOT_FOUND", "no such model"),
            ("tiny", tensors(), {"model_version": "9"}, "NOT_FOUND", "no such model"),
            ("", tensors(), {}, "NOT_FOUND", "no such model"),
            ("tiny", [], {}, "INVALID_ARGUMENT", "tensor 'x' is missing"),
            ("tiny", [wrong_name], {}, "INVALID_ARGUMENT", "the model has no input 'y'"),
            ("tiny", [*tensors(), *tensors()], {}, "INVALID_ARGUMENT", "tensor 'x' comes twice"),
            ("tiny", [ints], {}, "INVALID_ARGUMENT", "datatype 'INT32', the model takes FP32"),
            ("tiny", [words], {}, "INVALID_ARGUMENT", "datatype 'BYTES', the model takes FP32"),
            ("tiny", tensors(X[:, :3]), {}, "INVALID_ARGUMENT", "shape [2, 3], the model takes [-1, 30]"),
            ("tiny", tensors(), {"outputs": [triton.InferRequestedOutput("q")]}, "INVALID_ARGUMENT", "no output 'q'"),
        ):
            told = refused(lambda model=model, given=given, options=options: client.infer(model, given, **options))
            assert told[0] == status, told
            assert word in told[1]

    await with_client(rig, tmp_path, use)


@pytest.mark.parametrize(
    "options",
    [
        {"sequence_id": 7, "sequence_start": True},
        {"sequence_id": "seven", "sequence_end": True},
        {"priority": 1, "timeout": 1},
        {"parameters": {"text": "x", "whole": 3, "real": 0.5, "flag": True}},
    ],
)
async def test_parameters_for_what_no_model_here_has_change_nothing(
    rig: Rig, tmp_path: Path, options: dict[str, Any]
) -> None:
    """No model keeps a state between requests, so a sequence is so many requests, as in Triton without a batcher."""
    await with_client(rig, tmp_path, lambda client: _same(client, options))


def _same(client: triton.InferenceServerClient, options: dict[str, Any]) -> None:
    assert client.infer("tiny", tensors(), **options).get_response() == client.infer("tiny", tensors()).get_response()


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


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
async def test_compressed_requests_are_refused_and_say_so(rig: Rig, tmp_path: Path, algorithm: str) -> None:
    def use(client: triton.InferenceServerClient) -> None:
        status, message = refused(lambda: client.infer("tiny", tensors(), compression_algorithm=algorithm))
        assert status == "UNIMPLEMENTED"
        assert "compress" in message.lower()
        assert client.infer("tiny", tensors()).as_numpy("sum") is not None

    await with_client(rig, tmp_path, use)


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
