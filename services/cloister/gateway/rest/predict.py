"""The older predict forms: rows named `instances` in, `predictions` out.

Clients of Cluster Serving and of KServe's first protocol speak them. What they leave out, datatypes and the batch,
comes from the model's metadata and from the rows.

An instance is an object of inputs by name or, where the model has one input, its bare value. Values are nested arrays
or numbers; for UINT8 and BYTES also base64, alone or as `{"b64": "..."}`.
https://kserve.github.io/website/docs/concepts/architecture/data-plane/v1-protocol
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelInferResponse, ModelMetadataResponse
from cloister.errors import InternalError, InvalidRequest
from cloister.gateway.rest.infer_answer import check_written
from cloister.gateway.rest.infer_request import list_of, members, serialised
from cloister.gateway.rest.numbers import LENGTH, shape_of, to_raw, values_of
from cloister.gateway.rest.strict_json import parse

_BASE64: Final = "b64"


class Predict:
    """One request of this form."""

    def __init__(self, model: str, version: str) -> None:
        self._model = model
        self._version = version
        self._rows = 0

    def read(self, body: bytes, metadata: ModelMetadataResponse) -> bytes:
        """Return the serialised `ModelInferRequest` of a body.

        Raises:
            InvalidRequest: It is not of this form, or rows are not alike.
        """
        rows = list_of(members(parse(body), frozenset({"instances"}), "the request"), "instances")
        if not rows:
            raise InvalidRequest("'instances' is empty")
        self._rows = len(rows)
        datatypes = {tensor.name: tensor.datatype for tensor in metadata.inputs}
        message = ModelInferRequest(model_name=self._model, model_version=self._version)
        columns = _columns(rows, list(datatypes))
        contents = [_stacked(message, name, datatypes[name], values) for name, values in columns.items()]
        return serialised(message, contents)

    def answer(self, raw: bytes) -> bytes:
        """Return the JSON of an answer: for each row its output, by name where there are several.

        Raises:
            InvalidRequest: JSON has no word for an output, or an output has not a part for each row.
        """
        message = ModelInferResponse.FromString(raw)
        check_written(sum(map(len, message.raw_output_contents)))
        columns: dict[str, list[Any]] = {}
        if len(message.raw_output_contents) != len(message.outputs):
            raise InternalError("the answer has no raw contents")
        for output, content in zip(message.outputs, message.raw_output_contents, strict=True):
            if not output.shape or output.shape[0] != self._rows:
                raise InvalidRequest(
                    f"output '{output.name}' of shape {list(output.shape)} has no part for each of {self._rows} "
                    "instances; ask by /v2/models"
                )
            elements = values_of(content, output.datatype, output.name)
            columns[output.name] = _nested(elements, tuple(output.shape))
        if len(columns) == 1:
            return msgspec.json.encode({"predictions": next(iter(columns.values()))})
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return msgspec.json.encode({"predictions": rows})


def _columns(rows: Sequence[Any], names: Sequence[str]) -> dict[str, list[Any]]:
    """The values of each input, row by row."""
    named = [row if _is_named(row) else _bare(row, names) for row in rows]
    first = named[0].keys()
    for number, row in enumerate(named):
        if row.keys() != first:
            raise InvalidRequest(f"instance {number} has other inputs than the first one")
    unknown = first - set(names)
    if unknown:
        raise InvalidRequest(f"the model has no input '{min(unknown)[:64]}'")
    return {name: [row[name] for row in named] for name in first}


def _is_named(row: Any) -> bool:
    return isinstance(row, dict) and row.keys() != {_BASE64}


def _bare(row: Any, names: Sequence[str]) -> Mapping[str, Any]:
    if len(names) != 1:
        raise InvalidRequest("the model has several inputs: an instance is an object of them by name")
    return {names[0]: row}


def _stacked(message: ModelInferRequest, name: str, datatype: str, values: list[Any]) -> bytes:
    """Add an input whose first dimension is the rows; return its contents."""
    parts = [_part(value, datatype, name) for value in values]
    shape = parts[0][0]
    if any(each != shape for each, _ in parts):
        raise InvalidRequest(f"tensor '{name}': the instances are not of one shape")
    message.inputs.add(name=name, datatype=datatype, shape=(len(parts), *shape))
    return b"".join(content for _, content in parts)


def _part(value: Any, datatype: str, name: str) -> tuple[tuple[int, ...], bytes]:
    """Shape and contents of one row's value."""
    encoded = value[_BASE64] if isinstance(value, dict) and value.keys() == {_BASE64} else value
    if isinstance(encoded, str) and (datatype == "UINT8" or encoded is not value):
        raw = _decoded(encoded, name)
        return ((), LENGTH.pack(len(raw)) + raw) if datatype == "BYTES" else (_bytes_only(raw, datatype, name), raw)
    shape = shape_of(value)
    return shape, to_raw(value if shape else [value], datatype, shape, name)


def _bytes_only(raw: bytes, datatype: str, name: str) -> tuple[int, ...]:
    if datatype != "UINT8":
        raise InvalidRequest(f"tensor '{name}': base64 is for UINT8 and BYTES, and the model takes {datatype}")
    return (len(raw),)


def _decoded(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"tensor '{name}': a string is not base64") from None


def _nested(elements: Iterator[Any], shape: tuple[int, ...]) -> list[Any]:
    """Elements in row-major order as nested lists of a shape that they fill."""
    level: list[Any] = list(elements)
    if len(level) != math.prod(shape):
        raise InternalError("an output has not as many elements as its shape says")
    for at in range(len(shape) - 1, 0, -1):
        size = shape[at]
        count = math.prod(shape[:at])
        level = [level[row * size : (row + 1) * size] for row in range(count)]
    return level
