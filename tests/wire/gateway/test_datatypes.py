"""Triton's stock client with every datatype, through a real gateway and a real worker, and errors on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import openvino as ov
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import np_to_triton_dtype

from cloister.api.oip.inference_pb2 import ModelMetadataResponse
from cloister.api.v1.worker_pb2 import ModelState
from cloister.errors import InvalidRequest
from cloister.gateway.settings import MAX_REQUEST_BYTES
from cloister.oip.tensors import encode_request
from fakes import networks
from fakes.gateway_parts import A
from fakes.pki import MeshPki
from fakes.running_gateway import Rig, next_item
from fakes.serving_mesh import serving_mesh, stock_client

DTYPES: Mapping[str, Any] = {
    "BOOL": np.bool_,
    **{f"UINT{bits}": np.dtype(f"u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"i{bits // 8}") for bits in (8, 16, 32, 64)},
    "FP16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "FP32": np.float32,
    "FP64": np.float64,
}
VALUES = np.array([[0, 1, 3], [5, 7, 11]])


def arrays() -> dict[str, np.ndarray]:
    return {name: VALUES.astype(dtype) for name, dtype in DTYPES.items()}


def tensors(given: Mapping[str, np.ndarray]) -> list[triton.InferInput]:
    made = []
    for name, array in given.items():
        tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        made.append(tensor)
    return made


def in_process(given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    config = {"INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False}
    request = ov.Core().compile_model(networks.every_type((-1, 3)), "CPU", config).create_infer_request()
    for name, array in given.items():
        tensor = ov.Tensor(networks.TYPES[name], list(array.shape))
        tensor.data.view(np.uint8)[...] = array.view(np.uint8)
        request.set_tensor(name, tensor)
    request.infer()
    return {name: request.get_tensor(name).data.copy() for kind in DTYPES for name in (f"same {kind}", f"made {kind}")}


def refused(ask: Callable[[], Any]) -> triton.InferenceServerException:
    try:
        ask()
    except triton.InferenceServerException as error:
        return error
    raise AssertionError("it was answered")


async def test_every_datatype_of_openvino_comes_back_with_the_bits_of_openvino(tmp_path: Path, pki: MeshPki) -> None:
    async with serving_mesh(tmp_path, pki, {"every": networks.every_type((-1, 3))}) as rig:
        await asyncio.to_thread(_ask_for_every_datatype, rig, tmp_path)


def _ask_for_every_datatype(rig: Rig, folder: Path) -> None:
    given = arrays()
    expected = in_process(given)
    with stock_client(rig, folder) as client:
        metadata = client.get_model_metadata("every")
        assert {tensor.name: tensor.datatype for tensor in metadata.inputs} == dict(zip(DTYPES, DTYPES, strict=True))
        answer = client.infer("every", tensors(given), request_id="r-1", parameters={"hospital": "east"})
        assert answer.get_response().id == "r-1"
        for name, array in expected.items():
            found = answer.as_numpy(name)
            assert (found.shape, found.tobytes()) == (array.shape, array.tobytes())
        for name, array in given.items():
            assert answer.as_numpy(f"same {name}").tobytes() == array.tobytes()
        wanted = [triton.InferRequestedOutput(name) for name in ("made BF16", "same BOOL")]
        some = client.infer("every", tensors(given), outputs=wanted).get_response()
        assert [output.name for output in some.outputs] == ["made BF16", "same BOOL"]
        _ask_wrongly(client, given)


def _ask_wrongly(client: triton.InferenceServerClient, given: dict[str, np.ndarray]) -> None:
    """Errors by the status that clients go by, and a message that names the tensor."""
    words = np.array([[b"a", b"b", b"c"]], object)
    shared = triton.InferInput("FP32", [2, 3], "FP32")
    shared.set_shared_memory("region", 24)
    classes = [triton.InferRequestedOutput("same FP32", class_count=2)]
    others = tensors({name: array for name, array in given.items() if name != "FP32"})
    for ask, message in (
        (lambda: client.infer("every", tensors(given | {"FP32": words})), "tensor 'FP32': datatype 'BYTES'"),
        (lambda: client.infer("every", tensors(given | {"FP32": given["FP32"][:, :2]})), "tensor 'FP32': shape [2, 2]"),
        (lambda: client.infer("every", others), "tensor 'FP32' is missing"),
        (lambda: client.infer("every", [*others, shared]), "tensor 'FP32': shared memory"),
        (lambda: client.infer("every", tensors(given), outputs=classes), "output 'same FP32'"),
    ):
        error = refused(ask)
        assert error.status() == "StatusCode.INVALID_ARGUMENT"
        assert message in error.message()
    assert refused(lambda: client.infer("every", tensors(given), model_version="9")).status() == "StatusCode.NOT_FOUND"


async def test_strings_pass_the_gateway_to_a_model_that_takes_them(rig: Rig, tmp_path: Path) -> None:
    metadata = ModelMetadataResponse(name="text", versions=["1"])
    metadata.inputs.add(name="words", datatype="BYTES", shape=[-1, 2])
    metadata.outputs.add(name="words", datatype="BYTES", shape=[-1, 2])
    state = ModelState(name="text", version="1", allow_plain=True, metadata=metadata.SerializeToString())
    await rig.worker(A, models=[state])
    words = np.array([[b"one", b""], ["zwölf".encode(), b"\0\xff"]], object)

    def ask() -> np.ndarray:
        with stock_client(rig, tmp_path) as client:
            found: np.ndarray = client.infer("text", tensors({"words": words})).as_numpy("words")
            error = refused(lambda: client.infer("text", tensors({"words": np.zeros((1, 2), np.float32)})))
            assert "datatype 'FP32', the model takes BYTES" in error.message()
            return found

    assert (await asyncio.to_thread(ask)).tolist() == words.tolist()


@pytest.mark.attack("G21")
async def test_the_largest_request_and_answer_go_all_the_way(tmp_path: Path, pki: MeshPki) -> None:
    """Client, gateway, link, worker, OpenVINO and back, and around it a stream's item; one byte more is refused."""
    async with serving_mesh(tmp_path, pki, {"echo": networks.echo(np.dtype(np.uint8), (-1,))}) as rig:
        around = len(echo_request(np.zeros(32 << 20, np.uint8))) - (32 << 20)
        x = np.full(MAX_REQUEST_BYTES - around, 7, np.uint8)
        request, stub = echo_request(x), await rig.raw()
        assert len(request) == MAX_REQUEST_BYTES
        stream = stub.stream(timeout=60)
        await stream.write(request)
        answer = (await next_item(stream)).infer_response
        stream.cancel()
        del answer.parameters["triton_final_response"]  # which the gateway adds on a stream
        assert answer.ByteSize() == MAX_REQUEST_BYTES
        assert answer.raw_output_contents[0] == x.tobytes()
        with pytest.raises(InvalidRequest, match="the message is larger than allowed") as caught:
            await stub.infer(echo_request(np.append(x, x[:1])), timeout=60)
        assert caught.value.reason == "message.too_large"


def echo_request(x: np.ndarray) -> bytes:
    return encode_request("echo", {"x": x}, version="1").SerializeToString()
