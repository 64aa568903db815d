"""What a model may be evaluated on, found out without evaluating it: which shapes, and which values as positions.

**Shapes.** A request can satisfy every input's own contract and still not fit together (two matrices with different
inner dimensions, a row that a reshape cannot split). OpenVINO's CPU plugin (2026.4) must never see such a request:
after one evaluation has failed, a later and valid one on the same compiled model can return bytes from elsewhere in
memory, which may be another tenant's (attacks I08). So shapes are inferred on a copy of the model without its weights
first, once for each combination, and remembered. The same pass refuses what would take absurd memory (I09): every
tensor needs a size, or at least an upper bound, that follows from the shapes of the inputs.

**Values.** The plugin believes positions that it reads from a tensor: with an index beyond its data it reads or writes
somebody else's memory. So only operations that were looked at are let in, `make_safe` puts bounds on every index, and
whatever else says where or how much must not come from a request.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from cloister.contract import ModelContract
from cloister.errors import InvalidRequest
from cloister.oip.contents import Array

MAX_TENSOR_BYTES: Final = 1 << 31
MAX_INDEXED: Final = 1 << 24
"""Positions along an axis that is indexed: the plugin keeps some bounds as 32-bit floats, exact up to here."""
KNOWN: Final = 4096
UNFIT: Final = "inference.failed"
_WEIGHTS_BYTES: Final = 4096

Shapes = tuple[tuple[int, ...], ...]


def node_types(names: str) -> frozenset[str]:
    """Names of operations, as `get_type_name` has them."""
    return frozenset(names.split())


# Computed from the elements alike wherever they lie; no value of any input is a position or a size.
_PLAIN: Final = node_types(
    """
    Abs Acos Acosh Add Asin Asinh Atan Atanh BatchNormInference BitwiseAnd BitwiseLeftShift BitwiseNot BitwiseOr
    BitwiseRightShift BitwiseXor Bucketize Ceiling Clamp Concat Constant Convert ConvertLike ConvertPromoteTypes
    Convolution Cos Cosh DepthToSpace Divide Einsum Elu Equal Erf Exp ExtractImagePatches FakeQuantize Floor FloorMod
    GRN GRUCell Gelu Greater GreaterEqual GroupConvolution GroupNormalization HSigmoid HSwish HardSigmoid Identity If
    IsFinite IsInf IsNaN LRN LSTMCell Less LessEqual Log LogSoftmax LogicalAnd LogicalNot LogicalOr LogicalXor MatMul
    Maximum MaxPool AvgPool Minimum Mish Mod Multiply Negative NonZero NotEqual PRelu Parameter Power RNNCell ReLU
    Relu Result Round ScaledDotProductAttention SearchSorted Select Selu ShapeOf ShuffleChannels Sigmoid Sign Sin Sinh
    SoftMax Softmax SoftPlus SoftSign SpaceToDepth Sqrt SquaredDifference Subtract Swish Tan Tanh TensorIterator
    """
)
# Input 1 of these holds positions in input 0. It may hold anything too, for it gets bounds.
_INDEXED: Final = node_types(
    """
    Gather GatherElements GatherND ScatterUpdate ScatterElementsUpdate ScatterNDUpdate EmbeddingBagOffsets
    EmbeddingBagOffsetsSum EmbeddingBagPacked EmbeddingBagPackedSum EmbeddingSegmentsSum
    """
)
_FROM_THE_END: Final = frozenset({"GatherElements", "GatherND", "ScatterElementsUpdate", "ScatterNDUpdate"})
# Only input 0 of these may hold anything; the others say where or how much.
_FIRST: Final = node_types(
    """
    AdaptiveAvgPool AdaptiveMaxPool BatchToSpace Broadcast CumSum DFT IDFT IRDFT Interpolate MVN NormalizeL2 OneHot Pad
    RDFT ReduceL1 ReduceL2 ReduceLogicalAnd ReduceLogicalOr ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Reshape
    ReverseSequence Roll Slice SpaceToBatch Split Squeeze StridedSlice Tile TopK Transpose Unique Unsqueeze
    VariadicSplit
    """
)
# Inputs that may hold anything, of everything else that is let in.
_ANYTHING: Final[Mapping[str, frozenset[int]]] = MappingProxyType(
    {
        **dict.fromkeys(_FIRST, frozenset({0})),
        **dict.fromkeys(_INDEXED, frozenset({0, 1})),
        **dict.fromkeys(("ScatterUpdate", "ScatterElementsUpdate", "ScatterNDUpdate"), frozenset({0, 1, 2})),
        **dict.fromkeys(("ConvolutionBackpropData", "GroupConvolutionBackpropData"), frozenset({0, 1})),
        **dict.fromkeys(("GRUSequence", "RNNSequence"), frozenset({0, 1, 3, 4, 5})),
        "LSTMSequence": frozenset({0, 1, 2, 4, 5, 6}),
        "NonMaxSuppression": frozenset({0, 1}),
        "Loop": frozenset(range(1, 1 << 16)),
        "Range": frozenset(),
        "Eye": frozenset(),
    }
)
# Of those, the ones that may at least follow from shapes: shape inference sees what they come to.
_SIZES: Final[Mapping[str, frozenset[int]]] = MappingProxyType(
    {
        **dict.fromkeys(("Broadcast", "OneHot", "Reshape", "TopK"), frozenset({1})),
        **dict.fromkeys(("Interpolate", "Slice", "StridedSlice"), frozenset({1, 2})),
        **dict.fromkeys(("ConvolutionBackpropData", "GroupConvolutionBackpropData"), frozenset({2})),
        "Range": frozenset({0, 1}),
    }
)


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
    shapes = [output for node in _nodes(model) for output in node.outputs() if output.get_partial_shape().is_static]
    return max((_size_bytes(output, output.get_shape()) for output in shapes), default=0)


def sizes_fixed(model: ov.Model) -> bool:
    """Look at the size of every tensor of a model whose inputs have shapes.

    Returns:
        Whether the shapes of the inputs alone say how much there is to do: no tensor's size depends on values, and no
        branch or loop does.

    Raises:
        InvalidRequest: One has no bounded size, one may be too large, or one is indexed though it may be empty.
    """
    fixed = True
    for node in _nodes(model):
        if node.get_type_name() in _INDEXED:
            _check_indexed(node)
        fixed = fixed and node.get_type_name() not in ("If", "Loop")
        for output in node.outputs():
            shape = output.get_partial_shape()
            fixed = fixed and shape.is_static
            if shape.rank.is_dynamic or any(size.get_max_length() < 0 for size in shape):
                raise _unbounded(node.get_type_name())
            if _size_bytes(output, shape.get_max_shape()) > MAX_TENSOR_BYTES:
                raise InvalidRequest("this request would take too much memory", reason="inference.too_large")
    return fixed


def make_safe(model: ov.Model) -> None:
    """Refuse operations that reach wherever a request says, and put bounds on every index.

    An index that is a Constant and lies within its axis stays as it is. Every other one is moved to the nearest
    position there is; one that is valid is not changed, and neither are the bits that come of it.

    Raises:
        InvalidRequest: An operation is not one that was looked at, or takes from a request where
            (`model.operation_unsafe`) or how much (`model.shape_unbounded`).
    """
    for part in _parts(model):
        _check_operations(part)
    for node in list(_nodes(model)):
        if node.get_type_name() in _INDEXED:
            _bound(node)
    model.validate_nodes_and_infer_types()


def _check_operations(model: ov.Model) -> None:
    """Go through one graph in order, keeping what depends on the inputs' shapes, and what on their values too."""
    shapes: set[str] = set()
    values: set[str] = set()
    for node in model.get_ordered_ops():
        kind, sources = node.get_type_name(), [source.get_node() for source in node.input_values()]
        if kind not in _PLAIN and kind not in _ANYTHING:
            raise _unsafe(f"{kind} is not an operation that was looked at")
        for port, source in enumerate(sources):
            if kind in _PLAIN or port in _ANYTHING[kind]:
                continue
            if port in _SIZES.get(kind, ()) and source.get_name() in values:
                raise _unbounded(kind)
            if port not in _SIZES.get(kind, ()) and source.get_name() in shapes:
                raise _unsafe(f"{kind} takes input {port} from a request")
        if kind == "Loop" and not _counted(sources[0]):
            raise _unsafe("Loop without a number of rounds")
        if kind == "Parameter" or (kind != "ShapeOf" and any(source.get_name() in values for source in sources)):
            values.add(node.get_name())
        settled = kind == "ShapeOf" and node.input_value(0).get_partial_shape().is_static
        if kind == "Parameter" or (not settled and any(source.get_name() in shapes for source in sources)):
            shapes.add(node.get_name())


def _counted(rounds: ov.Node) -> bool:
    return isinstance(rounds, ov.op.Constant) and bool((rounds.data >= 0).all())


def _bound(node: ov.Node) -> None:
    """Put the index of a node between the first and the last position of its axis, or of each of its axes."""
    source, axes = node.input_value(1), _axes(node)
    data = node.input_value(0).get_partial_shape()
    many = node.get_type_name() in ("GatherND", "ScatterNDUpdate")
    if all(data[axis].is_static for axis in axes):
        ends = np.array([data[axis].get_length() for axis in axes] if many else data[axes[0]].get_length(), np.int64)
        starts = -ends if _from_the_end(node) else np.zeros_like(ends)
        index = source.get_node()
        if isinstance(index, ov.op.Constant) and _within(index.data, starts, ends):
            return
        first, last = ops.constant(starts), ops.constant(ends - 1)
    else:
        shape = ops.shape_of(node.input_value(0), "i64")
        lengths = ops.gather(shape, ops.constant(np.array(axes if many else axes[0])), ops.constant(0))
        last = ops.subtract(lengths, ops.constant(np.int64(1)))
        first = ops.negative(lengths) if _from_the_end(node) else ops.constant(np.int64(0))
    bounded = ops.maximum(ops.minimum(ops.convert(source, "i64"), last), first)
    if source.get_element_type() == ov.Type.i32:  # some want all their inputs of one type
        bounded = ops.convert(bounded, "i32")
    node.input(1).replace_source_output(bounded.output(0))


def _within(values: Array, starts: Array, ends: Array) -> bool:
    return values.dtype.kind in "iu" and bool(((values >= starts) & (values < ends)).all())


def _from_the_end(node: ov.Node) -> bool:
    """Whether -1 means the last position to it."""
    kind = node.get_type_name()
    return kind in _FROM_THE_END or (kind == "Gather" and node.get_type_info().version_id == "opset8")


def _axes(node: ov.Node) -> list[int]:
    """The axes of input 0 that input 1 holds positions along."""
    kind = node.get_type_name()
    data, index = node.input_value(0).get_partial_shape(), node.input_value(1).get_partial_shape()
    if data.rank.is_dynamic or index.rank.is_dynamic:
        raise _unsafe(f"{kind} on data without a fixed number of axes")
    rank = data.rank.get_length()
    if kind in ("GatherND", "ScatterNDUpdate"):
        if index[-1].is_dynamic:
            raise _unsafe(f"{kind} with an index of no fixed length")
        first = int(node.get_attributes().get("batch_dims", 0))
        axes = list(range(first, first + index[-1].get_length()))
    elif kind == "GatherElements":
        axes = [int(node.get_attributes()["axis"])]
    elif kind in ("Gather", "ScatterUpdate", "ScatterElementsUpdate"):
        at = node.input_value(2 if kind == "Gather" else 3).get_node()
        if not isinstance(at, ov.op.Constant):
            raise _unsafe(f"{kind} along an axis that is not a constant")
        axes = [int(at.data.item())]
    else:
        axes = [0]
    if not all(-rank <= axis < rank for axis in axes):
        raise _unsafe(f"{kind} along an axis that is not there")
    return [axis % rank for axis in axes]


def _check_indexed(node: ov.Node) -> None:
    """Bounds mean something only where there is a position, and are exact only up to some length."""
    index, data = node.input_value(1), node.input_value(0).get_partial_shape()
    shape = index.get_partial_shape()
    if node.get_type_name() == "ScatterElementsUpdate":
        _check_scattered(shape, data, _axes(node)[0])
    if isinstance(index.get_node(), ov.op.Constant) or (shape.is_static and 0 in shape.to_shape()):
        return
    for axis in _axes(node):
        if data[axis].is_static and data[axis].get_length() == 0:
            raise InvalidRequest("the model takes from an input that is empty", reason=UNFIT)
        if data[axis].get_min_length() == 0 or not 0 < data[axis].get_max_length() <= MAX_INDEXED:
            raise _unsafe(f"{node.get_type_name()} on what may be empty, or longer than {MAX_INDEXED} positions")


def _check_scattered(index: ov.PartialShape, data: ov.PartialShape, along: int) -> None:
    """On the axes that are not indexed, an index stands for its own position: the plugin writes there unchecked."""
    if index.rank.is_dynamic or index.rank != data.rank:
        raise _unsafe("ScatterElementsUpdate with an index of another rank than its data")
    for axis in range(data.rank.get_length()):
        inside = index[axis].get_max_length() <= data[axis].get_min_length()
        if axis != along and (not inside or index[axis].get_max_length() < 0):
            raise _unsafe("ScatterElementsUpdate with an index that may reach beyond its data")


def _parts(model: ov.Model) -> Iterator[ov.Model]:
    """The model's graph, and those of the branches and loops in it."""
    yield model
    for node in model.get_ops():
        kind = node.get_type_name()
        if kind == "If":
            yield from _parts(node.get_function(0))
            yield from _parts(node.get_function(1))
        elif kind in ("Loop", "TensorIterator"):
            yield from _parts(node.get_function())


def _nodes(model: ov.Model) -> Iterator[ov.Node]:
    return (node for part in _parts(model) for node in part.get_ops())


def _size_bytes(output: ov.Output, shape: ov.Shape) -> int:
    size_bytes: int = math.prod(shape) * output.get_element_type().bitwidth // 8
    return size_bytes


def _strip(model: ov.Model) -> None:
    """Put a parameter of the same shape in place of each constant that is weights: shapes never depend on those."""
    for node in model.get_ops():
        kind = node.get_element_type() if node.get_type_name() == "Constant" else None
        if kind is not None and kind.is_real() and node.get_byte_size() > _WEIGHTS_BYTES:
            stand_in = ov.op.Parameter(kind, ov.PartialShape(node.get_output_shape(0)))
            node.output(0).replace(stand_in.output(0))
            model.add_parameters([stand_in])


def _unsafe(why: str) -> InvalidRequest:
    return InvalidRequest(f"the model is refused: {why}", reason="model.operation_unsafe")


def _unbounded(kind: str) -> InvalidRequest:
    why = f"the size of what {kind} gives depends on values"
    return InvalidRequest(f"the model is refused: {why}", reason="model.shape_unbounded")
