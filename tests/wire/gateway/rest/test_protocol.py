"""The Open Inference Protocol over REST, asked over HTTP/1.1 and, behind Envoy, HTTP/2."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from typing import Any

import httpx
import pytest

from cloister.api.oip.inference_pb2 import ModelInferRequest
from fakes.gateway_parts import infer_request
from fakes.running_rest import RestRig
from fakes.worker_link import FakeWorker

pytestmark = pytest.mark.asyncio(loop_scope="package")


def tensor(data: Any, **changes: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": "UINT8", "shape": [len(data)], "data": data, **changes}


async def test_metadata_and_health(rest: RestRig) -> None:
    client = await rest.client()
    nobody = await rest.client(name="")
    assert (await nobody.get("/v2/health/live")).json() == {"live": True}
    assert (await nobody.get("/v2/health/ready")).json() == {"ready": True}
    server = (await client.get("/v2")).json()
    assert server["name"] == "cloister"
    assert "binary_tensor_data" in server["extensions"]
    model = (await client.get("/v2/models/tiny")).json()
    assert model == (await client.get("/v2/models/tiny/versions/1")).json()
    assert model["inputs"] == [{"name": "x", "datatype": "UINT8", "shape": [-1]}]
    assert (await client.get("/v2/models/tiny/ready")).json() == {"name": "tiny", "ready": True}


async def test_json_in_and_out(rest: RestRig, worker: FakeWorker) -> None:
    client = await rest.client()
    request = {"id": "seven", "inputs": [tensor([1, 2, 255])], "outputs": [{"name": "x"}]}
    answer = (await client.post("/v2/models/tiny/infer", json=request)).json()
    assert answer["outputs"] == [{"name": "x", "datatype": "UINT8", "shape": [3], "data": [1, 2, 255]}]
    assert (answer["id"], answer["model_name"]) == ("seven", "tiny")
    assert worker.seen[0].tenant == f"spiffe://{rest.pki.cluster}/client/ann"


async def test_bytes_behind_the_json_both_ways(rest: RestRig) -> None:
    client = await rest.client()
    content = bytes(range(256)) * 5000
    given = {
        "name": "x",
        "datatype": "UINT8",
        "shape": [len(content)],
        "parameters": {"binary_data_size": len(content)},
    }
    for asked in ({"parameters": {"binary_data_output": True}}, {"outputs": [wanted(binary=True)]}):
        answer = await client.post("/v2/models/tiny/infer", **with_binary({"inputs": [given], **asked}, content))
        assert answer.headers["content-type"] == "application/octet-stream"
        length = int(answer.headers["inference-header-content-length"])
        [output] = json.loads(answer.content[:length])["outputs"]
        assert output["parameters"] == {"binary_data_size": len(content)}
        assert "data" not in output
        assert answer.content[length:] == content
    as_json = {"inputs": [given], "parameters": {"binary_data_output": True}, "outputs": [wanted(binary=False)]}
    answer = await client.post("/v2/models/tiny/infer", **with_binary(as_json, content))
    assert bytes(answer.json()["outputs"][0]["data"]) == content


def wanted(**parameters: bool) -> dict[str, Any]:
    return {"name": "x", "parameters": {f"{name}_data": value for name, value in parameters.items()}}


def with_binary(header: dict[str, Any], content: bytes) -> dict[str, Any]:
    text = json.dumps(header).encode()
    headers = {"inference-header-content-length": str(len(text)), "content-type": "application/octet-stream"}
    return {"content": text + content, "headers": headers}


@pytest.mark.parametrize(("coding", "coded"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_body_may_come_compressed(rest: RestRig, coding: str, coded: Any) -> None:
    body = coded(json.dumps({"inputs": [tensor([7] * 5000)]}).encode())
    answer = await (await rest.client()).post(
        "/v2/models/tiny/infer", content=body, headers={"content-encoding": coding, "content-type": "application/json"}
    )
    assert answer.json()["outputs"][0]["data"] == [7] * 5000
    assert "content-encoding" not in answer.headers


@pytest.mark.attack("G21")
async def test_a_bomb_is_refused_at_the_size_that_it_may_inflate_to(rest: RestRig, worker: FakeWorker) -> None:
    bomb = gzip.compress(bytes(64 << 20))
    answer = await (await rest.client()).post(
        "/v2/models/tiny/infer", content=bomb, headers={"content-encoding": "gzip"}
    )
    assert (answer.status_code, answer.json()["reason"]) == (413, "request.too_large")
    for body, coding, status in ((bomb[:50], "gzip", 400), (bomb + b"more", "gzip", 413), (b"{}", "br", 415)):
        answer = await (await rest.client()).post(
            "/v2/models/tiny/infer", content=body, headers={"content-encoding": coding}
        )
        assert answer.status_code == status, (coding, answer.text)
    assert not worker.seen


async def test_errors_have_the_protocols_form_and_the_status_of_their_kind(rest: RestRig) -> None:
    client, nobody = await rest.client(), await rest.client(name="")
    good = {"inputs": [tensor([1])]}
    cases: list[tuple[httpx.Response, int, str]] = [
        (await client.get("/v2/models/none"), 404, "name.unknown"),
        (await client.post("/v2/models/none/infer", json=good), 404, "name.unknown"),
        (await client.get("/v2/models/none/ready"), 404, "model.not_ready"),
        (await client.get("/nothing"), 404, "path.unknown"),
        (await client.get("/v2/models/tiny/infer"), 405, "method.not_allowed"),
        (await nobody.get("/v2"), 401, "identity.unknown"),
        (await nobody.post("/v2/models/tiny/infer", json=good), 401, "identity.unknown"),
        (await client.post("/v2/repository/models/tiny/load"), 403, "role.not_allowed"),
        (await client.post("/v2/models/tiny/infer", content=b"{}", headers=TEXT), 415, "media.unsupported"),
        (await client.post("/v2/models/tiny/infer", content=bytes(9 << 20)), 413, "request.too_large"),
        (await client.post("/v2/models/tiny/infer", json={**good, "x": 1}), 400, "request.invalid"),
        (await client.post("/v2/models/tiny/infer", content=b'{"id":"a","id":"b"}'), 400, "json.malformed"),
        (await client.post("/v2/models/tiny/infer", json=good, headers=OTHER_SITE), 403, "site.other"),
    ]
    for answer, status, reason in cases:
        assert (answer.status_code, answer.json()["reason"]) == (status, reason), answer.text
        assert isinstance(answer.json()["error"], str)
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
    assert cases[4][0].headers["allow"] == "POST"
    assert cases[5][0].headers["www-authenticate"] == "Bearer"


TEXT = {"content-type": "text/plain"}
OTHER_SITE = {"sec-fetch-site": "cross-site"}


async def test_what_the_gateway_refuses_for_grpc_it_refuses_here_in_the_same_words(rest: RestRig) -> None:
    client = await rest.client()
    for given, words in (
        (tensor([1], name="y"), "no input 'y'"),
        (tensor([[1]], shape=[1, 1]), "shape [1, 1], the model takes [-1]"),
        (tensor([1.5]), "an element is no UINT8"),
        (tensor([256]), "an element is no UINT8"),
        (tensor([1, 2], shape=[3]), "2 elements"),
        (tensor([1], datatype="FP16"), "JSON has no FP16"),
        ({**tensor([]), "parameters": {"shared_memory_region": "r"}}, "shared memory"),
    ):
        answer = await client.post("/v2/models/tiny/infer", json={"inputs": [given]})
        assert answer.status_code == 400
        assert words in answer.json()["error"]


async def test_too_many_at_a_time_are_told_when_to_come_again(rest: RestRig, worker: FakeWorker) -> None:
    client = await rest.client(name="crowd")
    worker.open_gate.clear()
    request = {"inputs": [tensor([1])]}
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client.post("/v2/models/tiny/infer", json=request)) for _ in range(90)]
        while not any(task.done() for task in tasks):  # noqa: ASYNC110 - across a wire
            await asyncio.sleep(0.01)
        worker.open_gate.set()
    answers = [task.result() for task in tasks]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.status_code for answer in answers} == {200, 429}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)


async def test_operators_see_and_order_models(rest: RestRig, worker: FakeWorker) -> None:
    operator = await rest.client("operator", "olga")
    index = (await operator.post("/v2/repository/index")).json()
    assert index == [{"name": "tiny", "version": "1", "state": "READY", "reason": ""}]
    assert (await operator.post("/v2/repository/index", json={"ready": True})).json() == index
    refused = await operator.post("/v2/repository/models/other/load", json={"parameters": {"config": "{}"}})
    assert refused.json()["reason"] == "parameter.unknown"
    assert (await operator.post("/v2/repository/models/other@3/load", json={})).json() == {}
    assert (await operator.get("/v2/models/other/versions/3")).status_code == 200
    assert (await operator.post("/v2/repository/models/other@3/unload")).status_code == 200
    assert (await operator.get("/v2/models/other")).status_code == 404


async def test_rows_of_the_older_forms_become_one_batch(rest: RestRig, worker: FakeWorker) -> None:
    client = await rest.client()
    for path in ("/v1/models/tiny:predict", "/models/tiny/versions/1/predict"):
        for rows in ([{"x": 1}, {"x": 2}], [1, 2]):
            answer = await client.post(path, json={"instances": rows})
            assert answer.json() == {"predictions": [1, 2]}, answer.text
    for rows, words in (
        ([], "empty"),
        ([{"x": 1}, {"y": 1}], "other inputs"),
        ([{"y": 1}], "no input"),
        (["!"], "base64"),
    ):
        answer = await client.post("/v1/models/tiny:predict", json={"instances": rows})
        assert answer.status_code == 400
        assert words in answer.json()["error"]


async def test_a_sealed_envelope_passes_as_json_and_as_bytes(rest: RestRig, worker: FakeWorker) -> None:
    client = await rest.client()
    envelope = bytes(range(256)) * 30
    sealed = {"cloister-seal": "v1", "cloister-workers": worker.instance}
    given = {"name": "sealed", "datatype": "UINT8", "shape": [len(envelope)]}
    as_bytes = {"inputs": [{**given, "parameters": {"binary_data_size": len(envelope)}}]}
    for asked in (
        {"json": {"inputs": [{**given, "data": list(envelope)}], "parameters": sealed}},
        with_binary({**as_bytes, "parameters": {**sealed, "binary_data_output": True}}, envelope),
    ):
        assert (await client.post("/v2/models/tiny/infer", **asked)).status_code == 200
        request = ModelInferRequest.FromString(worker.seen[-1].request)
        assert request.raw_input_contents[0] == envelope
        assert {name: value.string_param for name, value in request.parameters.items()} == sealed
    elsewhere = {"inputs": [{**given, "data": list(envelope)}], "parameters": {**sealed, "cloister-workers": "f" * 32}}
    assert (await client.post("/v2/models/tiny/infer", json=elsewhere)).status_code in (404, 503)


async def test_where_the_time_went_is_told_when_asked(rest: RestRig) -> None:
    client = await rest.client()
    answer = await client.post("/v2/models/tiny/infer", json={"inputs": [tensor([1])]}, headers={"server-timing": "1"})
    assert "compute;dur=" in answer.headers["server-timing"]


@pytest.mark.attack("G24")
async def test_a_client_that_leaves_gives_its_slot_back(rest: RestRig, worker: FakeWorker) -> None:
    client = await rest.client(name="leaver")
    worker.open_gate.clear()
    before = len(worker.seen)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        asked = group.create_task(client.post("/v2/models/tiny/infer", json={"inputs": [tensor([1])]}, timeout=60))
        while len(worker.seen) == before:  # noqa: ASYNC110 - across a wire
            await asyncio.sleep(0.02)
        asked.cancel()
        while not worker.cancelled:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    worker.open_gate.set()


async def test_http_2_and_grpc_are_spoken_where_envoy_is(rest: RestRig, worker: FakeWorker) -> None:
    client = await rest.client(http2=rest.engine == "envoy")
    answer = await client.post("/v2/models/tiny/infer", json={"inputs": [tensor([3])]})
    assert answer.http_version == ("HTTP/2" if rest.engine == "envoy" else "HTTP/1.1")
    assert answer.json()["outputs"][0]["data"] == [3]
    web = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
    message = infer_request()
    answer = await client.post(
        "/inference.GRPCInferenceService/ModelInfer",
        content=b"\0" + len(message).to_bytes(4, "big") + message,
        headers=web,
    )
    if rest.engine == "envoy":
        assert answer.headers["content-type"] == "application/grpc-web+proto"
        assert b"grpc-status:0" in answer.content.replace(b" ", b"")
    else:
        assert answer.status_code == 404
