"""A dispatcher and links to workers that a test plays, without a wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from cloister.api.v1.worker_pb2 import ModelState
from cloister.gateway.dispatch import Dispatcher
from cloister.gateway.limits import Limits, ModelLimits
from cloister.gateway.link import Link
from fakes.gateway_parts import WorkerEnd, unknown


class Mesh:
    """A dispatcher and links to workers that a test plays."""

    def __init__(self, group: asyncio.TaskGroup, limits: ModelLimits) -> None:
        self.dispatcher = Dispatcher(Limits(limits), unknown)
        self._group = group
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.links: dict[str, Link] = {}

    async def add(self, instance: str, slots: int = 2, *models: ModelState) -> WorkerEnd:
        end, link = WorkerEnd(), Link(instance, self.dispatcher)
        self.links[instance] = link
        self.dispatcher.attach(link)
        self._tasks[instance] = self._group.create_task(link.run(end))
        end.hello(slots, *models)
        await end.heard()
        return end

    async def kill(self, instance: str) -> None:
        task = self._tasks.pop(instance)
        task.cancel()
        await asyncio.wait([task])
        self.dispatcher.detach(self.links[instance])

    def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()


@asynccontextmanager
async def mesh(queue_limit: int = 8, **limits: Any) -> AsyncIterator[Mesh]:
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        made = Mesh(group, ModelLimits(queue=queue_limit, **limits))
        yield made
        made.stop()
