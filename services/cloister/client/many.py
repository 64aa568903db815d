"""Many requests at once, bounded: what became of each, as it is known, and none lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sized
from typing import TypeAlias

from cloister.client.answer import Answer
from cloister.client.outcome import Outcome
from cloister.client.question import Inputs
from cloister.client.tasks import Tasks
from cloister.errors import CloisterError
from cloister.rpc.channel import closed

Progress: TypeAlias = Callable[[int, int | None], None]
"""Told how many requests have ended, and how many there are; None for as many as come."""


def size_of(many: Iterable[Inputs]) -> int | None:
    """How many there are, where that can be told before they are taken."""
    return len(many) if isinstance(many, Sized) else None


def check_concurrency(concurrency: int) -> None:
    """Raise ValueError unless it is a number of requests that could be under way."""
    if concurrency < 1:
        raise ValueError(f"'concurrency' is the number of requests under way, at least 1; not {concurrency}")


async def each(
    ask: Callable[[Inputs], Awaitable[Answer]], many: Iterable[Inputs], concurrency: int, tasks: Tasks
) -> AsyncGenerator[Outcome, None]:
    """Ask for each of `many`, at most `concurrency` at a time; yields in the order in which requests end.

    Errors of ours and deadlines are outcomes. Any other error is a mistake in what was asked (inputs that are no
    mapping): it is raised, and ends the rest.
    """
    check_concurrency(concurrency)
    settled: asyncio.Queue[Outcome | Exception] = asyncio.Queue()  # bounded by `concurrency`

    async def settle(number: int, inputs: Inputs) -> None:
        try:
            settled.put_nowait(Outcome(number, answer=await ask(inputs)))
        except (CloisterError, TimeoutError) as error:
            settled.put_nowait(Outcome(number, error=error))
        except Exception as error:
            settled.put_nowait(error)

    def ended(task: asyncio.Task[None]) -> None:
        running.discard(task)
        if task.cancelled():  # with its client, which another task has closed, maybe before it had begun
            settled.put_nowait(closed())

    running: set[asyncio.Task[None]] = set()
    under_way = 0
    try:
        for number, inputs in enumerate(many):
            if under_way == concurrency:
                yield _found(await settled.get())
                under_way -= 1
            task = tasks.spawn(settle(number, inputs))
            running.add(task)
            task.add_done_callback(ended)
            under_way += 1
        for _ in range(under_way):
            yield _found(await settled.get())
    finally:
        for task in running:
            task.cancel()


def _found(settled: Outcome | Exception) -> Outcome:
    if isinstance(settled, Exception):
        raise settled
    return settled
