"""Spans of requests, at a real collector: the caller's trace goes on, and only what may be told is in them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from cloister.errors import CloisterError, InvalidRequest, NotFound, NotReady
from cloister.gateway.spans import LINK, PLACED
from fakes.collector import Collector, told
from fakes.collector_settings import allowed_keys, receiver_credentials
from fakes.gateway_parts import A, infer_request
from fakes.pki import MeshPki
from fakes.running_gateway import Rig, free_port, next_item, running_gateway

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACED = (("traceparent", f"00-{TRACE}-{PARENT}-01"),)
UNSAMPLED = (("traceparent", f"00-{TRACE}-{PARENT}-00"),)
NAMES = ["infer tiny", "queue", LINK, "deliver", "open", "wait", "compute", "serialise"]


def server_side(pki: MeshPki) -> grpc.ServerCredentials:
    pems = pki.identity("verifier", "collector", ips=("127.0.0.1",))
    return grpc.ssl_server_credentials([(pems.private_key, pems.certificate)])


def roots_file(folder: Path, pki: MeshPki) -> Path:
    folder.mkdir(exist_ok=True)
    roots = folder / "collector-roots.pem"
    roots.write_bytes(pki.roots_pem)
    return roots


@asynccontextmanager
async def traced(tmp_path: Path, pki: MeshPki, collector: Collector, **options: Any) -> AsyncIterator[Rig]:
    """A gateway that sends spans over TLS; all of them have come when the block has ended."""
    roots = await asyncio.to_thread(roots_file, tmp_path, pki)
    settings = {"otlp_endpoint": f"https://127.0.0.1:{collector.port}", "otlp_ca": roots, "otlp_ratio": 0.0, **options}
    async with running_gateway(tmp_path, pki, **settings) as rig:
        await rig.worker(A)
        yield rig


def by_name(spans: list[Span]) -> dict[str, Span]:
    return {span.name: span for span in spans}


async def test_a_traced_request_is_a_tree_of_spans_below_its_callers(tmp_path: Path, pki: MeshPki) -> None:
    async with Collector().serving(server_side(pki)) as collector:
        began_ns = time.time_ns()
        async with traced(tmp_path, pki, collector) as rig:
            await (await rig.raw()).infer(infer_request(tensor=b"secret tensor"), timeout=10, metadata=TRACED)
    spans = by_name(collector.spans)
    assert sorted(spans) == sorted(NAMES)
    root, link = spans["infer tiny"], spans[LINK]
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
    assert (root.parent_span_id.hex(), root.kind) == (PARENT, Span.SPAN_KIND_SERVER)
    assert root.status.code == Status.STATUS_CODE_UNSET
    for name in ("queue", LINK, "deliver"):
        assert spans[name].parent_span_id == root.span_id
    for name in ("open", "wait", "compute", "serialise"):
        assert spans[name].parent_span_id == link.span_id
    assert spans["compute"].end_time_unix_nano - spans["compute"].start_time_unix_nano == pytest.approx(3e6, abs=2000)
    assert began_ns <= root.start_time_unix_nano <= spans["queue"].end_time_unix_nano <= root.end_time_unix_nano
    assert told(root) == {
        "rpc.system": "grpc",
        "rpc.service": "inference.GRPCInferenceService",
        "cloister.model.name": "tiny",
        "cloister.model.version": "1",
        "cloister.request.sealed": False,
        "cloister.request.bytes": len(infer_request(tensor=b"secret tensor")),
    }
    assert told(link) == {
        "rpc.system": "grpc",
        "cloister.worker": A,
        "cloister.timing": PLACED,
        "cloister.batch.requests": 1,
        "cloister.batch.rows": 9,
    }
    sent = collector.requests[0].SerializeToString()
    assert b"secret tensor" not in sent
    assert b"client/ann" not in sent
    assert b"cloister-gateway" in sent


async def test_requests_of_a_stream_and_failures_are_traced_too(tmp_path: Path, pki: MeshPki) -> None:
    async with (
        Collector().serving(server_side(pki)) as collector,
        traced(tmp_path, pki, collector, otlp_tenants=True) as rig,
    ):
        call = (await rig.raw()).stream(timeout=10, metadata=TRACED)
        for name in ("tiny", "made-up-by-a-client"):
            await call.write(infer_request(name))
            await next_item(call)
        await call.done_writing()
        with pytest.raises(NotFound):
            await (await rig.raw()).infer(infer_request("made-up-by-a-client"), timeout=10, metadata=TRACED)
        await collector.until(len(NAMES) + 2)
    roots = [span for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER]
    assert [span.name for span in roots] == ["infer tiny", "infer", "infer"]
    assert [told(span).get("error.type") for span in roots] == [None, "NotFound", "NotFound"]
    assert {told(span)["cloister.tenant"] for span in roots} == {f"spiffe://{pki.cluster}/client/ann"}
    assert b"made-up" not in b"".join(request.SerializeToString() for request in collector.requests)


async def test_who_is_traced_is_the_callers_choice_or_one_in_so_many(tmp_path: Path, pki: MeshPki) -> None:
    async with Collector().serving(server_side(pki)) as collector:
        async with traced(tmp_path / "none", pki, collector) as rig:
            stub = await rig.raw()
            await stub.infer(infer_request(), timeout=10)
            await stub.infer(infer_request(), timeout=10, metadata=UNSAMPLED)
        assert collector.asked == 0
        async with traced(tmp_path / "all", pki, collector, otlp_ratio=1.0) as rig:
            stub = await rig.raw()
            await stub.infer(infer_request(), timeout=10)
            await stub.infer(infer_request(), timeout=10, metadata=UNSAMPLED)
    (root,) = [span for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER]
    assert root.parent_span_id == b""
    assert root.trace_id.hex() != TRACE
    assert len(collector.spans) == len(NAMES)


@pytest.mark.attack("G27")
async def test_spans_go_to_no_host_but_the_configured_one(
    tmp_path: Path, pki: MeshPki, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Collector().serving() as elsewhere, Collector().serving(server_side(pki)) as collector:
        for variable in ("http_proxy", "https_proxy", "grpc_proxy", "OTEL_EXPORTER_OTLP_ENDPOINT"):
            monkeypatch.setenv(variable, f"http://127.0.0.1:{elsewhere.port}")
        async with traced(tmp_path, pki, collector) as rig:
            await (await rig.raw()).infer(infer_request(), timeout=10, metadata=TRACED)
    assert len(collector.spans) == len(NAMES)
    assert elsewhere.asked == 0


@pytest.mark.attack("G27")
async def test_a_collector_that_cannot_show_who_it_is_gets_nothing(tmp_path: Path, pki: MeshPki) -> None:
    async with Collector().serving(server_side(MeshPki())) as impostor, traced(tmp_path, pki, impostor) as rig:
        answer = await (await rig.raw()).infer(infer_request(), timeout=10, metadata=TRACED)
    assert answer
    assert impostor.asked == 0


def sender(folder: Path, pki: MeshPki) -> dict[str, Path]:
    """Settings of a gateway that says who it is to the collector."""
    files = pki.identity("client", "gateway-1").write(folder / "sender")
    return {"otlp_certificate": files.certificate, "otlp_private_key": files.private_key}


async def test_a_collector_by_our_settings_is_sent_spans_and_lets_all_of_each_but_the_tenant_through(
    tmp_path: Path, pki: MeshPki
) -> None:
    senders = MeshPki()
    own = pki.identity("verifier", "collector", ips=("127.0.0.1",))
    sends = await asyncio.to_thread(sender, tmp_path, senders)
    async with (
        Collector().serving(receiver_credentials(own, senders.roots_pem)) as collector,
        traced(tmp_path, pki, collector, otlp_tenants=True, **sends) as rig,
    ):
        await (await rig.raw()).infer(infer_request(), timeout=10, metadata=TRACED)
        with pytest.raises(NotFound):
            await (await rig.raw()).infer(infer_request("unknown"), timeout=10, metadata=TRACED)
    keys = {key for span in collector.spans for key in told(span)}
    of_the_sender = {
        each.key
        for request in collector.requests
        for spans in request.resource_spans
        for each in spans.resource.attributes
    }
    assert {key for key in of_the_sender if not key.startswith("telemetry.sdk.")} | keys - {
        "cloister.tenant"
    } == allowed_keys()


@pytest.mark.attack("G27")
@pytest.mark.parametrize("shown", ["nothing", "another's"])
async def test_a_collector_by_our_settings_takes_nothing_from_who_does_not_say_who_it_is(
    tmp_path: Path, pki: MeshPki, shown: str
) -> None:
    own = pki.identity("verifier", "collector", ips=("127.0.0.1",))
    sends = await asyncio.to_thread(sender, tmp_path, MeshPki()) if shown == "another's" else {}
    async with Collector().serving(receiver_credentials(own, MeshPki().roots_pem)) as collector:
        async with traced(tmp_path, pki, collector, **sends) as rig:
            assert await (await rig.raw()).infer(infer_request(), timeout=10, metadata=TRACED)
        assert collector.asked == 0


async def test_a_collector_that_is_away_or_refuses_holds_nothing_up(tmp_path: Path, pki: MeshPki) -> None:
    async with Collector().serving(server_side(pki)) as collector:
        collector.refuse = grpc.StatusCode.PERMISSION_DENIED
        async with traced(tmp_path / "refused", pki, collector, otlp_ratio=1.0) as rig:
            stub = await rig.raw()
            for _ in range(300):
                await stub.infer(infer_request(), timeout=10)
    assert collector.asked > 0
    async with asyncio.timeout(20):
        endpoint = f"http://127.0.0.1:{free_port()}"
        async with traced(tmp_path / "away", pki, collector, otlp_endpoint=endpoint) as rig:
            assert await (await rig.raw()).infer(infer_request(), timeout=10, metadata=TRACED)


@pytest.mark.parametrize(("missing", "refusal"), [("otlp_ca", InvalidRequest), ("otlp_certificate", NotReady)])
async def test_a_file_for_the_collector_that_cannot_be_read_is_named_before_anything_begins(
    tmp_path: Path, pki: MeshPki, missing: str, refusal: type[CloisterError]
) -> None:
    files = {**await asyncio.to_thread(sender, tmp_path, pki), missing: tmp_path / "nowhere.pem"}
    with pytest.raises(refusal, match=r"nowhere\.pem"):
        async with running_gateway(tmp_path, pki, otlp_endpoint="https://127.0.0.1:4317", **files):
            pass


async def test_a_key_for_the_collector_that_others_can_read_is_refused(tmp_path: Path, pki: MeshPki) -> None:
    files = await asyncio.to_thread(sender, tmp_path, pki)
    files["otlp_private_key"].chmod(0o640)
    with pytest.raises(NotReady, match="open to other users"):
        async with running_gateway(tmp_path, pki, otlp_endpoint="https://127.0.0.1:4317", **files):
            pass
