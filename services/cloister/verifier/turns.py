"""Whose turn it is when more want to be appraised than can be at once.

Each caller's first request goes before anybody's second, so whoever sends many stands behind all who send one. Among
equals those come first whose membership ends soonest, then who is no member yet, in order of arrival. So after an
outage, when a thousand members renew at once, nobody loses a membership to a neighbour who had half an hour left, and a
crowd that enrols holds no member up.

The queue is bounded. When it is full the last of all, whether it waits or has just come, hears `Overloaded` and may
come again. Called on the event loop only.
"""

from __future__ import annotations

import asyncio
import math
from bisect import insort
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from cloister.errors import Overloaded

QUEUE_LIMIT: Final = 2048


@dataclass(order=True, slots=True)
class _Waiting:
    """The order of the queue is that of these fields: rank, end of membership, arrival."""

    rank: int
    ends_at: float
    arrival: int
    turn: asyncio.Future[None] = field(compare=False, repr=False)


class Turns:
    """Lets `slots` in at once and has up to `limit` wait."""

    def __init__(self, slots: int, *, limit: int = QUEUE_LIMIT) -> None:
        self._free = slots
        self._limit = limit
        self._queue: list[_Waiting] = []
        self._of_peer: Counter[str] = Counter()
        self._arrivals = count()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._queue)

    @asynccontextmanager
    async def turn(self, peer: str, *, ends_at: float | None) -> AsyncIterator[None]:
        """Wait for a turn, and hold it for the block.

        Args:
            peer: SPIFFE id of the caller.
            ends_at: Monotonic time at which its membership ends; None for one that is no member.

        Raises:
            Overloaded: Too many wait who go first.
        """
        rank = self._of_peer[peer]
        self._of_peer[peer] += 1
        try:
            await self._enter(rank, math.inf if ends_at is None else ends_at)
            try:
                yield
            finally:
                self._free += 1
                self._admit()
        finally:
            self._of_peer[peer] -= 1
            if not self._of_peer[peer]:
                del self._of_peer[peer]

    async def _enter(self, rank: int, ends_at: float) -> None:
        if self._free > 0:
            self._free -= 1
            return
        waiting = _Waiting(rank, ends_at, next(self._arrivals), asyncio.get_running_loop().create_future())
        insort(self._queue, waiting)
        if len(self._queue) > self._limit:
            _refuse(self._queue.pop())
        try:
            await waiting.turn
        except asyncio.CancelledError:
            if waiting in self._queue:
                self._queue.remove(waiting)
            elif not waiting.turn.cancelled() and waiting.turn.exception() is None:
                self._free += 1  # its turn had come, and passes to the next
                self._admit()
            raise

    def _admit(self) -> None:
        while self._free > 0 and self._queue:
            waiting = self._queue.pop(0)
            if not waiting.turn.done():
                self._free -= 1
                waiting.turn.set_result(None)


def _refuse(waiting: _Waiting) -> None:
    if not waiting.turn.done():  # else its caller has gone
        waiting.turn.set_exception(Overloaded("too many wait to be appraised"))
