"""A real gateway in this process, with a fake verifier and fake workers around it, all over mutual TLS."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc.aio

from cloister.api.oip.inference_pb2 import ModelInferResponse, ModelStreamInferResponse
from cloister.api.oip.inference_pb2_grpc import GRPCInferenceServiceStub
from cloister.api.v1.gateway_pb2 import GetStatusRequest, GetStatusResponse
from cloister.api.v1.gateway_pb2_grpc import GatewayStub
from cloister.gateway.app import opened
from cloister.gateway.faces import listening
from cloister.gateway.front import behind_envoy, envoy_module
from cloister.gateway.settings import Settings
from cloister.kit.lifecycle import Lifecycle
from cloister.rpc.channel import Peer
from cloister.rpc.spiffe import server_name
from fakes.attested_feed import AttestedFeed
from fakes.gateway_parts import infer_request
from fakes.pki import MeshPki
from fakes.worker_link import FakeWorker
from fakes.worker_mesh import WorkerMesh

FRONT = os.environ.get("CLOISTER_TEST_FRONT", "grpc")
"""`envoy` has every test of a running gateway ask one behind Envoy: the same answers, at more seconds a test."""
_INFERENCE = "/inference.GRPCInferenceService"


class RawStub:
    """The inference calls with bytes on both sides, for requests that no library would write."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.infer: Any = channel.unary_unary(f"{_INFERENCE}/ModelInfer")
        self.stream: Any = channel.stream_stream(f"{_INFERENCE}/ModelStreamInfer")


class Rig:
    """A gateway and everything around it.

    Attributes:
        feed: The verifier's word on who is attested.
        port: The gateway's.
        behind_envoy: Whether it runs inside Envoy, a process of its own.
        workers: By instance.
        inside: What is around a worker that is real; see `serving_mesh`.
    """

    def __init__(self, stack: AsyncExitStack, pki: MeshPki, feed: AttestedFeed, lifecycle: Lifecycle) -> None:
        self.pki = pki
        self.feed = feed
        self.lifecycle = lifecycle
        self.port = 0
        self.behind_envoy = False
        self.workers: dict[str, FakeWorker] = {}
        self.inside: WorkerMesh
        self._stack = stack

    async def worker(self, instance: str, slots: int = 4, **options: Any) -> FakeWorker:
        """Another worker, attested and linked."""
        worker = await self._stack.enter_async_context(FakeWorker(instance, slots, **options).serving(self.pki))
        self.workers[instance] = worker
        self.feed.join(worker.attested())
        await self.until_linked(instance)
        return worker

    async def peer(self, role: str = "client", name: str = "ann") -> Peer:
        """A handle on the gateway, as somebody."""
        pems = self.pki.identity(role, name)
        address = f"127.0.0.1:{self.port}"
        return await self._stack.enter_async_context(
            Peer(address, pems.held(), server_name(self.pki.cluster, "gateway"))
        )

    async def raw(self, name: str = "ann") -> RawStub:
        return (await self.peer(name=name)).stub(RawStub)

    async def oip(self, role: str = "client", name: str = "ann") -> GRPCInferenceServiceStub:
        return (await self.peer(role, name)).stub(GRPCInferenceServiceStub)

    async def status(self) -> GetStatusResponse:
        if not hasattr(self, "_operator"):
            self._operator = (await self.peer("operator", "olga")).stub(GatewayStub)
        answer: GetStatusResponse = await self._operator.GetStatus(GetStatusRequest(), timeout=5)
        return answer

    async def until(self, condition: Any) -> GetStatusResponse:
        """Ask for the gateway's status until it is as wanted; there is no event to wait for across a wire."""
        async with asyncio.timeout(10):
            while not condition(status := await self.status()):
                await asyncio.sleep(0.01)
        return status

    async def until_linked(self, *instances: str) -> None:
        wanted = set(instances)
        await self.until(lambda status: wanted <= {worker.instance for worker in status.workers if worker.linked})


@asynccontextmanager
async def running_gateway(folder: Path, pki: MeshPki, **options: Any) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        feed = await stack.enter_async_context(AttestedFeed().serving(pki))
        lifecycle = await stack.enter_async_context(Lifecycle.running())
        rig = Rig(stack, pki, feed, lifecycle)
        settings = Settings(
            cluster=pki.cluster,
            listen=f"127.0.0.1:{options.pop('port', 0)}",
            verifier=options.pop("verifier", f"127.0.0.1:{feed.port}"),
            tls=pki.identity("gateway", "main", ips=("127.0.0.1",)).write(folder / "tls"),
            **{"grace_s": 5.0, "front": FRONT, **options},
        )
        module = envoy_module(settings.front)
        if module is None:
            server = await stack.enter_async_context(opened(settings, lifecycle, listening))
            rig.port = server.port
            lifecycle.spawn(server.run(), "server")
            await server.start()
            yield rig
            return
        rig.port, rig.behind_envoy = free_port(), True
        settings = replace(settings, listen=f"127.0.0.1:{rig.port}")
        task = lifecycle.spawn(behind_envoy(settings, lifecycle, module), "envoy")
        try:
            await until_open(rig.port)
            yield rig
        finally:
            lifecycle.stop()
            await task


def free_port() -> int:
    """A port that was free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def until_open(port: int) -> None:
    """Wait until somebody listens; there is no event to wait for across a process."""
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.transport.abort()
                return


def who(answer: bytes | ModelInferResponse) -> str:
    """The worker that gave an answer."""
    response = ModelInferResponse.FromString(answer) if isinstance(answer, bytes) else answer
    return response.parameters["instance"].string_param


async def ask(stub: RawStub, request: bytes | None = None, timeout_s: float = 10, **fields: Any) -> ModelInferResponse:
    answer = await stub.infer(request if request is not None else infer_request(**fields), timeout=timeout_s)
    return ModelInferResponse.FromString(answer)


async def next_item(call: Any) -> ModelStreamInferResponse:
    async with asyncio.timeout(60):
        return ModelStreamInferResponse.FromString(await call.read())
