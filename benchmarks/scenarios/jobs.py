"""Jobs beside direct requests: `make bench-jobs`.

One mesh for each way in which Redis may keep what it is told: written to disk once a second, or before every answer.
In each round jobs and direct requests take turns, many at once and one at a time; all are sealed by the SDK, and every
answer is compared with OpenVINO's. At the end many jobs in a row, with a look at every process's memory all the while:
`OPTIONS="--jobs 1000000"`. A job's time is from the call that submits it until its answer is opened.

CPU for each job is that of every process, from /proc. What the client takes is told apart, since it is no service; but
client and services share the machine, so jobs a second here are fewer than the services alone could do, and `by CPU` is
what they could.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from statistics import median

from benchmarks import processes
from benchmarks.load.turns import Counted, Turn, Volley
from benchmarks.models.catalogue import NETWORKS
from benchmarks.report import machine, soaked, tables
from benchmarks.report.drift import Memory
from benchmarks.systems import loads, mesh
from benchmarks.systems.loads import Load
from benchmarks.systems.running import REPOSITORY, Failed, Running
from rich.console import Console
from rich.table import Table

WORK, RESULTS = REPOSITORY / ".bench" / "jobs", REPOSITORY / "benchmarks" / "results"
FSYNCS = ("everysec", "always")
MANY, ONE = "many", "one at a time"
JOBS_FACE = "jobs"
SERVICES = ("gateway", "jobs process", "redis", "worker")
ENGINE = ("jobs process", "worker")
"""What does here what a task manager does there: take records from Redis, evaluate, settle."""
TARGET_PER_S = 3000
ZOO_CPU_MS = (2.7, 4.9)
"""Cluster Serving's task manager alone, for each record of a network like this one: no Redis, no front, no sealing."""
TIMES_ZOO = 5
LOOK_S = 2.0
console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One turn: what its client saw, and what each service used meanwhile."""

    what: str
    load: str
    counted: Counted
    cpu_s: Mapping[str, float]

    @property
    def per_s(self) -> float:
        """Answers, over the turn."""
        return self.counted.answers / self.counted.elapsed_s

    def cpu_us(self, service: str) -> float:
        """For each answer."""
        return 1e6 * self.cpu_s[service] / self.counted.answers

    @property
    def total_us(self) -> float:
        """Of all services."""
        return sum(map(self.cpu_us, self.cpu_s))

    @property
    def client_us(self) -> float:
        """Of the client, for each answer: sealing and opening included."""
        return 1e6 * self.counted.cpu_s / self.counted.answers


@dataclass(slots=True)
class Measured:
    """All of one mesh."""

    fsync: str
    lines: list[Line] = field(default_factory=list)
    long: Line | None = None
    memories: list[Memory] = field(default_factory=list)


def main() -> int:
    """Measure, print, keep."""
    chosen = arguments(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    found: list[Measured] = []
    try:
        for fsync in chosen.fsync:
            found.append(measured(chosen, fsync))
            console.print(table(found[-1]))
    except Failed as error:
        console.print(f"[bold red]failed:[/] {error}")
        return 1
    for each in found:
        if each.long is not None:
            console.print(
                f"appendfsync {each.fsync}: {each.long.counted.answers} jobs in a row, {each.long.per_s:.0f} a second"
            )
            console.print(soaked.memory_table(each.memories))
    for line in verdicts(found):
        console.print(line)
    console.print("\nrows of the table in benchmarks/README.md:", *readme_rows(found), sep="\n", markup=False)
    about = {"machine": machine.described(REPOSITORY), "chosen": vars(chosen)}
    tables.write(RESULTS / f"jobs-{chosen.model}.json", {**about, "found": [asdict(each) for each in found]})
    return 0


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """What to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=NETWORKS, default="mlp")
    parser.add_argument("--fsync", nargs="+", choices=FSYNCS, default=list(FSYNCS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--volley", type=int, default=6000, help="jobs of each round's turn of many")
    parser.add_argument("--together", type=int, default=64, help="jobs in each call")
    parser.add_argument("--under-way", type=int, default=1024, help="most jobs without an end")
    parser.add_argument("--slots", type=int, default=0, help="of the worker, 0 for the usual: what one frame may carry")
    parser.add_argument("--jobs", type=int, default=20_000, help="in a row, at the end; 0 for none")
    return parser.parse_args(words)


def measured(chosen: argparse.Namespace, fsync: str) -> Measured:
    """One mesh, up and down; raises Failed."""
    (place,) = mesh.prepared([NETWORKS[chosen.model]], WORK / fsync, 20_000 + 16 * secrets.randbelow(300))
    many = Volley(jobs=chosen.volley, together=chosen.together, under_way=chosen.under_way)
    one, direct = Volley(jobs=100, together=1, under_way=1), Turn(in_flight=32, seconds=3.0, warm_up_s=0.5)
    found = Measured(fsync)
    with ExitStack() as stack:
        running = stack.enter_context(mesh.mesh([place], mesh.Size(fsync=fsync, slots=chosen.slots)))
        target = running.targets["sealed stream"]
        asking = stack.enter_context(loads.asking(target, "direct requests", running.services))
        jobs = stack.enter_context(loads.asking(target, "jobs", running.services, program="benchmarks.load.jobs"))
        with loads.in_process(place) as limit:
            limit.answers(place.folder / "expected", len(place.network.questions()))
        for load in (asking, jobs):
            load.expect(place.folder / "expected")
        line(running, jobs, many, MANY)  # everything is connected, judged and warm
        for _ in range(chosen.rounds):
            found.lines += [
                line(running, jobs, many, MANY),
                line(running, asking, direct, MANY),
                line(running, jobs, one, ONE),
                line(running, asking, Turn(in_flight=1, seconds=1.5, warm_up_s=0.2), ONE),
            ]
        if chosen.jobs:
            with looking(running) as looks:
                row = Volley(jobs=chosen.jobs, together=chosen.together, under_way=chosen.under_way)
                found.long = line(running, jobs, row, MANY)
            found.memories = [Memory(name, *each) for name, each in looks.items()]
    return found


def line(running: Running, load: Load, asked: Turn | Volley, load_name: str) -> Line:
    """One turn, with what every service used while it was counted."""
    counted, cpu_s = load.watched(asked, lambda: used_s(running))
    return Line(what=load.system, load=load_name, counted=counted, cpu_s=cpu_s)


def used_s(running: Running) -> dict[str, float]:
    """CPU seconds so far, by kind of service; a gateway's jobs process apart from the rest of it."""
    found = dict.fromkeys((*SERVICES, "others"), 0.0)
    for name, pid in running.services.items():
        kind = next((each for each in SERVICES if name.startswith(each)), "others")
        found[kind] += processes.cpu_s(pid)
    jobs_s = sum(map(processes.cpu_s, jobs_processes(running)))
    found["jobs process"] += jobs_s
    found["gateway"] -= jobs_s
    return found


def jobs_processes(running: Running) -> list[int]:
    """Of all gateways."""
    gateways = [pid for name, pid in running.services.items() if name.startswith("gateway")]
    return [pid for gateway in gateways for pid in processes.tree(gateway) if processes.face(pid) == JOBS_FACE]


@contextmanager
def looking(running: Running) -> Iterator[processes.Looks]:
    """Look at every process's memory, every so often."""
    looks: processes.Looks = {}
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(LOOK_S):
            processes.look(running.services, looks)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield looks
    finally:
        stop.set()
        thread.join()


def table(found: Measured) -> Table:
    """Medians over the rounds."""
    drawn = Table(title=f"appendfsync {found.fsync}: medians of the rounds; CPU in µs for each answer")
    for heading in ("asked by", "", "answers/s", "by CPU/s", "p50 ms", "p99 ms", "CPU", *SERVICES, "others", "client"):
        drawn.add_column(heading, justify="right" if heading not in ("asked by", "") else "left")
    for kind in dict.fromkeys((each.what, each.load) for each in found.lines):
        alike = [each for each in found.lines if (each.what, each.load) == kind]
        drawn.add_row(
            *kind,
            f"{median(each.per_s for each in alike):.0f}",
            f"{by_cpu_per_s(alike):.0f}",
            f"{1e3 * median(each.counted.p50_s for each in alike):.2f}",
            f"{1e3 * median(each.counted.p99_s for each in alike):.2f}",
            f"{median(each.total_us for each in alike):.0f}",
            *(f"{median(each.cpu_us(name) for each in alike):.0f}" for name in (*SERVICES, "others")),
            f"{median(each.client_us for each in alike):.0f}",
        )
    return drawn


def by_cpu_per_s(alike: Sequence[Line], *, with_client: bool = False) -> float:
    """What the services, or they and their client, could do with all of this machine to themselves."""
    each_us = median(each.total_us + (each.client_us if with_client else 0.0) for each in alike)
    return 1e6 * len(os.sched_getaffinity(0)) / each_us


def readme_rows(found: Sequence[Measured]) -> Iterator[str]:
    """Turns of many, as rows of Markdown."""
    for each in found:
        for what in dict.fromkeys(line.what for line in each.lines):
            alike = [line for line in each.lines if (line.what, line.load) == (what, MANY)]
            cells = [
                median(line.per_s for line in alike),
                by_cpu_per_s(alike),
                median(line.total_us for line in alike),
                *(median(line.cpu_us(name) for line in alike) for name in SERVICES),
                median(line.client_us for line in alike),
            ]
            yield f"| {each.fsync} | {what.split()[0]} | {' | '.join(f'{cell:.0f}' for cell in cells)} |"


def times_zoo(cpu_us: float) -> str:
    """How many times as many jobs that is as Cluster Serving's, by what was measured of it at best and at worst."""
    return " to ".join(f"{1000 * cpu_ms / cpu_us:.1f}" for cpu_ms in ZOO_CPU_MS)


def verdicts(found: Sequence[Measured]) -> list[str]:
    """What was meant, and whether it is so."""
    said = []
    for each in found:
        many = [line for line in each.lines if (line.what, line.load) == ("jobs", MANY)]
        per_s, by_cpu = median(line.per_s for line in many), by_cpu_per_s(many)
        engine_us = median(sum(map(line.cpu_us, ENGINE)) for line in many)
        total_us = median(line.total_us for line in many)
        said.append(
            f"appendfsync {each.fsync}: {per_s:.0f} jobs a second with their client on the same processors, "
            f"{by_cpu:.0f} by the services' CPU, {by_cpu_per_s(many, with_client=True):.0f} by theirs and the client's "
            f"(meant: {TARGET_PER_S})"
        )
        said.append(
            f"  with as much CPU as Cluster Serving's task manager: {times_zoo(engine_us)} times as many by worker and "
            f"jobs process, {times_zoo(total_us)} times by all services (meant: {TIMES_ZOO})"
        )
        growing = [memory.name for memory in each.memories if memory.grows]
        if each.memories:
            said.append(
                f"  memory over {each.long.counted.answers if each.long else 0} jobs: {', '.join(growing) or 'flat'}"
            )
    return said


if __name__ == "__main__":
    sys.exit(main())
