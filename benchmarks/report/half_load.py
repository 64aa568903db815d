"""How late answers are at half of what a system can answer: an open loop, in which requests come when they come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.load.open_loop import Pace, Paced
from benchmarks.report.samples import Row
from rich.table import Table

LEAST_DUE = 300
"""Requests that one turn counts at least, for a p99 of a few rather than of the worst alone."""
MOST_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfLoad:
    """One turn.

    Attributes:
        per_s: Requests asked for.
        late_p99_ms: How much later than due the load sent them; what is not well below p50 is the load's own doing.
        lost: Requests without an answer.
    """

    system: str
    carrier: str
    per_s: float
    p50_ms: float
    p99_ms: float
    late_p99_ms: float
    lost: int

    @classmethod
    def of(cls, row: Row, pace: Pace, came: Paced) -> HalfLoad:
        """From what an open loop found."""
        return cls(
            system=row.kind.system,
            carrier=row.kind.carrier,
            per_s=pace.per_s,
            p50_ms=came.p50_s * 1e3,
            p99_ms=came.p99_s * 1e3,
            late_p99_ms=came.late_p99_s * 1e3,
            lost=came.due - came.answers,
        )

    @property
    def spread(self) -> float:
        """How many times its p50 the p99 is."""
        return self.p99_ms / self.p50_ms if self.p50_ms else 0.0


def pace(row: Row, *, seconds: float, warm_up_s: float, seed: int) -> Pace:
    """Half of what was answered a second with the most requests in flight, for at least `seconds`."""
    per_s = row.per_s / 2
    return Pace(per_s=per_s, seconds=min(max(seconds, LEAST_DUE / per_s), MOST_S), warm_up_s=warm_up_s, seed=seed)


def medians(found: Sequence[HalfLoad]) -> list[HalfLoad]:
    """One for each system and carrier: the turn whose p99 is the median many times its p50."""
    kinds = dict.fromkeys((each.system, each.carrier) for each in found)
    return [_middle([each for each in found if (each.system, each.carrier) == kind]) for kind in kinds]


def table(network: str, found: Sequence[HalfLoad]) -> Table:
    """One line for each."""
    shown = Table(title=f"{network}: at half of its own most, requests at random times; ms")
    for name in ("system", "asked by", "asked/s", "p50", "p99", "times", "sent late, p99", "lost"):
        shown.add_column(name, justify="left" if name in ("system", "asked by") else "right")
    for each in found:
        figures = (each.p50_ms, each.p99_ms, each.spread, each.late_p99_ms)
        asked = f"{each.per_s:.1f}" if each.per_s < 100 else f"{each.per_s:.0f}"
        shown.add_row(each.system, each.carrier, asked, *(f"{figure:.2f}" for figure in figures), str(each.lost))
    return shown


def _middle(found: Sequence[HalfLoad]) -> HalfLoad:
    middle = median(sorted(each.spread for each in found))
    return min(found, key=lambda each: abs(each.spread - middle))
