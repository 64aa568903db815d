"""What a TFLite model may hold, looked at before OpenVINO's own parsers see it (attacks F08).

Field numbers are those of TensorFlow Lite's schema.fbs. A tensor has a name of its own there, such as
`serving_default_x:0`; what its users call it stands in the signature.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from cloister.worker.flatbuffer import Table, root
from cloister.worker.protobuf import elements
from cloister.worker.refusals import refused

_CUSTOM: Final = frozenset({32, 51})  # CUSTOM, DELEGATE
_TEXT: Final = 5
_BITS: Final[Mapping[int, int]] = MappingProxyType(
    {0: 32, 1: 16, 2: 32, 3: 8, 4: 64, 6: 8, 7: 16, 8: 64, 9: 8, 10: 64, 11: 128, 12: 64, 15: 32, 16: 16, 17: 4, 18: 16}
)
"""Size of an element by TensorType."""


def scan_tflite(raw: memoryview) -> dict[str, str]:
    """Look through a model.

    Returns:
        What its users call the tensors that it takes and gives, by the names that they have in it.

    Raises:
        InvalidRequest: It holds, or asks for, what the worker does not serve.
    """
    model = root(raw, b"TFL3")
    for code in model.tables(1):
        if code.content(1) or {code.number(0, "b"), code.number(3, "i")} & _CUSTOM:
            raise refused(f"operation '{code.text(1)[:64]}' is not one of TensorFlow Lite's own")
    codes, buffers = sum(1 for _ in model.tables(1)), [_size_bytes(buffer) for buffer in model.tables(4)]
    graphs = list(model.tables(2))
    if not graphs:
        raise refused("the model is empty")
    for graph in graphs:
        _scan_graph(graph, codes, buffers)
    return _names(model, graphs[0])


def _size_bytes(buffer: Table) -> int:
    if buffer.number(1, "Q") or buffer.number(2, "Q"):
        raise refused("a tensor's data lies outside the model's own buffer")
    return len(buffer.content(0))


def _scan_graph(graph: Table, codes: int, buffers: list[int]) -> None:
    tensors = list(graph.tables(0))
    for tensor in tensors:
        _scan_tensor(tensor, buffers)
    used = [*graph.numbers(1, "i"), *graph.numbers(2, "i")]
    for operation in graph.tables(3):
        if operation.number(0, "I") >= codes:
            raise refused("an operation has no name")
        used += [at for side in (1, 2) for at in operation.numbers(side, "i") if at != -1]  # -1: left out
    if not all(0 <= at < len(tensors) for at in used):
        raise refused("an operation takes a tensor that is not there")
    for at in graph.numbers(1, "i") + graph.numbers(2, "i"):
        if tensors[at].number(1, "b") == _TEXT:
            raise refused(f"'{tensors[at].text(3)[:64]}' is text; turn text into numbers before asking")


def _scan_tensor(tensor: Table, buffers: list[int]) -> None:
    at, kind = tensor.number(2, "I"), tensor.number(1, "b")
    if at >= len(buffers) or tensor.table(6) is not None:
        raise refused("a tensor's data is sparse, or not there")
    if not buffers[at] or kind not in _BITS:
        return
    if (elements(tensor.numbers(0, "i")) * _BITS[kind] + 7) // 8 != buffers[at]:
        raise refused("a constant's shape and size differ")


def _names(model: Table, graph: Table) -> dict[str, str]:
    tensors = list(graph.tables(0))
    for signature in model.tables(7):
        if signature.number(4, "I") == 0:
            entries = [*signature.tables(0), *signature.tables(1)]
            if not all(entry.number(1, "I") < len(tensors) for entry in entries):
                raise refused("the signature names a tensor that is not there")
            return {tensors[entry.number(1, "I")].text(3): entry.text(0) for entry in entries}
    return {}
