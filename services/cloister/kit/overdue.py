"""Time limits for many small tasks at once, at next to no cost for each."""

from __future__ import annotations

import asyncio
import time
from typing import Any


class Overdue:
    """Cancels calls that take too long.

    One timer for all of them: `asyncio.timeout` costs a timer per call, which under uvloop is a tenth of a small call.
    A call may thus last up to a tick longer than its limit.
    """

    def __init__(self, *, tick_s: float) -> None:
        self._tick_s = tick_s
        self._ends: dict[int, tuple[float, asyncio.Task[Any]]] = {}
        self._cancelled: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, call: object, limit_s: float) -> None:
        """From now on, the running task has `limit_s` left for `call`."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a call is answered in a task")
        self._ends[id(call)] = (time.monotonic() + limit_s, task)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._look)

    def forget(self, call: object) -> None:
        """There is no limit any more."""
        self._ends.pop(id(call), None)
        self._cancelled.discard(id(call))

    def judge(self, call: object, error: BaseException) -> BaseException:
        """`error`, or a TimeoutError in its place if it is the cancellation that came from here."""
        if id(call) in self._cancelled and isinstance(error, asyncio.CancelledError):
            self._cancelled.discard(id(call))
            task = asyncio.current_task()
            if task is not None and task.uncancel() == 0:
                return TimeoutError()
        return error

    def _look(self) -> None:
        now = time.monotonic()
        for key, (end, task) in list(self._ends.items()):
            if end <= now:
                del self._ends[key]
                self._cancelled.add(key)
                task.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._look) if self._ends else None
