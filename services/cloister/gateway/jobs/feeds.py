"""Who waits for the end of which job, in this process: one reader of the feed of ends for each model.

However many watch, the feed is read once. It is bounded and only a hint: where ends may have been missed, and every
few seconds besides, whoever waits reads records. Of a job that was submitted here while the feed was read, it has told
all there is to tell: who watches that one need not begin by reading its record. A reader outlives its watchers for a
while, and is not cancelled: a command to Redis that is cancelled costs its connection.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from cloister.errors import CloisterError, Unavailable
from cloister.gateway.jobs.store_watch import StoreWatch
from cloister.gateway.lanes import jittered
from cloister.kit.log import get_logger

BLOCK_MS: Final = 1000
PAUSE_S: Final = 0.5
START_S: Final = 5.0
IDLE_S: Final = 30.0
"""How long a feed is read on when nobody watches any more."""
MAX_NEW: Final = 16_384
"""Jobs of a model that were submitted here and that nobody has watched yet, as far as they are remembered."""
_NEWEST: Final = "$"
_log = get_logger()

Spawn = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[Any]]


class Watcher:
    """What one client waits for.

    Attributes:
        waiting: Ids of jobs that have not ended as far as is known.
        ended: Ids of those that have, and that nobody has looked at yet.
        unknown: Ids of jobs that may have ended before anybody here listened.
        stale: Ends may have been missed since it was set to False.
    """

    __slots__ = ("_changed", "ended", "stale", "unknown", "waiting")

    def __init__(self, job_ids: Iterable[bytes]) -> None:
        self.waiting = set(job_ids)
        self.ended: list[bytes] = []
        self.unknown = set(self.waiting)
        self.stale = False
        self._changed = asyncio.Event()

    def end(self, job_id: bytes) -> None:
        """A job has ended."""
        if job_id in self.waiting:
            self.waiting.remove(job_id)
            self.ended.append(job_id)
            self._changed.set()

    def doubt(self) -> None:
        """Ends may have been missed."""
        self.stale = True
        self._changed.set()

    async def news(self, within_s: float) -> None:
        """Wait until something has ended, or is in doubt; after so long, all is."""
        try:
            async with asyncio.timeout(within_s):
                await self._changed.wait()
        except TimeoutError:
            self.stale = True
        self._changed.clear()


class _Feed:
    """The reader of one model's ends."""

    def __init__(self, model_name: str, stores: StoreWatch) -> None:
        self._model_name = model_name
        self._stores = stores
        self._watchers: dict[bytes, list[Watcher]] = {}
        self._left_at_s = 0.0
        self._new: OrderedDict[bytes, tuple[str, bool]] = OrderedDict()  # whose whole life was heard; is it over?
        self.begun = asyncio.Event()

    def add(self, watcher: Watcher, job_ids: Iterable[bytes]) -> None:
        for job_id in job_ids:
            self._watchers.setdefault(job_id, []).append(watcher)

    def recall(self, watcher: Watcher, tenant: str) -> None:
        """Say of a tenant's new jobs what was heard of them."""
        for job_id in watcher.unknown & self._new.keys():
            whose, over = self._new[job_id]
            if whose == tenant:
                del self._new[job_id]
                watcher.unknown.remove(job_id)
                if over:
                    watcher.end(job_id)

    def expect(self, tenant: str, job_ids: Iterable[bytes]) -> None:
        if not self.begun.is_set():
            return
        for job_id in job_ids:
            self._new[job_id] = tenant, False
        while len(self._new) > MAX_NEW:
            self._new.popitem(last=False)

    def expect_none(self, job_ids: Iterable[bytes]) -> None:
        for job_id in job_ids:
            self._new.pop(job_id, None)

    @property
    def idle(self) -> bool:
        """Whether nobody has watched for long."""
        return not self._watchers and asyncio.get_running_loop().time() - self._left_at_s >= IDLE_S

    def remove(self, watcher: Watcher, job_ids: Iterable[bytes]) -> None:
        for job_id in job_ids:
            others = self._watchers[job_id]
            others.remove(watcher)
            if not others:
                del self._watchers[job_id]
        self._left_at_s = asyncio.get_running_loop().time()

    async def reading(self) -> None:
        """Read until nobody has watched for long."""
        after = _NEWEST
        while not self.idle:
            try:
                block_ms = BLOCK_MS if after != _NEWEST else 0
                after, ended = await self._stores.store().ended_after(self._model_name, after, block_ms)
                if not self.begun.is_set():
                    self.begun.set()
                    self._doubt_all()
                for job_id in ended:
                    if job_id in self._new:
                        self._new[job_id] = self._new[job_id][0], True
                    for watcher in self._watchers.get(job_id, ()):
                        watcher.end(job_id)
            except CloisterError as error:
                if error.reason == "jobs.feed_trimmed":
                    after = _NEWEST
                else:
                    _log.warning("jobs.feed_lost", model=self._model_name, error=error)
                    await asyncio.sleep(jittered(PAUSE_S))
                self.begun.clear()
                self._new.clear()

    def _doubt_all(self) -> None:
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.doubt()


class Feeds:
    """All feeds of one process.

    Args:
        stores: Where they are read.
        spawn: Runs a reader.

    Attributes:
        watched_jobs: By all who watch, together.
    """

    def __init__(self, stores: StoreWatch, spawn: Spawn) -> None:
        self._stores = stores
        self._spawn = spawn
        self._feeds: dict[str, _Feed] = {}
        self.watched_jobs = 0

    def reads(self, model_name: str) -> bool:
        """Whether the ends of a model are being read already."""
        return model_name in self._feeds

    @contextmanager
    def submitting(self, model_name: str, tenant: str, job_ids: Sequence[bytes]) -> Iterator[set[bytes]]:
        """Hear of these jobs from before they are kept; the caller adds those that were not there before."""
        kept, feed = set[bytes](), self._feeds.get(model_name)
        if feed is not None:
            feed.expect(tenant, job_ids)
        try:
            yield kept
        finally:
            if feed is not None:
                feed.expect_none(job_id for job_id in job_ids if job_id not in kept)

    @asynccontextmanager
    async def watched(self, model_name: str, tenant: str, job_ids: Iterable[bytes]) -> AsyncIterator[Watcher]:
        """A watcher that hears of every end from the beginning of the block on.

        What was before, records say of those that are `unknown`; the others, which are this tenant's, had no other end.

        Raises:
            Unavailable: The feed cannot be read now.
        """
        ids = frozenset(job_ids)
        watcher, feed = Watcher(ids), self._feeds.get(model_name)
        if feed is None:
            feed = self._feeds[model_name] = _Feed(model_name, self._stores)
            self._spawn(self._read(model_name, feed), f"ends of {model_name}")
        feed.add(watcher, ids)
        self.watched_jobs += len(ids)
        try:
            await _begun(feed)
            feed.recall(watcher, tenant)
            yield watcher
        finally:
            self.watched_jobs -= len(ids)
            feed.remove(watcher, ids)

    async def _read(self, model_name: str, feed: _Feed) -> None:
        await feed.reading()
        del self._feeds[model_name]  # between that and this nobody can have come


async def _begun(feed: _Feed) -> None:
    try:
        async with asyncio.timeout(START_S):
            await feed.begun.wait()
    except TimeoutError:
        raise Unavailable("what becomes of jobs cannot be read now", reason="state.unavailable") from None
