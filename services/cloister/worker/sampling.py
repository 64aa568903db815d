"""Bounds on places that are real numbers: where `GridSample` and `ROIAlign` take their samples from.

What lies outside the data is handled by the operation itself, as padding or as zeros; but a place so far away that it
is no 32-bit integer any more, or that is no number, and a region so large that its samples are never done, are left to
chance. So places are kept within a distance at which nothing of the data is seen, and what is no number is zero.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from cloister.errors import InvalidRequest
from cloister.worker.bounds import MAX_INDEXED, UNFIT, clamp
from cloister.worker.graph import node_types
from cloister.worker.refusals import unsafe

SAMPLED: Final = node_types("GridSample ROIAlign")
FARTHEST: Final = 64.0
"""In a grid: the data lie between -1 and 1, and a pixel beyond them at the most between -3 and 3."""
_OUTER: Final = {"GridSample": (2, 3), "ROIAlign": (0, 2, 3)}
"""Axes of the data that positions come to lie in."""


def bound_places(node: ov.Node) -> None:
    """Keep what a node samples near its data.

    Raises:
        InvalidRequest: Its places are not 32-bit floats, or it shrinks them by nothing.
    """
    if node.input_value(1).get_element_type() != ov.Type.f32:
        raise unsafe(f"{node.get_type_name()} with places that are not FP32")
    if node.get_type_name() == "GridSample":
        _keep_within(node, ops.constant(np.float32(-FARTHEST)), ops.constant(np.float32(FARTHEST)))
        return
    attributes = node.get_attributes()
    scale = float(attributes["spatial_scale"])
    if not scale > 0:
        raise unsafe("ROIAlign with a scale that is not positive")
    size = ops.shape_of(node.input_value(0), "i64")
    longest = ops.reduce_max(ops.gather(size, ops.constant(np.array([2, 3])), ops.constant(0)), ops.constant(0))
    across = ops.divide(ops.convert(longest, "f32"), ops.constant(np.float32(scale)))
    _keep_within(node, ops.negative(across), ops.add(across, across))
    if int(attributes["sampling_ratio"]) == 0 and attributes["aligned_mode"] != "asymmetric":
        _keep_in_order(node)
    batch = ops.gather(size, ops.constant(0), ops.constant(0))
    clamp(node, 2, ops.constant(np.int64(0)), ops.subtract(batch, ops.constant(np.int64(1))))


def _keep_in_order(node: ov.Node) -> None:
    """Let no region end before it begins: the plugin would take fewer samples than none."""
    corners = node.input_value(1)
    first, last = (ops.gather(corners, ops.constant(np.array(at)), ops.constant(1)) for at in ([0, 1], [2, 3]))
    node.input(1).replace_source_output(ops.concat([first, ops.maximum(first, last)], 1).output(0))


def check_places(node: ov.Node) -> None:
    """Look whether there is anything to sample, and no more than positions are exact for.

    Raises:
        InvalidRequest: The data are empty, may be, or are too long.
    """
    data = node.input_value(0).get_partial_shape()
    for axis in _OUTER[node.get_type_name()]:
        if data[axis].is_static and data[axis].get_length() == 0:
            raise InvalidRequest("the model takes from an input that is empty", reason=UNFIT)
        if data[axis].get_min_length() == 0 or not 0 < data[axis].get_max_length() <= MAX_INDEXED:
            raise unsafe(f"{node.get_type_name()} on what may be empty, or longer than {MAX_INDEXED} positions")


def _keep_within(node: ov.Node, first: ov.Node, last: ov.Node) -> None:
    places = node.input_value(1)
    numbers = ops.select(ops.is_nan(places), ops.constant(np.float32(0)), places)
    node.input(1).replace_source_output(ops.maximum(ops.minimum(numbers, last), first).output(0))
