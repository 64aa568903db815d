"""An open loop: requests are sent when their time has come, whether or not earlier ones have been answered.

Arrivals are a Poisson process with a seed, so a run can be had again. Every time is counted from when a request was
due, not from when the load came round to sending it: a load that is late must not make the service look quick
(coordinated omission). How late it was is told, and how many it could not send; a load that could not keep up has
measured itself.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import grpc
from benchmarks.load.turns import quantile

MAX_WAITING = 20_000
"""Requests without an answer; what is due beyond them is not sent, so that the load itself does not run full."""
BREATH_S = 0.002
"""The load sleeps at least so long, and then sends all that has become due: a timer for each would cost too much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What to do: `per_s` requests a second, at first uncounted for `warm_up_s`, then counted for `seconds`."""

    per_s: float
    seconds: float
    warm_up_s: float = 0.0
    seed: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Paced:
    """What came of the requests that were due while counting.

    Attributes:
        due: How many there were; the sum of the next five.
        answers: Answered.
        refused: Told that they were too many (RESOURCE_EXHAUSTED).
        expired: Their deadline passed.
        errors: Anything else that went wrong; `error` is the first of them.
        unsent: Not sent, because `MAX_WAITING` had no answer.
        elapsed_s: How long counting took.
        cpu_s: The load's own CPU meanwhile.
        late_p99_s: How much later than due requests were sent.
        last_loss_s: When, since counting began, the last request was due that got no answer; 0 when all got one.
    """

    due: int
    answers: int
    refused: int
    expired: int
    errors: int
    error: str
    unsent: int
    elapsed_s: float
    cpu_s: float
    p50_s: float
    p99_s: float
    refusal_p50_s: float
    refusal_p99_s: float
    late_p99_s: float
    last_loss_s: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


@dataclass(slots=True)
class _Tally:
    answered_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    due: int = 0
    expired: int = 0
    unsent: int = 0
    last_loss_s: float = 0.0

    def failed(self, error: Exception, took_s: float) -> None:
        code = error.code() if isinstance(error, grpc.RpcError) else getattr(error, "code", None)
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            self.refused_s.append(took_s)
        elif code is grpc.StatusCode.DEADLINE_EXCEEDED or isinstance(error, TimeoutError):
            self.expired += 1
        else:
            self.errors.append(f"{type(error).__name__}: {error}"[:300])

    def counted(self, elapsed_s: float, cpu_s: float) -> Paced:
        return Paced(
            due=self.due,
            answers=len(self.answered_s),
            refused=len(self.refused_s),
            expired=self.expired,
            errors=len(self.errors),
            error=self.errors[0] if self.errors else "",
            unsent=self.unsent,
            elapsed_s=elapsed_s,
            cpu_s=cpu_s,
            p50_s=quantile(self.answered_s, 0.50),
            p99_s=quantile(self.answered_s, 0.99),
            refusal_p50_s=quantile(self.refused_s, 0.50),
            refusal_p99_s=quantile(self.refused_s, 0.99),
            late_p99_s=quantile(self.late_s, 0.99),
            last_loss_s=self.last_loss_s,
        )


def arrivals(pace: Pace) -> Iterator[float]:
    """Seconds from the beginning at which requests are due, to the end of counting."""
    chance = random.Random(pace.seed)  # noqa: S311 - not a secret
    at_s = chance.expovariate(pace.per_s)
    while at_s < pace.warm_up_s + pace.seconds:
        yield at_s
        at_s += chance.expovariate(pace.per_s)


async def paced(pace: Pace, ask: Callable[[int], Awaitable[Any]], began: Callable[[], None]) -> Paced:
    """Send at a pace and wait for all that comes of it; `began` is called when counting starts.

    CPU and elapsed time are read when counting ends, before the last answers have come.

    Raises:
        ValueError: The pace is so slow that nothing is due while counting.
    """
    due = list(arrivals(pace))
    if not due or due[-1] < pace.warm_up_s:
        raise ValueError("no request is due while counting: count for longer, or at a higher rate")
    tally, waiting, counting = _Tally(), 0, False
    began_s = time.perf_counter()
    elapsed_s = cpu_s = 0.0

    async def one(number: int, due_s: float, into: _Tally) -> None:
        nonlocal waiting
        into.late_s.append(time.perf_counter() - due_s)
        try:
            await ask(number)
        except Exception as error:
            into.failed(error, time.perf_counter() - due_s)
            into.last_loss_s = max(into.last_loss_s, due_s - began_s - pace.warm_up_s)
        else:
            into.answered_s.append(time.perf_counter() - due_s)
        finally:
            waiting -= 1

    warm_up = _Tally()
    async with asyncio.TaskGroup() as group:
        for number, at_s in enumerate(due):
            if (ahead_s := began_s + at_s - time.perf_counter()) > 0:
                await asyncio.sleep(max(ahead_s, BREATH_S))
            if at_s >= pace.warm_up_s and not counting:
                counting = True
                began()
                count_s, cpu_s = time.perf_counter(), time.process_time()
            into = tally if counting else warm_up
            into.due += 1
            if waiting >= MAX_WAITING:
                into.unsent += 1
                continue
            waiting += 1
            group.create_task(one(number, began_s + at_s, into))
        await asyncio.sleep(max(0.0, count_s + pace.seconds - time.perf_counter()))
        elapsed_s, cpu_s = time.perf_counter() - count_s, time.process_time() - cpu_s
    return tally.counted(elapsed_s, cpu_s)
