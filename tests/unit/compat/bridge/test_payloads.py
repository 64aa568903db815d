"""Requests in Cluster Serving's form, by the bytes that its client was recorded to send."""

from __future__ import annotations

import base64
import io
import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from cloister.compat.zoo.bridge.entries import Entry
from cloister.compat.zoo.bridge.payloads import MAX_PAYLOAD_BYTES, read_payload
from cloister.compat.zoo.fitting import fitted
from cloister.contract import ModelContract, TensorSpec
from cloister.errors import InvalidRequest
from fakes.zoo_client import TENSOR, encoded, payload, tensor_rows

RECORDED = json.loads((Path(__file__).parents[3] / "vectors/zoo-wire.json").read_text())
SENT = {name: text.encode() for name, text in RECORDED["payloads"].items()}
ANY = TensorSpec("t", "FP32", (-1, -1))
TEXT = TensorSpec("s", "BYTES", (-1,))
PHOTO = TensorSpec("img", "UINT8", (-1, 4, 6, 3))


def contract(*inputs: TensorSpec) -> ModelContract:
    return ModelContract(inputs, (TensorSpec("y", "FP32", (-1, 2)),))


def test_a_recorded_dense_tensor_is_the_one_that_was_sent() -> None:
    takes = contract(TensorSpec("input", "FP32", (-1, 128, 1, 1)))
    (found,) = fitted(takes, read_payload(SENT["python-client-dense-tensor"], takes)).arrays.values()
    wanted = (np.arange(128) / 64 - 1).astype(np.float32).reshape(RECORDED["dense"]["shape"])
    assert found.dtype == np.float32
    assert np.array_equal(found, wanted)


def test_a_recorded_sparse_tensor_is_the_dense_one_that_it_describes() -> None:
    takes = contract(TensorSpec("s", "FP32", (5, 10)))
    dense = fitted(takes, read_payload(SENT["encode-only-sparse"], takes)).arrays["s"]
    sent = RECORDED["sparse"]
    places = np.array(sent["indiceData"]).reshape(sent["indiceShape"])
    assert dense.shape == tuple(sent["shape"])
    assert [dense[tuple(place)] for place in places] == sent["data"]
    assert np.count_nonzero(dense) == len(sent["data"])


def test_a_recorded_text_is_strings_where_the_model_takes_them() -> None:
    takes = contract(TEXT)
    assert read_payload(SENT["encode-only-strings"], takes) == {"s": RECORDED["strings"].split("|")}
    assert fitted(takes, read_payload(SENT["encode-only-strings"], takes)).arrays["s"].tolist() == [b"hello", b"world"]


def test_a_recorded_text_is_an_image_where_the_model_takes_one_and_refused_where_it_is_none() -> None:
    values = read_payload(SENT["encode-only-image-b64"], contract(PHOTO))
    assert values == {"img": {"b64": RECORDED["image_b64"]}}
    with pytest.raises(InvalidRequest) as caught:
        fitted(contract(PHOTO), values)
    assert caught.value.reason == "image.malformed"


def test_an_image_becomes_the_models_pixels() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), (200, 10, 10)).save(buffer, "JPEG")
    sent = payload(img=base64.b64encode(buffer.getvalue()).decode())
    (pixels,) = fitted(contract(PHOTO), read_payload(sent, contract(PHOTO))).arrays.values()
    assert pixels.shape == (1, 4, 6, 3)
    assert pixels[0, 0, 0, 2] > 150  # red is last, as OpenCV has it


def test_a_tensor_beside_a_text_is_a_request_where_their_client_could_not_make_one() -> None:
    assert "same length" in RECORDED["mixed_string_and_tensor"]
    assert "length" in RECORDED["http_error"]
    rows = pa.record_batch(
        [tensor_rows(data=[1.0, 2.0], shape=[1, 2]), pa.array(["a|b", None, None, None])], ["x", "s"]
    )
    both = contract(TensorSpec("x", "FP32", (-1, 2)), TEXT)
    found = read_payload(encoded(rows), both)
    assert found["s"] == ["a", "b"]
    assert np.array_equal(found["x"], [[1.0, 2.0]])  # type: ignore[arg-type]


@pytest.mark.parametrize(("elements", "shape"), [(5, [2, 3]), (7, [2, 3]), (0, [2, 3]), (1, [-1]), (1, [1] * 99)])
def test_a_tensor_that_lacks_elements_is_never_completed(elements: int, shape: list[int]) -> None:
    sent = encoded(pa.record_batch([tensor_rows(data=[1.0] * elements, shape=shape)], ["t"]))
    with pytest.raises(InvalidRequest, match="tensor 't'"):
        read_payload(sent, contract(ANY))


def _of(**columns: pa.Array) -> bytes:
    return encoded(pa.record_batch(list(columns.values()), list(columns)))


WELL = tensor_rows(data=[1.0], shape=[1])
BATCH = pa.record_batch([WELL], ["t"])
WRONG = {
    "nothing": None,
    "no base64": b"malformed!",
    "no Arrow": base64.b64encode(b"malformed"),
    "cut": payload(t=np.ones(9))[:-400],
    "no batch": base64.b64encode(base64.b64decode(encoded(BATCH))[:200]),
    "two batches": encoded(BATCH, BATCH),
    "no column": encoded(pa.record_batch([pa.array([1, 2])], ["t"]).select([])),
    "two of one name": encoded(pa.record_batch([WELL, WELL], ["t", "t"])),
    "numbers": _of(t=pa.array([1.0, 2.0])),
    "another struct": _of(t=pa.array([{"data": [1.0], "shape": [1]}])),
    "two texts": _of(t=pa.array(["a", "b"])),
    "no text": _of(t=pa.array([None], pa.utf8())),
    "filled twice": _of(t=pa.array([{"data": [1.0], "shape": [1]}, {"data": [2.0]}], TENSOR)),
    "filled in part": _of(t=tensor_rows(data=[1.0, None], shape=[2])),
}


@pytest.mark.parametrize("wrong", list(WRONG))
def test_what_is_not_of_their_form_is_refused_in_words(wrong: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_payload(WRONG[wrong], contract(ANY))
    assert caught.value.reason == "record.malformed"


def test_what_is_larger_than_any_request_is_refused_unread() -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_payload(bytes(MAX_PAYLOAD_BYTES + 1), contract(ANY))
    assert caught.value.reason == "record.too_large"


def test_changed_bytes_are_a_request_or_refused_and_nothing_else() -> None:
    whole = base64.b64decode(SENT["python-client-dense-tensor"])
    draw = random.Random(7)
    refused = 0
    for _ in range(2000):
        raw = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            raw[draw.randrange(len(raw))] = draw.randrange(256)
        try:
            read_payload(base64.b64encode(raw), contract(ANY))
        except InvalidRequest:
            refused += 1
    assert 100 < refused < 2000


def test_an_entry_is_read_whatever_its_fields_are() -> None:
    assert list(RECORDED["http_stream_entry"]["keys"]) == ["data", "uri"]
    assert Entry.of(b"1-0", {b"uri": b"u", b"data": b"d"}) == Entry("1-0", b"u", b"d")
    assert Entry.of(b"1-0", {b"data": b"d", b"serde": b"stream"}) == Entry("1-0", None, b"d", b"stream")
    assert Entry.of(b"1-0", {b"uri": b"u" * 5000}).uri is None
    assert not Entry.of(b"1-0", None).is_there
    assert "secret" not in repr(Entry("1-0", b"u", b"secret"))
