"""When a request is worth sending again.

An inference changes nothing, so it may be sent as often as need be, sealed afresh each time; only errors that may pass
are worth it, and only within the caller's own deadline. Whoever refused for want of room says when to come again; that
is honoured, and where it lies beyond the deadline the refusal is told at once.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from cloister.errors import CloisterError, NotReady, Overloaded

MAX_ATTEMPTS: Final = 20
FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 2.0
AT_ONCE: Final = frozenset({"session.unknown", "conversation.unknown", "model.changed", "seal.stale"})
"""Reasons of NotReady that a request sealed afresh answers; no pause is needed."""

T = TypeVar("T")


async def attempts(call: Callable[[float], Awaitable[T]], timeout_s: float) -> T:
    """Call until it succeeds, fails for good, or the time is up.

    Args:
        call: Gets the seconds that are left.
        timeout_s: For all attempts together.

    Raises:
        CloisterError: The last error, or the first that will not pass.
        TimeoutError: The time is up.
    """
    until = time.monotonic() + timeout_s
    ceiling_s = FIRST_PAUSE_S
    before: CloisterError | None = None
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            return await call(max(until - time.monotonic(), 0.001))
        except TimeoutError as error:
            tried = f"; before that: {before}" if before is not None else ""
            raise TimeoutError(f"no answer within {timeout_s:.3g} s{tried}") from error
        except CloisterError as error:
            at_once = isinstance(error, NotReady) and error.reason in AT_ONCE
            pause_s = 0.0 if at_once else pause_after_s(error, ceiling_s)
            if not (error.retryable or at_once) or attempt == MAX_ATTEMPTS or time.monotonic() + pause_s >= until:
                raise
            before = error
        ceiling_s = min(ceiling_s * 2, LONGEST_PAUSE_S)
        await asyncio.sleep(pause_s)
    raise ValueError("there is at least one attempt")


def pause_after_s(error: BaseException | None, ceiling_s: float) -> float:
    """A random pause, so that a crowd of clients does not come back as one; not before we were told to."""
    told_s = error.retry_after_s if isinstance(error, Overloaded) else 0.0
    return told_s + random.uniform(0, max(ceiling_s, told_s / 4))  # noqa: S311  # not a secret
