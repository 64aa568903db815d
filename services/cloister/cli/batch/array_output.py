"""Answers as NumPy's files. An `.npz` has the numbers of its rows beside them; an `.npy` has only their order."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from cloister.cli.batch.answers import Column, blocks, row_name
from cloister.cli.batch.journal import Journal
from cloister.cli.failures import Stop


def write_npy(journal: Journal, path: Path, columns: list[Column]) -> None:
    """The only output, a row for each of the input; raises Stop where rows have failed."""
    failed = journal.counts.failed
    if failed:
        raise Stop(
            f"{failed} of {journal.rows} rows failed, and the rows of an .npy file have no numbers, so none was "
            f"written; run the command again with --output NAME.npz and --journal {journal.folder}: nothing is asked "
            "again"
        )
    with path.open("wb") as file:
        _write(file, journal, columns[0])


def write_npz(journal: Journal, path: Path, columns: list[Column]) -> None:
    """Each output by name, and `row`: their numbers in the input."""
    with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
        with archive.open(f"{row_name([column.name for column in columns])}.npy", "w", force_zip64=True) as member:
            _head(member, (journal.counts.answered,), np.dtype(np.int64))
            for rows, _ in journal.answers():
                member.write(np.asarray(rows, np.int64).tobytes())
        for column in columns:
            with archive.open(f"{column.name}.npy", "w", force_zip64=True) as member:
                _write(member, journal, column)


def _write(file: IO[bytes], journal: Journal, column: Column) -> None:
    if column.inner is None:
        raise Stop(
            f"rows of the output '{column.name}' differ in shape, and an array has one; run the command again with "
            f"--output NAME.parquet or NAME.jsonl and --journal {journal.folder}: nothing is asked again"
        )
    _head(file, (journal.counts.answered, *column.inner), column.dtype)
    for block in blocks(journal):
        file.write(np.ascontiguousarray(block.outputs[column.name]).tobytes())


def _head(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
    header = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    npy.write_array_header_2_0(file, header)
