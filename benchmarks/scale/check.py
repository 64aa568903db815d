"""What the model says of each size of the grid, from what its first size was found to cost, beside what came."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from benchmarks.scale.calibrate import fitted, stretch, stretched
from benchmarks.scale.grid import HALF, Came, Cell, by_cpu_per_s
from benchmarks.scale.model import simulated
from benchmarks.scale.plan import Costs, Plan

from cloister.gateway.pace import FULL
from cloister.worker.engine import QUICK_CALLS

SLOTS = 16
"""Of a worker, unless it is told another number."""
QUICK = Plan(slots=SLOTS, calls_per_slot=QUICK_CALLS, batch=FULL, paced=True)
"""How a model is served that takes less than 0.2 ms."""
CALLS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of one turn, as it came or as it was said; CPU in microseconds for each answer."""

    gateway_us: float
    worker_us: float
    per_s: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One turn of one size.

    Attributes:
        load: `full` or `half`.
        by_cpu_per_s: Answers a second with a core for each gateway and each worker; `said_by_cpu_per_s` likewise.
        calls_per_frame: Evaluated together; `said_calls_per_frame` likewise.
    """

    gateways: int
    workers: int
    load: str
    came: Figures
    said: Figures
    by_cpu_per_s: float
    said_by_cpu_per_s: float
    calls_per_frame: float
    said_calls_per_frame: float
    others_cores: float


def costs_of(first: Cell) -> Costs:
    """What things cost, by the first size of the grid."""
    assert first.alone is not None
    return fitted(first.alone.sample, first.full.sample, first.calls_per_frame)


def compared(cell: Cell, costs: Costs) -> list[Compared]:
    """Both turns of a size, said with the processors that others left."""
    plan = replace(QUICK, gateways=cell.gateways, workers=cell.workers, cores=len(os.sched_getaffinity(0)))
    per_s = HALF * cell.full.sample.per_s
    return [
        _compared(cell, "full", cell.full, replace(plan, in_flight=cell.in_flight), costs),
        _compared(cell, "half", cell.half, replace(plan, per_s=per_s), costs),
    ]


def _compared(cell: Cell, load: str, came: Came, plan: Plan, costs: Costs) -> Compared:
    slower = stretch(came.others_cores, int(plan.cores))
    said = simulated(stretched(costs, slower), plan, calls=CALLS)
    gateway_us, worker_us = 1e6 * said.gateway_s / slower, 1e6 * said.worker_s / slower
    used = came.sample.cpu_us
    return Compared(
        gateways=cell.gateways,
        workers=cell.workers,
        load=load,
        came=_figures(used["gateway"], used["worker"], came.sample.per_s, came.sample.p50_ms, came.sample.p99_ms),
        said=_figures(gateway_us, worker_us, said.per_s, 1e3 * said.p50_s, 1e3 * said.p99_s),
        by_cpu_per_s=by_cpu_per_s(cell, used["gateway"], used["worker"]),
        said_by_cpu_per_s=by_cpu_per_s(cell, gateway_us, worker_us),
        calls_per_frame=cell.calls_per_frame if load == "full" else 0.0,
        said_calls_per_frame=said.calls_per_frame,
        others_cores=came.others_cores,
    )


def _figures(*values: float) -> Figures:
    gateway_us, worker_us, per_s, p50_ms, p99_ms = values
    return Figures(gateway_us=gateway_us, worker_us=worker_us, per_s=per_s, p50_ms=p50_ms, p99_ms=p99_ms)
