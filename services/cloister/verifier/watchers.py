"""Whoever wants to know who is attested: a queue each, bounded, and cut when its owner does not keep up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from cloister.errors import CloisterError, Overloaded, Unavailable
from cloister.verifier.member import Event


class _Watcher:
    """What waits for one watcher, and why nothing more will come."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[Event] = deque()
        self._wake = asyncio.Event()
        self.end: CloisterError | None = None

    def offer(self, event: Event) -> None:
        if len(self._waiting) >= self._limit:
            self.stop(Overloaded("the watcher did not keep up; begin again", reason="watcher.cut"))
        self._waiting.append(event)
        self._wake.set()

    def stop(self, end: CloisterError) -> None:
        self.end = end
        self._wake.set()

    async def next(self) -> Event:
        while self.end is None and not self._waiting:
            self._wake.clear()
            await self._wake.wait()
        if self.end is not None:
            raise self.end
        return self._waiting.popleft()


class Watchers:
    """All who watch.

    Args:
        queue_limit: Most events that wait for one watcher.
        watcher_limit: Most watchers at once.
    """

    def __init__(self, *, queue_limit: int, watcher_limit: int) -> None:
        self._queue_limit = queue_limit
        self._watcher_limit = watcher_limit
        self._watchers: set[_Watcher] = set()
        self._closed = False

    @contextmanager
    def watching(self, snapshot: list[Event]) -> Iterator[AsyncIterator[Event]]:
        """The snapshot, then each event as it is published; raises as `AttestedWorkers.watching`."""
        if self._closed:
            raise _draining()
        if len(self._watchers) >= self._watcher_limit:
            raise Overloaded("too many are watching", reason="watchers.full")
        watcher = _Watcher(self._queue_limit)
        self._watchers.add(watcher)
        try:
            yield _events(watcher, snapshot)
        finally:
            self._watchers.discard(watcher)

    def publish(self, event: Event) -> None:
        """Tell everyone."""
        for watcher in list(self._watchers):
            watcher.offer(event)
            if watcher.end is not None:
                self._watchers.discard(watcher)

    def close(self) -> None:
        """Tell every watcher that this service is going: they begin again, elsewhere or later."""
        self._closed = True
        for watcher in self._watchers:
            watcher.stop(_draining())
        self._watchers.clear()


def _draining() -> Unavailable:
    return Unavailable("the verifier is draining", reason="peer.draining")


async def _events(watcher: _Watcher, snapshot: list[Event]) -> AsyncIterator[Event]:
    for event in snapshot:
        yield event
    while True:
        yield await watcher.next()
