"""Rows of Parquet: numbers, truth values, texts, bytes, and lists of numbers, which are read a job at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cloister.cli.batch.columns import Binding, bind, joined, value_spec
from cloister.cli.batch.fitting import check_dtype, check_inner, fit, fitted_rows, inner_shape, shown, wanted_dtype
from cloister.cli.batch.reading import Piece, Reading
from cloister.cli.batch.spans import Fitted
from cloister.cli.failures import Stop
from cloister.contract import ANY_SIZE, TensorSpec
from cloister.errors import InvalidRequest
from cloister.oip.contents import Array


class ParquetRows:
    """The rows of a Parquet file; see `sources.Source`."""

    def __init__(self, path: Path, reading: Reading) -> None:
        self._path, self._reading = path, reading
        try:
            with pq.ParquetFile(path) as file:
                self.rows: int = file.metadata.num_rows
                schema = file.schema_arrow
        except (pa.ArrowException, OSError) as error:
            raise Stop(f"{path} is no Parquet file that can be read: {_said(error)}") from error
        self._binding: Binding = bind(reading.contract, schema.names, reading.columns, str(path))
        self._used = list(dict.fromkeys(column for parts in self._binding.values() for column in parts))
        for spec in reading.contract.inputs:
            parts = self._binding[spec.name]
            for column in parts:
                wanted = spec if len(parts) == 1 else value_spec(spec)
                _check(schema.field(column).type, wanted, f"the column '{column}'", rounding=reading.rounding)

    def pieces(self, size: int) -> Iterator[Piece]:
        """See `sources.Source`."""
        waiting: list[pa.RecordBatch] = []
        try:
            with pq.ParquetFile(self._path) as file:
                for batch in file.iter_batches(batch_size=size, columns=self._used):
                    waiting.append(batch)
                    while sum(map(len, waiting)) >= size:
                        table = pa.Table.from_batches(waiting)
                        yield size, partial(self._read, table.slice(0, size))
                        waiting = table.slice(size).to_batches()
        except (pa.ArrowException, OSError) as error:
            raise Stop(f"{self._path} cannot be read on: {_said(error)}") from error
        if rest := sum(map(len, waiting)):
            yield rest, partial(self._read, pa.Table.from_batches(waiting))

    def _read(self, table: pa.Table) -> Mapping[str, Fitted]:
        return {spec.name: self._fitted(spec, table) for spec in self._reading.contract.inputs}

    def _fitted(self, spec: TensorSpec, table: pa.Table) -> Fitted:
        parts, rounding = self._binding[spec.name], self._reading.rounding
        columns = [_one(table.column(column)) for column in parts]
        if len(parts) == 1:
            return fit_column(columns[0], spec, rounding=rounding)
        return joined(spec, [fit_column(column, value_spec(spec), rounding=rounding) for column in columns])


def fit_column(column: pa.Array, spec: TensorSpec, *, rounding: bool) -> Fitted:
    """The rows of one column as an input; a row with a null anywhere fails (`row.missing`)."""
    if not _is_list(column.type):
        valid = column.is_valid().to_numpy(zero_copy_only=False)
        values = _numpy(column if column.null_count == 0 else _filled(column))
        fitted = fit(values, spec, rounding=rounding)
        missing = {int(place): _missing(spec) for place in np.flatnonzero(~valid)}
        return Fitted(fitted.array, {**fitted.failures, **missing})
    even = _even(column, spec)
    if even is not None:
        return fit(even, spec, rounding=rounding)
    return fitted_rows(spec, [_row(scalar, spec, rounding=rounding) for scalar in column])


def _even(column: pa.Array, spec: TensorSpec) -> Array | None:
    """All rows at once, where they are flat lists without nulls, each as long as the input takes."""
    inner = inner_shape(spec)
    leaves = column.flatten()
    if column.null_count or _is_list(leaves.type) or leaves.null_count or ANY_SIZE in inner:
        return None
    lengths = np.unique(pc.list_value_length(column).to_numpy(zero_copy_only=False))
    if lengths.tolist() != [int(np.prod(inner, dtype=np.int64))]:
        return None
    return _numpy(leaves).reshape(len(column), *inner)


def _row(scalar: Any, spec: TensorSpec, *, rounding: bool) -> Array | InvalidRequest:
    try:
        array = _nested(scalar.values if scalar.is_valid else None, spec)
        inner = inner_shape(spec)
        if array.ndim == 1 and len(inner) > 1 and array.size == np.prod(inner, dtype=np.int64):
            array = array.reshape(inner)
        check_inner(array.shape, spec)
    except InvalidRequest as error:
        return error
    fitted = fit(array[np.newaxis], spec, rounding=rounding)
    return fitted.failures.get(0) or np.asarray(fitted.array[0])


def _nested(values: pa.Array | None, spec: TensorSpec) -> Array:
    if values is None or values.null_count:
        raise _missing(spec)
    if not _is_list(values.type):
        return _numpy(values)
    rows = [_nested(scalar.values, spec) for scalar in values]
    if len({row.shape for row in rows}) > 1:
        raise InvalidRequest(f"the input '{spec.name}' has lists of several lengths in one row", reason="row.shape")
    return np.stack(rows) if rows else np.zeros((0,) * 2)


def _check(kind: pa.DataType, spec: TensorSpec, where: str, *, rounding: bool) -> None:
    """Raise Stop for a type that the input cannot be made of."""
    leaf, depth = _stored(kind), 0
    while _is_list(leaf):
        leaf, depth = leaf.value_type, depth + 1
    inner = inner_shape(spec)
    flat = depth == 1 and len(inner) > 1 and ANY_SIZE not in inner
    if depth != len(inner) and not flat:
        raise Stop(f"{where} is {kind}, and the input '{spec.name}' takes rows of {shown(inner)}")
    check_dtype(_dtype(leaf, where), spec, where, rounding=rounding)
    wanted_dtype(spec)


def _dtype(kind: pa.DataType, where: str) -> np.dtype[Any]:
    types = pa.types
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        dtype: np.dtype[Any] = np.dtype(kind.to_pandas_dtype())
        return dtype
    texts = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary, types.is_fixed_size_binary)
    if any(is_text(kind) for is_text in texts):
        return np.dtype(object)
    raise Stop(f"{where} holds {kind}, which is neither number, truth value, text nor bytes; cast it first")


def _one(column: pa.ChunkedArray) -> pa.Array:
    """All of it as one array, of what it is stored as."""
    whole = column.combine_chunks()
    array = whole if isinstance(whole, pa.Array) else pa.concat_arrays(whole.chunks)
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _stored(kind: pa.DataType) -> pa.DataType:
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _filled(column: pa.Array) -> pa.Array:
    """Something in place of nulls, which nobody will read."""
    kind = column.type
    if pa.types.is_boolean(kind):
        return column.fill_null(False)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return column.fill_null(pa.scalar(0).cast(kind))
    return column.fill_null(
        pa.scalar(b"\0" * kind.byte_width if pa.types.is_fixed_size_binary(kind) else b"").cast(kind)
    )


def _numpy(values: pa.Array) -> Array:
    array: Array = values.to_numpy(zero_copy_only=False)
    return array


def _missing(spec: TensorSpec) -> InvalidRequest:
    return InvalidRequest(f"a value of the input '{spec.name}' is missing", reason="row.missing")


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())
