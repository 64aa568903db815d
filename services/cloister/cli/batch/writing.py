"""The output of a batch: written beside its place, and put there once it is whole."""

from __future__ import annotations

import glob
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cloister.cli.batch.answers import columns
from cloister.cli.batch.journal import Journal
from cloister.cli.failures import ExitCode, Stop
from cloister.cli.preparing import extras
from cloister.contract import ModelContract

ENDINGS: Final = (".parquet", ".npy", ".npz", ".jsonl")


def check_output(path: Path, contract: ModelContract) -> None:
    """Nothing is asked in vain: the answers can be written to this file.

    Raises:
        Stop: Its ending is none of ours, or it cannot hold what the model gives; the message names one that can.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise Stop(f"{path} ends with none of {', '.join(ENDINGS)}", ExitCode.USAGE)
    if ending == ".parquet":
        with extras("batch"):
            import pyarrow  # noqa: F401
    text = [spec.name for spec in contract.outputs if spec.datatype == "BYTES"]
    if ending in (".npy", ".npz") and text:
        raise Stop(f"the output '{text[0]}' is text, which {ending} does not hold; name a .parquet or .jsonl")
    if ending == ".npy" and len(contract.outputs) != 1:
        names = ", ".join(spec.name for spec in contract.outputs)
        raise Stop(f"the model gives {names}, and an .npy file holds one array; name an .npz, .parquet or .jsonl")


def write_output(journal: Journal, path: Path, contract: ModelContract) -> None:
    """Write all answers.

    Raises:
        Stop: The file cannot hold them: rows of an .npy would have other numbers than in the input, or shapes differ.
    """
    found = columns(journal, contract)
    match path.suffix.lower():
        case ".parquet":
            with extras("batch"):
                from cloister.cli.batch.parquet_output import write_parquet as write
        case ".jsonl":
            from cloister.cli.batch.json_output import write_json as write
        case ".npz":
            from cloister.cli.batch.array_output import write_npz as write
        case _:
            from cloister.cli.batch.array_output import write_npy as write
    with replaced(path) as staged:
        write(journal, staged, found)


def write_failures(journal: Journal, path: Path) -> Path | None:
    """Write the rows that failed, a JSON object for each; returns where, or None where there is none."""
    errors = errors_file(path)
    if not journal.counts.failed:
        errors.unlink(missing_ok=True)
        return None
    with replaced(errors) as staged, staged.open("w", encoding="utf-8") as file:
        for failed in journal.failures():
            words = {"row": failed.row, "class": failed.kind, "reason": failed.reason, "message": failed.message}
            file.write(json.dumps(words) + "\n")
    return errors


def errors_file(output: Path) -> Path:
    """Where the rows without an answer are told of."""
    return output.with_name(f"{output.name}.errors.jsonl")


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A new file to write, which comes into its place once it is whole and on the disk."""
    staged = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    for left in path.parent.glob(f".{glob.escape(path.name)}.????????.part"):  # of a life that was ended while it wrote
        left.unlink(missing_ok=True)
    try:
        yield staged
        _sync(staged, os.O_RDWR)
        staged.replace(path)
        _sync(path.parent, os.O_RDONLY)
    finally:
        staged.unlink(missing_ok=True)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
