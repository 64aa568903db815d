"""What a worker has done, counted: the evaluations of each model, and the memory of the process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from resource import getpagesize
from typing import Final

from cloister.api.v1.worker_pb2 import ModelCounters
from cloister.worker.batches import Item
from cloister.worker.timings import Evaluation, clock_s

SIZES: Final = 10
"""Evaluations are counted by their requests: 1, up to 2, 4, ... 256, more."""
_STATM: Final = Path("/proc/self/statm")


class EvaluationCounts:
    """The evaluations of one model since it was loaded. Called on the event loop only."""

    def __init__(self) -> None:
        self.evaluations = self.requests = self.rows = 0
        self._batches = [0] * SIZES

    def begin(self, batch: Sequence[Item]) -> Evaluation:
        """Count an evaluation that begins now, and note it with each of its requests."""
        requests, rows = len(batch), sum([item.rows for item in batch])
        self.evaluations += 1
        self.requests += requests
        self.rows += rows
        self._batches[min((requests - 1).bit_length(), SIZES - 1)] += 1
        evaluation = Evaluation(requests, rows, clock_s())
        for item in batch:
            item.evaluation = evaluation
        return evaluation

    def message(self, name: str, version: str, waiting: int) -> ModelCounters:
        """As told to gateways, with how many requests wait for an evaluation."""
        return ModelCounters(
            name=name,
            version=version,
            evaluations=self.evaluations,
            requests=self.requests,
            rows=self.rows,
            batches=self._batches,
            waiting=waiting,
        )


def memory_bytes() -> int:
    """Resident memory of this process, or 0 where the system does not tell; under Gramine, of the enclave's heap."""
    try:
        return int(_STATM.read_bytes().split()[1]) * getpagesize()
    except (OSError, ValueError, IndexError):
        return 0
