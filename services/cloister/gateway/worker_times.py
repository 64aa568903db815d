"""The plain numbers that a worker sends about its speed. Nothing is decided by them."""

from __future__ import annotations

from typing import NamedTuple

from cloister.api.v1.worker_pb2 import WorkerReport


class WorkerTime(NamedTuple):
    """What a worker says of one evaluation and the frame that its results came in.

    Attributes:
        model_version: Which answered.
        requests: How many shared the evaluation.
        rows: Of all of them; 0 where they have no axis in common.
        open_s: Opening and reading the calls.
        wait_s: From then until the evaluation began.
        compute_s: The evaluation.
        serialise_s: Encoding, receipts and seals.
        busy_s: All of it.
    """

    model_version: str
    requests: int
    rows: int
    open_s: float
    wait_s: float
    compute_s: float
    serialise_s: float
    busy_s: float


def worker_times(report: WorkerReport) -> list[WorkerTime]:
    """What a frame says of its evaluations, in order."""
    seal_us, times = report.seal_us, []
    for told in report.evaluations:
        open_us, wait_us, compute_us = told.open_us, told.wait_us, told.compute_us
        serialise_us = told.encode_us + seal_us
        numbers_s = (open_us * 1e-6, wait_us * 1e-6, compute_us * 1e-6, serialise_us * 1e-6)
        times.append(WorkerTime(told.model_version, told.requests, told.rows, *numbers_s, sum(numbers_s)))
    return times
