"""Answers as Parquet: `row`, the number in the input, and each output: lists where a row has several values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cloister.cli.batch.answers import Block, Column, blocks, row_name
from cloister.cli.batch.journal import Journal
from cloister.cli.failures import Stop
from cloister.oip.contents import Array

GROUP_ROWS: Final = 1 << 16
"""Of a row group, about."""


def write_parquet(journal: Journal, path: Path, columns: list[Column]) -> None:
    """Datatypes are the model's own; BYTES are binary."""
    ranks = _ranks(journal, columns)
    number = pa.field(row_name([column.name for column in columns]), pa.int64(), nullable=False)
    fields = [pa.field(column.name, _type(column, ranks[column.name])) for column in columns]
    schema = pa.schema([number, *fields])
    with pq.ParquetWriter(path, schema) as writer:
        for group in _grouped(blocks(journal)):
            batches = [_batch(block, columns, schema) for block in group]
            writer.write_table(pa.Table.from_batches(batches, schema))


def _ranks(journal: Journal, columns: list[Column]) -> dict[str, int]:
    """How deep the lists are; raises Stop where answers differ in it."""
    found = {column.name: {len(column.inner)} if column.inner is not None else set[int]() for column in columns}
    if any(not ranks for ranks in found.values()):
        for block in blocks(journal):
            for name, array in block.outputs.items():
                found[name].add(array.ndim - 1)
    several = [name for name, ranks in found.items() if len(ranks) > 1]
    if several:
        raise Stop(
            f"rows of the output '{several[0]}' differ in their number of dimensions; run the command again with "
            f"--output NAME.jsonl and --journal {journal.folder}: nothing is asked again"
        )
    return {name: ranks.pop() if ranks else 1 for name, ranks in found.items()}


def _type(column: Column, rank: int) -> Any:
    kind = pa.binary() if column.dtype == np.dtype(object) else pa.from_numpy_dtype(column.dtype)
    for size in reversed(column.inner if column.inner is not None else (None,) * rank):
        kind = pa.list_(kind) if size is None else pa.list_(kind, size)
    return kind


def _grouped(found: Iterator[Block]) -> Iterator[list[Block]]:
    group: list[Block] = []
    for block in found:
        group.append(block)
        if sum(len(each.rows) for each in group) >= GROUP_ROWS:
            yield group
            group = []
    if group:
        yield group


def _batch(block: Block, columns: list[Column], schema: Any) -> Any:
    arrays = [_array(block.outputs[column.name], fixed=column.inner is not None) for column in columns]
    return pa.RecordBatch.from_arrays([pa.array(block.rows, pa.int64()), *arrays], schema=schema)


def _array(values: Array, *, fixed: bool) -> Any:
    kind = pa.binary() if values.dtype == np.dtype(object) else pa.from_numpy_dtype(values.dtype)
    made = pa.array(values.reshape(-1), kind)
    for axis in range(values.ndim - 1, 0, -1):
        size = values.shape[axis]
        if fixed:
            made = pa.FixedSizeListArray.from_arrays(made, size)
        else:
            count = int(np.prod(values.shape[:axis], dtype=np.int64))
            made = pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32) * size, made)
    return made
