"""Rows of text: JSON lines, an object in each, and CSV with a line of names. What cannot be read is a failed row."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

from cloister.cli.batch.columns import Binding, bind
from cloister.cli.batch.fitting import fitted_rows, inner_shape, wanted_dtype
from cloister.cli.batch.reading import Piece, Reading, Source
from cloister.cli.batch.spans import Fitted
from cloister.cli.batch.text_values import cell_of, row_of
from cloister.cli.failures import ExitCode, Stop
from cloister.contract import TensorSpec
from cloister.errors import InvalidRequest
from cloister.oip.contents import Array

MAX_LINE_BYTES: Final = 64 << 20
Row = Mapping[str, object] | InvalidRequest
"""Values by column, or why there are none."""


def open_text(path: Path, reading: Reading) -> Source:
    """The rows of a `.jsonl` or `.csv` file; raises Stop as `sources.open_source`."""
    for spec in reading.contract.inputs:
        wanted_dtype(spec)
    return JsonRows(path, reading) if path.suffix.lower() == ".jsonl" else CsvRows(path, reading)


class JsonRows:
    """A line is an object, with a value for each input: a number, a text, or lists of them. Empty lines are none."""

    def __init__(self, path: Path, reading: Reading) -> None:
        self._path, self._specs = path, reading.contract.inputs
        named: tuple[str, ...] | None = None
        self.rows = 0
        for line in _lines(path):
            self.rows += 1
            if named is None and isinstance(row := parsed(line), Mapping):
                named = tuple(row)
        self._binding: Binding = {}
        if named is not None:
            self._binding = bind(reading.contract, named, reading.columns, f"the first row of {path}")

    def pieces(self, size: int) -> Iterator[Piece]:
        """See `sources.Source`."""
        lines = _lines(self._path)
        while batch := list(islice(lines, size)):
            yield len(batch), partial(self._read, batch)

    def _read(self, lines: list[bytes]) -> Mapping[str, Fitted]:
        rows = [parsed(line) for line in lines]
        return {spec.name: fitted_rows(spec, [self._value(row, spec) for row in rows]) for spec in self._specs}

    def _value(self, row: Row, spec: TensorSpec) -> Array | InvalidRequest:
        if isinstance(row, InvalidRequest):
            return row
        parts = self._binding[spec.name]
        missing = [column for column in parts if row.get(column) is None]
        if missing:
            return InvalidRequest(f"'{missing[0][:64]}' is missing", reason="row.missing")
        return _row(row[parts[0]] if len(parts) == 1 else [row[column] for column in parts], spec)


class CsvRows:
    """Cells of UTF-8 text after a line of column names, separated by commas and quoted as RFC 4180 has it."""

    def __init__(self, path: Path, reading: Reading) -> None:
        self._path, self._specs = path, reading.contract.inputs
        rows = self._records()
        self._names = next(rows, [])
        if not self._names:
            raise Stop(f"{path} is empty; its first line has the names of the columns", ExitCode.USAGE)
        self._binding: Binding = bind(reading.contract, self._names, reading.columns, str(path))
        self.rows = sum(1 for _ in rows)

    def pieces(self, size: int) -> Iterator[Piece]:
        """See `sources.Source`."""
        rows = self._records()
        next(rows, None)
        while batch := list(islice(rows, size)):
            yield len(batch), partial(self._read, batch)

    def _records(self) -> Iterator[list[str]]:
        try:
            with self._path.open(newline="", encoding="utf-8-sig") as file:
                yield from (record for record in csv.reader(file, strict=True) if record)
        except (csv.Error, UnicodeDecodeError) as error:
            raise Stop(f"{self._path} cannot be read as CSV in UTF-8: {error}") from error

    def _read(self, records: list[list[str]]) -> Mapping[str, Fitted]:
        return {spec.name: fitted_rows(spec, [self._value(row, spec) for row in records]) for spec in self._specs}

    def _value(self, record: list[str], spec: TensorSpec) -> Array | InvalidRequest:
        if len(record) != len(self._names):
            return InvalidRequest(
                f"the row has {len(record)} cells, and there are {len(self._names)} columns", reason="row.malformed"
            )
        parts = self._binding[spec.name]
        try:
            cells = [cell_of(record[self._names.index(column)], spec) for column in parts]
        except InvalidRequest as error:
            return error
        inner = inner_shape(spec)
        return _row(cells[0] if len(cells) == 1 and not inner else cells, spec)


def parsed(line: bytes) -> Row:
    """A line of JSON, or why it is no row."""
    try:
        row = json.loads(line, object_pairs_hook=_object, parse_constant=str)
    except (ValueError, RecursionError):
        return InvalidRequest("the line is not JSON", reason="row.malformed")
    if not isinstance(row, dict):
        return InvalidRequest("the line is no JSON object", reason="row.malformed")
    return row


def _row(value: object, spec: TensorSpec) -> Array | InvalidRequest:
    try:
        return row_of(value, spec)
    except InvalidRequest as error:
        return error


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE_BYTES):
            if len(line) == MAX_LINE_BYTES:
                raise Stop(f"{path} has a line of more than {MAX_LINE_BYTES >> 20} MiB")
            if line.strip():
                yield line


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError("a name comes twice")
        found[name] = value
    return found
