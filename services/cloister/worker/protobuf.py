"""Protobuf messages read field by field (the encoding at protobuf.dev), without making anything of them.

Models are looked through this way before OpenVINO's parsers see them. Nothing is allocated by what a message says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cloister.worker.refusals import refused

_SIGN: Final = 1 << 63


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message, in order: varints as numbers, everything else as bytes.

    Raises:
        InvalidRequest: These bytes are not a message.
    """
    at, end = 0, len(message)
    while at < end:
        key, at = varint(message, at)
        number, wire = key >> 3, key & 7
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
        if number == 0 or size > end - at:
            raise refused("not a whole protobuf message")
        yield number, message[at : at + size]
        at += size


def varint(message: memoryview, at: int) -> tuple[int, int]:
    """The number that begins at `at`, and where it ends.

    Raises:
        InvalidRequest: It does not end.
    """
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
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
        InvalidRequest: It is cut short.
    """
    values: list[int] = []
    for found, value in fields(message):
        if found != number:
            continue
        if isinstance(value, int):
            values.append(value)
            continue
        at = 0
        while at < len(value):
            each, at = varint(value, at)
            values.append(each)
    return [value - (_SIGN << 1) if value & _SIGN else value for value in values]
