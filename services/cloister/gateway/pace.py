"""When the next frame of a link leaves: at once while calls are few, with company while they come fast.

A frame costs gateway and worker together as much as several calls do. So under load it waits: while a frame of quick
calls is unanswered, because a worker evaluates those on its event loop and reads nothing meanwhile; and as long as each
step of waiting brings company. No timer runs while calls are few, and no wait is longer than `STEPS` steps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sized
from typing import Final

STEP_S: Final = 0.001
STEPS: Final = 5
FEW: Final = 4
"""Calls under way with which a frame waits for a busy worker even where calls do not come fast."""
COMPANY: Final = 2
"""Calls that have to come within a step for the frame to wait for another."""
FULL: Final = 8
"""Calls with which a frame leaves whatever its worker does, so that the two sides work at the same time."""
BRISK: Final = 50
"""Calls from one `measure` to the next that are fast; it is called every tenth of a second."""


class Pace:
    """The pace of one link."""

    def __init__(self) -> None:
        self._brisk = False
        self._measured_id = 0
        self._earlier_id = 0
        self._busy = False

    def measure(self, last_id: int) -> None:
        """Note how many calls have come by now, by the id of the last one."""
        self._brisk = last_id - self._measured_id >= BRISK
        self._measured_id = last_id

    def sent(self, earlier_id: int, *, quick: bool) -> None:
        """A frame leaves.

        Args:
            earlier_id: The last call of the frames before it.
            quick: Some of its calls are evaluated as soon as they are read.
        """
        self._earlier_id, self._busy = earlier_id, quick

    def answered(self, call_id: int) -> None:
        """A result came: the worker reads on, if it is of the last frame."""
        if call_id > self._earlier_id:
            self._busy = False

    async def gather(self, waiting: Sized, under_way: int) -> None:
        """Let the calls that wait have company; a lone call has none to wait for.

        Args:
            waiting: They; those that come meanwhile are added to it.
            under_way: They, and those without an answer.
        """
        if not (under_way > 1 if self._brisk else self._busy and under_way >= FEW):
            return
        for _ in range(STEPS):
            before = len(waiting)
            if before >= FULL:
                return
            await asyncio.sleep(STEP_S)
            if not (self._busy or len(waiting) - before >= COMPANY):
                return
