"""A loop that is held up is seen to be."""

from __future__ import annotations

import asyncio
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
