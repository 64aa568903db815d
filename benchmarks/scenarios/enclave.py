"""A worker as a process, under gramine-direct, and there with eventfd handed to the host: `make bench-enclave`.

Three meshes that differ in nothing else run at once, and are asked in turn. What SGX itself costs is not in it: the
CPU's encryption of memory, and each way out of the enclave. What is: Gramine's emulation of the system, which is the
larger part of what a server pays, and all of what a start pays but the loading of pages.

Start-up is from the exec of the program to its first line in the log, to membership, and to the model being served.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks import processes
from benchmarks.load.turns import Turn
from benchmarks.models.catalogue import NETWORKS, Network
from benchmarks.report import machine
from benchmarks.report.samples import Sample
from benchmarks.systems import loads, mesh
from benchmarks.systems.running import READY_S, REPOSITORY, Failed, Place
from rich.console import Console
from rich.table import Table

NATIVE, DIRECT, EVENTFD = "native", "gramine-direct", "with eventfd"
SYSTEMS: Final[Mapping[str, tuple[str, ...]]] = {
    NATIVE: (),
    DIRECT: (),
    EVENTFD: ("--allow-eventfd", "a benchmark of what it brings"),
}
CARRIER: Final = "sealed stream"
FIRST_LINE: Final = "first line"
CPU: Final = "CPU"
MOMENTS: Final = (FIRST_LINE, "mesh.joined", "model.served")
READY_TARGET_S: Final = 6.0
console = Console(highlight=False)


def main() -> int:
    """Measure the networks one after another; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", nargs="+", choices=NETWORKS, default=("mlp", "resnet50-u8", "bert"))
    parser.add_argument("--in-flight", nargs="+", type=int, default=(1, 8, 32))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--seconds", type=float, help="that a turn counts")
    parser.add_argument("--threads", type=int, default=0, help="of each worker; 0 lets OpenVINO choose")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    chosen = parser.parse_args()
    described = machine.described(REPOSITORY)
    console.print(f"load average {described['load_average']:.1f}")
    figures: dict[str, object] = {"machine": described}
    try:
        for name in chosen.models:
            figures[name] = compared(NETWORKS[name], chosen)
    except Failed as error:
        console.print(f"[bold red]failed:[/] {error}")
        return 1
    if chosen.out is not None:
        chosen.out.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def compared(network: Network, chosen: argparse.Namespace) -> dict[str, object]:
    """One network on all three; prints its table."""
    with ExitStack() as stack:
        asked, places = [], {}
        for number, (system, options) in enumerate(SYSTEMS.items()):
            work = REPOSITORY / ".bench" / "enclave" / system.replace(" ", "-")
            (places[system],) = mesh.prepared([network], work, 24_000 + 40 * number)
            built = None if system == NATIVE else places[system].folder / "enclaves"
            size = mesh.Size(threads=chosen.threads, enclaves=built, build_options=options)
            running = stack.enter_context(mesh.mesh([places[system]], size))
            asked.append(stack.enter_context(loads.asking(running.targets[CARRIER], system, running.services)))
        samples: list[Sample] = []
        for number in range(chosen.rounds):
            for in_flight in chosen.in_flight:
                seconds = chosen.seconds or network.seconds
                turn = Turn(in_flight=in_flight, seconds=seconds, warm_up_s=network.warm_up_s)
                first = number % len(asked)
                samples += [load.sample(turn) for load in (*asked[first:], *asked[:first])]
        starts = {system: [start(place) for _ in range(chosen.starts)] for system, place in places.items()}
        console.print(_requests(network.name, samples, chosen.in_flight))
        console.print(_starts(network.name, starts))
        console.print(_carried(places))
    return {"samples": [asdict(each) for each in samples], "starts": starts}


def start(place: Place) -> dict[str, float]:
    """Kill the worker; seconds from the exec of the next one to each moment that its log tells."""
    folder, name = place.mesh, "worker-1"
    log = folder / "logs" / f"{name}.log"
    before, size = _pid(folder, name), log.stat().st_size
    os.kill(before, signal.SIGKILL)
    until = time.monotonic() + READY_S
    while True:
        said = _events(log.read_bytes()[size:])
        if "model.served" in said:
            break
        if time.monotonic() > until:
            raise Failed(f"the worker does not start again; see {log}")
        time.sleep(0.1)  # the log tells the times; this only looks for its end
    pid = _pid(folder, name)
    began = _began(pid)
    return {CPU: processes.cpu_s(pid), **{moment: said[moment] - began for moment in MOMENTS}}


def _pid(folder: Path, name: str) -> int:
    programs = json.loads((folder / "run" / "up.json").read_text())["programs"]
    return int(next(program["pid"] for program in programs if program["name"] == name))


def _began(pid: int) -> float:
    """Unix time at which a process was made; the exec follows at once."""
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))


def _events(log: bytes) -> dict[str, float]:
    """The first time of each event, in Unix time, and of the first line of all."""
    found: dict[str, float] = {}
    for line in log.splitlines():
        try:
            said = json.loads(line)
            at = datetime.fromisoformat(said["time"]).timestamp()
        except (ValueError, TypeError, KeyError):
            continue
        found.setdefault(FIRST_LINE, at)
        found.setdefault(said["event"], at)
    return found


def _requests(network: str, samples: Sequence[Sample], in_flight: Sequence[int]) -> Table:
    table = Table(title=f"{network}, {CARRIER}: medians of rounds; in brackets the ratio to native")
    for column in ("in flight", "system", "answers/s", "p50 ms", "p99 ms", "worker CPU µs", "worker MB"):
        table.add_column(column, justify="right" if column != "system" else "left")
    for number in in_flight:
        native: dict[str, float] = {}
        for system in SYSTEMS:
            alike = [each for each in samples if (each.system, each.in_flight) == (system, number)]
            found = {
                "per_s": median(each.per_s for each in alike),
                "p50": median(each.p50_ms for each in alike),
                "p99": median(each.p99_ms for each in alike),
                "cpu": median(each.cpu_us["worker-1"] for each in alike),
                "memory": median(each.memory_bytes["worker-1"] for each in alike) / 1e6,
            }
            native = native or found
            cells = (f"{value:.4g} ({value / native[name]:.2f})" for name, value in found.items())
            table.add_row(str(number), system, *cells)
        table.add_section()
    return table


def _starts(network: str, starts: Mapping[str, Sequence[Mapping[str, float]]]) -> Table:
    table = Table(title=f"{network}: start of a worker, s from exec, medians (target: ready in {READY_TARGET_S:.0f})")
    columns = (*MOMENTS, CPU)
    for column in ("system", *columns):
        table.add_column(column)
    for system, each in starts.items():
        table.add_row(system, *(f"{median(one[column] for one in each):.2f}" for column in columns))
    return table


def _carried(places: Mapping[str, Place]) -> str:
    measured = json.loads((places[DIRECT].folder / "enclaves" / "worker" / "measurement.json").read_text())
    size_mb = sum(file["size_bytes"] for file in measured["files"].values()) / 1e6
    return f"the enclave trusts {len(measured['files'])} files, {size_mb:.0f} MB"


if __name__ == "__main__":
    sys.exit(main())
