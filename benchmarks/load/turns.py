"""What a load is told and what it says, one JSON document per line; and the closed loop that asks.

A turn: so many requests are kept in flight, without counting for `warm_up_s`, then for `seconds` with every answer
counted. `began` is said when counting starts and the result when it ends, so that whoever listens can read the CPU time
of the servers at those two moments.
"""

from __future__ import annotations

import asyncio
import json
import math
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

BEGAN = "began"


def say(word: object) -> None:
    """One line on stdout, at once."""
    print(json.dumps(word), flush=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What to do."""

    in_flight: int
    seconds: float
    warm_up_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Volley:
    """Jobs to submit and wait for.

    Attributes:
        together: Jobs in one Submit, watched together.
        under_way: Most that have no end yet.
    """

    jobs: int
    together: int
    under_way: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What came of it; `cpu_s` is the load's own."""

    answers: int
    errors: int
    error: str
    elapsed_s: float
    cpu_s: float
    p50_s: float
    p99_s: float

    @classmethod
    def of(cls, took_s: Sequence[float], errors: Sequence[str], *, elapsed_s: float, cpu_s: float) -> Counted:
        """From how long each answer took."""
        return cls(
            answers=len(took_s),
            errors=len(errors),
            error=errors[0] if errors else "",
            elapsed_s=elapsed_s,
            cpu_s=cpu_s,
            p50_s=quantile(took_s, 0.50),
            p99_s=quantile(took_s, 0.99),
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all are no greater than; 0 of none."""
    ordered = sorted(values)
    return ordered[max(1, math.ceil(share * len(ordered))) - 1] if ordered else 0.0


def median(values: Sequence[float]) -> float:
    """Of at least one."""
    return statistics.median(values)


async def taken(turn: Turn, ask: Callable[[int], Awaitable[Any]], began: Callable[[], None]) -> Counted:
    """Keep `turn.in_flight` requests under way, and count; `began` is called when counting starts.

    An answer counts if it came while counting, wherever its request was sent: over a whole turn those that hang over
    at either end cancel out.
    """
    took_s: list[float] = []
    errors: list[str] = []
    done = False

    async def one_after_the_other(number: int) -> None:
        while not done:
            sent = time.perf_counter()
            try:
                await ask(number)
            except Exception as error:
                errors.append(f"{type(error).__name__}: {error}"[:300])
                await asyncio.sleep(0.01)  # a server that refuses at once would be flooded
            else:
                took_s.append(time.perf_counter() - sent)
            number += turn.in_flight

    async with asyncio.TaskGroup() as group:
        for number in range(turn.in_flight):
            group.create_task(one_after_the_other(number))
        await asyncio.sleep(turn.warm_up_s)
        took_s.clear()
        errors.clear()
        began()
        at, cpu = time.perf_counter(), time.process_time()
        await asyncio.sleep(turn.seconds)
        elapsed_s, cpu_s = time.perf_counter() - at, time.process_time() - cpu
        counted = Counted.of(took_s, errors, elapsed_s=elapsed_s, cpu_s=cpu_s)
        done = True
    return counted
