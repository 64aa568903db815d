"""The rows of one job, before and after they have been read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cloister.errors import CloisterError, InvalidRequest
from cloister.oip.contents import Array
from cloister.rpc.status import reason_of

Failure = CloisterError | TimeoutError
"""Why a row has no answer."""


@dataclass(frozen=True, slots=True)
class FailedRow:
    """A row without an answer.

    Attributes:
        row: Its number in the file, from 0.
        kind: Class of the error, one of `cloister.errors`.
        reason: Its stable reason.
        message: What was wrong, for a person.
    """

    row: int
    kind: str
    reason: str
    message: str

    @classmethod
    def of(cls, row: int, error: Failure) -> FailedRow:
        """The row that ended with `error`."""
        return cls(row, type(error).__name__, reason_of(error), str(error) or "the deadline passed")


@dataclass(frozen=True, slots=True)
class Fitted:
    """One input of the rows of a span.

    Attributes:
        array: [rows, ...]; what stands in rows that failed means nothing.
        failures: By place in the span, why a row is no input.
    """

    array: Array = field(repr=False)
    failures: Mapping[int, InvalidRequest]


@dataclass(frozen=True, slots=True)
class Loaded:
    """Rows as they are asked.

    Attributes:
        number: Of the span, from 0.
        first: Number of its first row.
        rows: How many it has.
        inputs: By name, the rows that are inputs, in their order; empty where none is.
        failed: The rows that are not.
    """

    number: int
    first: int
    rows: int
    inputs: dict[str, Array] = field(repr=False)
    failed: tuple[FailedRow, ...]

    @property
    def asked(self) -> list[int]:
        """Numbers of the rows that are inputs."""
        failed = {each.row for each in self.failed}
        return [row for row in range(self.first, self.first + self.rows) if row not in failed]


@dataclass(frozen=True, slots=True)
class Span:
    """Rows that are to be one job; `load` reads and fits them."""

    number: int
    first: int
    rows: int
    load: Callable[[], Loaded] = field(repr=False)


def merged(number: int, first: int, rows: int, inputs: Mapping[str, Fitted], exactly: int = 0) -> Loaded:
    """The rows that all inputs have a value for.

    Args:
        number: Of the span, as are the next two.
        first: See `number`.
        rows: See `number`.
        inputs: By name.
        exactly: How many rows the model takes at once; 0 for any number.
    """
    failures: dict[int, InvalidRequest] = {}
    for fitted in inputs.values():
        failures |= {place: error for place, error in fitted.failures.items() if place not in failures}
    good = [place for place in range(rows) if place not in failures]
    if exactly and good and len(good) != exactly:
        missing = InvalidRequest(
            f"the model takes {exactly} rows at once, and of the rows {first} to {first + exactly - 1} there are "
            f"{len(good)}",
            reason="rows.incomplete",
        )
        failures |= dict.fromkeys(good, missing)
        good = []
    arrays = {name: _taken(fitted.array, good, rows) for name, fitted in inputs.items()} if good else {}
    failed = tuple(FailedRow.of(first + place, failures[place]) for place in sorted(failures))
    return Loaded(number, first, rows, arrays, failed)


def rows_failed(numbers: Iterable[int], error: Failure) -> list[FailedRow]:
    """All of these rows, with one error."""
    return [FailedRow.of(row, error) for row in numbers]


def _taken(array: Array, places: list[int], rows: int) -> Array:
    return array if len(places) == rows else array[places]


def where_not(good: NDArray[np.bool_], error: Callable[[int], InvalidRequest]) -> dict[int, InvalidRequest]:
    """Failures of the rows that are not good."""
    return {int(place): error(int(place)) for place in np.flatnonzero(~good)}
