"""The listener for operators: what gRPC's own tools find there, and that nobody else finds anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf import message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from cloister.errors import CloisterError, InvalidRequest, NotAllowed, NotReady
from cloister.gateway.operator_listener import HEALTH
from cloister.gateway.reflection import REFLECTION
from cloister.gateway.servicer import GATEWAY, INFERENCE
from cloister.rpc.channel import Peer
from cloister.rpc.spiffe import server_name
from fakes.gateway_parts import A, infer_request
from fakes.pki import MeshPki
from fakes.running_gateway import RawStub, Rig, free_port, running_gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")
PORT = free_port()
SERVING = health_pb2.HealthCheckResponse.SERVING


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["grpc", "envoy"])
async def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    folder, listen = tmp_path_factory.mktemp("gateway"), f"127.0.0.1:{PORT}"
    async with running_gateway(folder, MeshPki(), front=request.param, operator_listen=listen) as made:
        await made.worker(A)
        yield made


@contextmanager
def channel(rig: Rig, role: str = "operator", port: int = PORT) -> Iterator[grpc.Channel]:
    """A synchronous channel, as gRPC's tools have one."""
    pems = rig.pki.identity(role, "olga")
    credentials = grpc.ssl_channel_credentials(pems.trust_roots, pems.private_key, pems.certificate)
    name = (("grpc.ssl_target_name_override", server_name(rig.pki.cluster, "gateway")),)
    with grpc.secure_channel(f"127.0.0.1:{port}", credentials, options=name) as opened:
        yield opened


def reached(rig: Rig, role: str) -> Peer:
    name = server_name(rig.pki.cluster, "gateway")
    return Peer(f"127.0.0.1:{PORT}", rig.pki.identity(role, "olga").held(), name)


async def test_a_tool_that_knows_nothing_finds_the_services_and_calls_one(rig: Rig) -> None:
    def ask() -> Any:
        with channel(rig) as opened:
            found = ProtoReflectionDescriptorDatabase(opened)
            assert set(found.get_services()) == {GATEWAY, HEALTH, *REFLECTION}
            method = DescriptorPool(found).FindServiceByName(GATEWAY).FindMethodByName("GetStatus")
            request, response = map(message_factory.GetMessageClass, (method.input_type, method.output_type))
            call = opened.unary_unary(
                f"/{GATEWAY}/GetStatus",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=response.FromString,
            )
            return call(request(), timeout=30)

    status = await asyncio.to_thread(ask)
    assert [worker.instance for worker in status.workers] == [A]


async def test_the_inference_protocol_is_described_under_its_standard_names(rig: Rig) -> None:
    """Its descriptors lie in a pool of their own (docs/decisions/0006)."""

    def ask() -> Any:
        with channel(rig) as opened:
            pool = DescriptorPool(ProtoReflectionDescriptorDatabase(opened))
            return pool.FindServiceByName(INFERENCE).FindMethodByName("ModelInfer").input_type.full_name

    assert await asyncio.to_thread(ask) == "inference.ModelInferRequest"


@pytest.mark.parametrize("service", ["cloister.Nothing", "cloister.api.v1.Provisioner"])
async def test_what_is_not_the_gateways_is_not_described(rig: Rig, service: str) -> None:
    def ask() -> None:
        with channel(rig) as opened:
            DescriptorPool(ProtoReflectionDescriptorDatabase(opened)).FindServiceByName(service)

    with pytest.raises(KeyError):
        await asyncio.to_thread(ask)


@pytest.mark.parametrize("service", ["", GATEWAY, INFERENCE])
async def test_a_health_probe_is_told_of_each_service(rig: Rig, service: str) -> None:
    def probe() -> tuple[int, int]:
        with channel(rig) as opened:
            stub = health_pb2_grpc.HealthStub(opened)
            request = health_pb2.HealthCheckRequest(service=service)
            watch = stub.Watch(request, timeout=30)
            seen = next(watch).status
            watch.cancel()
            return stub.Check(request, timeout=30).status, seen

    assert await asyncio.to_thread(probe) == (SERVING, SERVING)


async def test_a_health_probe_hears_not_found_of_a_service_that_is_none(rig: Rig) -> None:
    def probe() -> Any:
        with channel(rig) as opened, pytest.raises(grpc.RpcError) as caught:
            health_pb2_grpc.HealthStub(opened).Check(health_pb2.HealthCheckRequest(service="tiny"), timeout=30)
        return caught.value

    assert (await asyncio.to_thread(probe)).code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.attack("G28")
@pytest.mark.parametrize("role", ["client", "owner", "auditor", "gateway", "worker"])
async def test_it_answers_operators_and_nobody_else(rig: Rig, role: str) -> None:
    methods = (f"/{HEALTH}/Check", f"/{HEALTH}/Watch", f"/{GATEWAY}/GetStatus", *(f"/{n}/{m}" for n, m in _INFO))
    async with reached(rig, role) as peer:
        for method in methods:
            call: Any = peer.stub(lambda channel, method=method: channel.unary_unary(method))
            with pytest.raises(NotAllowed):
                await call(b"", timeout=30)


_INFO = [(name, "ServerReflectionInfo") for name in REFLECTION]


@pytest.mark.attack("G28")
@pytest.mark.parametrize("service", REFLECTION)
@pytest.mark.parametrize("role", ["client", "operator"])
async def test_on_the_clients_listener_nobody_finds_reflection(rig: Rig, role: str, service: str) -> None:
    peer = await rig.peer(role, "olga")
    call: Any = peer.stub(lambda channel: channel.unary_unary(f"/{service}/ServerReflectionInfo"))
    with pytest.raises(InvalidRequest) as caught:
        await call(b"", timeout=30)
    assert caught.value.reason == "method.unknown"


async def test_models_are_asked_at_the_other_listener(rig: Rig) -> None:
    async with reached(rig, "operator") as peer:
        with pytest.raises(CloisterError):
            await peer.stub(RawStub).infer(infer_request(), timeout=30)
    assert rig.workers[A].seen == []


async def test_an_address_that_is_taken_is_said(rig: Rig, tmp_path: Path) -> None:
    with pytest.raises(NotReady, match=f"cannot listen on 127.0.0.1:{PORT}"):
        async with running_gateway(tmp_path, rig.pki, front="grpc", operator_listen=f"127.0.0.1:{PORT}"):
            raise AssertionError("unreachable")
