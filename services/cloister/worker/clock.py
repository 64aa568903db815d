"""What time it is, told by the verifier and never by the host's calendar (attacks I03).

The time that the verifier signed into each of our Attestation Results, carried on by a counter. It never goes back. A
host that sets its calendar moves nothing; one that slows or rushes the counter is found out by the next signed time,
one that turns it back or stops it outright at once. Found out once, the worker ends: a `ClockJumped` is for good.

What this does not do: an enclave has no clock of its own. Under Gramine every clock, CLOCK_BOOTTIME too, is the host's
time of day, so a host can slow it. Whatever is counted on it then lasts longer than it should, leases of model keys
included, until the worker next asks for an Attestation Result: against such a host a lease is bounded by renewal, and
by clients and gateways, whose own clocks tell them that this worker's Attestation Result has expired.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

TOLERANCE_S: Final = 300.0
"""Signed time and counter may part by this much from one Attestation Result to the next: time on the way, a corrected
clock. More means that one of them is being played with. So does a counter that goes back by as much in all."""
STILL_READS: Final = 10_000
"""So many reads with no microsecond between them: reading so often takes Python a millisecond at least."""


class ClockJumped(RuntimeError):
    """The signed time and the counter disagree; the worker must end. Not an error that any peer can answer with."""

    reason: Final = "clock.jumped"


def counter_s() -> float:
    """Seconds since the machine began, sleep included; under Gramine, what the host says they are."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class MeshClock:
    """The verifier's time. Called on the event loop only.

    Args:
        counter: Seconds that go up.
    """

    def __init__(self, counter: Callable[[], float] = counter_s) -> None:
        self._counter = counter
        self._read_s = self._passed_s = counter()
        self._back_s, self._still_reads = 0.0, 0
        self._heard: datetime | None = None
        self._heard_at_s = 0.0
        self._told: datetime | None = None
        self._jumped = ""
        self._found_out = asyncio.Event()

    async def watching(self) -> None:
        """Wait for as long as the counter goes as it should; then raise ClockJumped."""
        await self._found_out.wait()
        raise ClockJumped(self._jumped)

    def hear(self, issued_at: datetime) -> None:
        """Take over the time in one of our Attestation Results, aware UTC, once its signature has been checked.

        Results hold whole seconds and take a while to come, so this clock is behind the verifier's by a second or so.
        A result that is older than another one before tells nothing.

        Raises:
            ClockJumped: It is further from our own time than `TOLERANCE_S`.
        """
        if self._heard is not None:
            jump_s = (issued_at - self.now()).total_seconds()
            if abs(jump_s) > TOLERANCE_S:
                self._jumped = (
                    f"the time that the verifier signed is {jump_s:+.0f} s from the host's counter, more than "
                    f"{TOLERANCE_S:.0f} s: the host plays with time, or the verifier's clock was set"
                )
                raise ClockJumped(self._jumped)
            self._back_s = 0.0
            if issued_at <= self._heard:
                return
        self._heard, self._heard_at_s = issued_at, self.counter_s()

    def counter_s(self) -> float:
        """The bare counter, for measuring how long something lasts; when the host turns it back, it stands still.

        Raises:
            ClockJumped: It stands still for good, or has gone back too far.
        """
        if self._jumped:
            raise ClockJumped(self._jumped)
        read_s = self._counter()
        step_s, self._read_s = read_s - self._read_s, read_s
        if step_s > 0:
            self._passed_s += step_s
            self._still_reads = 0
            return self._passed_s
        self._still_reads += 1
        self._back_s -= step_s
        if self._still_reads > STILL_READS:
            self._jumped = "the host's counter stands still: the host plays with time"
        elif self._back_s > TOLERANCE_S:
            self._jumped = f"the host's counter went back by {self._back_s:.0f} s: the host plays with time"
        else:
            return self._passed_s
        self._found_out.set()  # whoever asked may be a request, which takes no worker down
        raise ClockJumped(self._jumped)

    def now(self) -> datetime:
        """Aware UTC, never earlier than it was before.

        Raises:
            RuntimeError: Nothing has been heard yet.
            ClockJumped: As `counter_s`.
        """
        if self._heard is None:
            raise RuntimeError("there is no time before the first Attestation Result")
        reached = self._heard + timedelta(seconds=self.counter_s() - self._heard_at_s)
        self._told = reached if self._told is None else max(self._told, reached)
        return self._told

    def lasts_s(self, until: datetime) -> float:
        """Seconds from now until a moment of the verifier's time; negative when it has passed."""
        return (until - self.now()).total_seconds()
