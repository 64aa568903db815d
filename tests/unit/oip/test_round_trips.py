"""Every datatype survives the wire, raw and typed, bit for bit."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from cloister.api.oip.inference_pb2 import ModelInferRequest
from cloister.oip.contents import to_raw
from cloister.oip.datatypes import DATATYPES
from cloister.oip.tensors import (
    decode_request,
    decode_response,
    encode_request,
    encode_response,
    parse_request,
    parse_response,
)

FIXED = sorted(name for name, datatype in DATATYPES.items() if datatype.size_bytes)
TYPED = sorted(name for name in FIXED if DATATYPES[name].typed_field)
SHAPES = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
NAMES = st.text(min_size=1, max_size=20)


def arrays_of(datatype):
    """Arrays of any bit pattern: NaNs with payloads, infinities and subnormal numbers among them."""
    dtype = DATATYPES[datatype].dtype
    if dtype == np.bool_:
        return npst.arrays(dtype, SHAPES)
    return npst.arrays(f"u{dtype.itemsize}", SHAPES).map(lambda bits: bits.view(dtype) if bits.ndim else bits)


def same(left, right):
    return left.shape == right.shape and left.tobytes() == right.tobytes()


@pytest.mark.parametrize("datatype", FIXED)
@given(data=st.data())
def test_fixed_size_datatypes_keep_every_bit(datatype, data):
    dtype = DATATYPES[datatype].dtype
    array = data.draw(arrays_of(datatype))
    array = array if array.dtype == dtype else np.frombuffer(array.tobytes(), dtype).reshape(array.shape)
    request = encode_request("m", {"x": array}, datatypes={"x": datatype})
    decoded = decode_request(parse_request(request.SerializeToString()))["x"]
    assert request.inputs[0].datatype == datatype
    assert decoded.dtype == dtype
    assert same(decoded, array)


@given(elements=st.lists(st.binary(max_size=12), max_size=12), name=NAMES)
def test_bytes_keep_every_byte(elements, name):
    array = np.empty(len(elements), object)
    array[:] = elements
    decoded = decode_request(parse_request(encode_request("m", {name: array}).SerializeToString()))
    assert list(decoded) == [name]
    assert decoded[name].tolist() == elements


@given(arrays=st.dictionaries(NAMES, npst.arrays(np.float32, SHAPES), max_size=5))
def test_responses_keep_names_order_and_bits(arrays):
    response = encode_response("m", arrays, version="3", id="abc")
    decoded = decode_response(parse_response(response.SerializeToString()))
    assert (response.model_name, response.model_version, response.id) == ("m", "3", "abc")
    assert list(decoded) == list(arrays)
    assert all(same(decoded[name], array) for name, array in arrays.items())


@pytest.mark.parametrize("datatype", TYPED)
@given(data=st.data())
def test_typed_contents_mean_what_raw_contents_mean(datatype, data):
    row = DATATYPES[datatype]
    array = data.draw(npst.arrays(row.dtype, SHAPES, elements={"allow_nan": False} if row.dtype.kind == "f" else None))
    request = ModelInferRequest(model_name="m")
    tensor = request.inputs.add(name="x", datatype=datatype, shape=array.shape)
    getattr(tensor.contents, row.typed_field).extend(array.ravel().tolist())
    decoded = decode_request(request)["x"]
    assert decoded.dtype == row.dtype
    assert same(decoded, array)


def test_typed_bytes():
    request = ModelInferRequest()
    tensor = request.inputs.add(name="x", datatype="BYTES", shape=[2, 1])
    tensor.contents.bytes_contents.extend([b"", b"\x00\xff"])
    assert decode_request(request)["x"].tolist() == [[b""], [b"\x00\xff"]]


def test_text_arrays_become_utf8():
    decoded = decode_request(encode_request("m", {"x": np.array([["é", "b"]])}))["x"]
    assert decoded.tolist() == [["é".encode(), b"b"]]


def test_byte_order_and_memory_order_do_not_matter():
    array = np.arange(6, dtype=">i4").reshape(2, 3).T
    assert decode_request(encode_request("m", {"x": array}))["x"].tolist() == array.tolist()


def test_raw_contents_are_not_copied_and_cannot_be_written():
    decoded = decode_request(encode_request("m", {"x": np.arange(4.0)}))["x"]
    assert isinstance(decoded.base.base, bytes) or isinstance(decoded.base, bytes)
    with pytest.raises(ValueError, match="read-only"):
        decoded[0] = 1


def test_request_fields():
    request = encode_request(
        "m", {}, version="2", id="i", outputs=("p",), parameters={"a": True, "b": 3, "c": 0.5, "d": "s"}
    )
    assert (request.model_version, request.id, [output.name for output in request.outputs]) == ("2", "i", ["p"])
    parameters = {
        key: getattr(value, value.WhichOneof("parameter_choice")) for key, value in request.parameters.items()
    }
    assert parameters == {"a": True, "b": 3, "c": 0.5, "d": "s"}


def test_an_empty_tensor_has_no_bytes():
    assert to_raw(np.zeros((0, math.factorial(3))), DATATYPES["FP64"], "x") == b""
