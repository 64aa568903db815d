"""Attestation Results that were presented: each is good for one release.

Kept in memory until the result has expired by itself. What was used before a restart is not remembered, so results
issued before this service started are refused: a worker simply attests again. Thread safe.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from datetime import datetime

from cloister.ear import LEEWAY, AttestationResult
from cloister.errors import EvidenceRejected, Overloaded


class UsedResults:
    """The results used since this service started.

    Args:
        started_at: Aware UTC; results issued earlier are refused.
        capacity: Most results remembered at once.
    """

    def __init__(self, *, started_at: datetime, capacity: int = 65_536) -> None:
        # Results carry whole seconds.
        self._started_at = started_at.replace(microsecond=0)
        self._capacity = capacity
        self._used: OrderedDict[str, datetime] = OrderedDict()
        self._lock = threading.Lock()

    def use(self, result: AttestationResult, *, now: datetime) -> None:
        """Use `result` up: of any number of concurrent calls with it, one returns.

        Raises:
            EvidenceRejected: It was used (`token.used`), or is older than this service (`token.before_start`).
            Overloaded: Too many results are remembered.
        """
        if result.issued_at < self._started_at:
            raise EvidenceRejected("the result is older than this service's memory", reason="token.before_start")
        with self._lock:
            if result.ear_id in self._used:
                raise EvidenceRejected("the result was used before", reason="token.used")
            if len(self._used) >= self._capacity:
                self._forget(now)
            if len(self._used) >= self._capacity:
                raise Overloaded("too many releases at once", reason="results.full")
            self._used[result.ear_id] = result.expires_at

    def _forget(self, now: datetime) -> None:
        for ear_id, expires_at in list(self._used.items()):
            if expires_at < now - 2 * LEEWAY:
                del self._used[ear_id]
