"""How fast the mesh serves, beside OpenVINO in process and the servers that a user would pick otherwise: `make bench`.

Everything that is compared runs at the same time and is asked in turns, round after round, by the same program; what
does not have its turn is idle. Answers are compared with those of OpenVINO in process before the first round and after
the last. Prints a table, keeps all samples as JSON and draws them (`benchmarks/report/plots.py`).
"""

from __future__ import annotations

import argparse
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from benchmarks.load import questions
from benchmarks.load.turns import Turn
from benchmarks.models.catalogue import NETWORKS, Network
from benchmarks.report import half_load, machine, profiles, tables
from benchmarks.report.half_load import HalfLoad
from benchmarks.report.samples import LIMIT, Row, Sample, rows
from benchmarks.report.targets import spreads, verdicts
from benchmarks.systems import loads, mesh, peers
from benchmarks.systems.loads import Load
from benchmarks.systems.running import REPOSITORY, Failed, Place
from rich.console import Console

WORK, RESULTS = REPOSITORY / ".bench", REPOSITORY / "benchmarks" / "results"
PLOTTER = REPOSITORY / ".venv-plots" / "bin" / "python"
SCENARIOS = {
    "tiny": ("mlp", "ffnn"),
    "images": ("resnet50-u8", "resnet50"),
    "text": ("bert",),
    "all": ("mlp", "ffnn", "resnet50-u8", "resnet50", "bert"),
}
QUICK_S = 1.0
HALF_ROUNDS = 3  # at half load: its turns are long
WIDTH = 150  # of a table where nobody says how wide the terminal is
T = TypeVar("T")
console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)


def main() -> int:
    """Measure, print, keep, draw."""
    chosen = arguments(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    try:
        for name in chosen.models or SCENARIOS[chosen.scenario]:
            compared(NETWORKS[name], chosen)
    except Failed as error:
        console.print(f"[bold red]failed:[/] {error}")
        return 1
    return 0


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """What to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", choices=SCENARIOS, default="tiny")
    parser.add_argument("--models", nargs="*", choices=NETWORKS, help="in place of a scenario")
    parser.add_argument("--peers", nargs="*", choices=peers.PEERS, default=())
    parser.add_argument("--carriers", nargs="*", choices=mesh.CARRIERS, default=mesh.CARRIERS, help="to the mesh")
    parser.add_argument("--in-flight", nargs="+", type=int, default=(1, 8, 32))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="of each worker; 0 lets OpenVINO choose")
    parser.add_argument("--gateway-processes", type=int, default=1)
    parser.add_argument(
        "--seconds", type=float, help="that a turn counts; a slow machine needs more for a large network"
    )
    parser.add_argument("--quick", action="store_true", help="one short round: does it run?")
    parser.add_argument("--profile", action="store_true", help="then say where gateway and worker spend their time")
    return parser.parse_args(words)


def compared(network: Network, chosen: argparse.Namespace) -> None:
    """One network on all systems."""
    about = {"machine": machine.described(REPOSITORY), "workers": chosen.workers, "threads": chosen.threads}
    about["gateway_processes"] = chosen.gateway_processes
    (place,) = mesh.prepared([network], WORK, 20_000 + 16 * secrets.randbelow(300))  # others may run one too
    with ExitStack() as stack:
        limit = stack.enter_context(loads.in_process(place))
        expected = limit.answers(place.folder / "answers", len(network.questions()))
        console.print(f"{network.name}: starting what is compared ...")
        asked = [limit, *started(stack, place, chosen, expected)]
        checked(asked, place, expected)
        rounds = [one_round(asked, network, chosen, number) for number in range(1 if chosen.quick else chosen.rounds)]
        found = rows(rounds)
        halves = halved(asked, found, network, len(rounds))
        checked(asked, place, expected)
        if chosen.profile:
            watched(asked, network, max(chosen.in_flight))
    middle = half_load.medians(halves)
    judged = verdicts(network.name, found) + spreads(middle)
    console.print(tables.table(network.name, found, len(rounds)))
    console.print(half_load.table(network.name, middle))
    if judged:
        console.print(tables.verdict_table(judged))
    path = RESULTS / f"serving-{network.name}.json"
    tables.write(path, tables.document(network.name, found, judged, rounds, halves, about))
    draw(path)


def started(
    stack: ExitStack, place: Place, chosen: argparse.Namespace, expected: Sequence[questions.Arrays]
) -> Iterator[Load]:
    """Every system, and a load for each way to ask it."""
    for name in chosen.peers:
        running = stack.enter_context(peers.running(peers.PEERS[name], place, expected[0]))
        for target in running.targets.values():
            yield stack.enter_context(loads.asking(target, running.name, running.services))
    size = mesh.Size(workers=chosen.workers, threads=chosen.threads, gateway_processes=chosen.gateway_processes)
    running = stack.enter_context(mesh.mesh([place], size))
    for carrier in chosen.carriers:
        yield stack.enter_context(loads.asking(running.targets[carrier], running.name, running.services))


def checked(asked: Sequence[Load], place: Place, expected: Sequence[questions.Arrays]) -> None:
    """Everybody answers as OpenVINO in process does; raises Failed."""
    worst = max(load.check(place.folder / "answers" / load.system / load.carrier, expected) for load in asked)
    console.print(
        f"  all answers are OpenVINO's in process; the largest difference is {worst:.1e} of the largest output"
    )


def one_round(asked: Sequence[Load], network: Network, chosen: argparse.Namespace, number: int) -> list[Sample]:
    """Everybody's turn at each number of requests in flight, beginning with another one each round."""
    found: dict[tuple[int, Load], Sample] = {}
    for in_flight in chosen.in_flight:
        turn = Turn(
            in_flight=in_flight,
            seconds=chosen.seconds or (QUICK_S if chosen.quick else network.seconds),
            warm_up_s=network.warm_up_s,
        )
        for load in in_turn(asked, number, chosen.rounds):
            found[in_flight, load] = load.sample(turn)
    console.print(f"  round {number + 1} is done")
    return [found[in_flight, load] for in_flight in chosen.in_flight for load in asked]


def in_turn(asked: Sequence[T], number: int, rounds: int) -> list[T]:
    """The order of round `number`: rounds begin at places spread evenly, so that nobody always follows the same one."""
    begin = number % rounds * len(asked) // rounds
    return [*asked[begin:], *asked[:begin]]


def halved(asked: Sequence[Load], found: Sequence[Row], network: Network, rounds: int) -> list[HalfLoad]:
    """Turns of an open loop, at half of what each system has answered with the most in flight; the limit has none."""
    most = max(row.kind.in_flight for row in found)
    known = {(row.kind.system, row.kind.carrier): row for row in found if row.kind.in_flight == most}
    halves = []
    for number in range(min(rounds, HALF_ROUNDS)):
        for load in in_turn([load for load in asked if load.system != LIMIT], number, rounds):
            row = known[load.system, load.carrier]
            pace = half_load.pace(row, seconds=network.seconds, warm_up_s=network.warm_up_s, seed=number)
            halves.append(HalfLoad.of(row, pace, load.paced(pace)[0]))
    return halves


def watched(asked: Sequence[Load], network: Network, in_flight: int) -> None:
    """Where the mesh's processes spend their time; raw stacks are kept for a flame graph."""
    turn = Turn(in_flight=in_flight, seconds=network.seconds, warm_up_s=network.warm_up_s)
    for load in asked:
        if load.system == "mesh":
            folder = RESULTS / f"profile-{network.name}" / load.carrier.replace(" ", "-")
            sample, found, threads = profiles.profiled(load, turn, folder)
            for service, profile in found.items():
                title = f"{network.name}, {load.carrier}, {in_flight} in flight: {service}"
                title += f", {sample.cpu_us[service]:.0f} µs for each answer"
                console.print(profiles.table(title, profile, threads[service]))


def draw(path: Path) -> None:
    """Beside the JSON, where the plotting environment is there."""
    if not PLOTTER.exists():
        console.print(
            f"kept in {path.relative_to(REPOSITORY)}; not drawn: .venv-plots is missing (make bench makes it)"
        )
        return
    program = REPOSITORY / "benchmarks" / "report" / "plots.py"
    subprocess.run([PLOTTER, program, path], check=True)  # noqa: S603 - our own
    console.print(f"kept in {path.relative_to(REPOSITORY)}, drawn beside it")


if __name__ == "__main__":
    sys.exit(main())
