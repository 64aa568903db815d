"""Threads for work that may wait for a back end: few, and no one else's (attack F11).

`Guard` bounds how long somebody waits. Who waits holds a thread meanwhile, and those of the event loop are few: while a
vault is slow, records would not be read either, nor models listed. So what wraps and unwraps has threads of its own,
and whoever finds too many before them is told so at once.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from cloister.errors import Overloaded

MOST_WAITING: Final = 256
RETRY_S: Final = 1.0
T = TypeVar("T")


class VaultThreads:
    """Runs work in a bounded pool; `running` makes one. Called on the event loop."""

    def __init__(self, pool: ThreadPoolExecutor, most: int) -> None:
        self._pool = pool
        self._free = threading.BoundedSemaphore(most)

    @classmethod
    @contextmanager
    def running(cls, threads: int = 0, most_waiting: int = MOST_WAITING) -> Iterator[VaultThreads]:
        """One, until the block ends; what runs then is not waited for.

        Args:
            threads: How many; 0 for as many as the event loop would have.
            most_waiting: Calls that may wait for one of them.
        """
        size = threads or min(32, (os.cpu_count() or 1) + 4)
        pool = ThreadPoolExecutor(size, thread_name_prefix="vault")
        try:
            yield cls(pool, size + most_waiting)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    async def run(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """What `work` returns or raises.

        Raises:
            Overloaded: Too many wait already (`vault.busy`); it was not begun.
        """
        if not self._free.acquire(blocking=False):
            raise Overloaded("too many wait for the vault; ask again", reason="vault.busy", retry_after_s=RETRY_S)
        try:
            future: Future[T] = self._pool.submit(contextvars.copy_context().run, work, *args, **kwargs)
        except RuntimeError:  # the service ends
            self._free.release()
            raise
        future.add_done_callback(lambda _done: self._free.release())
        return await asyncio.wrap_future(future)
