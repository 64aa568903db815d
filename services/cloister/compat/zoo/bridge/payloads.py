"""A request in Cluster Serving's form to named inputs.

The payload is base64 of an Arrow IPC stream with one batch, a column for each input:

    struct<indiceData, indiceShape: list<int32>, data: list<float>, shape: list<int32>>, in four rows, each of which
        fills one member: a dense tensor where indiceData and indiceShape are empty, else a sparse one in coordinates
    utf8, in one row: strings joined by "|", or the base64 text of an image

Which of the two a text is nobody says there; here the model does. What a tensor lacks is an error and never completed.
"""

from __future__ import annotations

import base64
import binascii
import math
from itertools import islice
from typing import Any, Final

import numpy as np
import pyarrow as pa

from cloister.compat.zoo.values import Values
from cloister.contract import ModelContract, TensorSpec, check_shape
from cloister.errors import InvalidRequest
from cloister.oip.contents import Array

MAX_PAYLOAD_BYTES: Final = 96 << 20
"""In base64: more than any request may hold."""
MAX_COLUMNS: Final = 256
MALFORMED: Final = "record.malformed"
_MEMBERS: Final = ("indiceData", "indiceShape", "data", "shape")


def read_payload(payload: bytes | None, contract: ModelContract) -> Values:
    """Named inputs, as `cloister.compat.zoo.fitting.fitted` takes them.

    Args:
        payload: The field `data` of an entry.
        contract: Says whether a text is strings or an image.

    Raises:
        InvalidRequest: It is not of this form (`record.malformed`), or too large (`record.too_large`).
    """
    raw = _decoded(payload)
    try:
        return _inputs(_batch(raw), contract)
    except (pa.ArrowException, OSError, ValueError, EOFError, KeyError, TypeError, NotImplementedError) as error:
        raise _malformed("its data is no Arrow stream, or not all of one") from error


def _inputs(batch: Any, contract: ModelContract) -> Values:
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    if not columns or len(columns) != batch.num_columns:
        raise _malformed("it has no inputs, or two of one name")
    only = contract.inputs[0] if len(contract.inputs) == len(columns) == 1 else None
    specs = {spec.name: spec for spec in contract.inputs}
    return {name: _value(name, column, only or specs.get(name)) for name, column in columns.items()}


def _decoded(payload: bytes | None) -> bytes:
    if payload is None:
        raise _malformed("it has no field 'data'")
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise InvalidRequest(
            f"the record is of {len(payload) >> 20} MiB; {MAX_PAYLOAD_BYTES >> 20} are the most",
            reason="record.too_large",
        )
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        raise _malformed("its data is not base64") from None


def _batch(raw: bytes) -> Any:
    """The only batch of an Arrow stream; checked, so that reading it stays within its bounds."""
    with pa.ipc.open_stream(raw) as stream:
        batches = list(islice(stream, 2))
    if len(batches) != 1 or batches[0].num_columns > MAX_COLUMNS:
        raise _malformed("its Arrow stream holds one batch")
    batches[0].validate(full=True)
    return batches[0]


def _value(name: str, column: Any, spec: TensorSpec | None) -> object:
    if pa.types.is_struct(column.type) and tuple(column.type.names) == _MEMBERS:
        return _tensor(name, column)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return _text(name, column, spec)
    raise _malformed(f"the input '{name[:64]}' is neither a tensor nor a text as their client writes one")


def _text(name: str, column: Any, spec: TensorSpec | None) -> object:
    filled = column.drop_null()
    if len(filled) != 1:
        raise _malformed(f"the input '{name[:64]}' has {len(filled)} texts, where it has one")
    text = filled[0].as_py()
    return text.split("|") if spec is not None and spec.datatype == "BYTES" else {"b64": text}


def _tensor(name: str, column: Any) -> object:
    members = dict(zip(_MEMBERS, column.flatten(), strict=True))
    indices, indices_shape, values, shape = (_numbers(name, member, members[member]) for member in _MEMBERS)
    dims = _dims(name, shape)
    if not indices.size and not indices_shape.size:
        return _reshaped(name, values, dims)
    return [_reshaped(name, indices, _dims(name, indices_shape)), values, shape]


def _numbers(name: str, member: str, lists: Any) -> Array:
    """What the only row that fills a member has."""
    kind = lists.type
    whole = member != "data"
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        raise _malformed(f"'{member}' of the input '{name[:64]}' is no list")
    if not (pa.types.is_integer(kind.value_type) if whole else pa.types.is_floating(kind.value_type)):
        raise _malformed(f"'{member}' of the input '{name[:64]}' is of {kind.value_type}")
    rows = [row.values for row in lists if row.is_valid and len(row.values)]
    if len(rows) > 1 or any(row.null_count for row in rows):
        raise _malformed(f"'{member}' of the input '{name[:64]}' is filled by several rows, or in part")
    if not rows:
        return np.empty(0, np.int32 if whole else np.float32)
    found: Array = rows[0].to_numpy(zero_copy_only=False)
    return found


def _dims(name: str, shape: Array) -> tuple[int, ...]:
    dims = tuple(int(each) for each in shape)
    check_shape(dims, name)
    return dims


def _reshaped(name: str, values: Array, dims: tuple[int, ...]) -> Array:
    wanted = math.prod(dims)
    if values.size != wanted:
        raise _malformed(f"the tensor '{name[:64]}' has {values.size} elements, and {wanted} by its shape {list(dims)}")
    return values.reshape(dims)


def _malformed(what: str) -> InvalidRequest:
    return InvalidRequest(f"the record is not as Cluster Serving's client writes one: {what}", reason=MALFORMED)
