"""Whether both gateways have a link with every worker, looked at again and again from beside the mesh."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cloister.client import mesh_status
from cloister.client.reaching import reached
from cloister.errors import CloisterError

LOOK_S = 0.4
CALL_S = 1.0


class Lookout:
    """Looks, in a thread of its own.

    Args:
        gateways: Where they are.
        workers: How many there should be.
    """

    def __init__(self, gateways: Sequence[str], identity: Path, workers: int) -> None:
        self._gateways, self._identity, self._workers = gateways, identity, workers
        self._over = threading.Event()
        self._seen: list[tuple[float, bool]] = []

    def whole_since(self, since_at: float) -> float | None:
        """When all links were there and stayed, looking from this time on; None if they are not."""
        found = None
        for at, whole in list(self._seen):
            if at >= since_at:
                found = (found or at) if whole else None
        return found

    async def _look(self) -> None:
        while not self._over.is_set():
            began_at = time.time()
            async with asyncio.TaskGroup() as group:
                looks = [group.create_task(self._links(each)) for each in self._gateways]
            self._seen.append((began_at, all(look.result() for look in looks)))
            await asyncio.sleep(max(0.0, began_at + LOOK_S - time.time()))

    async def _links(self, gateway: str) -> bool:
        """By a connection of its own: one that was lost would come back in its own time, and not in the mesh's."""
        try:
            async with asyncio.timeout(CALL_S), reached(gateway, "gateway", self._identity) as (peer, _):
                status = await mesh_status(peer, CALL_S)
        except (CloisterError, TimeoutError):
            return False
        serving = [each for each in status.workers if each.linked and each.models and not each.draining]
        return len(serving) == self._workers

    def run(self) -> None:
        """Until it is over."""
        asyncio.run(self._look())

    def end(self) -> None:
        """It is over."""
        self._over.set()


@contextmanager
def lookout(gateways: Sequence[str], identity: Path, workers: int) -> Iterator[Lookout]:
    """One that looks for as long as the block lasts."""
    made = Lookout(gateways, identity, workers)
    thread = threading.Thread(target=made.run, name="lookout")
    thread.start()
    try:
        yield made
    finally:
        made.end()
        thread.join()
