"""Files of rows, found by their endings."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cloister.cli.batch.array_files import open_arrays
from cloister.cli.batch.reading import Reading, Source
from cloister.cli.batch.text_files import open_text
from cloister.cli.failures import ExitCode, Stop
from cloister.cli.preparing import extras

ENDINGS: Final = (".parquet", ".npy", ".npz", ".jsonl", ".csv")


def open_source(path: Path, reading: Reading) -> Source:
    """The rows of a file.

    Raises:
        Stop: There is no such file, it is of no kind that is read here, or does not fit the model.
    """
    if not path.is_file():
        raise Stop(f"there is no file {path}", ExitCode.USAGE)
    match path.suffix.lower():
        case ".npy" | ".npz":
            return open_arrays(path, reading)
        case ".jsonl" | ".csv":
            return open_text(path, reading)
        case ".parquet":
            with extras("batch"):
                from cloister.cli.batch.parquet_file import ParquetRows
            return ParquetRows(path, reading)
    raise Stop(f"{path} ends with none of {', '.join(ENDINGS)}", ExitCode.USAGE)
