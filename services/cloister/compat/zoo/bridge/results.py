"""An answer in Cluster Serving's form.

Base64 of an Arrow IPC stream with a batch for each output: `data`, float32, all elements, and `shape`, int32, in its
first rows and null in the others. Their clients make `data` of that shape and know no other datatype. Metadata is of
version 4, as theirs was, so that the Arrow of their day reads it.
"""

from __future__ import annotations

import base64
from typing import Final

import numpy as np
import pyarrow as pa

from cloister.compat.zoo.fitting import Instance
from cloister.contract import ModelContract
from cloister.errors import CloisterError, InternalError, InvalidRequest
from cloister.oip.contents import Array
from cloister.rpc.status import reason_of

FAILED: Final = b"NaN"
_SCHEMA: Final = pa.schema([pa.field("data", pa.float32()), pa.field("shape", pa.int32())])
_OPTIONS: Final = pa.ipc.IpcWriteOptions(metadata_version=pa.ipc.MetadataVersion.V4)
_UNSUPPORTED: Final = "answer.unsupported"
_MAX_SAID: Final = 1000
_MAX_WHOLE: Final = 1 << 24
"""Up to this float32 holds every whole number."""


def write_result(contract: ModelContract, outputs: dict[str, Array]) -> bytes:
    """The field `value` of an answer; a batch axis of one is left out, as it was there.

    Raises:
        InvalidRequest: An output has no such form: strings, or numbers that float32 does not hold.
    """
    found = Instance(arrays={}, unbatched=True).result(contract, outputs)
    arrays = found if isinstance(found, list) else [found]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, _SCHEMA, options=_OPTIONS) as writer:
        for array in arrays:
            writer.write_batch(_batch(np.asarray(array)))
    return base64.b64encode(sink.getvalue())


def write_error(error: Exception) -> str:
    """The field `error`, which their clients do not look at: the reason, and words."""
    said = str(error) if isinstance(error, (CloisterError, TimeoutError)) else str(InternalError("the bridge failed"))
    return f"{reason_of(error)}: {' '.join(said.split())}"[:_MAX_SAID]


def _batch(array: Array) -> pa.RecordBatch:
    values = _floats(array).ravel()
    shape = [int(size) for size in array.shape]
    if len(shape) > values.size:  # there are as many rows as elements, so axes of one are left out
        shape = [size for size in shape if size != 1]
    if not values.size:
        raise InvalidRequest("the answer has no elements, which their clients cannot read", reason=_UNSUPPORTED)
    rows = shape + [None] * (values.size - len(shape))
    return pa.record_batch([pa.array(values, pa.float32()), pa.array(rows, pa.int32())], schema=_SCHEMA)


def _floats(array: Array) -> Array:
    if array.dtype.kind not in "biuf":
        raise InvalidRequest("the answer is text, and their form has numbers only", reason=_UNSUPPORTED)
    with np.errstate(over="ignore"):
        floats = array.astype(np.float32)
        if array.dtype.kind in "iu" and np.abs(array.astype(np.float64)).max(initial=0) > _MAX_WHOLE:
            raise InvalidRequest("the answer has whole numbers that float32 does not hold", reason=_UNSUPPORTED)
    return floats
