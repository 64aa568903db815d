"""How often one party may ask: a token bucket for each name, refilled steadily. Monotonic time; thread safe."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from cloister.errors import Overloaded

REASON = "release.too_often"


class Rates:
    """Buckets by name; those not used longest are forgotten first, and by then are full again.

    Args:
        per_minute: How many requests a minute are served, and how many at once after a quiet minute.
        monotonic: A clock that never goes back, in seconds.
        capacity: Most names remembered.
    """

    def __init__(self, *, per_minute: int, monotonic: Callable[[], float], capacity: int = 65_536) -> None:
        self._full = float(per_minute)
        self._per_second = per_minute / 60
        self._monotonic = monotonic
        self._capacity = capacity
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, name: str) -> None:
        """Count one request.

        Raises:
            Overloaded: There were too many within the last minute (`release.too_often`).
        """
        with self._lock:
            now = self._monotonic()
            held, at = self._buckets.pop(name, (self._full, now))
            held = min(self._full, held + (now - at) * self._per_second)
            self._buckets[name] = (max(held - 1, 0.0) if held >= 1 else held, now)
            while len(self._buckets) > self._capacity:
                self._buckets.popitem(last=False)
        if held < 1:
            raise Overloaded("too many requests from one platform or worker", reason=REASON)
