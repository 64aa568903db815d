"""The host's time of day, for services that have no other, and not believed where it goes back (attacks I03).

Whoever sets the clock of a service back could have it believe what has expired. So it is not believed to be earlier
than when this service last vouched for something: signed a result, released a key. That is remembered in the process
and in its record. A clock that was ahead meanwhile, and at which nothing was vouched for, locks nobody out.

What this does not do: a host that stops the clock, or lets it go too slowly, is not found out here. What is vouched
for then is old from the first for everybody else, whose clocks go on, and is refused as expired.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from cloister.errors import NotReady
from cloister.kit.log import get_logger

TOLERANCE: Final = timedelta(minutes=5)
"""A clock may be corrected by so much."""
REASON: Final = "clock.set_back"
_log = get_logger()


class HostClock:
    """A time that is not before what was vouched for. Thread safe.

    Args:
        read: The host's time, aware.
    """

    def __init__(self, read: Callable[[], datetime]) -> None:
        self._read = read
        self._vouched_at = datetime.min.replace(tzinfo=UTC)
        self._lock = threading.Lock()
        self._said = False

    def start_after(self, recorded_at: datetime | None, *, was_ahead: bool) -> None:
        """Begin no earlier than what the last process of this service vouched for.

        Args:
            recorded_at: When, by its record; None if never.
            was_ahead: The operator says that the clock was wrong then, and is right now.

        Raises:
            NotReady: This machine's clock is before that (`clock.set_back`).
        """
        if recorded_at is None:
            return
        behind = recorded_at - self._read()
        if behind <= TOLERANCE:
            self.vouched(recorded_at)
            return
        _log.error("clock.behind_record", recorded_at=recorded_at, behind_s=behind.total_seconds(), believed=was_ahead)
        if not was_ahead:
            raise NotReady(
                f"this machine's clock is {behind.total_seconds():.0f} s before what our own record tells of: set it; "
                "if it was ahead when that was written, start once with clock_was_ahead = true",
                reason=REASON,
            )

    def vouched(self, at: datetime) -> None:
        """Something was vouched for by a time that `now` told."""
        with self._lock:
            self._vouched_at = max(self._vouched_at, at)

    def now(self) -> datetime:
        """Aware; within the tolerance it stands still rather than to go back.

        Raises:
            NotReady: The host's clock was set back (`clock.set_back`); until it has caught up, or a restart.
        """
        with self._lock:
            told = self._read()
            back = self._vouched_at - told
            if back <= TOLERANCE:
                self._said = False
                return max(self._vouched_at, told)
            if not self._said:
                _log.error("clock.set_back", back_s=back.total_seconds(), consequence="nothing is judged by it")
                self._said = True
        raise NotReady("the clock of this service was set back", reason=REASON)
