"""Rows of NumPy's files: `.npy` for a model with one input, `.npz` with an array by each input's name."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from cloister.cli.batch.columns import Binding, bind, joined, value_spec
from cloister.cli.batch.fitting import check_dtype, check_inner, fit
from cloister.cli.batch.reading import Piece, Reading, Source
from cloister.cli.batch.spans import Fitted
from cloister.cli.failures import ExitCode, Stop
from cloister.contract import TensorSpec
from cloister.errors import InvalidRequest
from cloister.oip.contents import Array


def open_arrays(path: Path, reading: Reading) -> Source:
    """The rows of an `.npy` or `.npz` file; raises Stop as `sources.open_source`."""
    try:
        return NpyRows(path, reading) if path.suffix.lower() == ".npy" else NpzRows(path, reading)
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise Stop(f"{path} is no {path.suffix} file that can be read: {' '.join(str(error).split())}") from error


class NpyRows:
    """The first axis of one array, which stays on the disk."""

    def __init__(self, path: Path, reading: Reading) -> None:
        if len(reading.contract.inputs) != 1:
            names = ", ".join(spec.name for spec in reading.contract.inputs)
            raise Stop(f"an .npy file holds one array, and the model takes {names}; give an .npz with each by name")
        if reading.columns:
            raise Stop("an .npy file has no columns; leave out --column", ExitCode.USAGE)
        self._array: Array = np.lib.format.open_memmap(path, mode="r")
        self._spec, self._rounding = reading.contract.inputs[0], reading.rounding
        _check(self._array.shape, self._array.dtype, self._spec, str(path), rounding=self._rounding)
        self.rows = len(self._array)

    def pieces(self, size: int) -> Iterator[Piece]:
        """See `sources.Source`."""
        for first in range(0, self.rows, size):
            rows = min(size, self.rows - first)
            yield rows, partial(self._read, first, rows)

    def _read(self, first: int, rows: int) -> Mapping[str, Fitted]:
        values = np.array(self._array[first : first + rows], order="C", subok=False)
        return {self._spec.name: fit(values, self._spec, rounding=self._rounding)}


class NpzRows:
    """The first axis of several arrays, read side by side from their archive."""

    def __init__(self, path: Path, reading: Reading) -> None:
        self._path, self._reading = path, reading
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
            self._binding: Binding = bind(reading.contract, names, reading.columns, str(path))
            used = dict.fromkeys(column for parts in self._binding.values() for column in parts)
            self._headers = {column: _header(archive, column) for column in used}
        for spec in reading.contract.inputs:
            self._check(spec)
        counts = {shape[0] for shape, _ in self._headers.values()}
        if len(counts) != 1:
            raise Stop(f"the arrays of {path} have different numbers of rows: {', '.join(map(str, sorted(counts)))}")
        (self.rows,) = counts

    def pieces(self, size: int) -> Iterator[Piece]:
        """See `sources.Source`."""
        try:
            with zipfile.ZipFile(self._path) as archive, ExitStack() as stack:
                members = {column: stack.enter_context(_opened(archive, column)) for column in self._headers}
                for first in range(0, self.rows, size):
                    rows = min(size, self.rows - first)
                    raw = {column: self._taken(column, member, rows) for column, member in members.items()}
                    yield rows, partial(self._read, raw, rows)
        except (zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
            raise Stop(f"{self._path} cannot be read on: {' '.join(str(error).split())}") from error

    def _check(self, spec: TensorSpec) -> None:
        parts = self._binding[spec.name]
        for column in parts:
            shape, dtype = self._headers[column]
            wanted = spec if len(parts) == 1 else value_spec(spec)
            _check(shape, dtype, wanted, f"the array '{column}'", rounding=self._reading.rounding)

    def _taken(self, column: str, member: IO[bytes], rows: int) -> bytes:
        shape, dtype = self._headers[column]
        size_bytes = rows * int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        raw = member.read(size_bytes)
        if len(raw) != size_bytes:
            raise EOFError(f"the array '{column}' breaks off")
        return raw

    def _read(self, raw: Mapping[str, bytes], rows: int) -> Mapping[str, Fitted]:
        arrays: dict[str, Array] = {}
        for column, content in raw.items():
            shape, dtype = self._headers[column]
            arrays[column] = np.frombuffer(content, dtype).reshape(rows, *shape[1:])
        return {spec.name: self._fitted(spec, arrays) for spec in self._reading.contract.inputs}

    def _fitted(self, spec: TensorSpec, arrays: Mapping[str, Array]) -> Fitted:
        parts, rounding = self._binding[spec.name], self._reading.rounding
        if len(parts) == 1:
            return fit(arrays[parts[0]], spec, rounding=rounding)
        return joined(spec, [fit(arrays[column], value_spec(spec), rounding=rounding) for column in parts])


def _opened(archive: zipfile.ZipFile, column: str) -> IO[bytes]:
    """A member, at its first row."""
    member = archive.open(f"{column}.npy")
    _read_header(member)
    return member


def _header(archive: zipfile.ZipFile, column: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with archive.open(f"{column}.npy") as member:
        shape, fortran, dtype = _read_header(member)
    if fortran and len(shape) > 1:
        raise Stop(f"the array '{column}' lies column by column; save it in C order: np.ascontiguousarray")
    return shape, dtype


def _read_header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(member)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"an array of the format {version[0]}.{version[1]}")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(member)
    return shape, fortran, dtype


def _check(shape: tuple[int, ...], dtype: np.dtype[Any], spec: TensorSpec, where: str, *, rounding: bool) -> None:
    if dtype.hasobject:
        raise Stop(f"{where} holds Python objects, which are not read from files")
    if not shape:
        raise Stop(f"{where} is a single value; its first axis has to be that of rows")
    check_dtype(dtype, spec, where, rounding=rounding)
    try:
        check_inner(shape[1:], spec)
    except InvalidRequest as error:
        raise Stop(f"{where} does not fit the model: {error}") from error
