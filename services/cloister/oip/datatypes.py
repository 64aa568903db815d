"""The tensor datatypes of the Open Inference Protocol v2, and how NumPy holds each.

Keeps the protocol's "Tensor Data Types" and "Raw Tensor Contents" sections: elements are little endian in row-major
order. NumPy has no bfloat16, so BF16 travels as the raw 16 bits in a uint16 array. BYTES has no fixed size: on the wire
each element is a four-byte little-endian length and then the bytes; in NumPy it is an object array of `bytes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from cloister.errors import InvalidRequest

type_of_bytes: Final = np.dtype(object)


@dataclass(frozen=True, slots=True)
class Datatype:
    """One datatype of the protocol.

    Attributes:
        name: As the protocol spells it.
        dtype: What NumPy holds it in, little endian.
        size_bytes: Of one element in raw contents; 0 for BYTES, whose elements carry their own length.
        typed_field: Field of `InferTensorContents`, or empty where the protocol allows raw contents only.
    """

    name: str
    dtype: np.dtype[Any]
    size_bytes: int
    typed_field: str


def _table() -> Mapping[str, Datatype]:
    rows = (
        ("BOOL", np.dtype(np.bool_), "bool_contents"),
        ("UINT8", np.dtype("u1"), "uint_contents"),
        ("UINT16", np.dtype("<u2"), "uint_contents"),
        ("UINT32", np.dtype("<u4"), "uint_contents"),
        ("UINT64", np.dtype("<u8"), "uint64_contents"),
        ("INT8", np.dtype("i1"), "int_contents"),
        ("INT16", np.dtype("<i2"), "int_contents"),
        ("INT32", np.dtype("<i4"), "int_contents"),
        ("INT64", np.dtype("<i8"), "int64_contents"),
        ("FP16", np.dtype("<f2"), ""),
        ("FP32", np.dtype("<f4"), "fp32_contents"),
        ("FP64", np.dtype("<f8"), "fp64_contents"),
        ("BF16", np.dtype("<u2"), ""),
    )
    table = {name: Datatype(name, dtype, dtype.itemsize, field) for name, dtype, field in rows}
    table["BYTES"] = Datatype("BYTES", type_of_bytes, 0, "bytes_contents")
    return MappingProxyType(table)


DATATYPES: Final[Mapping[str, Datatype]] = _table()

# BF16 comes last in the table and shares its dtype with UINT16, which is what a plain uint16 array means.
_BY_DTYPE: Final[Mapping[np.dtype[Any], Datatype]] = MappingProxyType(
    {datatype.dtype: datatype for datatype in DATATYPES.values() if datatype.name not in ("BF16", "BYTES")}
)


def datatype_named(name: str, tensor: str) -> Datatype:
    """The datatype that `tensor` says it has."""
    found = DATATYPES.get(name)
    if found is None:
        raise InvalidRequest(f"tensor '{tensor}': unknown datatype '{name[:32]}'")
    return found


def datatype_of(array: np.ndarray[Any, Any], tensor: str) -> Datatype:
    """The datatype that NumPy's dtype stands for; strings and objects are BYTES, uint16 is UINT16 and never BF16."""
    if array.dtype.kind in "OSU":
        return DATATYPES["BYTES"]
    found = _BY_DTYPE.get(array.dtype.newbyteorder("<"))
    if found is None:
        raise InvalidRequest(f"tensor '{tensor}': no datatype of the protocol stands for {array.dtype}")
    return found
