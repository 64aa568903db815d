"""A model compiled for this machine, the way that was measured to answer most.

Everything that is measured is measured before the first request, on numbers of our own. An evaluation that fails
meanwhile taints what was compiled (`infer_requests`), which is then thrown away.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import openvino as ov

from cloister.oip.contents import Array
from cloister.oip.contract import ModelContract
from cloister.worker.infer_requests import InferSlot
from cloister.worker.tuning import Tuning, random_rows, rate, rows_alike

# CPU pinning would put every one-thread model of a host on the same first core. The precision is said, because the
# plugin's own choice depends on the CPU, and answers would with it.
BASE_CONFIG: Final[Mapping[str, Any]] = MappingProxyType(
    {"INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False, "CACHE_DIR": ""}
)
_INLINE: Final = MappingProxyType({"NUM_STREAMS": 1})
# Every core for an evaluation of its own, or all of them for one.
_POOLED: Final = tuple(MappingProxyType({"PERFORMANCE_HINT": hint}) for hint in ("THROUGHPUT", "LATENCY"))
_TRIED_COMPILE_S: Final = 1.0
_TRIED_BYTES: Final = 128 << 20
"""What takes longer to compile, or has more weights, is not compiled twice only to see what is better."""
_TRIED_S: Final = 0.02
"""What takes longer for one row is not measured: a cold start would take seconds more, and a batch saves it little."""


@dataclass(slots=True)
class Pooled:
    """What an `InferPool` is made of.

    Attributes:
        config: It was compiled with.
        streams: How many evaluations compute at a time.
        most_rows: Of different requests in one evaluation.
        compile_s: What compiling took.
        rows_s: Rows a second in the largest batches; 0 if not measured.
    """

    slots: list[InferSlot]
    config: dict[str, Any]
    streams: int
    compile_s: float
    most_rows: int = 1
    rows_s: float = 0.0


class Compiler:
    """Compiles one model.

    Args:
        model: Is not kept.
        contract: Of the model.
        threads: For inference; 0 lets OpenVINO choose.
        weights_bytes: Size of the weights.
        most_rows: That its graph lets share an evaluation.
        tuning: What is known of it; what is found out is added.
    """

    def __init__(
        self,
        model: ov.Model,
        contract: ModelContract,
        *,
        threads: int,
        weights_bytes: int,
        most_rows: int,
        tuning: Tuning,
    ) -> None:
        self._model = model
        self._contract = contract
        self._threads = {"INFERENCE_NUM_THREADS": threads} if threads else {}
        self._weights_bytes = weights_bytes
        self._most_rows = most_rows
        self._tuning = tuning
        self._core = ov.Core()

    def inline(self, smallest: Mapping[str, Array], within_s: float) -> tuple[InferSlot, float, int] | None:
        """An infer request for the loop, what it takes in seconds and how many rows; None where it takes too long."""
        compiled = self._core.compile_model(self._model, "CPU", {**BASE_CONFIG, **_INLINE})
        slot = InferSlot(compiled, self._contract)
        try:
            measured_s = slot.measure(smallest, enough_s=10 * within_s)
            if measured_s >= within_s:
                return None
            if "loop" not in self._tuning.most_rows:
                rows = rows_alike(slot, self._contract, self._most_rows, within_s=within_s)
                self._tuning.most_rows["loop"] = rows
        except RuntimeError:  # zeros do not suit every model; the pool will do
            return None
        return slot, measured_s, min(self._most_rows, self._tuning.most_rows["loop"])

    def pooled(self, parallel: int, *, compare: bool) -> Pooled:
        """Infer requests for the pool.

        Args:
            parallel: At most so many.
            compare: Whether to find out which way of using the cores is best.
        """
        known = self._tuning.hints
        if known is not None or not compare:
            return self._measured(self._pool(known or _POOLED[0], parallel), rated=False)
        found = self._measured(self._pool(_POOLED[0], parallel), rated=True)
        if found.rows_s and found.compile_s < _TRIED_COMPILE_S and self._weights_bytes < _TRIED_BYTES:
            self._tuning.most_rows.pop("pool", None)
            other = self._measured(self._pool(_POOLED[1], parallel), rated=True)
            found = max(found, other, key=lambda tried: tried.rows_s)
        self._tuning.hints = {name: found.config[name] for hints in _POOLED for name in hints}
        self._tuning.most_rows["pool"] = found.most_rows
        return found

    def _pool(self, hints: Mapping[str, Any], parallel: int) -> Pooled:
        config = {**BASE_CONFIG, **self._threads, **hints}
        began_s = time.perf_counter()
        compiled = self._core.compile_model(self._model, "CPU", config)
        compile_s = time.perf_counter() - began_s
        # Twice as many as compute at a time, so that none waits for the loop between two evaluations.
        count = max(1, min(2 * int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")), parallel))
        slots = [InferSlot(compiled, self._contract) for _ in range(count)]
        return Pooled(slots, config, int(compiled.get_property("NUM_STREAMS")), compile_s)

    def _measured(self, pool: Pooled, *, rated: bool) -> Pooled:
        rows = self._tuning.most_rows.get("pool")
        first, one = pool.slots[0], random_rows(self._contract, 1)
        try:
            if (self._most_rows == 1 and not rated) or _heavy(first, one, settled=self._most_rows == 1):
                return pool
            pool.most_rows = min(self._most_rows, rows or rows_alike(first, self._contract, self._most_rows))
            if rated:
                pool.rows_s = pool.most_rows * rate(pool.slots, random_rows(self._contract, pool.most_rows))
        except RuntimeError:
            hints = {name: pool.config[name] for hints in _POOLED for name in hints}
            return self._pool(hints, len(pool.slots))
        self._tuning.most_rows.setdefault("pool", pool.most_rows)
        return pool


def _heavy(slot: InferSlot, one: Mapping[str, Array], *, settled: bool) -> bool:
    """Whether to measure no more.

    Args:
        slot: Evaluates.
        one: Inputs of one row.
        settled: Whether all shapes are fixed; otherwise the first evaluation also prepares for its shape, and tells
            little.
    """
    for _ in range(1 if settled else 2):
        slot.fill(one)
        began_s = time.perf_counter()
        slot.evaluate()
        took_s = time.perf_counter() - began_s
    return took_s > (2 if settled else 5) * _TRIED_S or slot.measure(one, enough_s=_TRIED_S) > _TRIED_S
