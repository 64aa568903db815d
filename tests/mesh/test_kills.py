"""Workers and gateways killed under load: nothing is lost that a client asks again, and all come back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cloister import Client, SyncClient
from cloister.client import Answer
from fakes.running_mesh import MODEL, RunningMesh, inputs, soon, until

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


async def test_clients_go_on_where_a_killed_gateway_comes_back(mesh: RunningMesh, truth: Truth) -> None:
    """By calls, by a stream that is open, and by one that `infer_each` has opened; the plain face too."""
    killed, asked = asyncio.Event(), [inputs(seed) for seed in range(400)]

    def right(number: int, answer: Answer) -> bool:
        return answer.outputs["y"].tobytes() == truth(asked[number]).tobytes()

    async def calls(client: Client) -> None:
        answers = 0
        while not (killed.is_set() and answers > 50):
            number = answers % len(asked)
            assert right(number, await client.infer(MODEL, {"x": asked[number]}, timeout_s=40))
            answers += 1

    async def many(client: Client) -> None:
        async for outcome in client.infer_each(MODEL, ({"x": x} for x in asked), concurrency=4, timeout_s=40):
            assert right(outcome.number, outcome.result())
            if outcome.number == len(asked) // 4:
                await asyncio.to_thread(kill)

    def kill() -> None:
        before = mesh.kill("gateway")
        killed.set()
        until(lambda: mesh.program("gateway")["pid"] not in (None, before), "the gateway is started again")

    where = {"trust": mesh.trust, "identity": mesh.identity("client")}
    with SyncClient(mesh.gateway, **where) as plain:
        assert right(0, plain.infer(MODEL, {"x": asked[0]}))
        async with (
            Client.connect(mesh.gateway, **where) as client,
            client.stream() as streaming,
            asyncio.TaskGroup() as group,
        ):
            for asking in (client, streaming):
                group.create_task(calls(asking))
            group.create_task(many(client))
        assert right(1, await asyncio.to_thread(plain.infer, MODEL, {"x": asked[1]}))
    await asyncio.to_thread(mesh.until_serving, 2)
