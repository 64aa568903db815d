"""What HTTPS costs beside gRPC, and what it takes from it: `make bench-rest`.

The same mesh is started without HTTPS and with it. Each round asks by gRPC alone at either, by REST alone, and by gRPC
while REST is asked as fast as it answers. CPU for each answer is that of the processes which answer it, with the Envoy
around them, from /proc.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from benchmarks import processes
from benchmarks.load.carriers import REST
from benchmarks.load.turns import Counted, Turn
from benchmarks.models.catalogue import NETWORKS
from benchmarks.systems import loads, mesh
from benchmarks.systems.loads import Load
from benchmarks.systems.running import REPOSITORY, Failed, Place, Running
from rich.console import Console
from rich.table import Table

from cloister.cli.mesh_folder import Mesh
from cloister.cli.ports import FIRST

console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One load's turn: what it saw, and what the processes that answered it used for each answer."""

    what: str
    counted: Counted
    cpu_s: float

    @property
    def answers_per_s(self) -> float:
        """Over the turn."""
        return self.counted.answers / self.counted.elapsed_s

    @property
    def cpu_us(self) -> float:
        """For each answer."""
        return self.cpu_s / max(1, self.counted.answers) * 1e6


def main() -> int:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mlp", choices=sorted(NETWORKS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--in-flight", type=int, default=16)
    chosen = parser.parse_args()
    turn = Turn(in_flight=chosen.in_flight, seconds=chosen.seconds, warm_up_s=0.5)
    lines: list[Line] = []
    try:
        with ExitStack() as stack:
            without, with_https = (
                stack.enter_context(_standing(chosen.model, name, port, https=https))
                for name, port, https in (("rest-off", FIRST + 400, False), ("rest-on", FIRST + 500, True))
            )
            for _ in range(chosen.rounds):
                lines += _round(without, with_https, turn)
    except Failed as error:
        console.print(f"[bold red]failed:[/] {error}")
        return 1
    _print(lines)
    return 0


class Standing:
    """A mesh with a load for each way to ask it."""

    def __init__(self, place: Place, running: Running, stack: ExitStack) -> None:
        founded = Mesh.read(place.mesh)
        unary = running.targets["unary"]
        targets = {"gRPC": unary, **{how: replace(unary, carrier=how, address=founded.gateway_https) for how in REST}}
        self.loads: dict[str, Load] = {
            how: stack.enter_context(loads.asking(target, "mesh", running.services)) for how, target in targets.items()
        }
        self._gateway = running.services["gateway"]

    def asked(self, how: str, turn: Turn, what: str) -> Line:
        """One turn of one load."""
        pids = self._answering(rest=how in REST)
        before = sum(map(processes.cpu_s, pids))
        counted = self.loads[how].counted(turn)
        used_s = sum(map(processes.cpu_s, pids)) - before
        if counted.errors or not counted.answers:
            raise Failed(f"{what}: {counted.errors} errors, such as: {counted.error}")
        # The turn's warm-up is asked too; its answers are taken to be as many a second.
        share = turn.seconds / (turn.seconds + turn.warm_up_s)
        return Line(what=what, counted=counted, cpu_s=used_s * share)

    def _answering(self, *, rest: bool) -> list[int]:
        """The processes of the gateway that answer: all of them where there is only gRPC."""
        children = [pid for pid in processes.tree(self._gateway) if pid != self._gateway]
        found = [pid for pid in children if processes.face(pid) == ("rest" if rest else "")]
        return [pid for pid in found if not _descends(pid, found)] or [self._gateway]


def _descends(pid: int, others: list[int]) -> bool:
    return any(pid in processes.tree(other) for other in others if other != pid)


@contextmanager
def _standing(model: str, name: str, port: int, *, https: bool) -> Iterator[Standing]:
    places = mesh.prepared([NETWORKS[model]], REPOSITORY / ".bench" / name, port)
    with ExitStack() as stack:
        running = stack.enter_context(mesh.mesh(places, mesh.Size(https=https)))
        yield Standing(places[0], running, stack)


def _round(without: Standing, with_https: Standing, turn: Turn) -> list[Line]:
    lines = [
        without.asked("gRPC", turn, "gRPC, no HTTPS"),
        with_https.asked("gRPC", turn, "gRPC, HTTPS idle"),
        *(with_https.asked(how, turn, how) for how in REST),
    ]
    both = {"gRPC": "gRPC, HTTPS loaded", REST[1]: "REST, binary, beside it"}
    with ThreadPoolExecutor(2) as threads:
        tasks = [threads.submit(with_https.asked, how, turn, what) for how, what in both.items()]
        lines += [task.result() for task in tasks]
    return lines


def _print(lines: list[Line]) -> None:
    table = Table("asked by", "answers/s", "p50 ms", "p99 ms", "CPU µs an answer")
    for what in dict.fromkeys(line.what for line in lines):
        alike = [line for line in lines if line.what == what]
        median = statistics.median
        table.add_row(
            what,
            f"{median(line.answers_per_s for line in alike):.0f}",
            f"{median(line.counted.p50_s for line in alike) * 1000:.2f}",
            f"{median(line.counted.p99_s for line in alike) * 1000:.2f}",
            f"{median(line.cpu_us for line in alike):.0f}",
        )
    console.print(table)
    console.print("medians over rounds; CPU of the gateway's processes that answer, Envoy included")


if __name__ == "__main__":
    sys.exit(main())
