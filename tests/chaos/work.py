"""What clients ask under fire: jobs drawn from one seed, each different, and what is right for each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from random import Random

import numpy as np
from numpy.typing import NDArray

from fakes.running_mesh import inputs

LIFE_S = 3600.0
BRIEF_S = 2.0
ORDER_KEYS = 4


class Kind(Enum):
    """What is special about a job."""

    ORDINARY = "ordinary"
    ORDERED = "ordered"
    """One of a row that is to be answered one after the other."""
    WRONG = "wrong"
    """No model takes such an input: the answer is an error, sealed."""
    BRIEF = "brief"
    """Lives so short that under fire it may end as a dead letter."""


WEIGHTS = {Kind.ORDINARY: 84, Kind.ORDERED: 10, Kind.WRONG: 3, Kind.BRIEF: 3}
PRIORITIES = ("normal", "normal", "normal", "high", "low")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One job; its number says everything about its input."""

    number: int
    kind: Kind
    rows: int
    priority: str
    order_key: str

    @property
    def life_s(self) -> float:
        """How long it may wait."""
        return BRIEF_S if self.kind is Kind.BRIEF else LIFE_S

    @property
    def alike(self) -> tuple[str, str, float]:
        """What jobs that are prepared together have in common."""
        return self.priority, self.order_key, self.life_s

    @property
    def x(self) -> NDArray[np.float32]:
        """Its input."""
        x = inputs(self.number, self.rows)
        return x[:, :-1].copy() if self.kind is Kind.WRONG else x


def wanted(seed: int, count: int, owner: int = 0) -> list[Wanted]:
    """Jobs of one client; the same every time."""
    draw = Random(f"{seed}/{owner}")
    kinds = draw.choices(list(WEIGHTS), list(WEIGHTS.values()), k=count)
    return [_drawn(draw, owner * 1_000_000 + at, kind, owner) for at, kind in enumerate(kinds)]


def _drawn(draw: Random, number: int, kind: Kind, owner: int) -> Wanted:
    order_key = f"row-{owner}-{draw.randrange(ORDER_KEYS)}" if kind is Kind.ORDERED else ""
    priority = "normal" if kind is Kind.ORDERED else draw.choice(PRIORITIES)
    return Wanted(number=number, kind=kind, rows=draw.choice((1, 1, 2, 3)), priority=priority, order_key=order_key)
