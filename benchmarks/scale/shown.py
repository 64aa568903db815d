"""The tables of `make bench-scale`: for the eye, and as Markdown to be pasted into the guide."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.scale.check import Compared
from benchmarks.scale.grid import Cell
from benchmarks.scale.limits import BUSY
from benchmarks.scale.study import Case, Point
from benchmarks.scale.trust import Reach, largest
from rich.table import Table

SERVICES = ("gateway", "jobs process", "redis", "worker", "others")
HOSTS = (2, 8, 32)


@dataclass(frozen=True, slots=True)
class Shown:
    """A table; `under` is a sentence or two below it."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    under: str = ""

    def rich(self) -> Table:
        """For a terminal."""
        table = Table(*self.headings, title=self.title, caption=self.under or None)
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """For a page."""
        lines = [self.headings, ["---"] * len(self.headings), *self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"**{self.title}**\n\n{table}\n" + (f"\n{self.under}\n" if self.under else "")


def grid_table(compared: Sequence[Compared]) -> Shown:
    """CPU for each answer, and the answers a second that follow, as they came and as they were said."""
    rows = [
        (
            f"{each.workers}, {each.gateways}",
            beside(each.came.gateway_us, each.said.gateway_us),
            beside(each.came.worker_us, each.said.worker_us),
            beside(each.calls_per_frame, each.said_calls_per_frame, ".1f"),
            beside(each.by_cpu_per_s, each.said_by_cpu_per_s),
            beside(each.came.per_s, each.said.per_s),
            f"{each.others_cores:.1f}",
        )
        for each in compared
        if each.load == "full"
    ]
    headings = ("workers, gateways", "gateway µs", "worker µs", "calls a frame", "answers/s, a core each")
    return Shown(
        "Direct requests: as measured, and as simulated from the first row's costs",
        (*headings, f"answers/s on these {_cores()}", "cores others had"),
        rows,
    )


def waiting_table(compared: Sequence[Compared]) -> Shown:
    """How long answers took."""
    rows = [
        (
            f"{each.workers}, {each.gateways}",
            {"full": f"{32 * each.workers} in flight", "half": f"{each.came.per_s:.0f}/s, by chance"}[each.load],
            beside(each.came.p50_ms, each.said.p50_ms, ".1f"),
            beside(each.came.p99_ms, each.said.p99_ms, ".1f"),
            f"{each.others_cores:.1f}",
        )
        for each in compared
    ]
    return Shown("Waiting", ("workers, gateways", "load", "p50 ms", "p99 ms", "cores others had"), rows)


def jobs_table(cells: Sequence[Cell]) -> Shown:
    """CPU for each job, beside the first size's: a job costs the same whatever the size, if it scales."""
    first = _total_us(cells[0])
    rows = [
        (
            f"{cell.workers}, {cell.gateways}",
            *(f"{cell.jobs.sample.cpu_us[name]:.0f}" for name in SERVICES),
            f"{_total_us(cell):.0f} ({_total_us(cell) / first - 1:+.0%})",
            f"{1e6 * _cores() / _total_us(cell):.0f}",
            f"{cell.jobs.sample.per_s:.0f}",
        )
        for cell in cells
    ]
    redis_us = min(cell.jobs.sample.cpu_us["redis"] for cell in cells)
    return Shown(
        "Jobs: CPU in µs for each",
        ("workers, gateways", *SERVICES, "all (to the first)", f"jobs/s by CPU of these {_cores()}", "jobs/s here"),
        rows,
        f"Redis is one thread for all: at {redis_us:.0f} µs a job and {BUSY:.0%} of a core, "
        f"{1e6 * BUSY / redis_us:.0f} jobs a second are a mesh's most.",
    )


def hosts_table(cell: Cell) -> Shown:
    """What hosts of so many cores answer, by the CPU of the first size."""
    used = cell.full.sample.cpu_us
    gateway_us, worker_us = used["gateway"], used["worker"]
    rows = [
        (
            str(cores),
            *(f"{1e6 * BUSY * cores / us:.0f}" for us in (gateway_us, worker_us, gateway_us + worker_us)),
        )
        for cores in HOSTS
    ]
    headings = ("cores of a host", "gateways alone", "workers alone", "both, in proportion")
    return Shown(f"Direct answers/s of a host that is {BUSY:.0%} busy, a process for each core", headings, rows)


def points_table(points: Sequence[Point]) -> Shown:
    """By network, size and load."""
    headings = ("network", "workers", "gateway processes", "load", "answers/s", "p50 ms", "p99 ms", "refused")
    rows = []
    for each in points:
        outcome, asks = each.outcome, each.demand
        beyond = [name for name in ("slots_short", "watchers_short") if getattr(asks, name)]
        row = (
            each.case,
            str(each.plan.workers),
            str(each.plan.gateways),
            f"{each.load:.0%}",
            f"{outcome.per_s:.0f}",
            f"{1e3 * outcome.p50_s:.1f}",
            f"{1e3 * outcome.p99_s:.1f}",
            f"{outcome.refused / max(1, outcome.arrived):.1%}",
            f"{outcome.gateway_busy:.0%}",
            f"{outcome.worker_busy:.0%}",
            f"{asks.verifier_cores:.2f}",
            f"{asks.links_mb:.0f}",
            ", ".join(beyond) or "-",
        )
        rows.append(row)
    further = ("gateways busy", "workers busy", "verifier cores", "links MB", "beyond")
    return Shown("Simulated: ten to ten thousand workers", (*headings, *further), rows)


def reach_table(known: Sequence[Reach]) -> Shown:
    """Up to where each part was measured, and is believed."""
    rows = [
        (each.part, each.of, f"{each.measured:,}".replace(",", " "), f"{each.trusted:,}".replace(",", " "), each.why)
        for each in known
    ]
    return Shown("Up to where the simulation is believed", ("part", "grows with", "measured", "trusted", "why"), rows)


def largest_table(cases: Sequence[Case], known: Sequence[Reach]) -> Shown:
    """The largest mesh of each network that every part is believed of."""
    rows = []
    for case in cases:
        workers, gateways, ends = largest(case, known)
        rows.append((case.name, str(workers), str(gateways), f"{ends.part} ({ends.trusted} {ends.of})"))
    return Shown("The largest mesh that is believed", ("network", "workers", "gateway processes", "ended by"), rows)


def beside(came: float, said: float, form: str = ".0f") -> str:
    """What came, what was said, and by how much that is off."""
    return f"{came:{form}}, said {said:{form}} ({said / came - 1:+.0%})" if came else f"-, said {said:{form}}"


def _total_us(cell: Cell) -> float:
    return sum(cell.jobs.sample.cpu_us.values())


def _cores() -> int:
    return len(os.sched_getaffinity(0))
