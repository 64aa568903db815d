"""How an event leaves for somebody who watches: whoever does not read it in time is cut off, and begins anew."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from cloister.errors import Unavailable

WRITE_S: Final = 30.0


async def write_event(context: Any, event: object) -> None:
    """Write one event to a stream.

    Args:
        context: Of the call, as `grpc.aio` hands it to a servicer.
        event: A message.

    Raises:
        Unavailable: It was not taken within `WRITE_S` (`watcher.cut`).
    """
    try:
        async with asyncio.timeout(WRITE_S):
            await context.write(event)
    except TimeoutError:
        raise Unavailable("the watcher does not read; begin again", reason="watcher.cut") from None
