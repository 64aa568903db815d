"""Two gateways of two processes each before one worker: shared fairly, and a killed process loses only its own."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cloister import Client
from cloister.api.v1.gateway_pb2 import GetStatusResponse
from cloister.client import mesh_status, tls_files
from cloister.errors import Unavailable
from cloister.rpc.channel import Peer
from cloister.rpc.identity import TlsIdentity
from cloister.rpc.spiffe import server_name
from fakes.running_mesh import CLUSTER, MODEL, RunningMesh, inputs, probe, soon

Truth = Callable[[NDArray[np.float32]], NDArray[np.float32]]
GATEWAYS = ("gateway", "gateway-2")
PROCESSES, SLOTS, QUICK = 2, 16, 8
CLIENTS, IN_FLIGHT = 3, 8
"""Of each gateway, and calls of each client: more than the worker's slots together."""


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    """One worker, two gateways on ports of their own, two processes behind each, and none for jobs that has a share."""
    running = RunningMesh(tmp_path_factory.mktemp("wide") / "mesh")
    running.found()
    sealed = running.seal(probe())
    with running.up(1, "--gateways", "2", "--gateway-processes", str(PROCESSES), "--no-jobs"):
        running.cli("model", "publish", sealed)
        running.allow("--allow-simulated", "--allow-plain")
        running.until_serving(1)
        yield running


def process_ids(mesh: RunningMesh, gateway: str) -> set[int]:
    pid = mesh.program(gateway)["pid"]
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


async def statuses(mesh: RunningMesh, gateway: str) -> dict[int, GetStatusResponse]:
    """What each process of a gateway says; a new connection may come to any of them."""
    found: dict[int, GetStatusResponse] = {}
    async with AsyncExitStack() as stack:
        identity = await stack.enter_async_context(TlsIdentity.watching(tls_files(mesh.identity("operator"))))
        address, name = mesh.program(gateway)["address"], server_name(CLUSTER, "gateway")
        async with asyncio.timeout(30):
            while len(found) < PROCESSES:
                peer = await stack.enter_async_context(Peer(address, identity, name))
                with suppress(Unavailable):  # of one that is killed just then
                    status = await mesh_status(peer, 10)
                    found[status.process] = status
    return found


async def slots(mesh: RunningMesh) -> list[int]:
    """What the worker grants each gateway process."""
    found = [status for gateway in GATEWAYS for status in (await statuses(mesh, gateway)).values()]
    return [worker.slots for status in found for worker in status.workers if worker.linked]


async def test_gateways_share_a_worker_and_a_killed_process_loses_only_its_own(wide: RunningMesh, truth: Truth) -> None:
    granted = await slots(wide)
    assert len(granted) == len(GATEWAYS) * PROCESSES
    assert sum(granted) in (SLOTS, SLOTS * QUICK)  # the worker finds out by itself whether the model is quick
    assert len(set(granted)) == 1

    answered, stop = Counter[str](), asyncio.Event()

    async def ask(client: Client, gateway: str, seed: int) -> None:
        while not stop.is_set():
            x = inputs(seed, rows=1 + seed % 3)
            answer = await client.infer(MODEL, {"x": x}, sealed=bool(seed % 4), timeout_s=30)
            assert answer.outputs["y"].tobytes() == truth(x).tobytes()
            answered[gateway] += 1
            seed += 1

    async def kill_one_process() -> None:
        await soon(lambda: min(answered[gateway] for gateway in GATEWAYS) > 200, "both gateways answer")
        fair = dict(answered)
        before = process_ids(wide, "gateway")
        os.kill(min(before), signal.SIGKILL)
        await soon(lambda: len(process_ids(wide, "gateway") - before) == 1, "another process in its place")
        async with asyncio.timeout(45):
            while len(await slots(wide)) < len(GATEWAYS) * PROCESSES:
                await asyncio.sleep(0.1)
        seen = dict(answered)
        await soon(lambda: all(answered[gateway] > seen[gateway] + 100 for gateway in GATEWAYS), "both go on")
        stop.set()
        # As many clients ask of each; which process their connections came to is chance, and shares follow the use.
        assert max(fair.values()) < 4 * min(fair.values())

    async with AsyncExitStack() as stack:
        asking: list[tuple[Client, str]] = []
        for gateway in CLIENTS * GATEWAYS:
            address = wide.program(gateway)["address"]
            connected = Client.connect(address, trust=wide.trust, identity=wide.identity("client"))
            asking.append((await stack.enter_async_context(connected), gateway))
        async with asyncio.TaskGroup() as group:
            for number, (client, gateway) in enumerate(asking):
                for turn in range(IN_FLIGHT):
                    group.create_task(ask(client, gateway, 1_000_000 * number + 10_000 * turn))
            group.create_task(kill_one_process())
    assert "process.lost" in wide.log("gateway")
    assert "process.lost" not in wide.log("gateway-2")
