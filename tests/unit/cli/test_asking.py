"""Arrays from files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloister.cli.asking import plain, read_inputs
from cloister.cli.failures import Stop
from cloister.cli.output import print_json, print_json_line
from cloister.contract import ModelContract, TensorSpec

ONE = ModelContract((TensorSpec("x", "FP32", (-1, 2)),), ())
TWO = ModelContract((TensorSpec("x", "FP32", (-1, 2)), TensorSpec("n", "INT64", (-1,))), ())
X = np.array([[1.0, 2.0]], np.float32)


def test_json_gets_its_datatypes_from_the_model(tmp_path: Path) -> None:
    path = tmp_path / "inputs.json"
    path.write_text(json.dumps({"x": [[1, 2]], "n": [3]}))
    found = read_inputs(path, TWO)
    assert (found["x"].dtype, found["n"].dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(found["x"], X)


def test_a_request_of_the_open_inference_protocol(tmp_path: Path) -> None:
    path = tmp_path / "inputs.json"
    path.write_text(json.dumps({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}))
    np.testing.assert_array_equal(read_inputs(path, ONE)["x"], X)


def test_numpys_own_files(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    np.savez(tmp_path / "x.npz", x=X)
    np.testing.assert_array_equal(read_inputs(tmp_path / "x.npy", ONE)["x"], X)
    np.testing.assert_array_equal(read_inputs(tmp_path / "x.npz", ONE)["x"], X)
    with pytest.raises(Stop, match="2 inputs"):
        read_inputs(tmp_path / "x.npy", TWO)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(Stop):
        read_inputs(tmp_path / "x.npy", ONE)


@pytest.mark.parametrize(
    "content",
    ["", "[", "[]", "{}x", '{"y": [1]}', '{"x": "text"}', '{"inputs": [{"name": "x"}]}', "[" * 100_000],
    ids=["empty", "cut", "list", "more", "unknown", "text", "no data", "deep"],
)
def test_what_is_no_input_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "inputs.json"
    path.write_text(content)
    with pytest.raises(Stop, match="inputs"):
        read_inputs(path, ONE)


def test_no_file_and_another_kind_of_file(tmp_path: Path) -> None:
    with pytest.raises(Stop, match="no file"):
        read_inputs(tmp_path / "none.json", ONE)
    with pytest.raises(Stop, match="neither"):
        read_inputs(tmp_path / "inputs.csv", ONE)


def test_outputs_for_json() -> None:
    words: Any = np.array([b"a", b"\xff"], dtype=object)
    assert plain({"y": X, "words": words}) == [
        {"name": "y", "shape": [1, 2], "data": [1.0, 2.0]},
        {"name": "words", "shape": [2], "data": ["a", "\\xff"]},
    ]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_numbers_that_are_not_finite_are_words_in_json_there_and_back(tmp_path: Path, dtype: Any) -> None:
    odd = np.array([[np.nan, np.inf], [-np.inf, 1.5]], dtype)
    (found,) = plain({"x": odd})
    assert found["data"] == ["NaN", "Infinity", "-Infinity", 1.5]
    path = tmp_path / "inputs.json"
    path.write_text(json.dumps({"inputs": [{**found, "datatype": "FP32"}]}, allow_nan=False))
    np.testing.assert_array_equal(read_inputs(path, ONE)["x"], odd.astype(np.float32))


def test_what_is_printed_as_json_is_json() -> None:
    for printed in (print_json, print_json_line):
        with pytest.raises(ValueError, match="JSON"):
            printed({"x": float("nan")})
