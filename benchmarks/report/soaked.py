"""What a soak came to: latency by kind of request, memory by process, and what is wrong with either."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from benchmarks.load.open_loop import Paced
from benchmarks.report.drift import MB, Memory, drifts
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Asked:
    """One kind of request.

    Attributes:
        network: Asked for.
        carrier: How.
        per_s: Requests a second.
        minutes: What came of each minute.
    """

    network: str
    carrier: str
    per_s: float
    minutes: list[Paced]

    @property
    def p99_ms(self) -> list[float]:
        """By minute."""
        return [1e3 * minute.p99_s for minute in self.minutes]


def latency_table(asked: Sequence[Asked]) -> Table:
    """By kind: p50 and p99 of the first third and the last."""
    table = Table("network", "asked by", "per s", "answers", "p50 ms, first → last", "p99 ms, first → last", "p99 most")
    for each in asked:
        third = max(1, len(each.minutes) // 3)
        p50_ms = [1e3 * minute.p50_s for minute in each.minutes]
        table.add_row(
            each.network,
            each.carrier,
            f"{each.per_s:.1f}",
            str(sum(minute.answers for minute in each.minutes)),
            f"{median(p50_ms[:third]):.1f} → {median(p50_ms[-third:]):.1f}",
            f"{median(each.p99_ms[:third]):.1f} → {median(each.p99_ms[-third:]):.1f}",
            f"{max(each.p99_ms):.1f}",
        )
    return table


def memory_table(memories: Sequence[Memory]) -> Table:
    """By process: at the start, at the end, and how it grew after the warm-up."""
    table = Table("process", "RSS MB, first → last", "slope MB/h", "growth MB", "may grow by")
    for each in memories:
        first, last = each.rss_bytes[0] / MB, each.rss_bytes[-1] / MB
        table.add_row(
            each.name,
            f"{first:.1f} → {last:.1f}",
            f"{each.slope_mb_per_h:.1f}",
            f"{each.growth_mb:.1f}",
            f"{each.bound_mb:.1f}",
        )
    return table


def complaints(asked: Sequence[Asked], memories: Sequence[Memory], *, latency: bool) -> Iterator[str]:
    """What is wrong, in words; `latency` says whether that is judged."""
    for each in asked:
        for name in ("refused", "expired", "unsent", "errors"):
            count = sum(getattr(minute, name) for minute in each.minutes)
            if count:
                yield f"{each.network}, {each.carrier}: {count} requests {name}"
        if latency and drifts(each.p99_ms):
            yield f"{each.network}, {each.carrier}: p99 drifts: {', '.join(f'{ms:.1f}' for ms in each.p99_ms)} ms"
    for process in memories:
        if process.grows:
            yield f"{process.name} grows: {process.growth_mb:.1f} MB meanwhile, {process.slope_mb_per_h:.0f} an hour"


def document(asked: Sequence[Asked], memories: Sequence[Memory]) -> dict[str, Any]:
    """All of it, as JSON has it."""
    return {
        "asked": [asdict(each) for each in asked],
        "memory": [
            {**asdict(each), "slope_mb_per_h": each.slope_mb_per_h, "growth_mb": each.growth_mb} for each in memories
        ],
    }
