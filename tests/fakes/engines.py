"""An engine that computes in plain NumPy, as fast or as slow as a test wants."""

from __future__ import annotations

import asyncio

import numpy as np

from cloister.errors import InvalidRequest, NotReady
from cloister.oip.contract import ModelContract, TensorSpec


class FakeEngine:
    """`x` FP32 [n, 3] in; `double` (twice x) and `sum` [n] out. Behaves as `OpenVinoEngine` does.

    Attributes:
        inline: Whether everything is quick.
        gate: While cleared, `infer` waits.
        entered: Set once somebody waits at the gate.
        broken: Raised instead of an answer.
        closed: Whether `close` was called.
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
        self.failed = asyncio.Event()

    def quick(self, inputs) -> bool:
        return self.inline and not self.failed.is_set()

    def infer_now(self, inputs, outputs):
        if self.broken is not None:
            raise self.broken
        x = inputs["x"]
        if (x == 13).any():
            raise InvalidRequest("the model cannot be evaluated on these inputs", reason="inference.failed")
        found = {"double": x * np.float32(2), "sum": x.sum(1, dtype=np.float32)}
        return {name: found[name] for name in outputs}

    async def infer(self, inputs, outputs):
        if self.closed or self.failed.is_set():
            raise NotReady("the model is no longer served", reason="model.gone")
        self.entered.set()
        await self.gate.wait()
        return self.infer_now(inputs, outputs)

    async def close(self) -> None:
        self.closed = True
