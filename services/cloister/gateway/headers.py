"""The headers of a plain request's tensors, from the bytes of the wire: names, datatypes, shapes, and whether they fit.

As strict as `wire`, and for the same reason. What typed contents say is not looked into: whether they can hold as many
elements as their shape says is read off their size, and the worker counts (docs/decisions/0020-tensor-contract.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from cloister.contract import MAX_RANK, InputHeader, ModelContract, OutputHeader, check_raw_size
from cloister.errors import InvalidRequest
from cloister.gateway.wire import Part, Tensors, fields, parameter_key, read_varint, text

MAX_HEADER_FIELDS: Final = 256
_VARINT, _LEN = 0, 2
_NAME, _DATATYPE, _SHAPE, _PARAMETERS, _CONTENTS = 1, 2, 3, 4, 5
_OUTPUT_PARAMETERS: Final = 2
_LEAST_BYTES: Final[Mapping[str, int]] = MappingProxyType(
    {
        **dict.fromkeys(("BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"), 1),
        "FP32": 4,
        "FP64": 8,
        "BYTES": 2,
    }
)
"""The least that one element takes in typed contents; FP16 and BF16 have none."""


def check_tensors(contract: ModelContract, tensors: Tensors) -> None:
    """Hold the tensors of a request against a model.

    Raises:
        InvalidRequest: They cannot fit, in the words in which the worker would say it; or their headers are not
            well-formed protobuf, repeat a field, or are not UTF-8.
    """
    read: list[tuple[InputHeader, int]] = []

    def headers() -> Iterator[InputHeader]:  # one by one: the first that is wrong ends it
        for part in tensors.inputs:
            read.append(read_input(part))
            yield read[-1][0]

    contract.check(headers(), map(read_output, tensors.outputs), len(tensors.raw_sizes))
    if tensors.raw_sizes:
        for (header, _), size_bytes in zip(read, tensors.raw_sizes, strict=True):
            check_raw_size(size_bytes, header.datatype, header.shape, header.name)
    else:
        for header, contents_bytes in read:
            _check_typed_size(header, contents_bytes)


def read_input(raw: Part) -> tuple[InputHeader, int]:
    """Read an `InferInputTensor`; return also the size in bytes of its typed contents."""
    texts = {_NAME: "", _DATATYPE: ""}
    seen: set[int] = set()
    shape: list[int] = []
    parameters: list[str] = []
    contents_bytes = 0
    for number, wire_type, start, stop in fields(raw, 0, len(raw), MAX_HEADER_FIELDS):
        if number > _CONTENTS:
            continue
        if wire_type != _LEN and (number, wire_type) != (_SHAPE, _VARINT):
            raise InvalidRequest("a field of an input has the wrong wire type")
        if number == _SHAPE:
            shape += _dimensions(raw, start, stop)
        elif number == _PARAMETERS:
            parameters.append(parameter_key(raw[start:stop]))
        elif number in seen:
            raise InvalidRequest("a field of an input is repeated")
        elif number == _CONTENTS:
            contents_bytes = stop - start
        else:
            texts[number] = text(raw[start:stop])
        seen.add(number)
    typed = _CONTENTS in seen
    return InputHeader(texts[_NAME], texts[_DATATYPE], tuple(shape), typed, tuple(parameters)), contents_bytes


def read_output(raw: Part) -> OutputHeader:
    """Read an `InferRequestedOutputTensor`."""
    name: str | None = None
    parametrised = False
    for number, wire_type, start, stop in fields(raw, 0, len(raw), MAX_HEADER_FIELDS):
        if number > _OUTPUT_PARAMETERS:
            continue
        if wire_type != _LEN:
            raise InvalidRequest("a field of an output has the wrong wire type")
        if number == _OUTPUT_PARAMETERS:
            parameter_key(raw[start:stop])
            parametrised = True
        elif name is not None:
            raise InvalidRequest("a field of an output is repeated")
        else:
            name = text(raw[start:stop])
    return OutputHeader(name or "", parametrised)


def _dimensions(raw: Part, start: int, stop: int) -> Iterator[int]:
    """Yield dimensions, one or packed: of too many, enough to see that."""
    for _ in range(MAX_RANK + 1):
        if start >= stop:
            return
        value, start = read_varint(raw, start, stop)
        yield value - (1 << 64) if value >> 63 else value


def _check_typed_size(header: InputHeader, contents_bytes: int) -> None:
    least = _LEAST_BYTES.get(header.datatype)
    if least is None:
        raise InvalidRequest(f"tensor '{header.name}': {header.datatype} has raw contents only")
    count = math.prod(header.shape)
    if not contents_bytes and count:
        raise InvalidRequest(f"tensor '{header.name}': 0 elements, the shape takes {count}")
    if contents_bytes < count * least:
        raise InvalidRequest(f"tensor '{header.name}': {contents_bytes} bytes of contents cannot hold {count} elements")
