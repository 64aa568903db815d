"""Calls that are not what they seem: metadata that claims, paths that nearly match, other protocols, other services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.empty_pb2 import Empty
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from cloister.api.v1.gateway_pb2 import GetStatusRequest
from cloister.api.v1.gateway_pb2_grpc import GatewayStub
from cloister.errors import CloisterError, InvalidRequest, NotAllowed
from fakes.gateway_parts import infer_request
from fakes.http2_client import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE,
    RST,
    connected,
    frame,
    headers,
    message,
    read_frame,
    settings,
    tls_context,
)
from fakes.pki import MeshPki
from fakes.running_gateway import RawStub, Rig, running_gateway
from fakes.worker_link import FakeWorker

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
WORKER = "a" * 32
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["grpc", "envoy"])
async def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with running_gateway(tmp_path_factory.mktemp("gateway"), MeshPki(), front=request.param) as made:
        await made.worker(WORKER)
        yield made


@pytest.fixture
def worker(rig: Rig) -> FakeWorker:
    rig.workers[WORKER].seen.clear()
    return rig.workers[WORKER]


async def said(rig: Rig, folder: Path, block: bytes, body: bytes | None = b"") -> bytes:
    """All that comes back, headers and data as they stand on the wire, for one raw call of the client ann.

    Without a body the request ends with its headers.
    """
    context = tls_context(rig.pki, folder, role="client", name="ann")
    answer = b""
    async with connected(rig.port, context, f"gateway.{rig.pki.cluster}") as (reader, writer):
        flags = END_HEADERS | (END_STREAM if body is None else 0)
        writer.write(PREFACE + settings() + frame(HEADERS, block, flags=flags, stream=1))
        if body is not None:
            writer.write(frame(DATA, message(body), flags=END_STREAM, stream=1))
        while (found := await read_frame(reader)) is not None:
            kind, flags, stream, payload = found
            if stream == 1 and kind in (HEADERS, DATA):
                answer += payload
            if kind in (RST, GOAWAY) or (stream == 1 and flags & END_STREAM):
                break
    return answer


@pytest.mark.attack("G23")
@pytest.mark.parametrize(
    "claims",
    [
        (
            ("x-tenant", "bob"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-client-cert", "URI=spiffe://x/client/bob"),
        ),
        (("authorization", "Bearer one"), ("authorization", "Bearer two"), ("x-spiffe-id", "spiffe://x/operator/olga")),
        (("cloister-tenant-bin", b"\0\xff\n\r"), ("x-real-ip", "127.0.0.1")),
    ],
)
async def test_metadata_makes_nobody_somebody_else(rig: Rig, worker: FakeWorker, claims: Any) -> None:
    peer = await rig.peer("client", "ann")
    infer: Any = peer.stub(lambda channel: channel.unary_unary(INFER))
    await infer(infer_request(), timeout=5, metadata=claims)
    assert [call.tenant for call in worker.seen] == [f"spiffe://{rig.pki.cluster}/client/ann"]
    with pytest.raises(NotAllowed):
        await peer.stub(GatewayStub).GetStatus(GetStatusRequest(), timeout=5, metadata=claims)


@pytest.mark.attack("G23")
async def test_a_header_of_a_megabyte_is_refused(rig: Rig, worker: FakeWorker) -> None:
    infer: Any = (await rig.peer()).stub(lambda channel: channel.unary_unary(INFER))
    with pytest.raises(CloisterError):
        await infer(infer_request(), timeout=5, metadata=(("x-large", "v" * (1 << 20)),))
    assert not worker.seen


@pytest.mark.attack("G23")
@pytest.mark.parametrize(
    "more",
    [
        {"x-bin": "%%% no base64"},
        {"x-broken": "a\r\nx-tenant: bob"},
        {"x-nul": "a\0b"},
        {"x-latin": "\xff"},
        {":authority": "\xff"},
        {"user-agent": "\xff"},
        {"traceparent": "\xff"},
        {"grpc-timeout": "soon"},
        {"grpc-timeout": "99999999H"},
        {"grpc-encoding": "gzip"},
        {"content-length": "3"},
        {"content-length": "99999"},
        {"expect": "100-continue"},
        {"te": ""},
        {"X-Cloister-Peer": "bob"},
        {"x_cloister_peer": "bob"},
        {"x-cloister-peer ": "bob"},
        {":method": "CONNECT", ":protocol": "websocket"},
    ],
)
async def test_headers_that_no_client_writes_change_nothing(
    rig: Rig, worker: FakeWorker, tmp_path: Path, more: dict[str, str]
) -> None:
    """They are ignored, or the call is refused; either way nobody is taken for another."""
    await said(rig, tmp_path, headers(INFER, more), infer_request())
    assert {call.tenant for call in worker.seen} <= {f"spiffe://{rig.pki.cluster}/client/ann"}
    assert (await (await rig.raw()).infer(infer_request(), timeout=5)) is not None


@pytest.mark.attack("G28")
@pytest.mark.parametrize(
    "method",
    [
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/grpc.channelz.v1.Channelz/GetServers",
        "/grpc.health.v1.Health/Watch",
        "/grpc.health.v1.Health/List",
        "/cloister.api.v1.Gateway/GetStatus",
    ],
)
async def test_clients_find_nothing_that_tells_of_the_inside(rig: Rig, method: str) -> None:
    peer = await rig.peer("client", "ann")
    call: Any = peer.stub(lambda channel: channel.unary_unary(method, request_serializer=Empty.SerializeToString))
    with pytest.raises((NotAllowed, InvalidRequest)):
        await call(Empty(), timeout=5)


@pytest.mark.attack("G28")
async def test_health_says_serving_and_nothing_of_workers_or_models(rig: Rig) -> None:
    peer = await rig.peer("client", "ann")
    check: Any = peer.stub(
        lambda channel: channel.unary_unary(
            "/grpc.health.v1.Health/Check", HealthCheckRequest.SerializeToString, HealthCheckResponse.FromString
        )
    )
    for service in ("", "inference.GRPCInferenceService", "cloister.api.v1.Gateway"):  # as probes ask
        answer = await check(HealthCheckRequest(service=service), timeout=5)
        assert answer == HealthCheckResponse(status=HealthCheckResponse.SERVING)
    for service in ("tiny", WORKER, "cloister.api.v1.Worker"):
        with pytest.raises(CloisterError):
            await check(HealthCheckRequest(service=service), timeout=5)


@pytest.mark.attack("G28")
@pytest.mark.parametrize("path", ["/metrics", "/debug", "/v2", "/"])
async def test_the_port_of_clients_serves_no_page(rig: Rig, tmp_path: Path, path: str) -> None:
    context = tls_context(rig.pki, tmp_path, role="client", name="ann", protocol="http/1.1")
    try:
        async with connected(rig.port, context, f"gateway.{rig.pki.cluster}") as (reader, writer):
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            answer = await reader.read()
    except OSError:
        answer = b""
    assert b"HTTP/1" not in answer
    assert b"cloister" not in answer


@pytest.mark.attack("G29")
@pytest.mark.parametrize(
    "path",
    [
        "/inference.GRPCInferenceService/modelinfer",
        "/inference.GRPCInferenceService/ModelInfer/",
        "//inference.GRPCInferenceService/ModelInfer",
        "/inference.GRPCInferenceService%2FModelInfer",
        "/x/../inference.GRPCInferenceService/ModelInfer",
        "/inference.GRPCInferenceService/ModelInfer?x=1",
        "/cloister.api.v1.Worker/Link",
        "/cloister.api.v1.Verifier/Challenge",
        "",
        "*",
        "/%ff",
    ],
)
async def test_a_path_that_is_nearly_one_reaches_nothing(
    rig: Rig, worker: FakeWorker, tmp_path: Path, path: str
) -> None:
    answer = await said(rig, tmp_path, headers(path), infer_request())
    assert b"\x00\x00" not in answer[:2]
    assert infer_request()[-4:] not in answer
    assert not worker.seen


@pytest.mark.attack("G29")
async def test_a_path_of_bytes_that_are_no_text_ends_nothing_for_good(
    rig: Rig, worker: FakeWorker, tmp_path: Path
) -> None:
    """GRPC's asyncio server gives up at such a path, and begins anew; Envoy refuses it."""
    for _ in range(2):
        await said(rig, tmp_path, headers("/\xff\xfe"), infer_request())
        async with asyncio.timeout(10):
            while not await _served(await rig.raw()):  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.05)


async def _served(stub: RawStub) -> bool:
    try:
        return bool(await stub.infer(infer_request(), timeout=1))
    except (CloisterError, TimeoutError):
        return False


@pytest.mark.attack("G29")
@pytest.mark.parametrize(("method", "code"), [(INFER, b"3"), (STREAM, b"0")])
async def test_a_request_that_ends_with_its_headers_has_no_message(
    rig: Rig, worker: FakeWorker, tmp_path: Path, method: str, code: bytes
) -> None:
    assert b"\x01" + code in await said(rig, tmp_path, headers(method), None)
    assert not worker.seen


@pytest.mark.attack("G29")
@pytest.mark.parametrize("more", [{":method": "GET"}, {":method": "DELETE"}])
async def test_a_call_that_is_no_post_is_refused(
    rig: Rig, worker: FakeWorker, tmp_path: Path, more: dict[str, str]
) -> None:
    await said(rig, tmp_path, headers(INFER, more), infer_request())
    assert not worker.seen


@pytest.mark.attack("G29")
@pytest.mark.parametrize(
    "more", [{"content-type": "application/json"}, {"transfer-encoding": "chunked"}, {"connection": "upgrade"}]
)
async def test_another_content_type_is_no_way_round(
    rig: Rig, worker: FakeWorker, tmp_path: Path, more: dict[str, str]
) -> None:
    """GRPC's core does not look at these headers: the call is a gRPC call, with all that is checked of one."""
    await said(rig, tmp_path, headers(INFER, more), infer_request())
    assert {call.tenant for call in worker.seen} <= {f"spiffe://{rig.pki.cluster}/client/ann"}
    answer = await said(rig, tmp_path, headers("/cloister.api.v1.Gateway/GetStatus", more))
    if rig.behind_envoy:
        assert b"415" in answer or not answer
    else:
        assert b"grpc-status\x017" in answer  # PERMISSION_DENIED
