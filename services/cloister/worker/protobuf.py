"""Protobuf messages read field by field (the encoding at protobuf.dev), without making anything of them.

Models are looked through this way before OpenVINO's parsers see them. Nothing is allocated by what a message says, and
what parsers would cut off (of a tag the bits from the 32nd on, of a number those from the 64th) is refused: with such a
bit a field is hidden from a reader that keeps it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from cloister.worker.refusals import refused

MAX_NUMBERS: Final = 1 << 16
"""Of one list; the longest that there are name the objects of a checkpoint."""
MAX_COUNT: Final = 1 << 40
_SIGN: Final = 1 << 63
_MAX_FIELD: Final = (1 << 29) - 1
_TAG_BYTES: Final = 5
_LONGEST_VARINT: Final = 10


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message, in order: varints as numbers, everything else as bytes.

    Raises:
        InvalidRequest: These bytes are not a message.
    """
    at, end = 0, len(message)
    while at < end:
        begin = at
        key, at = varint(message, at)
        number, wire = key >> 3, key & 7
        if not 0 < number <= _MAX_FIELD or at - begin > _TAG_BYTES:
            raise refused("not a whole protobuf message")
        if wire == 0:
            value, at = varint(message, at)
            yield number, value
            continue
        if wire == 2:
            size, at = varint(message, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise refused("not a whole protobuf message")
        if size > end - at:
            raise refused("not a whole protobuf message")
        yield number, message[at : at + size]
        at += size


def varint(message: memoryview, at: int) -> tuple[int, int]:
    """The number that begins at `at`, and where it ends.

    Raises:
        InvalidRequest: It does not end.
    """
    value = 0
    for shift in range(0, 7 * _LONGEST_VARINT, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80 and value >> 64 == 0:
            return value, at
    raise refused("not a whole protobuf message")


def messages(message: memoryview, number: int) -> Iterator[memoryview]:
    """The messages, strings or bytes in the field of this number.

    Raises:
        InvalidRequest: It holds something else.
    """
    for found, value in fields(message):
        if found == number:
            if not isinstance(value, memoryview):
                raise refused("a field of the model has another type than its format says")
            yield value


def only(message: memoryview, number: int) -> memoryview:
    """The message in the field of this number; empty if there is none.

    Parsers merge a message that is there twice, and what is in neither of the two may come of both.

    Raises:
        InvalidRequest: It is there more than once, or something else.
    """
    found = list(messages(message, number))
    if len(found) > 1:
        raise refused("a part of the model is there twice")
    return found[0] if found else memoryview(b"")


def text(message: memoryview, number: int) -> str:
    """The last string in the field of this number; empty if there is none.

    Raises:
        InvalidRequest: It is too long, or not UTF-8.
    """
    found = memoryview(b"")
    for found in messages(message, number):
        if len(found) > 4096:
            raise refused("a name in the model is too long")
    try:
        return str(found, "utf-8")
    except UnicodeDecodeError:
        raise refused("a name in the model is not UTF-8") from None


def numbers(message: memoryview, number: int) -> list[int]:
    """The signed whole numbers in the field of this number, packed or one by one.

    Raises:
        InvalidRequest: It is cut short, or there are too many.
    """
    values: list[int] = []
    for found, value in fields(message):
        if found != number:
            continue
        if isinstance(value, int):
            values.append(value)
        else:
            values += _packed(value)
        if len(values) > MAX_NUMBERS:
            raise refused("a list in the model is too long")
    return [value - (_SIGN << 1) if value & _SIGN else value for value in values]


def _packed(content: memoryview) -> Iterator[int]:
    if len(content) > MAX_NUMBERS * _LONGEST_VARINT:
        raise refused("a list in the model is too long")
    at = 0
    while at < len(content):
        value, at = varint(content, at)
        yield value


def elements(shape: Iterable[int]) -> int:
    """How many elements a constant of this shape has.

    Raises:
        InvalidRequest: More than a tensor may have, or the shape is not fixed.
    """
    count = 1
    for size in shape:
        if size < 0:
            raise refused("a constant has no fixed shape")
        count *= size
        if count > MAX_COUNT:  # before the product is a number of a million digits
            raise refused("a constant is too large")
    return count
