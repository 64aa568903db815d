"""From what a mesh was measured to cost (as `make bench` counts it) to the costs of the model.

Two turns of a closed loop are enough: with one request in flight every frame holds one call and nothing waits; with
many, frames are full. What a request takes alone beyond all that is computed is the time of its four hops. On a machine
that others use, a second of CPU takes longer than a second: every cost is stretched by how much of the processors they
had, which /proc/stat says, when runs on that machine are predicted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from benchmarks.report.samples import Sample
from benchmarks.scale.plan import Costs

from cloister.gateway.pace import FULL

HOPS = 4


def fitted(alone: Sample, loaded: Sample, calls_per_frame: float = FULL) -> Costs:
    """The costs of one network and one way to ask it.

    Args:
        alone: One request in flight.
        loaded: So many in flight that frames are full.
        calls_per_frame: How many calls were evaluated together in the loaded turn; where that was not counted, those
            that a frame leaves with.
    """
    shared = max(1.001, calls_per_frame)
    frame_us = max(0.0, (_of(alone, "worker") - _of(loaded, "worker")) * shared / (shared - 1))
    computed_us = _of(alone, "worker") + _of(alone, "gateway") + alone.load_cpu_us
    return Costs(
        gateway_call_s=_of(loaded, "gateway") / 1e6,
        worker_frame_s=frame_us / 1e6,
        worker_call_s=max(1.0, _of(alone, "worker") - frame_us) / 1e6,
        client_call_s=loaded.load_cpu_us / 1e6,
        hop_s=max(0.0, alone.p50_ms * 1e3 - computed_us) / HOPS / 1e6,
    )


def stretch(others_cores: float, cores: int) -> float:
    """How many seconds a second of CPU takes where others have so much of the processors; 1 where they have none."""
    return cores / max(0.1, cores - others_cores)


def stretched(costs: Costs, by: float) -> Costs:
    """The same costs where everything computed takes longer."""
    return replace(
        costs,
        gateway_call_s=costs.gateway_call_s * by,
        worker_frame_s=costs.worker_frame_s * by,
        worker_call_s=costs.worker_call_s * by,
        client_call_s=costs.client_call_s * by,
    )


def kept(document: Mapping[str, Any], carrier: str) -> tuple[Sample, Sample]:
    """The turns with least and with most in flight of the last round that `make bench` kept."""
    mine = [
        Sample(**sample)
        for sample in document["rounds"][-1]
        if sample["system"] == "mesh" and sample["carrier"] == carrier
    ]
    ordered = sorted(mine, key=lambda sample: sample.in_flight)
    return ordered[0], ordered[-1]


def _of(sample: Sample, service: str) -> float:
    return sum(used for name, used in sample.cpu_us.items() if name.startswith(service))
