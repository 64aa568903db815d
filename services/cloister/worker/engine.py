"""The seam to whatever computes, and OpenVINO behind it.

A model that was measured to take less than `INLINE_S` runs on the event loop: handing it to another thread and back
costs several times its own work. It was measured on zeros, so only where shapes alone say how much there is to do. A
longer one goes through a pool of asynchronous infer requests. A caller that is cancelled never gives back a request
that is still computing.

Outputs are those of OpenVINO in process with the same `config`, bit for bit, whichever way they were computed. Nothing
is cached on disk (attacks I06). Inputs whose shapes do not fit together never reach the plugin (`shapes`); an
evaluation that fails all the same ends the engine, because later results on the same compiled model may hold bytes from
elsewhere in memory (I08). Whoever owns it then loads the model afresh.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Protocol

import numpy as np
import openvino as ov

from cloister.errors import InvalidRequest
from cloister.oip.contents import Array
from cloister.oip.contract import ModelContract, TensorSpec
from cloister.oip.datatypes import DATATYPES
from cloister.worker.infer_requests import InferPool, InferSlot, failure
from cloister.worker.shapes import ShapeGuard, smallest_shapes

INLINE_S: Final = 200e-6
SLOW_BYTES: Final = 32 << 20
"""Weights that take longer than `INLINE_S` only to be read."""

# CPU pinning would put every one-thread model of a host on the same first core.
_BASE_CONFIG: Final[dict[str, Any]] = {
    "INFERENCE_PRECISION_HINT": "f32",
    "ENABLE_CPU_PINNING": False,
    "CACHE_DIR": "",
}
_INLINE_CONFIG: Final[dict[str, Any]] = {"NUM_STREAMS": 1}
_POOLED_CONFIG: Final[dict[str, Any]] = {"PERFORMANCE_HINT": "THROUGHPUT"}

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

    @property
    def failed(self) -> asyncio.Event:
        """Set once an evaluation has failed; nothing is answered any more, and the model must be loaded afresh."""

    def quick(self, inputs: Mapping[str, Array]) -> bool:
        """Whether these inputs may be evaluated on the event loop, and are expected to take less than `INLINE_S`."""

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
            NotReady: The engine has failed or is being closed.
        """

    async def close(self) -> None:
        """Wait for what is being evaluated; nothing may be asked afterwards."""


class OpenVinoEngine:
    """An OpenVINO model on the CPU plugin.

    Args:
        model: As read. It is taken over: after this it holds no weights.
        threads: For inference; 0 lets OpenVINO choose.
        parallel: At most this many asynchronous infer requests.
        weights_bytes: Size of the weights. What takes too long only to be read is not tried inline.

    Attributes:
        contract: What the model takes and gives.
        failed: Set once an evaluation has failed.
        config: What the pool's model is compiled with.
        measured_s: One inference on the smallest inputs; infinite when it was not tried.
    """

    def __init__(self, model: ov.Model, *, threads: int = 0, parallel: int = 16, weights_bytes: int = 0) -> None:
        self.contract = contract_of(model)
        self.failed = asyncio.Event()
        self.config: dict[str, Any] = _BASE_CONFIG | _POOLED_CONFIG
        if threads:
            self.config["INFERENCE_NUM_THREADS"] = threads
        core = ov.Core()
        compiled = core.compile_model(model, "CPU", self.config)
        # Twice as many as compute at a time, so that none waits for the loop between two evaluations.
        count = min(2 * int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")), parallel)
        self._pool = InferPool([InferSlot(compiled, self.contract) for _ in range(max(1, count))], self.failed)
        tried = core.compile_model(model, "CPU", _BASE_CONFIG | _INLINE_CONFIG) if weights_bytes < SLOW_BYTES else None
        self._guard = ShapeGuard(model, self.contract)
        self.measured_s = float("inf")
        self._quick_bytes = 0
        self._inline = self._quick_slot(tried) if tried is not None else None

    def _quick_slot(self, compiled: ov.CompiledModel) -> InferSlot | None:
        """An infer request for the loop, when the model turns out to be quick enough for one."""
        slot, smallest = InferSlot(compiled, self.contract), _smallest_inputs(self.contract)
        if not self._guard.fixed(smallest):
            return None
        try:
            self.measured_s = slot.measure(smallest, enough_s=10 * INLINE_S)
        except RuntimeError:  # zeros do not suit every model; the pool will do
            return None
        if self.measured_s >= INLINE_S:
            return None
        self._quick_bytes = int(_size_bytes(smallest) * INLINE_S / self.measured_s)
        return slot

    def quick(self, inputs: Mapping[str, Array]) -> bool:
        """Whether to evaluate on the loop: for shapes seen before, and in proportion to the smallest inputs' time.

        Never where a size on the way, a branch or a loop depends on values: those take what a request makes them take.
        """
        if self._inline is None or self.failed.is_set():
            return False
        return _size_bytes(inputs) <= self._quick_bytes and self._guard.fixed(inputs)

    def infer_now(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Evaluate on the calling thread."""
        if self._inline is None:
            raise ValueError("this model is not quick")
        try:
            self._inline.fill(inputs)
            self._inline.evaluate()
            return self._inline.read(outputs)
        except RuntimeError:
            self.failed.set()
            raise failure() from None

    async def infer(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Evaluate in the pool, having looked at the shapes if they are new."""
        if not self._guard.known(inputs):
            await asyncio.to_thread(self._guard.check, inputs)
        return await self._pool.infer(inputs, outputs)

    async def close(self) -> None:
        """Wait until every infer request is back."""
        await self._pool.close()


def contract_of(model: ov.Model) -> ModelContract:
    """The tensors of a model as the protocol names them.

    Raises:
        InvalidRequest: A tensor has an element type that the protocol has no word for.
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


def _smallest_inputs(contract: ModelContract) -> dict[str, Array]:
    """Zeros for every input, open dimensions taken as 1."""
    return {
        spec.name: np.zeros(shape, DATATYPES[spec.datatype].dtype)
        for spec, shape in zip(contract.inputs, smallest_shapes(contract), strict=True)
    }


def _size_bytes(inputs: Mapping[str, Array]) -> int:
    return sum([array.nbytes for array in inputs.values()])
