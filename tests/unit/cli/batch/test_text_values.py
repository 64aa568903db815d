"""Any line and any cell is a row or an InvalidRequest."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.cli.batch.text_files import parsed
from cloister.cli.batch.text_values import cell_of, row_of
from cloister.contract import TensorSpec
from cloister.errors import InvalidRequest
from cloister.oip.datatypes import DATATYPES

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("NaN")
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2))
SPECS = st.builds(
    TensorSpec,
    st.just("x"),
    st.sampled_from([name for name in DATATYPES if name != "BF16"]),
    st.sampled_from([(-1,), (-1, 2), (-1, -1), (-1, 2, 2)]),
)


@given(st.binary(max_size=64))
def test_any_bytes_are_a_row_or_none(line: bytes) -> None:
    assert isinstance(parsed(line), (dict, InvalidRequest))


@given(VALUES, SPECS)
def test_any_value_is_the_models_or_refused(value: object, spec: TensorSpec) -> None:
    row = parsed(json.dumps({"x": value}).encode())
    assert isinstance(row, dict)
    try:
        array = row_of(row["x"], spec)
    except InvalidRequest:
        return
    assert array.dtype == DATATYPES[spec.datatype].dtype
    spec.check(spec.datatype, (1, *array.shape))


@given(st.text(max_size=12), st.sampled_from(["FP32", "INT64", "BOOL", "BYTES"]))
def test_any_cell_is_a_value_or_refused(text: str, datatype: str) -> None:
    spec = TensorSpec("x", datatype, (-1,))
    try:
        array = row_of(cell_of(text, spec), spec)
    except InvalidRequest:
        return
    assert array.shape == ()


@pytest.mark.parametrize(
    ("text", "datatype", "value"),
    [
        ("0.1", "FP32", np.float32(0.1)),
        (" 7 ", "INT8", 7),
        ("7.0", "INT8", 7),
        ("9007199254740993", "INT64", 9007199254740993),
        ("TRUE", "BOOL", True),
        ("0", "BOOL", False),
        ("-Infinity", "FP64", -np.inf),
        ("+1e-3", "FP64", 1e-3),
        (" a ", "BYTES", b" a "),
    ],
)
def test_a_cell_is_read_as_what_the_model_takes(text: str, datatype: str, value: object) -> None:
    spec = TensorSpec("x", datatype, (-1,))
    assert row_of(cell_of(text, spec), spec).item() == value
