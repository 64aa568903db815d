"""A whole mesh asked over HTTPS: what its workers answer by gRPC, as JSON and as bytes, and the older form."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from fakes.running_mesh import MODEL, RunningMesh, inputs

INFER = f"/v2/models/{MODEL}/infer"


@pytest.fixture
def https(mesh: RunningMesh) -> Iterator[httpx.Client]:
    identity = mesh.identity("client")
    context = ssl.create_default_context(cafile=str(identity / "trust_roots.pem"))
    context.load_cert_chain(identity / "certificate.pem", identity / "private_key.pem")
    address = mesh.program("gateway")["https"]
    with httpx.Client(base_url=f"https://{address}", verify=context, http2=True, timeout=30) as client:
        yield client


def test_json_bytes_and_rows_get_the_answers_of_the_model(
    mesh: RunningMesh, https: httpx.Client, truth: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> None:
    x = inputs(31, rows=3)
    tensor = {"name": "x", "datatype": "FP32", "shape": list(x.shape)}
    answer = https.post(INFER, json={"inputs": [{**tensor, "data": x.tolist()}]})
    [output] = answer.json()["outputs"]
    assert np.array_equal(np.array(output["data"], np.float32).reshape(output["shape"]), truth(x))

    raw = x.tobytes()
    as_bytes = {"inputs": [{**tensor, "parameters": {"binary_data_size": len(raw)}}]}
    header = json.dumps({**as_bytes, "parameters": {"binary_data_output": True}}).encode()
    headers = {"inference-header-content-length": str(len(header))}
    answer = https.post(INFER, content=header + raw, headers=headers)
    rest = answer.content[int(answer.headers["inference-header-content-length"]) :]
    assert np.array_equal(np.frombuffer(rest, np.float32).reshape(3, 4), truth(x))

    rows = [{"x": row} for row in x.tolist()]
    answer = https.post(f"/models/{MODEL}/versions/1/predict", json={"instances": rows})
    assert np.array_equal(np.array(answer.json()["predictions"], np.float32), truth(x))

    short = https.post(INFER, json={"inputs": [{**tensor, "data": x.ravel().tolist()[:-1]}]})
    assert (short.status_code, short.json()["reason"]) == (400, "request.invalid")


def test_status_says_where_and_whether(mesh: RunningMesh, https: httpx.Client) -> None:
    services = mesh.json("status", mesh.folder)["services"]
    [found] = [each for each in services if each["service"] == "gateway, HTTPS"]
    assert (found["serving"], found["address"]) == (True, str(https.base_url).rstrip("/"))
