"""The stock Triton client, given the mesh's TLS files, needs to know nothing of Cloister."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from numpy.typing import NDArray

from fakes.running_mesh import MODEL, RunningMesh, inputs

Truth = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@pytest.fixture
def client(mesh: RunningMesh) -> Iterator[triton.InferenceServerClient]:
    identity = mesh.identity("client")
    with triton.InferenceServerClient(
        mesh.gateway,
        ssl=True,
        root_certificates=str(identity / "trust_roots.pem"),
        private_key=str(identity / "private_key.pem"),
        certificate_chain=str(identity / "certificate.pem"),
    ) as stock:
        yield stock


def tensor(x: NDArray[np.float32]) -> list[triton.InferInput]:
    given = triton.InferInput("x", list(x.shape), "FP32")
    given.set_data_from_numpy(x)
    return [given]


def test_health_and_metadata(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, "1")
    assert not client.is_model_ready("no-such-model")
    assert client.get_server_metadata().name == "cloister"
    metadata = client.get_model_metadata(MODEL)
    assert (metadata.name, list(metadata.versions)) == (MODEL, ["1"])
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [("x", "FP32", [-1, 8])]
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.outputs] == [("y", "FP32", [-1, 4])]


def test_infer_equals_openvino_bit_for_bit(client: triton.InferenceServerClient, truth: Truth) -> None:
    for seed in range(10):
        x = inputs(seed, rows=1 + seed)
        answer = client.infer(MODEL, tensor(x), request_id=f"r{seed}")
        assert answer.as_numpy("y").tobytes() == truth(x).tobytes()
        assert answer.get_response().id == f"r{seed}"


def test_requested_outputs_and_async_infer(client: triton.InferenceServerClient, truth: Truth) -> None:
    x = inputs(3)
    wanted = [triton.InferRequestedOutput("y")]
    assert client.infer(MODEL, tensor(x), outputs=wanted).as_numpy("y").tobytes() == truth(x).tobytes()
    done: queue.Queue[Any] = queue.Queue()
    client.async_infer(MODEL, tensor(x), lambda result, error: done.put((result, error)))
    result, error = done.get(timeout=20)
    assert error is None
    assert result.as_numpy("y").tobytes() == truth(x).tobytes()


def test_stream_infer_answers_in_order_and_survives_a_bad_request(
    client: triton.InferenceServerClient, truth: Truth
) -> None:
    done: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: done.put((result, error)))
    asked = [inputs(seed, rows=2) for seed in range(40)]
    for number, x in enumerate(asked):
        if number == 7:
            client.async_stream_infer(MODEL, tensor(np.zeros((1, 5), np.float32)), request_id="bad")
        client.async_stream_infer(MODEL, tensor(x), request_id=str(number))
    items = [done.get(timeout=20) for _ in range(len(asked) + 1)]
    client.stop_stream()
    _, error = items.pop(7)
    assert error is not None
    assert "x" in error.message()
    assert [result.get_response().id for result, _ in items] == [str(n) for n in range(len(asked))]
    assert [result.as_numpy("y").tobytes() for result, _ in items] == [truth(x).tobytes() for x in asked]


@pytest.mark.parametrize(
    ("model", "x", "status"),
    [
        (MODEL, np.zeros((1, 9), np.float32), "INVALID_ARGUMENT"),
        ("no-such-model", np.zeros((1, 8), np.float32), "NOT_FOUND"),
    ],
)
def test_errors_carry_the_standard_status(
    client: triton.InferenceServerClient, model: str, x: NDArray[np.float32], status: str
) -> None:
    with pytest.raises(triton.InferenceServerException) as raised:
        client.infer(model, tensor(x))
    assert status in str(raised.value.status())


def test_without_a_client_certificate_nothing_is_said(mesh: RunningMesh) -> None:
    roots = str(mesh.identity("client") / "trust_roots.pem")
    with (
        triton.InferenceServerClient(mesh.gateway, ssl=True, root_certificates=roots) as stranger,
        pytest.raises(triton.InferenceServerException),
    ):
        stranger.is_server_live(client_timeout=5)
