"""What time it is, without believing the host's calendar (attacks I03).

The verifier's time, as it stands in each of our Attestation Results, carried on by a counter that only goes up and also
counts while the machine sleeps. A host that sets its clock moves nothing: not a lease's end, not a request's deadline,
not the time in a receipt.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta


def counter_s() -> float:
    """Seconds on a counter that never goes back."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class MeshClock:
    """The verifier's time.

    Args:
        counter: Seconds that only go up.
    """

    def __init__(self, counter: Callable[[], float] = counter_s) -> None:
        self._counter = counter
        self._heard: datetime | None = None
        self._heard_at_s = 0.0

    def hear(self, issued_at: datetime) -> None:
        """Take over the time in an Attestation Result that has just come, aware UTC.

        Results hold whole seconds and take a while to come, so this clock is behind the verifier's by a second or so.
        """
        self._heard, self._heard_at_s = issued_at, self._counter()

    def counter_s(self) -> float:
        """The bare counter, for measuring how long something lasts."""
        return self._counter()

    def now(self) -> datetime:
        """Aware UTC.

        Raises:
            RuntimeError: Nothing has been heard yet.
        """
        if self._heard is None:
            raise RuntimeError("there is no time before the first Attestation Result")
        return self._heard + timedelta(seconds=self._counter() - self._heard_at_s)

    def lasts_s(self, until: datetime) -> float:
        """Seconds from now until a moment of the verifier's time; negative when it has passed."""
        return (until - self.now()).total_seconds()
