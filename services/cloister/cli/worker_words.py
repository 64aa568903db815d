"""A worker as `cloister status` shows it: for a program, and for a person."""

from __future__ import annotations

from typing import Any, Final

from cloister.api.v1.gateway_pb2 import WorkerStatus
from cloister.api.v1.worker_pb2 import WorkerCounters

COLUMNS: Final = (
    *("worker", "endpoint", "state", "slots", "models", "answered", "memory"),
    *("attested until", "measurement", "tcb"),
)


def facts_of(worker: WorkerStatus) -> dict[str, Any]:
    """What the gateway says of a worker, as JSON has it; counters are None until the worker has told them."""
    return {
        "instance": worker.instance,
        "endpoint": worker.endpoint,
        "linked": worker.linked,
        "draining": worker.draining,
        "simulated": worker.simulated,
        "slots": worker.slots,
        "slots_used": worker.slots_used,
        "models": list(worker.models),
        "tee": worker.tee,
        "mrenclave": worker.mrenclave,
        "td_measurement": worker.td_measurement,
        "tcb_status": worker.tcb_status,
        "counters": _counters(worker.counters) if worker.HasField("counters") else None,
    }


def row_of(worker: dict[str, Any]) -> tuple[object, ...]:
    """The same, in the columns of a table."""
    state = "draining" if worker["draining"] else "linked" if worker["linked"] else "no link"
    counters = worker["counters"]
    answered = sum(model["requests"] for model in counters["models"]) if counters else ""
    return (
        worker["instance"][:8],
        worker["endpoint"],
        f"{state}, simulated" if worker["simulated"] else state,
        f"{worker['slots_used']}/{worker['slots']}",
        " ".join(worker["models"]) or "none yet",
        answered,
        f"{counters['memory_bytes'] / (1 << 20):.0f} MiB" if counters else "",
        worker["attested_until"],
        f"TD {worker['td_measurement'][:16]}" if worker["td_measurement"] else worker["mrenclave"][:16],
        worker["tcb_status"],
    )


def _counters(told: WorkerCounters) -> dict[str, Any]:
    return {
        "memory_bytes": told.memory_bytes,
        "under_way": told.under_way,
        "models": [
            {
                "model": f"{model.name}@{model.version}",
                "evaluations": model.evaluations,
                "requests": model.requests,
                "rows": model.rows,
                "waiting": model.waiting,
            }
            for model in told.models
        ],
    }
