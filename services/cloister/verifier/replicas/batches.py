"""Calls that are sent together and answered one by one: while one batch is under way, the next one gathers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, Generic, TypeVar

from cloister.errors import CloisterError, Overloaded, Unavailable

_BATCH: Final = 128
_LIMIT: Final = 8192

T = TypeVar("T")
_Waiting = tuple[T, asyncio.Future[Any]]


class Batches(Generic[T]):
    """One line of callers. Called on the event loop only.

    Args:
        send: Sends a batch; returns an answer or an error for each, or raises for all.
    """

    def __init__(self, send: Callable[[Sequence[T]], Awaitable[Sequence[Any]]]) -> None:
        self._send = send
        self._waiting: deque[_Waiting[T]] = deque()
        self._wake = asyncio.Event()
        self._closed = False

    async def ask(self, call: T) -> Any:
        """Wait for the answer to one call, sent after all that were asked before.

        Raises:
            Overloaded: Too many wait.
            Unavailable: The line is closed. And whatever sending it raises.
        """
        if len(self._waiting) >= _LIMIT:
            raise Overloaded("too many wait for the shared state", reason="state.busy")
        if self._closed:
            raise away()
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((call, answer))
        self._wake.set()
        return await answer

    async def running(self) -> None:
        """Send what waits, until closed."""
        while not self._closed:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
                try:
                    _answer(batch, await self._send([call for call, _ in batch]))
                except CloisterError as error:
                    _answer(batch, [error] * len(batch))
                finally:
                    _answer(batch, [away()] * len(batch))

    def close(self) -> None:
        """Come to an end, even where a cancellation got lost: what waits is told."""
        self._closed = True
        _answer(self._waiting, [away()] * len(self._waiting))
        self._waiting.clear()
        self._wake.set()


def away() -> Unavailable:
    """There is nobody to answer."""
    return Unavailable("the shared state cannot be reached; try again", reason="state.unavailable")


def _answer(batch: Iterable[_Waiting[T]], answers: Sequence[Any]) -> None:
    for (_, future), answer in zip(batch, answers, strict=True):
        if future.done():
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
