"""Triton's own HTTP client, unchanged, over HTTPS with a client certificate: JSON, binary, compression, errors."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import tritonclient.http as triton

from cloister import __version__
from fakes.networks import FEATURES, tiny
from fakes.pki import MeshPki
from fakes.running_rest import ENGINES, RestRig
from fakes.serving_mesh import serving_rest

pytestmark = pytest.mark.asyncio(loop_scope="module")
X = np.arange(2 * FEATURES, dtype=np.float32).reshape(2, FEATURES)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=ENGINES)
async def rest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RestRig]:
    folder = tmp_path_factory.mktemp("mesh")
    async with serving_rest(folder, MeshPki(), {"tiny": tiny()}, request.param) as made:
        yield made


def tensors(x: np.ndarray = X, *, binary: bool = True) -> list[triton.InferInput]:
    given = triton.InferInput("x", list(x.shape), "FP32")
    given.set_data_from_numpy(x, binary_data=binary)
    return [given]


def stock_client(rig: RestRig, **options: Any) -> triton.InferenceServerClient:
    return triton.InferenceServerClient(
        f"127.0.0.1:{rig.port}", ssl=True, ssl_context_factory=lambda: rig.tls("client", "ann"), **options
    )


async def with_client(rig: RestRig, use: Callable[[triton.InferenceServerClient], Any], **options: Any) -> Any:
    """What `use` makes of a client, off the loop that the gateway runs on."""

    def run() -> Any:
        with stock_client(rig, **options) as client:
            return use(client)

    return await asyncio.to_thread(run)


def refused(ask: Callable[[], Any]) -> tuple[str, str]:
    """Status and message of the error that Triton's users catch."""
    with pytest.raises(triton.InferenceServerException) as caught:
        ask()
    return str(caught.value.status()), str(caught.value.message())


async def test_metadata_readiness_and_index(rest: RestRig) -> None:
    def use(client: triton.InferenceServerClient) -> None:
        assert client.is_server_live()
        assert client.is_server_ready()
        server = client.get_server_metadata()
        assert (server["name"], server["version"]) == ("cloister", __version__)
        model = client.get_model_metadata("tiny")
        assert (model["name"], model["versions"]) == ("tiny", ["1"])
        assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, FEATURES]}]
        ready = [client.is_model_ready(*named) for named in (("tiny",), ("tiny", "1"), ("tiny", "2"), ("none",))]
        assert ready == [True, True, False, False]
        assert ("tiny", "1", "READY") in {
            (m["name"], m["version"], m["state"]) for m in client.get_model_repository_index()
        }
        assert refused(lambda: client.get_model_metadata("none")) == ("404", "no such model")

    await with_client(rest, use)


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("wanted", [True, False])
async def test_json_and_binary_tensors_say_the_same(rest: RestRig, given: bool, wanted: bool) -> None:
    def use(client: triton.InferenceServerClient) -> None:
        outputs = [triton.InferRequestedOutput(name, binary_data=wanted) for name in ("sum", "p")]
        answer = client.infer("tiny", tensors(binary=given), outputs=outputs, request_id="r-1", model_version="1")
        assert np.array_equal(answer.as_numpy("sum"), X.sum(1))
        assert answer.as_numpy("p").shape == (2, 2)
        response = answer.get_response()
        assert (response["model_name"], response["model_version"], response["id"]) == ("tiny", "1", "r-1")
        assert [output["name"] for output in response["outputs"]] == ["sum", "p"]

    await with_client(rest, use)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
async def test_compressed_requests_are_read_and_answers_come_plain(rest: RestRig, algorithm: str) -> None:
    def use(client: triton.InferenceServerClient) -> None:
        answer = client.infer(
            "tiny", tensors(), request_compression_algorithm=algorithm, response_compression_algorithm=algorithm
        )
        assert np.array_equal(answer.as_numpy("sum"), X.sum(1))

    await with_client(rest, use)


async def test_many_at_once(rest: RestRig) -> None:
    def use(client: triton.InferenceServerClient) -> None:
        asked = [client.async_infer("tiny", tensors(X + number), request_id=str(number)) for number in range(16)]
        for number, request in enumerate(asked):
            answer = request.get_result()
            assert answer.get_response()["id"] == str(number)
            assert np.array_equal(answer.as_numpy("sum"), (X + number).sum(1))

    await with_client(rest, use, concurrency=4)


async def test_errors_have_the_status_that_tritons_users_branch_on(rest: RestRig) -> None:
    wrong = triton.InferInput("y", [2, FEATURES], "FP32")
    wrong.set_data_from_numpy(X)
    shared = triton.InferInput("x", [2, FEATURES], "FP32")
    shared.set_shared_memory("region", X.nbytes)
    classes = [triton.InferRequestedOutput("sum", class_count=2)]

    def use(client: triton.InferenceServerClient) -> None:
        for model, given, options, status, word in (
            ("none", tensors(), {}, "404", "no such model"),
            ("tiny", tensors(), {"model_version": "9"}, "404", "no such model"),
            ("tiny", [], {}, "400", "tensor 'x' is missing"),
            ("tiny", [wrong], {}, "400", "the model has no input 'y'"),
            ("tiny", tensors(X[:, :3]), {}, "400", "shape [2, 3], the model takes [-1, 30]"),
            ("tiny", tensors(X[:, :3], binary=False), {}, "400", "shape [2, 3], the model takes [-1, 30]"),
            ("tiny", [shared], {}, "400", "shared memory"),
            ("tiny", tensors(), {"outputs": classes}, "400", "output 'sum'"),
            ("tiny", tensors(), {"outputs": [triton.InferRequestedOutput("q")]}, "400", "no output 'q'"),
        ):
            told = refused(lambda model=model, given=given, options=options: client.infer(model, given, **options))
            assert told[0] == status, told
            assert word in told[1], told

    await with_client(rest, use)


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.get_model_config("tiny"),
        lambda client: client.get_inference_statistics("tiny"),
        lambda client: client.get_trace_settings(),
        lambda client: client.get_log_settings(),
        lambda client: client.get_system_shared_memory_status(),
    ],
)
async def test_what_is_tritons_own_is_not_there(rest: RestRig, call: Callable[[Any], Any]) -> None:
    status, message = await with_client(rest, lambda client: refused(lambda: call(client)))
    assert status == "404"
    assert "/openapi.json" in message


async def test_loading_is_for_operators(rest: RestRig) -> None:
    status, message = await with_client(rest, lambda client: refused(lambda: client.load_model("tiny")))
    assert (status, message) == ("403", "the role client may not call this")


@pytest.mark.parametrize("options", [{"sequence_id": 7, "sequence_start": True}, {"priority": 1, "timeout": 1}])
async def test_parameters_for_what_no_model_here_has_change_nothing(rest: RestRig, options: dict[str, Any]) -> None:
    def use(client: triton.InferenceServerClient) -> None:
        assert np.array_equal(client.infer("tiny", tensors(), **options).as_numpy("sum"), X.sum(1))

    await with_client(rest, use)


async def test_without_a_certificate_nothing_is_inferred(rest: RestRig, tmp_path: Path) -> None:
    def ask() -> str:
        def nobody() -> ssl.SSLContext:
            return rest.tls("client", "")

        with triton.InferenceServerClient(f"127.0.0.1:{rest.port}", ssl=True, ssl_context_factory=nobody) as client:
            return refused(lambda: client.infer("tiny", tensors()))[0]

    assert await asyncio.to_thread(ask) == "401"
