"""What a TensorFlow model may hold, looked at before OpenVINO's own parsers see it (attacks F08).

A SavedModel is a folder: `saved_model.pb` with the graph, the functions that it calls and the signatures; the weights
under `variables/`. A frozen graph is one file, its weights in it. Field numbers are those of TensorFlow's `.proto`
files of the same names (graph, function, node_def, attr_value, tensor, saved_model, meta_graph).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from cloister.errors import InvalidRequest
from cloister.worker.protobuf import elements, messages, numbers, only, text
from cloister.worker.refusals import refused
from cloister.worker.tensorflow_variables import scan_objects

MAX_NODES: Final = 1_000_000
MAX_GRAPH_BYTES: Final = 2 << 30
MAX_CONSTANT_BYTES: Final = 2 << 30
"""Of all constants together."""
SIGNATURE: Final = "serving_default"
VARIABLES: Final = re.compile(r"variables/variables\.(index|data-[0-9]{5}-of-[0-9]{5})")

_TEXT: Final = 7  # DT_STRING
_BYTES: Final[Mapping[int, int]] = MappingProxyType(
    {1: 4, 2: 8, 3: 4, 4: 1, 5: 2, 6: 1, 8: 8, 9: 8, 10: 1, 14: 2, 17: 2, 18: 16, 19: 2, 22: 4, 23: 8}
)
"""Size of an element by DataType; those that are not here take no more than 16."""
_OUTSIDE: Final = re.compile(
    r"ReadFile|WriteFile|MatchingFiles|.*Reader(V[0-9])?|.*Dataset(V[0-9])?|InitializeTableFromTextFile.*|.*PyFunc.*"
    r"|LoadLibrary|.*Socket.*|TRTEngineOp|.*>.*"
)
_UNFROZEN: Final = re.compile(r"VarHandleOp|Variable(V2)?|Restore(V2|Slice)?|Save(V2|Slices)?|MergeV2Checkpoints")


def scan_saved_model(raw: memoryview) -> None:
    """Look through a `saved_model.pb`.

    Raises:
        InvalidRequest: It holds, or asks for, what the worker does not serve.
    """
    if len(raw) > MAX_GRAPH_BYTES:
        raise refused("the graph is too large")
    graphs = list(messages(raw, 2))
    if len(graphs) != 1:
        raise refused("it holds not exactly one graph; export it for serving only")
    (meta,) = graphs
    if next(messages(meta, 6), None) is not None:
        raise refused(
            "it reads an asset, a table or vocabulary in a file; take the look-up out, and do it before asking"
        )
    _scan_signatures(meta)
    _scan_graph(only(meta, 2))
    scan_objects(list(messages(only(meta, 7), 1)))


def scan_frozen_graph(raw: memoryview) -> None:
    """Look through a frozen graph.

    Raises:
        InvalidRequest: It holds, or asks for, what the worker does not serve.
    """
    if len(raw) > MAX_GRAPH_BYTES:
        raise refused("the graph is too large")
    if next(messages(raw, 1), None) is None:
        raise refused("the graph is empty, or not a frozen graph")
    _scan_graph(raw)
    for node in messages(raw, 1):
        operation = text(node, 2)
        if operation in ("Placeholder", "PlaceholderWithDefault") and _TEXT in _types(node):
            raise _takes_text(text(node, 1))
        if _UNFROZEN.fullmatch(operation):
            raise refused("the graph is not frozen: its weights are in other files; seal the SavedModel in its place")


def _scan_signatures(meta: memoryview) -> None:
    signatures = {text(entry, 1): entry for entry in messages(meta, 5)}
    if SIGNATURE not in signatures:
        raise refused(f"it has no signature '{SIGNATURE}'; export it with one")
    signature = only(signatures[SIGNATURE], 2)
    for side in (1, 2):
        for entry in messages(signature, side):
            if _TEXT in numbers(only(entry, 2), 2):
                raise _takes_text(text(entry, 1))


def _scan_graph(graph: memoryview) -> None:
    _scan_functions(graph)
    claimed_bytes = 0
    for count, node in enumerate(_nodes(graph)):
        if count > MAX_NODES:
            raise refused("the graph has too many operations")
        operation = text(node, 2)
        if _OUTSIDE.fullmatch(operation):
            raise refused(f"operation '{operation[:64]}' reaches outside the model, or is not one of TensorFlow's own")
        for attribute in messages(node, 5):
            claimed_bytes += _claimed_bytes(only(attribute, 2))
            if claimed_bytes > MAX_CONSTANT_BYTES:
                raise refused("its constants are too large")


def _scan_functions(graph: memoryview) -> None:
    """What a function gives must be said where: OpenVINO's reader ends the process for want of it."""
    for function in messages(only(graph, 2), 1):
        given = {text(output, 1) for output in messages(only(function, 1), 3)}
        if not given <= {text(entry, 1) for entry in messages(function, 4)}:
            raise refused("a function of the graph does not give what it says")


def _nodes(graph: memoryview) -> Iterator[memoryview]:
    yield from messages(graph, 1)
    for function in messages(only(graph, 2), 1):
        yield from messages(function, 3)


def _claimed_bytes(value: memoryview) -> int:
    """What the tensor of an attribute, or those of a list, take; a few bytes may stand for a constant of any size."""
    return sum(_size_bytes(tensor) for tensor in (only(value, 8), *messages(only(value, 1), 8)) if tensor)


def _size_bytes(tensor: memoryview) -> int:
    count = elements(size for dim in messages(only(tensor, 2), 2) for size in numbers(dim, 1))
    kind = (numbers(tensor, 1) or [0])[-1]
    return count * _BYTES.get(kind, 16)


def _types(node: memoryview) -> Iterator[int]:
    for attribute in messages(node, 5):
        yield from numbers(only(attribute, 2), 6)


def _takes_text(name: str) -> InvalidRequest:
    return refused(f"'{name[:64]}' is text; turn text into numbers before asking, and export the model from there on")
