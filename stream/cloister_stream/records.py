"""Records: one line of a file each, and the inputs of one request.

A line of JSON is an object: the key's member names the record, every other member is an input by name, as nested
lists. A line of a CSV file is one row for a model with one input: the key's column names the record, the others are
the row, in order. A line that is neither is no reason to stop: whoever reads it gets an `InvalidRequest` for that line.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np

from cloister.contract import ANY_SIZE, ModelContract
from cloister.errors import InvalidRequest
from cloister.oip.casting import cast
from cloister.oip.contents import Array

Key = str | int
MALFORMED: Final = "record.malformed"
_NOT_FINITE: Final = frozenset({"NaN", "Infinity", "-Infinity"})


@dataclass(frozen=True, slots=True)
class Record:
    """One record.

    Attributes:
        key: What names it, as it was written.
        values: Nested lists by input name, not yet held against the model.
    """

    key: Key
    values: Mapping[str, Any] = field(repr=False)


class Format(Protocol):
    """How a line is read."""

    def read(self, line: str) -> Record | None:
        """The record, or None where the line holds none; raises InvalidRequest (`record.malformed`)."""


@dataclass(frozen=True, slots=True)
class JsonLines:
    """One object a line; an empty line is none.

    Attributes:
        key: The member that names a record.
    """

    key: str

    def read(self, line: str) -> Record | None:
        """See `Format`."""
        if not line.strip():
            return None
        try:
            members = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _malformed("the line is not JSON") from error
        if not isinstance(members, dict):
            raise _malformed("the line is not a JSON object")
        key = members.pop(self.key, None)
        if not isinstance(key, Key) or isinstance(key, bool):
            raise _malformed(f"no member '{self.key}' names the record, as a string or a whole number")
        return Record(key, members)


@dataclass(frozen=True, slots=True)
class CsvLines:
    """One row a line, under a header that every file begins with.

    Attributes:
        key: The column that names a record.
        columns: Of the header, in order.
        tensor: The model's only input.
    """

    key: str
    columns: Sequence[str]
    tensor: str

    def read(self, line: str) -> Record | None:
        """See `Format`; a line that repeats the header holds no record."""
        if not line.strip():
            return None
        cells = cells_of(line)
        if cells == list(self.columns):
            return None
        if len(cells) != len(self.columns):
            raise _malformed(f"{len(cells)} columns, the header has {len(self.columns)}")
        named = self.columns.index(self.key)
        try:
            row = [float(cell) for cell in (*cells[:named], *cells[named + 1 :])]
        except ValueError:
            raise _malformed("a cell is not a number") from None
        return Record(cells[named], {self.tensor: [row]})


def cells_of(line: str) -> list[str]:
    """The cells of one line of CSV; raises InvalidRequest (`record.malformed`)."""
    try:
        (cells,) = csv.reader([line], strict=True)
    except (csv.Error, ValueError):
        raise _malformed("the line is not a row of CSV") from None
    return cells


def format_of(contract: ModelContract, key: str, header: str | None) -> Format:
    """How the lines of these files are read.

    Args:
        contract: Of the model.
        key: What names a record.
        header: The first line of the CSV files; None where they hold JSON lines.

    Raises:
        InvalidRequest: CSV for a model with several inputs, or a header without the key's column.
    """
    if header is None:
        return JsonLines(key)
    columns = cells_of(header)
    if key not in columns:
        raise InvalidRequest(f"the header has no column '{key}', which would name the records")
    if len(contract.inputs) != 1:
        raise InvalidRequest(f"the model has {len(contract.inputs)} inputs, and CSV has rows for one; take JSON lines")
    return CsvLines(key, tuple(columns), contract.inputs[0].name)


def arrays_of(record: Record, contract: ModelContract) -> dict[str, Array]:
    """The inputs of the record's request.

    Where all inputs lack the batch axis, they get one of 1.

    Raises:
        InvalidRequest: An input is unknown or missing, or does not fit the model; the message names it.
    """
    known = [spec.name for spec in contract.inputs]
    unknown = [name for name in record.values if name not in known]
    if unknown:
        raise InvalidRequest(f"the model has no input '{unknown[0][:64]}'; its inputs are {', '.join(known)}")
    arrays = {}
    for spec in contract.inputs:
        if spec.name not in record.values:
            raise InvalidRequest(f"tensor '{spec.name}' is missing; the model's inputs are {', '.join(known)}")
        arrays[spec.name] = cast(_array(record.values[spec.name], spec.name), spec)
    if all(_lacks_batch(arrays[spec.name], spec.shape) for spec in contract.inputs):
        arrays = {name: array[np.newaxis] for name, array in arrays.items()}
    for spec in contract.inputs:
        spec.check(spec.datatype, arrays[spec.name].shape)
    return arrays


def _lacks_batch(array: Array, shape: tuple[int, ...] | None) -> bool:
    return shape is not None and shape[:1] == (ANY_SIZE,) and array.ndim == len(shape) - 1


def _array(values: Any, name: str) -> Array:
    try:
        array = np.asarray(values)
        if array.dtype.kind == "U" and _NOT_FINITE.issuperset(_words(values)):
            array = array.astype(np.float64)  # JSON has no numbers for them
    except (ValueError, OverflowError, RecursionError) as error:
        raise InvalidRequest(f"tensor '{name}': its lists are of different lengths") from error
    if array.dtype.kind not in "biufU":
        raise InvalidRequest(f"tensor '{name}': holds something that is no number")
    return array


def _words(values: Any) -> set[str]:
    """The strings in nested lists."""
    if isinstance(values, list):
        return {word for value in values for word in _words(value)}
    return {values} if isinstance(values, str) else set()


def _malformed(message: str) -> InvalidRequest:
    return InvalidRequest(message, reason=MALFORMED)
