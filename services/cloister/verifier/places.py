"""From how many addresses the workers of one platform are attested.

A quote says which platform signed it, and not where that platform stands. Whoever has taken an attestation key out of
one machine can have quotes signed for it anywhere; what is left to see is that one platform has workers at two
addresses. That decides nothing, since an endpoint is the worker's own word and a machine may have several: it is for an
operator to look at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

_FORGET_EVERY_S: Final = 60.0


class Places:
    """Platforms and the hosts of their workers' endpoints, each for as long as its result lives.

    Args:
        monotonic: A clock that never goes back, in seconds.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._ends_at: dict[tuple[bytes, str], float] = {}
        self._forget_at = 0.0

    def seen(self, platform: bytes, endpoint: str, *, life_s: float) -> None:
        """A worker of `platform`, by whichever digest names it, is attested at host:port for `life_s` from now."""
        now = self._monotonic()
        if now >= self._forget_at:
            self._ends_at = {place: at for place, at in self._ends_at.items() if at > now}
            self._forget_at = now + _FORGET_EVERY_S
        self._ends_at[platform, endpoint.rpartition(":")[0]] = now + life_s

    def most(self) -> int:
        """The most addresses of one platform; for any thread."""
        now = self._monotonic()
        counted = Counter(platform for (platform, _), at in self._ends_at.copy().items() if at > now)
        return max(counted.values(), default=0)
