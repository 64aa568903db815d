"""How many releases of a model its owner allows in an hour, counted by the log, so that a restart forgets none.

Counted are the log's own lines of releases: what it already has of the last hour is read once, when the first policy
with a bound is met, and each later release is counted before it has its line. Whoever asks too often is told when a
place comes free, and nobody else's model is concerned. Thread safe.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

from cloister.api.v1.audit_pb2 import AuditRecord
from cloister.errors import Overloaded

REASON: Final = "rate.exceeded"
HOUR: Final = timedelta(hours=1)
_FIRST_LOOK: Final = 1024


class Quotas:
    """Releases within the last hour, by model.

    Args:
        event: What the log calls a release.
        newest: The log's newest so many lines, oldest first.
    """

    def __init__(self, event: str, newest: Callable[[int], Iterator[AuditRecord]]) -> None:
        self._event = event
        self._newest = newest
        self._released: dict[str, deque[datetime]] | None = None
        self._lock = threading.Lock()

    def take(self, model_name: str, most: int, now: datetime) -> None:
        """Count one more release, if the owner's bound allows it.

        Args:
            model_name: Of the model, all versions together.
            most: In an hour; 0 for no bound.
            now: Aware.

        Raises:
            Overloaded: It does not (`rate.exceeded`); says when there is a place again.
            LogBroken, Unavailable: The log cannot be read, or not believed.
        """
        with self._lock:
            if self._released is None and not most:
                return
            released = self._counted(now).setdefault(model_name, deque())
            while released and released[0] <= now - HOUR:
                released.popleft()
            if most and len(released) >= most:
                free_in = released[-most] + HOUR - now
                raise Overloaded(
                    "the model's owner allows no more releases in this hour",
                    reason=REASON,
                    retry_after_s=free_in.total_seconds(),
                )
            released.append(now)

    def give_back(self, model_name: str, now: datetime) -> None:
        """Uncount a release that was counted at `now` and did not come onto the log."""
        with self._lock, suppress(KeyError, ValueError):
            (self._released or {})[model_name].remove(now)

    def _counted(self, now: datetime) -> dict[str, deque[datetime]]:
        if self._released is None:
            released: dict[str, deque[datetime]] = {}
            for line in self._since(now - HOUR):
                if line["event"] == self._event:
                    released.setdefault(line["model"], deque()).append(datetime.fromisoformat(line["time"]))
            self._released = released  # with all of them, or not at all
        return self._released

    def _since(self, begin: datetime) -> list[dict[str, Any]]:
        """Lines of the log from `begin` on: a look at the newest that grows until it goes back far enough."""
        wanted = _FIRST_LOOK
        while True:
            lines = [json.loads(entry.record) for entry in self._newest(wanted)]
            if len(lines) < wanted or datetime.fromisoformat(lines[0]["time"]) <= begin:
                return [line for line in lines if datetime.fromisoformat(line["time"]) > begin]
            wanted *= 4
