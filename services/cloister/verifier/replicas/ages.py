"""How new collateral was: what one verifier has seen, all remember, each in a file of its own.

Nothing of it is kept in Redis. Each tells the others what it knows when its session begins and when it learns more,
and answers whoever knows less. Ages only grow, so the order in which they are heard does not matter, and a Redis that
is set back takes nothing from anybody.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping

from cloister.appraisal import freshness
from cloister.errors import NotReady, Overloaded, Unavailable
from cloister.kit.log import get_logger
from cloister.verifier.collateral_memory import CollateralMemory
from cloister.verifier.replicas import scripts
from cloister.verifier.replicas.entries import Kind
from cloister.verifier.replicas.link import Link

_log = get_logger()


class SharedMemory:
    """The `CollateralMemory` of several replicas, over each one's own.

    Args:
        loop: Where `telling` runs; `remember` may be called on any thread.
    """

    def __init__(self, own: CollateralMemory, link: Link, loop: asyncio.AbstractEventLoop) -> None:
        self._own = own
        self._link = link
        self._loop = loop
        self._lock = threading.Lock()
        self._news = asyncio.Event()

    def newest(self) -> dict[str, list[int]]:
        """See `CollateralMemory`."""
        with self._lock:
            return self._own.newest()

    def remember(self, ages: Mapping[str, list[int]]) -> None:
        """See `CollateralMemory`."""
        if self._merge(ages):
            self._loop.call_soon_threadsafe(self._news.set)

    def tell(self) -> None:
        """Have the others told what we know."""
        self._news.set()

    async def hear(self, told: bytes) -> None:
        """Take in what another knows; whoever knows less is told."""
        theirs = {str(part): [int(number) for number in age] for part, age in json.loads(told).items()}
        try:
            await asyncio.to_thread(self._merge, theirs)
        except Unavailable as error:
            _log.error("collateral.unremembered", error=error, consequence="a restart may forget it")
        if freshness.newest(theirs, self.newest()) != theirs:
            self.tell()

    async def telling(self) -> None:
        """Tell what is new, for as long as the service runs; what cannot be told now is told when a session begins."""
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self._link.write(scripts.WRITE, Kind.AGES, json.dumps(self.newest()).encode())
            except (Unavailable, Overloaded, NotReady):
                continue

    def _merge(self, ages: Mapping[str, list[int]]) -> bool:
        """Remember; says whether that was news."""
        with self._lock:
            before = self._own.newest()
            if freshness.newest(before, ages) == before:
                return False
            self._own.remember(ages)
            return True
