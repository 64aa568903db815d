"""What records cost on Flink, process by process, as `make flink-demo` prints it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks import processes
from rich.table import Table
from stage import console

OF_THE_MESH = ("gateway", "workers")


@dataclass(frozen=True)
class Timed:
    """One job: how long it ran, and what each process used meanwhile."""

    records: int
    took_s: float
    cpu_s: Mapping[str, float]


@dataclass(frozen=True)
class Cost:
    """What records cost beyond what the job itself does; CPU for each record, by process."""

    in_flight: int
    records: int
    records_per_s: float
    cpu_ms: Mapping[str, float]


class Functions:
    """CPU time of the processes that Flink starts for a job's functions; they end with it, so it has to be watched."""

    def __init__(self, task_manager: int) -> None:
        self._session = task_manager
        self._used_s: dict[int, float] = {}

    def watched_s(self) -> float:
        """All so far."""
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                stat, pid = path.read_text(), int(path.parent.name)
                if pid != self._session and int(stat.rpartition(")")[2].split()[3]) == self._session:
                    self._used_s[pid] = processes.parsed_cpu_s(stat, children=False)
        return sum(self._used_s.values())


def print_costs(costs: Sequence[Cost]) -> None:
    """A table: a column for each number of requests under way."""
    table = Table(*["", *[f"{cost.in_flight} under way" for cost in costs]])
    table.add_row("records", *[str(cost.records) for cost in costs])
    table.add_row("records/s", *[f"{cost.records_per_s:.0f}" for cost in costs])
    for name in costs[0].cpu_ms:
        table.add_row(f"CPU-ms: {name}", *[f"{cost.cpu_ms[name]:.2f}" for cost in costs])
    flink = [sum(ms for name, ms in cost.cpu_ms.items() if name not in OF_THE_MESH) for cost in costs]
    table.add_row("CPU-ms: all of Flink", *[f"{ms:.2f}" for ms in flink])
    console.print(table)
    console.print(
        "Cluster Serving's task manager took 2.7 to 4.9 CPU-ms for a record of an MLP, its inference included."
    )
