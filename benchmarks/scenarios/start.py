"""What a worker's cold start spends, and where: `make bench-start`.

A mesh serves one network; its worker is killed and started again by the supervisor, a few times over, and each start
says in its log what it took: to attest, to get the key, to open the sealed file, to read and check the model, to
compile it, and to find out how it is best evaluated. What the interpreter takes to import all this is not
counted.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.models.catalogue import NETWORKS
from benchmarks.report import machine
from benchmarks.systems import mesh
from benchmarks.systems.running import READY_S, REPOSITORY, Failed
from rich.console import Console
from rich.table import Table

from cloister.cli.ports import FIRST

STAGES = ("attest", "release", "open", "read", "check", "compile", "tune")
TARGET_MS = 150.0
"""For all but compiling and tuning, of a model of 100 MB (design, section 6)."""
console = Console(highlight=False)


def main() -> int:
    """Start a worker again and again, and print what its starts took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=NETWORKS, default="resnet50")
    parser.add_argument("--starts", type=int, default=7)
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    chosen = parser.parse_args()
    try:
        (place,) = mesh.prepared([NETWORKS[chosen.model]], REPOSITORY / ".bench" / "start", FIRST)
        with mesh.mesh([place], mesh.Size()):
            starts = _starts(place.mesh, chosen.starts)
    except Failed as error:
        console.print(f"[bold red]failed:[/] {error}")
        return 1
    described = machine.described(REPOSITORY)
    sealed_bytes = next((place.mesh / "models").rglob("model.sealed")).stat().st_size
    console.print(_table(chosen.model, sealed_bytes, starts, described["load_average"]))
    if chosen.out is not None:
        figures = {"machine": described, "model": chosen.model, "sealed_bytes": sealed_bytes, "starts": starts}
        chosen.out.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def _starts(folder: Path, wanted: int) -> list[dict[str, float]]:
    """Kill the worker as often as need be, and read what each start said."""
    log = folder / "logs" / "worker-1.log"
    until = time.monotonic() + READY_S
    while len(starts := list(started(log.read_text().splitlines()))) < wanted:
        state = json.loads((folder / "run" / "up.json").read_text())
        pid = next(program["pid"] for program in state["programs"] if program["name"] == "worker-1")
        if pid:
            os.kill(int(pid), signal.SIGKILL)
        served = len(starts)
        while len(list(started(log.read_text().splitlines()))) == served:
            if time.monotonic() > until:
                raise Failed(f"the worker does not start again; see {log}")
            time.sleep(0.1)
        until = time.monotonic() + READY_S
    return starts


def started(lines: list[str]) -> Iterator[dict[str, float]]:
    """Yield what each whole start in a worker's log took, in milliseconds by stage."""
    found: dict[str, float] = {}
    for line in lines:
        try:
            said: Any = json.loads(line)
        except ValueError:
            continue
        if not isinstance(said, dict):
            continue
        if said.get("event") == "mesh.joined":
            found = {}
        found |= {stage: float(said[f"{stage}_ms"]) for stage in STAGES if f"{stage}_ms" in said}
        if said.get("event") == "model.served" and len(found) == len(STAGES):
            yield found


def _table(model: str, sealed_bytes: int, starts: list[dict[str, float]], load_average: float) -> Table:
    title = f"{model}, {sealed_bytes / 1e6:.0f} MB sealed; {len(starts)} starts; load average {load_average:.1f}"
    table = Table(title=title)
    for column in ("stage", "median ms", "least ms"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage in STAGES:
        spent = [start[stage] for start in starts]
        table.add_row(stage, f"{median(spent):.1f}", f"{min(spent):.1f}")
    ours = [sum(start[stage] for stage in STAGES if stage not in ("compile", "tune")) for start in starts]
    table.add_section()
    row = f"{median(ours):.1f}", f"{min(ours):.1f}"
    table.add_row(f"all but compile and tune (target {TARGET_MS:.0f} for 100 MB)", *row)
    return table


if __name__ == "__main__":
    sys.exit(main())
