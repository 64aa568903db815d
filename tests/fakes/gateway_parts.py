"""What the gateway's tests build with: requests, frames, and a worker's end of a link without a wire."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from grpc.aio import EOF

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelMetadataResponse
from cloister.api.v1.worker_pb2 import Evaluation, GatewayFrame, InferResult, ModelState, WorkerFrame, WorkerReport
from cloister.errors import CloisterError, NotFound
from cloister.gateway.call import Call
from cloister.gateway.link import Link
from cloister.gateway.wire import Route, read_route

A, B, C = "a" * 32, "b" * 32, "c" * 32
TENANT = "spiffe://demo.cloister.internal/client/ann"


def infer_request(
    name: str = "tiny", *, version: str = "", identifier: str = "", workers: Sequence[str] = (), tensor: bytes = b"1234"
) -> bytes:
    message = ModelInferRequest(model_name=name, model_version=version, id=identifier)
    if workers:
        message.parameters["cloister-seal"].string_param = "v1"
        message.parameters["cloister-workers"].string_param = ",".join(workers)
    message.inputs.add(name="x", datatype="UINT8", shape=[len(tensor)])
    message.raw_input_contents.append(tensor)
    return message.SerializeToString()


def model_state(name: str = "tiny", version: str = "1", *, allow_plain: bool = True) -> ModelState:
    metadata = ModelMetadataResponse(name=name, versions=[version], platform="openvino")
    metadata.inputs.add(name="x", datatype="UINT8", shape=[-1])
    metadata.outputs.add(name="x", datatype="UINT8", shape=[-1])
    return ModelState(
        name=name,
        version=version,
        digest=bytes(32),
        allow_plain=allow_plain,
        metadata=metadata.SerializeToString(),
    )


def evaluation(version: str = "1", **numbers: int) -> Evaluation:
    """What a worker says of a run of the model; 10 ms in all unless a test says otherwise."""
    told = {"requests": 4, "rows": 9, "open_us": 1000, "wait_us": 2000, "compute_us": 3000, "encode_us": 1500}
    return Evaluation(model_version=version, **{**told, **numbers})


def report(*evaluations: Evaluation) -> WorkerReport:
    """The report of a frame with these evaluations; sealing its results took 2.5 ms."""
    return WorkerReport(seal_us=2500, evaluations=evaluations or (evaluation(),))


def make_call(request: bytes | None = None, *, timeout_s: float = 10.0, tenant: str = TENANT) -> Call:
    request = request or infer_request()
    return Call(request, read_route(request), tenant, timeout_s)


def unknown(route: Route) -> CloisterError:
    """What a dispatcher is told of a model that nobody serves."""
    return NotFound("no such model")


class WorkerEnd:
    """A stream as a link sees it, with a worker's hands at the other end."""

    def __init__(self) -> None:
        self.to_gateway: asyncio.Queue[Any] = asyncio.Queue()
        self.to_worker: asyncio.Queue[bytes] = asyncio.Queue()
        self._idle = asyncio.Event()
        self.closed = False
        self.held = asyncio.Event()
        self.held.set()

    async def read(self) -> Any:
        self._idle.set()
        message = await self.to_gateway.get()
        self._idle.clear()
        if isinstance(message, Exception):
            raise message
        return message

    async def write(self, frame: bytes) -> None:
        await self.held.wait()
        self.to_worker.put_nowait(frame)

    async def done_writing(self) -> None:
        self.closed = True
        self.end()

    def say(self, **fields: Any) -> None:
        """Send a WorkerFrame."""
        self.to_gateway.put_nowait(WorkerFrame(**fields).SerializeToString())

    def hello(self, slots: int, *models: ModelState) -> None:
        self.say(slots=slots, models_changed=True, models=models or (model_state(),))

    def answer(self, call_id: int, response: bytes = b"answer", *, told: WorkerReport | None = None) -> None:
        result = InferResult(call_id=call_id, response=response, evaluation=1 if told is not None else 0)
        self.say(results=[result], report=told)

    async def heard(self) -> None:
        """Wait until the gateway has read all that was said."""
        while not self.to_gateway.empty():
            self._idle.clear()
            await self._idle.wait()

    def end(self) -> None:
        self.to_gateway.put_nowait(EOF)

    async def frame(self) -> GatewayFrame:
        """The next frame that the gateway wrote."""
        return GatewayFrame.FromString(await self.to_worker.get())


class Owner:
    """A link's owner that only remembers."""

    def __init__(self) -> None:
        self.changes = asyncio.Event()
        self.freed_slots = asyncio.Event()
        self.given_back: list[tuple[Call, bytes | None]] = []

    def changed(self, link: Link) -> None:
        self.changes.set()

    def freed(self, link: Link) -> None:
        self.freed_slots.set()

    def released(self, call: Call, answer: bytes | None) -> None:
        self.given_back.append((call, answer))
