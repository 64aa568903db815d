"""Clocks that do not depend on how busy the machine is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Ticking:
    """Moves on by the same at every look, so that whatever is timed takes that long.

    Attributes:
        tick_s: By so much.
        now_s: What it shows.
    """

    tick_s: float
    now_s: float = 0.0

    def __call__(self) -> float:
        self.now_s += self.tick_s
        return self.now_s


def quick() -> Ticking:
    """Every evaluation takes 10 microseconds: the loop's, and batches pay."""
    return Ticking(10e-6)


def slow() -> Ticking:
    """Every evaluation takes a millisecond: the pool's, and batches pay."""
    return Ticking(1e-3)
