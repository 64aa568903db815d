"""Ten to ten thousand workers: throughput and p99 by simulation, and what breaks first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.scale.limits import BUSY, LINK_BYTES, Demand, demand, gateways_for
from benchmarks.scale.model import Outcome, capacity_per_s, simulated
from benchmarks.scale.plan import Costs, Plan

WORKERS = (10, 100, 1000, 10_000)
MOST_GATEWAYS = 5000
"""What would need more of them is a matter of arithmetic, and no mesh: it is not simulated."""
NETWORK_S = 100e-6
"""A message between two machines of one room."""
CALLS_PER_WORKER, FEWEST_CALLS, MOST_CALLS = 40, 20_000, 120_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A network whose requests are simulated.

    Attributes:
        served: How a worker serves it: a plan of which sizes and load are put in.
    """

    name: str
    costs: Costs
    served: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One size under one load."""

    case: str
    plan: Plan
    load: float
    outcome: Outcome
    demand: Demand


def apart(costs: Costs) -> Costs:
    """The same on machines of their own: a network between them, and no load that takes their processors."""
    return replace(costs, client_call_s=0.0, hop_s=NETWORK_S)


def image_case(costs: Costs) -> Case:
    """ResNet-50 on raw bytes: 96 ms of a core, evaluated one by one; a gateway takes 2.5 ms for 150 KB (0016)."""
    heavy = replace(costs, gateway_call_s=2.5e-3, worker_frame_s=0.096, worker_call_s=1e-3, jitter=0.1)
    return Case(name="ResNet-50, uint8", costs=heavy, served=Plan(batch=1))


def workers_per_s(case: Case, workers: int) -> float:
    """What so many workers can, whatever the gateways can."""
    return capacity_per_s(case.costs, replace(case.served, workers=workers, gateways=10**9))


def points(
    case: Case,
    loads: Sequence[float] = (0.3, 0.5, 0.7, 0.85),
    sizes: Sequence[int] = WORKERS,
    link_bytes: float = LINK_BYTES,
) -> list[Point]:
    """Every number of workers under every load, with the gateway processes that such a load needs at 70 %."""
    found = []
    for workers in sizes:
        whole_per_s = workers_per_s(case, workers)
        gateways = gateways_for(BUSY * whole_per_s, case.costs.gateway_call_s)
        for load in loads if gateways <= MOST_GATEWAYS else ():
            plan = replace(case.served, workers=workers, gateways=gateways, per_s=load * whole_per_s)
            calls = min(MOST_CALLS, max(FEWEST_CALLS, CALLS_PER_WORKER * workers))
            found.append(
                Point(
                    case=case.name,
                    plan=plan,
                    load=load,
                    outcome=simulated(case.costs, plan, calls=calls),
                    demand=demand(workers, gateways, plan.slots, link_bytes),
                )
            )
    return found
