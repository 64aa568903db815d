"""A worker that speaks Link and infers nothing: it answers each request with its own tensors.

It behaves: it grants its slots, answers every call once (a cancelled one too, for only then is its slot free), batches
what is ready into one frame, and drains when told. Switches make it slow, silent, dead or a cheat.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelInferResponse
from cloister.api.v1.verifier_pb2 import AttestedWorker
from cloister.api.v1.worker_pb2 import (
    GatewayFrame,
    InferCall,
    InferResult,
    ModelOrder,
    ModelState,
    OrderResult,
    WorkerCounters,
    WorkerFrame,
    WorkerReport,
)
from cloister.api.v1.worker_pb2_grpc import WorkerServicer, add_WorkerServicer_to_server
from cloister.errors import CloisterError
from cloister.rpc.channel import MAX_MESSAGE_BYTES
from cloister.rpc.identity import spki_sha256
from cloister.rpc.spiffe import server_name
from cloister.rpc.status import failure_of
from cloister.worker.link import REPORT_S
from fakes.gateway_parts import evaluation, model_state, report
from fakes.pki import MeshPki

_OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
)


Outbox = asyncio.Queue[WorkerFrame | None]
"""What a link's writer sends; None cuts the link."""


class FakeWorker(WorkerServicer):
    """One worker.

    Attributes:
        slow_s: Pause before each answer.
        open_gate: While cleared, calls are taken and not answered.
        heard: While cleared, nothing that it says leaves it, as where the network swallows it.
        tamper: What it does wrong with the next answer: unknown, twice, slots, empty, garbage.
        appended: Bytes after each response.
        seen: Every call that it was ever given.
        orders: Every order that it was given.
        refusal: Answered to orders, in place of obeying; obeyed, they change the list of models.
        refused: Answered in clear to calls, in place of their tensors.
        cancelled: Ids of calls that it was told nobody waits for.
        most_under_way: The most calls that it ever had at once.
    """

    def __init__(self, instance: str, slots: int = 4, models: Iterable[ModelState] = ()) -> None:
        self.instance = instance
        self.slots = slots
        self.models = list(models) or [model_state()]
        self.slow_s = 0.0
        self.open_gate = asyncio.Event()
        self.open_gate.set()
        self.heard = asyncio.Event()
        self.heard.set()
        self.tamper = ""
        self.appended = b""
        self.seen: list[InferCall] = []
        self.taken = asyncio.Condition()
        self.orders: list[ModelOrder] = []
        self.refusal: CloisterError | None = None
        self.refused: CloisterError | None = None
        self.cancelled: list[int] = []
        self.under_way = self.most_under_way = self.most_together = self.frames = 0
        self.port = 0
        self._draining = False
        self._links: set[Outbox] = set()
        self._server: grpc.aio.Server | None = None

    @asynccontextmanager
    async def serving(self, pki: MeshPki) -> AsyncIterator[FakeWorker]:
        """On a free port, with a certificate as the verifier gives one."""
        self._pki = pki
        self._pems = pki.identity("worker", self.instance)
        await self.revive()
        try:
            yield self
        finally:
            await self.die()

    async def revive(self) -> None:
        """Listen, after `die` on the same port again."""
        server = self._server = grpc.aio.server(options=_OPTIONS)
        add_WorkerServicer_to_server(self, server)
        address = f"127.0.0.1:{self.port}"
        self.port = server.add_secure_port(address, self._pems.held().server_credentials())
        await server.start()

    async def die(self) -> None:
        """Be gone at once, with whatever was under way."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(None)

    def cut(self) -> None:
        """End the links that there are, without answering what is under way; new ones are welcome."""
        for outbox in self._links:
            outbox.put_nowait(None)

    def drain(self) -> None:
        """Say that nothing new is wanted, and end each link when it is empty."""
        self._draining = True
        for outbox in self._links:
            outbox.put_nowait(WorkerFrame(draining=True))

    def serve_models(self, *models: ModelState) -> None:
        """Tell all links that this is what is served now."""
        self.models = list(models)
        for outbox in self._links:
            outbox.put_nowait(WorkerFrame(models_changed=True, models=self.models))

    def report(self, counters: WorkerCounters) -> None:
        """Tell all links what has been done in all."""
        for outbox in self._links:
            outbox.put_nowait(WorkerFrame(report=WorkerReport(counters=counters)))

    async def given(self, count: int) -> None:
        """Wait until so many calls have come in all."""
        async with self.taken:
            await self.taken.wait_for(lambda: len(self.seen) >= count)

    def attested(self, *, expires_at_ms: int = 1 << 45) -> AttestedWorker:
        """What the verifier would tell of it."""
        worker = AttestedWorker(
            instance=self.instance,
            spiffe_id=f"spiffe://{self._pki.cluster}/worker/{self.instance}",
            endpoint=f"127.0.0.1:{self.port}",
            tls_spki_sha256=spki_sha256(self._pems.certificate),
            server_name=server_name(self._pki.cluster, "worker", self.instance),
            expires_at_ms=expires_at_ms,
        )
        worker.bundle.evidence.claims = b"claims of " + self.instance.encode()
        worker.bundle.attestation_result = "not.a.token"
        return worker

    async def Link(self, request_iterator: AsyncIterator[GatewayFrame], context: Any) -> None:
        outbox: Outbox = asyncio.Queue()
        self._links.add(outbox)
        outbox.put_nowait(
            WorkerFrame(models=self.models, models_changed=True, slots=self.slots, draining=self._draining)
        )
        try:
            async with asyncio.TaskGroup() as group:
                writer = group.create_task(self._write(outbox, context))
                reporting = group.create_task(_report(outbox))
                async for frame in request_iterator:
                    await self._take(frame, outbox, group)
                writer.cancel()
                reporting.cancel()
        except* grpc.aio.AbortError:
            pass  # it was cut
        finally:
            self._links.discard(outbox)

    async def _take(self, frame: GatewayFrame, outbox: Outbox, group: asyncio.TaskGroup) -> None:
        self.frames += 1
        self.most_together = max(self.most_together, len(frame.calls))
        self.cancelled += frame.cancelled
        for order in frame.orders:
            self._obey(order, outbox)
        self.under_way += len(frame.calls)
        self.most_under_way = max(self.most_under_way, self.under_way)
        async with self.taken:
            self.seen += frame.calls
            self.taken.notify_all()
        if self.slow_s or self.tamper or not self.open_gate.is_set():
            for call in frame.calls:
                group.create_task(self._answer(call, outbox))
        elif frame.calls:
            self.under_way -= len(frame.calls)
            results = [self._result(call) for call in frame.calls]
            told = report(evaluation(self.models[0].version, requests=len(results)))
            outbox.put_nowait(WorkerFrame(results=results, report=told))

    def _result(self, call: InferCall) -> InferResult:
        if self.refused is not None:
            return InferResult(call_id=call.call_id, failure=failure_of(self.refused))
        return echoed(call, self.instance, self.appended)

    def _obey(self, order: ModelOrder, outbox: Outbox) -> None:
        self.orders.append(order)
        result = OrderResult(order_id=order.order_id)
        if self.refusal is not None:
            result.failure.CopyFrom(failure_of(self.refusal))
        elif order.kind == ModelOrder.KIND_LOAD:
            self.serve_models(*self._without(order), model_state(order.model_name, order.model_version or "1"))
        else:
            self.serve_models(*self._without(order))
        outbox.put_nowait(WorkerFrame(order_results=[result]))

    def _without(self, order: ModelOrder) -> list[ModelState]:
        named = (order.model_name, order.model_version or "1")
        return [each for each in self.models if (each.name, each.version) != named]

    async def _answer(self, call: InferCall, outbox: Outbox) -> None:
        await self.open_gate.wait()
        await asyncio.sleep(self.slow_s)
        self.under_way -= 1
        result = echoed(call, self.instance)
        wrong = {
            "unknown": WorkerFrame(results=[InferResult(call_id=call.call_id + 1000, response=b"")]),
            "twice": WorkerFrame(results=[result, result]),
            "slots": WorkerFrame(slots=1 << 20),
            "empty": WorkerFrame(results=[InferResult(call_id=call.call_id)]),
        }
        outbox.put_nowait(wrong.get(self.tamper, WorkerFrame(results=[result])))

    async def _write(self, outbox: Outbox, context: Any) -> None:
        while True:
            frame = await outbox.get()
            await self.heard.wait()
            if frame is None:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
            await context.write(frame)


async def _report(outbox: Outbox) -> None:
    """What a gateway knows by that a worker is still there, as often as a real one says it."""
    while True:
        await asyncio.sleep(REPORT_S)
        outbox.put_nowait(WorkerFrame(report=WorkerReport()))


def echoed(call: InferCall, instance: str, appended: bytes = b"") -> InferResult:
    """The request's own tensors as its answer; `instance` tells who gave it."""
    request = ModelInferRequest.FromString(call.request)
    response = ModelInferResponse(model_name=request.model_name, model_version=request.model_version, id=request.id)
    response.parameters["instance"].string_param = instance
    for tensor in request.inputs:
        response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
    response.raw_output_contents.extend(request.raw_input_contents)
    return InferResult(call_id=call.call_id, response=response.SerializeToString() + appended, evaluation=1)
