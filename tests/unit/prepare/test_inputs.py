"""Inputs as an owner declares them."""

import numpy as np
import pytest

from cloister.errors import InvalidRequest
from cloister.prepare.inputs import OPEN, Declared, all_declared, declared


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("image=?x3x224x224", Declared("image", (OPEN, 3, 224, 224), (2, 3, 224, 224), "FP32")),
        ("tokens=?x?128:INT64", Declared("tokens", (OPEN, OPEN), (2, 128), "INT64")),
        ("scale=?8:FP16", Declared("scale", (OPEN,), (8,), "FP16")),
        ("temperature=", Declared("temperature", (), (), "FP32")),
        ("x.1/y=4:BOOL", Declared("x.1/y", (4,), (4,), "BOOL")),
    ],
)
def test_what_is_declared(text, expected):
    assert declared(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "image", "=3", "image=3x", "image=x3", "image=0x3", "image=-1x3", "image=3,4", "image=3 x 4", "i=??x3"),
        *("i=3?", "a=3:", "a=3:FLOAT", "a=3:BYTES", "a=3:BF16", "a=3:fp32", "a=9999999999", "two words=3"),
    ],
)
def test_what_is_not(text):
    with pytest.raises(InvalidRequest) as caught:
        declared(text)
    assert caught.value.reason == "shape.malformed"


def test_no_input_is_declared_twice():
    with pytest.raises(InvalidRequest, match="'a' is declared twice"):
        all_declared(["a=3", "b=3", "a=4"])


def test_examples_have_the_shape_and_type_that_was_declared_and_more_rows_only_where_those_may_be():
    generator = np.random.default_rng(0)
    pixels = declared("image=?x3x4").example(generator, more_rows=1)
    tokens = declared("tokens=5x?6:INT64").example(generator, more_rows=1)
    assert (pixels.shape, pixels.dtype) == ((3, 3, 4), np.float32)
    assert (tokens.shape, tokens.dtype) == ((5, 6), np.int64)
    assert set(np.unique(tokens)) <= {0, 1}
