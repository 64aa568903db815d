"""Whatever is wrong with a tensor is refused by name, before memory is spent on it."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.api.oip.inference_pb2 import ModelInferRequest
from cloister.errors import InvalidRequest
from cloister.oip.tensors import MAX_TENSORS, decode_request, encode_request, parse_request, parse_response


def good() -> ModelInferRequest:
    return encode_request("m", {"age": np.arange(6, dtype=np.float32).reshape(2, 3), "sex": np.array([True, False])})


def refused(request: ModelInferRequest) -> str:
    with pytest.raises(InvalidRequest) as caught:
        decode_request(request)
    return str(caught.value)


def test_the_good_one_passes():
    assert list(decode_request(good())) == ["age", "sex"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("datatype", "FP31"), ("datatype", "fp32"), ("datatype", ""), ("datatype", "FP64"), ("datatype", "FP16")],
)
def test_datatype(field, value):
    request = good()
    setattr(request.inputs[0], field, value)
    assert "tensor 'age'" in refused(request)


@pytest.mark.parametrize(
    "shape",
    [
        [],
        [6, 1, 2],
        [2, -3],
        [-2, -3],
        [0],
        [1 << 62, 1 << 62],
        [(1 << 63) - 1],
        [1 << 32, 1 << 32, 1 << 32, 0],
        [0, 1 << 31, 1 << 31],
        [1] * 33,
        [1] * 100_000,
    ],
)
def test_shape(shape):
    request = good()
    request.inputs[0].shape[:] = shape
    assert "tensor 'age'" in refused(request)


@pytest.mark.parametrize("raw", [b"", b"\0" * 23, b"\0" * 25, b"\0" * 48])
def test_byte_length(raw):
    request = good()
    request.raw_input_contents[0] = raw
    assert "tensor 'age'" in refused(request)


def test_a_bool_is_zero_or_one():
    request = good()
    request.raw_input_contents[1] = b"\x01\x02"
    assert "tensor 'sex'" in refused(request)


def test_a_name_twice():
    request = good()
    request.inputs[1].name = "age"
    assert "tensor 'age' comes twice" in refused(request)


@pytest.mark.parametrize("name", ["", "n" * 257])
def test_a_name_that_is_none(name):
    request = good()
    request.inputs[1].name = name
    assert "tensor number 1" in refused(request)


def test_raw_contents_for_some_tensors_only():
    request = good()
    del request.raw_input_contents[1]
    assert "1 raw contents for 2 tensors" in refused(request)


def test_raw_contents_without_a_tensor():
    request = good()
    request.raw_input_contents.append(b"")
    assert "3 raw contents for 2 tensors" in refused(request)


def test_raw_and_typed():
    request = good()
    request.inputs[1].contents.bool_contents.extend([True, False])
    assert "tensor 'sex'" in refused(request)


def test_neither_raw_nor_typed():
    request = good()
    del request.raw_input_contents[:]
    assert "tensor 'age': 0 elements" in refused(request)


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [
        ("INT8", "int_contents", [1, 128]),
        ("INT8", "int_contents", [1, -129]),
        ("UINT8", "uint_contents", [1, 256]),
        ("UINT16", "uint_contents", [1, 65536]),
        ("INT16", "int_contents", [1, 40000]),
        ("FP32", "fp64_contents", [1.0, 2.0]),
        ("INT64", "int_contents", [1, 2]),
        ("FP16", "fp32_contents", [1.0, 2.0]),
        ("BF16", "fp32_contents", [1.0, 2.0]),
        ("BYTES", "bytes_contents", [b"a"]),
        ("FP32", "fp32_contents", [1.0, 2.0, 3.0]),
    ],
)
def test_typed_contents(datatype, field, values):
    request = ModelInferRequest()
    tensor = request.inputs.add(name="age", datatype=datatype, shape=[2])
    getattr(tensor.contents, field).extend(values)
    assert "tensor 'age'" in refused(request)


def test_typed_contents_in_two_fields():
    request = ModelInferRequest()
    tensor = request.inputs.add(name="age", datatype="FP32", shape=[1])
    tensor.contents.fp32_contents.append(1.0)
    tensor.contents.int_contents.append(1)
    assert "tensor 'age'" in refused(request)


@pytest.mark.parametrize(
    ("shape", "raw"),
    [
        ([1], b"\x02\0\0"),
        ([1], b"\x02\0\0\0a"),
        ([1], b"\xff\xff\xff\xffab"),
        ([1], b"\x01\0\0\0ab"),
        ([2], b"\x05\0\0\0abcde"),
        ([2], b"\x03\0\0\0abc\x01\0"),
        ([0], b"\0\0\0\0"),
        ([1 << 30], b"\0\0\0\0"),
    ],
)
def test_bytes_elements(shape, raw):
    request = ModelInferRequest(raw_input_contents=[raw])
    request.inputs.add(name="age", datatype="BYTES", shape=shape)
    assert "tensor 'age'" in refused(request)


def test_too_many_tensors():
    request = ModelInferRequest()
    for number in range(MAX_TENSORS + 1):
        request.inputs.add(name=str(number), datatype="FP32", shape=[0])
    assert "tensors" in refused(request)


def test_a_huge_shape_costs_no_memory():
    request = ModelInferRequest(raw_input_contents=[b"1234"])
    request.inputs.add(name="age", datatype="FP32", shape=[1 << 30])
    tracemalloc.start()
    refused(request)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("array", [np.array([1j]), np.array(["2024-01-01"], "M8[D]"), np.array([object()])])
def test_arrays_that_no_datatype_stands_for(array):
    with pytest.raises(InvalidRequest, match="tensor 'age'"):
        encode_request("m", {"age": array})


def test_a_declared_datatype_never_changes_values():
    with pytest.raises(InvalidRequest, match="tensor 'age'"):
        encode_request("m", {"age": np.array([1.5])}, datatypes={"age": "FP32"})


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(junk):
    for parse in (parse_request, parse_response):
        try:
            parse(junk)
        except InvalidRequest:
            continue


@given(
    name=st.text(max_size=4),
    datatype=st.sampled_from(["FP32", "BOOL", "BYTES", "INT8", "BF16", "X"]),
    shape=st.lists(st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(0, 3), max_size=4),
    raw=st.none() | st.binary(max_size=40),
    typed=st.none() | st.lists(st.integers(-(1 << 31), (1 << 31) - 1), max_size=4),
)
def test_any_tensor_is_decoded_or_refused(name, datatype, shape, raw, typed):
    request = ModelInferRequest()
    tensor = request.inputs.add(name=name, datatype=datatype, shape=shape)
    if typed is not None:
        tensor.contents.int_contents.extend(typed)
    if raw is not None:
        request.raw_input_contents.append(raw)
    try:
        decoded = decode_request(request)
    except InvalidRequest:
        return
    assert decoded[name].shape == tuple(shape)


def test_an_input_that_is_no_array_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match=r"'x' is a list"):
        encode_request("m", {"x": [1.0, 2.0]})  # type: ignore[dict-item]  # what a newcomer tries
