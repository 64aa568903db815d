"""A provisioner's stream of lease news, without a wire: what a test puts into it, and a stub that hands it out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from typing import Any

from cloister.api.v1.provisioner_pb2 import LeaseEvent, WatchLeasesRequest


@dataclass
class LeaseStreams:
    """Hands out one stream at a time; numbers its events rightly, unless a test numbers them.

    Attributes:
        named: The leases that were named, for each stream.
        silent: Whether no sign of life comes by itself.
        moved_on: How often the next address was to be taken.
    """

    named: list[tuple[str, ...]] = field(default_factory=list)
    silent: bool = False
    moved_on: int = 0
    begun: asyncio.Condition = field(default_factory=asyncio.Condition)
    _news: asyncio.Queue[LeaseEvent | Exception | None] = field(default_factory=asyncio.Queue)

    def stub(self, _stub_class: object) -> LeaseStreams:
        """As a `Peer` has it."""
        return self

    def move_on(self) -> None:
        """As a `Peer` has it."""
        self.moved_on += 1

    def WatchLeases(self, request: WatchLeasesRequest, timeout: float) -> _Stream:
        """As the stub has it."""
        return _Stream(self, tuple(request.lease_ids))

    def put(
        self, *, ended: Collection[str] = (), changed: Collection[str] = (), within_ms: int = 0, sequence: int = 0
    ) -> None:
        """Say something on the stream that is open, or the next."""
        event = LeaseEvent(sequence=sequence, ended=ended, changed=changed, within_ms=within_ms)
        self._news.put_nowait(event)

    def lose(self, error: Exception | None) -> None:
        """End the stream: with an error, or orderly with None."""
        self._news.put_nowait(error)

    async def until_begun(self, times: int) -> None:
        """Wait until so many streams have begun."""
        async with asyncio.timeout(10), self.begun:
            await self.begun.wait_for(lambda: len(self.named) >= times)

    async def events(self, named: tuple[str, ...]) -> AsyncIterator[LeaseEvent]:
        """What one stream yields."""
        async with self.begun:
            self.named.append(named)
            self.begun.notify_all()
        sequence = 0
        while True:
            sequence += 1
            event: Any = LeaseEvent()
            try:
                async with asyncio.timeout(None if self.silent else 0.01):
                    event = await self._news.get()
            except TimeoutError:
                pass
            if event is None:
                return
            if isinstance(event, Exception):
                raise event
            event.sequence = event.sequence or sequence
            yield event


class _Stream:
    def __init__(self, streams: LeaseStreams, named: tuple[str, ...]) -> None:
        self._events = streams.events(named)

    def __aiter__(self) -> _Stream:
        return self

    async def __anext__(self) -> LeaseEvent:
        return await anext(self._events)

    def cancel(self) -> None:
        """As a call has it."""
