"""The model against a mesh that runs here: what it says beforehand of throughput and latency, and what came."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.load.open_loop import Pace
from benchmarks.load.turns import Turn
from benchmarks.models.catalogue import NETWORKS
from benchmarks.report.samples import Sample
from benchmarks.scale.calibrate import fitted, stretch, stretched
from benchmarks.scale.model import simulated
from benchmarks.scale.plan import Costs, Plan
from benchmarks.systems import loads, mesh
from benchmarks.systems.loads import Load
from benchmarks.systems.running import REPOSITORY, Failed

WORK = REPOSITORY / ".bench" / "scale"
SHARES = (0.3, 0.5, 0.7)
"""Of the capacity that is measured, at which latency is compared."""
MOST, SLOTS = 32, 16
SECONDS, WARM_UP_S = 6.0, 1.5
SIZES = ((1, 1), (2, 2))
"""Gateway processes and workers; the second is predicted from what the first was found to cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One load; times in ms."""

    gateways: int
    workers: int
    load: str
    per_s: float
    said_per_s: float
    p50_ms: float
    said_p50_ms: float
    p99_ms: float
    said_p99_ms: float


def measured(network: str, carrier: str) -> tuple[Costs, list[Compared]]:
    """Run, calibrate on the first size, compare on all; returns what things cost on a machine of our own."""
    costs: Costs | None = None
    found: list[Compared] = []
    for gateways, workers in SIZES:
        (place,) = mesh.prepared([NETWORKS[network]], WORK, 20_000 + 16 * secrets.randbelow(300))
        size = mesh.Size(workers=workers, threads=1, gateway_processes=gateways)
        with (
            mesh.mesh([place], size) as running,
            loads.asking(running.targets[carrier], "mesh", running.services) as load,
        ):
            alone, full = turn(load, 1), turn(load, MOST)
            costs = costs or fitted(alone, full, SLOTS)
            found += compared(load, costs, Plan(gateways=gateways, workers=workers, slots=SLOTS), full)
    assert costs is not None
    return costs, found


def turn(load: Load, in_flight: int) -> Sample:
    """A closed loop."""
    return load.sample(Turn(in_flight=in_flight, seconds=SECONDS, warm_up_s=WARM_UP_S))


def compared(load: Load, costs: Costs, plan: Plan, full: Sample) -> list[Compared]:
    """The closed loop that is full, then open ones at shares of what it reached."""
    cores = len(os.sched_getaffinity(0))
    here = stretched(costs, stretch(full, cores))
    shared = replace(plan, cores=cores)
    said = simulated(here, replace(shared, in_flight=MOST))
    closed = (full.per_s, full.p50_ms, full.p99_ms)
    rows = [row(plan, f"{MOST} in flight", closed, (said.per_s, said.p50_s, said.p99_s))]
    for share in SHARES:
        per_s = share * full.per_s
        try:
            came, _ = load.paced(Pace(per_s=per_s, seconds=SECONDS, warm_up_s=WARM_UP_S))
        except Failed:  # the machine stood still for so long that gRPC refused streams: nothing to compare with
            continue
        said = simulated(here, replace(shared, per_s=per_s))
        real = (came.answers / came.elapsed_s, 1e3 * came.p50_s, 1e3 * came.p99_s)
        rows.append(row(plan, f"{share:.0%}", real, (said.per_s, said.p50_s, said.p99_s)))
    return rows


def row(plan: Plan, load: str, real: Sequence[float], said: Sequence[float]) -> Compared:
    """Of what came (per second, ms, ms) and what was said (per second, seconds, seconds)."""
    return Compared(
        gateways=plan.gateways,
        workers=plan.workers,
        load=load,
        per_s=real[0],
        said_per_s=said[0],
        p50_ms=real[1],
        said_p50_ms=1e3 * said[1],
        p99_ms=real[2],
        said_p99_ms=1e3 * said[2],
    )
