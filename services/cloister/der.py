"""The little DER that certificates make us read for ourselves (ITU-T X.690).

`cryptography` parses certificates, but hands Intel's SGX extension over as bytes, refuses what older Gramine writes,
and calls its own `hazmat.asn1` unstable. We need nested sequences of object identifiers and small values, so this
accepts only that: low tags, definite minimal lengths, minimal integers.
"""

from __future__ import annotations

from typing import Final

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
OBJECT_IDENTIFIER: Final = 0x06
ENUMERATED: Final = 0x0A
UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18
SEQUENCE: Final = 0x30


def contents(raw: bytes, tag: int) -> bytes:
    """Return what is inside the one value with this tag that `raw` consists of.

    Raises:
        ValueError: Another tag, bytes left over, or not DER.
    """
    found, inside, end = _value(raw, 0)
    if found != tag or end != len(raw):
        raise ValueError("not the DER value that was expected")
    return inside


def elements(sequence_contents: bytes) -> list[tuple[int, bytes]]:
    """Return tag and contents of each value in the contents of a SEQUENCE.

    Raises:
        ValueError: Not DER.
    """
    values: list[tuple[int, bytes]] = []
    position = 0
    while position < len(sequence_contents):
        tag, inside, position = _value(sequence_contents, position)
        values.append((tag, inside))
    return values


def encoded(tag: int, inside: bytes) -> bytes:
    """Return the value with this tag and these contents, of less than 64 KiB: the reverse of `contents`."""
    size = len(inside)
    if size < 0x80:
        return bytes([tag, size]) + inside
    octets = size.to_bytes(1 if size < 0x100 else 2, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + inside


def unsigned(inside: bytes) -> int:
    """Return the value of the contents of an INTEGER or ENUMERATED, which must not be negative.

    Raises:
        ValueError: Empty, negative, or longer than needed.
    """
    if not inside or inside[0] & 0x80 or (len(inside) > 1 and inside[0] == 0 and not inside[1] & 0x80):
        raise ValueError("not a minimal non-negative DER integer")
    return int.from_bytes(inside, "big")


def boolean(inside: bytes) -> bool:
    """Return the value of the contents of a BOOLEAN.

    Raises:
        ValueError: Not one of the two encodings DER has.
    """
    if inside not in (b"\x00", b"\xff"):
        raise ValueError("not a DER boolean")
    return inside == b"\xff"


def _value(raw: bytes, position: int) -> tuple[int, bytes, int]:
    if position + 2 > len(raw):
        raise ValueError("a DER value ends too early")
    tag, length = raw[position], raw[position + 1]
    position += 2
    if tag & 0x1F == 0x1F:
        raise ValueError("a DER tag is too high")
    if length >= 0x80:
        count = length & 0x7F
        octets = raw[position : position + count]
        length = int.from_bytes(octets, "big")
        if not 1 <= count <= 2 or len(octets) != count or octets[0] == 0 or length < 0x80:
            raise ValueError("a DER length is not minimal, or too long")
        position += count
    end = position + length
    if end > len(raw):
        raise ValueError("a DER value ends too early")
    return tag, raw[position:end], end
