"""The seam to whatever computes, and OpenVINO behind it.

A model that was measured to take less than `INLINE_S` runs on the event loop: handing it to another thread and back
costs several times its own work. It was measured on zeros, so only where shapes alone say how much there is to do. A
longer one goes through a pool of asynchronous infer requests. A caller that is cancelled never gives back a request
that is still computing. Requests share an evaluation where the model was found to keep their rows apart (`rows`) and to
give each the bits that it has alone (`tuning`).

Outputs are those of OpenVINO in process with the same `config`, bit for bit, whichever way they were computed. Nothing
is cached on disk (attacks I06). Inputs whose shapes do not fit together never reach the plugin (`shapes`); an
evaluation that fails all the same ends the engine, because later results on the same compiled model may hold bytes from
elsewhere in memory (I08). Whoever owns it then loads the model afresh.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Final, Protocol

import numpy as np
import openvino as ov

from cloister.contract import ModelContract
from cloister.errors import CloisterError
from cloister.oip.contents import Array
from cloister.oip.datatypes import DATATYPES
from cloister.seal.manifest import DEFAULT_PRECISION
from cloister.worker import rows
from cloister.worker.batches import Item, Outputs, take
from cloister.worker.compiling import Compiler
from cloister.worker.counts import EvaluationCounts
from cloister.worker.infer_pool import InferPool, failed_in
from cloister.worker.infer_requests import InferSlot, gone
from cloister.worker.ports import check_narrow, contract_of, narrow_inputs
from cloister.worker.shapes import ShapeGuard, smallest_shapes
from cloister.worker.timings import clock_s
from cloister.worker.tuning import MOST_ROWS, Tuning

INLINE_S: Final = 200e-6
QUICK_CALLS: Final = 8
"""That one slot holds, where each takes less than `INLINE_S`: calls that come together cost all who touch them less,
and those of a full worker still take no longer than a few of a slow model."""
SLOW_BYTES: Final = 32 << 20
"""Weights that take longer than `INLINE_S` only to be read."""


class Engine(Protocol):
    """Evaluates one model."""

    @property
    def contract(self) -> ModelContract:
        """What the model takes and gives."""

    @property
    def properties(self) -> Mapping[str, str]:
        """How it is evaluated here, for its metadata."""

    @property
    def calls_per_slot(self) -> int:
        """How many calls may have one slot together."""

    @property
    def counts(self) -> EvaluationCounts:
        """What it has evaluated."""

    @property
    def waiting(self) -> int:
        """How many requests wait for an evaluation."""

    @property
    def failed(self) -> asyncio.Event:
        """Set once an evaluation has failed; nothing is answered any more, and the model must be loaded afresh."""

    def check(self, inputs: Mapping[str, Array]) -> None:
        """Raise `InvalidRequest` for values that could not be evaluated as they are; inputs that fit the contract."""

    def quick(self, item: Item) -> bool:
        """Whether this may be evaluated on the event loop, and is expected to take less than `INLINE_S`."""

    def infer_now(self, items: Sequence[Item]) -> list[Outputs | CloisterError]:
        """Evaluate on the calling thread, together what may go together; only for what is `quick`.

        Returns:
            For each, in order: its outputs, as it asked for them; or why there are none (`InvalidRequest`, `NotReady`).
        """

    async def infer(self, item: Item) -> Outputs:
        """Evaluate away from the event loop.

        Raises:
            InvalidRequest: The model cannot be evaluated on these inputs.
            NotReady: The engine has failed or is being closed.
            TimeoutError: Its time was up before it began.
        """

    async def drain(self) -> None:
        """Wait until nothing is under way; for when nothing new will come."""

    async def close(self) -> None:
        """Wait for what is being evaluated; nothing may be asked afterwards."""


class OpenVinoEngine:
    """An OpenVINO model on the CPU plugin.

    Args:
        model: As `models.read` gives it, with bounds on what it takes as a position; left as it is, and not kept.
        threads: For inference; 0 lets OpenVINO choose.
        parallel: At most this many asynchronous infer requests.
        weights_bytes: Size of the weights. What takes too long only to be read is not tried inline.
        most_rows: Of different requests in one evaluation; 1 lets each go alone.
        precision: What the model's owner has it compute in: f32, bf16 or f16.
        tuning: What is known of this model; what is found out is added to it.
        closed: Called once nothing is evaluated any more, and OpenVINO has let go of what it holds.

    Attributes:
        contract: What the model takes and gives.
        failed: Set once an evaluation has failed.
        counts: What it has evaluated.
        config: What the pool's model is compiled with.
        measured_s: One inference on the smallest inputs; infinite when it was not tried.
        streams: How many evaluations of the pool compute at a time.
        tuning: What suits the model.
        spent_s: What getting ready took: `check`, `compile` and `tune`.

    Raises:
        InvalidRequest: As `ShapeGuard`; or this CPU does not compute in `precision` (`model.precision_unsupported`).
    """

    def __init__(
        self,
        model: ov.Model,
        *,
        threads: int = 0,
        parallel: int = 16,
        weights_bytes: int = 0,
        most_rows: int = MOST_ROWS,
        precision: str = DEFAULT_PRECISION,
        tuning: Tuning | None = None,
        closed: Callable[[], None] | None = None,
    ) -> None:
        began_s = time.perf_counter()
        self.contract = contract_of(model)
        self._narrow = narrow_inputs(model)
        self.failed = asyncio.Event()
        self.counts = EvaluationCounts()
        self.tuning = tuning or Tuning()
        self._closed = closed
        self._guard: ShapeGuard | None = ShapeGuard(model.clone(), self.contract)
        compiler = Compiler(
            model,
            self.contract,
            threads=threads,
            weights_bytes=weights_bytes,
            most_rows=rows.most_rows(model, self.contract, most_rows),
            precision=precision,
            tuning=self.tuning,
        )
        checked_s = time.perf_counter()
        smallest = _smallest_inputs(self.contract)
        known = self._guard.known(smallest)
        tried = weights_bytes < SLOW_BYTES and self._guard.fixed(smallest)
        quick = compiler.inline(smallest, INLINE_S) if tried else None
        self._inline: InferSlot | None = quick[0] if quick else None
        self.measured_s, self._inline_rows = quick[1:] if quick else (float("inf"), 1)
        self._quick_bytes = _size_bytes(smallest) * INLINE_S / self.measured_s
        pooled = compiler.pooled(parallel, compare=known and quick is None)
        self.config = pooled.config
        self.streams, self._pool_rows = pooled.streams, pooled.most_rows
        self._pool = InferPool(
            pooled.slots, self.failed, self.counts, streams=pooled.streams, most_rows=pooled.most_rows
        )
        tune_s = time.perf_counter() - checked_s - compiler.compile_s
        self.spent_s = {"check": checked_s - began_s, "compile": compiler.compile_s, "tune": max(0.0, tune_s)}

    @property
    def properties(self) -> Mapping[str, str]:
        """How it is evaluated here."""
        return {
            "precision": str(self.config["INFERENCE_PRECISION_HINT"]),
            "performance_hint": str(self.config["PERFORMANCE_HINT"]),
            "streams": str(self.streams),
            "inline": "true" if self._inline is not None else "false",
            "max_batch_rows": str(self._inline_rows if self._inline is not None else self._pool_rows),
        }

    @property
    def calls_per_slot(self) -> int:
        """Several of a model that runs on the event loop."""
        return QUICK_CALLS if self._inline is not None else 1

    @property
    def waiting(self) -> int:
        """How many requests wait for an infer request."""
        return self._pool.waiting

    def check(self, inputs: Mapping[str, Array]) -> None:
        """Refuse numbers that OpenVINO would cut."""
        check_narrow(inputs, self._narrow)

    def quick(self, item: Item) -> bool:
        """Whether to evaluate on the loop: for shapes seen before, and in proportion to the smallest inputs' time.

        Never where a size on the way, a branch or a loop depends on values: those take what a request makes them take.
        """
        if self._inline is None or self._guard is None or self.failed.is_set():
            return False
        if _proved(item.rows, self._inline_rows):
            return True
        return _size_bytes(item.inputs) <= self._quick_bytes and self._guard.fixed(item.inputs)

    def infer_now(self, items: Sequence[Item]) -> list[Outputs | CloisterError]:
        """Evaluate on the calling thread."""
        waiting = deque(enumerate(items))
        found: list[Outputs | CloisterError] = [gone()] * len(items)
        while waiting and not self.failed.is_set():
            batch = take(waiting, itemgetter(1), most_rows=self._inline_rows, most=len(items))
            for (at, _), outcome in zip(batch, self._evaluate([item for _, item in batch]), strict=True):
                found[at] = outcome
        return found

    def _evaluate(self, batch: list[Item]) -> list[Outputs | CloisterError]:
        if self._inline is None:
            raise ValueError("this model is not quick")
        evaluation = self.counts.begin(batch)
        try:
            self._inline.fill_rows(batch)
            self._inline.evaluate()
            return [*self._inline.read_rows(batch)]
        except RuntimeError:
            self.failed.set()
            if len(batch) > 1:
                self.tuning.forbid_batches()
            return [failed_in(len(batch)) for _ in batch]
        finally:
            evaluation.ended_s = clock_s()

    async def infer(self, item: Item) -> Outputs:
        """Evaluate in the pool, having looked at the shapes if they are new."""
        guard = self._guard
        if guard is not None and not _proved(item.rows, self._pool_rows) and not guard.known(item.inputs):
            await asyncio.to_thread(guard.check, item.inputs)
        return await self._pool.infer(item)

    async def drain(self) -> None:
        """Wait until the pool has nothing under way."""
        await self._pool.drain()

    async def close(self) -> None:
        """Wait until every infer request is back, and let go of all that OpenVINO holds of the model."""
        await self._pool.close()
        if self._pool.batch_failed:
            self.tuning.forbid_batches()
        self._inline = self._guard = None
        if self._closed is not None:
            self._closed()


def _proved(count: int, most_rows: int) -> bool:
    """Whether so many rows were tried at load: then nothing but the first axis is open, and it fits at any size.

    Where no rows are shared, one row proves nothing: other axes may be open, and not fit together.
    """
    return 0 < count <= most_rows and most_rows > 1


def _smallest_inputs(contract: ModelContract) -> dict[str, Array]:
    """Zeros for every input, open dimensions taken as 1."""
    return {
        spec.name: np.zeros(shape, DATATYPES[spec.datatype].dtype)
        for spec, shape in zip(contract.inputs, smallest_shapes(contract), strict=True)
    }


def _size_bytes(inputs: Mapping[str, Array]) -> int:
    return sum([array.nbytes for array in inputs.values()])
