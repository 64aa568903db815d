"""A line to a record, a record to a request's inputs: nothing is guessed, and what is wrong is said of its line."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from cloister.contract import ModelContract, TensorSpec
from cloister.errors import InvalidRequest
from cloister_stream.records import CsvLines, JsonLines, Record, arrays_of, format_of

X = TensorSpec("x", "FP32", (-1, 3))
CONTRACT = ModelContract((X,), (TensorSpec("y", "FP32", (-1, 1)),))
TWO = ModelContract((X, TensorSpec("n", "INT64", (-1,))), CONTRACT.outputs)
HEADER = "id,a,b,c"


def test_a_line_of_json_is_named_by_its_key_and_the_rest_are_inputs() -> None:
    record = JsonLines("id").read('{"x": [[1, 2, 3]], "id": "p7"}')
    assert record == Record("p7", {"x": [[1, 2, 3]]})
    numbered = JsonLines("n").read('{"n": 7, "x": []}')
    assert numbered is not None
    assert numbered.key == 7


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": "p7"', "not JSON"),
        ("[1, 2]", "not a JSON object"),
        ('{"x": [1]}', "no member 'id'"),
        ('{"id": null, "x": [1]}', "no member 'id'"),
        ('{"id": true, "x": [1]}', "no member 'id'"),
        ('{"id": 1.5, "x": [1]}', "no member 'id'"),
        ("[" * 100_000, "not JSON"),
    ],
    ids=["cut", "list", "unnamed", "null", "bool", "fraction", "deep"],
)
def test_a_line_of_json_that_is_no_record_is_told_so(line: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as told:
        JsonLines("id").read(line)
    assert told.value.reason == "record.malformed"


def test_a_row_of_csv_is_a_row_of_the_only_input() -> None:
    lines = format_of(CONTRACT, "b", HEADER)
    record = lines.read("1,2.5,patient 7,-4e2")
    assert record == Record("patient 7", {"x": [[1.0, 2.5, -400.0]]})


def test_quoted_cells_are_cells() -> None:
    record = CsvLines("id", ("id", "a"), "x").read('"ward 7, bed 2",3')
    assert record == Record("ward 7, bed 2", {"x": [[3.0]]})


@pytest.mark.parametrize(
    ("line", "said"),
    [("7,1,2", "3 columns, the header has 4"), ("7,1,2,x", "not a number"), ('7,1,2,"3', "not a row of CSV")],
    ids=["short", "word", "quote"],
)
def test_a_row_of_csv_that_is_no_record_is_told_so(line: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as told:
        format_of(CONTRACT, "id", HEADER).read(line)
    assert told.value.reason == "record.malformed"


@pytest.mark.parametrize("header", [None, HEADER], ids=["json", "csv"])
def test_lines_without_a_record_are_none(header: str | None) -> None:
    lines = format_of(CONTRACT, "id", header)
    assert [lines.read(each) for each in ("", "  ", *([header] if header else ()))] == [None] * (3 if header else 2)


@pytest.mark.parametrize(
    ("contract", "header", "said"),
    [(CONTRACT, "name,a", "no column 'id'"), (TWO, HEADER, "2 inputs")],
    ids=["unnamed", "two-inputs"],
)
def test_files_that_cannot_be_for_this_model_are_refused_before_any_record(
    contract: ModelContract, header: str, said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        format_of(contract, "id", header)


@pytest.mark.parametrize("rows", [[[1, 2, 3]], [1, 2, 3], [[1, 2, 3], [4, 5, 6]]], ids=["row", "no-batch", "rows"])
def test_inputs_have_the_models_datatype_and_a_batch_axis(rows: Any) -> None:
    array = arrays_of(Record("p", {"x": rows}), CONTRACT)["x"]
    assert array.dtype == np.float32
    assert array.tolist() == (rows if isinstance(rows[0], list) else [rows])


def test_a_batch_axis_is_added_to_all_inputs_or_to_none() -> None:
    arrays = arrays_of(Record("p", {"x": [1, 2, 3], "n": 4}), TWO)
    assert {name: array.shape for name, array in arrays.items()} == {"x": (1, 3), "n": (1,)}
    with pytest.raises(InvalidRequest, match="tensor 'x': shape"):
        arrays_of(Record("p", {"x": [1, 2, 3], "n": [4]}), TWO)


def test_numbers_that_json_has_no_word_for_are_texts() -> None:
    values = json.loads('[["NaN", "-Infinity", 2.5]]')
    assert str(arrays_of(Record("p", {"x": values}), CONTRACT)["x"].tolist()) == "[[nan, -inf, 2.5]]"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "tensor 'x' is missing"),
        ({"x": [[1, 2, 3]], "z": 1}, "no input 'z'"),
        ({"x": [[1, 2]]}, "tensor 'x': shape"),
        ({"x": [[1, 2], [3]]}, "tensor 'x': its lists"),
        ({"x": [["1", "2", "3"]]}, "tensor 'x': strings"),
        ({"x": [[1, 2, None]]}, "tensor 'x': holds something"),
        ({"x": {"a": 1}}, "tensor 'x': holds something"),
        ({"x": [[1, 2, 1e300]]}, "tensor 'x': a value"),
    ],
    ids=["missing", "unknown", "shape", "ragged", "strings", "null", "object", "overflow"],
)
def test_what_does_not_fit_the_model_names_the_tensor(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        arrays_of(Record("p", values), CONTRACT)


def test_a_fraction_is_no_whole_number() -> None:
    with pytest.raises(InvalidRequest, match="tensor 'n': a value"):
        arrays_of(Record("p", {"x": [[1, 2, 3]], "n": [1.5]}), TWO)
