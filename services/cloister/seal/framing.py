"""The outer form of a sealed message: everything before the ciphertext is authenticated as the exact bytes it is.

SealedRequest and SealedResponse are protobuf messages whose last field is the ciphertext. `split` insists on that: it
walks the top-level fields and returns what precedes the ciphertext's own bytes, which goes whole into the AEAD's
associated data. No bit of the message is then outside the seal, and a large ciphertext is neither parsed nor copied.
"""

from __future__ import annotations

from typing import Final

from cloister.errors import SealBroken

_LENGTH_DELIMITED: Final = 2
_MAX_VARINT_BYTES: Final = 5
_MAX_FIELDS: Final = 32
_MAX_HEAD_BYTES: Final = 64 << 10  # a header and sixteen recipients with openings take half of it


def head(fields: bytes, ciphertext_field: int, ciphertext_length: int) -> bytes:
    """Return serialised `fields` and the tag and length with which a ciphertext of this length begins."""
    return fields + bytes([ciphertext_field << 3 | _LENGTH_DELIMITED]) + varint(ciphertext_length)


def split(raw: bytes, ciphertext_field: int) -> tuple[bytes, bytes, memoryview]:
    """Take a sealed message apart.

    Returns:
        The serialised fields before the ciphertext; the same with the ciphertext's tag and length, for the associated
        data; and the ciphertext.

    Raises:
        SealBroken: Not length-delimited fields in ascending order, of which the ciphertext is the last.
    """
    position, previous = 0, 1
    for _ in range(_MAX_FIELDS):
        begin = position
        tag, position = _read_varint(raw, position)
        field, kind = tag >> 3, tag & 7
        length, position = _read_varint(raw, position)
        if kind != _LENGTH_DELIMITED or not previous <= field <= ciphertext_field or position > _MAX_HEAD_BYTES:
            break
        if field == ciphertext_field and position + length == len(raw):
            return raw[:begin], raw[:position], memoryview(raw)[position:]
        position, previous = position + length, field
    raise SealBroken


def varint(value: int) -> bytes:
    """Encode a non-negative integer as a base-128 varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(raw: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 7 * _MAX_VARINT_BYTES, 7):
        if position >= len(raw):
            break
        byte = raw[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise SealBroken
