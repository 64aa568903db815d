"""Calls into a platform that may never answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


async def answer_in_time(call: Callable[[], T], *, deadline_s: float, name: str) -> T:
    """Run a blocking call off the loop, and wait for its answer no longer than `deadline_s`.

    The thread is its own, and nobody waits for its end: those of `asyncio.to_thread` are joined when a process ends,
    so a host that holds one of them would hold the process, too.

    Args:
        call: Blocks; what it holds when the deadline has passed it goes on holding.
        deadline_s: From now on.
        name: Of the thread.

    Raises:
        TimeoutError: There was no answer; the call may be under way still.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # so that nobody cancels it, and the thread can always set it

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    async with asyncio.timeout(deadline_s):
        return await asyncio.wrap_future(future)
