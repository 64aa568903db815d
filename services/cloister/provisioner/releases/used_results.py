"""Attestation Results that were presented: each is good for one release.

Kept in memory until the result has expired by itself. What was used before a restart is not remembered, so every result
that can have been used then is refused: one issued before this service started, and one issued up to a leeway after the
last release on the record, for the verifier's clock may be ahead of ours by so much. A worker attests again, and keeps
its lease meanwhile.
Where nothing was released lately nothing can have been used, and nobody waits. Thread safe.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from datetime import datetime
from typing import Final

from cloister.ear import LEEWAY, AttestationResult
from cloister.errors import EvidenceRejected, NotReady, Overloaded

CAPACITY: Final = 1 << 18
"""Results live for five minutes and are remembered for one or two more: enough for 600 releases a second, in 60 MB."""


class UsedResults:
    """The results used since this service started.

    Args:
        started_at: Aware UTC; results issued earlier are refused.
        last_release_at: When a key was last released, before the start; None if none ever was.
        capacity: Most results remembered at once.
    """

    def __init__(self, *, started_at: datetime, last_release_at: datetime | None, capacity: int = CAPACITY) -> None:
        # Results carry whole seconds.
        self._started_at = started_at.replace(microsecond=0)
        # A record from the future tells of a clock that was wrong, and is not waited for.
        self._used_until = min(last_release_at, started_at) + LEEWAY if last_release_at is not None else None
        self._capacity = capacity
        self._used: OrderedDict[str, datetime] = OrderedDict()
        self._lock = threading.Lock()

    def use(self, result: AttestationResult, *, now: datetime) -> None:
        """Use `result` up: of any number of concurrent calls with it, one returns.

        Raises:
            EvidenceRejected: It was used (`token.used`).
            NotReady: It is older than this service's memory (`token.before_start`): attest again in a moment.
            Overloaded: Too many results are remembered.
        """
        perhaps_used = self._used_until is not None and result.issued_at <= self._used_until
        if result.issued_at < self._started_at or perhaps_used:
            raise NotReady("the result is older than this service's memory", reason="token.before_start")
        with self._lock:
            self._forget(now)
            if result.ear_id in self._used:
                raise EvidenceRejected("the result was used before", reason="token.used")
            if len(self._used) >= self._capacity:
                raise Overloaded("too many releases at once", reason="results.full")
            self._used[result.ear_id] = result.expires_at

    def _forget(self, now: datetime) -> None:
        """Forget those used first, up to one that has not expired: results live for minutes, so none stays for long."""
        while self._used and next(iter(self._used.values())) < now - 2 * LEEWAY:
            self._used.popitem(last=False)
