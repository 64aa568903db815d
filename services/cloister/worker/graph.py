"""OpenVINO's graphs, walked: the model's own, and those of the branches and loops in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import openvino as ov


def node_types(names: str) -> frozenset[str]:
    """Names of operations, as `get_type_name` has them."""
    return frozenset(names.split())


_PICKING: Final = node_types(
    """
    Broadcast Concat Convert Gather Maximum Minimum ReduceMax ReduceMin Reshape Slice Squeeze StridedSlice Unsqueeze
    """
)
"""These hand on some of what they are given, and compute nothing from it."""


def parts(model: ov.Model) -> Iterator[ov.Model]:
    """The model's graph, and those of the branches and loops in it."""
    yield model
    for node in model.get_ops():
        kind = node.get_type_name()
        if kind == "If":
            yield from parts(node.get_function(0))
            yield from parts(node.get_function(1))
        elif kind in ("Loop", "TensorIterator"):
            yield from parts(node.get_function())


def nodes(model: ov.Model) -> Iterator[ov.Node]:
    """The operations of all `parts`."""
    return (node for part in parts(model) for node in part.get_ops())


def picked_from_sizes(node: ov.Node) -> bool:
    """Whether a node follows from constants and the sizes of tensors alone, and is not computed from them."""
    waiting, seen = [node], {node.get_name()}
    while waiting:
        each = waiting.pop()
        if each.get_type_name() in ("ShapeOf", "Constant"):
            continue
        if each.get_type_name() not in _PICKING:
            return False
        sources = [source for value in each.input_values() if (source := value.get_node()).get_name() not in seen]
        seen.update(source.get_name() for source in sources)
        waiting += sources
    return True
