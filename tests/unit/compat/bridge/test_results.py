"""Answers in Cluster Serving's form, as its client reads them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cloister.compat.zoo.bridge.results import write_error, write_result
from cloister.contract import ModelContract, TensorSpec
from cloister.errors import InvalidRequest, Unavailable
from fakes.zoo_client import read

RECORDED = json.loads((Path(__file__).parents[3] / "vectors/zoo-wire.json").read_text())


def contract(*outputs: TensorSpec) -> ModelContract:
    return ModelContract((TensorSpec("x", "FP32", (-1, 2)),), outputs)


def batches(value: bytes) -> list[pa.RecordBatch]:
    return list(pa.ipc.open_stream(base64.b64decode(value)))


def test_an_answer_is_the_batch_that_was_recorded_there() -> None:
    (theirs,) = batches(RECORDED["dense_entry"]["result_value"])
    answer = np.array([RECORDED["dense"]["result_data"]], np.float32)
    value = write_result(contract(TensorSpec("y", "FP32", (-1, 10))), {"y": answer})
    (ours,) = batches(value)
    assert ours.equals(theirs)
    assert ours.schema.equals(theirs.schema)
    assert np.array_equal(read(value), RECORDED["dense"]["result_data"])
    version = base64.b64decode(value)[:64], base64.b64decode(RECORDED["dense_entry"]["result_value"])[:64]
    assert version[0][:4] == version[1][:4] == b"\xff\xff\xff\xff"


def test_each_output_is_a_batch_in_the_models_order() -> None:
    outputs = contract(TensorSpec("a", "FP32", (-1, 2, 3)), TensorSpec("b", "INT64", (-1,)))
    value = write_result(outputs, {"b": np.array([4]), "a": np.arange(6, dtype=np.float32).reshape(1, 2, 3)})
    first, second = read(value)
    assert first.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert second.tolist() == 4


def test_rows_that_were_asked_together_are_answered_together() -> None:
    value = write_result(contract(TensorSpec("y", "FP32", (-1, 2))), {"y": np.ones((3, 2), np.float32)})
    assert read(value).shape == (3, 2)


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 1), (2, 1, 1), ()])
def test_a_shape_that_is_longer_than_its_elements_lacks_axes_of_one(shape: tuple[int, ...]) -> None:
    value = write_result(contract(TensorSpec("y", "FP32", None)), {"y": np.full(shape, 3.0, np.float32)})
    assert read(value).size == np.prod(shape)


@pytest.mark.parametrize(
    "output",
    [np.array([b"text"], object), np.array([(1 << 24) + 1]), np.zeros((0, 4), np.float32), np.array([1j])],
    ids=["text", "whole number", "empty", "complex"],
)
def test_what_their_form_cannot_say_is_an_error(output: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        write_result(contract(TensorSpec("y", "FP32", None)), {"y": output})
    assert caught.value.reason == "answer.unsupported"


def test_a_reason_is_one_line_and_names_nothing_of_ours() -> None:
    assert write_error(Unavailable("gone\nfor now", reason="peer.gone")) == "peer.gone: gone for now"
    assert write_error(RuntimeError("a secret")) == "internal: the bridge failed"
    assert len(write_error(InvalidRequest("x" * 5000))) == 1000
