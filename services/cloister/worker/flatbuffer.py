"""FlatBuffers read table by table (flatbuffers.dev, "Internals"), every offset checked before it is followed.

Nothing is allocated by what a buffer says, and following offsets in a circle is up to the caller not to do.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cloister.worker.refusals import refused

MAX_ENTRIES: Final = 1_000_000
MAX_STEPS: Final = 10_000_000
"""Entries of all lists that are looked at: tables may overlap, and a short buffer may hold a trillion of them."""


class Steps:
    """How much of a buffer may still be looked at."""

    def __init__(self, left: int) -> None:
        self._left = left

    def take(self, count: int) -> None:
        """Spend some.

        Raises:
            InvalidRequest: There are not as many left.
        """
        self._left -= count
        if self._left < 0:
            raise refused("the model has too many parts")


@dataclass(frozen=True, slots=True)
class Table:
    """A table that begins at `at` in `raw`."""

    raw: memoryview
    at: int
    steps: Steps

    def number(self, field: int, form: str, default: int = 0) -> int:
        """The number in a field, of the type that `form` (of `struct`) says.

        Raises:
            InvalidRequest: It lies outside the buffer.
        """
        where = self._field(field)
        return default if where is None else _number(self.raw, where, "<" + form)

    def table(self, field: int) -> Table | None:
        """The table that a field points to, if it is there."""
        where = self._target(field)
        return None if where is None else Table(self.raw, where, self.steps)

    def tables(self, field: int) -> Iterator[Table]:
        """The tables in a field."""
        for where in self._entries(field, 4):
            yield Table(self.raw, where + _number(self.raw, where, "<I"), self.steps)

    def numbers(self, field: int, form: str) -> list[int]:
        """The numbers in a field."""
        return [_number(self.raw, where, "<" + form) for where in self._entries(field, struct.calcsize("<" + form))]

    def content(self, field: int) -> memoryview:
        """The bytes in a field; none if it is not there.

        Raises:
            InvalidRequest: They lie outside the buffer.
        """
        where = self._target(field)
        if where is None:
            return self.raw[:0]
        size = _number(self.raw, where, "<I")
        if size > len(self.raw) - where - 4:
            raise refused("a part of the model lies outside it")
        return self.raw[where + 4 : where + 4 + size]

    def text(self, field: int) -> str:
        """The string in a field.

        Raises:
            InvalidRequest: It is too long, or not UTF-8.
        """
        content = self.content(field)
        if len(content) > 4096:
            raise refused("a name in the model is too long")
        try:
            return str(content, "utf-8")
        except UnicodeDecodeError:
            raise refused("a name in the model is not UTF-8") from None

    def _field(self, field: int) -> int | None:
        begin = self.at - _number(self.raw, self.at, "<i")
        if 4 + 2 * field >= _number(self.raw, begin, "<H"):
            return None
        offset = _number(self.raw, begin + 4 + 2 * field, "<H")
        return self.at + offset if offset else None

    def _target(self, field: int) -> int | None:
        where = self._field(field)
        return None if where is None else where + _number(self.raw, where, "<I")

    def _entries(self, field: int, size_bytes: int) -> range:
        where = self._target(field)
        if where is None:
            return range(0)
        count = _number(self.raw, where, "<I")
        if count > MAX_ENTRIES or count * size_bytes > len(self.raw) - where - 4:
            raise refused("a list in the model is too long, or lies outside it")
        self.steps.take(count)
        return range(where + 4, where + 4 + count * size_bytes, size_bytes)


def root(raw: memoryview, identifier: bytes) -> Table:
    """The table that a buffer begins with.

    Raises:
        InvalidRequest: It has another identifier.
    """
    if bytes(raw[4:8]) != identifier:
        raise refused("not a model of the format that its name says")
    return Table(raw, _number(raw, 0, "<I"), Steps(MAX_STEPS))


def _number(raw: memoryview, at: int, form: str) -> int:
    if not 0 <= at <= len(raw) - struct.calcsize(form):
        raise refused("a part of the model lies outside it")
    value: int = struct.unpack_from(form, raw, at)[0]
    return value
