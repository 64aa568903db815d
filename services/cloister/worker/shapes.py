"""What a model may be evaluated on, found out without evaluating it (what its values may say: `safety`).

A request can satisfy every input's own contract and still not fit together (two matrices with different
inner dimensions, a row that a reshape cannot split). OpenVINO's CPU plugin (2026.4) must never see such a request:
after one evaluation has failed, a later and valid one on the same compiled model can return bytes from elsewhere in
memory, which may be another tenant's (attacks I08). So shapes are inferred on a copy of the model without its weights
first, once for each combination, and remembered. The same pass refuses what would take absurd memory (I09): every
tensor needs a size, or at least an upper bound, that follows from the shapes of the inputs.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import openvino as ov

from cloister.contract import ModelContract
from cloister.errors import InvalidRequest
from cloister.oip.contents import Array
from cloister.worker.bounds import INDEXED, UNFIT, check_indexed
from cloister.worker.graph import nodes
from cloister.worker.limits import check_count
from cloister.worker.refusals import unbounded, unsafe
from cloister.worker.rounds import check_rounds
from cloister.worker.sampling import SAMPLED, check_places

MAX_TENSOR_BYTES: Final = 1 << 31
KNOWN: Final = 4096
_WEIGHTS_BYTES: Final = 4096

Shapes = tuple[tuple[int, ...], ...]


class ShapeGuard:
    """The shapes that one model has been found to take. `check` may be called on any thread.

    Args:
        model: Is taken over, and stripped of its weights.
        contract: Of the model.

    Raises:
        InvalidRequest: On its smallest inputs already, a tensor has no bounded size (`model.shape_unbounded`), is too
            large, or is indexed though it may be empty (`model.operation_unsafe`).
    """

    def __init__(self, model: ov.Model, contract: ModelContract) -> None:
        self._names = tuple(spec.name for spec in contract.inputs)
        self._open = any(spec.shape is None or -1 in spec.shape for spec in contract.inputs)
        self._known: dict[Shapes, bool] = {}
        self._model = model
        self._reshaping = threading.Lock()
        _strip(model)
        try:
            self._learn(smallest_shapes(contract))
        except InvalidRequest as error:
            if not self._open or error.reason != UNFIT:  # ones do not suit every model; each request is looked at
                raise

    def known(self, inputs: Mapping[str, Array]) -> bool:
        """Whether inputs of these shapes have been found to fit together."""
        return self._shapes(inputs) in self._known

    def fixed(self, inputs: Mapping[str, Array]) -> bool:
        """Whether these shapes are known, and alone say how much there is to do."""
        return self._known.get(self._shapes(inputs), False)

    def check(self, inputs: Mapping[str, Array]) -> None:
        """Find out whether inputs of these shapes fit together, and remember if they do. Takes up to milliseconds.

        Raises:
            InvalidRequest: They do not, or a tensor on the way would be too large, or of no bounded size.
        """
        if not self.known(inputs):
            self._learn(self._shapes(inputs))

    def _learn(self, shapes: Shapes) -> None:
        with self._reshaping:
            if self._open:
                self._reshape(shapes)
            fixed = sizes_fixed(self._model)
            if len(self._known) >= KNOWN:
                del self._known[next(iter(self._known))]
            self._known[shapes] = fixed

    def _reshape(self, shapes: Shapes) -> None:
        ports = self._model.inputs[: len(shapes)]
        try:
            self._model.reshape({port: ov.PartialShape(list(shape)) for port, shape in zip(ports, shapes, strict=True)})
        except RuntimeError:
            raise InvalidRequest("the shapes of the inputs do not fit together in this model", reason=UNFIT) from None

    def _shapes(self, inputs: Mapping[str, Array]) -> Shapes:
        return tuple([inputs[name].shape for name in self._names])


def smallest_shapes(contract: ModelContract) -> Shapes:
    """A shape for every input, open dimensions taken as 1."""
    shapes = [(1,) if spec.shape is None else spec.shape for spec in contract.inputs]
    return tuple([tuple([1 if size < 0 else size for size in shape]) for shape in shapes])


def largest_bytes(model: ov.Model) -> int:
    """Size of the largest tensor that is computed on the way, as far as shapes are known."""
    shapes = [output for node in nodes(model) for output in node.outputs() if output.get_partial_shape().is_static]
    return max((_size_bytes(output, output.get_shape()) for output in shapes), default=0)


def sizes_fixed(model: ov.Model) -> bool:
    """Look at the size of every tensor of a model whose inputs have shapes.

    Returns:
        Whether the shapes of the inputs alone say how much there is to do: no tensor's size depends on values, and no
        branch or loop does.

    Raises:
        InvalidRequest: One has no bounded size, one may be too large, or one is indexed though it may be empty.
    """
    fixed, own = True, {parameter.get_name() for parameter in model.get_parameters()}
    for node in nodes(model):
        _check_inputs(node)
        fixed = fixed and node.get_type_name() not in ("If", "Loop")
        handed_in = node.get_type_name() == "Parameter" and node.get_name() not in own
        for output in node.outputs():
            shape = output.get_partial_shape()
            fixed = fixed and shape.is_static
            if handed_in:  # into a body; whatever it is, its size was looked at where it comes from
                continue
            if not shape.is_static and (shape.rank.is_dynamic or any(size.get_max_length() < 0 for size in shape)):
                raise unbounded(node.get_type_name())
            if _size_bytes(output, shape.get_max_shape()) > MAX_TENSOR_BYTES:
                raise InvalidRequest("this request would take too much memory", reason="inference.too_large")
    return fixed


_CHECKS: Final[Mapping[str, Callable[[ov.Node], None]]] = MappingProxyType(
    {
        **dict.fromkeys(INDEXED, check_indexed),
        **dict.fromkeys(SAMPLED, check_places),
        **dict.fromkeys(("Loop", "TensorIterator"), check_rounds),
        "TopK": check_count,
    }
)


def _check_inputs(node: ov.Node) -> None:
    check = _CHECKS.get(node.get_type_name())
    if check is None:
        return
    if any(value.get_partial_shape().rank.is_dynamic for value in node.input_values()):
        raise unsafe(f"{node.get_type_name()} on data without a fixed number of axes")
    check(node)


def _size_bytes(output: ov.Output, shape: ov.Shape) -> int:
    lengths = [shape[axis] for axis in range(len(shape))]  # iterating over an ov.Shape takes eight times as long
    size_bytes: int = math.prod(lengths) * output.get_element_type().bitwidth // 8
    return size_bytes


def _strip(model: ov.Model) -> None:
    """Put a parameter of the same shape in place of each constant that is weights: shapes never depend on those."""
    for node in model.get_ops():
        kind = node.get_element_type() if node.get_type_name() == "Constant" else None
        if kind is not None and kind.is_real() and node.get_byte_size() > _WEIGHTS_BYTES:
            stand_in = ov.op.Parameter(kind, ov.PartialShape(node.get_output_shape(0)))
            node.output(0).replace(stand_in.output(0))
            model.add_parameters([stand_in])
