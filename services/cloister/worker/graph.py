"""OpenVINO's graphs, walked: the model's own, and those of the branches and loops in it."""

from __future__ import annotations

from collections.abc import Iterator

import openvino as ov


def node_types(names: str) -> frozenset[str]:
    """Names of operations, as `get_type_name` has them."""
    return frozenset(names.split())


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
