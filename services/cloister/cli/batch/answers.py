"""Answers of a batch as they go into a file: blocks of rows, in the order of the input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from cloister.cli.batch.journal import Journal
from cloister.contract import ANY_SIZE, ModelContract
from cloister.oip.contents import Array
from cloister.oip.tensors import decode_response, parse_response

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """Rows that were answered together.

    Attributes:
        rows: Their numbers in the input.
        outputs: By name, [rows, ...]; BF16 as FP32, which has all its values.
    """

    rows: list[int]
    outputs: dict[str, Array] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Column:
    """One output over all rows.

    Attributes:
        name: Of the output.
        dtype: What NumPy holds it in; object for BYTES.
        inner: Shape of a row; None where rows differ.
    """

    name: str
    dtype: np.dtype[np.generic]
    inner: Shape | None


def blocks(journal: Journal) -> Iterator[Block]:
    """All answers."""
    for rows, raw in journal.answers():
        response = parse_response(raw)
        datatypes = {tensor.name: tensor.datatype for tensor in response.outputs}
        arrays = decode_response(response)
        yield Block(rows, {name: _plain(array, datatypes[name]) for name, array in arrays.items()})


def columns(journal: Journal, contract: ModelContract) -> list[Column]:
    """What the output's columns are: as the answers are, or as the model promises where there is none."""
    found: dict[str, Column] = {}
    for block in blocks(journal):
        for name, array in block.outputs.items():
            mine = Column(name, array.dtype, array.shape[1:])
            before = found.setdefault(name, mine)
            if before.inner not in (None, mine.inner):
                found[name] = Column(name, mine.dtype, None)
    return list(found.values()) or [_promised(spec.name, spec.datatype, spec.shape) for spec in contract.outputs]


def row_name(names: Mapping[str, object] | list[str]) -> str:
    """What the column of row numbers is called: no output has that name."""
    name = "row"
    while name in names:
        name += "_number"
    return name


def _plain(array: Array, datatype: str) -> Array:
    if datatype != "BF16":
        return array
    widened: Array = (array.astype(np.uint32) << 16).view(np.float32)
    return widened


def _promised(name: str, datatype: str, shape: Shape | None) -> Column:
    from cloister.oip.datatypes import datatype_named

    dtype = np.dtype(np.float32) if datatype == "BF16" else datatype_named(datatype, name).dtype
    inner = None if shape is None or ANY_SIZE in shape[1:] else shape[1:]
    return Column(name, dtype, inner)
