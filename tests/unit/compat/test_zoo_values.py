"""What a program of Cluster Serving gives, to what a model takes; by the bytes recorded there where they apply."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cloister.compat.zoo.fitting import fitted
from cloister.compat.zoo.images import pixels_of
from cloister.compat.zoo.values import array_of, read_instance
from cloister.contract import ModelContract, TensorSpec
from cloister.errors import InvalidRequest, NotFound

RECORDED = json.loads((Path(__file__).parents[2] / "vectors/zoo-wire.json").read_text())
ANY = TensorSpec("t", "FP32", (-1, -1))
TEXT = TensorSpec("t", "BYTES", (-1,))
PHOTO = TensorSpec("img", "UINT8", (-1, 4, 6, 3))


def contract(*inputs: TensorSpec) -> ModelContract:
    return ModelContract(inputs, (TensorSpec("y", "FP32", (-1, 2)),))


def jpeg(width: int = 6, height: int = 4) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (200, 10, 10)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def test_a_dense_tensor_is_what_their_client_sent() -> None:
    given = (np.arange(128) / 64 - 1).astype(np.float32).reshape(RECORDED["dense"]["shape"])
    instance = fitted(contract(TensorSpec("input", "FP32", (-1, 128, 1, 1))), {"t": given})
    assert not instance.unbatched
    assert instance.arrays["input"].tobytes() == given.tobytes()


def test_a_sparse_tensor_is_the_dense_one_that_it_describes() -> None:
    sent = RECORDED["sparse"]
    indices = np.array(sent["indiceData"]).reshape(sent["indiceShape"])
    dense = array_of([indices, np.array(sent["data"]), np.array(sent["shape"])], ANY)
    assert dense.shape == (5, 10)
    assert [dense[row, column] for row, column in ((0, 0), (1, 2), (4, 5))] == sent["data"]
    assert np.count_nonzero(dense) == 3


def test_strings_are_kept_apart_where_a_bar_joined_them() -> None:
    joined = RECORDED["strings"]
    assert array_of(joined.split("|"), TEXT).tolist() == [part.encode() for part in joined.split("|")]
    assert array_of(["one|two", ""], TEXT).tolist() == [b"one|two", b""]


def test_strings_beside_a_tensor_are_one_request() -> None:
    """Their client failed: 'Arrays were not all the same length'."""
    assert "same length" in RECORDED["mixed_string_and_tensor"]
    both = contract(TensorSpec("words", "BYTES", (-1,)), TensorSpec("x", "FP32", (-1, 2)))
    instance = fitted(both, {"words": ["a", "b"], "x": np.zeros((2, 2))})
    assert instance.arrays["x"].dtype == np.float32


def test_a_text_that_is_no_image_is_an_error() -> None:
    with pytest.raises(InvalidRequest) as caught:
        array_of({"b64": RECORDED["image_b64"]}, PHOTO)
    assert caught.value.reason == "image.malformed"


def test_json_as_it_was_posted_there() -> None:
    x = np.arange(4, dtype=np.float32)
    assert np.array_equal(read_instance(json.dumps({"instances": [{"t": x.tolist()}]}))["t"], x)  # type: ignore[arg-type]
    many = {"instances": [{"text": ["come", "on"], "scalar": 3.5, "img": "aGVsbG8="}]}
    read = read_instance(json.dumps(many))
    assert read["text"] == ["come", "on"]
    assert np.asarray(read["scalar"]).shape == ()
    assert read["img"] == {"b64": "aGVsbG8="}
    sparse = {"indices": [[1, 1], [2, 0]], "data": [0.5, 2.0], "shape": [3, 2]}
    assert array_of(read_instance(json.dumps({"instances": [{"s": sparse}]}))["s"], ANY)[2, 0] == 2.0


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"instances": {}}', '{"instances": [1]}', "[" * 100_000])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_instance(text)
    assert caught.value.reason == "json.malformed"


def test_a_second_instance_is_not_passed_over() -> None:
    """Theirs answered the first and forgot the others."""
    with pytest.raises(InvalidRequest) as caught:
        read_instance('{"instances": [{"t": [1]}, {"t": [2]}]}')
    assert caught.value.reason == "instances.several"


@pytest.mark.parametrize(
    ("indices", "values", "shape"),
    [
        ([[0, 0]], [1.0, 2.0], [5, 10]),
        ([[0]], [1.0], [5, 10]),
        ([[5, 0]], [1.0], [5, 10]),
        ([[-1, 0]], [1.0], [5, 10]),
        ([[0, 0], [0, 0]], [1.0, 2.0], [5, 10]),
        ([[0.5, 0]], [1.0], [5, 10]),
        ([[0, 0]], [1.0], [5, 2.5]),
        ([[0, 0]], [1.0], [1 << 20, 1 << 20]),
        ([[0, 0]], [1.0], [1 << 14, 1 << 14]),
        ([[0, 0]], [1.0], [5, -10]),
    ],
)
def test_a_sparse_tensor_that_contradicts_itself_is_refused(indices: Any, values: Any, shape: Any) -> None:
    with pytest.raises(InvalidRequest):
        array_of([np.array(indices), np.array(values), np.array(shape)], ANY)


@pytest.mark.parametrize("value", [3, None, [], [1, 2], (1, 2), [np.zeros(2)], b"jpeg", {"url": "x"}, ["a", 1], {}])
def test_what_is_no_input_is_refused_by_name(value: object) -> None:
    with pytest.raises(InvalidRequest, match="'t'"):
        array_of(value, TensorSpec("t", "UINT8", (-1, 4, 6, 3)))


def test_an_image_is_blue_green_red_in_the_layout_of_the_model(tmp_path: Path) -> None:
    (tmp_path / "red.jpg").write_bytes(jpeg())
    last = array_of(str(tmp_path / "red.jpg"), PHOTO)
    assert last.shape == (4, 6, 3)
    assert last[0, 0, 2] > 190 > 30 > last[0, 0, 0]
    first = array_of({"path": str(tmp_path / "red.jpg")}, TensorSpec("img", "FP32", (-1, 3, 4, 6)))
    assert np.array_equal(first, last.transpose(2, 0, 1))
    text = array_of({"b64": base64.b64encode(jpeg()).decode()}, PHOTO)
    assert np.array_equal(text, last)
    instance = fitted(contract(PHOTO), {"img": str(tmp_path / "red.jpg")})
    assert instance.unbatched
    assert instance.arrays["img"].shape == (1, 4, 6, 3)


def test_an_image_of_another_size_is_refused_not_resized() -> None:
    with pytest.raises(InvalidRequest, match=r"shape \[1, 5, 6, 3\], the model takes \[-1, 4, 6, 3\]"):
        fitted(contract(PHOTO), {"img": {"b64": base64.b64encode(jpeg(6, 5)).decode()}})


def test_an_image_is_for_models_that_take_one(tmp_path: Path) -> None:
    for shape in ((-1, 8), (-1, 3, 4, 3), (-1, 4, 6), None):
        with pytest.raises(InvalidRequest) as caught:
            pixels_of({"b64": ""}, TensorSpec("x", "FP32", shape))
        assert caught.value.reason == "image.unsupported"
    with pytest.raises(NotFound):
        array_of(str(tmp_path / "none.jpg"), PHOTO)


@pytest.mark.parametrize(
    ("given", "datatype", "expected"),
    [
        (np.array([[1, 2]]), "FP32", np.float32),
        (np.array([[0.1, 2.5]]), "FP32", np.float32),
        (np.array([[np.nan, np.inf]]), "FP32", np.float32),
        (np.array([[1.0, 2.0]]), "INT64", np.int64),
        (np.array([[0, 255]]), "UINT8", np.uint8),
        (np.array([[True, False]]), "FP16", np.float16),
    ],
)
def test_numbers_become_what_the_model_takes(given: np.ndarray, datatype: str, expected: Any) -> None:
    made = fitted(contract(TensorSpec("x", datatype, (-1, 2))), {"x": given}).arrays["x"]
    assert made.dtype == expected
    assert np.array_equal(made, given.astype(expected), equal_nan=True)


@pytest.mark.parametrize(
    ("given", "datatype"),
    [
        (np.array([[0, 256]]), "UINT8"),
        (np.array([[-1, 0]]), "UINT8"),
        (np.array([[0.5, 1.0]]), "INT32"),
        (np.array([[1e300, 0.0]]), "FP32"),
        (np.array([[1j, 0]]), "FP32"),
        (np.array([[1.0, 0.0]]), "BF16"),
        (np.array([["a", "b"]]), "FP32"),
        (np.array([[1.0, 2.0]]), "BYTES"),
    ],
)
def test_a_value_that_would_change_is_refused(given: np.ndarray, datatype: str) -> None:
    with pytest.raises(InvalidRequest, match="'x'"):
        fitted(contract(TensorSpec("x", datatype, (-1, 2))), {"x": given})


@pytest.mark.parametrize("short", [np.zeros((1, 1)), np.zeros(1), np.zeros(0), np.zeros((1, 3)), np.zeros((1, 1, 2))])
def test_a_tensor_with_too_few_elements_is_never_completed(short: np.ndarray) -> None:
    """There, the rest came from the previous client's input."""
    with pytest.raises(InvalidRequest, match="tensor 'x': shape"):
        fitted(contract(TensorSpec("x", "FP32", (-1, 2))), {"x": short})


def test_a_batch_axis_is_for_all_inputs_or_none() -> None:
    two = contract(TensorSpec("a", "FP32", (-1, 2)), TensorSpec("b", "FP32", (-1,)))
    assert fitted(two, {"a": np.zeros(2), "b": np.array(1.0)}).arrays["b"].shape == (1,)
    with pytest.raises(InvalidRequest, match="tensor 'a': shape"):
        fitted(two, {"a": np.zeros(2), "b": np.zeros(1)})
    fixed = contract(TensorSpec("a", "FP32", (2,)))
    assert not fitted(fixed, {"a": np.zeros(2)}).unbatched


def test_names_are_the_models_where_it_has_several() -> None:
    two = contract(TensorSpec("a", "FP32", (-1,)), TensorSpec("b", "FP32", (-1,)))
    with pytest.raises(InvalidRequest, match="no input 'c'; its inputs are a, b"):
        fitted(two, {"a": np.zeros(1), "c": np.zeros(1)})
    with pytest.raises(InvalidRequest, match="'b' is missing"):
        fitted(two, {"a": np.zeros(1)})
    with pytest.raises(InvalidRequest, match="no input"):
        fitted(contract(TensorSpec("a", "FP32", (-1,))), {"a": np.zeros(1), "b": np.zeros(1)})


def test_results_are_bare_where_the_instance_was() -> None:
    several = ModelContract(
        (TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("p", "FP32", (-1, 3)), TensorSpec("q", "INT64", (-1,)))
    )
    outputs = {"q": np.array([7]), "p": np.zeros((1, 3), np.float32)}
    first, second = fitted(several, {"x": np.zeros(2)}).result(several, outputs)
    assert (first.shape, second.shape) == ((3,), ())
    first, second = fitted(several, {"x": np.zeros((1, 2))}).result(several, outputs)
    assert (first.shape, second.shape) == ((1, 3), (1,))
