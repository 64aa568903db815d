"""Several times more than the mesh can answer: `make bench-overload`.

Two tenants ask. First one of them alone, in a closed loop, which finds the most that is answered: the peak. Then the
other, calm, sends a share of the peak at a steady rate: before, during and right after the first sends several times
the peak (`--times`), whether or not it is answered. Printed: what is answered of the peak, how quickly the rest is
refused, what the calm one sees of it, and how soon after the flood everything is answered again.
"""

from __future__ import annotations

import argparse
import secrets
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial

from benchmarks.load.open_loop import Pace, Paced
from benchmarks.load.turns import Turn
from benchmarks.models.catalogue import NETWORKS
from benchmarks.report import machine, tables
from benchmarks.systems import loads, mesh
from benchmarks.systems.loads import Load
from benchmarks.systems.running import REPOSITORY, Failed
from rich.console import Console
from rich.table import Table

from cloister.cli.mesh_folder import Mesh

CALM_SHARE = 0.2
"""Of the peak, asked by the calm tenant: less than half, so that it is never more than its fair part."""
WORKER = "worker-1"
GOODPUT = 0.9
REFUSAL_S = 0.005
LATE_S = 0.05
"""A load that sends so much later than due has no say about how quick a refusal is."""
console = Console(highlight=False, width=None if sys.stdout.isatty() else 130)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One stretch of time, with what each tenant saw; `flood` is empty where only the calm one asked."""

    name: str
    calm: Paced
    flood: Sequence[Paced] = ()

    @property
    def answers_per_s(self) -> float:
        """Of all tenants."""
        return sum(each.answers / each.elapsed_s for each in (self.calm, *self.flood))


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The whole run.

    Attributes:
        peak_cpu_ms: The worker's CPU for each answer at the peak.
        cpu_s: CPU by service, while the flood was counted.
    """

    peak_per_s: float
    peak_cpu_ms: float
    phases: Sequence[Phase]
    cpu_s: dict[str, float]

    @property
    def flood(self) -> Phase:
        """The phase in which there was too much."""
        return next(phase for phase in self.phases if phase.flood)

    @property
    def goodput(self) -> float:
        """What was answered in the flood, as a share of the peak."""
        return self.flood.answers_per_s / self.peak_per_s

    @property
    def goodput_by_cpu(self) -> float:
        """The same by the worker's CPU for each answer: what the share would be with the machine to itself."""
        answers = sum(each.answers for each in (self.flood.calm, *self.flood.flood))
        return self.peak_cpu_ms * answers / (1000 * self.cpu_s[WORKER])

    @property
    def refusal_p99_s(self) -> float:
        """Of the slowest load."""
        return max(each.refusal_p99_s for each in self.flood.flood)


def main() -> int:
    """Measure, print, keep."""
    chosen = arguments(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    try:
        measured = measure(chosen)
    except Failed as error:
        console.print(f"[bold red]failed:[/] {error}")
        return 1
    console.print(table(measured, chosen))
    for line in verdicts(measured):
        console.print(line)
    path = REPOSITORY / "benchmarks" / "results" / f"overload-{chosen.model}-{chosen.carrier}.json"
    tables.write(path, {"machine": machine.described(REPOSITORY), "asked": vars(chosen), **asdict(measured)})
    return 0


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """What to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=NETWORKS, default="resnet50-u8")
    parser.add_argument("--carrier", choices=("unary", "stream"), default="unary")
    parser.add_argument("--times", type=float, default=5.0, help="the peak, asked by the flood")
    parser.add_argument("--seconds", type=float, default=15.0, help="that each phase counts")
    parser.add_argument("--deadline", type=float, default=8.0, help="seconds, of each unary request")
    parser.add_argument("--in-flight", type=int, default=16, help="of the closed loop that finds the peak")
    parser.add_argument("--loads", type=int, default=1, help="processes that send the flood")
    return parser.parse_args(words)


def measure(chosen: argparse.Namespace) -> Measured:
    """Start a mesh and go through the phases."""
    (place,) = mesh.prepared(
        [NETWORKS[chosen.model]], REPOSITORY / ".bench" / "overload", 20_000 + 16 * secrets.randbelow(300)
    )
    mesh.cloister("identity", "issue", "client", "calm", "--mesh", place.mesh)
    with ExitStack() as stack:
        running = stack.enter_context(mesh.mesh([place], mesh.Size()))
        patient = stack.enter_context(loads.asking(running.targets[chosen.carrier], running.name, running.services))
        target = replace(running.targets[chosen.carrier], timeout_s=chosen.deadline)
        calm_identity = str(Mesh.read(place.mesh).identity("client", "calm"))
        start = partial(loads.asking, system=running.name, services=running.services)
        calm = stack.enter_context(start(replace(target, identity=calm_identity)))
        flood = [stack.enter_context(start(target)) for _ in range(chosen.loads)]
        return phases(chosen, patient, calm, flood)


def phases(chosen: argparse.Namespace, patient: Load, calm: Load, flood: Sequence[Load]) -> Measured:
    """The peak, then before, during and after the flood."""
    turn = Turn(in_flight=chosen.in_flight, seconds=chosen.seconds, warm_up_s=2.0)
    console.print(f"{chosen.model}: looking for the peak ...")
    peak = patient.sample(turn)
    peak_per_s = peak.per_s
    steady = Pace(per_s=CALM_SHARE * peak_per_s, seconds=chosen.seconds, warm_up_s=chosen.deadline)
    each_per_s = chosen.times * peak_per_s / len(flood)
    console.print(f"  {peak_per_s:.1f} answers a second; {chosen.times:g} times as many are asked now ...")
    before, _ = calm.paced(replace(steady, warm_up_s=1.0))
    with ThreadPoolExecutor() as threads:
        calmly = threads.submit(calm.paced, replace(steady, seed=2))
        floods = [
            threads.submit(load.paced, replace(steady, per_s=each_per_s, seed=10 + number))
            for number, load in enumerate(flood)
        ]
        during, cpu_s = calmly.result()
        came = [each.result()[0] for each in floods]
    after, _ = calm.paced(replace(steady, warm_up_s=0.0, seed=3))
    found = [
        Phase(name="before", calm=before),
        Phase(name="flood", calm=during, flood=came),
        Phase(name="after", calm=after),
    ]
    return Measured(peak_per_s=peak_per_s, peak_cpu_ms=peak.cpu_us[WORKER] / 1000, phases=found, cpu_s=cpu_s)


def table(measured: Measured, chosen: argparse.Namespace) -> Table:
    """A line for each tenant in each phase."""
    title = f"{chosen.model}, {chosen.carrier}: peak {measured.peak_per_s:.1f}/s, deadline {chosen.deadline:g} s"
    drawn = Table(title=title)
    for heading in ("", "tenant", "asked/s", "answered/s", "refused/s", "late/s"):
        drawn.add_column(heading, justify="right" if "/s" in heading else "left")
    for heading in ("p50 ms", "p99 ms", "refusal p50 ms", "refusal p99 ms", "sent late p99 ms"):
        drawn.add_column(heading, justify="right")
    for phase in measured.phases:
        for tenant, each in (("calm", phase.calm), *(("flood", one) for one in phase.flood)):
            rates = (each.due, each.answers, each.refused, each.expired + each.unsent)
            times = (each.p50_s, each.p99_s, each.refusal_p50_s, each.refusal_p99_s, each.late_p99_s)
            drawn.add_row(
                phase.name,
                tenant,
                *(f"{count / each.elapsed_s:.1f}" for count in rates),
                *(f"{seconds * 1000:.1f}" for seconds in times),
            )
    return drawn


def verdicts(measured: Measured) -> list[str]:
    """What was meant, and whether it is so."""
    flood = measured.flood
    used = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in measured.cpu_s.items() if seconds > 0.05)
    after = measured.phases[-1].calm
    late_s = max(each.late_p99_s for each in flood.flood)
    said = [
        f"goodput in the flood: {measured.goodput:.2f} of the peak, by CPU {measured.goodput_by_cpu:.2f} "
        f"(meant: {GOODPUT} or more)",
        f"refusals: p99 {measured.refusal_p99_s * 1000:.1f} ms (meant: under {REFUSAL_S * 1000:.0f})",
        f"the calm tenant: {flood.calm.answers / flood.calm.due:.3f} of its requests answered in the flood",
        f"after the flood: the last request without an answer was due {after.last_loss_s:.2f} s after its end",
        f"CPU while the flood was counted: {used}",
    ]
    if late_s > LATE_S:
        said.append(f"[bold]the load itself was late by {late_s * 1000:.0f} ms: it could not keep up; ask for less[/]")
    return said


if __name__ == "__main__":
    sys.exit(main())
