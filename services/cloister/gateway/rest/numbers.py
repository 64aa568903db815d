"""JSON's numbers as raw contents of tensors, and back: in pieces, so that no other request waits long for a large one.

Integers stay integers, and what a datatype cannot hold is refused: nothing wraps, and nothing is rounded but decimal
fractions. FP16 and BF16 have no word in JSON; the protocol's binary extension is theirs.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType
from typing import Any, Final

import msgspec

from cloister.contract import ELEMENT_BYTES, LENGTH_BYTES, MAX_RANK, check_shape
from cloister.errors import InvalidRequest

PIECE_BYTES: Final = 64 << 10
PIECE_ELEMENTS: Final = 8 << 10
SCAN_BYTES: Final = 1 << 20
CODES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "BOOL": "?",
        "INT8": "b",
        "INT16": "h",
        "INT32": "i",
        "INT64": "q",
        "UINT8": "B",
        "UINT16": "H",
        "UINT32": "I",
        "UINT64": "Q",
        "FP32": "f",
        "FP64": "d",
    }
)
"""Of `struct`, by datatype."""
_FLOATING: Final = frozenset({"FP32", "FP64"})
_FLOATS: Final = msgspec.json.Decoder(list[float])
_INTEGERS: Final = msgspec.json.Decoder(list[int])
_BLANK: Final = b" \t\r\n"
_BESIDE_STRUCTURE: Final = bytes(set(range(256)) - set(b"[],"))
_UNBRACKETED: Final = bytes.maketrans(b"[]", b"  ")
_MISPLACED: Final = re.compile(rb"[^\s\[,]\s*\[|\]\s*[^\s\],]")
LENGTH: Final = struct.Struct("<I")
"""Before each BYTES element in raw contents."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """A JSON array of numbers, nested or not, that has not been read yet: `text[start:stop]`."""

    text: bytes
    start: int
    stop: int

    def structure(self) -> bytes:
        """Its brackets and commas."""
        pieces = range(self.start, self.stop, SCAN_BYTES)
        return b"".join(
            self.text[at : min(at + SCAN_BYTES, self.stop)].translate(None, _BESIDE_STRUCTURE) for at in pieces
        )

    def pieces(self) -> Iterator[bytes]:
        """Yield its text, cut at commas."""
        at = self.start
        while at < self.stop:
            end = self.text.find(b",", at + PIECE_BYTES, self.stop)
            end = self.stop if end < 0 else end
            yield self.text[at:end]
            at = end + 1


def to_raw(data: Any, datatype: str, shape: tuple[int, ...], tensor: str) -> bytes:
    """The raw contents of a tensor.

    Args:
        data: What JSON had for it: a list, flat in row-major order or nested as the shape says, or `Numbers`.
        datatype: As the protocol spells it.
        shape: Of the tensor.
        tensor: Its name, for errors.

    Raises:
        InvalidRequest: There are more or fewer elements than the shape takes, or one that the datatype does not have.
    """
    if datatype not in ELEMENT_BYTES:
        raise InvalidRequest(f"tensor '{tensor}': unknown datatype '{datatype[:32]}'")
    if datatype not in CODES and datatype != "BYTES":
        raise InvalidRequest(f"tensor '{tensor}': JSON has no {datatype}; send its bytes with binary_data_size")
    check_shape(shape, tensor)
    if isinstance(data, Numbers):
        return _read(data, datatype, shape, tensor)
    if not isinstance(data, list):
        raise InvalidRequest(f"tensor '{tensor}': data is not an array")
    elements = _flat(data, shape, tensor)
    return _texts(elements, tensor) if datatype == "BYTES" else _packed(elements, datatype, tensor)


def to_json(raw: bytes, datatype: str, tensor: str) -> bytes:
    """The JSON array of a tensor's elements, flat.

    Raises:
        InvalidRequest: JSON has no word for them.
    """
    if datatype == "BYTES":
        return msgspec.json.encode(_strings(raw, tensor))
    return b"[" + b",".join(msgspec.json.encode(piece)[1:-1] for piece in _unpacked(raw, datatype, tensor)) + b"]"


def values_of(raw: bytes, datatype: str, tensor: str) -> Iterator[Any]:
    """Yield a tensor's elements as Python has them; raises as `to_json` does."""
    if datatype == "BYTES":
        return iter(_strings(raw, tensor))
    return chain.from_iterable(_unpacked(raw, datatype, tensor))


def _unpacked(raw: bytes, datatype: str, tensor: str) -> Iterator[tuple[Any, ...]]:
    """Yield a tensor's elements, so many at a time."""
    code, size = CODES.get(datatype), ELEMENT_BYTES.get(datatype, 1)
    if code is None:
        raise InvalidRequest(f"output '{tensor}': JSON has no {datatype}; ask for it with binary_data")
    if len(raw) % size:
        raise InvalidRequest(f"output '{tensor}': its contents end within an element")
    for first in range(0, len(raw) // size, PIECE_ELEMENTS):
        count = min(PIECE_ELEMENTS, len(raw) // size - first)
        values = struct.unpack_from(f"<{count}{code}", raw, first * size)
        if datatype in _FLOATING and not all(map(math.isfinite, values)):
            raise InvalidRequest(f"output '{tensor}': JSON has no infinity and no NaN; ask for it with binary_data")
        yield values


def shape_of(data: Any) -> tuple[int, ...]:
    """The shape of nested arrays, by their first rows; () of what is none. That all rows agree, `to_raw` sees.

    Raises:
        InvalidRequest: They are nested deeper than any tensor is.
    """
    if isinstance(data, Numbers):
        return _shape_of_structure(data)
    sizes: list[int] = []
    while isinstance(data, list):
        sizes.append(len(data))
        data = data[0] if data else None
    return tuple(sizes)


def _shape_of_structure(numbers: Numbers) -> tuple[int, ...]:
    structure = numbers.structure()
    sizes: list[int] = []
    rank = len(structure) - len(structure.lstrip(b"["))
    if rank > MAX_RANK:  # each level is another walk over all of it
        raise InvalidRequest(f"an array is nested {rank} deep, and a tensor has at most {MAX_RANK} dimensions")
    for _ in range(rank):
        close = structure.find(b"]")
        row = structure[structure.rfind(b"[", 0, max(0, close)) : close + 1]
        sizes.append(row.count(b",") + 1)
        structure = structure.replace(row, b"")  # what is left is one level less deep
    return tuple(reversed(sizes))


def _read(numbers: Numbers, datatype: str, shape: tuple[int, ...], tensor: str) -> bytes:
    if datatype not in CODES or datatype == "BOOL":
        raise InvalidRequest(f"tensor '{tensor}': numbers are no {datatype}")
    count, structure = math.prod(shape), numbers.structure()
    flat = structure.count(b"[") == 1
    if not (_is_flat(structure, count) if flat else _is_nested(structure, shape)):
        raise _unfit(structure.count(b",") + 1, count, tensor)
    if not count:
        if numbers.text[numbers.start : numbers.stop].translate(None, b"[]," + _BLANK):
            raise _unfit(1, count, tensor)
        return b""
    raw, elements = [], 0
    decoder = _FLOATS if datatype in _FLOATING else _INTEGERS
    for piece in numbers.pieces():
        if not flat and _MISPLACED.search(piece):
            raise InvalidRequest(f"tensor '{tensor}': data is not JSON")
        inside = piece.translate(_UNBRACKETED)
        try:
            values = decoder.decode(b"[" + inside + b"]")
        except (msgspec.MsgspecError, ValueError):
            raise _foreign(datatype, tensor) from None
        elements += len(values)
        raw.append(_pack(values, datatype, tensor))
    if elements != count:
        raise _unfit(elements, count, tensor)
    return b"".join(raw)


def _is_flat(structure: bytes, count: int) -> bool:
    return len(structure) == 1 + max(1, count) and structure == b"[" + b"," * max(0, count - 1) + b"]"


def _is_nested(structure: bytes, shape: tuple[int, ...]) -> bool:
    length = 0
    for size in reversed(shape):
        length = 2 + size * length + max(0, size - 1)
    if length != len(structure):  # nothing large is made for a shape that is only said
        return False
    wanted = b""
    for size in reversed(shape):
        wanted = b"[" + b",".join([wanted] * size) + b"]"
    return structure == wanted


def _flat(data: list[Any], shape: tuple[int, ...], tensor: str) -> list[Any]:
    """The elements in row-major order, of a flat list or of one nested as the shape says."""
    if list not in set(map(type, data)):
        if len(data) != math.prod(shape):
            raise _unfit(len(data), math.prod(shape), tensor)
        return data
    level: list[Any] = [data]
    for size in shape:
        if any(type(each) is not list or len(each) != size for each in level):
            raise InvalidRequest(f"tensor '{tensor}': data is not nested as the shape {list(shape)} says")
        level = list(chain.from_iterable(level))
    return level


def _packed(elements: Sequence[Any], datatype: str, tensor: str) -> bytes:
    kinds = {bool} if datatype == "BOOL" else {int, float} if datatype in _FLOATING else {int}
    if not kinds.issuperset(map(type, elements)) or (datatype in _FLOATING and not _finite(elements)):
        raise _foreign(datatype, tensor)
    return _pack(elements, datatype, tensor)


def _finite(elements: Sequence[Any]) -> bool:
    try:
        return all(map(math.isfinite, elements))
    except OverflowError:
        return False


def _pack(values: Sequence[Any], datatype: str, tensor: str) -> bytes:
    try:
        return struct.pack(f"<{len(values)}{CODES[datatype]}", *values)
    except (struct.error, OverflowError):
        raise _foreign(datatype, tensor) from None


def _texts(elements: Sequence[Any], tensor: str) -> bytes:
    if not {str}.issuperset(map(type, elements)):
        raise _foreign("BYTES", tensor)
    parts: list[bytes] = []
    for element in elements:
        encoded = element.encode()
        parts += (LENGTH.pack(len(encoded)), encoded)
    return b"".join(parts)


def _strings(raw: bytes, tensor: str) -> list[str]:
    found: list[str] = []
    at = 0
    while at < len(raw):
        start = at + LENGTH_BYTES
        at = start + int.from_bytes(raw[at:start], "little")
        if at > len(raw):
            raise InvalidRequest(f"output '{tensor}': its contents end within an element")
        try:
            found.append(raw[start:at].decode())
        except UnicodeDecodeError:
            raise InvalidRequest(f"output '{tensor}': its bytes are no text; ask for it with binary_data") from None
    return found


def _unfit(elements: int, count: int, tensor: str) -> InvalidRequest:
    return InvalidRequest(f"tensor '{tensor}': {elements} elements, or not nested as its shape says; it takes {count}")


def _foreign(datatype: str, tensor: str) -> InvalidRequest:
    return InvalidRequest(f"tensor '{tensor}': an element is no {datatype}")
