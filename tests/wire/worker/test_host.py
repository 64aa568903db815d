"""What a host does to the process of a worker: it is stopped and let go on, and looked into."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloister.api.v1.worker_pb2 import GatewayFrame, InferCall, InferResult
from cloister.api.v1.worker_pb2_grpc import WorkerStub
from cloister.errors import KeyRefused
from cloister.oip.tensors import encode_request
from fakes import networks
from fakes.private_root import SHM, environment_of, left_in, private_root, require_namespaces
from fakes.process_memory import found_in_memory, require_root
from fakes.vector_models import FOLDER
from fakes.worker_mesh import WorkerMesh
from fakes.worker_process import WorkerProcess, worker_process

LEASE_S = 3
OVERWRITTEN = {"GLIBC_TUNABLES": "glibc.malloc.perturb=165:glibc.malloc.tcache_count=0"}
"""As in the worker's manifest: what is freed is overwritten."""


def request(number: int) -> InferCall:
    x = np.ones((1, 16), np.float32)
    raw = encode_request("planted", {"x": x}).SerializeToString()
    return InferCall(call_id=number, request=raw, timeout_ms=60_000)


@asynccontextmanager
async def linked(worker: WorkerProcess) -> AsyncIterator[Any]:
    """A gateway's stream to it."""
    worker.instance = worker.logged("mesh.joined")[0]["instance"]
    async with worker.peer() as peer:
        await peer.ready(10)
        stream: Any = peer.stub(WorkerStub).Link(timeout=120)
        yield stream
        stream.cancel()


async def results(stream: Any, ids: set[int]) -> dict[int, InferResult]:
    found: dict[int, InferResult] = {}
    async with asyncio.timeout(20):
        while not found.keys() >= ids:
            frame = await stream.read()
            found |= {result.call_id: result for result in frame.results}
    return found


async def until_answered(stream: Any) -> None:
    """Ask until the model answers: on a busy machine a lease of seconds may end before it is renewed."""
    for number in range(1, 100):
        await stream.write(GatewayFrame(calls=[request(number)]))
        if (await results(stream, {number}))[number].response:
            return
        await asyncio.sleep(0.2)
    raise AssertionError("the model never answers")


def planted_in(mesh: WorkerMesh, tmp_path: Path) -> dict[str, bytes]:
    """Publish the planted model; what must not be found in a worker that has dropped it."""
    files = networks.ir(networks.planted(), tmp_path)
    model = mesh.provisioner.publish(tmp_path / "models", "planted", 1, files)
    return {
        "key": model.key.reveal(),
        "weights": networks.PLANTED_WEIGHTS,
        "name": networks.PLANTED_NAME.encode(),
        "graph": bytes(files["model.xml"])[200:264],
    }


async def until_wiped(worker: WorkerProcess, stream: Any, secrets: dict[str, bytes]) -> None:
    """Wait until nothing of it is found in the worker's memory."""
    async with asyncio.timeout(30):
        while any((await asyncio.to_thread(found_in_memory, worker.pid, secrets)).values()):
            # What Python itself frees is overwritten by what it does next: here, by refusing this.
            await stream.write(GatewayFrame(calls=[request(0)]))
            await results(stream, {0})


@pytest.mark.attack("J14")
@pytest.mark.attack("F13")
async def test_a_model_that_is_withdrawn_leaves_neither_key_nor_plaintext_in_a_worker_that_goes_on(
    mesh: WorkerMesh, tmp_path: Path
) -> None:
    require_root()
    secrets = planted_in(mesh, tmp_path)
    async with worker_process(mesh, mesh.settings(models=("planted", "tiny")), environment=OVERWRITTEN) as worker:
        await worker.until_logged("model.served", times=2)
        served = await asyncio.to_thread(found_in_memory, worker.pid, secrets)
        assert served["weights"] > 0, "a worker that serves holds the weights, or this test looks in the wrong place"
        async with linked(worker) as stream:
            await until_answered(stream)
            await mesh.provisioner.withdraw("planted")
            await worker.until_logged("lease.withdrawn", within_s=5)
            await until_wiped(worker, stream, secrets)
        assert [each["model"] for each in worker.logged("lease.withdrawn")] == ["planted"]
        assert worker.process.returncode is None


@pytest.mark.attack("F13")
@pytest.mark.attack("I04")
@pytest.mark.attack("E11")
async def test_after_a_pause_longer_than_its_lease_it_answers_nothing_and_holds_neither_key_nor_plaintext(
    mesh: WorkerMesh, tmp_path: Path
) -> None:
    require_root()
    secrets = planted_in(mesh, tmp_path)
    mesh.provisioner.lease_s = LEASE_S
    async with worker_process(mesh, mesh.settings(models=("planted",)), environment=OVERWRITTEN) as worker:
        await worker.until_logged("model.served")
        served = await asyncio.to_thread(found_in_memory, worker.pid, secrets)
        assert served["weights"] > 0, "a worker that serves holds the weights, or this test looks in the wrong place"
        async with linked(worker) as stream:
            await until_answered(stream)
            worker.stop()
            mesh.provisioner.error = KeyRefused("the request was refused")
            await stream.write(GatewayFrame(calls=[request(0)]))  # it waits in the worker's socket
            await asyncio.sleep(LEASE_S)
            worker.go_on()
            late = (await results(stream, {0}))[0]
            assert (late.response, late.failure.reason) == (b"", "name.unknown")
            await until_wiped(worker, stream, secrets)
        assert worker.process.returncode is None


def canary_files() -> dict[str, memoryview]:
    """A SavedModel, which the worker lays out in memory to have it read."""
    folder = FOLDER / "saved_canary"
    return {
        path.relative_to(folder).as_posix(): memoryview(path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


@asynccontextmanager
async def confined(mesh: WorkerMesh, tmp_path: Path, **further: str) -> AsyncIterator[tuple[WorkerProcess, Path]]:
    """A worker of both models, served and asked, with nothing to write to but what an enclave has."""
    require_namespaces()
    mesh.provisioner.publish(tmp_path / "models", "planted", 1, networks.ir(networks.planted(), tmp_path))
    mesh.provisioner.publish(tmp_path / "models", "canary", 1, canary_files())
    scratch = tmp_path / "scratch"
    settings = mesh.settings(models=("planted", "canary"))
    through, environment = private_root(scratch), environment_of(scratch) | further
    async with worker_process(mesh, settings, through=through, environment=environment) as worker:
        await worker.until_logged("model.served", times=2)
        async with linked(worker) as stream:
            await until_answered(stream)
        yield worker, scratch


@pytest.mark.attack("I06")
@pytest.mark.attack("I04")
async def test_it_serves_on_a_file_system_that_is_read_only_and_leaves_no_file_in_its_scratch(
    mesh: WorkerMesh, tmp_path: Path
) -> None:
    async with confined(mesh, tmp_path) as (worker, scratch):
        assert left_in(worker.pid, scratch, SHM) == []


@pytest.mark.attack("I06")
async def test_what_openvino_is_told_to_write_is_seen_where_the_test_above_looks(
    mesh: WorkerMesh, tmp_path: Path
) -> None:
    """With this variable each pass of its compiler writes the model in clear; in an enclave the host sets none."""
    async with confined(mesh, tmp_path, OV_ENABLE_SERIALIZE_TRACING="1") as (worker, scratch):
        written = left_in(worker.pid, scratch, SHM)
    assert any(name.endswith(".bin") for name in written)
