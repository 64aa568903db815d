"""`make bench-scale`: the model against meshes that run here, then ten to ten thousand workers, and how far it holds.

Prints its tables, keeps them as benchmarks/results/scale.md, to be pasted, and scale.json, and draws them where
matplotlib is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.report import machine, tables
from benchmarks.scale import grid, shown, study, weigh
from benchmarks.scale.calibrate import fitted, kept
from benchmarks.scale.check import QUICK, SLOTS, Compared, compared, costs_of
from benchmarks.scale.grid import Cell
from benchmarks.scale.links import link_s
from benchmarks.scale.plan import Costs
from benchmarks.scale.study import Case
from benchmarks.scale.trust import reaches
from benchmarks.systems.running import REPOSITORY, Failed
from rich.console import Console

RESULT = REPOSITORY / "benchmarks" / "results" / "scale.json"
PLOTTER = REPOSITORY / ".venv-plots" / "bin" / "python"
console = Console(highlight=False, width=None if sys.stdout.isatty() else 190)


def main() -> int:
    """Measure, compare, study, print, keep, draw."""
    chosen = arguments(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    cells: list[Cell] = []
    checked: list[Compared] = []
    try:
        if chosen.costs_of:
            costs = fitted(*kept(json.loads(chosen.costs_of.read_text()), chosen.carrier))
        else:
            costs = measured(chosen, cells, checked)
    except Failed as error:
        console.print(f"[bold red]failed:[/] {error}")
        return 1
    link_ns = 1e9 * link_s()
    link = asyncio.run(weigh.weighed())
    console.print(f"{costs}\nchoosing a worker costs {link_ns:.0f} ns more for each further link, {link}")
    cases = cases_of(costs)
    points = [point for case in cases for point in study.points(case, link_bytes=link.gateway_bytes)]
    known = reaches(max([2, *(cell.gateways for cell in cells)]), SLOTS)
    found: list[shown.Shown] = []
    if cells:
        found += [shown.grid_table(checked), shown.waiting_table(checked), shown.jobs_table(cells)]
        found.append(shown.hosts_table(cells[0]))
    found += [shown.points_table(points), shown.reach_table(known), shown.largest_table(cases, known)]
    for each in found:
        console.print(each.rich())
    about = {"machine": machine.described(REPOSITORY), "costs": asdict(costs), "link_ns": link_ns, "link": asdict(link)}
    lists = {"cells": cells, "checked": checked, "points": points, "reaches": known}
    tables.write(RESULT, {**about, **{name: [asdict(each) for each in all_] for name, all_ in lists.items()}})
    RESULT.with_suffix(".md").write_text("\n".join(each.markdown() for each in found))
    draw()
    return 0


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """What to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--carrier", default="unary", choices=("unary", "stream", "sealed", "sealed stream"))
    parser.add_argument("--costs-of", type=Path, metavar="JSON", help="what 'make bench' kept; in place of a run here")
    parser.add_argument("--workers", type=int, nargs="+", default=grid.WORKERS, help="of the grid")
    parser.add_argument("--gateways", type=int, nargs="+", default=grid.GATEWAYS, help="of the grid")
    return parser.parse_args(words)


def measured(chosen: argparse.Namespace, cells: list[Cell], checked: list[Compared]) -> Costs:
    """Every size of the grid, as soon as it is there; returns what things cost by the first."""
    costs = None
    for cell in grid.measured(chosen.carrier, chosen.workers, chosen.gateways):
        costs = costs or costs_of(cell)
        cells.append(cell)
        checked += compared(cell, costs)
        console.print(
            f"{cell.workers} workers, {cell.gateways} gateways: {cell.full.sample.per_s:.0f} answers/s here, "
            f"{checked[-2].by_cpu_per_s:.0f} with a core for each, {cell.jobs.sample.per_s:.0f} jobs/s here"
        )
    assert costs is not None
    return costs


def cases_of(costs: Costs) -> Sequence[Case]:
    """The networks of the study, on machines with a core for each process."""
    apart = study.apart(costs)
    return (Case(name="30-64-32-2", costs=apart, served=QUICK), study.image_case(apart))


def draw() -> None:
    """Beside the JSON, where the plotting environment is there."""
    told = f"kept in {RESULT.relative_to(REPOSITORY)} and {RESULT.with_suffix('.md').name}"
    if PLOTTER.exists():
        program = REPOSITORY / "benchmarks" / "report" / "scale_plots.py"
        subprocess.run([PLOTTER, program, RESULT], check=True)  # noqa: S603 - our own
        console.print(f"{told}, drawn beside it")
    else:
        console.print(f"{told}; not drawn: .venv-plots is missing")


if __name__ == "__main__":
    sys.exit(main())
