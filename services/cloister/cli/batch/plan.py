"""How a file's rows become jobs of a model, and what makes a batch the same batch when its command is run again."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Final

from cloister.cli.batch.fitting import inner_shape
from cloister.cli.failures import ExitCode, Stop
from cloister.contract import ANY_SIZE, ELEMENT_BYTES, ModelContract, TensorSpec

MOST_ROWS: Final = 256
ABOUT_BYTES: Final = 256 << 10
"""Of a job's inputs, where nobody says how many rows it has."""
_TEXT_BYTES: Final = 64  # of an element of BYTES, guessed


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What must be the same for a batch to go on.

    Attributes:
        input: SHA-256 of the file, in hex.
        model: Name.
        version: The only one that may answer, or a label, or empty.
        digest: The only model that may answer, in hex, or empty.
        columns: As they were given.
        rounding: Whether numbers may be rounded.
        rows: Of each job.
        cluster: Of the mesh.
        client: Who asks: its SPIFFE id. Jobs are their tenant's.
        proved: Whether receipts are kept: tickets are kept with what those prove.
    """

    input: str
    model: str
    version: str
    digest: str
    columns: str
    rounding: bool
    rows: int
    cluster: str
    client: str
    proved: bool

    def differences(self, other: Identity) -> list[str]:
        """What of it is other, in words; empty where it is the same batch."""
        mine, theirs = asdict(self), asdict(other)
        return [_WORDS[name] for name, value in mine.items() if theirs[name] != value]


_WORDS: Final = {
    "input": "the content of the input file",
    "model": "the model",
    "version": "--version",
    "digest": "--digest",
    "columns": "--column",
    "rounding": "--round",
    "rows": "--rows",
    "cluster": "the mesh",
    "client": "the identity that asks",
    "proved": "--receipts",
}


def rows_at_once(contract: ModelContract) -> int:
    """How many rows the model takes at once; 0 for any number.

    Raises:
        Stop: Its inputs and outputs have no axis of rows in common.
    """
    found = {_axis(spec, "takes") for spec in contract.inputs}
    found |= {_axis(spec, "gives") for spec in contract.outputs if spec.shape is not None}
    fixed = found - {ANY_SIZE}
    if not contract.inputs or len(fixed) > 1:
        raise Stop(
            "the first dimensions of the model's inputs and outputs differ, so none of them is that of rows; "
            "ask it with 'cloister infer'"
        )
    return fixed.pop() if fixed else 0


def rows_per_job(contract: ModelContract, asked: int | None) -> int:
    """Rows of each job.

    Args:
        contract: The model's.
        asked: By the command line; None for as many as make a job of reasonable size.

    Raises:
        Stop: The model takes another number, or has no axis of rows.
    """
    exactly = rows_at_once(contract)
    if exactly:
        if asked not in (None, exactly):
            raise Stop(f"the model takes {exactly} rows at once; leave out --rows", ExitCode.USAGE)
        return exactly
    if asked is not None:
        return asked
    if any(ANY_SIZE in inner_shape(spec) for spec in contract.inputs):
        return 1  # rows may differ in size, and one tensor holds one size
    row_bytes = sum(_row_bytes(spec) for spec in contract.inputs)
    return max(1, min(MOST_ROWS, ABOUT_BYTES // max(row_bytes, 1)))


def _axis(spec: TensorSpec, verb: str) -> int:
    if not spec.shape:
        raise Stop(f"the model {verb} '{spec.name}' without an axis of rows; ask it with 'cloister infer'")
    return spec.shape[0]


def _row_bytes(spec: TensorSpec) -> int:
    return math.prod(inner_shape(spec)) * (ELEMENT_BYTES[spec.datatype] or _TEXT_BYTES)
