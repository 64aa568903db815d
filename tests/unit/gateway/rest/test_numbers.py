"""JSON's numbers and the raw contents of tensors: what NumPy would have made of them, and nothing else."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloister.errors import InvalidRequest
from cloister.gateway.rest import numbers, strict_json
from cloister.gateway.rest.numbers import CODES, Numbers, shape_of, to_json, to_raw, values_of
from cloister.oip.datatypes import datatype_named

SHAPES = st.lists(st.integers(0, 4), min_size=1, max_size=4).map(tuple)


def long(text: str | bytes) -> Numbers:
    """As `strict_json` leaves a long array."""
    raw = text.encode() if isinstance(text, str) else text
    return Numbers(b"{" + raw + b"}", 1, 1 + len(raw))


@settings(max_examples=150, deadline=None)
@given(datatype=st.sampled_from(sorted(CODES)), shape=SHAPES, seed=st.integers(0, 1 << 30), nested=st.booleans())
def test_elements_are_those_of_numpy(datatype: str, shape: tuple[int, ...], seed: int, nested: bool) -> None:
    dtype = datatype_named(datatype, "x").dtype
    array = (
        np.frombuffer(np.random.default_rng(seed).bytes(math.prod(shape) * 8), np.int64).astype(dtype).reshape(shape)
    )
    data = array.tolist() if nested else array.ravel().tolist()
    assert to_raw(data, datatype, shape, "x") == array.tobytes()
    assert json.loads(to_json(array.tobytes(), datatype, "x")) == array.ravel().tolist()
    if datatype != "BOOL":
        assert to_raw(long(json.dumps(data)), datatype, shape, "x") == array.tobytes()
        if nested and 0 not in shape:
            assert shape_of(long(json.dumps(data))) == shape
    assert list(values_of(array.tobytes(), datatype, "x")) == array.ravel().tolist()


@pytest.mark.parametrize("size", [1, 3000, 200_000])
def test_long_arrays_are_read_in_pieces(size: int) -> None:
    array = np.random.default_rng(3).standard_normal((2, size)).astype(np.float32)
    assert to_raw(long(json.dumps(array.tolist())), "FP32", (2, size), "x") == array.tobytes()
    assert json.loads(to_json(array.tobytes(), "FP32", "x")) == array.ravel().tolist()


@pytest.mark.attack("I09")
@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("[1,2,3]", (4,)),
        ("[1,2,3]", (2,)),
        ("[[1,2],[3]]", (2, 2)),
        ("[[1,2,3],[4]]", (2, 2)),
        ("[1[,2]]", (1, 2)),
        ("[[1],2]", (1, 2)),
        ("[[1,2]3]", (1, 2)),
        ("[[1 2]]", (1, 2)),
        ("[1,,2]", (3,)),
        ("[1,2,]", (3,)),
        ("[1],[2]", (2,)),
        ("[,1]", (2,)),
        ("[01]", (1,)),
        ("[1.]", (1,)),
        ("[+1]", (1,)),
        ("[-]", (1,)),
        ("[1e400]", (1,)),
        ("[1e39]", (1,)),
        ("[5]", (0,)),
        ("[5]", (2, 0)),
        ("[]", (1 << 30, 1 << 30)),
        ("[" * 3000 + "]" * 3000, (1,) * 32),
    ],
)
def test_what_does_not_fit_its_shape_is_refused(text: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequest):
        to_raw(long(text), "FP32", shape, "x")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return
    with pytest.raises(InvalidRequest):
        to_raw(data, "FP32", shape, "x")


@pytest.mark.parametrize(
    ("data", "datatype"),
    [
        ([256], "UINT8"),
        ([-1], "UINT8"),
        ([1.0], "INT32"),
        ([True], "INT32"),
        ([1], "BOOL"),
        (["1"], "FP32"),
        ([None], "FP32"),
        ([1 << 64], "UINT64"),
        ([10**400], "FP64"),
        ([float("inf")], "FP64"),
        ([1], "BYTES"),
        ([1.0], "FP16"),
        ([1.0], "BF16"),
        ([1], "INT7"),
        ("1", "FP32"),
        (1, "FP32"),
        ({"a": 1}, "FP32"),
    ],
)
def test_what_a_datatype_does_not_have_is_refused(data: Any, datatype: str) -> None:
    with pytest.raises(InvalidRequest):
        to_raw(data, datatype, (1,), "x")


def test_texts_are_bytes_with_their_length() -> None:
    raw = to_raw(["a", "", "ü"], "BYTES", (3,), "x")
    assert raw == b"\1\0\0\0a\0\0\0\0\2\0\0\0\xc3\xbc"
    assert json.loads(to_json(raw, "BYTES", "x")) == ["a", "", "ü"]
    for wrong in (b"\1\0\0\0\xff", b"\2\0\0\0a", b"\1"):
        with pytest.raises(InvalidRequest):
            to_json(wrong, "BYTES", "x")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_has_no_word_for_is_not_written(value: float) -> None:
    with pytest.raises(InvalidRequest, match="binary_data"):
        to_json(np.array([1, value], np.float32).tobytes(), "FP32", "y")


def test_json_is_read_as_the_library_reads_it_and_long_arrays_are_left_out() -> None:
    data = list(range(400))
    text = json.dumps({"inputs": [{"name": 'say "data": [1, 2', "data": data}], "d\\": data, "few": [1, 2]}).encode()
    found = strict_json.parse(text)
    numbers_found = found["inputs"][0]["data"]
    assert isinstance(numbers_found, Numbers)
    assert to_raw(numbers_found, "INT32", (400,), "x") == np.arange(400, dtype=np.int32).tobytes()
    assert found["d\\"] == data  # a name that ends so could be the inside of a string
    assert (found["few"], found["inputs"][0]["name"]) == ([1, 2], 'say "data": [1, 2')


def test_an_array_within_a_string_stays_there() -> None:
    inside = 'x "data": [' + "1," * 600 + "1] y"
    assert strict_json.parse(json.dumps({"a": inside}).encode()) == {"a": inside}
    begins = '": [' + "1," * 600 + "1]"
    assert strict_json.parse(json.dumps({"a": begins, "b": [begins]}).encode()) == {"a": begins, "b": [begins]}


@settings(max_examples=100, deadline=None)
@given(
    value=st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.text()
        | st.integers(100, 300).map(lambda size: list(range(size))),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=10,
    )
)
def test_any_json_is_the_same_once_its_arrays_are_read(value: Any) -> None:
    assert _read(strict_json.parse(json.dumps(value).encode())) == value


def _read(value: Any) -> Any:
    if isinstance(value, Numbers):
        return json.loads(value.text[value.start : value.stop])
    if isinstance(value, list):
        return [_read(each) for each in value]
    return {name: _read(each) for name, each in value.items()} if isinstance(value, dict) else value


@pytest.mark.attack("G22")
@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b'{"a":1}{',
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":1}}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":[' + b"1," * 600 + b"NaN]}",
        b'{"a":[' + b"1," * 600 + b"1]]}",
        b'{"a":[' + b"1," * 600 + b'1]"b":1}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'"\xff"',
        b"\xef\xbb\xbf{}",
        b"{'a':1}",
        b'{"a":' + b"1" * 5000 + b"}",
        rb'{"\ud800":1}',
        rb'{"a":"\uDFFF"}',
        rb'{"a":"\ud83d\ud83d\ude00"}',
        rb'["\\\udc00"]',
    ],
)
def test_what_is_not_json_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidRequest):
        strict_json.parse(text)


@pytest.mark.parametrize("text", [r'["\ud83d\ude00\u0041"]', r'["\\ud800", "\\\\", "\"\u00fc"]', r'["\\\ud83D\uDe00"]'])
def test_what_escapes_say_of_whole_characters_is_read(text: str) -> None:
    assert strict_json.parse(text.encode()) == json.loads(text)


@pytest.mark.attack("G22")
@pytest.mark.parametrize("depth", [33, 1_000_000])
def test_an_array_deeper_than_a_tensor_is_refused_and_not_walked_level_by_level(depth: int) -> None:
    with pytest.raises(InvalidRequest, match=f"nested {depth} deep"):
        shape_of(long("[" * depth + "]" * depth))
    assert shape_of(long("[" * 32 + "1" + "]" * 32)) == (1,) * 32


def test_much_that_is_not_numbers_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strict_json, "MAX_TEXT_BYTES", 1000)
    array = "[" + "1," * 5000 + "1]"
    assert isinstance(strict_json.parse(f'{{"a": {array}, "b": {array}}}'.encode())["b"], Numbers)
    for text in (f'{{"a": {array}, "b": "{"x" * 1000}"}}', '{"a": "' + "x" * 2000 + '"}', '{"a":[1],' * 300):
        with pytest.raises(InvalidRequest) as caught:
            strict_json.parse(text.encode())
        assert caught.value.reason == "request.too_large"


def test_pieces_end_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "PIECE_BYTES", 3)
    monkeypatch.setattr(numbers, "SCAN_BYTES", 2)
    assert to_raw(long("[ [1.5, 2],\n [30, -4e1] ]"), "FP64", (2, 2), "x") == np.array([1.5, 2, 30, -40.0]).tobytes()
