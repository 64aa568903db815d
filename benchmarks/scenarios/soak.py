"""The mesh at a steady load for a long time: `make soak MINUTES=30`. Memory and latency stay, answers are right.

Networks and requests of several sizes, sealed and plain, one by one and streamed, all at once. What the mesh can do of
that mix is measured first, in a closed loop; then requests come at a share of it, whether or not earlier ones have been
answered. Every answer is compared with OpenVINO's in process. Fails on any error, refusal or wrong answer, on memory
that grows, and on latency that drifts; the bounds are in `benchmarks/report/drift.py`.
"""

from __future__ import annotations

import argparse
import secrets
import signal
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from benchmarks import processes
from benchmarks.load.open_loop import Pace, Paced
from benchmarks.load.turns import Turn
from benchmarks.models.catalogue import NETWORKS
from benchmarks.report import machine, soaked, tables
from benchmarks.report.drift import Memory
from benchmarks.report.soaked import Asked
from benchmarks.systems import loads, mesh
from benchmarks.systems.loads import Load
from benchmarks.systems.running import REPOSITORY, Failed, Place
from rich.console import Console

WORK, RESULTS = REPOSITORY / ".bench" / "soak", REPOSITORY / "benchmarks" / "results"
MIX = (
    ("mlp", "unary"),
    ("mlp", "sealed stream"),
    ("ffnn", "stream"),
    ("ffnn", "sealed"),
    ("colours", "unary"),
    ("colours", "sealed stream"),
)
MINUTE_S = 60.0
LOOK_S = 5.0
GENTLE_PER_S = 4.0
"""Of each kind, where the machine is not ours alone."""
CAPACITY = Turn(in_flight=4, seconds=15.0, warm_up_s=5.0)
"""How each kind asks while capacity is measured, all at the same time."""
console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)


def main() -> int:
    """Soak, print, keep, judge."""
    chosen = arguments(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    try:
        asked, memories = soak(chosen)
    except Failed as error:
        console.print(f"[bold red]failed:[/] {error}")
        return 1
    console.print(soaked.latency_table(asked))
    console.print(soaked.memory_table(memories))
    about = {"machine": machine.described(REPOSITORY), "chosen": vars(chosen)}
    tables.write(RESULTS / "soak.json", {**about, **soaked.document(asked, memories)})
    wrong = list(soaked.complaints(asked, memories, latency=not chosen.gentle))
    for complaint in wrong:
        console.print(f"[bold red]failed:[/] {complaint}")
    if not wrong:
        console.print("[bold green]steady[/]: no error, every answer right, memory flat")
    return 1 if wrong else 0


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """How long, and how hard."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--share", type=float, default=0.8, help="of the capacity")
    parser.add_argument(
        "--gentle", action="store_true", help=f"{GENTLE_PER_S:.0f} of each kind a second; latency is not judged"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of each worker; 0 lets OpenVINO choose")
    parser.add_argument("--gateways", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2, help="of each gateway")
    return parser.parse_args(words)


def soak(chosen: argparse.Namespace) -> tuple[list[Asked], list[Memory]]:
    """All of it; raises Failed."""
    size = mesh.Size(
        workers=chosen.workers,
        threads=chosen.threads,
        gateways=chosen.gateways,
        gateway_processes=chosen.processes,
    )
    networks = [NETWORKS[name] for name in dict.fromkeys(name for name, _ in MIX)]
    with ExitStack() as stack:
        console.print("starting a mesh ...")
        places = mesh.prepared(networks, WORK, 20_000 + 16 * secrets.randbelow(300))
        running = stack.enter_context(mesh.mesh(places, size))
        asking = [stack.enter_context(each) for each in kinds(places, running.services)]
        for load, place in zip(asking, (place_of(places, name) for name, _ in MIX), strict=True):
            expected(load, place)
        rates = [GENTLE_PER_S] * len(asking) if chosen.gentle else capacity(asking, chosen.share)
        return watched(asking, rates, running.services, chosen.minutes)


def place_of(places: Sequence[Place], name: str) -> Place:
    """Of a network."""
    return next(place for place in places if place.network.name == name)


def kinds(places: Sequence[Place], services: dict[str, int]) -> list[Any]:
    """A load for each of the mix, not yet started; gateways take turns."""
    addresses = mesh.gateways(places[0].mesh)
    found = []
    for at, (name, carrier) in enumerate(MIX):
        target = mesh.targets(place_of(places, name), addresses[at % len(addresses)])[carrier]
        found.append(loads.asking(target, name, services))
    return found


def expected(load: Load, place: Place) -> None:
    """Let OpenVINO in process say what is right, and the load compare every answer with that."""
    folder = place.folder / "expected"
    if not folder.exists():
        with loads.in_process(place) as limit:
            limit.answers(folder, len(place.network.questions()))
    load.expect(folder)


def capacity(asking: Sequence[Load], share: float) -> list[float]:
    """Requests a second that are a share of what each kind gets answered while all of them ask as fast as they can."""
    with ThreadPoolExecutor(len(asking)) as pool:
        counted = list(pool.map(lambda load: load.counted(CAPACITY), asking))
    for load, each in zip(asking, counted, strict=True):
        if each.errors:
            raise Failed(f"{load.system}, {load.carrier}: {each.errors} errors, such as: {each.error}")
    whole = [each.answers / each.elapsed_s for each in counted]
    console.print(f"capacity {sum(whole):.0f} answers/s; asking for {share * sum(whole):.0f} a second")
    return [share * each for each in whole]


def watched(
    asking: Sequence[Load], rates: Sequence[float], services: dict[str, int], minutes: int
) -> tuple[list[Asked], list[Memory]]:
    """Ask for so many minutes, and look at every process meanwhile."""
    asked = [Asked(load.system, load.carrier, rate, []) for load, rate in zip(asking, rates, strict=True)]
    stop = threading.Event()
    looks: processes.Looks = {}
    with ThreadPoolExecutor(len(asking)) as pool:
        tasks = [
            pool.submit(one, load, into, range(at, minutes * len(asking), len(asking)), stop)
            for at, (load, into) in enumerate(zip(asking, asked, strict=True))
        ]
        told = 0
        while not all(task.done() for task in tasks):
            processes.look(services, looks)
            told = tell(asked, looks, told)
            failed_stop(tasks, stop)
            time.sleep(LOOK_S)
    for task in tasks:
        task.result()
    tell(asked, looks, told)
    return asked, [Memory(name, *each) for name, each in looks.items()]


def one(load: Load, into: Asked, seeds: Sequence[int], stop: threading.Event) -> None:
    """One kind, minute by minute, each with a seed of its own: kinds that came together would come in bursts."""
    for seed in seeds:
        if stop.is_set():
            return
        came, _ = load.paced(Pace(per_s=into.per_s, seconds=MINUTE_S, seed=seed))
        into.minutes.append(came)


def failed_stop(tasks: Sequence[Future[None]], stop: threading.Event) -> None:
    """One that failed ends all, at the end of their minute."""
    if any(task.done() and task.exception() for task in tasks):
        stop.set()


def tell(asked: Sequence[Asked], looks: processes.Looks, told: int) -> int:
    """One line for each minute that all kinds have finished; returns how many there are."""
    done = min(len(each.minutes) for each in asked)
    for minute in range(told, done):
        came: list[Paced] = [each.minutes[minute] for each in asked]
        memory = "  ".join(f"{name} {sizes[-1] / 1e6:.0f}" for name, (_, sizes) in looks.items())
        console.print(
            f"minute {minute + 1:3}: {sum(each.answers for each in came):7} right answers, "
            f"{sum(each.due - each.answers for each in came)} other; "
            f"p50 {1e3 * max(each.p50_s for each in came):.1f}, p99 {1e3 * max(each.p99_s for each in came):.1f} ms; "
            f"MB: {memory}"
        )
    return done


if __name__ == "__main__":
    sys.exit(main())
