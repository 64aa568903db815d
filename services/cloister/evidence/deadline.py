"""Calls into a platform that may never answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Final, TypeVar

T = TypeVar("T")

GRACE_S: Final = 5.0
"""For the caller to do something about a call that is overdue, before it counts as hung."""


class OneCall:
    """Runs blocking calls off the loop, one at a time, and waits for none longer than it may take.

    The thread is its own, and nobody waits for its end: those of `asyncio.to_thread` are joined when a process ends,
    so a host that holds one of them would hold the process, too. There is one at most: while a call is overdue no other
    is begun, since enclaves have few threads to lose, and a call before its time could meddle with the one before.

    Args:
        name: Of the thread.
        deadline_s: For waiting and answer together.
        hung: Called from a thread of its own if a call goes on for `GRACE_S` after that: for where it may hold what the
            event loop needs, too, so that nothing on the loop is done about it.
        grace_s: Other than usual.
    """

    def __init__(
        self, name: str, *, deadline_s: float, hung: Callable[[], object] | None = None, grace_s: float = GRACE_S
    ) -> None:
        self._name = name
        self._deadline_s = deadline_s
        self._hung = hung
        self._hangs_s = deadline_s + grace_s
        self._free = asyncio.Lock()

    async def answer(self, call: Callable[[], T]) -> T:
        """What `call` returns or raises.

        Raises:
            TimeoutError: There was no answer; a call that was begun may be under way still.
        """
        async with asyncio.timeout(self._deadline_s):
            await self._free.acquire()
            return await asyncio.wrap_future(self._begun(call))

    def _begun(self, call: Callable[[], T]) -> Future[T]:
        loop = asyncio.get_running_loop()
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()  # so that nobody cancels it, and the thread can always set it
        answered = threading.Event()

        def run() -> None:
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)
            answered.set()
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._free.release)

        if self._hung is not None:
            watch = (answered, self._hung)
            threading.Thread(target=self._watch, args=watch, name=f"{self._name}.watch", daemon=True).start()
        threading.Thread(target=run, name=self._name, daemon=True).start()
        return future

    def _watch(self, answered: threading.Event, hung: Callable[[], object]) -> None:
        if not answered.wait(self._hangs_s):
            hung()
