"""The load's carriers against real servers: a gRPC one without TLS, and one that speaks just enough HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import pytest
from benchmarks.load import questions
from benchmarks.load.carriers import Carrier, Target, opened

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelInferResponse, ModelStreamInferResponse
from cloister.api.oip.inference_pb2_grpc import (
    GRPCInferenceServiceServicer,
    add_GRPCInferenceServiceServicer_to_server,
)
from cloister.oip.tensors import decode_request, encode_response

INPUTS = [{"x": np.full((1, 2), number, np.float32)} for number in range(3)]


class Doubling(GRPCInferenceServiceServicer):
    """Answers `y`, twice `x`; refuses what is above two."""

    def answered(self, request: ModelInferRequest) -> ModelInferResponse:
        return encode_response("m", {"y": 2 * decode_request(request)["x"]})

    async def ModelInfer(self, request: ModelInferRequest, context: Any) -> ModelInferResponse:
        answer = self.answered(request)
        answer.outputs[0].contents.SetInParent()  # as MLServer does
        return answer

    async def ModelStreamInfer(
        self, request_iterator: AsyncIterator[ModelInferRequest], context: Any
    ) -> AsyncIterator[ModelStreamInferResponse]:
        async for request in request_iterator:
            if decode_request(request)["x"].max() > 1:
                yield ModelStreamInferResponse(error_message="too large")
            else:
                yield ModelStreamInferResponse(infer_response=self.answered(request))


@asynccontextmanager
async def asked(carrier: str, address: str, folder: Path) -> AsyncIterator[Carrier]:
    questions.write(folder, INPUTS)
    target = Target(
        carrier=carrier, address=address, model="m", questions=str(folder), outputs=[("y", (1, 2), "float32")]
    )
    async with opened(target) as found:
        yield found


@asynccontextmanager
async def served() -> AsyncIterator[str]:
    server = grpc.aio.server()
    add_GRPCInferenceServiceServicer_to_server(Doubling(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


@pytest.mark.parametrize("carrier", ["unary", "stream"])
async def test_each_question_gets_its_own_answer_and_numbers_go_round(carrier: str, tmp_path: Path) -> None:
    async with served() as address, asked(carrier, address, tmp_path) as load:
        async with asyncio.TaskGroup() as group:
            tasks = {number: group.create_task(load.ask(number)) for number in (0, 1, 3, 4)}
        for number, task in tasks.items():
            np.testing.assert_array_equal(load.arrays(task.result())["y"], 2 * INPUTS[number % 3]["x"])


async def test_an_error_on_a_stream_is_no_answer_and_harms_no_other(tmp_path: Path) -> None:
    async with served() as address, asked("stream", address, tmp_path) as load:
        with pytest.raises(RuntimeError, match="too large"):
            await load.ask(2)
        assert load.arrays(await load.ask(1))["y"].max() == 2


async def test_bare_bytes_over_http_come_back_as_arrays_and_a_refusal_raises(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.read(1 << 10):  # a whole request comes in one piece
            x = np.frombuffer(head[-8:], np.float32)
            status = b"200 OK" if x.max() < 2 else b"408 Request Timeout"
            assert b"Content-Length: 8\r\n\r\n" in head
            writer.write(b"HTTP/1.1 %s\r\ncontent-length: 8\r\n\r\n" % status + (2 * x).tobytes())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, asked("http", address, tmp_path) as load:
        np.testing.assert_array_equal(load.arrays(await load.ask(1))["y"], 2 * INPUTS[1]["x"])
        with pytest.raises(RuntimeError, match="408"):
            await load.ask(2)
