"""Which columns of a file an input is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from cloister.cli.batch.fitting import inner_shape, shown
from cloister.cli.batch.spans import Fitted
from cloister.cli.failures import ExitCode, Stop
from cloister.contract import ANY_SIZE, ModelContract, TensorSpec
from cloister.errors import InvalidRequest

ALL: Final = "*"
Binding = Mapping[str, tuple[str, ...]]
"""Columns by input; several are one vector in each row."""


def read_options(options: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """`INPUT=COLUMN`, `INPUT=COLUMN,COLUMN` and `INPUT=*` as they were given; raises Stop for anything else."""
    found: dict[str, tuple[str, ...]] = {}
    for option in options:
        name, _, columns = option.partition("=")
        parts = tuple(columns.split(","))
        if not name or not all(parts) or name in found:
            raise Stop(
                f"--column {option[:80]}: write INPUT=COLUMN, INPUT=COLUMN,COLUMN,... or INPUT=*, and each input once",
                ExitCode.USAGE,
            )
        found[name] = parts
    return found


def bind(contract: ModelContract, columns: Sequence[str], given: Mapping[str, tuple[str, ...]], file: str) -> Binding:
    """The columns of each input: those that were given, or the one of its name.

    Args:
        contract: The model's.
        columns: That the file has, in its order.
        given: See `read_options`.
        file: Its name, for messages.

    Raises:
        Stop: An input or a column is not there, or so many columns are no row of the input.
    """
    inputs = {spec.name: spec for spec in contract.inputs}
    unknown = sorted(given.keys() - inputs.keys())
    if unknown:
        raise Stop(f"the model has no input '{unknown[0]}'; it has {', '.join(inputs)}", ExitCode.USAGE)
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise Stop(f"{file} has two columns '{twice[0]}'; give each its own name", ExitCode.USAGE)
    elsewhere = {column for parts in given.values() for column in parts}
    rest = tuple(column for column in columns if column not in elsewhere)
    bound = {name: rest if given.get(name) == (ALL,) else given.get(name, (name,)) for name in inputs}
    for name, parts in bound.items():
        _check(inputs[name], parts, columns, file)
    return bound


def joined(spec: TensorSpec, parts: Sequence[Fitted]) -> Fitted:
    """Columns of one value each as the vector that the input takes."""
    failures: dict[int, InvalidRequest] = {}
    for part in parts:
        failures |= {place: error for place, error in part.failures.items() if place not in failures}
    return Fitted(np.stack([part.array for part in parts], axis=1), failures)


def value_spec(spec: TensorSpec) -> TensorSpec:
    """What each of several columns is fitted to: one value in a row."""
    return TensorSpec(spec.name, spec.datatype, (ANY_SIZE,))


def _check(spec: TensorSpec, parts: tuple[str, ...], columns: Sequence[str], file: str) -> None:
    missing = [column for column in parts if column not in columns]
    if missing:
        raise Stop(
            f"{file} has no column '{missing[0]}' for the input '{spec.name}'; it has {_listed(columns)}; say which "
            f"with --column {spec.name}=COLUMN, or of which: {spec.name}=COLUMN,COLUMN,... or {spec.name}=* for all",
            ExitCode.USAGE,
        )
    inner = inner_shape(spec)
    if len(parts) != 1 and (len(inner) != 1 or inner[0] not in (ANY_SIZE, len(parts))):
        raise Stop(
            f"the input '{spec.name}' takes rows of {shown(inner)}, and {len(parts)} columns were named", ExitCode.USAGE
        )


def _listed(columns: Sequence[str]) -> str:
    shown_columns = ", ".join(columns[:12])
    return f"{shown_columns} and {len(columns) - 12} more" if len(columns) > 12 else shown_columns or "none"
