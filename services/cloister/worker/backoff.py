"""How long to wait before trying again, jittered so that a crowd does not come back as one (attacks J13)."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass


@dataclass(slots=True)
class Backoff:
    """Pauses between `least_s` and `most_s` that grow with each failure in a row."""

    least_s: float = 1.0
    most_s: float = 15.0
    _failures: int = 0

    def reset(self) -> None:
        """It worked; the next failure is a first one."""
        self._failures = 0

    async def pause(self, at_most_s: float = float("inf")) -> None:
        """Wait after a failure; no longer than `at_most_s`."""
        self._failures += 1
        ceiling_s = min(self.most_s, self.least_s * 2 ** min(self._failures, 16))
        pause_s = random.uniform(self.least_s, ceiling_s)  # noqa: S311 - not a secret
        await asyncio.sleep(max(0.0, min(pause_s, at_most_s)))


def renewal_s(life_s: float) -> float:
    """Seconds after which something that lives `life_s` is renewed: at two thirds of it, or a little earlier."""
    return life_s * random.uniform(0.6, 2 / 3)  # noqa: S311 - not a secret
