"""One of OpenVINO's infer requests: filled, evaluated, read.

Three things about OpenVINO 2026.4 that this module and `infer_pool` exist to live with:

- On a single thread a synchronous evaluation that fails raises nothing and leaves the outputs of the one before in
  place. There the asynchronous call is used, and waited for; it does raise.
- An asynchronous evaluation calls back after success only. What failed is found by asking each running request.
- After its callback has returned, OpenVINO touches the request once more. Started again before that, the next
  callback may be lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import openvino as ov

from cloister.contract import ModelContract
from cloister.errors import InvalidRequest, NotReady
from cloister.oip.contents import Array
from cloister.oip.datatypes import DATATYPES
from cloister.worker.batches import Item, Outputs, bounds
from cloister.worker.shapes import smallest_shapes

WARM_UP_RUNS: Final = 3
MEASURED_RUNS: Final = 12


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
        for name, array in inputs.items():
            self._view(name, array.shape)[...] = array

    def fill_rows(self, batch: Sequence[Item]) -> None:
        """As `fill`, the rows of one request under those of another, each straight to its place."""
        if len(batch) == 1:
            self.fill(batch[0].inputs)
            return
        places = bounds(batch)
        for name, array in batch[0].inputs.items():
            view = self._view(name, (places[-1][1], *array.shape[1:]))
            for item, (begin, end) in zip(batch, places, strict=True):
                view[begin:end] = item.inputs[name]

    def _view(self, name: str, shape: tuple[int, ...]) -> Array:
        view = self._views.get(name)
        if view is None or view.shape != shape:
            tensor, dtype = self._inputs[name]
            tensor.shape = list(shape)
            view = self._views[name] = tensor.data.view(dtype)
        return view

    def evaluate(self) -> None:
        """Evaluate on what was filled in, and wait for it; raises RuntimeError when that fails."""
        if self._raises:
            self.request.infer()
        else:
            self.request.start_async()
            self.request.wait()

    def read(self, outputs: Sequence[str]) -> Outputs:
        """Copies of the outputs, each at its own size."""
        return {name: _copied(self._output(name)) for name in outputs}

    def read_rows(self, batch: Sequence[Item]) -> list[Outputs]:
        """Copies of each request's own rows of the outputs that it wants.

        Raises:
            RuntimeError: An output has another number of rows than went in; then nobody's are known.
        """
        if len(batch) == 1:
            return [self.read(batch[0].outputs)]
        places = bounds(batch)
        whole = {name: self._output(name) for name in {name for item in batch for name in item.outputs}}
        if any(array.shape[0] != places[-1][1] for array in whole.values()):
            raise RuntimeError("an output has not the rows of its inputs")
        return [
            {name: _copied(whole[name][begin:end]) for name in item.outputs}
            for item, (begin, end) in zip(batch, places, strict=True)
        ]

    def _output(self, name: str) -> Array:
        at, dtype = self._outputs[name]
        found: Array = self.request.get_output_tensor(at).data.view(dtype)
        return found

    def measure(self, inputs: Mapping[str, Array], clock_s: Callable[[], float], *, enough_s: float) -> float:
        """Seconds of one evaluation: the least of several, or of two after the first where both exceed `enough_s`.

        The least, because what else the machine does only ever adds to it.

        Raises:
            RuntimeError: It failed.
        """
        took_s: list[float] = []
        for _ in range(WARM_UP_RUNS + MEASURED_RUNS):
            self.fill(inputs)
            began_s = clock_s()
            self.evaluate()
            took_s.append(clock_s() - began_s)
            if len(took_s) > 2 and min(took_s[1:]) > enough_s:
                break
        return min(took_s[1:])


def _copied(array: Array) -> Array:
    """A copy over bytes of its own, which an answer takes as they are (`oip.contents.to_raw`)."""
    raw = array.tobytes()
    return np.frombuffer(raw, array.dtype).reshape(array.shape) if raw else array.copy()


def failure() -> InvalidRequest:
    """An evaluation failed."""
    return InvalidRequest("the model cannot be evaluated on these inputs", reason="inference.failed")


def gone() -> NotReady:
    """The engine answers no more."""
    return NotReady("the model is no longer served", reason="model.gone")
