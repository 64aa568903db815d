"""Limits on lengths and counts that come from a request: how many steps of a series count, how many of the largest.

Beyond its data the plugin fails in the middle of an evaluation (`ReverseSequence`, also inside a sequence that runs
backwards; `TopK`), after which no result of the compiled model is believed. The limits are part of the graph; what
keeps to them gives the same bits as before.

A sequence whose rows or steps are open gets its lengths from its own size or not at all: OpenVINO's CPU plugin (2026.4)
takes every step there, whatever the lengths say, and says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from cloister.errors import InvalidRequest
from cloister.worker.bounds import UNFIT, clamp, within
from cloister.worker.graph import picked_from_sizes
from cloister.worker.refusals import unsafe

LENGTHS: Final[Mapping[str, int]] = MappingProxyType(
    {"LSTMSequence": 3, "GRUSequence": 2, "RNNSequence": 2, "ReverseSequence": 1}
)
"""Which input says, for each row, how many steps of input 0 count."""
MAX_REPEATS: Final = 1 << 24


def limit(node: ov.Node) -> None:
    """Hold the length or count of a node inside its data, if it takes one.

    Raises:
        InvalidRequest: Its data has no fixed number of axes.
    """
    kind = node.get_type_name()
    if kind in LENGTHS:
        _limit_lengths(node, LENGTHS[kind])
    elif kind == "TopK" and not isinstance(node.input_value(1).get_node(), ov.op.Constant):
        clamp(node, 1, _whole(1), _length(node, _axis_of(node, "axis")))
    elif kind == "Tile" and not isinstance(node.input_value(1).get_node(), ov.op.Constant):
        clamp(node, 1, _whole(0), _whole(MAX_REPEATS))


def check_count(node: ov.Node) -> None:
    """Look whether a TopK finds as many as it is to take, now that the inputs have shapes.

    Raises:
        InvalidRequest: There are fewer, or may be none.
    """
    most = node.input_value(0).get_partial_shape()[_axis_of(node, "axis")]
    count = node.input_value(1).get_node()
    fewest = int(count.data.item()) if isinstance(count, ov.op.Constant) else 1
    if most.get_min_length() >= max(fewest, 1):
        return
    if most.is_static:
        raise InvalidRequest("the model takes more of an input than there is", reason=UNFIT)
    raise unsafe("TopK on what may be shorter than it takes")


def _limit_lengths(node: ov.Node, port: int) -> None:
    kind, data, source = (
        node.get_type_name(),
        node.input_value(0).get_partial_shape(),
        node.input_value(port).get_node(),
    )
    axis = _axis_of(node, "seq_axis") if kind == "ReverseSequence" else 1
    is_open = data[0].is_dynamic or data[1].is_dynamic
    if kind != "ReverseSequence" and is_open and not _are_all(source, data[1]):
        raise unsafe(f"{kind} over an open number of rows or steps takes all of them, whatever lengths it is told")
    known = isinstance(source, ov.op.Constant) and data[axis].is_static
    if not known or not within(source.data, np.array(0), np.array(data[axis].get_length() + 1)):
        clamp(node, port, _whole(0), _length(node, axis))


def _are_all(lengths: ov.Node, steps: ov.Dimension) -> bool:
    """Whether every step counts in every row, as far as the graph shows it."""
    if isinstance(lengths, ov.op.Constant):
        return bool(steps.is_static and (lengths.data == steps.get_length()).all())
    return picked_from_sizes(lengths)


def _length(node: ov.Node, axis: int) -> ov.Node:
    size = node.input_value(0).get_partial_shape()[axis]
    if size.is_static:
        return _whole(size.get_length())
    return ops.gather(ops.shape_of(node.input_value(0), "i64"), _whole(axis), _whole(0))


def _axis_of(node: ov.Node, attribute: str) -> int:
    rank = node.input_value(0).get_partial_shape().rank
    if rank.is_dynamic:
        raise unsafe(f"{node.get_type_name()} on data without a fixed number of axes")
    return int(node.get_attributes()[attribute]) % int(rank.get_length())


def _whole(value: int) -> ov.Node:
    return ops.constant(np.int64(value))
