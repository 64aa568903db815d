"""What it costs a gateway to choose among many workers: its own dispatcher, asked with few links and with many."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

from cloister.api.oip.inference_pb2 import ModelInferRequest
from cloister.api.v1.worker_pb2 import ModelState, WorkerFrame
from cloister.errors import NotFound
from cloister.gateway.call import Call
from cloister.gateway.dispatch import Dispatcher
from cloister.gateway.limits import Limits, ModelLimits
from cloister.gateway.link import Link
from cloister.gateway.wire import read_route

FEW, MANY = 10, 2000
CALLS, ROUNDS = 50, 7
SLOTS = 16


class Silent:
    """A worker that says what it serves, and then nothing."""

    def __init__(self) -> None:
        state = ModelState(name="tiny", version="1")
        self._said = [WorkerFrame(slots=SLOTS, models_changed=True, models=[state]).SerializeToString()]
        self.heard = asyncio.Event()

    async def read(self) -> Any:
        """See `FrameStream`."""
        if self._said:
            return self._said.pop()
        self.heard.set()
        return await asyncio.Event().wait()

    async def write(self, frame: bytes) -> None:
        """See `FrameStream`."""

    async def done_writing(self) -> None:
        """See `FrameStream`."""


async def choosing_s(links: int) -> float:
    """Seconds to give one call to a worker, among so many; the least of several rounds."""
    dispatcher = Dispatcher(Limits(ModelLimits(queue=256)), lambda route: NotFound("no such model"))
    request = ModelInferRequest(model_name="tiny").SerializeToString()
    async with asyncio.TaskGroup() as group:
        workers = [Silent() for _ in range(links)]
        tasks = []
        for number, worker in enumerate(workers):
            link = Link(f"{number:032x}", dispatcher)
            dispatcher.attach(link)
            tasks.append(group.create_task(link.run(worker)))
        for worker in workers:
            await worker.heard.wait()
        took_s = [_round(dispatcher, request) for _ in range(ROUNDS)]
        for task in tasks:
            task.cancel()
    return min(took_s)


def _round(dispatcher: Dispatcher, request: bytes) -> float:
    calls = [Call(request, read_route(request), "tenant", 60.0) for _ in range(CALLS)]
    began_s = time.process_time()
    for call in calls:
        dispatcher.submit(call)
    took_s = time.process_time() - began_s
    for call in calls:
        call.answer.cancel()
        dispatcher.withdraw(call)
    return took_s / CALLS


def link_s() -> float:
    """CPU seconds for each further worker that a call might be given to."""

    async def both() -> tuple[float, float]:
        return await choosing_s(FEW), await choosing_s(MANY)

    few_s, many_s = asyncio.run(both())
    return max(0.0, (many_s - few_s) / (MANY - FEW))


if __name__ == "__main__":
    found = statistics.median(link_s() for _ in range(3))
    print(f"{found * 1e9:.0f} ns of a gateway's CPU for each link that a call might take")
