"""`make bench-scale`: the model against a mesh that runs here, then ten to ten thousand workers.

Prints both tables, keeps them as JSON in benchmarks/results/scale.json and draws them where matplotlib is.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.report import machine, tables
from benchmarks.scale import study
from benchmarks.scale.calibrate import fitted, kept
from benchmarks.scale.check import SLOTS, Compared, measured
from benchmarks.scale.links import link_s
from benchmarks.scale.study import Case, Point
from benchmarks.systems.running import REPOSITORY, Failed
from rich.console import Console
from rich.table import Table

RESULT = REPOSITORY / "benchmarks" / "results" / "scale.json"
PLOTTER = REPOSITORY / ".venv-plots" / "bin" / "python"
console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)


def main() -> int:
    """Check, study, print, keep, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--carrier", default="unary", choices=("unary", "stream", "sealed", "sealed stream"))
    parser.add_argument("--costs-of", type=Path, metavar="JSON", help="what 'make bench' kept; in place of a run here")
    chosen = parser.parse_args()
    checked: list[Compared] = []
    try:
        if chosen.costs_of:
            costs = fitted(*kept(json.loads(chosen.costs_of.read_text()), chosen.carrier), SLOTS)
        else:
            costs, checked = measured("mlp", chosen.carrier)
    except Failed as error:
        console.print(f"[bold red]failed:[/] {error}")
        return 1
    console.print(f"costs: {costs}")
    per_link_ns = 1e9 * link_s()
    console.print(f"choosing a worker costs {per_link_ns:.0f} ns more for each further link")
    if checked:
        console.print(compared_table(checked))
    points = [point for case in cases(costs) for point in study.points(case)]
    console.print(points_table(points))
    found = {
        "machine": machine.described(REPOSITORY),
        "costs": asdict(costs),
        "per_link_ns": per_link_ns,
        "checked": [asdict(each) for each in checked],
        "points": [asdict(point) for point in points],
    }
    tables.write(RESULT, found)
    draw()
    return 0


def cases(costs: study.Costs) -> Sequence[Case]:
    """The networks of the study, on machines with a core for each process."""
    apart = study.apart(costs)
    return (Case(name="30-64-32-2", costs=apart, slots=SLOTS, batch=SLOTS), study.image_case(apart))


def compared_table(checked: Sequence[Compared]) -> Table:
    """Measured, predicted, and by how much that is off."""
    table = Table("gateway processes, workers", "load", "answers/s", "said", "p50 ms", "said", "p99 ms", "said")
    for each in checked:
        table.add_row(
            f"{each.gateways}, {each.workers}",
            each.load,
            f"{each.per_s:.0f}",
            f"{each.said_per_s:.0f} ({each.said_per_s / each.per_s - 1:+.0%})",
            f"{each.p50_ms:.1f}",
            f"{each.said_p50_ms:.1f} ({each.said_p50_ms / each.p50_ms - 1:+.0%})",
            f"{each.p99_ms:.1f}",
            f"{each.said_p99_ms:.1f} ({each.said_p99_ms / each.p99_ms - 1:+.0%})",
        )
    return table


def points_table(points: Sequence[Point]) -> Table:
    """By network, size and load."""
    table = Table(
        "network",
        "workers",
        "gateway processes",
        "load",
        "answers/s",
        "p50 ms",
        "p99 ms",
        "refused",
        "gateways busy",
        "workers busy",
        "verifier cores",
        "links MB",
        "beyond",
    )
    for each in points:
        outcome, asks = each.outcome, each.demand
        beyond = [name for name in ("slots_short", "watchers_short") if getattr(asks, name)]
        table.add_row(
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
    return table


def draw() -> None:
    """Beside the JSON, where the plotting environment is there."""
    if PLOTTER.exists():
        program = REPOSITORY / "benchmarks" / "report" / "scale_plots.py"
        subprocess.run([PLOTTER, program, RESULT], check=True)  # noqa: S603 - our own
        console.print(f"kept in {RESULT.relative_to(REPOSITORY)}, drawn beside it")
    else:
        console.print(f"kept in {RESULT.relative_to(REPOSITORY)}; not drawn: .venv-plots is missing")


if __name__ == "__main__":
    sys.exit(main())
