"""The routing fields, read from wire bytes: the same values as the generated parser, or `InvalidRequest`."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelInferResponse, ModelStreamInferResponse
from cloister.errors import InvalidRequest
from cloister.gateway.wire import MAX_FIELDS, Route, read_route, stream_answer, varint

A, B = "a" * 32, "b" * 32


def request(**fields: str) -> ModelInferRequest:
    message = ModelInferRequest(**fields)
    message.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    message.raw_input_contents.append(b"\x0a\x04evil" + b"\x00" * 10)
    return message


def sealed(workers: str, version: str = "v1") -> ModelInferRequest:
    message = request(model_name="tiny")
    message.parameters["cloister-seal"].string_param = version
    message.parameters["cloister-workers"].string_param = workers
    return message


def length_delimited(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def test_a_plain_request() -> None:
    message = request(model_name="tiny", model_version="3", id="r-1")
    message.parameters["priority"].int64_param = 3
    assert read_route(message.SerializeToString()) == Route("tiny", "3", "r-1", None)


def test_an_empty_request_has_an_empty_route() -> None:
    assert read_route(b"") == Route("", "", "", None)


def test_a_sealed_request_names_its_workers() -> None:
    assert read_route(sealed(f"{A},{B}").SerializeToString()).workers == frozenset((A, B))


def test_tensors_are_stepped_over_unread() -> None:
    raw = request(model_name="tiny").SerializeToString() + length_delimited(5, b"\xff" * 100)
    with pytest.raises(DecodeError):
        ModelInferRequest.FromString(raw)
    assert read_route(raw).model_name == "tiny"


def test_fields_may_come_in_any_order() -> None:
    raw = length_delimited(7, b"tensor") + length_delimited(3, b"id") + length_delimited(1, b"tiny")
    assert read_route(raw) == Route("tiny", "", "id", None)


@pytest.mark.attack("G22")
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_repeated_routing_field_is_refused(number: int) -> None:
    raw = length_delimited(number, b"a")
    read_route(raw)
    with pytest.raises(InvalidRequest, match="repeated"):
        read_route(raw + raw)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("field", [b"\x00\x01", b"\x01" + b"\x00" * 8, b"\x05" + b"\x00" * 4])
def test_a_routing_field_of_another_wire_type_is_refused(number: int, field: bytes) -> None:
    with pytest.raises(InvalidRequest, match="wire type"):
        read_route(bytes((number << 3 | field[0],)) + field[1:])


@pytest.mark.attack("G22")
@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"\x80", "varint"),
        (b"\x0a", "varint"),
        (b"\x0a\xff", "varint"),
        (b"\x0a" + b"\xff" * 11, "varint"),
        (b"\x48" + b"\xff" * 9 + b"\x02", "varint"),
        (b"\x8a\x80\x80\x80\x80\x00\x00", "varint"),
        (b"\x0a\x80\x80\x80\x80\x80\x00", "varint"),
        (b"\x0a\x05abc", "longer"),
        (b"\x39\x00", "longer"),
        (b"\x3d\x00", "longer"),
        (b"\x0a\xff\xff\xff\xff\x07abc", "longer"),
        (b"\x02\x00", "field number"),
        (b"\x00\x00", "field number"),
        (b"\x82\x80\x80\x80\x10\x00", "field number"),
        (b"\x4b\x4c", "wire type"),
        (b"\x4e", "wire type"),
        (b"\x0a\x02\xc3\x28", "UTF-8"),
    ],
)
def test_malformed_protobuf_is_refused(raw: bytes, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        read_route(raw)


def test_the_number_of_fields_is_bounded() -> None:
    read_route(b"\x3a\x00" * MAX_FIELDS)
    with pytest.raises(InvalidRequest, match="too many"):
        read_route(b"\x3a\x00" * (MAX_FIELDS + 1))
    with pytest.raises(InvalidRequest, match="one key"):
        read_route(length_delimited(4, b"\x3a\x00" * 1_000_000))


@pytest.mark.parametrize(
    "workers",
    ["", "a", A + ",", "," + A, A.upper(), f"{A} ,{B}", ",".join([A] * 65), ",".join([A] * 999), "é" * 32],
)
def test_a_bad_list_of_workers_is_refused(workers: str) -> None:
    with pytest.raises(InvalidRequest, match="cloister-workers"):
        read_route(sealed(workers).SerializeToString())


def test_seal_and_workers_come_together() -> None:
    for name in ("cloister-seal", "cloister-workers"):
        message = sealed(A)
        del message.parameters[name]
        with pytest.raises(InvalidRequest, match="cloister-seal"):
            read_route(message.SerializeToString())
    with pytest.raises(InvalidRequest, match="cloister-seal"):
        read_route(sealed(A, version="v2").SerializeToString())


@pytest.mark.attack("G22")
@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"", "'a' has no value"),
        (b"\x08\x01\x10\x02", "one value"),
        (b"\x1a\x01\xff", "UTF-8"),
        (b"\x0d" + bytes(4), "one value"),
        (b"\x32\x00", "one value"),
    ],
)
def test_a_parameter_is_one_value_of_a_kind_that_there_is(value: bytes, why: str) -> None:
    entry = length_delimited(4, length_delimited(1, b"a") + length_delimited(2, value))
    with pytest.raises(InvalidRequest, match=why):
        read_route(entry)


def test_a_parameter_for_routing_is_one_string_given_once() -> None:
    message = request(model_name="tiny")
    message.parameters["cloister-seal"].int64_param = 1
    with pytest.raises(InvalidRequest, match="one string"):
        read_route(message.SerializeToString())
    empty = length_delimited(4, length_delimited(1, b"cloister-seal"))
    with pytest.raises(InvalidRequest, match="one string"):
        read_route(empty)
    value = length_delimited(2, length_delimited(3, b"v1"))
    entry = length_delimited(4, length_delimited(1, b"cloister-seal") + value)
    with pytest.raises(InvalidRequest, match="repeated"):
        read_route(entry + entry)
    with pytest.raises(InvalidRequest, match="one key and one value"):
        read_route(length_delimited(4, length_delimited(1, b"cloister-seal") + value + value))
    two = length_delimited(2, length_delimited(3, b"v1") * 2)
    with pytest.raises(InvalidRequest, match="one string"):
        read_route(length_delimited(4, length_delimited(1, b"cloister-seal") + two))


def test_an_answer_is_wrapped_as_the_generated_code_does() -> None:
    for size in (0, 1, 127, 128, 20_000):
        response = ModelInferResponse(model_name="m", raw_output_contents=[b"x" * size])
        wrapped = ModelStreamInferResponse.FromString(stream_answer(response.SerializeToString()))
        assert wrapped.infer_response == response
        last = ModelStreamInferResponse.FromString(stream_answer(response.SerializeToString(), final=True))
        response.parameters["triton_final_response"].bool_param = True
        assert last.infer_response == response


_text = st.text(max_size=20)
_lists = st.lists(st.text(alphabet="0123456789abcdef", min_size=32, max_size=32), min_size=1, max_size=4)


@given(_text, _text, _text, st.none() | _lists, st.dictionaries(_text, st.integers(0, 9), max_size=3), st.binary())
def test_what_the_generated_code_writes_reads_the_same(
    name: str, version: str, identifier: str, workers: list[str] | None, others: dict[str, int], tensor: bytes
) -> None:
    message = request(model_name=name, model_version=version, id=identifier)
    message.raw_input_contents.append(tensor)
    for key, value in others.items():
        message.parameters[key].int64_param = value
    if workers is not None:
        message.parameters["cloister-seal"].string_param = "v1"
        message.parameters["cloister-workers"].string_param = ",".join(workers)
    expected = frozenset(workers) if workers is not None else None
    assert read_route(message.SerializeToString()) == Route(name, version, identifier, expected)


def test_a_job_is_sealed_to_no_worker_in_particular() -> None:
    message = ModelInferRequest(model_name="tiny", model_version="3")
    message.parameters["cloister-seal"].string_param = "job-v1"
    message.parameters["other"].string_param = "whatever"
    route = read_route(message.SerializeToString())
    assert route == Route("tiny", "3", "", None, job=True)
    assert route.sealed
    message.parameters["cloister-workers"].string_param = A
    with pytest.raises(InvalidRequest, match="job-v1"):
        read_route(message.SerializeToString())


def agrees(raw: bytes) -> None:
    """Any bytes give a route or `InvalidRequest`; a route is what the generated parser reads, where it reads at all."""
    try:
        route = read_route(raw)
    except InvalidRequest:
        return
    try:
        parsed = ModelInferRequest.FromString(raw)
    except DecodeError:
        return
    assert (parsed.model_name, parsed.model_version, parsed.id) == route[:3]
    assert ("cloister-seal" in parsed.parameters) == route.sealed
    assert not (route.job and route.workers is not None)
    if route.workers is not None:
        assert frozenset(parsed.parameters["cloister-workers"].string_param.split(",")) == route.workers


@given(st.binary(max_size=200))
@example(b"\x22\x00")
@example(b"\x8a\x80\x00\x01a")
def test_any_bytes_read_as_the_generated_parser_reads_them_or_not_at_all(raw: bytes) -> None:
    agrees(raw)


@given(st.data())
def test_a_request_with_bytes_changed_reads_as_the_generated_parser_reads_it_or_not_at_all(data: st.DataObject) -> None:
    raw = bytearray(sealed(f"{A},{B}").SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    agrees(bytes(raw[: data.draw(st.integers(0, len(raw)))]))


_pieces = st.builds(length_delimited, st.sampled_from([1, 2, 3, 4, 7, 16]), st.binary(max_size=6))
_entries = st.builds(
    lambda key, value: length_delimited(4, length_delimited(1, key) + length_delimited(2, length_delimited(3, value))),
    st.sampled_from([b"cloister-seal", b"cloister-workers", b"other"]),
    st.sampled_from([b"v1", b"job-v1", A.encode(), f"{A},{B}".encode()]),
)


@given(st.lists(_pieces | _entries, max_size=6))
def test_well_formed_fields_in_any_mixture_read_alike(pieces: list[bytes]) -> None:
    agrees(b"".join(pieces))
