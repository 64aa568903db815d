"""Values of a file to the datatype that a model takes, so that none is another one afterwards unless asked for.

Binary files say what their numbers are: a double that the model takes as FP32 is rounded only with `--round`, and a
whole number must be the same number there. Text has no datatype: its decimals are read as what the model takes, and
only what does not fit at all fails. What fails is a row, with its reason, and the others go on.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cloister.cli.batch.spans import Fitted, where_not
from cloister.cli.failures import ExitCode, Stop
from cloister.contract import ANY_SIZE, TensorSpec
from cloister.errors import InvalidRequest
from cloister.oip.contents import Array
from cloister.oip.datatypes import datatype_named

NUMBERS: Final = "biuf"
TEXT: Final = "SUO"


def wanted_dtype(spec: TensorSpec) -> np.dtype[Any]:
    """The NumPy dtype of what a model takes; raises Stop for what no file holds."""
    if spec.datatype == "BF16":
        raise Stop(
            f"the input '{spec.name}' takes BF16, which none of these files holds; ask with 'cloister infer', or have "
            "the model prepared for FP32"
        )
    return datatype_named(spec.datatype, spec.name).dtype


def check_dtype(dtype: np.dtype[Any], spec: TensorSpec, where: str, *, rounding: bool) -> None:
    """Refuse a kind of column that a model's input cannot be made of, before anything is asked.

    Args:
        dtype: Of the file.
        spec: The input.
        where: The column, for the message.
        rounding: Whether numbers may be rounded.

    Raises:
        Stop: Text for numbers or the reverse, or numbers that would be rounded.
    """
    wanted = wanted_dtype(spec)
    if (dtype.kind in TEXT) != (spec.datatype == "BYTES") or dtype.kind not in NUMBERS + TEXT:
        raise Stop(f"{where} holds {_named(dtype)}, and the input '{spec.name}' takes {spec.datatype}", ExitCode.USAGE)
    if dtype.kind == wanted.kind == "f" and wanted.itemsize < dtype.itemsize and not rounding:
        raise Stop(
            f"{where} holds {dtype}, and the input '{spec.name}' takes {spec.datatype}: its values would be rounded; "
            "say --round if that is meant",
            ExitCode.USAGE,
        )


def fit(values: Array, spec: TensorSpec, *, rounding: bool) -> Fitted:
    """Values [rows, ...] whose dtype `check_dtype` has let pass, as the model takes them.

    A row fails where a value would be another (`value.changed`), or its shape is not the model's (`row.shape`).
    """
    check_inner(values.shape[1:], spec)
    if spec.datatype == "BYTES":
        return Fitted(_as_bytes(values), {})
    wanted = wanted_dtype(spec)
    if values.dtype == wanted:
        return Fitted(values, {})
    with np.errstate(all="ignore"):
        made: Array = values.astype(wanted)
        same = _same(values, made, rounding=rounding)
    rows: NDArray[np.bool_] = np.ones(len(values), np.bool_)
    if values.size:
        rows &= same.reshape(len(values), -1).all(axis=1)
    return Fitted(made, where_not(rows, lambda place: _changed(values, same, place, spec)))


def fitted_rows(spec: TensorSpec, rows: list[Array | InvalidRequest]) -> Fitted:
    """Rows that have been read one by one as an input of a span; those that differ in shape from the first fail."""
    failures = {place: row for place, row in enumerate(rows) if isinstance(row, InvalidRequest)}
    shape = next((row.shape for row in rows if not isinstance(row, InvalidRequest)), None)
    if shape is None:
        inner = tuple(1 if size == ANY_SIZE else size for size in inner_shape(spec))
        return Fitted(np.zeros((len(rows), *inner), wanted_dtype(spec)), failures)
    array = np.zeros((len(rows), *shape), wanted_dtype(spec))
    for place, row in enumerate(rows):
        if isinstance(row, InvalidRequest):
            continue
        if row.shape == shape:
            array[place] = row
        else:
            failures[place] = InvalidRequest(
                f"the input '{spec.name}' has another shape than in the rows of the same job; ask them one by one "
                "with --rows 1",
                reason="row.shape",
            )
    return Fitted(array, failures)


def check_inner(inner: tuple[int, ...], spec: TensorSpec) -> None:
    """Raise InvalidRequest unless a row of this shape is one of the input's (`row.shape`)."""
    want = inner_shape(spec)
    if len(inner) != len(want) or any(w not in (ANY_SIZE, have) for w, have in zip(want, inner, strict=True)):
        raise InvalidRequest(
            f"the input '{spec.name}' takes rows of {shown(want)}, this one is of {shown(inner)}", reason="row.shape"
        )


def inner_shape(spec: TensorSpec) -> tuple[int, ...]:
    """Of one row."""
    return (spec.shape or ())[1:]


def shown(shape: tuple[int, ...]) -> str:
    """A shape for a person."""
    return "one value" if not shape else " x ".join("any" if size == ANY_SIZE else str(size) for size in shape)


def _same(values: Array, made: Array, *, rounding: bool) -> NDArray[np.bool_]:
    """Which elements are the same number still; rounded ones count where that is allowed."""
    have, want = values.dtype.kind, made.dtype.kind
    same: NDArray[np.bool_]
    if want == "b":
        same = (values == 0) | (values == 1)
    elif want == "f":
        if have == "f":
            same = np.isfinite(made) == np.isfinite(values) if rounding else (made == values) | np.isnan(values)
        else:
            same = np.isfinite(made) if rounding else _whole_as(made, values)
    elif have == "f":
        limits = np.iinfo(made.dtype)
        same = (values == np.trunc(values)) & (values >= limits.min) & (values < float(limits.max) + 1.0)
    else:
        same = (made.astype(values.dtype) == values) & ((made < 0) == (values < 0))
    return same


def _whole_as(made: Array, values: Array) -> NDArray[np.bool_]:
    """Whether whole numbers are the same as floating point ones: back again, where there is a way back."""
    if values.dtype.kind == "b":
        return np.ones(values.shape, np.bool_)
    limits = np.iinfo(values.dtype)
    back = np.isfinite(made) & (made >= float(limits.min)) & (made < float(limits.max) + 1.0)
    same: NDArray[np.bool_] = back & (np.where(back, made, 0).astype(values.dtype) == values)
    return same


def _changed(values: Array, same: NDArray[np.bool_], place: int, spec: TensorSpec) -> InvalidRequest:
    first = values[place].reshape(-1)[np.flatnonzero(~same[place].reshape(-1))[0]]
    return InvalidRequest(f"{first!r} does not fit {spec.datatype} of the input '{spec.name}'", reason="value.changed")


def _as_bytes(values: Array) -> Array:
    flat = np.empty(values.size, object)
    flat[:] = [each.encode() if isinstance(each, str) else each for each in values.ravel().tolist()]
    return flat.reshape(values.shape)


def _named(dtype: np.dtype[Any]) -> str:
    return "text" if dtype.kind in TEXT else str(dtype)
