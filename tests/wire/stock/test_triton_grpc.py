"""Triton's own gRPC client, unchanged, over mutual TLS: metadata, answers, and the errors that its users branch on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2

from cloister import __version__
from fakes.networks import FEATURES
from fakes.running_gateway import Rig
from fakes.triton_clients import X, refused, tensors, with_client

pytestmark = pytest.mark.asyncio(loop_scope="module")


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


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
async def test_compressed_requests_are_refused_and_say_so(rig: Rig, tmp_path: Path, algorithm: str) -> None:
    def use(client: triton.InferenceServerClient) -> None:
        status, message = refused(lambda: client.infer("tiny", tensors(), compression_algorithm=algorithm))
        assert status == "UNIMPLEMENTED"
        assert "compress" in message.lower()
        assert client.infer("tiny", tensors()).as_numpy("sum") is not None

    await with_client(rig, tmp_path, use)
