"""Which shapes a model can be evaluated on, found out without evaluating it.

A request can satisfy every input's own contract and still not fit together (two matrices with different inner
dimensions, a row that a reshape cannot split). OpenVINO's CPU plugin (2026.4) must never see such a request: after one
evaluation has failed, a later and valid one on the same compiled model can return bytes from elsewhere in memory, which
may be another tenant's (attacks I08). So shapes are inferred on a copy of the model without its weights first, once
for each combination, and remembered. The same pass refuses what would take absurd memory (I09).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from typing import Final

import openvino as ov

from cloister.errors import InvalidRequest
from cloister.oip.contents import Array
from cloister.oip.contract import ModelContract

MAX_TENSOR_BYTES: Final = 1 << 31
KNOWN: Final = 4096
_WEIGHTS_BYTES: Final = 4096

Shapes = tuple[tuple[int, ...], ...]


class ShapeGuard:
    """The shapes that one model has been found to take. `check` may be called on any thread.

    Args:
        model: Is taken over, and stripped of its weights.
        contract: Of the model.
    """

    def __init__(self, model: ov.Model, contract: ModelContract) -> None:
        self._names = tuple(spec.name for spec in contract.inputs)
        self._open = any(spec.shape is None or -1 in spec.shape for spec in contract.inputs)
        self._known: dict[Shapes, None] = {}
        self._model = model
        self._reshaping = threading.Lock()
        if self._open:
            _strip(model)

    def known(self, inputs: Mapping[str, Array]) -> bool:
        """Whether inputs of these shapes have been found to fit together."""
        return not self._open or self._shapes(inputs) in self._known

    def check(self, inputs: Mapping[str, Array]) -> None:
        """Find out whether inputs of these shapes fit together, and remember if they do. Takes up to milliseconds.

        Raises:
            InvalidRequest: They do not, or a tensor on the way would be too large.
        """
        shapes = self._shapes(inputs)
        if self.known(inputs):
            return
        with self._reshaping:
            self._infer_shapes(shapes)
            if len(self._known) >= KNOWN:
                del self._known[next(iter(self._known))]
            self._known[shapes] = None

    def _infer_shapes(self, shapes: Shapes) -> None:
        ports = self._model.inputs[: len(shapes)]
        try:
            self._model.reshape({port: ov.PartialShape(list(shape)) for port, shape in zip(ports, shapes, strict=True)})
        except RuntimeError:
            raise InvalidRequest(
                "the shapes of the inputs do not fit together in this model", reason="inference.failed"
            ) from None
        if largest_bytes(self._model) > MAX_TENSOR_BYTES:
            raise InvalidRequest("this request would take too much memory", reason="inference.too_large")

    def _shapes(self, inputs: Mapping[str, Array]) -> Shapes:
        return tuple([inputs[name].shape for name in self._names])


def largest_bytes(model: ov.Model) -> int:
    """Size of the largest tensor that is computed on the way, as far as shapes are known."""
    largest = 0
    for node in model.get_ops():
        for output in node.outputs():
            shape = output.get_partial_shape()
            if shape.is_static:
                largest = max(largest, math.prod(shape.to_shape()) * output.get_element_type().bitwidth // 8)
    return largest


def _strip(model: ov.Model) -> None:
    """Put a parameter of the same shape in place of each constant that is weights: shapes never depend on those."""
    for node in model.get_ops():
        kind = node.get_element_type() if node.get_type_name() == "Constant" else None
        if kind is not None and kind.is_real() and node.get_byte_size() > _WEIGHTS_BYTES:
            stand_in = ov.op.Parameter(kind, ov.PartialShape(node.get_output_shape(0)))
            node.output(0).replace(stand_in.output(0))
            model.add_parameters([stand_in])
