"""What was measured in one turn, and what all turns of a kind come to: medians, and ratios within a round."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from benchmarks.load.turns import Counted, Turn

LIMIT = "OpenVINO"


class Kind(NamedTuple):
    """What makes turns comparable."""

    system: str
    carrier: str
    in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One turn. CPU is in microseconds for each answer; memory in bytes at its end."""

    system: str
    carrier: str
    in_flight: int
    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: Mapping[str, float]
    load_cpu_us: float
    memory_bytes: Mapping[str, int]

    @classmethod
    def of(
        cls,
        system: str,
        carrier: str,
        turn: Turn,
        counted: Counted,
        cpu_s: Mapping[str, float],
        memory_bytes: Mapping[str, int],
    ) -> Sample:
        """From what the load counted and the CPU seconds of each service."""
        each_us = 1e6 / counted.answers
        return cls(
            system=system,
            carrier=carrier,
            in_flight=turn.in_flight,
            per_s=counted.answers / counted.elapsed_s,
            p50_ms=counted.p50_s * 1e3,
            p99_ms=counted.p99_s * 1e3,
            cpu_us={name: used * each_us for name, used in cpu_s.items()},
            load_cpu_us=counted.cpu_s * each_us,
            memory_bytes=memory_bytes,
        )

    @property
    def kind(self) -> Kind:
        """Of the turn."""
        return Kind(self.system, self.carrier, self.in_flight)

    @property
    def total_cpu_us(self) -> float:
        """Of all services together."""
        return sum(self.cpu_us.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Medians over the rounds.

    Attributes:
        spread_us: The least and the most that any round found for the CPU of all services.
        of_limit: Median of the rates' ratio to OpenVINO in process with as many requests in flight, in the same round;
            0 where that was not measured.
        cpu_of_limit: The same of CPU for each answer, turned about, so that 1 is again as good as the limit. Where a
            service is short of CPU, that is what its share would be on a machine of its own.
    """

    kind: Kind
    per_s: float
    of_limit: float
    cpu_of_limit: float
    p50_ms: float
    p99_ms: float
    total_cpu_us: float
    spread_us: tuple[float, float]
    cpu_us: Mapping[str, float]
    load_cpu_us: float
    memory_mb: float


def rows(rounds: Sequence[Sequence[Sample]]) -> list[Row]:
    """One for each kind, in the order of the first round."""
    return [_row(sample.kind, rounds) for sample in sorted(rounds[0], key=lambda each: each.in_flight)]


def _row(kind: Kind, rounds: Sequence[Sequence[Sample]]) -> Row:
    mine = [sample for each in rounds for sample in each if sample.kind == kind]

    def middle(value: Callable[[Sample], float]) -> float:
        return median(value(sample) for sample in mine)

    return Row(
        kind=kind,
        per_s=middle(lambda sample: sample.per_s),
        of_limit=_of_limit(kind, rounds, lambda mine, limit: mine.per_s / limit.per_s),
        cpu_of_limit=_of_limit(kind, rounds, lambda mine, limit: limit.total_cpu_us / mine.total_cpu_us),
        p50_ms=middle(lambda sample: sample.p50_ms),
        p99_ms=middle(lambda sample: sample.p99_ms),
        total_cpu_us=middle(lambda sample: sample.total_cpu_us),
        spread_us=(min(sample.total_cpu_us for sample in mine), max(sample.total_cpu_us for sample in mine)),
        cpu_us={name: median(sample.cpu_us[name] for sample in mine) for name in mine[0].cpu_us},
        load_cpu_us=middle(lambda sample: sample.load_cpu_us),
        memory_mb=middle(lambda sample: sum(sample.memory_bytes.values())) / 1e6,
    )


def _of_limit(kind: Kind, rounds: Sequence[Sequence[Sample]], ratio: Callable[[Sample, Sample], float]) -> float:
    """Median over the rounds of a ratio to the limit in the same round; 0 where that was not measured."""
    pairs = [
        (mine, limit)
        for samples in rounds
        for limit in samples
        for mine in samples
        if mine.kind == kind and limit.system == LIMIT and limit.in_flight == kind.in_flight
    ]
    return median(ratio(*pair) for pair in pairs) if pairs else 0.0
