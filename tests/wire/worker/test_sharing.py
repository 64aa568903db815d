"""Many requests at once over real links: each answer is that of OpenVINO in process, whatever shared its evaluation."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import numpy as np
import openvino as ov
import pytest

from cloister.api.oip.inference_pb2 import ModelInferResponse, ModelMetadataResponse
from cloister.api.v1.worker_pb2 import GatewayFrame, InferCall
from cloister.api.v1.worker_pb2_grpc import WorkerStub
from cloister.oip.tensors import decode_response, encode_request
from cloister.seal import envelope
from cloister.worker.tuning import Tunings
from fakes import clocks, networks
from fakes.sealing import Sealing

NETWORKS = {"tiny": networks.tiny, "wide": networks.wide}
CLOCKS = {"tiny": clocks.quick, "wide": clocks.slow}
CALLS, IN_FLIGHT = 120, 8


def inputs(seed):
    """One to four rows that no other request has."""
    return np.random.default_rng(seed).standard_normal((1 + seed % 4, networks.FEATURES)).astype(np.float32)


class InProcess:
    """OpenVINO's own answers, each to one request alone."""

    def __init__(self, model, hint):
        config = {"INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False, "PERFORMANCE_HINT": hint}
        self.request = ov.Core().compile_model(NETWORKS[model](), "CPU", config).create_infer_request()

    def sums(self, x):
        return self.request.infer({"x": x})["sum"].tobytes()


class Gateway:
    """Keeps calls in flight, and cancels some of them."""

    def __init__(self, stream, model, client, first_seed):
        self.stream, self.model, self.client, self.first_seed = stream, model, client, first_seed
        self.pending, self.found = {}, {}

    def call(self, number):
        seed = self.first_seed + number
        raw = encode_request(self.model, {"x": inputs(seed)}, outputs=("sum",)).SerializeToString()
        if seed % 3 == 0:
            raw, self.pending[number] = self.client.seal(raw)
        elif seed % 7 == 0:
            raw = encode_request(self.model, {"x": inputs(seed)[:, 1:]}).SerializeToString()  # one that fails
        return InferCall(call_id=number, request=raw, timeout_ms=20_000, tenant=f"tenant {seed % 2}")

    async def run(self):
        sent = 0
        while len(self.found) < CALLS:
            calls = []
            while sent < CALLS and sent - len(self.found) < IN_FLIGHT:
                sent += 1
                calls.append(self.call(sent))
            gone = [call.call_id for call in calls if call.call_id % 11 == 0]
            if calls:
                await self.stream.write(GatewayFrame(calls=calls))
            if gone:
                await self.stream.write(GatewayFrame(cancelled=gone))
            frame = await self.stream.read()
            assert hasattr(frame, "results"), "the link ended"
            self.found |= {result.call_id: result for result in frame.results}

    def check(self, truth):
        answered = 0
        for number, result in self.found.items():
            seed = self.first_seed + number
            if result.failure.reason == "call.cancelled":
                assert number % 11 == 0
                continue
            if seed % 3 and seed % 7 == 0:
                assert result.failure.error == "InvalidRequest"
                continue
            response = ModelInferResponse.FromString(result.response)
            if number in self.pending:
                opened = self.pending[number].open(envelope.sealed_response(response))
                response = ModelInferResponse.FromString(opened.response)
            assert decode_response(response)["sum"].tobytes() == truth.sums(inputs(seed))
            answered += 1
        return answered


@pytest.mark.attack("I07")
@pytest.mark.attack("I08")
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("model", NETWORKS)
async def test_two_gateways_at_once_and_every_answer_is_that_of_openvino_alone(mesh, tmp_path, model, apart):
    if model != "tiny":
        mesh.provisioner.publish(tmp_path / "models", model, 1, networks.ir(NETWORKS[model](), tmp_path))
    async with AsyncExitStack() as stack:
        settings = mesh.settings(models=(model,), tenants_apart=apart, max_batch_rows=8)
        worker = await stack.enter_async_context(mesh.worker(settings, Tunings(CLOCKS[model]())))
        peer = await stack.enter_async_context(worker.peer("gateway"))
        await peer.ready(10)
        gateways = []
        for number in range(2):
            stream = peer.stub(WorkerStub).Link(timeout=60)
            stack.callback(stream.cancel)
            state = await served(stream)
            gateways.append(Gateway(stream, model, Sealing(mesh, model), 1000 * number))
        properties = ModelMetadataResponse.FromString(state.metadata).properties
        assert properties["precision"] == "f32"
        assert properties["max_batch_rows"] == "8"
        assert properties["inline"] == ("true" if model == "tiny" else "false")
        async with asyncio.timeout(40), asyncio.TaskGroup() as group:
            for gateway in gateways:
                group.create_task(gateway.run())
        truth = InProcess(model, properties["performance_hint"])
        assert all(gateway.check(truth) > CALLS / 2 for gateway in gateways)


async def served(stream):
    async with asyncio.timeout(20):
        while True:
            frame = await stream.read()
            if frame.models and not frame.models[0].state:  # it is ready
                return frame.models[0]
