"""What Cluster Serving's Python client does with Redis, as it was seen to: bytes in, bytes out, with no more care."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_WHOLE, _FLOATS = pa.list_(pa.int32()), pa.list_(pa.float32())
TENSOR = pa.struct([("indiceData", _WHOLE), ("indiceShape", _WHOLE), ("data", _FLOATS), ("shape", _WHOLE)])


def payload(**inputs: Any) -> bytes:
    """The field `data` of a request with dense tensors (ndarrays) and texts (str)."""
    columns = [_text(value) if isinstance(value, str) else _tensor(value) for value in inputs.values()]
    return encoded(pa.record_batch(columns, names=list(inputs)))


def encoded(*batches: pa.RecordBatch) -> bytes:
    """Base64 of an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return base64.b64encode(sink.getvalue())


def tensor_rows(**members: Any) -> pa.Array:
    """A tensor's column, each member in a row of its own."""
    return pa.array([{name: members.get(name, [])} for name in TENSOR.names], TENSOR)


def _tensor(array: NDArray[Any]) -> pa.Array:
    return tensor_rows(data=np.asarray(array, np.float32).ravel(), shape=list(array.shape))


def _text(text: str) -> pa.Array:
    return pa.array([text], pa.utf8())


def read(value: bytes) -> Any:
    """What it makes of the field `value` of a result: "NaN", an array, or a list of arrays."""
    if value == b"NaN":
        return "NaN"
    arrays = []
    for batch in pa.ipc.open_stream(base64.b64decode(value)):
        shape = [size for size in batch.column(1).to_pylist() if size]
        arrays.append(batch.column(0).to_numpy(zero_copy_only=False).reshape(shape))
    return arrays[0] if len(arrays) == 1 else arrays


class ZooClient:
    """Both of its queues.

    Args:
        redis: A synchronous client of redis-py.
        name: Of the stream.
    """

    def __init__(self, redis: Any, name: str = "serving_stream") -> None:
        self.redis = redis
        self.name = name

    def enqueue(self, uri: str, data: bytes) -> str:
        """`InputQueue.enqueue` once its payload is made; returns the entry's id."""
        return str(self.redis.xadd(self.name, {"uri": uri, "data": data}).decode())

    def query(self, uri: str) -> Any:
        """`OutputQueue.query`."""
        found = self.redis.hgetall(f"cluster-serving_{self.name}:{uri}")
        return read(found[b"value"]) if found else "[]"

    def error(self, uri: str) -> str:
        """What it does not look at."""
        return (self.redis.hget(f"cluster-serving_{self.name}:{uri}", "error") or b"").decode()

    def results(self) -> dict[str, Any]:
        """`OutputQueue.dequeue`, without the deletion."""
        prefix = f"cluster-serving_{self.name}:"
        return {
            key.decode()[len(prefix) :]: self.query(key.decode()[len(prefix) :])
            for key in self.redis.keys(f"{prefix}*")
        }
