"""Headers of tensors, read from wire bytes and held against a model: as the worker does it, or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from cloister.api.oip.inference_pb2 import ModelInferRequest
from cloister.contract import ELEMENT_BYTES, ModelContract, TensorSpec
from cloister.errors import InvalidRequest
from cloister.gateway.headers import check_tensors, read_input, read_output
from cloister.gateway.wire import read_request, varint
from cloister.oip.datatypes import DATATYPES
from fakes.contracts import raw_request, told_by_gateway, told_by_worker, typed_request

Change = Callable[[ModelInferRequest], object]
Input = ModelInferRequest.InferInputTensor


def length_delimited(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def with_input(at: int, change: Callable[[Input], object]) -> Change:
    return lambda request: change(request.inputs[at])


def set_shape(*dims: int) -> Callable[[Input], object]:
    return lambda tensor: tensor.shape.__setitem__(slice(None), dims)


def set_raw(at: int, raw: bytes) -> Change:
    return lambda request: request.raw_input_contents.__setitem__(at, raw)


WRONG: dict[str, Change] = {
    "unknown input": with_input(0, lambda tensor: setattr(tensor, "name", "imago")),
    "no name": with_input(0, lambda tensor: tensor.ClearField("name")),
    "twice": lambda request: request.inputs[1].CopyFrom(request.inputs[0]),
    "missing": lambda request: request.inputs.__delitem__(3),
    "one too many": lambda request: request.inputs.add(name="more", datatype="FP32"),
    "datatype": with_input(0, lambda tensor: setattr(tensor, "datatype", "FP64")),
    "no datatype": with_input(0, lambda tensor: tensor.ClearField("datatype")),
    "strings for numbers": with_input(0, lambda tensor: setattr(tensor, "datatype", "BYTES")),
    "unknown datatype": with_input(0, lambda tensor: setattr(tensor, "datatype", "FP31" * 20)),
    "shape": with_input(0, set_shape(2, 4)),
    "no shape": with_input(0, set_shape()),
    "rank of a number": with_input(1, set_shape(1)),
    "negative": with_input(0, set_shape(-2, 3)),
    "the least number": with_input(0, set_shape(-(1 << 63), 3)),
    "absurd": with_input(0, set_shape((1 << 63) - 1, 3)),
    "overflow": with_input(3, set_shape(2, (1 << 31) - 1)),
    "wraps to what is there": with_input(0, set_shape(((1 << 64) + 8) // 3, 3)),
    "many dimensions": with_input(0, set_shape(*[1] * 50_000)),
    "rows of another request": with_input(0, set_shape(3, 3)),
    "fewer rows than sent": with_input(0, set_shape(1, 3)),
    "one byte too few": set_raw(0, bytes(23)),
    "one byte too many": set_raw(0, bytes(25)),
    "nothing": set_raw(0, b""),
    "too short for strings": set_raw(2, bytes(11)),
    "fewer contents": lambda request: request.raw_input_contents.pop(),
    "more contents": lambda request: request.raw_input_contents.append(b""),
    "no contents": lambda request: request.ClearField("raw_input_contents"),
    "both kinds": with_input(0, lambda tensor: tensor.contents.fp32_contents.append(1)),
    "both kinds, one empty": with_input(0, lambda tensor: tensor.contents.SetInParent()),
    "unknown output": lambda request: request.outputs.add(name="r"),
    "output twice": lambda request: request.outputs.add(name="q"),
    "output as classes": lambda request: (
        request.outputs[0]
        .parameters["classification"]
        .MergeFrom(type(request.outputs[0].parameters["classification"])(int64_param=3))
    ),
    "shared memory": with_input(
        0, lambda tensor: setattr(tensor.parameters["shared_memory_region"], "string_param", "r")
    ),
    "parameter without a value": lambda request: request.parameters["empty"].SetInParent(),
}


@pytest.mark.attack("I09")
@pytest.mark.attack("G22")
@pytest.mark.parametrize("name", WRONG)
def test_what_the_worker_would_refuse_is_refused_in_its_words(name: str) -> None:
    request = raw_request()
    assert told_by_gateway(request.SerializeToString()) == ""
    WRONG[name](request)
    raw = request.SerializeToString()
    assert told_by_gateway(raw)
    assert told_by_gateway(raw) == told_by_worker(raw)


TYPED_WRONG: dict[str, Change] = {
    "one too few": with_input(0, lambda tensor: tensor.contents.fp32_contents.__delitem__(0)),
    "none": with_input(0, lambda tensor: tensor.contents.ClearField("fp32_contents")),
    "no contents": with_input(0, lambda tensor: tensor.ClearField("contents")),
    "fewer strings": with_input(2, set_shape(9)),
    "many": with_input(3, set_shape(2, 1 << 29)),
}


@pytest.mark.attack("I09")
@pytest.mark.parametrize("name", TYPED_WRONG)
def test_typed_contents_that_cannot_hold_the_elements_are_refused(name: str) -> None:
    request = typed_request()
    assert told_by_gateway(request.SerializeToString()) == told_by_worker(request.SerializeToString()) == ""
    TYPED_WRONG[name](request)
    raw = request.SerializeToString()
    assert told_by_gateway(raw)
    assert told_by_worker(raw)


def test_half_precision_has_no_typed_contents() -> None:
    for datatype in ("FP16", "BF16"):
        request = ModelInferRequest()
        request.inputs.add(name="x", datatype=datatype, shape=[2]).contents.fp32_contents.extend([1, 2])
        contract = ModelContract((TensorSpec("x", datatype, (2,)),), ())
        with pytest.raises(InvalidRequest, match=f"{datatype} has raw contents only"):
            check_tensors(contract, read_request(request.SerializeToString())[1])


def test_every_datatype_has_a_size() -> None:
    assert dict(ELEMENT_BYTES) == {name: datatype.size_bytes for name, datatype in DATATYPES.items()}


NAME, DATATYPE = length_delimited(1, b"x"), length_delimited(2, b"FP32")


@pytest.mark.attack("G22")
@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (NAME + NAME, "repeated"),
        (DATATYPE + DATATYPE, "repeated"),
        (length_delimited(5, b"") * 2, "repeated"),
        (b"\x08\x01", "wire type"),
        (b"\x10\x01", "wire type"),
        (b"\x19" + bytes(8), "wire type"),
        (b"\x1d" + bytes(4), "wire type"),
        (b"\x28\x01", "wire type"),
        (length_delimited(1, b"\xc3\x28"), "UTF-8"),
        (length_delimited(3, b"\x80"), "varint"),
        (b"\x18\x80", "varint"),
        (b"\x18" + b"\xff" * 10 + b"\x01", "varint"),
        (b"\x0a\x05abc", "longer"),
        (b"\x1b\x1c", "wire type"),
        (b"\x3b" * 64 + b"\x3c" * 64, "wire type"),
        (length_delimited(4, b"\x0a\x01a\x0a\x01b"), "one key"),
        (length_delimited(4, b"\x0a\x01a\x12\x04\x08\x01\x08\x00"), "one value"),
        (length_delimited(4, b"\x0a\x01a\x12\x02\x0a\x00"), "one value"),
        (length_delimited(4, b"\x0a\x01\xff"), "UTF-8"),
        (b"\x3a\x00" * 257, "too many"),
    ],
)
def test_malformed_headers_are_refused(raw: bytes, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        read_input(raw)


@pytest.mark.attack("G22")
@pytest.mark.parametrize(
    ("raw", "why"), [(NAME + NAME, "repeated"), (b"\x08\x01", "wire type"), (b"\x10\x01", "wire type")]
)
def test_malformed_outputs_are_refused(raw: bytes, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        read_output(raw)


_MANY = b"\x3a\x00" * 250
HOSTILE = {
    "many inputs": length_delimited(5, length_delimited(1, b"image") + _MANY) * 4000,
    "many outputs": raw_request().SerializeToString() + length_delimited(6, length_delimited(1, b"p") + _MANY) * 4000,
    "many dimensions": length_delimited(5, length_delimited(1, b"image") + length_delimited(3, b"\1" * (8 << 20))),
    "many parameters": length_delimited(5, length_delimited(4, length_delimited(1, b"a" * 30_000)) * 250),
    "many fields": length_delimited(5, b"\x3a\x00" * (4 << 20)),
    "many contents": b"\x3a\x00" * (4 << 20),
}


@pytest.mark.attack("I09")
@pytest.mark.attack("G1")
@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_refused_costs_little(name: str) -> None:
    took_s = []
    for _ in range(3):
        began_s = time.process_time()
        assert told_by_gateway(HOSTILE[name])
        took_s.append(time.process_time() - began_s)
    assert min(took_s) < 0.05


def agrees(raw: bytes) -> None:
    """What the gateway lets pass, the parser reads as the same request."""
    if told_by_gateway(raw):
        return
    route, tensors = read_request(raw)
    inputs = [read_input(part)[0] for part in tensors.inputs]
    try:
        parsed = ModelInferRequest.FromString(raw)
    except DecodeError:
        assert any(header.typed for header in inputs), "only what is inside typed contents is not looked at"
        return
    assert route[:3] == (parsed.model_name, parsed.model_version, parsed.id)
    assert [header[:3] for header in inputs] == [(t.name, t.datatype, tuple(t.shape)) for t in parsed.inputs]
    assert [header.typed for header in inputs] == [t.HasField("contents") for t in parsed.inputs]
    assert [read_output(part).name for part in tensors.outputs] == [output.name for output in parsed.outputs]
    assert list(tensors.raw_sizes) == [len(content) for content in parsed.raw_input_contents]


@pytest.mark.attack("G22")
@given(data=st.data())
def test_a_request_with_bytes_changed_is_the_same_to_both_or_refused(data: st.DataObject) -> None:
    request = data.draw(st.sampled_from((raw_request, typed_request)))()
    raw = bytearray(request.SerializeToString())
    for _ in range(data.draw(st.integers(0, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    at = data.draw(st.integers(0, len(raw)))
    junk = data.draw(st.binary(max_size=4))
    agrees(bytes(raw[:at] + junk + raw[at:]))


_dims = st.lists(st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(0, 4), max_size=4)
_names = st.sampled_from(["image", "flag", "words", "counts", "other", ""])


@pytest.mark.attack("G22")
@given(
    st.lists(st.tuples(_names, st.sampled_from([*ELEMENT_BYTES, "X"]), _dims, st.booleans()), max_size=5),
    st.lists(st.binary(max_size=24), max_size=5),
    st.lists(st.sampled_from(["p", "q", "r"]), max_size=3),
)
def test_any_well_formed_request_is_refused_by_both_or_neither_and_in_the_same_words(
    inputs: list[tuple[str, str, list[int], bool]], contents: list[bytes], outputs: list[str]
) -> None:
    request = ModelInferRequest(model_name="everything", raw_input_contents=contents)
    for name, datatype, shape, typed in inputs:
        tensor = request.inputs.add(name=name, datatype=datatype, shape=shape)
        if typed:
            tensor.contents.fp32_contents.append(1)
    for name in outputs:
        request.outputs.add(name=name)
    raw = request.SerializeToString()
    agrees(raw)
    if gateway := told_by_gateway(raw):
        assert gateway == told_by_worker(raw) or "cannot hold" in gateway
