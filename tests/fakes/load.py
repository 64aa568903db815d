"""Clients that never stop asking, and check every answer: a single request that fails is raised."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cloister import Client, ear
from fakes.running_mesh import MODEL, RunningMesh, inputs, soon

Truth = Callable[[NDArray[np.float32]], NDArray[np.float32]]
ASKERS = 4


@dataclass
class Load:
    """What clients that never stop asking have seen.

    Attributes:
        kids: By instance, the key that its Attestation Result was signed with, in the last answer.
        last_at_s: By instance, when it answered last, on the monotonic clock.
        keys: By instance, all that requests were sealed to.
        versions: Of the model, by whom each answer was given, the newest last.
    """

    answered: int = 0
    kids: dict[str, str] = field(default_factory=dict)
    last_at_s: dict[str, float] = field(default_factory=dict)
    keys: defaultdict[str, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    versions: list[str] = field(default_factory=list)

    async def more(self, answers: int = 50) -> None:
        """Wait for so many more answers."""
        wanted = self.answered + answers
        await soon(lambda: self.answered >= wanted, "answers keep coming")


@asynccontextmanager
async def load_on(mesh: RunningMesh, truth: Truth) -> AsyncIterator[Load]:
    """Askers, every answer checked; a single request that fails is raised from here."""
    load, stop = Load(), asyncio.Event()

    async def stream(client: Client, number: int) -> None:
        async with client.stream() as streaming:
            await ask(streaming, number)

    async def ask(client: Client, number: int) -> None:
        turn = 0
        while not stop.is_set():
            x = inputs(number * 100_000 + turn)
            answer = await client.infer(MODEL, {"x": x}, sealed=bool(turn % 4), timeout_s=20)
            assert answer.outputs["y"].tobytes() == truth(x).tobytes()
            if answer.worker is not None:
                load.kids[answer.worker.instance] = ear.key_named(answer.worker.token)
                load.last_at_s[answer.worker.instance] = time.monotonic()
                load.keys[answer.worker.instance].add(answer.worker.result.hpke_public)
            load.versions.append(answer.model_version)
            load.answered += 1
            turn += 1

    async with (
        Client.connect(mesh.gateway, trust=mesh.trust, identity=mesh.identity("client")) as client,
        asyncio.TaskGroup() as group,
    ):
        for number in range(ASKERS):
            group.create_task((stream if number % 2 else ask)(client, number))
        await load.more()
        yield load
        await load.more()
        stop.set()
