"""Where the time goes, seen from outside through a real gateway: trailers, parameters, pages, log lines."""

from __future__ import annotations

import asyncio
import io
import json
import urllib.request
from pathlib import Path

import pytest

from cloister.api.oip.inference_pb2 import ModelInferResponse
from cloister.api.v1.worker_pb2 import ModelCounters, WorkerCounters
from cloister.client.timing import Timing
from fakes.gateway_parts import A, infer_request
from fakes.pki import MeshPki
from fakes.running_gateway import Rig, free_port, next_item, running_gateway

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACED = ("traceparent", f"00-{TRACE}-b7ad6b7169203331-01")
TIMED = ("server-timing", "1")
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def lines_of(logged: io.StringIO, event: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in logged.getvalue().splitlines()]
    return [line for line in lines if line["event"] == event]


async def test_an_answer_says_where_its_time_went_to_who_asks(rig: Rig) -> None:
    worker = await rig.worker(A)
    stub, heard = await rig.raw(), list[tuple[str, str]]()
    answer = await stub.infer(infer_request(), timeout=10, metadata=(TIMED, TRACED), trailers=heard.extend)
    (line,) = [value for key, value in heard if key == "server-timing"]
    timing = Timing.parse(line, 1.0)
    assert timing.phases_s["compute"] == 0.003
    assert (timing.batch_requests, timing.batch_rows) == (1, 9)
    assert "not authenticated" in line
    assert worker.seen[0].trace_id.hex() == TRACE
    unasked = list[tuple[str, str]]()
    assert await stub.infer(infer_request(), timeout=10, trailers=unasked.extend) == answer
    assert "server-timing" not in dict(unasked)
    assert worker.seen[1].trace_id == b""


async def test_each_answer_of_a_stream_says_it_in_a_parameter(rig: Rig) -> None:
    worker = await rig.worker(A)
    call = (await rig.raw()).stream(timeout=10, metadata=(TIMED, TRACED))
    for identifier in "ab":
        await call.write(infer_request(identifier=identifier))
    await call.done_writing()
    for identifier in "ab":
        response = (await next_item(call)).infer_response
        assert response.id == identifier
        assert "deliver;dur=" in response.parameters["cloister-timing"].string_param
    assert {seen.trace_id.hex() for seen in worker.seen} == {TRACE}


async def test_the_worker_cannot_speak_for_the_gateway(rig: Rig) -> None:
    worker = await rig.worker(A)
    lie = ModelInferResponse()
    lie.parameters["cloister-timing"].string_param = "total;dur=0"
    worker.appended = lie.SerializeToString()
    call = (await rig.raw()).stream(timeout=10, metadata=(TIMED,))
    await call.write(infer_request())
    told = (await next_item(call)).infer_response.parameters["cloister-timing"].string_param
    assert told.startswith("queue;dur=")
    call.cancel()


async def test_log_lines_of_calls_name_their_trace(logged: io.StringIO, tmp_path: Path, pki: MeshPki) -> None:
    async with running_gateway(tmp_path, pki, log_requests=True) as rig:
        await rig.worker(A)
        stub = await rig.raw()
        await stub.infer(infer_request(), timeout=10, metadata=(TRACED,))
        await stub.infer(infer_request(), timeout=10)
        with pytest.raises(Exception, match="no such model"):
            await stub.infer(infer_request("none"), timeout=10, metadata=(TRACED,))
    answered = [line for line in lines_of(logged, "call.answered") if "ModelInfer" in str(line["method"])]
    assert [line.get("trace_id") for line in answered] == [TRACE, None, TRACE]


async def test_the_page_has_phases_examples_and_what_workers_count(tmp_path: Path, pki: MeshPki) -> None:
    port = free_port()
    async with running_gateway(tmp_path, pki, metrics_listen=f"127.0.0.1:{port}") as rig:
        worker = await rig.worker(A)
        stub = await rig.raw()
        await stub.infer(infer_request(), timeout=10, metadata=(TRACED,))
        worker.report(WorkerCounters(memory_bytes=77, models=[ModelCounters(name="tiny", version="1", requests=5)]))
        status = await rig.until(lambda status: status.workers[0].HasField("counters"))
        plain, openmetrics = [await asyncio.to_thread(page, port, accept) for accept in ("text/plain", OPENMETRICS)]
    assert status.workers[0].counters.models[0].requests == 5
    assert 'cloister_request_phase_seconds_count{model="tiny",phase="compute",version="1"} 1.0' in plain
    assert f'cloister_worker_memory_bytes{{worker="{A}"}} 77.0' in plain
    assert "trace_id" not in plain
    (example,) = [line for line in openmetrics.splitlines() if "trace_id" in line]
    assert example.startswith("cloister_request_seconds_bucket{")
    assert f'# {{trace_id="{TRACE}"}}' in example
    assert openmetrics.endswith("# EOF\n")


def page(port: int, accept: str) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=5) as answer:
        content: bytes = answer.read()
        return content.decode()
