"""A model compiled for this machine, the way that was measured to answer most.

Everything that is measured is measured before the first request, on numbers of our own. An evaluation that fails
meanwhile taints what was compiled (`infer_requests`), which is then thrown away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import openvino as ov

from cloister.contract import ModelContract
from cloister.errors import InvalidRequest
from cloister.oip.contents import Array
from cloister.worker.infer_requests import InferSlot
from cloister.worker.tuning import Tuning, random_rows, rate, rows_alike, rows_within

# CPU pinning would put every one-thread model of a host on the same first core. The precision is said, because the
# plugin's own choice depends on the CPU, and answers would with it.
BASE_CONFIG: Final[Mapping[str, Any]] = MappingProxyType(
    {"INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False, "CACHE_DIR": ""}
)
# A second thread would spin after each evaluation, in wait for the next: ten times the CPU of a request in a trickle.
_INLINE: Final = MappingProxyType({"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1})
# Every core for an evaluation of its own, or all of them for one.
_POOLED: Final = tuple(MappingProxyType({"PERFORMANCE_HINT": hint}) for hint in ("THROUGHPUT", "LATENCY"))
_TRIED_COMPILE_S: Final = 1.0
_TRIED_BYTES: Final = 128 << 20
"""What takes longer to compile, or has more weights, is not compiled twice only to see what is better."""
_CLEARLY: Final = 1.1
"""How many times as many rows the second way must answer; less is within what a busy machine does to it."""
_HEAVY_RUNS: Final = 4
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
        precision: What to compute in: f32, bf16 or f16.
        tuning: What is known of it; what is found out is added.

    Attributes:
        compile_s: What OpenVINO's compiling took so far.
    """

    def __init__(
        self,
        model: ov.Model,
        contract: ModelContract,
        *,
        threads: int,
        weights_bytes: int,
        most_rows: int,
        precision: str,
        tuning: Tuning,
    ) -> None:
        self._model = model
        self._base = {**BASE_CONFIG, "INFERENCE_PRECISION_HINT": precision}
        self._contract = contract
        self._threads = {"INFERENCE_NUM_THREADS": threads} if threads else {}
        self._weights_bytes = weights_bytes
        self._most_rows = most_rows
        self._tuning = tuning
        self._clock_s = tuning.clock_s
        self.compile_s = 0.0
        self._core = ov.Core()

    def inline(self, smallest: Mapping[str, Array], within_s: float) -> tuple[InferSlot, float, int] | None:
        """An infer request for the loop, what it takes in seconds and how many rows; None where it takes too long.

        That is also where one row alone would not, but two that may share an evaluation would: the pool has time for
        them.
        """
        compiled = self._compiled({**self._base, **_INLINE})
        slot = InferSlot(compiled, self._contract)
        try:
            measured_s = slot.measure(smallest, self._clock_s, enough_s=10 * within_s)
            if measured_s >= within_s:
                return None
            if "loop" not in self._tuning.most_rows:
                alike = rows_alike(slot, self._contract, self._most_rows, self._clock_s)
                rows = rows_within(slot, self._contract, alike, within_s, self._clock_s)
                if rows < min(alike, 2):
                    return None
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
            found = self._better(found, self._pool(_POOLED[1], parallel))
        self._tuning.hints = {name: found.config[name] for hints in _POOLED for name in hints}
        self._tuning.most_rows["pool"] = found.most_rows
        return found

    def _better(self, found: Pooled, other: Pooled) -> Pooled:
        """The other only if it answers clearly more with as many rows, each with the bits that it has alone."""
        rows = found.most_rows
        try:
            rows_s = rows * rate(other.slots, random_rows(self._contract, rows), self._clock_s)
            if rows_s < _CLEARLY * found.rows_s:
                return found
            alike = rows_alike(other.slots[0], self._contract, rows, self._clock_s)
        except RuntimeError:
            return found
        if alike < rows:
            return found
        other.most_rows, other.rows_s = rows, rows_s
        return other

    def _pool(self, hints: Mapping[str, Any], parallel: int) -> Pooled:
        config, before_s = {**self._base, **self._threads, **hints}, self.compile_s
        compiled = self._compiled(config)
        compile_s = self.compile_s - before_s
        # Twice as many as compute at a time, so that none waits for the loop between two evaluations.
        count = max(1, min(2 * int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")), parallel))
        slots = [InferSlot(compiled, self._contract) for _ in range(count)]
        return Pooled(slots, config, int(compiled.get_property("NUM_STREAMS")), compile_s)

    def _compiled(self, config: Mapping[str, Any]) -> ov.CompiledModel:
        """Compile, in the precision that was asked for: the plugin quietly takes another where the CPU lacks it."""
        began_s = self._clock_s()
        compiled = self._core.compile_model(self._model, "CPU", dict(config))
        self.compile_s += self._clock_s() - began_s
        wanted = str(config["INFERENCE_PRECISION_HINT"])
        if compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() != wanted:
            raise InvalidRequest(
                f"the model is to compute in {wanted}, which this worker's CPU cannot",
                reason="model.precision_unsupported",
            )
        return compiled

    def _measured(self, pool: Pooled, *, rated: bool) -> Pooled:
        rows = self._tuning.most_rows.get("pool")
        if rows is not None and not rated:
            pool.most_rows = min(self._most_rows, rows)
            return pool
        first, one = pool.slots[0], random_rows(self._contract, 1)
        try:
            if (self._most_rows == 1 and not rated) or self._heavy(first, one):
                return pool
            pool.most_rows = min(
                self._most_rows, rows or rows_alike(first, self._contract, self._most_rows, self._clock_s)
            )
            if rated:
                inputs = random_rows(self._contract, pool.most_rows)
                pool.rows_s = pool.most_rows * rate(pool.slots, inputs, self._clock_s)
        except RuntimeError:
            hints = {name: pool.config[name] for hints in _POOLED for name in hints}
            return self._pool(hints, len(pool.slots))
        self._tuning.most_rows.setdefault("pool", pool.most_rows)
        return pool

    def _heavy(self, slot: InferSlot, one: Mapping[str, Array]) -> bool:
        """Whether to measure no more than this row.

        The first evaluation also prepares for its sizes, and tells little if it is slow.
        """
        for at in range(_HEAVY_RUNS):
            slot.fill(one)
            began_s = self._clock_s()
            slot.evaluate()
            took_s = self._clock_s() - began_s
            if took_s <= _TRIED_S:
                return False
            if at and took_s > 2 * _TRIED_S:
                return True
        return True
