"""The seam to whatever computes, and OpenVINO behind it.

A model that was measured to take less than `INLINE_S` runs on the event loop: handing it to another thread and back
costs several times its own work. A longer one goes through a pool of asynchronous infer requests. OpenVINO calls back
on a thread of its own, where the outputs are copied out; only then is the infer request handed back. A caller that is
cancelled therefore never gives back a request that is still computing.

Outputs are those of OpenVINO in process with the same `config`, bit for bit. Nothing is cached on disk (attacks I06),
and an output is copied at its own size before its buffer is used again (I08).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from statistics import median
from types import MappingProxyType
from typing import Any, Final, Protocol

import numpy as np
import openvino as ov

from cloister.errors import InvalidRequest, NotReady
from cloister.oip.contents import Array
from cloister.oip.contract import ModelContract, TensorSpec
from cloister.oip.datatypes import DATATYPES

INLINE_S: Final = 200e-6
WARM_UP_RUNS: Final = 3
MEASURED_RUNS: Final = 5
SWEEP_S: Final = 0.02
SLOW_BYTES: Final = 32 << 20

# CPU pinning would put every one-thread model of a host on the same first core.
_BASE_CONFIG: Final = MappingProxyType(
    {"INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False, "CACHE_DIR": ""}
)
_INLINE_CONFIG: Final = MappingProxyType({"NUM_STREAMS": 1})
_POOLED_CONFIG: Final = MappingProxyType({"PERFORMANCE_HINT": "THROUGHPUT"})

_DATATYPES: Final = MappingProxyType(
    {
        "boolean": "BOOL",
        "u8": "UINT8",
        "u16": "UINT16",
        "u32": "UINT32",
        "u64": "UINT64",
        "i8": "INT8",
        "i16": "INT16",
        "i32": "INT32",
        "i64": "INT64",
        "f16": "FP16",
        "bf16": "BF16",
        "f32": "FP32",
        "f64": "FP64",
    }
)


class Engine(Protocol):
    """Evaluates one model."""

    @property
    def contract(self) -> ModelContract:
        """What the model takes and gives."""

    def quick(self, size_bytes: int) -> bool:
        """Whether inputs of this size are expected to take less than `INLINE_S`."""

    def infer_now(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Evaluate on the calling thread; only for what is `quick`.

        Args:
            inputs: All inputs by name, as the contract wants them.
            outputs: Which outputs, in which order.

        Raises:
            InvalidRequest: The model cannot be evaluated on these inputs.
        """

    async def infer(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Evaluate away from the event loop; otherwise as `infer_now`.

        Raises:
            NotReady: The engine is being closed.
        """

    async def close(self) -> None:
        """Wait for what is being evaluated; nothing may be asked afterwards."""


class OpenVinoEngine:
    """An OpenVINO model on the CPU plugin.

    Args:
        model: As read; its shapes have been checked.
        threads: For inference; 0 lets OpenVINO choose.
        parallel: At most this many asynchronous infer requests.
        weights_bytes: Size of the weights. What takes too long only to be read is not measured, and compiled once.

    Attributes:
        contract: What the model takes and gives.
        config: What it was compiled with: the same gives the same bits.
        measured_s: One inference on the smallest inputs; infinite when it failed on them or was not tried.
    """

    def __init__(self, model: ov.Model, *, threads: int = 0, parallel: int = 16, weights_bytes: int = 0) -> None:
        self.contract = contract_of(model)
        self.config: dict[str, Any] = dict(_BASE_CONFIG) | ({"INFERENCE_NUM_THREADS": threads} if threads else {})
        self.measured_s = float("inf")
        self._quick_bytes = 0
        quick = self._quick_slot(model) if weights_bytes < SLOW_BYTES else None
        if quick is None:
            self.config |= _POOLED_CONFIG
            compiled = _compiled(model, self.config)
            streams = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        else:
            self._inline = quick
            compiled, streams = quick.compiled, 1
        # Twice as many as compute at a time, so that none waits for the loop between two evaluations.
        self._pool = _Pool([_Slot(compiled, self.contract) for _ in range(max(1, min(2 * streams, parallel)))])

    def _quick_slot(self, model: ov.Model) -> _Slot | None:
        """An infer request for the loop, when the model turns out to be quick enough for one."""
        config = self.config | _INLINE_CONFIG
        slot = _Slot(_compiled(model, config), self.contract)
        smallest = _smallest_inputs(self.contract)
        self.measured_s = slot.measure(smallest)
        if self.measured_s >= INLINE_S:
            return None
        self.config = config
        self._quick_bytes = int(_size_bytes(smallest) * INLINE_S / self.measured_s)
        return slot

    def quick(self, size_bytes: int) -> bool:
        """Whether inputs of this size are expected to take less than `INLINE_S`: in proportion to the smallest."""
        return size_bytes <= self._quick_bytes

    def infer_now(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Evaluate on the calling thread."""
        try:
            self._inline.fill(inputs)
            self._inline.request.infer()
            return self._inline.read(outputs)
        except RuntimeError:
            raise _failed() from None

    async def infer(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Evaluate in the pool; waits for a free infer request."""
        return await self._pool.infer(inputs, outputs)

    async def close(self) -> None:
        """Wait until every infer request is back."""
        await self._pool.close()


class _Slot:
    """One infer request with input tensors of its own."""

    def __init__(self, compiled: ov.CompiledModel, contract: ModelContract) -> None:
        self.compiled = compiled
        self.request: ov.InferRequest = compiled.create_infer_request()
        self._inputs: dict[str, tuple[ov.Tensor, np.dtype[Any]]] = {}
        self._outputs = {spec.name: (at, DATATYPES[spec.datatype].dtype) for at, spec in enumerate(contract.outputs)}
        self._views: dict[str, Array] = {}
        for at, (port, spec) in enumerate(zip(compiled.inputs, contract.inputs, strict=True)):
            tensor = ov.Tensor(port.get_element_type(), [max(size, 1) for size in spec.shape or (1,)])
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

    def read(self, outputs: Sequence[str]) -> dict[str, Array]:
        """Copies of the outputs."""
        found: dict[str, Array] = {}
        for name in outputs:
            at, dtype = self._outputs[name]
            found[name] = self.request.get_output_tensor(at).data.view(dtype).copy()
        return found

    def measure(self, inputs: Mapping[str, Array]) -> float:
        """Seconds of one evaluation, the median of a few; infinite when these inputs do not suit the model."""
        took: list[float] = []
        try:
            for _ in range(WARM_UP_RUNS + MEASURED_RUNS):
                self.fill(inputs)
                began = time.perf_counter()
                self.request.infer()
                took.append(time.perf_counter() - began)
                if took[-1] > 10 * INLINE_S and len(took) > 1:
                    break
        except RuntimeError:
            return float("inf")
        return median(took[WARM_UP_RUNS:] or took[-1:])


class _Pool:
    """Infer requests that compute on OpenVINO's threads.

    OpenVINO calls back after success only (2026.4). What fails is found by a sweep that asks each running request,
    for as long as any runs.
    """

    def __init__(self, slots: Sequence[_Slot]) -> None:
        self._size = len(slots)
        self._closing = False
        self._idle: asyncio.LifoQueue[_Slot] = asyncio.LifoQueue()
        self._running: dict[_Slot, tuple[asyncio.Future[dict[str, Array]], Sequence[str]]] = {}
        self._sweep: asyncio.TimerHandle | None = None
        for slot in slots:
            slot.request.set_callback(self._completed, slot)
            self._idle.put_nowait(slot)

    async def infer(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        if self._closing:
            raise NotReady("the model is no longer served", reason="model.gone")
        slot = await self._idle.get()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[dict[str, Array]] = loop.create_future()
        self._running[slot] = (answer, outputs)
        try:
            slot.fill(inputs)
            slot.request.start_async()
        except RuntimeError:
            self._finish(slot, _failed())
        if self._sweep is None:
            self._sweep = loop.call_later(SWEEP_S, self._sweep_failed, loop)
        return await answer

    async def close(self) -> None:
        self._closing = True
        for _ in range(self._size):
            await self._idle.get()
        if self._sweep is not None:
            self._sweep.cancel()

    def _completed(self, slot: _Slot) -> None:
        """What OpenVINO calls, on a thread of its own. An exception that left it would end up nowhere."""
        answer, outputs = self._running[slot]
        outcome: dict[str, Array] | Exception
        try:
            outcome = slot.read(outputs)
        except Exception as error:
            outcome = error
        answer.get_loop().call_soon_threadsafe(self._complete, slot, outcome)

    def _complete(self, slot: _Slot, outcome: dict[str, Array] | Exception) -> None:
        # OpenVINO touches the request once more after its callback returns; started before that, it may lose its next.
        slot.request.wait()
        self._finish(slot, outcome)

    def _finish(self, slot: _Slot, outcome: dict[str, Array] | Exception) -> None:
        answer, _ = self._running.pop(slot)
        self._idle.put_nowait(slot)
        if answer.done():
            return
        if isinstance(outcome, Exception):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)

    def _sweep_failed(self, loop: asyncio.AbstractEventLoop) -> None:
        for slot in list(self._running):
            try:
                slot.request.wait_for(0)
            except RuntimeError:
                self._finish(slot, _failed())
        self._sweep = loop.call_later(SWEEP_S, self._sweep_failed, loop) if self._running else None


def contract_of(model: ov.Model) -> ModelContract:
    """The tensors of a model as the protocol names them.

    Raises:
        InvalidRequest: A tensor has no name, or an element type that the protocol has no word for.
    """
    return ModelContract(
        inputs=tuple(_spec(port, "input") for port in model.inputs),
        outputs=tuple(_spec(port, "output") for port in model.outputs),
    )


def _spec(port: ov.Output, side: str) -> TensorSpec:
    names = sorted(port.get_names())
    name = names[0] if names else port.get_node().get_friendly_name()
    datatype = _DATATYPES.get(port.get_element_type().get_type_name())
    if datatype is None:
        raise InvalidRequest(f"{side} '{name}': element type {port.get_element_type()} is not served")
    partial = port.get_partial_shape()
    if partial.rank.is_dynamic:
        return TensorSpec(name, datatype, None)
    return TensorSpec(name, datatype, tuple(-1 if size.is_dynamic else size.get_length() for size in partial))


def _compiled(model: ov.Model, config: Mapping[str, Any]) -> ov.CompiledModel:
    return ov.Core().compile_model(model, "CPU", dict(config))


def _smallest_inputs(contract: ModelContract) -> dict[str, Array]:
    """Zeros for every input, open dimensions taken as 1."""
    return {
        spec.name: np.zeros([1 if size < 0 else size for size in spec.shape or (1,)], DATATYPES[spec.datatype].dtype)
        for spec in contract.inputs
    }


def _size_bytes(inputs: Mapping[str, Array]) -> int:
    return sum(array.nbytes for array in inputs.values())


def _failed() -> InvalidRequest:
    return InvalidRequest("the model cannot be evaluated on these inputs", reason="inference.failed")
