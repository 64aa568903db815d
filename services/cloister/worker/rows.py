"""Whether a model computes each row of its inputs by itself, read off its graph (attacks I07, I08).

Requests share an evaluation only where one cannot reach another. Trying it out on numbers does not show that: a branch,
a maximum or a weight of zero can hide what one row does to the next. So the graph is walked, and every tensor on the
way is found to be one of three things: *fixed*, the same whatever the requests are; *sized*, dependent on how many rows
there are and on nothing else; or *rows*, whose first axis is the requests' and whose row i depends on row i alone. Only
operations whose way of handling the first axis was looked at are let through. A model with any other is served all the
same, one request at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

import openvino as ov

from cloister.contract import ANY_SIZE, ModelContract
from cloister.errors import InvalidRequest
from cloister.worker.graph import node_types
from cloister.worker.shapes import largest_bytes, sizes_fixed

_PROBES: Final = (5, 7)
"""Rows that a graph is looked at with. No size that is written into it can be both."""
MAX_TENSOR_BYTES: Final = 64 << 20
"""Of any one tensor in a shared evaluation: the enclave's memory is dear."""


class _Kind(Enum):
    FIXED = "fixed"
    SIZED = "sized"
    ROWS = "rows"


class _MixedError(Exception):
    """An operation is not known to keep rows apart."""


# Element by element, with the broadcasting of NumPy.
_ELEMENTWISE: Final = node_types(
    """
    Abs Acos Acosh Add Asin Asinh Atan Atanh BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Ceiling Clamp Convert Cos Cosh
    Divide Elu Equal Erf Exp FakeQuantize Floor FloorMod Gelu Greater GreaterEqual HSigmoid HSwish HardSigmoid Identity
    IsFinite IsInf IsNaN Less LessEqual Log LogicalAnd LogicalNot LogicalOr LogicalXor Maximum Minimum Mish Mod
    Multiply Negative NotEqual PRelu Power ReLU Relu Result Round Select Selu Sigmoid Sign Sin Sinh SoftPlus SoftSign
    Sqrt SquaredDifference Subtract Swish Tan Tanh
    """
)
# The first axis of input 0 is a batch by definition; whatever else they take is weights.
_BATCHED: Final = node_types(
    """
    AvgPool BatchNormInference Convolution ConvolutionBackpropData DepthToSpace GroupConvolution
    GroupConvolutionBackpropData MaxPool SpaceToDepth
    """
)
# Input 1 names the axes that they work along.
_ALONG_INPUT: Final = node_types(
    """
    CumSum LRN MVN NormalizeL2 ReduceL1 ReduceL2 ReduceLogicalAnd ReduceLogicalOr ReduceMax ReduceMean ReduceMin
    ReduceProd ReduceSum Split Squeeze Unsqueeze VariadicSplit
    """
)
_ALONG_ATTRIBUTE: Final = node_types("Concat LogSoftmax Softmax SoftMax TopK")
_SHAPED: Final = node_types("Broadcast Reshape")


def most_rows(model: ov.Model, contract: ModelContract, limit: int) -> int:
    """How many rows of different requests may share one evaluation, at most `limit`; 1 where none may.

    Every input needs an open first axis and no other, every output an open first axis. Which sizes a tensor has on the
    way must follow from the number of rows. `model` is left as it is.
    """
    if limit < 2 or not _open_in_rows_only(contract):
        return 1
    probe = model.clone()
    try:
        if not all(_sized(probe, count) and _apart(probe, count) for count in _PROBES):
            return 1
        most = limit
        while most > 1 and not (_sized(probe, most) and largest_bytes(probe) <= MAX_TENSOR_BYTES):
            most //= 2
    except (InvalidRequest, RuntimeError):  # it does not take so many, or not for all that follows from them
        return 1
    return most


def _open_in_rows_only(contract: ModelContract) -> bool:
    inputs, outputs = [spec.shape for spec in contract.inputs], [spec.shape for spec in contract.outputs]
    rows = all(shape and shape[0] == ANY_SIZE for shape in (*inputs, *outputs))
    return bool(inputs) and rows and all(ANY_SIZE not in shape[1:] for shape in inputs if shape)


def _sized(model: ov.Model, count: int) -> bool:
    """Give the model so many rows; whether that alone says what size everything in it has."""
    model.reshape({port: ov.PartialShape([count, *list(port.get_partial_shape())[1:]]) for port in model.inputs})
    return sizes_fixed(model) and all(port.get_partial_shape()[0] == count for port in model.outputs)


def _apart(model: ov.Model, count: int) -> bool:
    kinds: dict[ov.Output, _Kind] = {}
    try:
        for node in model.get_ordered_ops():
            kind = _kind_of(node, [kinds[value.get_source_output()] for value in node.inputs()], count)
            for output in node.outputs():
                _need(kind is not _Kind.ROWS or _has_rows(output, count))
                kinds[output] = kind
    except _MixedError:
        return False
    return all(kinds[port] is _Kind.ROWS for port in model.outputs)


def _kind_of(node: ov.Node, given: list[_Kind], count: int) -> _Kind:
    name = node.get_type_name()
    if name == "Parameter":
        return _Kind.ROWS
    if _Kind.ROWS not in given:
        sized = _Kind.SIZED in given
        if sized and name == "Broadcast":
            return _spread(node, count)
        return _Kind.SIZED if sized else _Kind.FIXED
    if name == "ShapeOf":
        return _Kind.SIZED
    if _Kind.SIZED in given and not (name in _SHAPED and given[0] is _Kind.ROWS and _Kind.ROWS not in given[1:]):
        raise _MixedError  # the number of rows would be a number that is computed with
    rule = _RULES.get(name)
    if rule is None:
        raise _MixedError
    rule(node, [kind is _Kind.ROWS for kind in given])
    return _Kind.ROWS


def _spread(node: ov.Node, count: int) -> _Kind:
    """The same row for every request, where the broadcast says as many as there are; otherwise only a size."""
    value = node.input_value(0).get_partial_shape()
    rank = node.output(0).get_partial_shape().rank
    alike = value.rank.is_static and rank.is_static and (value.rank.get_length() < rank.get_length() or value[0] == 1)
    plain = node.get_attributes().get("mode") == "numpy"
    return _Kind.ROWS if alike and plain and _has_rows(node.output(0), count) else _Kind.SIZED


def _elementwise(node: ov.Node, rows: list[bool]) -> None:
    _need(node.get_attributes().get("auto_broadcast", "numpy") in ("numpy", "none"))
    rank = _rank(node.output(0))
    for at, has_rows in enumerate(rows):
        _need(_aligned(node, at, rank) if has_rows else _spans(node, at, rank))


def _batched(node: ov.Node, rows: list[bool]) -> None:
    _need(rows[0] and not any(rows[1:]))
    # A second output of MaxPool counts positions from the first row on.
    _need(node.get_output_size() == 1 or not node.output(1).get_target_inputs())


def _along_input(node: ov.Node, rows: list[bool]) -> None:
    _need(rows[0] and not any(rows[1:]) and len(rows) > 1)
    name = node.get_type_name()
    rank = _rank(node.output(0)) if name == "Unsqueeze" else _rank(node.input_value(0))
    axes = _constant(node, 1)
    _need(bool(axes) and all(axis % rank for axis in axes))


def _along_attribute(node: ov.Node, rows: list[bool]) -> None:
    # TopK's second input says how many, and is no tensor of rows; all that is concatenated must be.
    _need(rows[0] and (all(rows) if node.get_type_name() == "Concat" else not any(rows[1:])))
    _need(int(node.get_attributes()["axis"]) % _rank(node.input_value(0)) != 0)


def _matmul(node: ov.Node, rows: list[bool]) -> None:
    """The first axis may not be one that is summed over, nor the columns of a matrix."""
    ranks = [_rank(node.input_value(at)) for at in (0, 1)]
    out = _rank(node.output(0))
    attributes = node.get_attributes()
    if rows == [True, False] and ranks == [2, 2]:
        _need(not attributes["transpose_a"])
        return
    for at, has_rows in enumerate(rows):
        _need(ranks[at] == out >= 3 if has_rows else _spans(node, at, out) and ranks[at] >= 2)


def _shaped(node: ov.Node, rows: list[bool]) -> None:
    """In row-major order, what begins with the same number of rows before and after holds the same rows."""
    _need(rows[0] and not any(rows[1:]))
    if node.get_type_name() == "Broadcast":
        _need(node.get_attributes().get("mode") == "numpy" and _aligned(node, 0, _rank(node.output(0))))


def _transpose(node: ov.Node, rows: list[bool]) -> None:
    _need(rows[0] and _constant(node, 1)[:1] == [0])


def _gather(node: ov.Node, rows: list[bool]) -> None:
    _need(node.get_attributes().get("batch_dims", 0) == 0 and not rows[2])
    axis = _constant(node, 2)[0] % _rank(node.input_value(0))
    _need((rows[0] and not rows[1] and axis != 0) or (rows[1] and not rows[0] and axis == 0))


def _slice(node: ov.Node, rows: list[bool]) -> None:
    _need(rows[0] and not any(rows[1:]) and len(rows) == 5)
    rank = _rank(node.input_value(0))
    _need(all(axis % rank for axis in _constant(node, 4)))


def _attention(node: ov.Node, rows: list[bool]) -> None:
    rank = _rank(node.output(0))
    _need(rank >= 3 and all(rows[:3]) and all(_aligned(node, at, rank) for at in range(3)))
    for at in range(3, len(rows)):
        _need(_aligned(node, at, rank) if rows[at] else _spans(node, at, rank))


_Rule = Callable[[ov.Node, list[bool]], None]
_RULES: Final[Mapping[str, _Rule]] = MappingProxyType(
    {
        **dict.fromkeys(_ELEMENTWISE, _elementwise),
        **dict.fromkeys(_BATCHED, _batched),
        **dict.fromkeys(_ALONG_INPUT, _along_input),
        **dict.fromkeys(_ALONG_ATTRIBUTE, _along_attribute),
        **dict.fromkeys(_SHAPED, _shaped),
        "MatMul": _matmul,
        "Transpose": _transpose,
        "Gather": _gather,
        "Slice": _slice,
        "ScaledDotProductAttention": _attention,
    }
)


def _need(holds: bool) -> None:
    if not holds:
        raise _MixedError


def _rank(output: ov.Output) -> int:
    _need(output.get_partial_shape().rank.is_static)
    rank: int = output.get_partial_shape().rank.get_length()
    _need(rank > 0)
    return rank


def _aligned(node: ov.Node, at: int, rank: int) -> bool:
    """Whether the first axis of a tensor of rows is the first axis of the result."""
    return _rank(node.input_value(at)) == rank


def _spans(node: ov.Node, at: int, rank: int) -> bool:
    """Whether a tensor without rows meets every row alike."""
    shape = node.input_value(at).get_partial_shape()
    return bool(shape.rank.is_static and (shape.rank.get_length() < rank or shape[0] == 1))


def _has_rows(output: ov.Output, count: int) -> bool:
    shape = output.get_partial_shape()
    return bool(shape.rank.is_static and shape.rank.get_length() > 0 and shape[0] == count)


def _constant(node: ov.Node, at: int) -> list[int]:
    source = node.input_value(at).get_node()
    _need(isinstance(source, ov.op.Constant))
    return [int(value) for value in source.data.ravel()]
