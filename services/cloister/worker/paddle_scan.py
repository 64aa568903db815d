"""What a PaddlePaddle model may hold, looked at before OpenVINO's own parsers see it (attacks F08).

`.pdmodel` is a ProgramDesc (field numbers are those of Paddle's framework.proto), `.pdiparams` the weights one after
another: 16 bytes of version and level of detail, the length of a TensorDesc, that, and the elements.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from cloister.worker.protobuf import elements, messages, numbers, text
from cloister.worker.refusals import refused

MAX_PROGRAM_BYTES: Final = 64 << 20
MAX_OPERATIONS: Final = 1_000_000

_HEAD: Final = struct.Struct("<IQIi")  # version, levels of detail, version again, size of the TensorDesc
_OUTSIDE: Final = frozenset(
    {"load", "load_combine", "save", "save_combine", "read", "py_func", "py_layer", "run_program"}
)
_BYTES: Final[Mapping[int, int]] = MappingProxyType({0: 1, 1: 2, 2: 4, 3: 8, 4: 2, 5: 4, 6: 8, 20: 1, 21: 1, 22: 2})
"""Size of an element by VarType.Type."""


def scan_paddle(program: memoryview, weights: memoryview) -> None:
    """Look through a program and its weights.

    Raises:
        InvalidRequest: It holds, or asks for, what the worker does not serve.
    """
    if len(program) > MAX_PROGRAM_BYTES:
        raise refused("the program is too large")
    kept = operations = 0
    for block in messages(program, 1):
        for operation in messages(block, 4):
            operations += 1
            name = text(operation, 3)
            if name in _OUTSIDE:
                raise refused(f"operation '{name}' reaches outside the model")
        kept += sum(1 for variable in messages(block, 3) if _is_weight(variable))
    if not 0 < operations <= MAX_OPERATIONS:
        raise refused("the program has no operations, or too many")
    if _count(weights) != kept:
        raise refused("the .pdiparams beside the .pdmodel does not hold its weights")


def _is_weight(variable: memoryview) -> bool:
    persistable = any(numbers(variable, 3))
    return persistable and not text(variable, 1).endswith(("feed", "fetch"))


def _count(weights: memoryview) -> int:
    """How many tensors there are; each as long as its shape says, with nothing left over."""
    at = count = 0
    while at < len(weights):
        if len(weights) - at < _HEAD.size:
            raise refused("the weights are cut short")
        _, levels, _, size = _HEAD.unpack_from(weights, at)
        at += _HEAD.size
        if levels or not 0 < size <= len(weights) - at:
            raise refused("a weight is not a plain tensor")
        at += size + _size_bytes(weights[at : at + size])
        count += 1
    if at != len(weights):
        raise refused("the weights are cut short")
    return count


def _size_bytes(description: memoryview) -> int:
    dims, kinds = numbers(description, 2), numbers(description, 1)
    if len(kinds) != 1 or kinds[0] not in _BYTES:
        raise refused("a weight has no known type of element")
    return elements(dims) * _BYTES[kinds[0]]
