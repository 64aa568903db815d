"""Bounds on positions: an index that comes from anywhere but the model itself is moved to the nearest one there is.

The plugin believes an index: beyond its data it reads or writes somebody else's memory (attacks I08). The bounds are
part of the graph, so they hold whatever computes the index; one that is in range gives the same bits as before.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from cloister.errors import InvalidRequest
from cloister.oip.contents import Array
from cloister.worker.graph import node_types
from cloister.worker.refusals import unsafe

MAX_INDEXED: Final = 1 << 24
"""Positions along an axis that is indexed: the plugin keeps some bounds as 32-bit floats, exact up to here."""
UNFIT: Final = "inference.failed"

# Input 1 of these holds positions in input 0. It may hold anything too, for it gets bounds.
INDEXED: Final = node_types(
    """
    Gather GatherElements GatherND ScatterUpdate ScatterElementsUpdate ScatterNDUpdate EmbeddingBagOffsets
    EmbeddingBagOffsetsSum EmbeddingBagPacked EmbeddingBagPackedSum EmbeddingSegmentsSum
    """
)
_FROM_THE_END: Final = frozenset({"GatherElements", "GatherND", "ScatterElementsUpdate", "ScatterNDUpdate"})


def bound_index(node: ov.Node) -> None:
    """Put the index of a node between the first and the last position of its axis, or of each of its axes."""
    source, axes = node.input_value(1), _axes(node)
    data = node.input_value(0).get_partial_shape()
    many = node.get_type_name() in ("GatherND", "ScatterNDUpdate")
    if all(data[axis].is_static for axis in axes):
        ends = np.array([data[axis].get_length() for axis in axes] if many else data[axes[0]].get_length(), np.int64)
        starts = -ends if _from_the_end(node) else np.zeros_like(ends)
        index = source.get_node()
        if isinstance(index, ov.op.Constant) and within(index.data, starts, ends):
            return
        first, last = ops.constant(starts), ops.constant(ends - 1)
    else:
        shape = ops.shape_of(node.input_value(0), "i64")
        lengths = ops.gather(shape, ops.constant(np.array(axes if many else axes[0])), ops.constant(0))
        last = ops.subtract(lengths, ops.constant(np.int64(1)))
        first = ops.negative(lengths) if _from_the_end(node) else ops.constant(np.int64(0))
    clamp(node, 1, first, last)


def clamp(node: ov.Node, port: int, first: ov.Node, last: ov.Node) -> None:
    """Let nothing into an input of whole numbers but what lies between `first` and `last`, both INT64."""
    source = node.input_value(port)
    bounded = ops.maximum(ops.minimum(ops.convert(source, "i64"), last), first)
    if source.get_element_type() == ov.Type.i32:  # some want all their inputs of one type
        bounded = ops.convert(bounded, "i32")
    node.input(port).replace_source_output(bounded.output(0))


def within(values: Array, starts: Array, ends: Array) -> bool:
    """Whether these are whole numbers, and all of them at `starts` or after it, and before `ends`."""
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
        raise unsafe(f"{kind} on data without a fixed number of axes")
    rank = data.rank.get_length()
    if kind in ("GatherND", "ScatterNDUpdate"):
        if index[-1].is_dynamic:
            raise unsafe(f"{kind} with an index of no fixed length")
        first = int(node.get_attributes().get("batch_dims", 0))
        axes = list(range(first, first + index[-1].get_length()))
    elif kind == "GatherElements":
        axes = [int(node.get_attributes()["axis"])]
    elif kind in ("Gather", "ScatterUpdate", "ScatterElementsUpdate"):
        at = node.input_value(2 if kind == "Gather" else 3).get_node()
        if not isinstance(at, ov.op.Constant):
            raise unsafe(f"{kind} along an axis that is not a constant")
        axes = [int(at.data.item())]
    else:
        axes = [0]
    if not all(-rank <= axis < rank for axis in axes):
        raise unsafe(f"{kind} along an axis that is not there")
    return [axis % rank for axis in axes]


def check_indexed(node: ov.Node) -> None:
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
            raise unsafe(f"{node.get_type_name()} on what may be empty, or longer than {MAX_INDEXED} positions")


def _check_scattered(index: ov.PartialShape, data: ov.PartialShape, along: int) -> None:
    """On the axes that are not indexed, an index stands for its own position: the plugin writes there unchecked."""
    if index.rank.is_dynamic or index.rank != data.rank:
        raise unsafe("ScatterElementsUpdate with an index of another rank than its data")
    for axis in range(data.rank.get_length()):
        inside = index[axis].get_max_length() <= data[axis].get_min_length()
        if axis != along and (not inside or index[axis].get_max_length() < 0):
            raise unsafe("ScatterElementsUpdate with an index that may reach beyond its data")
