"""Clients and workers that speak the last release, and today's gateway between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelMetadataRequest, ServerReadyRequest
from cloister.api.oip.inference_pb2_grpc import GRPCInferenceServiceStub
from cloister.api.v1.gateway_pb2 import GetStatusRequest, ListWorkersRequest
from cloister.api.v1.gateway_pb2_grpc import GatewayStub
from cloister.api.v1.worker_pb2 import GatewayFrame, WorkerFrame
from fakes.gateway_parts import A, infer_request
from fakes.released_wire import Then, as_understood
from fakes.running_gateway import Rig, who
from fakes.worker_link import FakeWorker

CALL_S = 10


class WorkerThen(FakeWorker):
    """A worker of the last release: what it does not know it does not hear, and it says nothing else either."""

    async def Link(self, request_iterator: AsyncIterator[GatewayFrame], context: Any) -> None:
        heard = (as_understood(frame) async for frame in request_iterator)
        await super().Link(heard, _Says(context))


class _Says:
    def __init__(self, context: Any) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def write(self, frame: WorkerFrame) -> None:
        await self._context.write(as_understood(frame))


@pytest.fixture
async def worker(rig: Rig) -> AsyncIterator[FakeWorker]:
    async with WorkerThen(A).serving(rig.pki) as worker:
        rig.feed.join(worker.attested())
        await rig.until_linked(A)
        yield worker


async def test_its_clients_are_answered_by_its_workers(rig: Rig, worker: FakeWorker) -> None:
    oip: Any = Then(await rig.peer()).stub(GRPCInferenceServiceStub)
    assert (await oip.ServerReady(ServerReadyRequest(), timeout=CALL_S)).ready
    assert (await oip.ModelMetadata(ModelMetadataRequest(name="tiny"), timeout=CALL_S)).inputs[0].name == "x"
    request = ModelInferRequest.FromString(infer_request(identifier="r-1", tensor=b"content"))
    answer = await oip.ModelInfer(request, timeout=CALL_S)
    assert (answer.id, answer.raw_output_contents[0], who(answer)) == ("r-1", b"content", A)
    call = oip.ModelStreamInfer(timeout=CALL_S)
    await call.write(request)
    async with asyncio.timeout(CALL_S):
        item = await call.read()
    assert item.infer_response.raw_output_contents[0] == b"content"
    call.cancel()


async def test_its_clients_hear_who_serves_and_its_operators_how_it_goes(rig: Rig, worker: FakeWorker) -> None:
    client: Any = Then(await rig.peer()).stub(GatewayStub)
    listed = await client.ListWorkers(ListWorkersRequest(model_name="tiny"), timeout=CALL_S)
    assert [(each.instance, each.bundle.attestation_result) for each in listed.workers] == [(A, "not.a.token")]
    operator: Any = Then(await rig.peer("operator", "olga")).stub(GatewayStub)
    status = await operator.GetStatus(GetStatusRequest(), timeout=CALL_S)
    assert [(each.instance, each.linked) for each in status.workers] == [(A, True)]
