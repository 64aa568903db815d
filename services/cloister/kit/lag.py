"""How late an event loop comes to what it should do: the one number that shows whether something holds it up."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from typing import Final

EVERY_S: Final = 0.05
YOUNG: Final = 20_000
"""Objects that are made and not freed before the youngest are looked through."""


async def watching(observe: Callable[[float], None]) -> None:
    """Sleep, and tell by how many seconds each sleep was too long; for as long as the service runs.

    Timers of some loops have whole milliseconds, so anything up to one says nothing.
    """
    while True:
        due = time.monotonic() + EVERY_S
        await asyncio.sleep(EVERY_S)
        observe(max(0.0, time.monotonic() - due))


def spare_collections() -> None:
    """Have garbage collection hold the event loop up for less: a full one takes 40 ms over all there is at the start.

    That stays, so it is left out from now on; and what a service keeps for an hour is looked through less often. So is
    what calls leave behind, which is nearly all freed without the collector: at 700 objects, where Python begins, it
    took a tenth of a busy worker's time.
    """
    gc.freeze()
    _, middle, _ = gc.get_threshold()
    gc.set_threshold(YOUNG, middle, 1000)
