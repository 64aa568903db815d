"""Takes requests from one stream as room allows, and has batches of them carried."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Final

from cloister.compat.zoo.bridge.batch import FIRST_PAUSE_S, LONGEST_PAUSE_S, Batch
from cloister.compat.zoo.bridge.counts import Counts
from cloister.compat.zoo.bridge.entries import Entry
from cloister.compat.zoo.bridge.mesh import MeshModel
from cloister.compat.zoo.bridge.settings import BridgeSettings
from cloister.compat.zoo.bridge.stream import GONE, Stream
from cloister.errors import CloisterError
from cloister.kit.log import get_logger
from cloister.rpc.status import reason_of

BLOCK_MS: Final = 500
MAX_HELD_BYTES: Final = 256 << 20
"""Payloads that wait to be asked; those that were submitted are not held."""
AT_ONCE_BYTES: Final = 32 << 20
"""Aim of one read, by the largest request that came lately."""

_log = get_logger()


class Carrier:
    """Carries one stream.

    Args:
        stream: Theirs.
        model: Answers.
        counts: Hears of each request.
        settings: How many at a time, and how long.
    """

    def __init__(self, stream: Stream, model: MeshModel, counts: Counts, settings: BridgeSettings) -> None:
        self._stream = stream
        self._model = model
        self._counts = counts
        self._settings = settings
        self._batches: dict[asyncio.Task[None], Batch] = {}
        self._room = asyncio.Event()
        self._largest_bytes = 1 << 20
        self._own_after: str | None = "0"
        self._cursor = "0-0"
        self._look_at_s = 0.0
        self._is_read = False

    async def run(self, stopping: asyncio.Event) -> None:
        """Carry until `stopping`, then until what is under way has ended or the grace is over."""
        self._counts.opened(self._stream.name)
        async with asyncio.TaskGroup() as group:
            renewing = group.create_task(self._renew())
            try:
                await self._take(group, stopping)
                if self._batches:
                    await asyncio.wait(list(self._batches), timeout=self._settings.grace_s)
            finally:
                for task in (renewing, *self._batches):
                    task.cancel()

    async def _take(self, group: asyncio.TaskGroup, stopping: asyncio.Event) -> None:
        is_open, again, pause_s = False, False, FIRST_PAUSE_S
        while not stopping.is_set():
            try:
                if not is_open:
                    await self._stream.open(again=again)
                    is_open = True
                entries = await self._next()
                pause_s = FIRST_PAUSE_S
            except CloisterError as error:
                is_open, again = False, error.reason == GONE
                self._own_after = "0"  # what was taken by a read whose reply was lost is among our own
                self._counts.again(self._stream.name, reason_of(error))
                _log.warning("bridge.waiting", stream=self._stream.name, reason=reason_of(error), error=error)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
                continue
            if entries:
                self._begin(group, entries)
            elif self._settings.until_empty and self._is_read and not self._batches:
                return

    async def _next(self) -> list[Entry]:
        """Requests that are not under way here: our own of an earlier life, abandoned ones, then new ones."""
        self._is_read = False
        count = self._count()
        if count == 0:
            self._room.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._room.wait(), BLOCK_MS / 1000)
            return []
        if self._own_after is not None:
            entries = await self._stream.own(self._own_after, count)
            self._own_after = entries[-1].entry_id if entries else None
        elif time.monotonic() >= self._look_at_s:
            self._cursor, entries = await self._stream.abandoned(self._cursor, count)
            if self._cursor == "0-0":
                self._look_at_s = time.monotonic() + self._settings.hold_s / 2
        else:
            entries = await self._stream.new(count, BLOCK_MS)
            self._is_read = not entries
        held = {name for batch in self._batches.values() for name in batch.waiting}
        return [entry for entry in entries if entry.entry_id not in held]

    def _count(self) -> int:
        """How many may be taken now."""
        batches = self._batches.values()
        held_bytes = sum(entry.size_bytes for batch in batches for entry in batch.waiting.values())
        room = self._settings.max_records - sum(len(batch.waiting) for batch in batches)
        if held_bytes > MAX_HELD_BYTES or room <= 0:
            return 0
        return min(self._settings.batch, room, max(1, AT_ONCE_BYTES // self._largest_bytes))

    def _begin(self, group: asyncio.TaskGroup, entries: list[Entry]) -> None:
        largest_bytes = max(entry.size_bytes for entry in entries)
        self._largest_bytes = max(largest_bytes, self._largest_bytes // 2, 1)
        self._counts.taken(self._stream.name, len(entries))
        batch = Batch(self._stream, self._model, self._counts, entries, life_s=self._settings.life_s)
        task = group.create_task(batch.run())
        self._batches[task] = batch
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._batches[task]
        self._room.set()

    async def _renew(self) -> None:
        """Say of what is under way that it is, so that no other bridge takes it over."""
        while True:
            await asyncio.sleep(self._settings.hold_s / 3)
            for batch in list(self._batches.values()):
                try:
                    await self._stream.renew(list(batch.waiting))
                except CloisterError as error:
                    _log.warning("bridge.waiting", stream=self._stream.name, reason=reason_of(error), error=error)
