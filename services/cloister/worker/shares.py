"""A worker's slots, divided among the links that gateways have open (docs/decisions/0025-scaling-out.md).

What a worker can have under way of each model is one number, however many gateway processes there are. Each link is
granted a share of it, by what it used of the model that it used most: max-min fair. A link that uses little keeps what
it uses, links that used all they had divide the rest equally, and what nobody wants is spread evenly, so that whoever
begins finds slots. Each link has one at least. A share grows only into what others have given back: their calls under
way count until they are answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

STEP_S: Final = 0.05
"""How often shares follow what is used; with one link there is nothing to do."""


class Share:
    """What one link may have under way.

    Attributes:
        granted: Slots, of each model.
        under_way: Calls without an answer, of the model that has most.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self.granted = 1
        self.under_way = 0
        self._most_used = 0
        self._changed = changed

    def use(self, calls: int) -> None:
        """So many calls are under way now."""
        self.under_way = calls
        self._most_used = max(self._most_used, calls)

    def demand(self, most: int) -> int:
        """The most it had under way since it was last asked; `most` if that was all it had."""
        used, self._most_used = self._most_used, self.under_way
        return most if used >= self.granted else used

    def grant(self, slots: int) -> None:
        """Give it so many; the link is told when they are others than before."""
        if slots != self.granted:
            self.granted = slots
            self._changed()


class Shares:
    """All links of one worker.

    Args:
        slots: Calls of each model under way at once, for all of them together.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._shares: list[Share] = []
        self._several = asyncio.Event()

    @contextmanager
    def joined(self, changed: Callable[[], None]) -> Iterator[Share]:
        """A share for as long as a link is open; `changed` is called when it is another number of slots."""
        share = Share(changed)
        self._shares.append(share)
        self._divide()
        try:
            yield share
        finally:
            self._shares.remove(share)
            self._divide()

    async def dividing(self) -> None:
        """Let shares follow what is used, for as long as the service runs."""
        while True:
            await self._several.wait()
            await asyncio.sleep(STEP_S)
            self._divide()

    def _divide(self) -> None:
        if len(self._shares) > 1:
            self._several.set()
        else:
            self._several.clear()
        targets = divided(self.slots, [share.demand(self.slots) for share in self._shares])
        pairs = list(zip(self._shares, targets, strict=True))
        for share, target in pairs:
            if target < share.granted:
                share.grant(target)
        room = self.slots - sum(max(share.granted, share.under_way) for share in self._shares)
        for share, target in pairs:
            more = min(target - share.granted, room)
            if more > 0:
                share.grant(share.granted + more)
                room -= more


def divided(slots: int, demands: Sequence[int]) -> list[int]:
    """Divide `slots` max-min fairly: small demands are met, larger ones get equal parts, leftovers are spread evenly.

    Args:
        slots: To divide.
        demands: At most `slots` each.

    Returns:
        In the order of `demands`; at least 1 each, so more than `slots` in all where there are more links than slots.
    """
    parts = [1] * len(demands)
    left, rest = max(0, slots - len(demands)), sorted(range(len(demands)), key=lambda at: demands[at])
    for done, at in enumerate(rest):
        more = min(max(0, demands[at] - 1), left // (len(rest) - done))
        parts[at] += more
        left -= more
    for done, at in enumerate(reversed(rest)):  # what nobody asked for
        more = left // (len(rest) - done)
        parts[at] += more
        left -= more
    return parts
