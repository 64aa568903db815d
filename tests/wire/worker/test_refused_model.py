"""A sealed model that a worker refuses: what its host and its gateways get to see of it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from typing import Any

import pytest

from cloister.api.v1.worker_pb2 import GatewayFrame, ModelOrder, ModelState, WorkerFrame
from cloister.api.v1.worker_pb2_grpc import WorkerStub
from fakes import networks
from fakes.worker_mesh import WorkerMesh

MARK = "s3cret"
LOAD = GatewayFrame(orders=[ModelOrder(order_id=1, kind=ModelOrder.KIND_LOAD, model_name="marked", model_version="1")])


@pytest.mark.attack("I05")
async def test_its_operations_and_tensors_are_in_no_log_and_in_nothing_that_gateways_are_told(
    mesh: WorkerMesh, logged: io.StringIO
) -> None:
    """Index, status and metrics of a mesh are made of what gateways are told."""
    named = networks.onnx().replace(b"MatMul", MARK.encode()).replace(b"\x01y", b"\x01z")
    mesh.provisioner.publish(mesh.folder / "models", "marked", 1, {"model.onnx": memoryview(named)})
    settings = mesh.settings(loadable=True)
    async with mesh.worker(settings) as worker, worker.peer() as peer:
        await peer.ready(10)
        link = peer.stub(WorkerStub).Link(timeout=60)
        await link.write(LOAD)
        frames: list[WorkerFrame] = []
        await _until(link, frames, lambda frame: bool(frame.order_results))
        await _until(link, frames, _tells_why)
        link.cancel()
    told = b"".join(frame.SerializeToString() for frame in frames)
    (result,) = [result for frame in frames for result in frame.order_results]
    assert result.failure.reason == "model.refused"
    assert b"model.refused" in told
    assert "model.not_served" in logged.getvalue()
    assert (MARK.encode() in told, MARK in logged.getvalue()) == (False, False)


def _tells_why(frame: WorkerFrame) -> bool:
    missing = {(state.name, state.state, state.reason.partition(":")[0]) for state in frame.models}
    return ("marked", ModelState.STATE_UNAVAILABLE, "model.refused") in missing


async def _until(link: Any, frames: list[WorkerFrame], done: Callable[[WorkerFrame], bool]) -> None:
    async with asyncio.timeout(15):
        while not any(map(done, frames)):
            frames.append(await link.read())
