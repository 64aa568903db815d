"""Workers killed under load: nothing is lost that a client asks again, nothing wrong is answered, all come back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cloister import Client
from fakes.running_mesh import MODEL, RunningMesh, inputs, soon

Truth = Callable[[NDArray[np.float32]], NDArray[np.float32]]
ASKERS = 8
RESTARTED_S = 60


async def test_killing_either_worker_under_load_loses_nothing(mesh: RunningMesh, truth: Truth) -> None:
    stop = asyncio.Event()
    answered: list[str] = []

    async def ask(client: Client, number: int) -> None:
        turn = 0
        while not stop.is_set():
            x = inputs(number * 100_000 + turn, rows=1 + turn % 3)
            answer = await client.infer(MODEL, {"x": x}, sealed=bool(turn % 4), timeout_s=20)
            assert answer.outputs["y"].tobytes() == truth(x).tobytes()
            answered.append(answer.worker.instance if answer.worker else "plain")
            turn += 1

    async def kill_both_in_turn() -> None:
        for name in ("worker-1", "worker-2"):
            before = {worker["instance"] for worker in await asyncio.to_thread(mesh.serving)}
            seen = len(answered)
            await soon(lambda: len(answered) > seen + 200, "load")  # noqa: B023
            killed = await asyncio.to_thread(mesh.kill, name)
            await soon(lambda: mesh.program(name)["pid"] not in (None, killed), "restarted")  # noqa: B023
            async with asyncio.timeout(RESTARTED_S):
                after = before
                while len(after) != 2 or len(after - before) != 1:
                    after = {worker["instance"] for worker in await asyncio.to_thread(mesh.serving)}
            fresh = (after - before).pop()
            await soon(lambda: fresh in answered, "the restarted worker, attested afresh, answers")  # noqa: B023
        stop.set()

    async with (
        Client.connect(mesh.gateway, trust=mesh.trust, identity=mesh.identity("client")) as client,
        asyncio.TaskGroup() as group,
    ):
        for number in range(ASKERS):
            group.create_task(ask(client, number))
        group.create_task(kill_both_in_turn())
    assert len(answered) > 400
