"""Contents that are written as they lie."""

import numpy as np
import pytest

from cloister.oip.contents import from_raw, to_raw
from cloister.oip.datatypes import DATATYPES


def test_an_array_over_all_of_its_bytes_is_written_as_those_bytes():
    raw, fp32 = np.arange(12, dtype="<f4").tobytes(), DATATYPES["FP32"]
    array = from_raw(raw, fp32, (3, 4), "x")
    assert to_raw(array, fp32, "x") is raw
    assert to_raw(array.reshape(2, 6), fp32, "x") is raw


@pytest.mark.parametrize(
    "part",
    [
        lambda array: array[1:],
        lambda array: array[::-1],
        lambda array: array.T,
        lambda array: array[:, :2],
        lambda array: array.view(">f4"),
        lambda array: array + 0,
    ],
)
def test_any_other_view_is_copied_in_its_own_order(part):
    fp32 = DATATYPES["FP32"]
    array = part(from_raw(np.arange(12, dtype="<f4").tobytes(), fp32, (3, 4), "x"))
    assert to_raw(array, fp32, "x") == np.ascontiguousarray(array, "<f4").tobytes()
