"""The store as this process knows it: whether jobs may be kept there, and how its queues are.

Requests are answered whatever becomes of Redis. Until it has been found closed to strangers nothing is kept in it
(attacks H06); it is tried again in the background, also one that was lost and has come back, which may be another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from cloister.errors import CloisterError, NotReady, Unavailable
from cloister.gateway.jobs.job import QueueCounts
from cloister.gateway.jobs.store import JobStore
from cloister.kit.log import get_logger

OFF: Final = "jobs.off"
READY: Final = "ready"
LOOK_S: Final = 2.0
TRY_S: Final = 0.5
"""Between two looks at a Redis that has not been found fit yet."""
_OFF: Final = (
    "this gateway keeps no jobs: its settings have no table [redis], or jobs.enabled is false; "
    "'cloister up' starts a Redis where redis-server is installed"
)
_log = get_logger()


async def _nothing() -> None:
    """There is nothing to check."""


class StoreWatch:
    """Looks after one store.

    Args:
        store: None where jobs are off.
        check: Whether what is behind the store may hold jobs; raises NotReady or Unavailable.

    Attributes:
        queues: By model, as they were a moment ago.
        state: `ready`, `jobs.off`, or the reason why jobs cannot be had now.
    """

    def __init__(self, store: JobStore | None, check: Callable[[], Awaitable[None]]) -> None:
        self.queues: Mapping[str, QueueCounts] = {}
        self._store = store
        self._check = check
        self._checked = False
        self._refusal: CloisterError | None = Unavailable(
            "whether Redis may hold jobs is not known yet", reason="jobs.unchecked"
        )
        if store is None:
            self._refusal = NotReady(_OFF, reason=OFF)
        self.state = self._refusal.reason

    @classmethod
    def off(cls) -> StoreWatch:
        """Where there are no jobs."""
        return cls(None, _nothing)

    @property
    def is_off(self) -> bool:
        """Whether there are no jobs here at all."""
        return self._store is None

    def store(self) -> JobStore:
        """The store.

        Raises:
            NotReady: There is none (`jobs.off`), or it is open to strangers; the message says what to set.
            Unavailable: It has not been reached yet.
        """
        if self._store is None or self._refusal is not None:
            refusal = self._refusal or NotReady(_OFF, reason=OFF)
            raise type(refusal)(str(refusal), reason=refusal.reason)
        return self._store

    async def watching(self, serving: Callable[[bool], Awaitable[None]]) -> None:
        """Look again and again, and tell whether jobs are served, for as long as the service runs."""
        if self._store is None:
            return
        while True:
            await self.look()
            await serving(self.state == READY)
            await asyncio.sleep(LOOK_S if self._checked else TRY_S)

    async def look(self) -> None:
        """Look once; nothing is raised."""
        store = self._store
        if store is None:
            return
        try:
            if not self._checked:
                await self._check()
                self._checked, self._refusal = True, None
            self.queues = {counts.model_name: counts for counts in await store.queues()}
        except NotReady as error:
            self._checked, self._refusal = False, error
            self._note(error.reason, error)
        except CloisterError as error:
            self._checked = False
            self._note(error.reason, error)
        else:
            self._note(READY)

    def _note(self, state: str, error: CloisterError | None = None) -> None:
        if state == self.state:
            return
        self.state = state
        if error is None:
            _log.info("jobs.ready")
        else:
            _log.error("jobs.unavailable", reason=state, error=error)
