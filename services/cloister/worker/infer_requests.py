"""OpenVINO's infer requests: one at a time on the calling thread, or several on OpenVINO's own threads.

Three things about OpenVINO 2026.4 that this module exists to live with:

- On a single thread a synchronous evaluation that fails raises nothing and leaves the outputs of the one before in
  place. There the asynchronous call is used, and waited for; it does raise.
- An asynchronous evaluation calls back after success only. What failed is found by asking each running request.
- After its callback has returned, OpenVINO touches the request once more. Started again before that, the next
  callback may be lost.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Final

import numpy as np
import openvino as ov

from cloister.errors import InvalidRequest, NotReady
from cloister.oip.contents import Array
from cloister.oip.contract import ModelContract
from cloister.oip.datatypes import DATATYPES
from cloister.worker.shapes import smallest_shapes

WARM_UP_RUNS: Final = 3
MEASURED_RUNS: Final = 5
SWEEP_S: Final = 0.02

Outputs = dict[str, Array]


class InferSlot:
    """One infer request with input tensors of its own."""

    def __init__(self, compiled: ov.CompiledModel, contract: ModelContract) -> None:
        self.request: ov.InferRequest = compiled.create_infer_request()
        self._raises = int(compiled.get_property("INFERENCE_NUM_THREADS")) > 1
        self._inputs: dict[str, tuple[ov.Tensor, np.dtype[Any]]] = {}
        self._outputs = {spec.name: (at, DATATYPES[spec.datatype].dtype) for at, spec in enumerate(contract.outputs)}
        self._views: dict[str, Array] = {}
        shapes = smallest_shapes(contract)
        for at, (port, spec, shape) in enumerate(zip(compiled.inputs, contract.inputs, shapes, strict=True)):
            tensor = ov.Tensor(port.get_element_type(), list(shape))
            self.request.set_input_tensor(at, tensor)
            self._inputs[spec.name] = (tensor, DATATYPES[spec.datatype].dtype)

    def fill(self, inputs: Mapping[str, Array]) -> None:
        """Copy the inputs into the request's own tensors, resized where needed; every byte of them is overwritten."""
        for name, (tensor, dtype) in self._inputs.items():
            array = inputs[name]
            view = self._views.get(name)
            if view is None or view.shape != array.shape:
                tensor.shape = list(array.shape)
                view = self._views[name] = tensor.data.view(dtype)
            view[...] = array

    def evaluate(self) -> None:
        """Evaluate on what was filled in, and wait for it; raises RuntimeError when that fails."""
        if self._raises:
            self.request.infer()
        else:
            self.request.start_async()
            self.request.wait()

    def read(self, outputs: Sequence[str]) -> Outputs:
        """Copies of the outputs, each at its own size."""
        found: Outputs = {}
        for name in outputs:
            at, dtype = self._outputs[name]
            found[name] = self.request.get_output_tensor(at).data.view(dtype).copy()
        return found

    def measure(self, inputs: Mapping[str, Array], *, enough_s: float) -> float:
        """Seconds of one evaluation: the median of a few, or the second where one takes longer than `enough_s`.

        Raises:
            RuntimeError: It failed.
        """
        took: list[float] = []
        for _ in range(WARM_UP_RUNS + MEASURED_RUNS):
            self.fill(inputs)
            began = time.perf_counter()
            self.evaluate()
            took.append(time.perf_counter() - began)
            if took[-1] > enough_s and len(took) > 1:
                return took[-1]
        return median(took[WARM_UP_RUNS:])


class InferPool:
    """Infer requests that compute on OpenVINO's threads, each handed back in its own completion.

    Args:
        slots: All of one compiled model. Once one evaluation has failed, no later result of any of them is handed out.
        failed: Set then.
    """

    def __init__(self, slots: Sequence[InferSlot], failed: asyncio.Event) -> None:
        self._size = len(slots)
        self._failed = failed
        self._closing = False
        self._idle: asyncio.LifoQueue[InferSlot] = asyncio.LifoQueue()
        self._running: dict[InferSlot, tuple[asyncio.Future[Outputs], Sequence[str]]] = {}
        self._sweep: asyncio.TimerHandle | None = None
        for slot in slots:
            slot.request.set_callback(self._completed, slot)
            self._idle.put_nowait(slot)

    async def infer(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Outputs:
        """Evaluate, once an infer request is free.

        Raises:
            InvalidRequest: It failed.
            NotReady: An earlier one failed, or the pool is being closed.
        """
        self._check_open()
        slot = await self._idle.get()
        try:
            self._check_open()
        except NotReady:
            self._idle.put_nowait(slot)
            raise
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Outputs] = loop.create_future()
        self._running[slot] = (answer, outputs)
        try:
            slot.fill(inputs)
            slot.request.start_async()
        except RuntimeError:
            self._fail(slot)
        if self._sweep is None:
            self._sweep = loop.call_later(SWEEP_S, self._look, loop)
        return await answer

    async def close(self) -> None:
        """Wait until every infer request is back."""
        self._closing = True
        for _ in range(self._size):
            await self._idle.get()
        if self._sweep is not None:
            self._sweep.cancel()

    def _check_open(self) -> None:
        if self._closing or self._failed.is_set():
            raise gone()

    def _completed(self, slot: InferSlot) -> None:
        """What OpenVINO calls, on a thread of its own. An exception that left it would end up nowhere."""
        answer, outputs = self._running[slot]
        outcome: Outputs | Exception
        try:
            outcome = slot.read(outputs)
        except Exception as error:
            outcome = error
        answer.get_loop().call_soon_threadsafe(self._complete, slot, outcome)

    def _complete(self, slot: InferSlot, outcome: Outputs | Exception) -> None:
        slot.request.wait()  # until OpenVINO has let go of it
        self._find_failed()  # before this outcome is believed: it may have been computed after a failure
        self._finish(slot, gone() if self._failed.is_set() else outcome)

    def _find_failed(self) -> None:
        for slot in list(self._running):
            try:
                slot.request.wait_for(0)
            except RuntimeError:
                self._fail(slot)

    def _fail(self, slot: InferSlot) -> None:
        self._failed.set()
        self._finish(slot, failure())

    def _finish(self, slot: InferSlot, outcome: Outputs | Exception) -> None:
        answer, _ = self._running.pop(slot)
        self._idle.put_nowait(slot)
        if answer.done():
            return
        if isinstance(outcome, Exception):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._find_failed()
        self._sweep = loop.call_later(SWEEP_S, self._look, loop) if self._running else None


def failure() -> InvalidRequest:
    """An evaluation failed."""
    return InvalidRequest("the model cannot be evaluated on these inputs", reason="inference.failed")


def gone() -> NotReady:
    """The engine answers no more."""
    return NotReady("the model is no longer served", reason="model.gone")
