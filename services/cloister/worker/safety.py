"""Which operations are let in, and from where each of their inputs may come (decision 0007).

The plugin believes what it reads from a tensor to be a position, a length or a size. So the list is of what was looked
at, not of what was found to be harmful. An index gets bounds (`bounds`), a place between pixels too (`sampling`), a
length or a count limits (`limits`), a loop a largest number of rounds (`rounds`); whatever else says where or how much
must not come from a request.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import openvino as ov

from cloister.worker.bounds import INDEXED, bound_index
from cloister.worker.graph import node_types, nodes, parts
from cloister.worker.limits import LENGTHS, limit
from cloister.worker.refusals import unbounded, unsafe
from cloister.worker.rounds import bound_rounds
from cloister.worker.sampling import SAMPLED, bound_places

# Computed from the elements alike wherever they lie; no value of any input is a position or a size.
_PLAIN: Final = node_types(
    """
    Abs Acos Acosh Add Asin Asinh Atan Atanh BatchNormInference BitwiseAnd BitwiseLeftShift BitwiseNot BitwiseOr
    BitwiseRightShift BitwiseXor Bucketize Ceiling Clamp Concat Constant Convert ConvertLike ConvertPromoteTypes
    Convolution Cos Cosh DepthToSpace Divide Einsum Elu Equal Erf Exp ExtractImagePatches FakeQuantize Floor FloorMod
    GRN GRUCell Gelu Greater GreaterEqual GroupConvolution GroupNormalization HSigmoid HSwish HardSigmoid Identity If
    IsFinite IsInf IsNaN LRN LSTMCell Less LessEqual Log LogSoftmax LogicalAnd LogicalNot LogicalOr LogicalXor MatMul
    Maximum MaxPool AvgPool Minimum Mish Mod Multiply Negative NonZero NotEqual Parameter Power RNNCell ReLU
    Relu Result Round ScaledDotProductAttention SearchSorted Select Selu ShapeOf ShuffleChannels Sigmoid Sign Sin Sinh
    SoftMax Softmax SoftPlus SoftSign SpaceToDepth Sqrt SquaredDifference Subtract Swish Tan Tanh TensorIterator
    """
)
# Only input 0 of these may hold anything; the others say where or how much.
_FIRST: Final = node_types(
    """
    AdaptiveAvgPool AdaptiveMaxPool BatchToSpace Broadcast CumSum DFT IDFT IRDFT Interpolate MVN NormalizeL2 OneHot Pad
    PRelu RDFT ReduceL1 ReduceL2 ReduceLogicalAnd ReduceLogicalOr ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    Reshape Roll Slice SpaceToBatch Split Squeeze StridedSlice Tile Transpose Unique Unsqueeze VariadicSplit
    """
)
# Inputs that may hold anything, of everything else that is let in.
_ANYTHING: Final[Mapping[str, frozenset[int]]] = MappingProxyType(
    {
        **dict.fromkeys(_FIRST, frozenset({0})),
        **dict.fromkeys(INDEXED, frozenset({0, 1})),
        **dict.fromkeys(("ScatterUpdate", "ScatterElementsUpdate", "ScatterNDUpdate"), frozenset({0, 1, 2})),
        **dict.fromkeys(("ConvolutionBackpropData", "GroupConvolutionBackpropData"), frozenset({0, 1})),
        **dict.fromkeys(LENGTHS, frozenset(range(7))),
        "TopK": frozenset({0, 1}),
        "GridSample": frozenset({0, 1}),
        "ROIAlign": frozenset({0, 1, 2}),
        "NonMaxSuppression": frozenset({0, 1}),
        "Loop": frozenset(range(1 << 16)),
        "Range": frozenset(),
        "Eye": frozenset(),
    }
)
# Of those, the ones that may at least follow from shapes: shape inference sees what they come to.
_SIZES: Final[Mapping[str, frozenset[int]]] = MappingProxyType(
    {
        **dict.fromkeys(("Broadcast", "OneHot", "Reshape", "Tile"), frozenset({1})),
        **dict.fromkeys(("Interpolate", "Slice", "StridedSlice"), frozenset({1, 2})),
        **dict.fromkeys(("ConvolutionBackpropData", "GroupConvolutionBackpropData"), frozenset({2})),
        "Range": frozenset({0, 1}),
    }
)


def make_safe(model: ov.Model) -> None:
    """Refuse operations that reach wherever a request says, and put bounds on every index, length and count.

    What is a Constant and lies within its axis stays as it is. Every other one is moved to the nearest that there is;
    one that is valid is not changed, and neither are the bits that come of it.

    Raises:
        InvalidRequest: An operation is not one that was looked at, or takes from a request where
            (`model.operation_unsafe`) or how much (`model.shape_unbounded`).
    """
    for part in parts(model):
        _check_operations(part)
    for node in list(nodes(model)):
        if node.get_type_name() in INDEXED:
            bound_index(node)
        elif node.get_type_name() in SAMPLED:
            bound_places(node)
        elif node.get_type_name() == "Loop":
            bound_rounds(node)
        else:
            limit(node)
    model.validate_nodes_and_infer_types()


def _check_operations(model: ov.Model) -> None:
    """Go through one graph in order, keeping what depends on the inputs' shapes, and what on their values too."""
    shapes: set[str] = set()
    values: set[str] = set()
    for node in model.get_ordered_ops():
        kind, sources = node.get_type_name(), [source.get_node() for source in node.input_values()]
        if kind == "Constant" and node.get_output_element_type(0).is_dynamic():
            raise unsafe("a Constant has no type of element")
        if kind not in _PLAIN and kind not in _ANYTHING:
            raise unsafe(f"{kind} is not an operation that was looked at")
        for port, source in enumerate(sources):
            if kind in _PLAIN or port in _ANYTHING[kind]:
                continue
            if port in _SIZES.get(kind, ()) and source.get_name() in values:
                raise unbounded(kind)
            if port not in _SIZES.get(kind, ()) and source.get_name() in shapes:
                raise unsafe(f"{kind} takes input {port} from a request")
        if kind == "Parameter" or (kind != "ShapeOf" and any(source.get_name() in values for source in sources)):
            values.add(node.get_name())
        settled = kind == "ShapeOf" and node.input_value(0).get_partial_shape().is_static
        if kind == "Parameter" or (not settled and any(source.get_name() in shapes for source in sources)):
            shapes.add(node.get_name())
