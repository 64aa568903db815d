"""Tasks that belong to a block, whose errors come out of it as they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from cloister.rpc.channel import closed

T = TypeVar("T")


class Tasks:
    """Tasks that go on beside a block, and are cancelled at its end; see `background`."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._running: set[asyncio.Task[Any]] = set()
        self._over = False

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` until it ends or the block does.

        Raises:
            Unavailable: The block has ended (`peer.closed`).
        """
        if self._over:
            work.close()
            raise closed()
        task = self._group.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def cancel(self) -> None:
        """Cancel all that still run, for good: nothing new is begun."""
        self._over = True
        for task in self._running:
            task.cancel()


@asynccontextmanager
async def background() -> AsyncIterator[Tasks]:
    """A block with tasks beside it. An error that one of them raises ends the block and comes out of it."""
    async with task_group() as group:
        tasks = Tasks(group)
        try:
            yield tasks
        finally:
            tasks.cancel()


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """A TaskGroup that raises the first error itself: callers of an SDK catch errors, not groups of them."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        raise first_of(errors) from None


def first_of(error: BaseException) -> BaseException:
    """The first error of a group, however deep."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
