"""Tensor contents: bytes of the wire to NumPy and back, strict and without a copy where the bytes allow it.

Raw contents become read-only views of the message's own bytes. Nothing is allocated before the shape has been held
against the bytes that are really there (attacks I09), so a few bytes can never ask for a big array.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from cloister.api.oip import inference_pb2
from cloister.contract import check_raw_size
from cloister.errors import InvalidRequest
from cloister.oip.datatypes import Datatype, type_of_bytes

Array = np.ndarray[Any, Any]

_LENGTH = struct.Struct("<I")
_TYPED_FIELDS: Final = tuple(field.name for field in inference_pb2.InferTensorContents.DESCRIPTOR.fields)


def from_raw(raw: bytes, datatype: Datatype, shape: tuple[int, ...], tensor: str) -> Array:
    """A read-only array over `raw`; BYTES elements are copied out of it."""
    check_raw_size(len(raw), datatype.name, shape, tensor)
    if not datatype.size_bytes:
        return _bytes_from_raw(raw, shape, tensor)
    array = np.frombuffer(raw, datatype.dtype) if raw else np.zeros(0, datatype.dtype)
    if datatype.name == "BOOL" and raw and int(array.view(np.uint8).max()) > 1:
        raise InvalidRequest(f"tensor '{tensor}': a BOOL is neither 0 nor 1")
    array = array.reshape(shape)
    array.flags.writeable = False
    return array


def from_typed(
    contents: inference_pb2.InferTensorContents, datatype: Datatype, shape: tuple[int, ...], tensor: str
) -> Array:
    """A read-only array of the values in the one field of `contents` that belongs to the datatype."""
    if not datatype.typed_field:
        raise InvalidRequest(f"tensor '{tensor}': {datatype.name} has raw contents only")
    if any(len(getattr(contents, name)) for name in _TYPED_FIELDS if name != datatype.typed_field):
        raise InvalidRequest(f"tensor '{tensor}': contents in a field that does not belong to {datatype.name}")
    values: Sequence[Any] = getattr(contents, datatype.typed_field)
    if len(values) != math.prod(shape):
        raise InvalidRequest(f"tensor '{tensor}': {len(values)} elements, the shape takes {math.prod(shape)}")
    if not datatype.size_bytes:
        return _object_array(list(values), shape)
    try:
        array = np.fromiter(values, datatype.dtype, count=len(values)).reshape(shape)
    except OverflowError:
        raise InvalidRequest(f"tensor '{tensor}': an element does not fit {datatype.name}") from None
    array.flags.writeable = False
    return array


def to_raw(array: Array, datatype: Datatype, tensor: str) -> bytes:
    """The bytes of `array` as raw contents: those that it lies over, if it is all of them; otherwise in one copy."""
    if datatype.size_bytes:
        return _whole(array, datatype) or np.asarray(array, datatype.dtype).tobytes()
    parts: list[bytes] = []
    for element in array.ravel().tolist():
        value = element.encode() if isinstance(element, str) else element
        if not isinstance(value, bytes):
            raise InvalidRequest(f"tensor '{tensor}': BYTES elements are bytes or str, not {type(element).__name__}")
        parts += (_LENGTH.pack(len(value)), value)
    return b"".join(parts)


def _whole(array: Array, datatype: Datatype) -> bytes | None:
    """The bytes object under an array that covers it from its first byte to its last, in order."""
    under: Any = array.base
    while isinstance(under, np.ndarray):
        under = under.base
    covers = isinstance(under, bytes) and array.nbytes == len(under) and array.flags.c_contiguous
    return under if covers and array.dtype == datatype.dtype else None


def _bytes_from_raw(raw: bytes, shape: tuple[int, ...], tensor: str) -> Array:
    elements: list[bytes] = []
    at = 0
    for _ in range(math.prod(shape)):
        start = at + _LENGTH.size
        if start > len(raw):
            raise InvalidRequest(f"tensor '{tensor}': contents end within an element")
        at = start + _LENGTH.unpack_from(raw, at)[0]
        if at > len(raw):
            raise InvalidRequest(f"tensor '{tensor}': contents end within an element")
        elements.append(raw[start:at])
    if at != len(raw):
        raise InvalidRequest(f"tensor '{tensor}': {len(raw) - at} bytes after the last element")
    return _object_array(elements, shape)


def _object_array(elements: list[bytes], shape: tuple[int, ...]) -> Array:
    array = np.empty(len(elements), type_of_bytes)
    array[:] = elements
    array = array.reshape(shape)
    array.flags.writeable = False
    return array
