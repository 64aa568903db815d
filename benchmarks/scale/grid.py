"""The grid: meshes of one to four workers and one or two gateways on this machine, each asked directly and by jobs.

Each gateway has a load of its own, all at once, with as much in flight for each worker whatever the size. What counts
is CPU for each answer, of every process; answers a second on the wall say what processors that all of them share, and
others too, came to.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks import processes
from benchmarks.load.open_loop import Pace
from benchmarks.load.turns import Turn, Volley
from benchmarks.models.catalogue import NETWORKS
from benchmarks.report.samples import Sample
from benchmarks.scenarios.jobs import used_s
from benchmarks.systems import loads, mesh
from benchmarks.systems.loads import Asked, Load
from benchmarks.systems.running import REPOSITORY, Place, Running

WORK = REPOSITORY / ".bench" / "scale"
NETWORK = "mlp"
WORKERS, GATEWAYS = (1, 2, 4), (1, 2)
IN_FLIGHT = 32
"""Direct requests for each worker."""
SECONDS, WARM_UP_S = 5.0, 1.0
HALF = 0.5
JOBS, TOGETHER, UNDER_WAY = 2048, 64, 512
"""Jobs of all loads together, in a call, and under way for each gateway."""
TOLD_S = 2.3
"""After so long workers have told what they counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Came:
    """One turn of all loads.

    Attributes:
        sample: Answers a second, the slower load's times, and CPU for each answer by kind of service.
        others_cores: Processors that programs had meanwhile which are no part of this.
    """

    sample: Sample
    others_cores: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One size.

    Attributes:
        alone: One request in flight; only of the first size.
        full: As many as the size is asked with.
        half: Half as many answers a second as that came to, at times by chance.
        jobs: The same network by jobs.
        calls_per_frame: Evaluated together in the full turn, on average.
    """

    gateways: int
    workers: int
    alone: Came | None
    full: Came
    half: Came
    jobs: Came
    calls_per_frame: float

    @property
    def in_flight(self) -> int:
        """Direct requests of the full turn."""
        return IN_FLIGHT * self.workers


def by_cpu_per_s(cell: Cell, gateway_us: float, worker_us: float) -> float:
    """Answers a second with a core for each gateway and each worker, by what an answer takes of all of them."""
    return 1e6 * min(cell.gateways / gateway_us, cell.workers / worker_us)


def measured(carrier: str, workers: Sequence[int] = WORKERS, gateways: Sequence[int] = GATEWAYS) -> Iterator[Cell]:
    """One mesh after the other, of the same folder; raises Failed."""
    (place,) = mesh.prepared([NETWORKS[NETWORK]], WORK, 20_000 + 16 * secrets.randbelow(300))
    first = mesh.Size(threads=1, fsync="everysec")
    mesh.publish([place], first)
    alone = True
    for many in gateways:
        for count in workers:
            size = mesh.Size(workers=count, gateways=many, fsync=first.fsync)
            with mesh.up([place], size) as running:
                yield _cell(place, running, size, carrier, alone=alone)
            alone = False


def _cell(place: Place, running: Running, size: mesh.Size, carrier: str, *, alone: bool) -> Cell:
    with ExitStack() as stack:

        def asking(by: str, program: str) -> list[Load]:
            targets = [mesh.targets(place, address)[by] for address in mesh.gateways(place.mesh)]
            started = [loads.asking(target, "mesh", running.services, program) for target in targets]
            return [stack.enter_context(each) for each in started]

        direct, jobs = asking(carrier, "benchmarks.load"), asking("sealed stream", "benchmarks.load.jobs")
        turn = _Turns(running)
        turn.came(jobs, Volley(jobs=4 * TOGETHER, together=TOGETHER, under_way=UNDER_WAY))  # all is judged and warm
        one = turn.came(direct[:1], Turn(in_flight=1, seconds=SECONDS, warm_up_s=WARM_UP_S)) if alone else None
        (full, calls_per_frame), many = _framed(place, lambda: turn.came(direct, _closed(size))), len(direct)
        pace = Pace(per_s=HALF * full.sample.per_s / many, seconds=SECONDS, warm_up_s=WARM_UP_S)
        half = turn.came(direct, pace)
        volley = Volley(jobs=JOBS // many, together=TOGETHER, under_way=UNDER_WAY)
        return Cell(
            gateways=size.gateways,
            workers=size.workers,
            alone=one,
            full=full,
            half=half,
            jobs=turn.came(jobs, volley),
            calls_per_frame=calls_per_frame,
        )


def _closed(size: mesh.Size) -> Turn:
    return Turn(in_flight=IN_FLIGHT * size.workers // size.gateways, seconds=SECONDS, warm_up_s=WARM_UP_S)


def _framed(place: Place, turn: Callable[[], Came]) -> tuple[Came, float]:
    """A turn, and how many calls were evaluated together in it."""
    time.sleep(TOLD_S)
    before = mesh.evaluations(place.mesh)
    came = turn()
    time.sleep(TOLD_S)
    after = mesh.evaluations(place.mesh)
    return came, (after[1] - before[1]) / max(1, after[0] - before[0])


@dataclass(frozen=True, slots=True)
class _Turns:
    running: Running

    def came(self, asking: Sequence[Load], asked: Asked) -> Came:
        """One turn of these loads, all of them at once."""
        found, grown = loads.at_once([(load, asked) for load in asking], self._look)
        answers, elapsed_s = sum(each.answers for each in found), max(each.elapsed_s for each in found)
        clients_s = sum(each.cpu_s for each in found)
        busy_s, looked_s = grown.pop("busy"), grown.pop("at")
        others_s = busy_s - sum(grown.values()) - clients_s
        sample = Sample(
            system="mesh",
            carrier=asking[0].carrier,
            in_flight=asked.in_flight * len(asking) if isinstance(asked, Turn) else 0,
            per_s=answers / elapsed_s,
            p50_ms=1e3 * max(each.p50_s for each in found),
            p99_ms=1e3 * max(each.p99_s for each in found),
            cpu_us={kind: 1e6 * used / answers for kind, used in grown.items()},
            load_cpu_us=1e6 * clients_s / answers,
            memory_bytes={},
        )
        return Came(sample=sample, others_cores=max(0.0, others_s) / looked_s)

    def _look(self) -> Mapping[str, float]:
        return {**used_s(self.running), "busy": processes.busy_s(), "at": time.monotonic()}
