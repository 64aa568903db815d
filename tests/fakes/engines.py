"""An engine that computes in plain NumPy, as fast or as slow as a test wants."""

from __future__ import annotations

import asyncio

import numpy as np

from cloister.contract import ModelContract, TensorSpec
from cloister.errors import InvalidRequest, NotReady
from cloister.worker.counts import EvaluationCounts
from cloister.worker.timings import clock_s


class FakeEngine:
    """`x` FP32 [n, 3] in; `double` (twice x) and `sum` [n] out. Behaves as `OpenVinoEngine` does.

    Attributes:
        inline: Whether everything is quick.
        gate: While cleared, `infer` waits.
        entered: Set once somebody waits at the gate.
        broken: Raised instead of an answer.
        closed: Whether `close` was called.
        left: While cleared, `close` waits.
        batches: How many requests came together, each time.
        parties: Whose each of them was.
        counts: As an engine's.
        waiting: How many are at the gate.
    """

    def __init__(self, *, inline: bool = True) -> None:
        self.contract = ModelContract(
            inputs=(TensorSpec("x", "FP32", (-1, 3)),),
            outputs=(TensorSpec("double", "FP32", (-1, 3)), TensorSpec("sum", "FP32", (-1,))),
        )
        self.inline = inline
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self.broken: Exception | None = None
        self.closed = False
        self.left = asyncio.Event()
        self.left.set()
        self.failed = asyncio.Event()
        self.properties = {"precision": "f32"}
        self.calls_per_slot = 1
        self.batches: list[int] = []
        self.parties: list[bytes] = []
        self.counts = EvaluationCounts()
        self.waiting = 0

    def check(self, inputs) -> None:
        """All values are welcome."""

    def quick(self, item) -> bool:
        return self.inline and not self.failed.is_set()

    def infer_now(self, items):
        if self.broken is not None:
            raise self.broken
        self.batches.append(len(items))
        self.parties += [item.party for item in items]
        evaluation = self.counts.begin(items)
        outcomes = [self._evaluated(item) for item in items]
        evaluation.ended_s = clock_s()
        return outcomes

    async def infer(self, item):
        if self.closed or self.failed.is_set():
            raise NotReady("the model is no longer served", reason="model.gone")
        self.entered.set()
        self.waiting += 1
        try:
            await self.gate.wait()
        finally:
            self.waiting -= 1
        (outcome,) = self.infer_now([item])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def drain(self) -> None:
        await self.gate.wait()

    async def close(self) -> None:
        self.closed = True
        await self.left.wait()

    def _evaluated(self, item):
        x = item.inputs["x"]
        if (x == 13).any():
            return InvalidRequest("the model cannot be evaluated on these inputs", reason="inference.failed")
        found = {"double": x * np.float32(2), "sum": x.sum(1, dtype=np.float32)}
        return {name: found[name] for name in item.outputs}
