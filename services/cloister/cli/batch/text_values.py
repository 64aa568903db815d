"""Numbers and texts of JSON and CSV to the arrays of rows; see `fitting` for what may become what."""

from __future__ import annotations

import math
import re
from typing import Any, Final

import numpy as np

from cloister.cli.batch.fitting import check_inner, fit, wanted_dtype
from cloister.contract import TensorSpec
from cloister.errors import InvalidRequest
from cloister.oip.contents import Array

NOT_FINITE: Final = frozenset({"NaN", "Infinity", "-Infinity"})
"""The words that JSON written by our commands has for such numbers."""
_NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_MOST_DIGITS: Final = 40  # no datatype holds more, and Python is slow with them
_TRUTH: Final = {"true": True, "false": False, "0": False, "1": True}


def row_of(value: object, spec: TensorSpec) -> Array:
    """One row of an input, of the input's datatype and shape.

    Args:
        value: As JSON has it: a number, a truth value, a text (BYTES, or the words for numbers that are not finite), or
            lists of them.
        spec: The input.

    Raises:
        InvalidRequest: It is something else, or does not fit.
    """
    try:
        array = _bytes(value) if spec.datatype == "BYTES" else _numbers(value, spec)
    except (ValueError, OverflowError, RecursionError):  # NumPy's word for lists of several lengths, or too deep
        array = np.empty(0, object)
    if array.dtype.kind == "O" and spec.datatype != "BYTES":
        raise InvalidRequest(f"the input '{spec.name}' is no number or list of numbers", reason="row.malformed")
    check_inner(array.shape, spec)
    fitted = fit(array[np.newaxis], spec, rounding=True)
    if fitted.failures:
        raise fitted.failures[0]
    return np.asarray(fitted.array[0])  # of a single value, too


def cell_of(text: str, spec: TensorSpec) -> object:
    """A cell of CSV as JSON would have it.

    Raises:
        InvalidRequest: It is empty, or no number where one is wanted.
    """
    if spec.datatype == "BYTES":
        return text
    text = text.strip()
    if not text:
        raise InvalidRequest(f"the input '{spec.name}' is empty", reason="row.missing")
    kind = wanted_dtype(spec).kind
    if kind == "b" and text.lower() in _TRUTH:
        return _TRUTH[text.lower()]
    if kind == "f" and (text in NOT_FINITE or text.lower() == "nan"):
        return "NaN" if text.lower() == "nan" else text
    if not _NUMBER.fullmatch(text):
        raise InvalidRequest(f"'{text[:40]}' is no number for the input '{spec.name}'", reason="row.malformed")
    whole = len(text) <= _MOST_DIGITS and text.lstrip("+-").isdecimal()
    return int(text) if whole else float(text)


def _bytes(value: object) -> Array:
    leaves = np.array(value, dtype=object)
    if not all(isinstance(leaf, str) for leaf in leaves.ravel().tolist()):
        raise InvalidRequest("a BYTES input takes texts", reason="row.malformed")
    return leaves


def _numbers(value: object, spec: TensorSpec) -> Array:
    array = np.array(_finite_or_worded(value, spec))
    return array if array.dtype.kind in "biuf" else np.empty(0, object)


def _finite_or_worded(value: Any, spec: TensorSpec) -> Any:
    """The same with words for what is not finite as numbers; a decimal too large to be one is none."""
    if isinstance(value, list):
        return [_finite_or_worded(each, spec) for each in value]
    if isinstance(value, str) and value in NOT_FINITE:
        return float(value)
    if isinstance(value, float) and math.isinf(value):
        raise InvalidRequest(f"a number of the input '{spec.name}' is too large", reason="value.changed")
    if value is None:
        raise InvalidRequest(f"a value of the input '{spec.name}' is missing", reason="row.missing")
    if not isinstance(value, (bool, int, float)):
        raise InvalidRequest(f"the input '{spec.name}' is no number or list of numbers", reason="row.malformed")
    return value
