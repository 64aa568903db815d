"""A loop that is held up is seen to be."""

from __future__ import annotations

import asyncio
import gc
import time

from cloister.kit import lag


async def test_what_holds_the_loop_up_is_told() -> None:
    seen: list[float] = []
    enough = asyncio.Event()

    def observe(seconds: float) -> None:
        seen.append(seconds)
        enough.set()

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(lag.watching(observe))
        await asyncio.sleep(0)
        time.sleep(lag.EVERY_S + 0.02)  # noqa: ASYNC251 - that is what must be seen
        await enough.wait()
        watching.cancel()
    assert seen[0] >= 0.02


def test_what_a_service_began_with_is_left_out_of_collections() -> None:
    before = gc.get_threshold()
    try:
        lag.spare_collections()
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold()[0] == lag.YOUNG
        cycle: list[object] = []
        cycle.append(cycle)
        del cycle
        assert gc.collect() >= 1  # what came since is looked through
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
